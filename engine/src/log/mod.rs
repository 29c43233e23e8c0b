//! The log seam: topics, readers, transactional producers and committed offsets, as the runtime
//! sees them. `embedded`, `kafka` and `sim` implement it and pass one contract suite. Knows nothing
//! of serdes, processors or tasks; of the state only that a batch of it may travel with a commit.
//!
//! Every call that may take time is *started* and answers by a [`Ticket`]; none blocks. Records
//! travel as encoded [`RecordBatch`]es, so that nobody copies them between log and task.
//!
//! ```text
//! producer:  initialise -> begin -> send* -> commit -> begin ...
//!                 ^                   |         |
//!                 |                   +-> abort-+--> begin ...
//!                 +---- unknown result: a new producer of the same id, initialised, resolves it
//! ```

pub mod embedded;
mod group;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod sim;

use std::sync::Arc;
use std::time::Duration;

/// The state of one commit: everything that goes to the database in one atomic batch, refused whole
/// if a lease is stale. `embedded` writes it inside its own batch; the others give it back with
/// [`Committed`] and the committer writes it then.
pub use headwater_state::commit::StateBatch;

use crate::actor::{Bell, Ticket};
use crate::error::{Classified, ErrorClass};
use crate::record::batch::RecordBatch;
pub use crate::record::fetched::{CommittedOffset, Fetched};
pub use crate::record::{Cleanup, TopicSpec};
use crate::record::{RecordPrint, TopicPartition};
pub use group::{GroupEvent, GroupMember, GroupRequest};

/// The answer of a call to a log.
pub type LogResult<T> = Result<T, LogError>;

/// A log refused or failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{operation}{}: {message}", place_suffix(.place))]
pub struct LogError {
    /// What the caller does.
    pub class: ErrorClass,
    /// What was tried, in words ("commit transaction").
    pub operation: &'static str,
    /// The partition it was about, if it was about one.
    pub place: Option<TopicPartition>,
    /// What went wrong and what to do about it.
    pub message: String,
    /// The record that is refused, where the class is `User` and the log can tell.
    pub refused: Option<RecordPrint>,
}

fn place_suffix(place: &Option<TopicPartition>) -> String {
    place.as_ref().map(|p| format!(" on {p}")).unwrap_or_default()
}

impl LogError {
    /// An error about no partition in particular.
    pub fn new(class: ErrorClass, operation: &'static str, message: impl Into<String>) -> Self {
        Self { class, operation, place: None, message: message.into(), refused: None }
    }

    /// The refusal of a record for this partition.
    pub fn refusal(
        operation: &'static str,
        to: &TopicPartition,
        print: RecordPrint,
        message: impl Into<String>,
    ) -> Self {
        let error = Self::new(ErrorClass::User, operation, message).on(to);
        Self { refused: Some(print), ..error }
    }

    /// The same error, about this partition.
    #[must_use]
    pub fn on(mut self, place: &TopicPartition) -> Self {
        self.place = Some(place.clone());
        self
    }
}

impl Classified for LogError {
    fn class(&self) -> ErrorClass {
        self.class
    }
}

/// Which records a reader sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Records of committed transactions only, up to the last stable offset. On the embedded log
    /// every written record is committed; nothing else ever reaches it.
    ReadCommitted,
    /// Up to the high watermark.
    ReadUncommitted,
}

/// Which end of a partition is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetQuery {
    /// The first offset that can be read.
    Earliest,
    /// The offset after the last stable record (read-committed end).
    LastStable,
    /// The offset after the last record, open transactions included.
    HighWatermark,
}

/// Who commits, captured when the transaction begins; the log fences who is no longer a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The consumer group, which is the application id.
    pub group: Arc<str>,
    /// The member, empty where there is no group membership.
    pub member: Arc<str>,
    /// The member's epoch (generation), -1 where there is none.
    pub epoch: i32,
}

/// One transaction's end.
#[derive(Debug)]
pub struct CommitRequest {
    /// The next offset of each input partition, with metadata.
    pub offsets: Vec<(TopicPartition, CommittedOffset)>,
    /// Who commits.
    pub identity: Identity,
    /// The state that goes with it.
    pub state: StateBatch,
}

/// A transaction is committed.
#[derive(Debug)]
pub struct Committed {
    /// The state, if it is for the committer to write; `None` if the log wrote it.
    pub state: Option<StateBatch>,
    /// Of each partition that got records in this transaction, the offset after the last of them:
    /// from it follows how far a store's changelog has come. May be empty on a log that holds the
    /// state, because its stores have no changelog.
    pub ends: Vec<(TopicPartition, i64)>,
}

/// Reads one partition for one task. Dropping it ends the assignment.
pub trait PartitionReader: Send {
    /// The partition.
    fn partition(&self) -> &TopicPartition;
    /// Takes what is there, at most about `max_bytes` (at least one batch if there is any). Never
    /// blocks; when nothing was there, the reader's bell rings once something is.
    ///
    /// # Errors
    /// `Fatal` when the position is no longer in the log (deleted by retention; the message names
    /// both ends) or a batch is damaged; `Retry` for what passes.
    fn take(&mut self, max_bytes: usize) -> LogResult<Fetched>;
    /// Goes on at this offset.
    fn seek(&mut self, offset: i64);
}

/// What a reader is for; logs that share clients decide by it which one serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Input of a running task.
    Input,
    /// Restoring a store from its changelog.
    Restore,
}

/// A transactional producer. One per stream thread, with a stable transactional id.
///
/// - `send` takes records in order; order is kept per partition.
/// - After a ticket that is `Abandoned`, or an error of class `Fenced` or `Fatal`, the producer is
///   dropped; a new one with the same id is initialised, which ends whatever the old one left open.
/// - Whether an abandoned commit happened is never inferred: committed offsets are read anew.
pub trait TransactionalProducer: Send {
    /// Fences every earlier producer of this transactional id and ends its open transaction.
    fn initialise(&mut self) -> Ticket<LogResult<()>>;
    /// Begins a transaction.
    ///
    /// # Errors
    /// `Fatal` if one is open or the producer is not initialised.
    fn begin(&mut self) -> LogResult<()>;
    /// Adds records for one partition to the open transaction.
    ///
    /// # Errors
    /// `Retry`: the producer's queue is full, nothing was taken; call again after its bell rang.
    /// `User`: the log refuses a record (too large), named in the error. `Abort`, `Fenced`,
    /// `Fatal` as their classes say.
    fn send(&mut self, to: &TopicPartition, records: &RecordBatch) -> LogResult<()>;
    /// Delivers everything sent, commits offsets and state with it, ends the transaction.
    fn commit(&mut self, request: CommitRequest) -> Ticket<LogResult<Committed>>;
    /// Ends the open transaction; nothing sent in it is ever seen by a read-committed reader.
    fn abort(&mut self) -> Ticket<LogResult<()>>;
}

/// What a log uses of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogResources {
    /// Clients of a cluster. Each has threads of its own: one, and one for each broker.
    pub clients: usize,
    /// Threads beside them that the engine runs for them.
    pub threads: usize,
    /// Bytes that wait in one partition's queue inside a client, at most.
    pub queue_bytes: usize,
}

/// A log: embedded, Kafka or simulated.
pub trait Log: Send + Sync {
    /// The kind of log, for messages: "embedded", "kafka", "sim".
    fn kind(&self) -> &'static str;
    /// The log writes the state inside its own commit, so that stores need no changelog.
    fn holds_state(&self) -> bool;
    /// State was written into the log's own database outside a commit: it becomes durable, and queries
    /// see it, with the next sync. A log that holds no state has nothing to do.
    fn wrote_state(&self) {}
    /// The largest record it takes, encoded as in a [`RecordBatch`]. The default is below what Kafka's
    /// clients and brokers take unless they are told otherwise.
    fn record_bytes_max(&self) -> usize {
        999_000
    }
    /// What it uses now, to be printed.
    fn resources(&self) -> LogResources {
        LogResources::default()
    }
    /// A transaction that is open for longer is given up by the log, and its producer is fenced.
    fn transaction_timeout(&self) -> Duration {
        Duration::from_secs(10)
    }
    /// The topics of these names that exist; missing ones are left out.
    fn describe_topics(&self, names: Vec<Arc<str>>) -> Ticket<LogResult<Vec<TopicSpec>>>;
    /// Creates topics that do not exist; existing ones are left as they are, whatever their shape.
    fn create_topics(&self, topics: Vec<TopicSpec>) -> Ticket<LogResult<()>>;
    /// Deletes the records before these offsets (repartition topics after a commit).
    fn delete_records(&self, before: Vec<(TopicPartition, i64)>) -> Ticket<LogResult<()>>;
    /// One end of each partition, in the order asked.
    fn offsets(
        &self,
        partitions: Vec<TopicPartition>,
        query: OffsetQuery,
    ) -> Ticket<LogResult<Vec<i64>>>;
    /// The committed offsets of a group, stable ones only (KIP-447 `require_stable`): the call
    /// answers once no transaction on them is open. `None` where nothing was committed.
    fn committed(
        &self,
        group: &str,
        partitions: Vec<TopicPartition>,
    ) -> Ticket<LogResult<Vec<Option<CommittedOffset>>>>;
    /// Opens a reader at this offset. `bell` rings when records arrive after it found none.
    ///
    /// # Errors
    /// `Fatal` for an unknown topic or partition.
    fn reader(
        &self,
        partition: &TopicPartition,
        offset: i64,
        isolation: Isolation,
        purpose: Purpose,
        bell: Bell,
    ) -> LogResult<Box<dyn PartitionReader>>;
    /// Opens a producer; it must be initialised before use. `bell` rings when a ticket of it is
    /// answered or its queue has room again.
    ///
    /// # Errors
    /// `Fatal` for a wrong configuration.
    fn producer(
        &self,
        transactional_id: &str,
        bell: Bell,
    ) -> LogResult<Box<dyn TransactionalProducer>>;
    /// Joins a consumer group as a new member. `bell` rings when it has news.
    ///
    /// # Errors
    /// `Fatal`: this log has no groups, or the request is refused.
    fn join(&self, request: GroupRequest, bell: Bell) -> LogResult<Box<dyn GroupMember>> {
        drop(bell);
        let why = format!("the {} log has no group {}", self.kind(), request.group);
        Err(LogError::new(ErrorClass::Fatal, "join the group", why))
    }
    /// Opens a producer that promises at least once, for the same calls: what is sent can be read as
    /// soon as it is delivered, `commit` commits the offsets when all of it is, and `abort` takes
    /// nothing back that was delivered. It fences nobody. A log whose commit is one batch has no such
    /// thing and gives one that promises more.
    ///
    /// # Errors
    /// `Fatal` for a wrong configuration.
    fn plain_producer(&self, name: &str, bell: Bell) -> LogResult<Box<dyn TransactionalProducer>> {
        self.producer(name, bell)
    }
}

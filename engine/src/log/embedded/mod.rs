//! The durable log of one process, on the state crate's tables: the default when no broker is named.
//!
//! ```text
//!  producers --commits--+
//!                       +--> writer ------> database ----> readers (all that is written)
//!  HTTP -----appends----+      |  dirty        ^  view
//!                              +----------> syncer ------> published view, answers to appends
//!                                                          (only what is synced)
//!  maintenance --deletions, compacted batches--> writer
//! ```
//!
//! - One actor, the writer, gives out every offset and makes every write, so offsets are in the
//!   order of the write-ahead log. Records, input offsets and state of a commit are one atomic
//!   write, refused whole when a lease is stale. Commits that wait together are written together.
//! - A commit is answered when it is written: it survives the death of the process, and a power loss
//!   leaves a prefix of all commits that ends at or after the last sync. The syncer syncs every
//!   [`EmbeddedSettings::sync_interval`], and at once for appends, which are answered after it.
//! - [`EmbeddedLog::published`] and [`EmbeddedLog::synced_reader`] never show what is not synced.
//! - A transactional id belongs to the producer that initialised it last; commits of earlier ones
//!   are fenced. Before its commit a transaction is nothing but memory of its producer.
//! - **A full disk** refuses writes whole. Commits wait in the writer, unanswered, and are written
//!   when there is space again; their threads stop when their buffers are full. Appends are answered
//!   `Retry` at once. [`EmbeddedLog::waiting_for`] says what the log waits for.
//! - **A disk that fails** loses the transaction (`Abort`) when a write is refused; when a sync
//!   fails nobody can know what is on disk, so the log answers `Fatal` from then on, and a restart
//!   finds a prefix that holds everything acknowledged.
//!
//! Must not know serdes, tasks or what state means.

mod catalogue;
mod command;
mod compaction;
mod failure;
mod maintenance;
mod partition;
mod producer;
mod reader;
mod syncer;
mod writer;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use headwater_state::database::{Database, Reader};
use headwater_state::lease::Leases;
use headwater_state::log_table::{GroupOffset, LogTable};

use self::catalogue::Catalogue;
use self::command::{Append, Command, Write};
use self::failure::from_state;
use self::maintenance::Maintenance;
use self::partition::{Horizon, Partition};
use self::producer::EmbeddedProducer;
use self::reader::EmbeddedReader;
use self::syncer::{Syncer, Unsynced};
use self::writer::Writer;
use super::{
    CommittedOffset, Isolation, Log, LogError, LogResult, OffsetQuery, PartitionReader, Purpose,
    TopicSpec, TransactionalProducer,
};
use crate::actor::{Actor, Address, Bell, Ticket, mailbox, ticket};
use crate::error::ErrorClass;
use crate::record::TopicPartition;
use crate::record::batch::RecordBatch;

/// Commits and calls that wait for the writer; each producer has few.
const COMMANDS_MAX: usize = 4_096;
/// Appends that wait for the writer; more are answered `Retry`.
const APPENDS_MAX: usize = 4_096;

/// Sizes and intervals of the embedded log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedSettings {
    /// How long a commit may stay unsynced; at most this much is lost by a power loss, never by a
    /// kill. Default 100 ms, the commit interval.
    pub sync_interval: Duration,
    /// The largest record, key, value and headers encoded. Default 1 MiB.
    pub record_bytes_max: usize,
    /// Larger batches are stored as several. Default 1 MiB.
    pub batch_bytes_max: usize,
    /// Appends waiting for the writer; beyond it they are answered `Retry`. Default 32 MiB.
    pub append_queue_bytes_max: usize,
    /// How often retention and compaction are looked after. Default 30 s.
    pub maintenance_interval: Duration,
    /// How long a compacted topic keeps the deletion of a key, counted from the latest timestamp in
    /// its batch, so that every reader that is no further behind learns of it. Default 24 h, as
    /// Kafka's `delete.retention.ms`.
    pub tombstone_delay: Duration,
}

impl Default for EmbeddedSettings {
    fn default() -> Self {
        Self {
            sync_interval: Duration::from_millis(100),
            record_bytes_max: 1 << 20,
            batch_bytes_max: 1 << 20,
            append_queue_bytes_max: 32 << 20,
            maintenance_interval: Duration::from_secs(30),
            tombstone_delay: Duration::from_hours(24),
        }
    }
}

/// A group that has not read what was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OvertakenGroup {
    /// Where.
    pub partition: TopicPartition,
    /// Who.
    pub group: String,
    /// The group's committed offset.
    pub committed: i64,
    /// The first offset that can still be read.
    pub start: i64,
}

/// What runs behind a log, to be given threads or stepped.
pub type LogActors = Vec<Box<dyn Actor>>;

/// The log of one process. Cheap to share; lives as long as its actors run.
#[derive(Debug)]
pub struct EmbeddedLog {
    shared: Arc<Shared>,
}

/// What the handles and the actors of one log share.
#[derive(Debug)]
struct Shared {
    table: LogTable,
    leases: Leases,
    settings: EmbeddedSettings,
    catalogue: Catalogue,
    /// Written, not yet synced. Held by the writer during a write, so that the syncer's view and the
    /// ends it publishes belong together. Taken before any partition's own lock.
    unsynced: Mutex<Unsynced>,
    /// The database at the last sync.
    published: Mutex<Arc<dyn Reader>>,
    condition: Mutex<Condition>,
    commands: Address<Command>,
    appends: Address<Append>,
    append_bytes: AtomicUsize,
    /// Set once, when the writer has gone; whoever sends holds it for reading.
    closed: RwLock<bool>,
    close: Mutex<bool>,
    bells: Bells,
    /// Numbers producers and readers.
    handles: AtomicU64,
}

/// The bells of the log's actors.
#[derive(Debug, Clone, Default)]
struct Bells {
    writer: Bell,
    syncer: Bell,
    maintenance: Bell,
}

/// How the log does.
#[derive(Debug, Clone)]
enum Condition {
    Well,
    /// The disk is full, in the database's words.
    Waiting(String),
    Failed(LogError),
}

impl EmbeddedLog {
    /// Opens the log of a database: finds where each partition starts and ends, and syncs what it
    /// found. The actors must run for anything to be answered; state that travels with commits is
    /// written under `leases`.
    ///
    /// # Errors
    /// `Fatal` names the topic, partition and offset of a damaged batch at an end, or what else is
    /// wrong with the database; `Retry` when the disk is full.
    pub fn open(
        database: Arc<dyn Database>,
        leases: Leases,
        settings: EmbeddedSettings,
    ) -> LogResult<(Arc<Self>, LogActors)> {
        let failed = |e| from_state("open log", &e);
        let table = LogTable::open(Arc::clone(&database)).map_err(failed)?;
        let catalogue = Catalogue::load(&table)?;
        database.sync().map_err(failed)?;
        let view = database.view().map_err(failed)?;
        let bells = Bells::default();
        let (commands, command_box) = mailbox(COMMANDS_MAX, bells.writer.clone());
        let (appends, append_box) = mailbox(APPENDS_MAX, bells.writer.clone());
        let shared = Arc::new(Shared {
            table,
            leases,
            settings,
            catalogue,
            unsynced: Mutex::default(),
            published: Mutex::new(view),
            condition: Mutex::new(Condition::Well),
            commands,
            appends,
            append_bytes: AtomicUsize::new(0),
            closed: RwLock::new(false),
            close: Mutex::new(false),
            bells,
            handles: AtomicU64::new(1),
        });
        let actors: LogActors = vec![
            Box::new(Writer::new(Arc::clone(&shared), command_box, append_box)),
            Box::new(Syncer::new(Arc::clone(&shared))),
            Box::new(Maintenance::new(Arc::clone(&shared))),
        ];
        Ok((Arc::new(Self { shared }), actors))
    }

    /// Appends batches, each to its partition, in one atomic write. The answer, the first offset of
    /// each batch in the order given, comes after they are synced and rings `bell`. Offsets inside
    /// the batches count from 0; a batch larger than [`EmbeddedSettings::batch_bytes_max`] is stored
    /// as several that follow each other.
    ///
    /// Answers `Retry` when too much waits or the disk is full: nothing was appended. `User` names
    /// a record that is too large, or that has no key in a compacted topic; `Fatal` an unknown topic
    /// or partition.
    pub fn append(
        &self,
        batches: &[(TopicPartition, RecordBatch)],
        bell: Bell,
    ) -> Ticket<LogResult<Vec<i64>>> {
        let mut writes = Vec::new();
        for (name, batch) in batches {
            let write = self.shared.catalogue.partition(name, "append").and_then(|partition| {
                Write::checked(partition, batch, &self.shared.settings, "append")
            });
            match write {
                Ok(write) => writes.push(write),
                Err(error) => return Ticket::done(Err(error)),
            }
        }
        self.shared.send_append(writes, bell)
    }

    /// The database as it was at the last sync: what queries may show.
    pub fn published(&self) -> Arc<dyn Reader> {
        Arc::clone(&lock(&self.shared.published))
    }

    /// The offset after the last synced record of a partition.
    ///
    /// # Errors
    /// `Fatal` for an unknown topic or partition.
    pub fn synced_end(&self, partition: &TopicPartition) -> LogResult<i64> {
        Ok(self.shared.catalogue.partition(partition, "find the end")?.bounds().synced)
    }

    /// A reader that sees only what is synced. `bell` rings when more is, after it found none.
    ///
    /// # Errors
    /// `Fatal` for an unknown topic or partition.
    pub fn synced_reader(
        &self,
        partition: &TopicPartition,
        offset: i64,
        bell: Bell,
    ) -> LogResult<Box<dyn PartitionReader>> {
        self.open_reader(partition, offset, Horizon::Synced, bell)
    }

    /// Groups whose committed offset lies before the start of its partition, because retention or
    /// [`Log::delete_records`] went ahead of them, by topic, partition and group. As in Kafka they
    /// hold nothing up; to read on they must move to the start.
    ///
    /// # Errors
    /// The database's, in the log's classes.
    pub fn overtaken_groups(&self) -> LogResult<Vec<OvertakenGroup>> {
        let mut groups = Vec::new();
        for topic in self.shared.catalogue.all() {
            for partition in &topic.partitions {
                groups.extend(overtaken(&self.shared.table, partition)?);
            }
        }
        Ok(groups)
    }

    /// All topics, by name.
    pub fn topics(&self) -> Vec<TopicSpec> {
        self.shared.catalogue.all().iter().map(|topic| topic.spec.clone()).collect()
    }

    /// What the log waits for before it writes on, in words; `None` when it is well.
    pub fn waiting_for(&self) -> Option<String> {
        match &*lock(&self.shared.condition) {
            Condition::Well => None,
            Condition::Waiting(what) => Some(what.clone()),
            Condition::Failed(error) => Some(error.to_string()),
        }
    }

    /// Asks the actors to write and sync what is queued and then to end. What is sent later is
    /// refused.
    pub fn close(&self) {
        *lock(&self.shared.close) = true;
        self.shared.bells.ring();
    }

    fn open_reader(
        &self,
        partition: &TopicPartition,
        offset: i64,
        horizon: Horizon,
        bell: Bell,
    ) -> LogResult<Box<dyn PartitionReader>> {
        let partition = self.shared.catalogue.partition(partition, "open reader")?;
        let number = self.shared.next_handle();
        let table = self.shared.table.clone();
        Ok(Box::new(EmbeddedReader::new(table, partition, offset, horizon, number, bell)))
    }
}

impl Log for EmbeddedLog {
    fn kind(&self) -> &'static str {
        "embedded"
    }

    fn holds_state(&self) -> bool {
        true
    }

    fn wrote_state(&self) {
        let first = lock(&self.shared.unsynced).wrote();
        if first {
            self.shared.bells.syncer.ring();
        }
    }

    fn record_bytes_max(&self) -> usize {
        self.shared.settings.record_bytes_max
    }

    fn describe_topics(&self, names: Vec<Arc<str>>) -> Ticket<LogResult<Vec<TopicSpec>>> {
        let known = names.iter().filter_map(|name| self.shared.catalogue.topic(name));
        Ticket::done(Ok(known.map(|topic| topic.spec.clone()).collect()))
    }

    fn create_topics(&self, topics: Vec<TopicSpec>) -> Ticket<LogResult<()>> {
        let (promise, ticket) = ticket(Bell::new());
        self.shared.send(Command::CreateTopics { topics, promise });
        ticket
    }

    fn delete_records(&self, before: Vec<(TopicPartition, i64)>) -> Ticket<LogResult<()>> {
        let (promise, ticket) = ticket(Bell::new());
        let resolved = before.into_iter().map(|(name, offset)| {
            let partition = self.shared.catalogue.partition(&name, "delete records")?;
            Ok((partition, offset))
        });
        match resolved.collect() {
            Ok(before) => self.shared.send(Command::DeleteRecords { before, promise }),
            Err(error) => promise.fulfil(Err(error)),
        }
        ticket
    }

    fn offsets(
        &self,
        partitions: Vec<TopicPartition>,
        query: OffsetQuery,
    ) -> Ticket<LogResult<Vec<i64>>> {
        let offset = |name: &TopicPartition| {
            let bounds = self.shared.catalogue.partition(name, "find offsets")?.bounds();
            Ok(match query {
                OffsetQuery::Earliest => bounds.start,
                OffsetQuery::LastStable | OffsetQuery::HighWatermark => bounds.end,
            })
        };
        Ticket::done(partitions.iter().map(offset).collect())
    }

    fn committed(
        &self,
        group: &str,
        partitions: Vec<TopicPartition>,
    ) -> Ticket<LogResult<Vec<Option<CommittedOffset>>>> {
        let (promise, ticket) = ticket(Bell::new());
        self.shared.send(Command::Committed { group: Arc::from(group), partitions, promise });
        ticket
    }

    fn reader(
        &self,
        partition: &TopicPartition,
        offset: i64,
        _isolation: Isolation,
        _purpose: Purpose,
        bell: Bell,
    ) -> LogResult<Box<dyn PartitionReader>> {
        self.open_reader(partition, offset, Horizon::Written, bell)
    }

    fn producer(
        &self,
        transactional_id: &str,
        bell: Bell,
    ) -> LogResult<Box<dyn TransactionalProducer>> {
        let shared = Arc::clone(&self.shared);
        Ok(Box::new(EmbeddedProducer::new(shared, transactional_id, bell)))
    }
}

impl Bells {
    fn ring(&self) {
        self.writer.ring();
        self.syncer.ring();
        self.maintenance.ring();
    }
}

impl Shared {
    fn next_handle(&self) -> u64 {
        self.handles.fetch_add(1, Ordering::Relaxed)
    }

    /// Hands a command to the writer, or answers it.
    fn send(&self, command: Command) {
        let closed = self.closed.read().unwrap_or_else(PoisonError::into_inner);
        if *closed {
            command.refuse(&LogError::new(ErrorClass::Fatal, "use log", "the log is closed"));
        } else if let Err(full) = self.commands.send(command) {
            // Its state batch cannot be given back, so the transaction is lost.
            let message = format!("{COMMANDS_MAX} calls wait for the log already");
            full.0.refuse(&LogError::new(ErrorClass::Abort, "use log", message));
        }
    }

    fn send_append(&self, writes: Vec<Write>, bell: Bell) -> Ticket<LogResult<Vec<i64>>> {
        let (promise, ticket) = ticket(bell);
        let append = Append { writes, promise };
        let bytes = append.bytes();
        let closed = self.closed.read().unwrap_or_else(PoisonError::into_inner);
        if *closed {
            append.refuse(&LogError::new(ErrorClass::Fatal, "append", "the log is closed"));
            return ticket;
        }
        let waiting = self.append_bytes.fetch_add(bytes, Ordering::Relaxed);
        let full = if waiting > 0 && waiting + bytes > self.settings.append_queue_bytes_max {
            Some(append)
        } else {
            self.appends.send(append).err().map(|full| full.0)
        };
        if let Some(append) = full {
            self.append_bytes.fetch_sub(bytes, Ordering::Relaxed);
            let message = format!("{waiting} bytes of appends wait already; try again");
            append.refuse(&LogError::new(ErrorClass::Retry, "append", message));
        }
        ticket
    }

    fn closing(&self) -> bool {
        *lock(&self.close)
    }

    fn failure(&self) -> Option<LogError> {
        match &*lock(&self.condition) {
            Condition::Failed(error) => Some(error.clone()),
            Condition::Well | Condition::Waiting(_) => None,
        }
    }
}

fn overtaken(table: &LogTable, partition: &Partition) -> LogResult<Vec<OvertakenGroup>> {
    let start = partition.bounds().start;
    if start == 0 {
        return Ok(Vec::new());
    }
    let reader: &dyn Reader = &**table.database();
    let groups = table
        .committed_groups(reader, &partition.rows)
        .map_err(|e| from_state("read committed offsets", &e).on(&partition.name))?;
    let behind = groups.into_iter().filter(|(_, offset)| offset.next_offset < start);
    let report = |(group, offset): (String, GroupOffset)| OvertakenGroup {
        partition: partition.name.clone(),
        group,
        committed: offset.next_offset,
        start,
    };
    Ok(behind.map(report).collect())
}

/// Locks without regard to a panic elsewhere: what is locked here is valid between any two
/// statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The committer: one transaction after the other, for one stream thread, as a state machine that
//! does one of its steps per [`Committer::step`]. Owns the thread's transactional producer, the
//! order of a commit and what follows from each failure. Knows nothing of topologies, processors or
//! readers: it gets encoded records, offsets and state, and tells the thread how it ended.
//!
//! ```text
//!          producer opened             ok            begin()
//!   Absent ───────────────> Initialising ──> Idle ──────────────> Open <─┐ send()
//!    ^  ^                       │            ^  ^                 │  └───┘
//!    │  └────── back off ───────┘            │  │ aborted         │ commit()
//!    │                                       │  │                 v
//!    │                               written │  └── Aborting <── Sealed
//!    │                                       │  class  ^         │ all sent
//!    │                                       │  Abort  │         v
//!    │                                    Writing <─── │ ─── Committing
//!    │                                         Done    └───────── │
//!    └───────────── fenced, or nobody knows (ticket abandoned) ───┘
//! ```
//!
//! # What a crash at each point leaves behind
//!
//! "The unit" is outputs, changelog records, input offsets with clocks, and state. A restart (or
//! the next owner) initialises the same transactional id first, then reads stable committed
//! offsets, then replays the changelog from the position in each store.
//!
//! | killed, or hit | the log has | the database has | what happens next |
//! |---|---|---|---|
//! | before begin | the unit before | the unit before | processed again from the committed offsets |
//! | mid-produce | an open transaction | the unit before | initialising aborts it; processed again |
//! | after flush | an open transaction, all records in | the unit before | the same |
//! | during offsets | the same, offsets pending | the unit before | initialising aborts it; stable offsets are the old ones |
//! | during commit | either, decided by the log | the unit before | initialising resolves it; stable offsets tell which; the changelog tail is replayed |
//! | after commit, before the batch | the unit | the unit before | the changelog tail is replayed; nothing is processed twice |
//! | after the batch | the unit | the unit | nothing |
//! | zombie with an old epoch | its commit is refused | its lease is stale: its batch is refused whole | it rewinds, or its tasks are lost; a process without a group stops |
//! | rebalance between any two | identity was captured at begin: the unit, or a refusal | as the log decided | a commit that is refused is an ordinary rewind |
//! | no input offsets moved | the old offsets again, with new clocks | the same | clocks go on from the last commit |
//! | a task moves away while unknown | pending offsets of it | the unit before | its next owner waits for stable offsets; here it is dropped with its overlay |
//! | abort while another thread commits | two ids, two transactions | one unit each | neither sees the other |
//!
//! A log that holds the state (embedded) writes the whole unit in one batch: the rows between
//! "during commit" and "after the batch" are one row.
//!
//! At least once, the log has no open transactions: what was delivered before the kill stays, the
//! offsets are those before unless they were committed, and what is processed again is there again.
//!
//! # Who took the transactional id
//!
//! A member of a group that is fenced opens its producer anew: its id is its own, so it was the log
//! that gave up a transaction which took too long. A process without a group shares its ids with
//! every other process of the application. There the newest wins: the one that is fenced stops, at
//! once and for good, unless it may have fenced itself, by a transaction older than the log's timeout
//! or by an initialisation that nobody answered.
//!
//! An unknown result is never decided by inference. The overlay is discarded, a new producer of the
//! same id fences and resolves, and what is committed is read, not remembered.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use headwater_state::commit::StateBatch;
use headwater_state::database::Database;

use crate::actor::{Address, Bell, Full, Next, Poll, Ticket, ticket};
use crate::config::ProcessingGuarantee;
use crate::error::ErrorClass;
use crate::log::{
    CommitRequest, Committed, CommittedOffset, Identity, Log, LogError, LogResult,
    TransactionalProducer,
};
use crate::record::batch::RecordBatch;
use crate::record::{TaskId, TopicPartition};
use crate::task::{TaskCommit, set_changelog_ends};
use crate::time::Now;

use super::backoff::Backoff;
use super::writer::{WriteJob, WriteResult};

#[cfg(test)]
mod tests;

/// So many fences of a member in [`FENCE_PERIOD`] mean that another uses the same id for good.
const FENCE_LIMIT: usize = 30;
const FENCE_PERIOD: Duration = Duration::from_secs(60);

/// One task's share of a transaction.
#[derive(Debug)]
pub struct TaskShare {
    /// The task.
    pub task: TaskId,
    /// What it commits.
    pub commit: TaskCommit,
    /// Where its state goes.
    pub database: Arc<dyn Database>,
}

/// The next offset of each input that a task committed, with its clocks.
pub type TaskOffsets = Vec<(TopicPartition, CommittedOffset)>;

/// How a transaction ended.
#[derive(Debug)]
pub enum Event {
    /// Committed, and the state is in the database.
    Committed {
        /// What each task committed.
        tasks: Vec<(TaskId, TaskOffsets)>,
        /// Of each partition that got records, the offset after the last of them.
        ends: Vec<(TopicPartition, i64)>,
    },
    /// Lost, or nobody knows: every task of it rewinds. Committed offsets may be read once the
    /// committer [is idle](Committer::is_idle) again.
    Lost(LogError),
    /// Lost as well, because the log refuses a record for what it is; the error names where to, and
    /// the record where it can.
    Refused(LogError),
    /// There is no going on: the application stops.
    Fatal(LogError),
}

/// Where the committer stands, for `/tasks`, tests and the simulator's matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// There is no producer.
    Absent,
    /// The producer fences and resolves what its predecessor left.
    Initialising,
    /// No transaction is open.
    Idle,
    /// A transaction takes records.
    Open,
    /// The transaction is complete; its last records are handed over.
    Sealed,
    /// The log commits.
    Committing,
    /// The log has committed; the state is being written.
    Writing,
    /// The log aborts.
    Aborting,
    /// Given up.
    Dead,
}

enum State {
    Absent {
        retry_at: Duration,
    },
    Initialising(Ticket<LogResult<()>>),
    Idle,
    Open,
    Sealed(Vec<TaskShare>),
    Committing(Vec<TaskShare>, Ticket<LogResult<Committed>>),
    /// The job waits for room in the writer's mailbox.
    Handing(Vec<TaskShare>, WriteJob, Ticket<WriteResult>),
    Writing(Vec<TaskShare>, Ticket<WriteResult>),
    Aborting(Ticket<LogResult<()>>),
    Dead,
}

/// Commits for one stream thread. See the [module](self).
pub struct Committer {
    log: Arc<dyn Log>,
    transactional_id: Arc<str>,
    guarantee: ProcessingGuarantee,
    bell: Bell,
    writer: Address<WriteJob>,
    producer: Option<Box<dyn TransactionalProducer>>,
    state: State,
    identity: Option<Identity>,
    members: BTreeSet<TaskId>,
    queue: VecDeque<(TopicPartition, RecordBatch)>,
    queue_waits: bool,
    ends: Vec<(TopicPartition, i64)>,
    backoff: Backoff,
    began: Option<Now>,
    fences: VecDeque<Duration>,
    /// Initialisations of this process that got no answer. Each may yet fence its successor, once.
    unanswered: u32,
    batches_sent: u64,
}

impl std::fmt::Debug for Committer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Committer")
            .field("transactional_id", &self.transactional_id)
            .field("phase", &self.phase())
            .finish_non_exhaustive()
    }
}

impl Committer {
    /// A committer that will open a producer of this id. `bell` is its thread's.
    pub fn new(
        log: Arc<dyn Log>,
        transactional_id: impl Into<Arc<str>>,
        bell: Bell,
        writer: Address<WriteJob>,
    ) -> Self {
        Self {
            log,
            transactional_id: transactional_id.into(),
            guarantee: ProcessingGuarantee::default(),
            bell,
            writer,
            producer: None,
            state: State::Absent { retry_at: Duration::ZERO },
            identity: None,
            members: BTreeSet::new(),
            queue: VecDeque::new(),
            queue_waits: false,
            ends: Vec::new(),
            backoff: Backoff::new(),
            began: None,
            fences: VecDeque::new(),
            unanswered: 0,
            batches_sent: 0,
        }
    }

    /// The same committer with another guarantee. With `AtLeastOnce` the order of a commit is the
    /// same, but there is no transaction: what was delivered before a failure stays.
    #[must_use]
    pub fn with_guarantee(self, guarantee: ProcessingGuarantee) -> Self {
        Self { guarantee, ..self }
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Absent { .. } => Phase::Absent,
            State::Initialising(_) => Phase::Initialising,
            State::Idle => Phase::Idle,
            State::Open => Phase::Open,
            State::Sealed(_) => Phase::Sealed,
            State::Committing(..) => Phase::Committing,
            State::Handing(..) | State::Writing(..) => Phase::Writing,
            State::Aborting(_) => Phase::Aborting,
            State::Dead => Phase::Dead,
        }
    }

    /// No transaction is open and none of this id is unresolved: one may begin, tasks may be
    /// installed, and committed offsets may be read.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// A transaction takes records.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// The tasks of the transaction that is open or being committed.
    pub fn members(&self) -> &BTreeSet<TaskId> {
        &self.members
    }

    /// Bytes-bearing batches handed to the log so far.
    pub fn batches_sent(&self) -> u64 {
        self.batches_sent
    }

    /// Records that the log has not taken yet, in batches; a thread stops processing when many
    /// wait.
    pub fn backlog(&self) -> usize {
        self.queue.len()
    }

    /// Begins a transaction of these tasks, committed in the name of `identity`.
    ///
    /// # Panics
    /// If the committer is not idle.
    pub fn begin(
        &mut self,
        identity: Identity,
        members: BTreeSet<TaskId>,
        now: Now,
    ) -> Option<Event> {
        assert!(
            self.is_idle(),
            "a transaction begins when none is open, not in {:?}",
            self.phase()
        );
        let producer = self.producer.as_mut().expect("an idle committer has a producer");
        self.identity = Some(identity);
        self.began = Some(now);
        if let Err(error) = producer.begin() {
            return self.fail(error, now);
        }
        self.members = members;
        self.state = State::Open;
        None
    }

    /// Adds records to the open transaction, in order.
    ///
    /// # Panics
    /// If no transaction is open.
    pub fn send(&mut self, records: impl IntoIterator<Item = (TopicPartition, RecordBatch)>) {
        assert!(self.is_open(), "records go into an open transaction, not in {:?}", self.phase());
        self.queue.extend(records);
    }

    /// Completes the open transaction.
    ///
    /// # Panics
    /// If none is open, or a share is of a task that was not assigned when it began.
    pub fn commit(&mut self, mut shares: Vec<TaskShare>) {
        assert!(self.is_open(), "an open transaction is committed, not in {:?}", self.phase());
        for share in &mut shares {
            assert!(
                self.members.contains(&share.task),
                "task {} was not assigned when the transaction began",
                share.task
            );
            self.queue.extend(std::mem::take(&mut share.commit.records));
        }
        self.state = State::Sealed(shares);
    }

    /// Gives the open or sealed transaction up, because its tasks have to rewind anyway. One whose
    /// commit has been asked for is left to end by itself: what it did is the log's to say.
    pub fn abandon(&mut self) {
        if matches!(self.state, State::Open | State::Sealed(_)) {
            self.start_abort();
        }
    }

    /// Does the next step. Returns how a transaction ended, if one did.
    pub fn step(&mut self, now: Now) -> (Option<Event>, Next) {
        let event = self.advance(now);
        let next = match &self.state {
            State::Absent { retry_at } => Next::WakeAt(*retry_at),
            State::Handing(..) => Next::Again,
            State::Open | State::Sealed(_) if !self.queue_waits && !self.queue.is_empty() => {
                Next::Again
            }
            State::Sealed(_) if self.queue.is_empty() => Next::Again,
            State::Dead => Next::Done,
            _ => Next::Wait,
        };
        let next = if event.is_some() { Next::Again } else { next };
        (event, next)
    }

    fn advance(&mut self, now: Now) -> Option<Event> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Absent { retry_at } if retry_at > now.monotonic => {
                self.state = State::Absent { retry_at };
                None
            }
            State::Absent { .. } => self.open_producer(now),
            State::Initialising(ticket) => self.poll_initialise(ticket, now),
            State::Open => {
                self.state = State::Open;
                self.drain(now)
            }
            State::Sealed(shares) => {
                self.state = State::Sealed(shares);
                let event = self.drain(now);
                if event.is_none() && self.queue.is_empty() {
                    self.start_commit();
                }
                event
            }
            State::Committing(shares, ticket) => self.poll_commit(shares, ticket, now),
            State::Handing(shares, job, ticket) => {
                self.hand_over(shares, job, ticket);
                None
            }
            State::Writing(shares, ticket) => self.poll_write(shares, ticket),
            State::Aborting(ticket) => self.poll_abort(ticket, now),
            State::Idle => None,
            State::Dead => {
                self.state = State::Dead;
                None
            }
        }
    }

    // ---- the producer's life -------------------------------------------------------------------

    fn open_producer(&mut self, now: Now) -> Option<Event> {
        let (id, bell) = (&self.transactional_id, self.bell.clone());
        let opened = match self.guarantee {
            ProcessingGuarantee::ExactlyOnceV2 => self.log.producer(id, bell),
            ProcessingGuarantee::AtLeastOnce => self.log.plain_producer(id, bell),
        };
        match opened {
            Ok(mut producer) => {
                self.state = State::Initialising(producer.initialise());
                self.producer = Some(producer);
                None
            }
            Err(error) => self.fail_to_start(error, now),
        }
    }

    fn poll_initialise(&mut self, ticket: Ticket<LogResult<()>>, now: Now) -> Option<Event> {
        match ticket.poll() {
            Poll::Pending => {
                self.state = State::Initialising(ticket);
                None
            }
            Poll::Done(Ok(())) => {
                self.backoff.reset();
                self.end();
                None
            }
            Poll::Done(Err(error)) => {
                self.unanswered += 1;
                self.fail_to_start(error, now)
            }
            Poll::Abandoned => {
                self.unanswered += 1;
                self.fail_to_start(unknown("initialise the producer"), now)
            }
        }
    }

    /// No transaction is at stake: nothing to rewind, only to try again.
    fn fail_to_start(&mut self, error: LogError, now: Now) -> Option<Event> {
        self.producer = None;
        if error.class == ErrorClass::Fatal || self.fenced_too_often(&error, now) {
            self.die();
            return Some(Event::Fatal(error));
        }
        let retry_at = now.monotonic + self.backoff.next();
        tracing::warn!(
            transactional_id = &*self.transactional_id,
            %error,
            retry_at_ms = retry_at.as_millis(),
            "producer is not ready, it is opened again"
        );
        self.state = State::Absent { retry_at };
        None
    }

    fn fenced_too_often(&mut self, error: &LogError, now: Now) -> bool {
        if error.class != ErrorClass::Fenced {
            return false;
        }
        self.fences.push_back(now.monotonic);
        while self.fences.front().is_some_and(|at| *at + FENCE_PERIOD < now.monotonic) {
            self.fences.pop_front();
        }
        self.fences.len() >= FENCE_LIMIT
    }

    // ---- an open transaction -------------------------------------------------------------------

    /// Hands queued records to the producer until it has no room.
    fn drain(&mut self, now: Now) -> Option<Event> {
        self.queue_waits = false;
        while let Some((to, records)) = self.queue.front() {
            let producer = self.producer.as_mut().expect("an open transaction has a producer");
            match producer.send(to, records) {
                Ok(()) => {
                    self.queue.pop_front();
                    self.batches_sent += 1;
                }
                Err(error) if error.class == ErrorClass::Retry => {
                    self.queue_waits = true;
                    return None;
                }
                Err(error) => {
                    // What fails now may be about an earlier record.
                    let place = error.place.clone().unwrap_or_else(|| to.clone());
                    return self.fail(error.on(&place), now);
                }
            }
        }
        None
    }

    fn start_commit(&mut self) {
        let State::Sealed(shares) = std::mem::replace(&mut self.state, State::Idle) else {
            unreachable!("only a sealed transaction is committed")
        };
        let holds_state = self.log.holds_state();
        let mut state = StateBatch::default();
        let mut offsets = Vec::new();
        for share in &shares {
            offsets.extend(share.commit.offsets.iter().cloned());
            if holds_state {
                state.stores.extend(share.commit.state.stores.iter().cloned());
                state.tasks.extend(share.commit.state.tasks.iter().cloned());
            }
        }
        let identity = self.identity.clone().expect("a transaction began with an identity");
        let producer = self.producer.as_mut().expect("an open transaction has a producer");
        let ticket = producer.commit(CommitRequest { offsets, identity, state });
        self.state = State::Committing(shares, ticket);
    }

    fn poll_commit(
        &mut self,
        shares: Vec<TaskShare>,
        ticket: Ticket<LogResult<Committed>>,
        now: Now,
    ) -> Option<Event> {
        match ticket.poll() {
            Poll::Pending => {
                self.state = State::Committing(shares, ticket);
                None
            }
            Poll::Done(Ok(committed)) => self.committed(shares, committed),
            Poll::Done(Err(error)) if error.class == ErrorClass::Retry => {
                tracing::warn!(transactional_id = &*self.transactional_id, %error, "commit again");
                self.state = State::Sealed(shares);
                None
            }
            Poll::Done(Err(error)) => self.fail(error, now),
            Poll::Abandoned => {
                self.drop_producer(now);
                Some(Event::Lost(unknown("commit the transaction")))
            }
        }
    }

    /// The log has committed. What it does not hold is written now, never before.
    fn committed(&mut self, mut shares: Vec<TaskShare>, committed: Committed) -> Option<Event> {
        self.ends = committed.ends;
        if self.log.holds_state() {
            return Some(self.finish(shares));
        }
        let mut batches = Vec::new();
        for share in &mut shares {
            set_changelog_ends(&mut share.commit.state, &self.ends);
            if !share.commit.state.is_empty() {
                let batch = std::mem::take(&mut share.commit.state);
                batches.push((batch, Arc::clone(&share.database)));
            }
        }
        if batches.is_empty() {
            return Some(self.finish(shares));
        }
        let (promise, ticket) = ticket(self.bell.clone());
        self.hand_over(shares, WriteJob { batches, promise }, ticket);
        None
    }

    fn hand_over(&mut self, shares: Vec<TaskShare>, job: WriteJob, ticket: Ticket<WriteResult>) {
        self.state = match self.writer.send(job) {
            Ok(()) => State::Writing(shares, ticket),
            Err(Full(job)) => State::Handing(shares, job, ticket),
        };
    }

    fn poll_write(&mut self, shares: Vec<TaskShare>, ticket: Ticket<WriteResult>) -> Option<Event> {
        match ticket.poll() {
            Poll::Pending => {
                self.state = State::Writing(shares, ticket);
                None
            }
            Poll::Done(Ok(())) => Some(self.finish(shares)),
            // The transaction is committed all the same: the changelog gives the state back.
            Poll::Done(Err(error)) => {
                let message = error.to_string();
                if error.class() == headwater_state::ErrorClass::Fenced {
                    self.end();
                    return Some(Event::Lost(LogError::new(ErrorClass::Fenced, WRITE, message)));
                }
                self.die();
                Some(Event::Fatal(LogError::new(ErrorClass::Fatal, WRITE, message)))
            }
            Poll::Abandoned => {
                self.end();
                Some(Event::Lost(unknown(WRITE)))
            }
        }
    }

    fn finish(&mut self, shares: Vec<TaskShare>) -> Event {
        self.end();
        self.unanswered = 0;
        let tasks = shares.into_iter().map(|share| (share.task, share.commit.offsets)).collect();
        Event::Committed { tasks, ends: std::mem::take(&mut self.ends) }
    }

    // ---- failures ------------------------------------------------------------------------------

    /// A call on the open transaction failed, and how is known.
    fn fail(&mut self, error: LogError, now: Now) -> Option<Event> {
        match error.class {
            ErrorClass::Abort | ErrorClass::Retry => self.start_abort(),
            ErrorClass::User => {
                self.start_abort();
                return Some(Event::Refused(error));
            }
            ErrorClass::Fenced => return Some(self.fenced(error, now)),
            ErrorClass::Fatal => {
                self.die();
                return Some(Event::Fatal(error));
            }
        }
        Some(Event::Lost(error))
    }

    /// Another producer has the id now, or the log gave the transaction up.
    fn fenced(&mut self, error: LogError, now: Now) -> Event {
        let id = &self.transactional_id;
        let alone = self.identity.as_ref().filter(|identity| identity.member.is_empty());
        let why = if let Some(Identity { group, .. }) = alone.filter(|_| !self.fenced_itself(now)) {
            format!(
                "application {group}: another process took the transactional id {id} over and \
                 goes on; this one stops and keeps its state ({error}). Without group membership \
                 one process runs an application: stop the other one, or run both as members of a \
                 group"
            )
        } else if self.fenced_too_often(&error, now) {
            format!(
                "{} was taken over {FENCE_LIMIT} times within {FENCE_PERIOD:?}, last: {error}; \
                 stop the other process that uses it, or give this one a state directory of its own",
                self.transactional_id
            )
        } else {
            self.unanswered = self.unanswered.saturating_sub(1);
            self.drop_producer(now);
            return Event::Lost(error);
        };
        self.die();
        Event::Fatal(LogError::new(ErrorClass::Fatal, "keep the transactional id", why))
    }

    /// The fence may be of this process's own making. A suspended machine's monotonic clock stands
    /// still, so wall time counts as well.
    fn fenced_itself(&self, now: Now) -> bool {
        let age = self.began.map_or(Duration::ZERO, |began| {
            let wall = u64::try_from(now.wall_ms - began.wall_ms).unwrap_or(0);
            now.monotonic.saturating_sub(began.monotonic).max(Duration::from_millis(wall))
        });
        self.unanswered > 0 || age >= self.log.transaction_timeout()
    }

    fn die(&mut self) {
        self.producer = None;
        self.members.clear();
        self.queue.clear();
        self.state = State::Dead;
    }

    /// A new producer of the same id ends, or resolves, whatever this one left open.
    fn drop_producer(&mut self, now: Now) {
        self.producer = None;
        self.members.clear();
        self.queue.clear();
        self.state = State::Absent { retry_at: now.monotonic };
    }

    fn start_abort(&mut self) {
        let producer = self.producer.as_mut().expect("an open transaction has a producer");
        self.state = State::Aborting(producer.abort());
        self.members.clear();
        self.queue.clear();
    }

    fn poll_abort(&mut self, ticket: Ticket<LogResult<()>>, now: Now) -> Option<Event> {
        match ticket.poll() {
            Poll::Pending => self.state = State::Aborting(ticket),
            Poll::Done(Ok(())) => self.end(),
            Poll::Done(Err(error)) if error.class == ErrorClass::Retry => self.start_abort(),
            Poll::Done(Err(error)) if error.class == ErrorClass::Fenced => {
                // The tasks of a lost transaction rewind already.
                let event = self.fenced(error, now);
                return Some(event).filter(|event| matches!(event, Event::Fatal(_)));
            }
            Poll::Done(Err(error)) => return self.fail_to_start(error, now),
            Poll::Abandoned => self.drop_producer(now),
        }
        None
    }

    /// No transaction any more.
    fn end(&mut self) {
        self.members.clear();
        self.identity = None;
        self.queue.clear();
        self.state = State::Idle;
    }
}

const WRITE: &str = "write committed state";

fn unknown(operation: &'static str) -> LogError {
    LogError::new(
        ErrorClass::Abort,
        operation,
        "nobody answers, so nobody knows whether it happened; a new producer resolves it",
    )
}

//! The follower of an application's global tables: reads every partition of their topics, brings
//! their rows to the end before the first task starts, and keeps them there. Owns the rows' only
//! writer and the gate that tasks wait behind; knows no task.
//!
//! The rows are no part of any transaction: they lie in a database of their own,
//! `<application>/global`, or with everything else where one database is for all. Each batch carries
//! the position it reaches, so a crash repeats at most one. *The end* is the high watermark asked
//! after the start; records of open transactions before it are waited for. Rows whose position is no
//! longer in the topic (deleted, or the topic was made anew) are forgotten and read again.
//!
//! Source: `GlobalStreamThread`, `GlobalStateManagerImpl`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use headwater_state::StateError;

use super::backoff::Backoff;
use super::board::{Board, StoreHandle};
use super::messages::{FromThread, Report};
use super::plan::Plan;
use super::restorer::StateHome;
use crate::actor::{Actor, Address, Bell, Next, Poll, Ticket};
use crate::error::ErrorClass;
use crate::log::{Isolation, Log, LogError, LogResult, OffsetQuery, PartitionReader, Purpose};
use crate::metrics::Metrics;
use crate::processor::DropReason;
use crate::record::{TaskId, TopicPartition};
use crate::store::GlobalRows;
use crate::task::store_family;
use crate::time::Now;
use crate::topology::Topology;

/// Answers of the log that ring no bell are looked for this often.
const POLL: Duration = Duration::from_millis(2);
/// Bytes of one partition that are applied in one step.
const TURN_BYTES: usize = 1 << 20;
/// The database of an application's global tables, and what stands for a task in messages.
const DATABASE: &str = "global";
/// Stands for the task of stores that no task has.
const NO_TASK: TaskId = TaskId { subtopology: u32::MAX, partition: 0 };

/// The global tables of an application, as others see them. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct GlobalTables(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    rows: OnceLock<Arc<[GlobalRows]>>,
    ready: AtomicBool,
}

impl GlobalTables {
    /// Of a topology that has none.
    pub(crate) fn none() -> Self {
        let tables = Self::default();
        tables.0.ready.store(true, Ordering::SeqCst);
        tables
    }

    /// The rows, by the tables' numbers; empty until they are ready.
    pub(crate) fn rows(&self) -> Arc<[GlobalRows]> {
        self.0.rows.get().cloned().unwrap_or_default()
    }

    /// Every table has been at its topic's end.
    pub(crate) fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::SeqCst)
    }
}

/// What a follower is made of.
pub(crate) struct GlobalParts {
    pub(crate) application: Arc<str>,
    pub(crate) topology: Arc<Topology>,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) home: StateHome,
    /// Says how many partitions the topics have, once they are there.
    pub(crate) plan: Arc<OnceLock<Arc<Plan>>>,
    pub(crate) tables: GlobalTables,
    pub(crate) board: Board,
    pub(crate) metrics: Metrics,
    /// Where failures go.
    pub(crate) reports: Address<FromThread>,
    /// Rings for who waits for the tables.
    pub(crate) waiting: Bell,
    /// It ends when this is set.
    pub(crate) ended: Arc<AtomicBool>,
}

enum Stage {
    Asking { start: Ticket<LogResult<Vec<i64>>>, end: Ticket<LogResult<Vec<i64>>> },
    Reading(Box<dyn PartitionReader>),
}

/// One partition of one table's topic.
struct Followed {
    table: usize,
    place: TopicPartition,
    stage: Stage,
    /// Where it is ready.
    end: i64,
    position: Option<i64>,
}

impl Followed {
    fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Reading(_)) && self.position.is_some_and(|at| at >= self.end)
    }
}

/// Why following stops for a while, or for good.
enum Trouble {
    Log(LogError),
    State(StateError),
    Unknown(String),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Log(error) => error.fmt(f),
            Trouble::State(error) => error.fmt(f),
            Trouble::Unknown(why) => f.write_str(why),
        }
    }
}

impl Trouble {
    fn may_pass(&self) -> bool {
        match self {
            Trouble::Log(error) => error.class == ErrorClass::Retry,
            Trouble::State(error) => {
                error.class() == headwater_state::ErrorClass::Retry
                    || matches!(error, StateError::Locked { .. })
            }
            Trouble::Unknown(_) => false,
        }
    }
}

impl From<StateError> for Trouble {
    fn from(error: StateError) -> Self {
        Trouble::State(error)
    }
}

/// The actor.
pub(crate) struct GlobalFollower {
    name: String,
    parts: GlobalParts,
    bell: Bell,
    rows: Arc<[GlobalRows]>,
    followed: Vec<Followed>,
    retry_at: Duration,
    backoff: Backoff,
    /// Begun again from the topic's start, by table.
    anew: Vec<bool>,
    failed: bool,
}

impl GlobalFollower {
    pub(crate) fn new(parts: GlobalParts) -> Self {
        Self {
            name: format!("{}-global", parts.application),
            anew: vec![false; parts.topology.globals().len()],
            parts,
            bell: Bell::new(),
            rows: Arc::default(),
            followed: Vec::new(),
            retry_at: Duration::ZERO,
            backoff: Backoff::new(),
            failed: false,
        }
    }

    /// Opens the rows and asks where their topics begin and end.
    fn open(&mut self, plan: &Plan) -> Result<(), Trouble> {
        let application = &self.parts.application;
        let database = match &self.parts.home {
            StateHome::Shared(database) => Arc::clone(database),
            StateHome::PerTask(directory) => directory.task(application, DATABASE)?,
        };
        let tables = self.parts.topology.globals();
        let open = |spec: &crate::store::StoreSpec| {
            GlobalRows::open(Arc::clone(&database), &store_family(application, &spec.name))
        };
        self.rows = tables.iter().map(|table| open(&table.spec)).collect::<Result<_, _>>()?;
        let mut followed = Vec::new();
        for (table, global) in tables.iter().enumerate() {
            let partitions = *plan.counts.get(&global.topic).ok_or_else(|| {
                Trouble::Unknown(format!("topic '{}' has no known partition count", global.topic))
            })?;
            for partition in 0..partitions {
                let place = TopicPartition::new(Arc::clone(&global.topic), partition);
                let stage = self.ask(&place);
                followed.push(Followed { table, place, stage, end: 0, position: None });
            }
        }
        self.followed = followed;
        Ok(())
    }

    fn ask(&self, place: &TopicPartition) -> Stage {
        let ask = |query| self.parts.log.offsets(vec![place.clone()], query);
        Stage::Asking { start: ask(OffsetQuery::Earliest), end: ask(OffsetQuery::HighWatermark) }
    }

    /// One step of one partition; whether something happened.
    fn follow(&mut self, at: usize) -> Result<bool, Trouble> {
        match &self.followed[at].stage {
            Stage::Asking { start, end } => {
                let (start, end) = (first(start.poll()), first(end.poll()));
                match (start, end) {
                    (None, _) | (_, None) => Ok(false),
                    (Some(start), Some(end)) => {
                        let begun = start.and_then(|start| Ok((start, end?)));
                        let (start, end) = begun.map_err(Trouble::Log)?;
                        self.begin(at, start, end)
                    }
                }
            }
            Stage::Reading(_) => self.read(at),
        }
    }

    fn begin(&mut self, at: usize, start: i64, end: i64) -> Result<bool, Trouble> {
        let followed = &self.followed[at];
        let (place, table) = (followed.place.clone(), followed.table);
        let known = self.rows[table].next_offset(place.partition)?;
        let from = match known {
            Some(known) if known < start || known > end => {
                tracing::warn!(%place, known, start, end, "global table is read anew");
                return self.begin_anew(table);
            }
            known => known.unwrap_or(start),
        };
        tracing::info!(%place, from, end, "global table");
        let (isolation, purpose) = (Isolation::ReadCommitted, Purpose::Restore);
        let reader = self.parts.log.reader(&place, from, isolation, purpose, self.bell.clone());
        let followed = &mut self.followed[at];
        followed.stage = Stage::Reading(reader.map_err(Trouble::Log)?);
        (followed.end, followed.position) = (end, Some(from));
        Ok(true)
    }

    /// Forgets a table's rows and reads its topic from the start.
    fn begin_anew(&mut self, table: usize) -> Result<bool, Trouble> {
        let of_table = |followed: &&Followed| followed.table == table;
        let partitions = self.followed.iter().filter(of_table).count();
        self.rows[table].clear(u32::try_from(partitions).unwrap_or(u32::MAX))?;
        self.parts.log.wrote_state();
        for at in 0..self.followed.len() {
            if self.followed[at].table == table {
                let stage = self.ask(&self.followed[at].place);
                let followed = &mut self.followed[at];
                (followed.stage, followed.position) = (stage, None);
            }
        }
        Ok(true)
    }

    fn read(&mut self, at: usize) -> Result<bool, Trouble> {
        let followed = &mut self.followed[at];
        let Stage::Reading(reader) = &mut followed.stage else { return Ok(false) };
        let table = followed.table;
        let fetched = match reader.take(TURN_BYTES) {
            Ok(fetched) => fetched,
            // The topic's start moved past us: once more from there.
            Err(error) if error.class == ErrorClass::Fatal && !self.anew[table] => {
                tracing::warn!(place = %followed.place, %error, "global table is read anew");
                self.anew[table] = true;
                return self.begin_anew(table);
            }
            Err(error) => return Err(Trouble::Log(error)),
        };
        if followed.position == Some(fetched.position) {
            return Ok(false);
        }
        let mut records = Vec::new();
        let mut skipped = 0;
        for batch in &fetched.batches {
            for record in batch.records() {
                let record = record.map_err(|error| {
                    Trouble::Unknown(format!("a record of {} is damaged: {error}", followed.place))
                })?;
                match record.key {
                    Some(key) => records.push((key, record.value, record.timestamp)),
                    None => {
                        let offset = record.offset;
                        tracing::debug!(place = %followed.place, offset, "null key is skipped");
                        skipped += 1;
                    }
                }
            }
        }
        self.rows[table].apply(followed.place.partition, records, fetched.position)?;
        self.parts.log.wrote_state();
        followed.position = Some(fetched.position);
        if skipped > 0 {
            let metrics = self.parts.metrics.task(&self.parts.application, DATABASE);
            metrics.dropped(DropReason::NullKey.as_str(), skipped);
        }
        Ok(true)
    }

    /// Lets tasks start, once everything has been at its end.
    fn open_gate(&mut self) {
        if self.parts.tables.is_ready() || !self.followed.iter().all(Followed::is_ready) {
            return;
        }
        let tables = self.parts.topology.globals().iter().zip(&*self.rows);
        self.parts.board.open_stores(tables.map(|(table, rows)| StoreHandle {
            spec: table.spec.clone(),
            task: NO_TASK,
            database: Arc::clone(rows.database()),
            family: rows.family().clone(),
            partition: 0,
        }));
        // Nobody else sets them.
        self.parts.tables.0.rows.set(Arc::clone(&self.rows)).ok();
        self.parts.tables.0.ready.store(true, Ordering::SeqCst);
        self.parts.waiting.ring();
    }

    fn work(&mut self) -> Result<bool, Trouble> {
        if self.rows.is_empty() {
            let Some(plan) = self.parts.plan.get().cloned() else { return Ok(false) };
            self.open(&plan)?;
        }
        let mut worked = false;
        for at in 0..self.followed.len() {
            worked |= self.follow(at)?;
        }
        self.open_gate();
        Ok(worked)
    }
}

/// The answer about one partition, if it is there.
fn first(answer: Poll<LogResult<Vec<i64>>>) -> Option<LogResult<i64>> {
    let nobody = || LogError::new(ErrorClass::Retry, "ask for offsets", "nobody answers");
    match answer {
        Poll::Pending => None,
        Poll::Done(Ok(offsets)) => Some(offsets.first().copied().ok_or_else(nobody)),
        Poll::Done(Err(error)) => Some(Err(error)),
        Poll::Abandoned => Some(Err(nobody())),
    }
}

impl Actor for GlobalFollower {
    fn name(&self) -> &str {
        &self.name
    }

    fn bell(&self) -> Bell {
        self.bell.clone()
    }

    fn step(&mut self, now: Now) -> Next {
        if self.parts.ended.load(Ordering::SeqCst) {
            return Next::Done;
        }
        if self.failed {
            return Next::Wait;
        }
        if self.retry_at > now.monotonic {
            return Next::WakeAt(self.retry_at);
        }
        match self.work() {
            Ok(true) => {
                self.backoff.reset();
                Next::Again
            }
            // The plan and answers about offsets ring no bell.
            Ok(false) if !self.parts.tables.is_ready() => Next::WakeAt(now.monotonic + POLL),
            Ok(false) => Next::Wait,
            Err(trouble) if trouble.may_pass() => {
                self.retry_at = now.monotonic + self.backoff.next();
                tracing::warn!(%trouble, "global tables are tried again");
                for at in 0..self.followed.len() {
                    if matches!(self.followed[at].stage, Stage::Asking { .. }) {
                        self.followed[at].stage = self.ask(&self.followed[at].place);
                    }
                }
                Next::WakeAt(self.retry_at)
            }
            Err(trouble) => {
                self.failed = true;
                let report = Report::Failed(format!("global tables: {trouble}"));
                if self.parts.reports.send(FromThread { thread: 0, report }).is_err() {
                    tracing::error!(%trouble, "global tables failed, and nobody hears it");
                }
                Next::Wait
            }
        }
    }
}

//! The restore of one store-partition, step by step: where it begins and ends, applying changelog
//! records, emptying a store whose position is gone. Knows no other store and no request.

use std::sync::Arc;
use std::time::Duration;

use headwater_state::StateError;
use headwater_state::commit::StateBatch;
use headwater_state::database::{BatchPart, BatchSink, Database, Family};
use headwater_state::layout::{data_prefix, successor};
use headwater_state::lease::{Lease, Leases};
use headwater_state::positions::StorePositions;
use headwater_state::store::StorePartition;

use crate::actor::{Bell, Poll, Ticket};
use crate::error::ErrorClass;
use crate::log::{
    Fetched, Isolation, Log, LogError, LogResult, OffsetQuery, PartitionReader, Purpose,
};
use crate::metrics::RestoreMetrics;
use crate::record::{TaskId, TopicPartition};
use crate::runtime::board::{Board, RestoreProgress};
use crate::runtime::messages::RestoreError;
use crate::runtime::plan::StoreBlueprint;
use crate::runtime::restorer::StateHome;
use crate::store::RestoreTarget;
use crate::time::Now;

/// Changelog bytes of one store applied before the next store's turn.
const TURN_BYTES: usize = 1 << 20;
/// A restore under way is told of this often.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// The restore of one store-partition.
pub(super) struct StoreJob {
    pub(super) blueprint: StoreBlueprint,
    pub(super) database: Arc<dyn Database>,
    pub(super) lease: Lease,
    pub(super) stage: Stage,
    pub(super) metrics: RestoreMetrics,
    pub(super) emptied: bool,
    /// What the board is told next.
    pub(super) progress: RestoreProgress,
}

pub(super) enum Stage {
    Asking { start: Ticket<LogResult<Vec<i64>>>, end: Ticket<LogResult<Vec<i64>>> },
    Reading(Reading),
    Done,
}

/// A restore that reads its changelog.
pub(super) struct Reading {
    reader: Box<dyn PartitionReader>,
    target: Box<dyn RestoreTarget>,
    end: i64,
    /// Rows are collected, sorted and added as files.
    bulk: bool,
    began: Duration,
    told: Duration,
}

impl Stage {
    pub(super) fn is_reading(&self) -> bool {
        matches!(self, Stage::Reading(_))
    }
}

/// How far a step came.
pub(super) enum Progress {
    /// There is more to do now.
    More,
    /// The log's answer or its records are waited for.
    Waits,
    Finished,
}

/// What the steps of one job share.
pub(super) struct Turn<'r> {
    pub(super) log: &'r dyn Log,
    pub(super) leases: &'r Leases,
    pub(super) bell: &'r Bell,
    pub(super) board: &'r Board,
    pub(super) home: &'r StateHome,
    pub(super) application: &'r str,
    pub(super) task: TaskId,
    pub(super) now: Now,
    /// A restore that has more than this before it collects rows and brings them sorted into the
    /// database.
    pub(super) long_restore_bytes: u64,
    /// Uncommitted bytes at which collected rows go to the database.
    pub(super) bulk_bytes: usize,
}

impl Turn<'_> {
    fn state(&self, source: StateError) -> RestoreError {
        RestoreError::State { task: self.task, source }
    }

    fn failed(&self, source: LogError) -> RestoreError {
        RestoreError::Log { task: self.task, source }
    }

    /// One step of one store-partition.
    pub(super) fn step(&self, store: &mut StoreJob) -> Result<Progress, RestoreError> {
        match &mut store.stage {
            Stage::Done => Ok(Progress::Finished),
            Stage::Asking { start, end } => {
                // Both answers are needed; a ticket gives its answer once.
                let (first, last) = match (start.poll(), end.poll()) {
                    (Poll::Done(first), Poll::Done(last)) => (first, last),
                    (Poll::Abandoned, _) | (_, Poll::Abandoned) => {
                        return Err(self.failed(no_answer()));
                    }
                    (first, last) => {
                        keep(start, first);
                        keep(end, last);
                        return Ok(Progress::Waits);
                    }
                };
                let first = only(first).map_err(|e| self.failed(e))?;
                let end = only(last).map_err(|e| self.failed(e))?;
                self.begin(store, first, end)
            }
            Stage::Reading(_) => self.read(store),
        }
    }

    /// Decides where to begin, says why, and opens the reader.
    fn begin(&self, store: &mut StoreJob, first: i64, end: i64) -> Result<Progress, RestoreError> {
        let task = self.task;
        let changelog =
            store.blueprint.changelog.clone().expect("only a store that has one is asked for");
        let mut target = store.open_target().map_err(|e| self.state(e))?;
        let position = target.state().positions().changelog;
        let (from, why) = match position {
            None => (first, "the store has no position"),
            Some(at) if at < first => (first, "the changelog no longer has the store's position"),
            Some(at) if at > end => (first, "the changelog ends before the store's position"),
            Some(at) => (at, "the store's position"),
        };
        let name = &store.blueprint.spec.name;
        tracing::info!(%task, store = %name, %changelog, from, to = end, why, "restore begins");
        if position.is_some_and(|at| !(first..=end).contains(&at)) {
            self.set_aside(store).map_err(|e| self.state(e))?;
            empty(&*target, self.leases).map_err(|e| self.state(e))?;
            store.emptied = true;
            target = store.open_target().map_err(|e| self.state(e))?;
        }
        store.progress = RestoreProgress {
            from,
            position: from,
            end: end.max(from),
            why,
            ..RestoreProgress::default()
        };
        self.tell(store);
        if from >= end {
            store.stage = Stage::Done;
            return Ok(Progress::More);
        }
        let (isolation, purpose) = (Isolation::ReadCommitted, Purpose::Restore);
        let reader = self.log.reader(&changelog, from, isolation, purpose, self.bell.clone());
        let reader = reader.map_err(|e| self.failed(e))?;
        let now = self.now.monotonic;
        store.stage =
            Stage::Reading(Reading { reader, target, end, bulk: false, began: now, told: now });
        Ok(Progress::More)
    }

    /// Keeps a copy of what is about to be emptied: other stores of the task go on as they are.
    fn set_aside(&self, store: &StoreJob) -> Result<(), StateError> {
        if let StateHome::PerTask(directory) = self.home {
            let (task, application) = (self.task, self.application);
            let aside = directory.copy_aside(application, &task.to_string(), &*store.database)?;
            let name = &store.blueprint.spec.name;
            tracing::warn!(%task, store = %name, aside, "the store is rebuilt; a copy is kept");
        }
        Ok(())
    }

    /// Tells board and metrics how far the store has come.
    fn tell(&self, store: &mut StoreJob) {
        let progress = &mut store.progress;
        store.metrics.records.inc_by(progress.records);
        store.metrics.remaining.set(progress.remaining());
        self.board.restoring(self.task, &store.blueprint.spec.name, progress.clone());
        progress.records = 0;
    }

    fn read(&self, store: &mut StoreJob) -> Result<Progress, RestoreError> {
        let Stage::Reading(reading) = &mut store.stage else {
            unreachable!("called while reading")
        };
        let fetched = match reading.reader.take(TURN_BYTES) {
            Ok(fetched) => fetched,
            // The start of the changelog moved past us, or it is damaged: asking again tells.
            Err(error) if error.class == ErrorClass::Fatal && !store.emptied => {
                let changelog = reading.reader.partition().clone();
                tracing::warn!(task = %self.task, %changelog, %error, "restore begins again");
                store.stage = ask(self.log, &changelog);
                return Ok(Progress::More);
            }
            Err(error) => return Err(self.failed(error)),
        };
        let records = collect(&store.blueprint, &mut *reading.target, &fetched);
        let records = records.map_err(|e| self.state(e))?;
        let is_over = fetched.position >= reading.end;
        let collected = reading.target.state().overlay().bytes();
        if !reading.bulk && !is_over {
            // What these records needed tells what those to come will need.
            let offsets = fetched.position.saturating_sub(store.progress.position).max(1);
            let left = (reading.end - fetched.position) / offsets;
            let left = u64::try_from(left).unwrap_or(0);
            reading.bulk = left.saturating_mul(u64::try_from(collected).unwrap_or(u64::MAX))
                > self.long_restore_bytes;
        }
        if is_over || !reading.bulk || collected >= self.bulk_bytes {
            self.write(reading, records > 0, fetched.position).map_err(|e| self.state(e))?;
        }
        store.progress.records += records;
        store.progress.position = fetched.position;
        store.progress.elapsed = self.now.monotonic.saturating_sub(reading.began);
        let often = self.now.monotonic.saturating_sub(reading.told) >= TELL_EVERY;
        if often || is_over {
            reading.told = self.now.monotonic;
            say(self.task, store, is_over);
        }
        self.tell(store);
        if is_over {
            store.stage = Stage::Done;
            return Ok(Progress::More);
        }
        Ok(if fetched.batches.is_empty() { Progress::Waits } else { Progress::More })
    }

    /// Writes what was collected, with the position it reaches, in one piece.
    fn write(&self, reading: &mut Reading, news: bool, position: i64) -> Result<(), StateError> {
        let target = &mut *reading.target;
        let known = target.state().positions().changelog;
        let nothing = !news && target.state().overlay().bytes() == 0;
        if nothing && known.is_some_and(|at| at >= position) {
            return Ok(());
        }
        target.state_mut().freeze();
        let commit = target.state().commit(Some(position));
        let database = Arc::clone(target.state().database());
        if reading.bulk && commit.rows.is_some() {
            commit.ingest(self.leases, &*database)?;
            target.state_mut().committed(&commit);
            // What is in the database needs no memory any more.
            return target.state_mut().rewind();
        }
        let batch = StateBatch { stores: vec![commit], tasks: vec![] };
        batch.write(self.leases, &*database, &[])?;
        target.state_mut().committed(&batch.stores[0]);
        Ok(())
    }
}

/// A line about a restore under way, or at its end.
fn say(task: TaskId, store: &StoreJob, is_over: bool) {
    let (name, progress) = (&store.blueprint.spec.name, &store.progress);
    let (position, to, took) = (progress.position, progress.end, progress.elapsed);
    let pace = progress.offsets_per_second();
    if is_over {
        tracing::info!(%task, store = %name, to = position, ?took, pace, "restored");
    } else {
        let left = progress.estimated_left();
        tracing::info!(%task, store = %name, position, to, pace, ?left, "restore goes on");
    }
}

impl StoreJob {
    fn open_target(&self) -> Result<Box<dyn RestoreTarget>, StateError> {
        let state = StorePartition::open(Arc::clone(&self.database), self.lease.clone())?;
        self.blueprint.spec.restore_target(state)
    }
}

/// Asks where a changelog begins and, ignoring open transactions, where it ends.
pub(super) fn ask(log: &dyn Log, changelog: &TopicPartition) -> Stage {
    let ask = |query| log.offsets(vec![changelog.clone()], query);
    Stage::Asking { start: ask(OffsetQuery::Earliest), end: ask(OffsetQuery::HighWatermark) }
}

/// Puts what was fetched into the overlay. Returns how many records.
fn collect(
    blueprint: &StoreBlueprint,
    target: &mut dyn RestoreTarget,
    fetched: &Fetched,
) -> Result<u64, StateError> {
    let mut records = 0;
    for batch in &fetched.batches {
        for record in batch.records() {
            let record = record.map_err(|error| damaged(blueprint, &error.to_string()))?;
            let key = record.key.ok_or_else(|| damaged(blueprint, "a record without a key"))?;
            target.apply(key, record.value, record.timestamp)?;
            records += 1;
        }
    }
    Ok(records)
}

fn damaged(blueprint: &StoreBlueprint, what: &str) -> StateError {
    let place = blueprint.changelog.as_ref().map(ToString::to_string).unwrap_or_default();
    StateError::Corruption { place: format!("changelog {place}"), what: what.to_owned() }
}

/// Removes a store-partition's rows and its positions, under its lease.
fn empty(target: &dyn RestoreTarget, leases: &Leases) -> Result<(), StateError> {
    let partition = target.state();
    let clear = Clear { family: partition.family().clone(), partition: partition.partition() };
    leases.guarded([partition.lease()], || partition.database().write(&[&clear]))
}

struct Clear {
    family: Family,
    partition: u32,
}

impl BatchPart for Clear {
    fn replay(&self, sink: &mut dyn BatchSink) {
        let from = data_prefix(self.partition);
        let to = successor(&from).expect("a data prefix has a successor");
        sink.delete_range(&self.family, &from, &to);
        StorePositions::default().put(&self.family, self.partition, sink);
    }
}

/// The one offset that was asked for.
fn only(offsets: LogResult<Vec<i64>>) -> LogResult<i64> {
    offsets.map(|offsets| offsets.first().copied().unwrap_or(0))
}

fn no_answer() -> LogError {
    LogError::new(ErrorClass::Retry, "ask for offsets", "nobody answers")
}

/// Puts an answer that came before its companion back into its ticket.
fn keep<T>(ticket: &mut Ticket<T>, poll: Poll<T>) {
    if let Poll::Done(value) = poll {
        *ticket = Ticket::done(value);
    }
}

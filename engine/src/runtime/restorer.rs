//! The restorer: opens the stores of a task and brings them to the end of their changelogs, beside
//! the stream threads, several tasks in turn. Owns leases' grants, the choice of where a restore
//! begins and ends, and its progress. Knows no processor and never reads input topics.
//!
//! A restore of one store-partition:
//! 1. asks for the changelog's start and its high watermark, *after* the assignment and ignoring
//!    open transactions: whatever a former owner may have committed lies before it;
//! 2. begins at the position in the store's own family; without one, or with one that the changelog
//!    no longer has, at the changelog's start (in the second case with an emptied store);
//! 3. reads committed records and writes them in batches, each with the position it reaches, under
//!    the store's lease;
//! 4. is done when the reader's *position* has passed the watermark of step 1: an open transaction
//!    before it is waited for, a last record is never waited for.
//!
//! Each decision is logged: from, to and why. Where the log holds the state there is no changelog
//! and the stores are only opened.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use headwater_state::StateError;
use headwater_state::commit::StateBatch;
use headwater_state::database::{BatchPart, BatchSink, Database, Family, FamilyKind};
use headwater_state::directory::StateDirectory;
use headwater_state::layout::{data_prefix, successor};
use headwater_state::lease::{Lease, Leases};
use headwater_state::positions::{StorePositions, tasks_family};
use headwater_state::store::StorePartition;

use super::backoff::Backoff;
use super::board::Board;
use super::messages::{OpenedTask, RestoreError, RestoreRequest};
use super::plan::{Blueprint, StoreBlueprint};
use crate::actor::{Actor, Address, Bell, Mailbox, Next, Poll, Promise, Ticket, mailbox};
use crate::error::ErrorClass;
use crate::log::{
    Fetched, Isolation, Log, LogError, LogResult, OffsetQuery, PartitionReader, Purpose,
};
use crate::metrics::{Metrics, RestoreMetrics};
use crate::record::{TaskId, TopicPartition};
use crate::store::{ChangelogFormat, RestoreTarget};
use crate::time::Now;

/// Requests that may wait.
const CAPACITY: usize = 4096;
/// Answers of the log that ring no bell are looked for this often.
const POLL: Duration = Duration::from_millis(2);
/// Changelog bytes of one store applied before the next store's turn.
const TURN_BYTES: usize = 1 << 20;

/// Where an application's stores are.
#[derive(Debug, Clone)]
pub enum StateHome {
    /// One database for everything, shared with the log.
    Shared(Arc<dyn Database>),
    /// A database per task.
    PerTask(Arc<StateDirectory>),
}

/// What a restorer is made of.
pub(crate) struct RestorerParts {
    pub(crate) application: Arc<str>,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) home: StateHome,
    pub(crate) leases: Leases,
    pub(crate) board: Board,
    pub(crate) metrics: Metrics,
    /// It ends when this is set and nothing is asked of it.
    pub(crate) ended: Arc<AtomicBool>,
}

/// The actor.
pub(crate) struct Restorer {
    name: String,
    parts: RestorerParts,
    bell: Bell,
    requests: Mailbox<RestoreRequest>,
    open: BTreeMap<TaskId, OpenStores>,
    closed: BTreeMap<TaskId, Weak<dyn Database>>,
    jobs: VecDeque<Job>,
}

impl std::fmt::Debug for Restorer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Restorer").field("jobs", &self.jobs.len()).finish_non_exhaustive()
    }
}

struct OpenStores {
    blueprint: Arc<Blueprint>,
    database: Arc<dyn Database>,
    tasks_family: Option<Family>,
    leases: Vec<Lease>,
}

struct Job {
    blueprint: Arc<Blueprint>,
    answer: Answer,
    /// Not before this time.
    retry_at: Duration,
    backoff: Backoff,
    /// `None` until the stores are open.
    stores: Option<Vec<StoreJob>>,
}

enum Answer {
    Open(Promise<Result<OpenedTask, RestoreError>>),
    Replay(Promise<Result<(), RestoreError>>),
}

struct StoreJob {
    blueprint: StoreBlueprint,
    database: Arc<dyn Database>,
    lease: Lease,
    stage: Stage,
    metrics: RestoreMetrics,
    emptied: bool,
}

enum Stage {
    Asking { start: Ticket<LogResult<Vec<i64>>>, end: Ticket<LogResult<Vec<i64>>> },
    Reading { reader: Box<dyn PartitionReader>, target: Box<RestoreTarget>, end: i64 },
    Done,
}

/// How far a step came.
enum Progress {
    /// There is more to do now.
    More,
    /// The log's answer or its records are waited for.
    Waits,
    Finished,
}

impl Restorer {
    /// A restorer for one application, and where its requests go.
    pub(crate) fn new(parts: RestorerParts) -> (Self, Address<RestoreRequest>) {
        let bell = Bell::new();
        let (address, requests) = mailbox(CAPACITY, bell.clone());
        let restorer = Self {
            name: format!("{}-restorer", parts.application),
            parts,
            bell,
            requests,
            open: BTreeMap::new(),
            closed: BTreeMap::new(),
            jobs: VecDeque::new(),
        };
        (restorer, address)
    }

    fn take_requests(&mut self) {
        while let Some(request) = self.requests.take() {
            let (blueprint, answer) = match request {
                RestoreRequest::Open { task, promise } => (task, Answer::Open(promise)),
                RestoreRequest::Replay { task, promise } => {
                    let Some(open) = self.open.get(&task) else { continue };
                    (Arc::clone(&open.blueprint), Answer::Replay(promise))
                }
                RestoreRequest::Close(task) => {
                    self.jobs.retain(|job| job.blueprint.task != task);
                    if let Some(open) = self.open.remove(&task) {
                        self.closed.insert(task, Arc::downgrade(&open.database));
                    }
                    continue;
                }
            };
            self.jobs.push_back(Job {
                blueprint,
                answer,
                retry_at: Duration::ZERO,
                backoff: Backoff::new(),
                stores: None,
            });
        }
    }

    /// The next step of the job that has waited longest.
    fn work(&mut self, now: Now) -> Next {
        let mut next = Next::Wait;
        for _ in 0..self.jobs.len() {
            let Some(mut job) = self.jobs.pop_front() else { break };
            if job.retry_at > now.monotonic {
                next = next.sooner(Next::WakeAt(job.retry_at));
                self.jobs.push_back(job);
                continue;
            }
            match self.step_job(&mut job) {
                Ok(Progress::More) => {
                    self.jobs.push_back(job);
                    return Next::Again;
                }
                Ok(Progress::Waits) => {
                    next = next.sooner(Next::WakeAt(now.monotonic + POLL));
                    self.jobs.push_back(job);
                }
                Ok(Progress::Finished) => {
                    self.finish(job);
                    next = Next::Again;
                }
                Err(error) if may_retry(&error) => {
                    let wait = job.backoff.next();
                    tracing::warn!(task = %job.blueprint.task, %error, "restore is tried again");
                    job.retry_at = now.monotonic + wait;
                    job.stores = None;
                    next = next.sooner(Next::WakeAt(job.retry_at));
                    self.jobs.push_back(job);
                }
                Err(error) => {
                    answer_error(job.answer, error);
                    next = Next::Again;
                }
            }
        }
        next
    }

    fn step_job(&mut self, job: &mut Job) -> Result<Progress, RestoreError> {
        let task = job.blueprint.task;
        let Some(stores) = &mut job.stores else {
            self.open_stores(&job.blueprint)
                .map_err(|source| RestoreError::State { task, source })?;
            let prepared = self.store_jobs(&job.blueprint);
            job.stores = Some(prepared);
            return Ok(Progress::More);
        };
        let (log, leases) = (&*self.parts.log, &self.parts.leases);
        let turn = Turn { log, leases, bell: &self.bell, board: &self.parts.board, task };
        let mut waits = false;
        for store in stores.iter_mut() {
            match turn.step(store)? {
                Progress::More => return Ok(Progress::More),
                Progress::Waits => waits = true,
                Progress::Finished => {}
            }
        }
        Ok(if waits { Progress::Waits } else { Progress::Finished })
    }

    /// Opens the task's database and takes new leases, unless it is open already.
    fn open_stores(&mut self, blueprint: &Arc<Blueprint>) -> Result<(), StateError> {
        let task = blueprint.task;
        if self.open.contains_key(&task) {
            return Ok(());
        }
        let database = match &self.parts.home {
            StateHome::Shared(database) => Arc::clone(database),
            StateHome::PerTask(directory) => {
                let still_open = self.closed.remove(&task).and_then(|weak| weak.upgrade());
                match still_open {
                    Some(database) => database,
                    None => directory.task(&self.parts.application, &task.to_string())?,
                }
            }
        };
        let leases: Vec<_> = blueprint
            .stores
            .iter()
            .map(|store| self.parts.leases.grant(&store.family, task.partition))
            .collect();
        // Creates families that are missing, and finds damage before anything is restored.
        for lease in &leases {
            StorePartition::open(Arc::clone(&database), lease.clone())?;
        }
        let tasks_family = match &self.parts.home {
            StateHome::PerTask(_) => None,
            StateHome::Shared(database) => {
                Some(database.family(&tasks_family(&self.parts.application), FamilyKind::Meta)?)
            }
        };
        let blueprint = Arc::clone(blueprint);
        self.open.insert(task, OpenStores { blueprint, database, tasks_family, leases });
        Ok(())
    }

    fn store_jobs(&self, blueprint: &Blueprint) -> Vec<StoreJob> {
        let open = &self.open[&blueprint.task];
        let task = blueprint.task.to_string();
        let stores = blueprint.stores.iter().zip(&open.leases);
        stores
            .map(|(store, lease)| {
                let metrics =
                    self.parts.metrics.restore(&self.parts.application, &task, &store.spec.name);
                let stage = match &store.changelog {
                    None => Stage::Done,
                    Some(changelog) => {
                        metrics.restores.inc();
                        ask(&*self.parts.log, changelog)
                    }
                };
                StoreJob {
                    blueprint: store.clone(),
                    database: Arc::clone(&open.database),
                    lease: lease.clone(),
                    stage,
                    metrics,
                    emptied: false,
                }
            })
            .collect()
    }

    fn finish(&mut self, job: Job) {
        let task = job.blueprint.task;
        let open = &self.open[&task];
        match job.answer {
            Answer::Replay(promise) => promise.fulfil(Ok(())),
            Answer::Open(promise) => {
                let partitions = open
                    .leases
                    .iter()
                    .map(|lease| StorePartition::open(Arc::clone(&open.database), lease.clone()));
                promise.fulfil(match partitions.collect() {
                    Ok(stores) => Ok(OpenedTask {
                        stores,
                        database: Arc::clone(&open.database),
                        tasks_family: open.tasks_family.clone(),
                    }),
                    Err(source) => Err(RestoreError::State { task, source }),
                });
            }
        }
    }
}

fn may_retry(error: &RestoreError) -> bool {
    match error {
        RestoreError::Log { source, .. } => source.class == ErrorClass::Retry,
        RestoreError::State { source, .. } => {
            source.class() == headwater_state::ErrorClass::Retry
                || matches!(source, StateError::Locked { .. })
        }
    }
}

fn answer_error(answer: Answer, error: RestoreError) {
    match answer {
        Answer::Open(promise) => promise.fulfil(Err(error)),
        Answer::Replay(promise) => promise.fulfil(Err(error)),
    }
}

/// What the steps of one job share.
struct Turn<'r> {
    log: &'r dyn Log,
    leases: &'r Leases,
    bell: &'r Bell,
    board: &'r Board,
    task: TaskId,
}

impl Turn<'_> {
    fn state(&self, source: StateError) -> RestoreError {
        RestoreError::State { task: self.task, source }
    }

    fn failed(&self, source: LogError) -> RestoreError {
        RestoreError::Log { task: self.task, source }
    }

    /// One step of one store-partition.
    fn step(&self, store: &mut StoreJob) -> Result<Progress, RestoreError> {
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
            Stage::Reading { .. } => self.read(store),
        }
    }

    /// Decides where to begin, says why, and opens the reader.
    fn begin(&self, store: &mut StoreJob, first: i64, end: i64) -> Result<Progress, RestoreError> {
        let task = self.task;
        let changelog =
            store.blueprint.changelog.clone().expect("only a store that has one is asked for");
        let mut target = store.open_target().map_err(|e| self.state(e))?;
        let position = partition_of(&target).positions().changelog;
        let (from, why) = match position {
            None => (first, "the store has no position"),
            Some(at) if at < first => (first, "the changelog no longer has the store's position"),
            Some(at) if at > end => (first, "the changelog ends before the store's position"),
            Some(at) => (at, "the store's position"),
        };
        let name = &store.blueprint.spec.name;
        tracing::info!(%task, store = %name, %changelog, from, to = end, why, "restore");
        if position.is_some_and(|at| !(first..=end).contains(&at)) {
            empty(&target, self.leases).map_err(|e| self.state(e))?;
            store.emptied = true;
            target = store.open_target().map_err(|e| self.state(e))?;
        }
        store.metrics.remaining.set((end - from).max(0));
        self.board.restoring(task, name, 0, from, end);
        if from >= end {
            store.stage = Stage::Done;
            return Ok(Progress::More);
        }
        let (isolation, purpose) = (Isolation::ReadCommitted, Purpose::Restore);
        let reader = self.log.reader(&changelog, from, isolation, purpose, self.bell.clone());
        let reader = reader.map_err(|e| self.failed(e))?;
        store.stage = Stage::Reading { reader, target: Box::new(target), end };
        Ok(Progress::More)
    }

    fn read(&self, store: &mut StoreJob) -> Result<Progress, RestoreError> {
        let Stage::Reading { reader, target, end } = &mut store.stage else {
            unreachable!("called while reading")
        };
        let fetched = match reader.take(TURN_BYTES) {
            Ok(fetched) => fetched,
            // The start of the changelog moved past us, or it is damaged: asking again tells.
            Err(error) if error.class == ErrorClass::Fatal && !store.emptied => {
                let changelog = reader.partition().clone();
                tracing::warn!(task = %self.task, %changelog, %error, "restore begins again");
                store.stage = ask(self.log, &changelog);
                return Ok(Progress::More);
            }
            Err(error) => return Err(self.failed(error)),
        };
        let (name, end) = (&store.blueprint.spec.name, *end);
        let records = apply(&store.blueprint, target, &fetched, self.leases);
        let records = records.map_err(|e| self.state(e))?;
        store.metrics.records.inc_by(records);
        store.metrics.remaining.set((end - fetched.position).max(0));
        self.board.restoring(self.task, name, records, fetched.position, end);
        if fetched.position >= end {
            store.stage = Stage::Done;
            return Ok(Progress::More);
        }
        Ok(if fetched.batches.is_empty() { Progress::Waits } else { Progress::More })
    }
}

impl StoreJob {
    fn open_target(&self) -> Result<RestoreTarget, StateError> {
        let state = StorePartition::open(Arc::clone(&self.database), self.lease.clone())?;
        self.blueprint.spec.restore_target(state)
    }
}

/// Asks where a changelog begins and, ignoring open transactions, where it ends.
fn ask(log: &dyn Log, changelog: &TopicPartition) -> Stage {
    let ask = |query| log.offsets(vec![changelog.clone()], query);
    Stage::Asking { start: ask(OffsetQuery::Earliest), end: ask(OffsetQuery::HighWatermark) }
}

/// Writes what was fetched, with the position it reaches, in one batch. Returns how many records.
fn apply(
    blueprint: &StoreBlueprint,
    target: &mut RestoreTarget,
    fetched: &Fetched,
    leases: &Leases,
) -> Result<u64, StateError> {
    let format: ChangelogFormat = blueprint.spec.kind.changelog_format();
    let mut records = 0;
    for batch in &fetched.batches {
        for record in batch.records() {
            let record = record.map_err(|error| damaged(blueprint, &error.to_string()))?;
            let key = record.key.ok_or_else(|| damaged(blueprint, "a record without a key"))?;
            format.restore(target, key, record.value, record.timestamp)?;
            records += 1;
        }
    }
    let position = partition_of(target).positions().changelog;
    if records == 0 && position.is_some_and(|at| at >= fetched.position) {
        return Ok(0);
    }
    let commit = match target {
        RestoreTarget::KeyValue(partition) => {
            partition.freeze();
            partition.commit(Some(fetched.position))
        }
        RestoreTarget::Window(store) => {
            store.state_mut().freeze();
            store.commit(Some(fetched.position))
        }
    };
    let database = Arc::clone(partition_of(target).database());
    let batch = StateBatch { stores: vec![commit], tasks: vec![] };
    batch.write(leases, &*database, &[])?;
    match target {
        RestoreTarget::KeyValue(partition) => partition.committed(&batch.stores[0]),
        RestoreTarget::Window(store) => store.committed(&batch.stores[0]),
    }
    Ok(records)
}

fn damaged(blueprint: &StoreBlueprint, what: &str) -> StateError {
    let place = blueprint.changelog.as_ref().map(ToString::to_string).unwrap_or_default();
    StateError::Corruption { place: format!("changelog {place}"), what: what.to_owned() }
}

fn partition_of(target: &RestoreTarget) -> &StorePartition {
    match target {
        RestoreTarget::KeyValue(partition) => partition,
        RestoreTarget::Window(store) => store.state(),
    }
}

/// Removes a store-partition's rows and its positions, under its lease.
fn empty(target: &RestoreTarget, leases: &Leases) -> Result<(), StateError> {
    let partition = partition_of(target);
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

impl Actor for Restorer {
    fn name(&self) -> &str {
        &self.name
    }

    fn bell(&self) -> Bell {
        self.bell.clone()
    }

    fn step(&mut self, now: Now) -> Next {
        self.take_requests();
        if self.jobs.is_empty() && self.parts.ended.load(Ordering::SeqCst) {
            return Next::Done;
        }
        self.work(now)
    }
}

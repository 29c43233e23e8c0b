//! The restorer: opens the stores of a task and brings them to the end of their changelogs, beside
//! the stream threads, several tasks in turn. Owns leases' grants, the choice of where a restore
//! begins and ends, and its progress. Knows no processor and never reads input topics.
//!
//! A restore of one store-partition:
//! 1. asks for the changelog's start and its high watermark, *after* the assignment and ignoring
//!    open transactions: whatever a former owner may have committed lies before it;
//! 2. begins at the position in the store's own family; without one, or with one that the changelog
//!    no longer has, at the changelog's start (in the second case with this one store emptied, and
//!    a copy of what it held kept beside it);
//! 3. reads committed records and writes them, each time with the position they reach, under the
//!    store's lease: turn by turn in batches, or, when there are many, collected and sorted as a
//!    file, with the last value of each key;
//! 4. is done when the reader's *position* has passed the watermark of step 1: an open transaction
//!    before it is waited for, a last record is never waited for.
//!
//! All stores of all tasks that wait are restored at the same time, a turn each. Each decision is
//! logged: from, to and why, then the pace and the estimated end every few seconds. Where the log
//! holds the state there is no changelog and the stores are only opened.

mod replay;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use headwater_state::StateError;
use headwater_state::database::{Database, Family, FamilyKind};
use headwater_state::directory::StateDirectory;
use headwater_state::lease::{Lease, Leases};
use headwater_state::positions::tasks_family;
use headwater_state::store::StorePartition;

use replay::{Progress, Stage, StoreJob, Turn, ask};

use super::backoff::Backoff;
use super::board::{Board, RestoreProgress};
use super::messages::{OpenedTask, RestoreError, RestoreRequest};
use super::plan::{Blueprint, StoreBlueprint};
use crate::actor::{Actor, Address, Bell, Mailbox, Next, Promise, mailbox};
use crate::error::ErrorClass;
use crate::log::Log;
use crate::metrics::{Metrics, RestorerMetrics};
use crate::record::TaskId;
use crate::time::Now;

/// Requests that may wait.
const CAPACITY: usize = 4096;
/// Answers of the log that ring no bell are looked for this often.
const POLL: Duration = Duration::from_millis(2);
/// Restores of more than this were measured to be faster by sorted files than by batches, which are
/// held up by the flushes they cause. Much shorter ones have less to gain than a file costs.
pub(super) const LONG_RESTORE_BYTES: u64 = 64 << 20;
/// Fewer rows at a time are not worth a file of their own.
const BULK_BYTES_MIN: usize = 1 << 20;

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
    /// Memory for rows that are collected before they are written, of all stores together.
    pub(crate) bulk_bytes: usize,
    /// A restore that has more than this before it collects rows before it writes them.
    pub(crate) long_restore_bytes: u64,
    /// It ends when this is set and nothing is asked of it.
    pub(crate) ended: Arc<AtomicBool>,
}

/// The actor.
pub(crate) struct Restorer {
    name: String,
    parts: RestorerParts,
    bell: Bell,
    requests: Mailbox<RestoreRequest>,
    metrics: RestorerMetrics,
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

impl Restorer {
    /// A restorer for one application, and where its requests go.
    pub(crate) fn new(parts: RestorerParts) -> (Self, Address<RestoreRequest>) {
        let bell = Bell::new();
        let (address, requests) = mailbox(CAPACITY, bell.clone());
        let restorer = Self {
            name: format!("{}-restorer", parts.application),
            metrics: parts.metrics.restorer(&parts.application),
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
                    // The task was rewound again before it was answered. A replay that outlived
                    // its request would move positions under a task that runs.
                    self.jobs.retain(|job| job.blueprint.task != task);
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
            match self.step_job(&mut job, now) {
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

    /// Memory for the rows that one store collects.
    fn bulk_bytes(&self, job: &Job) -> usize {
        let reading =
            |job: &Job| job.stores.iter().flatten().filter(|s| s.stage.is_reading()).count();
        let all = reading(job) + self.jobs.iter().map(reading).sum::<usize>();
        (self.parts.bulk_bytes / all.max(1)).max(BULK_BYTES_MIN)
    }

    fn step_job(&mut self, job: &mut Job, now: Now) -> Result<Progress, RestoreError> {
        let task = job.blueprint.task;
        let bulk_bytes = self.bulk_bytes(job);
        let Some(stores) = &mut job.stores else {
            self.open_stores(&job.blueprint)
                .map_err(|source| RestoreError::State { task, source })?;
            let prepared = self.store_jobs(&job.blueprint);
            job.stores = Some(prepared);
            return Ok(Progress::More);
        };
        let (log, leases) = (&*self.parts.log, &self.parts.leases);
        let turn = Turn {
            log,
            leases,
            bell: &self.bell,
            board: &self.parts.board,
            home: &self.parts.home,
            application: &self.parts.application,
            task,
            now,
            long_restore_bytes: self.parts.long_restore_bytes,
            bulk_bytes,
        };
        let (mut waits, mut more) = (false, false);
        for store in stores.iter_mut() {
            match turn.step(store)? {
                Progress::More => more = true,
                Progress::Waits => waits = true,
                Progress::Finished => {}
            }
        }
        self.metrics.calls.inc();
        Ok(match (more, waits) {
            (true, _) => Progress::More,
            (false, true) => Progress::Waits,
            (false, false) => Progress::Finished,
        })
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
                    None => self.open_database(directory, task, &blueprint.stores)?,
                }
            }
        };
        let leases: Vec<_> = blueprint
            .stores
            .iter()
            .map(|store| self.parts.leases.grant(&store.family, task.partition))
            .collect();
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

    /// A task's database; a damaged one is set aside and restored from its changelogs.
    fn open_database(
        &self,
        directory: &StateDirectory,
        task: TaskId,
        stores: &[StoreBlueprint],
    ) -> Result<Arc<dyn Database>, StateError> {
        let (application, name) = (&self.parts.application, task.to_string());
        let open = || -> Result<_, StateError> {
            let database = directory.task(application, &name)?;
            for store in stores {
                let lease = Leases::new().grant(&store.family, task.partition);
                StorePartition::open(Arc::clone(&database), lease)?;
            }
            Ok(database)
        };
        match open() {
            Err(error) if error.class() == headwater_state::ErrorClass::Damaged => {
                let aside = directory.quarantine(application, &name)?;
                tracing::error!(%task, %error, aside, "damaged state is set aside and restored");
                self.parts.metrics.quarantined(application, &name);
                open()
            }
            opened => opened,
        }
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
                    Some(changelog) => ask(&*self.parts.log, changelog),
                };
                StoreJob {
                    blueprint: store.clone(),
                    database: Arc::clone(&open.database),
                    lease: lease.clone(),
                    stage,
                    metrics,
                    emptied: false,
                    progress: RestoreProgress::default(),
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
        let next = self.work(now);
        self.metrics.active_tasks.set(i64::try_from(self.jobs.len()).unwrap_or(i64::MAX));
        next
    }
}

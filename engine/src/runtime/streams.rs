//! One application in this process: its supervisor, an actor that sets up topics, follows the
//! membership and spreads tasks over stream threads. Owns the lifecycle and the barrier of a
//! revocation; knows no record.
//!
//! ```text
//!   Membership ──Assigned──> Supervisor ──Assign──> StreamThread 0..n ──Open──> Restorer
//!       ^                        │  ^                     │
//!       │                        │  └──── reports ────────┘
//!       └── acknowledge ─────────┘   when every task of a revocation is closed
//! ```
//!
//! Order at start: topics, then every transactional id of the process is initialised, then the
//! membership is asked; so no committed offset is read while an earlier process of ours may still
//! have a transaction open on it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use headwater_state::lease::Leases;

use super::board::Board;
use super::committer::Committer;
use super::lifecycle::StreamsState;
use super::messages::{Command, FromThread, Report, RestoreRequest};
use super::plan::Plan;
use super::restorer::{Restorer, RestorerParts, StateHome};
use super::setup::TopicSetup;
use super::thread::{Limits, StreamThread, ThreadParts};
use super::writer::{StateWriter, WriteJob};
use crate::actor::{Actor, Address, Bell, Full, Mailbox, Next, mailbox};
use crate::config::{ConfigError, StreamsConfig};
use crate::error::ErrorClass;
use crate::log::{Identity, Log, LogResult};
use crate::membership::{Membership, MembershipEvent, TaskSpace};
use crate::metrics::{ApplicationMetrics, Metrics};
use crate::record::TaskId;
use crate::task::TaskSettings;
use crate::time::Now;
use crate::topology::Topology;

/// Answers of the log that ring no bell are looked for this often.
const POLL: Duration = Duration::from_millis(2);
/// The membership is asked at least this often.
const MEMBERSHIP_POLL: Duration = Duration::from_millis(50);
const MAILBOX: usize = 1024;
/// Room for a few batches.
const QUEUE_BYTES_MIN: usize = 64 << 10;
/// More would only be older.
const QUEUE_BYTES_MAX: usize = 4 << 20;

/// Joins the group once the number of tasks is known.
pub type Join = Box<dyn FnOnce(TaskSpace) -> LogResult<Box<dyn Membership>> + Send>;

/// What an application is made of.
pub struct StreamsParts {
    /// What it runs.
    pub topology: Arc<Topology>,
    /// Its settings.
    pub config: StreamsConfig,
    /// Names this process among those of the application; stable over restarts.
    pub instance: String,
    /// The log.
    pub log: Arc<dyn Log>,
    /// Where its stores are.
    pub home: StateHome,
    /// Who may write them. On a log that holds the state, the log's own.
    pub leases: Leases,
    /// Joins its group.
    pub join: Join,
    /// Where it counts.
    pub metrics: Metrics,
    /// Uncommitted bytes of one thread, unless the configuration says otherwise.
    pub overlay_bytes: usize,
    /// Bytes that wait in all input queues together, unless the configuration says how many in one.
    pub queue_bytes: usize,
    /// Creates missing external topics with so many partitions; `None` refuses to start.
    pub create_topics: Option<u32>,
}

impl std::fmt::Debug for StreamsParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamsParts")
            .field("config", &self.config)
            .field("instance", &self.instance)
            .field("log", &self.log.kind())
            .finish_non_exhaustive()
    }
}

/// A handle on an application. Clones are the same.
#[derive(Debug, Clone)]
pub struct Streams {
    application: Arc<str>,
    topology: Arc<Topology>,
    board: Board,
    stop: Arc<AtomicBool>,
    bell: Bell,
}

impl Streams {
    /// Makes an application's handle and actors. Nothing runs until they are stepped: the host gives
    /// each a thread, the simulator steps them all on one.
    ///
    /// # Errors
    /// All mistakes of the configuration at once.
    pub fn build(parts: StreamsParts) -> Result<(Self, Vec<Box<dyn Actor>>), ConfigError> {
        parts.config.validate()?;
        let application: Arc<str> = parts.config.application_id.as_str().into();
        let (board, bell) = (Board::new(), Bell::new());
        let (stop, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (reports, mail) = mailbox(MAILBOX, bell.clone());
        let (writer, jobs) =
            StateWriter::new(&application, parts.leases.clone(), Arc::clone(&ended));
        let (restorer, requests) = Restorer::new(RestorerParts {
            application: Arc::clone(&application),
            log: Arc::clone(&parts.log),
            home: parts.home.clone(),
            leases: parts.leases.clone(),
            board: board.clone(),
            metrics: parts.metrics.clone(),
            ended: Arc::clone(&ended),
        });
        let plan = Arc::new(std::sync::OnceLock::new());
        let shared = Shared { settings: settings(&parts, Arc::clone(&plan)), board, reports };
        let mut threads = Vec::new();
        let mut actors: Vec<Box<dyn Actor>> = Vec::new();
        for number in 0..parts.config.threads {
            let (thread, link) = thread(&parts, number, &shared, &jobs, &requests);
            actors.push(Box::new(thread));
            threads.push(link);
        }
        let board = shared.board;
        let streams = Self {
            application: Arc::clone(&application),
            topology: Arc::clone(&parts.topology),
            board: board.clone(),
            stop: Arc::clone(&stop),
            bell: bell.clone(),
        };
        let bells = vec![writer.bell(), restorer.bell()];
        let metrics = parts.metrics.application(&application);
        let StreamsParts { topology, config, log, join, create_topics, .. } = parts;
        let supervisor = Supervisor {
            name: format!("{application}-supervisor"),
            stage: StageOf::Topics(Box::new(TopicSetup::new(log, topology, config, create_topics))),
            join: Some(join),
            plan,
            membership: None,
            threads,
            reports: mail,
            bell,
            board,
            metrics,
            state: StreamsState::Created,
            stop,
            ended,
            bells,
            tasks: Tasks::default(),
            failed: false,
        };
        actors.insert(0, Box::new(supervisor));
        actors.push(Box::new(restorer));
        actors.push(Box::new(writer));
        Ok((streams, actors))
    }

    /// The application id.
    pub fn application(&self) -> &Arc<str> {
        &self.application
    }

    /// What it runs.
    pub fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    /// Its tasks, stores and state, to be read.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Its lifecycle state.
    pub fn state(&self) -> StreamsState {
        self.board.state()
    }

    /// Asks it to commit everything, close and end. Answers at once; see [`Streams::state`].
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.bell.ring();
    }
}

/// What all threads of an application share.
struct Shared {
    settings: SettingsOf,
    board: Board,
    reports: Address<FromThread>,
}

fn thread(
    parts: &StreamsParts,
    number: usize,
    shared: &Shared,
    jobs: &Address<WriteJob>,
    requests: &Address<RestoreRequest>,
) -> (StreamThread, Link) {
    // Also the transactional id: stable, so that a restart ends at once what was left open.
    let name = format!("{}-{}-{number}", parts.config.application_id, parts.instance);
    let bell = Bell::new();
    let (address, commands) = mailbox(MAILBOX, bell.clone());
    let log = Arc::clone(&parts.log);
    let committer = Committer::new(log, name.as_str(), bell.clone(), jobs.clone());
    let thread = StreamThread::new(ThreadParts {
        number,
        name,
        application: parts.config.application_id.as_str().into(),
        topology: Arc::clone(&parts.topology),
        limits: limits(parts),
        settings: Arc::clone(&shared.settings),
        log: Arc::clone(&parts.log),
        committer,
        bell,
        commands,
        reports: shared.reports.clone(),
        restorer: requests.clone(),
        board: shared.board.clone(),
        metrics: parts.metrics.clone(),
    });
    (thread, Link::new(address))
}

fn limits(parts: &StreamsParts) -> Limits {
    Limits {
        commit_interval: parts.config.commit_interval,
        overlay_bytes: parts.config.overlay_limit.unwrap_or(parts.overlay_bytes),
        records_per_turn: parts.config.records_per_turn,
    }
}

type SettingsOf = Arc<dyn Fn(TaskId) -> TaskSettings + Send + Sync>;

fn settings(parts: &StreamsParts, plan: Arc<std::sync::OnceLock<Arc<Plan>>>) -> SettingsOf {
    let config = parts.config.clone();
    let application: Arc<str> = config.application_id.as_str().into();
    let (metrics, queue_bytes) = (parts.metrics.clone(), parts.queue_bytes);
    let dead_letter_topic: Option<Arc<str>> = config.dead_letter_topic.map(Into::into);
    Arc::new(move |task| TaskSettings {
        application_id: Arc::clone(&application),
        on_error: config.on_error,
        dead_letter_topic: dead_letter_topic.clone(),
        partition_counts: plan.get().map(|plan| Arc::clone(&plan.counts)).unwrap_or_default(),
        queue_bytes: config.queue_bytes.unwrap_or_else(|| {
            let inputs = plan.get().map_or(1, |plan| plan.input_partitions());
            (queue_bytes / inputs.max(1)).clamp(QUEUE_BYTES_MIN, QUEUE_BYTES_MAX)
        }),
        tasks_family: None,
        whole_topology: false,
        metrics: metrics.task(&application, &task.to_string()),
    })
}

/// One thread as the supervisor sees it.
struct Link {
    address: Address<Command>,
    outgoing: VecDeque<Command>,
    /// What it was told last.
    identity: Option<Identity>,
    initialised: bool,
    stopped: bool,
}

impl Link {
    fn new(address: Address<Command>) -> Self {
        let outgoing = VecDeque::new();
        Self { address, outgoing, identity: None, initialised: false, stopped: false }
    }

    /// False if its mailbox is full.
    fn deliver(&mut self) -> bool {
        while let Some(command) = self.outgoing.pop_front() {
            if let Err(Full(command)) = self.address.send(command) {
                self.outgoing.push_front(command);
                return false;
            }
        }
        true
    }
}

enum StageOf {
    Topics(Box<TopicSetup>),
    /// Every transactional id is being initialised.
    Threads,
    Member,
    Stopping,
    Over,
}

/// Who has which task.
#[derive(Debug, Default)]
struct Tasks {
    /// Owned tasks and their threads.
    owner: BTreeMap<TaskId, usize>,
    running: BTreeSet<TaskId>,
    /// Taken away, but not closed by their thread yet.
    closing: BTreeSet<TaskId>,
    /// Given back to us before they were closed: they go to a thread when they are.
    deferred: BTreeSet<TaskId>,
    /// A revocation waits for these to be closed.
    revoked: Option<BTreeSet<TaskId>>,
    /// Where a task was last.
    last: BTreeMap<TaskId, usize>,
}

impl Tasks {
    /// The thread for a new task: where it was, unless that would make the load uneven; else the
    /// least loaded, the first among equals.
    fn place(&self, task: TaskId, threads: usize) -> usize {
        let load = |thread: usize| self.owner.values().filter(|owner| **owner == thread).count();
        let least = (0..threads).min_by_key(|&thread| (load(thread), thread)).unwrap_or(0);
        match self.last.get(&task) {
            Some(&last) if last < threads && load(last) <= load(least) => last,
            _ => least,
        }
    }
}

struct Supervisor {
    name: String,
    stage: StageOf,
    join: Option<Join>,
    plan: Arc<std::sync::OnceLock<Arc<Plan>>>,
    membership: Option<Box<dyn Membership>>,
    threads: Vec<Link>,
    reports: Mailbox<FromThread>,
    bell: Bell,
    board: Board,
    metrics: ApplicationMetrics,
    state: StreamsState,
    stop: Arc<AtomicBool>,
    /// Tells writer and restorer to end when they have nothing left to do.
    ended: Arc<AtomicBool>,
    bells: Vec<Bell>,
    tasks: Tasks,
    failed: bool,
}

impl Actor for Supervisor {
    fn name(&self) -> &str {
        &self.name
    }

    fn bell(&self) -> Bell {
        self.bell.clone()
    }

    fn step(&mut self, now: Now) -> Next {
        if self.state == StreamsState::Created {
            self.become_state(StreamsState::Rebalancing);
        }
        while let Some(FromThread { thread, report }) = self.reports.take() {
            self.hear(thread, report);
        }
        if self.stop.load(Ordering::SeqCst) {
            self.stop_threads(StreamsState::PendingShutdown);
        }
        let next = match &self.stage {
            StageOf::Topics(_) => self.set_up(now),
            StageOf::Threads => self.join_group(),
            StageOf::Member => self.follow(now),
            StageOf::Stopping => self.end_if_stopped(),
            StageOf::Over => return Next::Done,
        };
        let delivered = self.threads.iter_mut().map(Link::deliver).fold(true, |all, one| all & one);
        if delivered { next } else { next.sooner(Next::WakeAt(now.monotonic + POLL)) }
    }
}

impl Supervisor {
    fn become_state(&mut self, next: StreamsState) {
        if self.state == next || !self.state.may_become(next) {
            return;
        }
        tracing::info!(application = self.name, from = %self.state, to = %next, "state");
        self.state = next;
        self.board.set_state(next);
        self.metrics.state.set(next.number());
    }

    fn hear(&mut self, thread: usize, report: Report) {
        match report {
            Report::Initialised => self.threads[thread].initialised = true,
            Report::Running(task) => {
                self.tasks.running.insert(task);
            }
            Report::Closed(task) => self.closed(task),
            Report::Stopped => {
                self.threads[thread].stopped = true;
                self.metrics.alive_threads.dec();
            }
            Report::Failed(why) => {
                self.metrics.failed_threads.inc();
                self.fail(&why);
            }
        }
    }

    fn closed(&mut self, task: TaskId) {
        self.tasks.owner.remove(&task);
        self.tasks.running.remove(&task);
        self.tasks.closing.remove(&task);
        if let Some(revoked) = &mut self.tasks.revoked {
            revoked.remove(&task);
        }
        if self.tasks.deferred.remove(&task) {
            self.assign(vec![task]);
        }
    }

    fn fail(&mut self, why: &str) {
        self.failed = true;
        self.board.fail(why);
        self.stop_threads(StreamsState::PendingError);
    }

    fn stop_threads(&mut self, next: StreamsState) {
        self.become_state(next);
        if !matches!(self.stage, StageOf::Stopping | StageOf::Over) {
            self.stage = StageOf::Stopping;
            for thread in &mut self.threads {
                thread.outgoing.push_back(Command::Stop);
            }
        }
    }

    fn set_up(&mut self, now: Now) -> Next {
        let StageOf::Topics(setup) = &mut self.stage else { return Next::Again };
        match setup.poll(now) {
            Ok(None) => Next::WakeAt(now.monotonic + POLL),
            Ok(Some(plan)) => {
                self.plan.set(Arc::new(plan)).expect("a plan is made once");
                self.stage = StageOf::Threads;
                Next::Again
            }
            Err(why) => {
                self.fail(&why);
                Next::Again
            }
        }
    }

    fn join_group(&mut self) -> Next {
        if !self.threads.iter().all(|thread| thread.initialised) {
            return Next::Wait;
        }
        let plan = self.plan.get().expect("topics are set up");
        let join = self.join.take().expect("a group is joined once");
        match join(plan.space.clone()) {
            Ok(mut membership) => {
                membership.listen(self.bell.clone());
                self.membership = Some(membership);
                let threads = i64::try_from(self.threads.len()).unwrap_or(i64::MAX);
                self.metrics.alive_threads.set(threads);
                self.stage = StageOf::Member;
            }
            Err(error) => self.fail(&error.to_string()),
        }
        Next::Again
    }

    // ---- membership ----------------------------------------------------------------------------

    fn follow(&mut self, now: Now) -> Next {
        if self.tasks.revoked.as_ref().is_some_and(BTreeSet::is_empty) {
            self.tasks.revoked = None;
            self.membership().acknowledge();
        }
        if self.tasks.revoked.is_none() {
            match self.membership().poll(now) {
                Ok(Some(event)) => {
                    self.become_state(StreamsState::Rebalancing);
                    self.handle(event);
                    return Next::Again;
                }
                Ok(None) => {}
                Err(error) if error.class == ErrorClass::Retry => {
                    tracing::warn!(application = self.name, %error, "membership");
                }
                Err(error) => self.fail(&error.to_string()),
            }
        }
        self.spread_identity();
        let waits = self.tasks.revoked.is_some() || !self.tasks.deferred.is_empty();
        if !waits && self.tasks.running.len() == self.tasks.owner.len() {
            self.become_state(StreamsState::Running);
        }
        Next::WakeAt(now.monotonic + MEMBERSHIP_POLL)
    }

    fn membership(&mut self) -> &mut dyn Membership {
        &mut **self.membership.as_mut().expect("a member has a membership")
    }

    fn handle(&mut self, event: MembershipEvent) {
        tracing::info!(application = self.name, ?event, "membership");
        match event {
            MembershipEvent::Assigned { tasks, .. } => self.assign(tasks),
            MembershipEvent::Revoked { tasks, .. } => {
                let owned = self.give_up(&tasks, Command::Revoke);
                self.tasks.revoked = Some(owned);
            }
            MembershipEvent::Lost { tasks, .. } => {
                self.give_up(&tasks, Command::Lost);
            }
        }
    }

    fn assign(&mut self, tasks: Vec<TaskId>) {
        let plan = Arc::clone(self.plan.get().expect("topics are set up"));
        let mut given: BTreeMap<usize, Vec<_>> = BTreeMap::new();
        for task in tasks {
            if self.tasks.closing.contains(&task) {
                self.tasks.deferred.insert(task);
                continue;
            }
            if self.tasks.owner.contains_key(&task) {
                continue;
            }
            let thread = self.tasks.place(task, self.threads.len());
            self.tasks.owner.insert(task, thread);
            self.tasks.last.insert(task, thread);
            given.entry(thread).or_default().push(Arc::new(plan.blueprint(task)));
        }
        for (thread, tasks) in given {
            let Some(identity) = self.membership().identity(tasks[0].task) else {
                // The member is gone already: it will say that the tasks are lost.
                for task in tasks {
                    self.tasks.owner.remove(&task.task);
                }
                continue;
            };
            self.threads[thread].outgoing.push_back(Command::Assign { tasks, identity });
        }
    }

    /// Tells the threads of these tasks; answers which of them are ours.
    fn give_up(
        &mut self,
        tasks: &[TaskId],
        command: fn(Vec<TaskId>) -> Command,
    ) -> BTreeSet<TaskId> {
        let mut by_thread: BTreeMap<usize, Vec<TaskId>> = BTreeMap::new();
        for &task in tasks {
            self.tasks.deferred.remove(&task);
            if let Some(&thread) = self.tasks.owner.get(&task) {
                by_thread.entry(thread).or_default().push(task);
            }
        }
        let owned: BTreeSet<TaskId> = by_thread.values().flatten().copied().collect();
        self.tasks.closing.extend(owned.iter().copied());
        for (thread, tasks) in by_thread {
            self.threads[thread].outgoing.push_back(command(tasks));
        }
        owned
    }

    /// Tells threads under which name their next transactions commit, when it has changed.
    fn spread_identity(&mut self) {
        let mut new: BTreeMap<usize, Identity> = BTreeMap::new();
        let membership = self.membership.as_ref().expect("a member has a membership");
        for (&task, &thread) in &self.tasks.owner {
            if let Some(identity) = membership.identity(task) {
                new.insert(thread, identity);
            }
        }
        for (thread, identity) in new {
            let link = &mut self.threads[thread];
            if link.identity.as_ref() != Some(&identity) {
                link.identity = Some(identity.clone());
                link.outgoing.push_back(Command::Identity(identity));
            }
        }
    }

    // ---- the end -------------------------------------------------------------------------------

    fn end_if_stopped(&mut self) -> Next {
        if !self.threads.iter().all(|thread| thread.stopped) {
            return Next::Wait;
        }
        if let Some(mut membership) = self.membership.take() {
            membership.leave();
        }
        self.become_state(match self.failed {
            true => StreamsState::Error,
            false => StreamsState::NotRunning,
        });
        self.ended.store(true, Ordering::SeqCst);
        self.bells.iter().for_each(Bell::ring);
        self.stage = StageOf::Over;
        Next::Done
    }
}

//! The supervisor of one application: sets up its topics, follows the membership and spreads tasks
//! over stream threads. Owns who has which task, the lifecycle, and the barrier of a revocation;
//! knows no record.
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
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::board::Board;
use super::global::GlobalTables;
use super::lifecycle::StreamsState;
use super::messages::{Command, FromThread, Report};
use super::plan::Plan;
use super::setup::TopicSetup;
use super::streams::Join;
use crate::actor::{Actor, Address, Bell, Full, Mailbox, Next};
use crate::error::ErrorClass;
use crate::log::Identity;
use crate::membership::{Membership, MembershipEvent};
use crate::metrics::ApplicationMetrics;
use crate::record::TaskId;
use crate::time::Now;

/// Answers of the log that ring no bell are looked for this often.
const POLL: Duration = Duration::from_millis(2);
/// The membership is asked at least this often.
const MEMBERSHIP_POLL: Duration = Duration::from_millis(50);
/// A group that does not answer is left without a word after this time.
const LEAVE: Duration = Duration::from_secs(5);

/// One thread as the supervisor sees it.
pub(super) struct Link {
    address: Address<Command>,
    outgoing: VecDeque<Command>,
    /// What it was told last.
    identity: Option<Identity>,
    initialised: bool,
    stopped: bool,
}

impl Link {
    pub(super) fn new(address: Address<Command>) -> Self {
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

enum Stage {
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
    /// The membership's last word was an assignment, be it of nothing.
    assigned: bool,
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

/// What a supervisor is made of.
pub(super) struct SupervisorParts {
    pub(super) application: Arc<str>,
    pub(super) topics: TopicSetup,
    pub(super) join: Join,
    /// Filled in once the topics are there.
    pub(super) plan: Arc<OnceLock<Arc<Plan>>>,
    pub(super) threads: Vec<Link>,
    pub(super) reports: Mailbox<FromThread>,
    pub(super) bell: Bell,
    pub(super) board: Board,
    pub(super) metrics: ApplicationMetrics,
    /// The application is to stop.
    pub(super) stop: Arc<AtomicBool>,
    /// Tells writer and restorer to end when they have nothing left to do; these are their bells.
    pub(super) ended: Arc<AtomicBool>,
    pub(super) bells: Vec<Bell>,
    /// Tasks start once these are ready.
    pub(super) globals: GlobalTables,
}

/// The actor.
pub(super) struct Supervisor {
    name: String,
    stage: Stage,
    join: Option<Join>,
    plan: Arc<OnceLock<Arc<Plan>>>,
    membership: Option<Box<dyn Membership>>,
    threads: Vec<Link>,
    reports: Mailbox<FromThread>,
    bell: Bell,
    board: Board,
    metrics: ApplicationMetrics,
    state: StreamsState,
    stop: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
    bells: Vec<Bell>,
    globals: GlobalTables,
    tasks: Tasks,
    leaving_until: Option<Duration>,
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
            Stage::Topics(_) => self.set_up(now),
            Stage::Threads => self.join_group(),
            Stage::Member => self.follow(now),
            Stage::Stopping => self.end_if_stopped(now),
            Stage::Over => return Next::Done,
        };
        let delivered = self.threads.iter_mut().map(Link::deliver).fold(true, |all, one| all & one);
        if delivered { next } else { next.sooner(Next::WakeAt(now.monotonic + POLL)) }
    }
}

impl Supervisor {
    pub(super) fn new(parts: SupervisorParts) -> Self {
        let SupervisorParts { threads, reports, bell, board, metrics, stop, ended, .. } = parts;
        Self {
            name: format!("{}-supervisor", parts.application),
            stage: Stage::Topics(Box::new(parts.topics)),
            join: Some(parts.join),
            plan: parts.plan,
            membership: None,
            threads,
            reports,
            bell,
            board,
            metrics,
            state: StreamsState::Created,
            stop,
            ended,
            bells: parts.bells,
            globals: parts.globals,
            tasks: Tasks::default(),
            leaving_until: None,
            failed: false,
        }
    }

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
        if !matches!(self.stage, Stage::Stopping | Stage::Over) {
            self.stage = Stage::Stopping;
            for thread in &mut self.threads {
                thread.outgoing.push_back(Command::Stop);
            }
        }
    }

    fn set_up(&mut self, now: Now) -> Next {
        let Stage::Topics(setup) = &mut self.stage else { return Next::Again };
        match setup.poll(now) {
            Ok(None) => Next::WakeAt(now.monotonic + POLL),
            Ok(Some(plan)) => {
                self.plan.set(Arc::new(plan)).expect("a plan is made once");
                self.stage = Stage::Threads;
                Next::Again
            }
            Err(why) => {
                self.fail(&why);
                Next::Again
            }
        }
    }

    fn join_group(&mut self) -> Next {
        if !self.threads.iter().all(|thread| thread.initialised) || !self.globals.is_ready() {
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
                self.stage = Stage::Member;
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
        if !waits && self.tasks.assigned && self.tasks.running.len() == self.tasks.owner.len() {
            self.become_state(StreamsState::Running);
        }
        Next::WakeAt(now.monotonic + MEMBERSHIP_POLL)
    }

    fn membership(&mut self) -> &mut dyn Membership {
        &mut **self.membership.as_mut().expect("a member has a membership")
    }

    fn handle(&mut self, event: MembershipEvent) {
        tracing::info!(application = self.name, ?event, "membership");
        self.tasks.assigned = matches!(event, MembershipEvent::Assigned { .. });
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

    fn end_if_stopped(&mut self, now: Now) -> Next {
        if !self.threads.iter().all(|thread| thread.stopped) {
            return Next::Wait;
        }
        if let Some(membership) = &mut self.membership {
            let until = *self.leaving_until.get_or_insert_with(|| {
                membership.leave();
                now.monotonic + LEAVE
            });
            if !membership.has_left() && now.monotonic < until {
                return Next::WakeAt((now.monotonic + MEMBERSHIP_POLL).min(until));
            }
            self.membership = None;
        }
        self.become_state(match self.failed {
            true => StreamsState::Error,
            false => StreamsState::NotRunning,
        });
        self.ended.store(true, Ordering::SeqCst);
        self.bells.iter().for_each(Bell::ring);
        self.stage = Stage::Over;
        Next::Done
    }
}

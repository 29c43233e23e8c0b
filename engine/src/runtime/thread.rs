//! The stream thread: an actor that runs tasks and commits them together, with one transactional
//! producer. Owns the order of work and the tasks' lifecycles on this thread; knows no operator, no
//! serde and no membership protocol.
//!
//! One iteration, which is one [`step`](Actor::step):
//! 1. **Commands** are taken from the mailbox: assign, revoke, lost, identity, stop.
//! 2. **The committer** does one of its steps. A transaction that is committed releases its tasks'
//!    frozen overlays; one that is lost rewinds every task of the thread.
//! 3. **Tasks move on**: offsets and stores that were asked for may be here. A task is installed, or
//!    comes back from a rewind, only while no transaction is open, so that a transaction holds
//!    only tasks that were assigned when it began.
//! 4. **Fetch**: each input queue with room takes what its reader has. Not taking is the
//!    back-pressure; nothing is ever paused.
//! 5. **Process**: each task in turn, first a different one each time, a bounded number of records.
//!    This goes on while the transaction before is being committed.
//! 6. **Punctuate** by the wall clock what is due.
//! 7. **Begin and send**: when there is something uncommitted and the committer is idle, a transaction
//!    begins, with the identity of this moment; outboxes go into it. While another one is being
//!    committed, they are held back.
//! 8. **Decide to commit**: by interval, by uncommitted bytes, for a revocation, for tasks that wait
//!    to be installed, or to stop.
//! 9. **Close** tasks that were taken away and have nothing uncommitted; say so.
//!
//! The thread never waits for a disk, a broker or a lock that one of them holds: the log answers by
//! tickets, and committed state is written by the state writer.
//!
//! Failures, by class: `Retry` leaves everything as it is and tries again; `Abort`, `Fenced` and
//! unknown results rewind; `Fatal`, and `User` failures that the topology's handler did not take,
//! stop the application and say why. A panic outside user code is the thread's end.

mod latency;
mod offsets;
mod slot;
mod tasks;
mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::board::Board;
use super::committer::{Committer, Event, Phase, TaskShare};
use super::messages::{Command, FromThread, Report, RestoreRequest};
use super::plan::Blueprint;
use crate::actor::{Actor, Address, Bell, Full, Mailbox, Next, Ticket, ticket};
use crate::error::{Classified, ErrorClass};
use crate::log::{Identity, Log, LogError, LogResult};
use crate::metrics::{Metrics, ThreadMetrics};
use crate::record::{TaskId, TopicPartition};
use crate::task::TaskSettings;
use crate::time::Now;
use crate::topology::Topology;

use offsets::OffsetsWanted;
use slot::{Answer, Slot, Stage};
use work::{Failure, RETRY, guarded};

/// Answers of the log that ring no bell are looked for this often.
const POLL: Duration = Duration::from_millis(2);
/// So many transactions in a row may be lost to refused records, each to another.
const REFUSED_MAX: usize = 1_000;

/// What a thread is made of.
pub(crate) struct ThreadParts {
    pub(crate) number: usize,
    pub(crate) name: String,
    pub(crate) application: Arc<str>,
    pub(crate) topology: Arc<Topology>,
    pub(crate) limits: Limits,
    /// Of every task; metrics and family are filled in for each.
    pub(crate) settings: Arc<dyn Fn(TaskId) -> TaskSettings + Send + Sync>,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) committer: Committer,
    pub(crate) bell: Bell,
    pub(crate) commands: Mailbox<Command>,
    pub(crate) reports: Address<FromThread>,
    pub(crate) restorer: Address<RestoreRequest>,
    pub(crate) board: Board,
    pub(crate) metrics: Metrics,
}

/// How much a thread does before it commits or turns to the next task.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) commit_interval: Duration,
    /// Uncommitted bytes of all its tasks.
    pub(crate) overlay_bytes: usize,
    pub(crate) records_per_turn: usize,
    pub(crate) purge_interval: Duration,
}

/// The actor. See the [module](self).
pub(crate) struct StreamThread {
    parts: ThreadParts,
    metrics: ThreadMetrics,
    slots: Vec<Slot>,
    identity: Option<Identity>,
    /// What the board says of the committer.
    shown: Option<Phase>,
    /// The task whose turn is first.
    turn: usize,
    /// When the last commit was decided.
    committed_at: Duration,
    rewind_wanted: bool,
    /// Transactions lost to refused records since the last commit.
    refused_in_a_row: usize,
    initialised: bool,
    stopping: bool,
    failed: bool,
    outgoing: VecDeque<Report>,
    requests: VecDeque<RestoreRequest>,
    purge: BTreeMap<TopicPartition, i64>,
    purged_at: Duration,
    purging: Option<Ticket<LogResult<()>>>,
}

impl std::fmt::Debug for StreamThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamThread")
            .field("name", &self.parts.name)
            .field("tasks", &self.slots.iter().map(|s| (s.id(), s.state())).collect::<Vec<_>>())
            .field("committer", &self.parts.committer)
            .finish_non_exhaustive()
    }
}

impl Actor for StreamThread {
    fn name(&self) -> &str {
        &self.parts.name
    }

    fn bell(&self) -> Bell {
        self.parts.bell.clone()
    }

    fn step(&mut self, now: Now) -> Next {
        self.take_commands();
        let mut next = self.step_committer(now);
        if !self.failed {
            next = next.sooner(self.move_tasks(now));
            next = next.sooner(self.fetch(now));
            next = next.sooner(self.process(now));
            next = next.sooner(self.punctuate(now));
            self.begin_and_send(now);
            next = next.sooner(self.decide(now));
        }
        self.purge(now);
        self.close_tasks();
        if self.is_over() {
            self.say(Report::Stopped);
        }
        self.show_phase();
        match self.deliver(now) {
            Next::Done => Next::Done,
            delivered => next.sooner(delivered),
        }
    }
}

impl StreamThread {
    pub(crate) fn new(parts: ThreadParts) -> Self {
        let metrics = parts.metrics.thread(&parts.application, &parts.name);
        Self {
            parts,
            metrics,
            slots: Vec::new(),
            identity: None,
            shown: None,
            turn: 0,
            committed_at: Duration::ZERO,
            rewind_wanted: false,
            refused_in_a_row: 0,
            initialised: false,
            stopping: false,
            failed: false,
            outgoing: VecDeque::new(),
            requests: VecDeque::new(),
            purge: BTreeMap::new(),
            purged_at: Duration::ZERO,
            purging: None,
        }
    }

    // ---- 1: commands ---------------------------------------------------------------------------

    fn take_commands(&mut self) {
        while let Some(command) = self.parts.commands.take() {
            match command {
                Command::Assign { tasks, identity } => {
                    self.identity = Some(identity);
                    tasks.into_iter().for_each(|task| self.open(task));
                }
                Command::Identity(identity) => self.identity = Some(identity),
                Command::Revoke(tasks) => {
                    for slot in self.slots.iter_mut().filter(|s| tasks.contains(&s.id())) {
                        slot.closing = true;
                    }
                }
                Command::Lost(tasks) => self.lose_tasks(&tasks),
                Command::Stop => {
                    self.stopping = true;
                    self.slots.iter_mut().for_each(|slot| slot.closing = true);
                }
            }
        }
    }

    fn open(&mut self, blueprint: Arc<Blueprint>) {
        let task = blueprint.task;
        if self.stopping || self.failed {
            return self.say(Report::Closed(task));
        }
        assert!(self.slots.iter().all(|slot| slot.id() != task), "task {task} is here already");
        let (promise, stores) = ticket(self.parts.bell.clone());
        self.requests.push_back(RestoreRequest::Open { task: Arc::clone(&blueprint), promise });
        let offsets = OffsetsWanted::new(blueprint.inputs.clone());
        let stage = Stage::Opening { stores: Answer::Waits(stores), offsets };
        self.slots.push(Slot { blueprint, stage, closing: false });
        self.slots.sort_by_key(Slot::id);
        self.show(task);
    }

    /// Tasks that another member may run already: nothing of them is committed here.
    fn lose_tasks(&mut self, tasks: &[TaskId]) {
        let committer = &mut self.parts.committer;
        if committer.is_open() && tasks.iter().any(|task| committer.members().contains(task)) {
            committer.abandon();
            self.rewind_wanted = true;
        }
        let (lost, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.slots).into_iter().partition(|s| tasks.contains(&s.id()));
        self.slots = kept;
        lost.into_iter().for_each(|slot| self.close(slot));
    }

    // ---- 2: the committer ----------------------------------------------------------------------

    fn step_committer(&mut self, now: Now) -> Next {
        let sealed = self.committed_at;
        let (event, next) = self.parts.committer.step(now);
        if let Some(event) = event {
            self.ended(event, sealed, now);
        }
        if self.parts.committer.is_idle() && !std::mem::replace(&mut self.initialised, true) {
            self.say(Report::Initialised);
        }
        next
    }

    fn ended(&mut self, event: Event, sealed: Duration, now: Now) {
        match event {
            Event::Committed { tasks, ends } => {
                self.refused_in_a_row = 0;
                self.metrics.commit_total.inc();
                let latency = now.monotonic.saturating_sub(sealed);
                self.metrics.commit_latency.observe(latency.as_secs_f64());
                for (id, offsets) in tasks {
                    let Some(slot) = self.slots.iter_mut().find(|s| s.id() == id) else { continue };
                    let Some(running) = slot.running_mut() else { continue };
                    running.task.commit_done(&ends);
                    let moved = offsets.iter().map(|(p, o)| (p, o.next_offset));
                    self.parts.board.committed(id, moved.clone());
                    let purged = &slot.blueprint.purged;
                    let purge = moved.filter(|(p, _)| purged.contains(*p));
                    self.purge.extend(purge.map(|(p, o)| (p.clone(), o)));
                }
            }
            Event::Lost(error) => {
                tracing::warn!(thread = self.parts.name, %error, "transaction lost, tasks rewind");
                self.rewind_wanted = true;
            }
            Event::Refused(error) => self.refused(&error),
            Event::Fatal(error) => self.fail(&error.to_string()),
        }
    }

    /// The tasks do their work again and, knowing the record, dead-letter its cause.
    fn refused(&mut self, error: &LogError) {
        self.refused_in_a_row += 1;
        let mut remembered = false;
        if let (Some(to), Some(print)) = (&error.place, error.refused) {
            for running in self.slots.iter_mut().filter_map(Slot::running_mut) {
                remembered |= running.task.remember_refusal(&to.topic, print, &error.message);
            }
        }
        if remembered && self.refused_in_a_row <= REFUSED_MAX {
            tracing::warn!(thread = self.parts.name, %error, "record refused, its cause is looked for");
            self.rewind_wanted = true;
            return;
        }
        self.fail(&format!(
            "the log refuses an output, and its cause cannot be set aside: {error}; raise the \
             topic's limit or make the record smaller"
        ));
    }

    // ---- 7 and 8: begin, send, decide ----------------------------------------------------------

    fn begin_and_send(&mut self, now: Now) {
        if self.failed || self.rewind_wanted {
            return;
        }
        if self.parts.committer.is_idle() && self.slots.iter().any(Slot::needs_commit) {
            let Some(identity) = self.identity.clone() else { return };
            // A task that is given up and has nothing to commit stays out: under load there would
            // be a transaction of the others at any moment, and it would never be closed.
            let running = self.slots.iter().filter(|slot| slot.running().is_some());
            let members = running.filter(|slot| !slot.closing || slot.needs_commit());
            let members: BTreeSet<TaskId> = members.map(Slot::id).collect();
            if let Some(event) = self.parts.committer.begin(identity, members, now) {
                let sealed = self.committed_at;
                return self.ended(event, sealed, now);
            }
        }
        if self.parts.committer.is_open() {
            for slot in &mut self.slots {
                let Some(running) = slot.running_mut() else { continue };
                let records = running.task.take_outbox();
                self.metrics.sent_batches.inc_by(u64::try_from(records.len()).unwrap_or(0));
                self.parts.committer.send(records);
            }
        }
    }

    fn decide(&mut self, now: Now) -> Next {
        if self.failed {
            return Next::Wait;
        }
        let uncommitted = self.uncommitted_bytes();
        self.metrics.uncommitted_bytes.set(i64::try_from(uncommitted).unwrap_or(i64::MAX));
        if !self.parts.committer.is_open() {
            return Next::Wait;
        }
        let due = self.committed_at + self.parts.limits.commit_interval;
        let now_due = now.monotonic >= due
            || uncommitted >= self.parts.limits.overlay_bytes
            || self.slots.iter().any(|slot| slot.closing || slot.is_ready());
        if !now_due {
            return Next::WakeAt(due);
        }
        self.commit(now)
    }

    fn commit(&mut self, now: Now) -> Next {
        let holds_state = self.parts.log.holds_state();
        let mut shares = Vec::new();
        for at in 0..self.slots.len() {
            let id = self.slots[at].id();
            let Some(running) = self.slots[at].running_mut() else { continue };
            if !running.task.needs_commit() {
                continue;
            }
            match guarded(|| running.task.prepare_commit(holds_state)) {
                Ok(commit) => {
                    let database = Arc::clone(&running.database);
                    shares.push(TaskShare { task: id, commit, database });
                }
                Err(Failure::Task(error)) if error.class() == ErrorClass::Retry => {
                    // Some tasks may have frozen already: their transaction cannot be taken back.
                    tracing::warn!(%error, "commit cannot be prepared, tasks rewind");
                    self.parts.committer.abandon();
                    self.rewind_wanted = true;
                    return Next::WakeAt(now.monotonic + RETRY);
                }
                Err(error) => return self.task_failed(&error, now),
            }
        }
        self.committed_at = now.monotonic;
        self.parts.committer.commit(shares);
        Next::Again
    }

    fn purge(&mut self, now: Now) {
        let due = self.purged_at + self.parts.limits.purge_interval;
        if self.purge.is_empty() || now.monotonic < due {
            return;
        }
        self.purged_at = now.monotonic;
        let before = std::mem::take(&mut self.purge).into_iter().collect();
        // What fails is asked again with the next commit's offsets.
        self.purging = Some(self.parts.log.delete_records(before));
    }

    // ---- the end -------------------------------------------------------------------------------

    /// Everything is closed and no transaction is left behind open.
    fn is_over(&self) -> bool {
        let phase = self.parts.committer.phase();
        let settled =
            matches!(phase, Phase::Absent | Phase::Initialising | Phase::Idle | Phase::Dead);
        (self.stopping || self.failed) && self.slots.is_empty() && settled
    }

    fn fail(&mut self, why: &str) {
        if !std::mem::replace(&mut self.failed, true) {
            tracing::error!(thread = self.parts.name, why, "stream thread failed");
            self.parts.committer.abandon();
            self.say(Report::Failed(why.to_owned()));
        }
    }

    // ---- talking -------------------------------------------------------------------------------

    fn say(&mut self, report: Report) {
        if self.outgoing.back() != Some(&report) {
            self.outgoing.push_back(report);
        }
    }

    fn show(&self, task: TaskId) {
        if let Some(slot) = self.slots.iter().find(|slot| slot.id() == task) {
            self.parts.board.task(task, self.parts.number, slot.state());
        }
    }

    fn show_phase(&mut self) {
        let phase = self.parts.committer.phase();
        if self.shown.replace(phase) != Some(phase) {
            self.parts.board.phase(self.parts.number, phase);
        }
    }

    /// Hands over what is to be said. The last word is `Stopped`.
    fn deliver(&mut self, now: Now) -> Next {
        while let Some(request) = self.requests.pop_front() {
            if let Err(Full(request)) = self.parts.restorer.send(request) {
                self.requests.push_front(request);
                return Next::WakeAt(now.monotonic + POLL);
            }
        }
        while let Some(report) = self.outgoing.pop_front() {
            let last = report == Report::Stopped;
            let message = FromThread { thread: self.parts.number, report };
            if let Err(Full(message)) = self.parts.reports.send(message) {
                self.outgoing.push_front(message.report);
                return Next::WakeAt(now.monotonic + POLL);
            }
            if last {
                return Next::Done;
            }
        }
        Next::Wait
    }
}

/// The error with its sources.
fn chain(error: &dyn std::error::Error) -> String {
    let mut shown = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        shown.push_str(": ");
        shown.push_str(&error.to_string());
        source = error.source();
    }
    shown
}

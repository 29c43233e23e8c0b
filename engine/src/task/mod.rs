//! Tasks: one partition's share of a subtopology. Single-threaded and without I/O: bytes in, outbox
//! out. Owns queues, the order of records, savepoints, the handler of failures, punctuation and what
//! a commit consists of. Knows no log, no thread and no membership.

mod audit;
mod commit;
mod dead_letter;
mod error;
mod queue;
mod refused;
mod timers;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use headwater_state::commit::StoreCommit;
use headwater_state::database::Family;
use headwater_state::positions::TaskPositions;
use headwater_state::store::StorePartition;

pub use audit::{Audited, application_hash};
pub use commit::{
    TaskCommit, changelog_topic, positions_of_offsets, set_changelog_ends, store_family,
};
pub use dead_letter::dead_letter_topic;
pub use error::TaskError;

use crate::config::OnError;
use crate::metrics::TaskMetrics;
use crate::processor::drops::{DropReason, Dropped};
use crate::processor::error::{Failure, NodeError};
use crate::processor::node::{NodeInit, Slot, with_node};
use crate::processor::punctuation::{
    Punctuated, Punctuation, PunctuationId, PunctuationType, Schedule,
};
use crate::processor::state::TaskState;
use crate::record::batch::RecordBatch;
use crate::record::fetched::Fetched;
use crate::record::stamp::STAMP_BYTES_MAX;
use crate::record::{Headers, Place, TaskId, TopicPartition};
use crate::store::{GlobalRows, StateStore, Stores};
use crate::time::{NO_TIMESTAMP, Now};
use crate::topology::Topology;
use audit::Stamper;
use queue::PartitionQueue;

/// What a task is told by the runtime.
#[derive(Debug, Clone)]
pub struct TaskSettings {
    /// The application id.
    pub application_id: Arc<str>,
    /// What happens to failing records.
    pub on_error: OnError,
    /// One dead letter topic for all; else one for each topic.
    pub dead_letter_topic: Option<Arc<str>>,
    /// How many partitions each output and dead letter topic has; a topic that is missing has one.
    pub partition_counts: Arc<BTreeMap<Arc<str>, u32>>,
    /// Bytes of records that wait in one queue before the reader is left alone.
    pub queue_bytes: usize,
    /// The largest record the log takes, encoded; a larger output is its record's failure.
    pub record_bytes_max: Option<usize>,
    /// Stamp every output, so that [`audit`](crate::record::stamp) can judge it.
    pub audit: bool,
    /// Where the task's own row lies, on a log that holds the state.
    pub tasks_family: Option<Family>,
    /// Run the whole topology in this one task (the test driver), not one subtopology.
    pub whole_topology: bool,
    /// The rows of the topology's global tables, by their number.
    pub globals: Arc<[GlobalRows]>,
    /// Counters.
    pub metrics: TaskMetrics,
}

/// One task.
pub struct StreamTask {
    id: TaskId,
    topology: Arc<Topology>,
    settings: TaskSettings,
    inputs: Vec<TopicPartition>,
    queues: Vec<PartitionQueue>,
    slots: Vec<Slot>,
    state: TaskState,
    stamper: Option<Stamper>,
    pending: Vec<(usize, StoreCommit)>,
    turns: u64,
    committed: BTreeMap<usize, i64>,
    dirty: bool,
}

impl std::fmt::Debug for StreamTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StreamTask({})", self.id)
    }
}

impl StreamTask {
    /// Makes a task of its store-partitions, as they were committed, and where it stood then.
    ///
    /// # Errors
    /// `State` when a store cannot be opened, `User` when a processor's `init` fails.
    pub fn new(
        topology: &Arc<Topology>,
        id: TaskId,
        stores: Vec<(usize, StorePartition)>,
        from: &TaskPositions,
        settings: TaskSettings,
        now: Now,
    ) -> Result<Self, TaskError> {
        let mut slots: Vec<Option<Box<dyn StateStore>>> = Vec::new();
        slots.resize_with(topology.stores().len(), || None);
        for (index, partition) in stores {
            let opened = topology.stores()[index].open(partition);
            slots[index] = Some(opened.map_err(|e| failed(id, None, e))?);
        }
        let mut state = TaskState::new(
            Stores::new(slots),
            id.partition,
            settings.on_error,
            Arc::clone(&settings.partition_counts),
        );
        state.globals = Arc::clone(&settings.globals);
        let stamper = settings.audit.then(|| Stamper::new(topology, &settings.application_id, id));
        let mut task = Self {
            id,
            topology: Arc::clone(topology),
            settings,
            inputs: Vec::new(),
            queues: Vec::new(),
            slots: Vec::new(),
            state,
            stamper,
            pending: Vec::new(),
            turns: 0,
            committed: BTreeMap::new(),
            dirty: false,
        };
        task.build(from, now)?;
        Ok(task)
    }

    /// Makes nodes anew and sets clocks, schedules and positions to what was committed.
    fn build(&mut self, from: &TaskPositions, now: Now) -> Result<(), TaskError> {
        let subtopology = (!self.settings.whole_topology).then_some(self.id.subtopology);
        let arena = self.topology.instantiate(subtopology, &self.settings.application_id);
        let partition = self.id.partition;
        self.inputs = arena
            .sources
            .iter()
            .map(|(t, _)| TopicPartition::new(Arc::clone(t), partition))
            .collect();
        self.queues = self
            .inputs
            .iter()
            .zip(&arena.sources)
            .map(|(input, (_, node))| PartitionQueue::new(input.clone(), *node))
            .collect();
        self.slots = arena.slots;
        self.state.reset(now.wall_ms);
        let stamp_bytes = if self.stamper.is_some() { STAMP_BYTES_MAX } else { 0 };
        let record_bytes = self.settings.record_bytes_max;
        self.state.outbox.limit_records(record_bytes.map(|max| max.saturating_sub(stamp_bytes)));
        if let Some(stamper) = &mut self.stamper {
            stamper.restore(from, now);
        }
        for (node, slot) in self.slots.iter_mut().enumerate() {
            let ctx = &mut NodeInit { task: &mut self.state, name: &slot.name, node };
            slot.node.lifecycle().init(ctx).map_err(|e| failed(self.id, None, e))?;
        }
        self.check_timers()?;
        self.restore(from);
        Ok(())
    }

    fn restore(&mut self, from: &TaskPositions) {
        self.committed.clear();
        let mut stream_time = NO_TIMESTAMP;
        for (at, queue) in self.queues.iter_mut().enumerate() {
            let place = (queue.partition().topic.to_string(), queue.partition().partition);
            let position = from.inputs.get(&place);
            let time = position.and_then(|p| p.time_ms).unwrap_or(NO_TIMESTAMP);
            let offset = position.map_or(0, |p| p.next_offset);
            queue.reset(offset, time);
            if position.is_some() {
                self.committed.insert(at, offset);
            }
            stream_time = stream_time.max(time);
        }
        self.state.stream_time = stream_time;
        let lookup = |times: &BTreeMap<String, i64>, name: &str| {
            times.get(name).or_else(|| times.get(&commit::short_name(name))).copied()
        };
        self.state.restore_clocks(|name| lookup(&from.clocks, name));
        for schedule in &mut self.state.schedules {
            if schedule.kind == PunctuationType::StreamTime
                && let Some(next) = lookup(&from.schedules, &schedule.name)
            {
                schedule.next = next;
            }
        }
        self.dirty = false;
    }

    /// The task's id.
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// The partitions it reads. An input's number is its index here.
    pub fn inputs(&self) -> &[TopicPartition] {
        &self.inputs
    }

    /// Where the reader of an input starts: `None` where nothing was ever committed.
    pub fn committed_offset(&self, input: usize) -> Option<i64> {
        self.committed.get(&input).copied()
    }

    /// Sets where an input without a committed offset begins (the log's first offset).
    pub fn begin_at(&mut self, input: usize, offset: i64) {
        let time = self.queues[input].partition_time;
        self.queues[input].reset(offset, time);
    }

    /// The next offset of an input to process.
    pub fn next_offset(&self, input: usize) -> i64 {
        self.queues[input].next_offset()
    }

    /// Puts what was fetched into an input's queue.
    pub fn enqueue(&mut self, input: usize, fetched: Fetched, now: Now) {
        self.turns += 1;
        self.queues[input].push(fetched, now.monotonic, self.turns);
    }

    /// Bytes of room left in an input's queue; the reader is left alone at 0.
    pub fn wants(&self, input: usize) -> usize {
        self.settings.queue_bytes.saturating_sub(self.queues[input].bytes())
    }

    /// Records wait in some queue.
    pub fn has_records(&self) -> bool {
        self.queues.iter().any(|q| !q.is_empty())
    }

    /// Since when the record that is next has waited.
    pub fn waiting_since(&self) -> Option<Duration> {
        self.queues.iter().filter_map(PartitionQueue::head_since).min()
    }

    /// Processes up to `max_records`, smallest timestamp of the queues' heads first, each with its
    /// due stream-time punctuations and timers. Waits (processes nothing) while an input's queue is
    /// empty and its log may have more. Gives how many records, or pieces of a punctuation, it
    /// processed.
    ///
    /// # Errors
    /// As the classes say; the task must then be rewound or closed.
    pub fn process(&mut self, now: Now, max_records: usize) -> Result<usize, TaskError> {
        self.state.wall_ms = now.wall_ms;
        for done in 0..max_records {
            if !self.punctuate(PunctuationType::StreamTime)? {
                return Ok(done + 1);
            }
            let Some(input) = self.next_input()? else {
                let again = self.has_due_timers(PunctuationType::StreamTime);
                return Ok(done + usize::from(again));
            };
            self.process_head(input)?;
        }
        self.punctuate(PunctuationType::StreamTime)?;
        Ok(max_records)
    }

    /// The queue whose head is next.
    fn next_input(&mut self) -> Result<Option<usize>, TaskError> {
        if self.queues.iter().any(PartitionQueue::is_waiting_for_fetch) {
            return Ok(None);
        }
        let mut next: Option<(i64, u64, usize)> = None;
        for (input, queue) in self.queues.iter_mut().enumerate() {
            if queue.head_time.is_none() {
                let Some(raw) = queue.peek().map_err(|e| damaged(self.id, queue, &e))? else {
                    continue;
                };
                let source = self.slots[queue.node].node.source().expect("queues feed sources");
                let time = source.timestamp(&raw, queue.partition_time);
                queue.head_time = Some(time.map_err(|e| e.to_string()));
            }
            let time = match &queue.head_time {
                Some(Ok(time)) => *time,
                _ => queue.partition_time,
            };
            let candidate = (time, queue.turn, input);
            next = Some(next.map_or(candidate, |best| best.min(candidate)));
        }
        Ok(next.map(|(_, _, input)| input))
    }

    fn process_head(&mut self, input: usize) -> Result<(), TaskError> {
        let queue = &mut self.queues[input];
        let raw = queue.peek().map_err(|e| damaged(self.id, queue, &e))?;
        let raw = raw.expect("the queue whose head is next has a head");
        let offset = raw.offset;
        let place = Place { partition: queue.partition().clone(), offset };
        let time = queue.head_time.clone().expect("the head's time was asked for");
        self.state.place = Some(place);
        self.state.savepoint();
        self.state.running = queue.node;
        let mut decoded = None;
        let headers = match raw.headers.is_empty() {
            true => Ok(Headers::empty()),
            false => raw.headers.decode().map(|h| &*decoded.insert(h)),
        };
        let outcome = match (headers, &time) {
            (Err(error), _) => Err(NodeError::message(format!("headers cannot be read: {error}"))),
            (_, Err(message)) => Err(NodeError::message(message.clone())),
            (Ok(headers), Ok(time)) => {
                self.state.stream_time = self.state.stream_time.max(*time);
                let (slots, state) = (&mut self.slots, &mut self.state);
                let run = || {
                    with_node(slots, state, queue.node, |node, ctx| {
                        let source = node.source().expect("queues feed sources");
                        source.receive(&raw, *time, headers, ctx)
                    })
                };
                catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|p| Err(panic_message(&*p)))
            }
        };
        let time = time.unwrap_or(queue.partition_time);
        let failed = match outcome {
            Err(error) => Some(self.failure(error)?),
            Ok(()) => match self.check_rows() {
                Ok(()) => None,
                Err(error) => {
                    let dropped = self.failure(error)?;
                    // Whatever the handler says, the row cannot stay.
                    self.state.undo();
                    Some(dropped)
                }
            },
        };
        self.settle(input, failed)?;
        let queue = &mut self.queues[input];
        queue.partition_time = queue.partition_time.max(time);
        self.turns += 1;
        queue.turn = self.turns;
        queue.advance(offset).map_err(|e| TaskError::Damaged {
            task: self.id,
            partition: self.inputs[input].clone(),
            offset,
            message: e.to_string(),
        })?;
        self.state.place = None;
        self.dirty = true;
        self.settings.metrics.process_total.inc();
        Ok(())
    }

    /// What the handler makes of a failure: an error that ends the task, or the record's drop.
    fn failure(&mut self, error: NodeError) -> Result<Dropped, TaskError> {
        let (node, message) = match *error.0 {
            Failure::State(source) => return Err(TaskError::State { task: self.id, source }),
            Failure::Reported { node, source } => (node, source.to_string()),
            Failure::User(source) => (self.running(), source.to_string()),
        };
        let dead_letter = match self.settings.on_error {
            OnError::Fail => {
                let message = format!("node `{node}`: {message}");
                let place = self.state.place.clone();
                return Err(TaskError::User { task: self.id, place, message });
            }
            OnError::DropHere => false,
            OnError::UndoRecord => true,
        };
        if dead_letter {
            self.state.undo();
            self.state.drops.clear();
        }
        Ok(Dropped { node, reason: DropReason::Failed, detail: message, dead_letter })
    }

    /// The name of the node that runs, or ran last.
    fn running(&self) -> Arc<str> {
        Arc::clone(&self.slots[self.state.running].name)
    }

    /// Counts and logs what was dropped while the head was processed, and writes dead letters.
    fn settle(&mut self, input: usize, failed: Option<Dropped>) -> Result<(), TaskError> {
        if failed.is_none() && self.state.drops.is_empty() {
            return Ok(());
        }
        let mut drops = std::mem::take(&mut self.state.drops);
        drops.extend(failed);
        let mut dead = None;
        for drop in &drops {
            let place = self.state.place.as_ref();
            let Some(place) = place else { continue };
            let (reason, node, detail) = (drop.reason.as_str(), &*drop.node, &drop.detail);
            self.settings.metrics.dropped(reason, 1);
            if drop.reason == DropReason::Failed {
                tracing::warn!(task = %self.id, %place, node, detail, "record failed");
            } else {
                tracing::debug!(task = %self.id, %place, node, reason, detail, "record dropped");
            }
            if drop.dead_letter && dead.is_none() {
                dead = Some(drop);
            }
        }
        match dead {
            Some(drop) => self.dead_letter(input, drop),
            None => Ok(()),
        }
    }

    /// Runs due wall-clock punctuations, then timers. False if there is more to do: call again, a
    /// commit may fall between.
    ///
    /// # Errors
    /// As [`process`](Self::process).
    pub fn punctuate_wall(&mut self, now: Now) -> Result<bool, TaskError> {
        self.state.wall_ms = now.wall_ms;
        self.punctuate(PunctuationType::WallClockTime)
    }

    /// When [`punctuate_wall`](Self::punctuate_wall) next has something to do, at the earliest, in
    /// wall-clock milliseconds.
    pub fn next_wall_punctuation(&self) -> Option<i64> {
        let wall = |s: &&Schedule| s.kind == PunctuationType::WallClockTime && !s.cancelled;
        let schedules = self.state.schedules.iter().filter(wall).map(|s| s.next);
        schedules.chain(self.next_wall_timer()).min()
    }

    fn punctuate(&mut self, kind: PunctuationType) -> Result<bool, TaskError> {
        let clock = self.clock(kind);
        let mut finished = true;
        for at in 0..self.state.schedules.len() {
            if !self.state.schedules[at].is_due(kind, clock) {
                continue;
            }
            let cursor = self.state.schedules[at].cursor.take();
            let node = self.state.schedules[at].node;
            let (slots, state) = (&mut self.slots, &mut self.state);
            let run = || {
                with_node(slots, state, node, |node, ctx| {
                    let id = PunctuationId(at);
                    let due = Punctuation { id, time: clock, cursor: cursor.as_deref() };
                    node.lifecycle().punctuate(due, ctx)
                })
            };
            self.dirty = true;
            let outcome =
                catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|p| Err(panic_message(&*p)));
            let outcome = outcome.map_err(|e| e.at(&self.running()));
            match outcome.map_err(|e| failed(self.id, None, e))? {
                Punctuated::Done => self.state.schedules[at].advance(clock),
                Punctuated::More(cursor) => {
                    self.state.schedules[at].cursor = Some(cursor);
                    finished = false;
                }
            }
        }
        finished &= self.fire_timers(kind)?;
        self.state.drops.clear();
        self.settle_refused()?;
        Ok(finished)
    }

    /// Forwards what caches hold back, store by store in topology order.
    ///
    /// # Errors
    /// As [`process`](Self::process).
    pub fn flush(&mut self) -> Result<(), TaskError> {
        for at in 0..self.slots.len() {
            let flushed = with_node(&mut self.slots, &mut self.state, at, |node, ctx| {
                node.lifecycle().flush(ctx)
            });
            flushed.map_err(|e| failed(self.id, None, e))?;
        }
        self.settle_refused()
    }

    /// Takes what the sinks wrote, for the producer: into the transaction that the next
    /// [`prepare_commit`](Self::prepare_commit) ends.
    pub fn take_outbox(&mut self) -> Vec<(TopicPartition, RecordBatch)> {
        let records = self.state.outbox.take();
        match &mut self.stamper {
            Some(stamper) => stamper.stamp(records),
            None => records,
        }
    }

    /// Bytes of state and output that are not committed.
    pub fn uncommitted_bytes(&self) -> usize {
        self.state.stores.uncommitted_bytes() + self.state.outbox.bytes()
    }

    /// Something happened since the last commit.
    pub fn needs_commit(&self) -> bool {
        let moved = |(at, q): (usize, &PartitionQueue)| {
            self.committed.get(&at).is_some_and(|c| *c < q.next_offset())
        };
        self.dirty || self.queues.iter().enumerate().any(moved)
    }

    /// Forgets everything uncommitted, also a commit under way: overlays, outbox, queues; makes the
    /// processors anew; clocks, schedules and positions are those given. The readers must seek to
    /// [`next_offset`](Self::next_offset).
    ///
    /// # Errors
    /// `State` when positions cannot be read back.
    pub fn rewind(&mut self, from: &TaskPositions, now: Now) -> Result<(), TaskError> {
        self.pending.clear();
        self.state.stores.rewind().map_err(|e| failed(self.id, None, e))?;
        self.build(from, now)
    }

    /// A store as this task sees it, uncommitted writes included, by the topology's numbering.
    ///
    /// # Panics
    /// The task does not have the store.
    pub fn store(&self, index: usize) -> &dyn StateStore {
        let found = self.state.stores.indexed().find(|(at, _)| *at == index);
        found.expect("the task has the store").1
    }

    /// Task stream time: the greatest timestamp processed, -1 before the first.
    pub fn stream_time(&self) -> i64 {
        self.state.stream_time
    }

    /// Closes the task and gives its store-partitions back, with whatever is uncommitted dropped.
    pub fn close(self) -> Vec<Box<dyn StateStore>> {
        self.state.stores.into_partitions()
    }
}

fn damaged(task: TaskId, queue: &PartitionQueue, error: &crate::record::BatchError) -> TaskError {
    TaskError::Damaged {
        task,
        partition: queue.partition().clone(),
        offset: queue.next_offset(),
        message: error.to_string(),
    }
}

fn failed(task: TaskId, place: Option<Place>, error: NodeError) -> TaskError {
    match *error.0 {
        Failure::State(source) => TaskError::State { task, source },
        Failure::User(source) => TaskError::User { task, place, message: source.to_string() },
        Failure::Reported { node, source } => {
            TaskError::User { task, place, message: format!("node `{node}`: {source}") }
        }
    }
}

#[cold]
fn panic_message(panic: &(dyn std::any::Any + Send)) -> NodeError {
    let text = panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".into());
    NodeError::message(format!("user code panicked: {text}"))
}

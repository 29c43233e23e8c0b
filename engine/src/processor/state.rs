//! What the nodes of one task share while a record runs through them: stores, outbox, clocks,
//! schedules and the record's place. Owns savepoint and undo over all of it; knows no queue, no
//! committed offset and no log.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cache::CacheLane;
use super::drops::{DropReason, Dropped, RefusedOutput};
use super::error::{Failure, NodeError};
use super::outbox::Outbox;
use super::punctuation::Schedule;
use super::timers::TimerLane;
use crate::config::OnError;
use crate::record::Place;
use crate::store::{GlobalRows, Stores};
use crate::time::NO_TIMESTAMP;

/// One operator's own clock: the largest timestamp that reached it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ClockId(usize);

/// The task as its nodes see it.
pub(crate) struct TaskState {
    pub(crate) stores: Stores,
    /// The rows of the topology's global tables.
    pub(crate) globals: Arc<[GlobalRows]>,
    pub(crate) outbox: Outbox,
    pub(crate) partition: u32,
    pub(crate) stream_time: i64,
    pub(crate) wall_ms: i64,
    pub(crate) on_error: OnError,
    pub(crate) schedules: Vec<Schedule>,
    pub(crate) timers: Vec<TimerLane>,
    pub(crate) place: Option<Place>,
    /// The node that runs, for the message of a panic.
    pub(crate) running: usize,
    pub(crate) drops: Vec<Dropped>,
    /// Outputs that were refused while no record was being processed.
    pub(crate) refused: Vec<RefusedOutput>,
    pub(crate) partition_counts: PartitionCounts,
    pub(crate) next_partition: u32,
    /// The change under way of a versioned table is older than another of its key.
    pub(crate) is_out_of_order: bool,
    pub(crate) caches: Vec<CacheLane>,
    /// The lane of each cached store.
    lanes: BTreeMap<usize, usize>,
    clocks: Vec<(Arc<str>, i64)>,
    clock_undo: Vec<(usize, i64)>,
}

/// How many partitions each output topic has.
pub(crate) type PartitionCounts = Arc<BTreeMap<Arc<str>, u32>>;

impl TaskState {
    pub(crate) fn new(
        stores: Stores,
        partition: u32,
        on_error: OnError,
        partition_counts: PartitionCounts,
    ) -> Self {
        Self {
            stores,
            globals: Arc::default(),
            outbox: Outbox::default(),
            partition,
            stream_time: NO_TIMESTAMP,
            wall_ms: 0,
            on_error,
            schedules: Vec::new(),
            timers: Vec::new(),
            place: None,
            running: 0,
            drops: Vec::new(),
            refused: Vec::new(),
            partition_counts,
            next_partition: partition,
            is_out_of_order: false,
            caches: Vec::new(),
            lanes: BTreeMap::new(),
            clocks: Vec::new(),
            clock_undo: Vec::new(),
        }
    }

    /// The lane for what the nodes of a cached store hold back.
    pub(crate) fn cache_of(&mut self, store: usize) -> usize {
        *self.lanes.entry(store).or_insert_with(|| {
            self.caches.push(CacheLane::default());
            self.caches.len() - 1
        })
    }

    /// The clock of this name; the same name gives the same clock.
    pub(crate) fn clock(&mut self, name: &Arc<str>) -> ClockId {
        if let Some(at) = self.clocks.iter().position(|(n, _)| n == name) {
            return ClockId(at);
        }
        self.clocks.push((Arc::clone(name), NO_TIMESTAMP));
        ClockId(self.clocks.len() - 1)
    }

    /// Moves a clock forward to this time, never back, and reads it.
    pub(crate) fn observe(&mut self, clock: ClockId, timestamp: i64) -> i64 {
        let (_, time) = &mut self.clocks[clock.0];
        if timestamp > *time {
            self.clock_undo.push((clock.0, *time));
            *time = timestamp;
        }
        self.clocks[clock.0].1
    }

    /// Reads a clock; [`NO_TIMESTAMP`] before the first record.
    pub(crate) fn time_of(&self, clock: ClockId) -> i64 {
        self.clocks[clock.0].1
    }

    /// Sets what an operator keeps beside its clocks: a time that may also go back, or a number that
    /// counts up. It travels with them.
    pub(crate) fn set_clock(&mut self, clock: ClockId, value: i64) {
        let before = std::mem::replace(&mut self.clocks[clock.0].1, value);
        self.clock_undo.push((clock.0, before));
    }

    /// Every operator clock that has seen a record, by name.
    pub(crate) fn clocks(&self) -> BTreeMap<String, i64> {
        self.clocks
            .iter()
            .filter(|(_, time)| *time != NO_TIMESTAMP)
            .map(|(name, time)| (name.to_string(), *time))
            .collect()
    }

    /// Sets every clock to what was committed for its name.
    pub(crate) fn restore_clocks(&mut self, committed: impl Fn(&str) -> Option<i64>) {
        for (name, time) in &mut self.clocks {
            *time = committed(name).unwrap_or(NO_TIMESTAMP);
        }
        self.clock_undo.clear();
    }

    /// Forgets everything but the stores, for nodes that are made anew.
    pub(crate) fn reset(&mut self, wall_ms: i64) {
        self.outbox.reset();
        self.refused.clear();
        self.stream_time = NO_TIMESTAMP;
        self.wall_ms = wall_ms;
        self.schedules.clear();
        self.timers.clear();
        self.place = None;
        self.drops.clear();
        self.caches.clear();
        self.lanes.clear();
        self.clocks.clear();
        self.clock_undo.clear();
    }

    /// What a record does from here on can be undone.
    pub(crate) fn savepoint(&mut self) {
        self.is_out_of_order = false;
        self.stores.savepoint();
        self.outbox.savepoint();
        self.caches.iter_mut().for_each(CacheLane::savepoint);
        self.clock_undo.clear();
    }

    /// Undoes what happened since the savepoint. Task stream time stays: the record was read.
    pub(crate) fn undo(&mut self) {
        self.stores.undo();
        self.outbox.undo();
        self.caches.iter_mut().for_each(CacheLane::undo);
        for (clock, time) in self.clock_undo.drain(..).rev() {
            self.clocks[clock].1 = time;
        }
    }

    /// Notes that a node drops the current record.
    pub(crate) fn drop_record(
        &mut self,
        node: &Arc<str>,
        reason: DropReason,
        detail: String,
        dead_letter: bool,
    ) {
        let node = Arc::clone(node);
        self.drops.push(Dropped { node, reason, detail, dead_letter });
    }

    /// Takes a refused output, if no record is being processed whose failure it could be: a flush or
    /// a punctuation wrote it.
    pub(crate) fn take_refused(&mut self, refused: RefusedOutput) -> bool {
        let takes = self.place.is_none() && self.on_error != OnError::Fail;
        if takes {
            self.refused.push(refused);
        }
        takes
    }

    /// The boundary a failure crosses when it leaves a node: attaches the node's name, once, and
    /// ends it here where that is the rule.
    #[cold]
    pub(crate) fn boundary(&mut self, node: &Arc<str>, error: NodeError) -> Result<(), NodeError> {
        match *error.0 {
            Failure::User(source) if self.on_error == OnError::DropHere => {
                self.drop_record(node, DropReason::Failed, source.to_string(), false);
                Ok(())
            }
            _ => Err(error.at(node)),
        }
    }
}

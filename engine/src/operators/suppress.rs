//! `KTable::suppress`: changes wait, one for each key, until their window closes or a time limit is
//! over; what changes meanwhile takes the place of what waits.
//!
//! Source: `KTableSuppressProcessorSupplier`. The operator's clock is the greatest time of the changes
//! that reached it. After each change everything that is due is sent on, this change included, by
//! due time, then key, each with its own time and headers. A change that waits for its window is due
//! at `window end <= clock - grace`, and a deletion is not sent on then; one that waits for a limit
//! at `time of the first change that waited <= clock - limit`. Over its bound the buffer lets the
//! earliest go early, or fails the record, as it was told.

use std::sync::Arc;

use crate::processor::NodeError;
use crate::processor::getter::ValueGetter;
use crate::processor::node::{Lifecycle, NodeContext, NodeInit, TableReceiver};
use crate::processor::state::{ClockId, TaskState};
use crate::record::Change;
use crate::store::{StateStore, StoreHandle, SuppressBuffer};
use crate::time::NO_TIMESTAMP;

/// The time by which a waiting change is due, from its key: its window's end.
pub(crate) type WindowEnd<K> = Arc<dyn Fn(&K) -> i64 + Send + Sync>;

/// What waits for how long.
pub(crate) struct Policy<K> {
    /// `None`: changes are due by their own time.
    pub(crate) window_end: Option<WindowEnd<K>>,
    /// Grace, or the time limit.
    pub(crate) wait_ms: i64,
    pub(crate) bound: Bound,
}

impl<K> Clone for Policy<K> {
    fn clone(&self) -> Self {
        let window_end = self.window_end.clone();
        Self { window_end, wait_ms: self.wait_ms, bound: self.bound }
    }
}

/// How much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

pub(crate) struct Suppress<K, V> {
    pub(crate) policy: Policy<K>,
    pub(crate) buffer: StoreHandle<SuppressBuffer<K, V>>,
    pub(crate) sends_old: bool,
    pub(crate) clock: Option<ClockId>,
}

impl<K: 'static, V: 'static> Lifecycle for Suppress<K, V> {
    fn init(&mut self, ctx: &mut NodeInit<'_>) -> Result<(), NodeError> {
        let name: Arc<str> = ctx.task.stores.get(self.buffer).name().into();
        self.clock = Some(ctx.task.clock(&name));
        Ok(())
    }
}

impl<K: 'static, V: 'static> Suppress<K, V> {
    fn is_over_bound(&self, ctx: &mut NodeContext<'_>) -> Result<bool, NodeError> {
        let Bound { records, bytes } = self.policy.bound;
        if (records, bytes) == (u64::MAX, u64::MAX) {
            return Ok(false);
        }
        let totals = ctx.task.stores.get(self.buffer).totals()?;
        Ok(totals.rows > records || totals.bytes > bytes)
    }

    /// Sends the earliest change on if it is due by `to`; false if there is none.
    fn release(&mut self, to: i64, ctx: &mut NodeContext<'_>) -> Result<bool, NodeError> {
        let taken = ctx.task.stores.get(self.buffer).take_up_to(to)?;
        let Some(waiting) = taken else { return Ok(false) };
        // What a window had and lost before it closed was never seen.
        if waiting.new.is_some() || self.policy.window_end.is_none() {
            let old = waiting.old.filter(|_| self.sends_old);
            ctx.forward_change(Change {
                key: &waiting.key,
                old: &old,
                new: &waiting.new,
                timestamp: waiting.timestamp,
                headers: &waiting.headers,
            })?;
        }
        Ok(true)
    }
}

impl<K: 'static, V: 'static> TableReceiver<K, V> for Suppress<K, V> {
    fn receive(
        &mut self,
        change: Change<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let clock = ctx.task.observe(self.clock.expect("init ran"), change.timestamp);
        let time = match &self.policy.window_end {
            Some(end) => end(change.key),
            None => change.timestamp,
        };
        let place = ctx.task.place.clone();
        ctx.task.stores.get(self.buffer).put(change, time, place.as_ref())?;
        let due = clock.saturating_sub(self.policy.wait_ms);
        while self.release(due, ctx)? {}
        while self.is_over_bound(ctx)? {
            if self.policy.window_end.is_some() {
                let Bound { records, bytes } = self.policy.bound;
                return Err(NodeError::message(format!(
                    "more waits for its window to close than the bound allows ({records} records, \
                     {bytes} bytes); raise it, or shorten grace"
                )));
            }
            self.release(i64::MAX, ctx)?;
        }
        Ok(())
    }
}

/// Looks rows up as they were sent on: what waits hides what the table above has by now.
pub(crate) struct SuppressGetter<K, V> {
    pub(crate) parent: Box<dyn ValueGetter<K, V>>,
    pub(crate) buffer: StoreHandle<SuppressBuffer<K, V>>,
}

impl<K: 'static, V: 'static> ValueGetter<K, V> for SuppressGetter<K, V> {
    fn get(&mut self, key: &K, task: &mut TaskState) -> Result<Option<(V, i64)>, NodeError> {
        match task.stores.get(self.buffer).prior(key)? {
            Some(prior) => Ok(prior.map(|value| (value, NO_TIMESTAMP))),
            None => self.parent.get(key, task),
        }
    }
}

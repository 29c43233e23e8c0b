//! What a custom processor may do: the typed face of the arena. Knows no operator and no log.

use std::marker::PhantomData;
use std::sync::Arc;

use super::drops::{DropReason, OnDropped};
use super::error::NodeError;
use super::node::{NodeContext, NodeInit};
use super::punctuation::{PunctuationId, PunctuationType, Schedule};
use crate::record::{Place, Record};
use crate::store::{StateStore, StoreHandle};
use crate::time::MAX_SPAN_MS;

/// What a processor may do before its first record.
pub struct InitContext<'t> {
    inner: NodeInit<'t>,
}

impl std::fmt::Debug for InitContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InitContext({})", self.inner.name)
    }
}

impl<'t> InitContext<'t> {
    pub(crate) fn new(inner: NodeInit<'t>) -> Self {
        Self { inner }
    }

    /// The name of this node.
    pub fn node(&self) -> &Arc<str> {
        self.inner.name
    }

    /// Calls [`Processor::punctuate`](super::Processor::punctuate) every `interval_ms`, beginning
    /// at `start_ms` (default: 0 for stream time, now + interval for the wall clock). Stream-time
    /// schedules survive a restart; wall-clock ones begin anew.
    ///
    /// # Errors
    /// The interval is not between 1 ms and [`MAX_SPAN_MS`].
    pub fn schedule(
        &mut self,
        kind: PunctuationType,
        interval_ms: i64,
        start_ms: Option<i64>,
    ) -> Result<PunctuationId, NodeError> {
        if !(1..=MAX_SPAN_MS).contains(&interval_ms) {
            let node = self.inner.name;
            return Err(NodeError::message(format!(
                "punctuation interval of node `{node}` is {interval_ms} ms; give at least 1 ms"
            )));
        }
        let schedules = &mut self.inner.task.schedules;
        let nth = schedules.iter().filter(|s| s.node == self.inner.node).count();
        let now = self.inner.task.wall_ms;
        schedules.push(Schedule {
            node: self.inner.node,
            name: format!("{}#{nth}", self.inner.name),
            kind,
            interval: interval_ms,
            next: Schedule::first(kind, interval_ms, start_ms, now),
            cancelled: false,
            cursor: None,
        });
        Ok(PunctuationId(schedules.len() - 1))
    }
}

/// What a processor may do while it handles a record or a punctuation.
pub struct ProcessorContext<'c, 't, K, V> {
    inner: &'c mut NodeContext<'t>,
    _out: PhantomData<fn(K, V)>,
}

impl<K, V> std::fmt::Debug for ProcessorContext<'_, '_, K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ProcessorContext({})", self.inner.name)
    }
}

impl<'c, 't, K: 'static, V: 'static> ProcessorContext<'c, 't, K, V> {
    pub(crate) fn new(inner: &'c mut NodeContext<'t>) -> Self {
        Self { inner, _out: PhantomData }
    }

    /// Lends a record to every operator behind this one, each to completion.
    ///
    /// # Errors
    /// The failure of an operator behind; pass it on with `?`.
    pub fn forward(&mut self, record: Record<'_, K, V>) -> Result<(), NodeError> {
        self.inner.forward(record)
    }

    /// The store behind a handle. The borrow ends before the next `forward`: read, compute, write,
    /// then forward.
    ///
    /// # Panics
    /// The store was not connected: name its handle when the processor is added.
    pub fn store<S: StateStore>(&mut self, handle: StoreHandle<S>) -> &mut S {
        self.inner.task.stores.get(handle)
    }

    /// The task's stream time: the largest timestamp it has processed, -1 before the first record.
    pub fn stream_time(&self) -> i64 {
        self.inner.task.stream_time
    }

    /// The wall clock, in milliseconds since the Unix epoch, as read when this record was taken.
    pub fn wall_clock(&self) -> i64 {
        self.inner.task.wall_ms
    }

    /// Where the current record was read; `None` in a punctuation.
    pub fn place(&self) -> Option<&Place> {
        self.inner.task.place.as_ref()
    }

    /// The partition this task works on.
    pub fn partition(&self) -> u32 {
        self.inner.task.partition
    }

    /// Drops the current record for this reason: counted and logged with its place.
    pub fn drop_record(&mut self, reason: DropReason, detail: impl Into<String>) {
        self.inner.drop_record(reason, OnDropped::Count, || detail.into());
    }

    /// Ends a schedule of this processor.
    pub fn cancel(&mut self, punctuation: PunctuationId) {
        self.inner.task.schedules[punctuation.0].cancelled = true;
    }
}

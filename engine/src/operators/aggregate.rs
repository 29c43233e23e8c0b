//! `KGroupedStream::count`, `reduce` and `aggregate`: one row per key, without windows.
//!
//! Source: `KStreamAggregate`, `KStreamReduce`. A null key or value is dropped. The result's time is
//! the greater of the record's and the stored one. An aggregate that stands for null deletes the row
//! and forwards a tombstone; the next record starts afresh. The old value of a key's first change is
//! the initial aggregate (`reduce`: none).

use std::sync::Arc;

use super::table_store::TableStore;
use crate::processor::drops::OnDropped;
use crate::processor::node::{Lifecycle, NodeContext, NodeInit, StreamReceiver};
use crate::processor::{DropReason, NodeError};
use crate::record::{Change, Record};
use crate::serde::{Serde, SharedSerde};

/// One step of an aggregation: from key, value and what is stored to what will be.
type Step<K, V, A> = dyn Fn(&K, &V, Option<A>) -> Result<A, NodeError> + Send + Sync;

/// What an aggregation computes. `None` is "nothing stored".
pub(crate) struct Aggregation<K, V, A> {
    pub(crate) step: Arc<Step<K, V, A>>,
    /// The aggregate before the first record, as an old value.
    pub(crate) initial: Option<Arc<dyn Fn() -> A + Send + Sync>>,
}

impl<K, V, A> Clone for Aggregation<K, V, A> {
    fn clone(&self) -> Self {
        Self { step: Arc::clone(&self.step), initial: self.initial.clone() }
    }
}

impl<K, V, A: 'static> Aggregation<K, V, A> {
    /// The aggregate before the first record, unless it stands for null.
    pub(crate) fn initial(&self, serde: &SharedSerde<A>) -> Option<A> {
        self.initial.as_ref().map(|make| make()).filter(|a| !serde.is_null(a))
    }
}

pub(crate) struct Aggregate<K, V, A> {
    pub(crate) aggregation: Aggregation<K, V, A>,
    pub(crate) store: TableStore<K, A>,
    pub(crate) key: SharedSerde<K>,
    pub(crate) value: SharedSerde<V>,
    pub(crate) result: SharedSerde<A>,
    pub(crate) on_dropped: OnDropped,
}

impl<K: 'static, V: 'static, A: 'static> Lifecycle for Aggregate<K, V, A> {
    fn init(&mut self, ctx: &mut NodeInit<'_>) -> Result<(), NodeError> {
        self.store.init(ctx)
    }

    fn flush(&mut self, ctx: &mut NodeContext<'_>) -> Result<(), NodeError> {
        self.store.flush(ctx)
    }
}

impl<K: 'static, V: 'static, A: 'static> StreamReceiver<K, V> for Aggregate<K, V, A> {
    fn receive(
        &mut self,
        record: Record<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        if self.key.is_null(record.key) {
            ctx.drop_record(DropReason::NullKey, self.on_dropped, || "key is null".into());
            return Ok(());
        }
        if self.value.is_null(record.value) {
            ctx.drop_record(DropReason::NullValue, self.on_dropped, || "value is null".into());
            return Ok(());
        }
        let stored = self.store.get(record.key, ctx)?;
        let old = match (self.store.sends_old(), &stored) {
            (false, _) => None,
            (true, None) => self.aggregation.initial(&self.result),
            (true, Some(_)) => self.store.get(record.key, ctx)?.map(|(value, _)| value),
        };
        let timestamp = record.timestamp.max(stored.as_ref().map_or(0, |(_, time)| *time));
        let stored = stored.map(|(value, _)| value);
        let new = (self.aggregation.step)(record.key, record.value, stored)?;
        let new = if self.result.is_null(&new) { None } else { Some(new) };
        let (key, headers) = (record.key, record.headers);
        let change = Change { key, old: &old, new: &new, timestamp, headers };
        self.store.write(change, record.timestamp, ctx)
    }
}

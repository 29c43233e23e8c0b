//! Table sources: a topic's records as changes of rows. A null key is dropped, a null value deletes.
//! Every other record is applied in arrival order, whatever its time (Kafka Streams' `KTableSource`).

use super::source::Reading;
use super::table_store::TableStore;
use crate::processor::node::{Lifecycle, NodeContext, NodeInit, RawReceiver};
use crate::processor::{DropReason, NodeError};
use crate::record::batch::RawRecord;
use crate::record::{Change, Headers};
use crate::serde::Serde;

pub(crate) struct TableSource<K, V> {
    pub(crate) reading: Reading<K, V>,
    pub(crate) store: Option<TableStore<K, V>>,
}

impl<K: 'static, V: 'static> Lifecycle for TableSource<K, V> {
    fn init(&mut self, ctx: &mut NodeInit<'_>) -> Result<(), NodeError> {
        self.store.init(ctx)
    }

    fn flush(&mut self, ctx: &mut NodeContext<'_>) -> Result<(), NodeError> {
        self.store.flush(ctx)
    }
}

impl<K: 'static, V: 'static> RawReceiver for TableSource<K, V> {
    fn timestamp(&self, raw: &RawRecord<'_>, partition_time: i64) -> Result<i64, NodeError> {
        self.reading.timestamp(raw, partition_time)
    }

    fn receive(
        &mut self,
        raw: &RawRecord<'_>,
        timestamp: i64,
        headers: &Headers,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let reading = &self.reading;
        let key = reading.field(&reading.key, raw.key, "key", DropReason::NullKey, ctx)?;
        let Some(key) = key else { return Ok(()) };
        if reading.key.is_null(&key) {
            ctx.drop_record(DropReason::NullKey, reading.on_dropped, || "key is null".into());
            return Ok(());
        }
        let new = match raw.value {
            None => None,
            Some(bytes) => reading
                .field(&reading.value, Some(bytes), "value", DropReason::NullValue, ctx)?
                .filter(|value| !reading.value.is_null(value)),
        };
        let Some(store) = &mut self.store else {
            let change = Change { key: &key, old: &None, new: &new, timestamp, headers };
            return ctx.forward_change(change);
        };
        let old =
            if store.sends_old() { store.get(&key, ctx)?.map(|(value, _)| value) } else { None };
        store.write(Change { key: &key, old: &old, new: &new, timestamp, headers }, timestamp, ctx)
    }
}

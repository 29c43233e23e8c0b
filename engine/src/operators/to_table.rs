//! `KStream::to_table`: records as changes of a table; none deletes the row.
//!
//! Source: `KTableSource` behind a stream (KIP-523). A null key is dropped; every other record is
//! applied and forwarded, whatever its timestamp. The row's time is the record's.

use super::table_store::TableStore;
use crate::processor::drops::OnDropped;
use crate::processor::node::{Lifecycle, NodeContext, NodeInit, StreamReceiver};
use crate::processor::{DropReason, NodeError};
use crate::record::{Change, Record};
use crate::serde::{Serde, SharedSerde};

pub(crate) struct ToTable<K, V> {
    pub(crate) key: SharedSerde<K>,
    pub(crate) store: Option<TableStore<K, V>>,
    pub(crate) on_dropped: OnDropped,
}

impl<K: 'static, V: 'static> Lifecycle for ToTable<K, V> {
    fn init(&mut self, ctx: &mut NodeInit<'_>) -> Result<(), NodeError> {
        self.store.init(ctx)
    }

    fn flush(&mut self, ctx: &mut NodeContext<'_>) -> Result<(), NodeError> {
        self.store.flush(ctx)
    }
}

impl<K: 'static, V: 'static> StreamReceiver<K, Option<V>> for ToTable<K, V> {
    fn receive(
        &mut self,
        record: Record<'_, K, Option<V>>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        if self.key.is_null(record.key) {
            ctx.drop_record(DropReason::NullKey, self.on_dropped, || "key is null".into());
            return Ok(());
        }
        let Record { key, value: new, timestamp, headers } = record;
        let Some(store) = &mut self.store else {
            return ctx.forward_change(Change { key, old: &None, new, timestamp, headers });
        };
        let old = if store.sends_old() { store.get(key, ctx)?.map(|(row, _)| row) } else { None };
        store.write(Change { key, old: &old, new, timestamp, headers }, timestamp, ctx)
    }
}

//! `KTable::map_values` and `filter_map_values`: a new row, or none, from key and row. Not called for
//! deletions; every change is forwarded (Kafka Streams' `KTableMapValues`).

use std::sync::Arc;

use super::table_store::{TableStore, keep_or_forward};
use crate::processor::NodeError;
use crate::processor::getter::ValueGetter;
use crate::processor::node::{Lifecycle, NodeContext, NodeInit, TableReceiver};
use crate::processor::state::TaskState;
use crate::record::Change;

pub(crate) struct TableMapValues<K, W, F> {
    pub(crate) mapper: Arc<F>,
    pub(crate) store: Option<TableStore<K, W>>,
    pub(crate) sends_old: bool,
}

impl<K, W, F> Lifecycle for TableMapValues<K, W, F>
where
    K: 'static,
    W: 'static,
    F: Send + Sync,
{
    fn init(&mut self, ctx: &mut NodeInit<'_>) -> Result<(), NodeError> {
        self.store.init(ctx)
    }

    fn flush(&mut self, ctx: &mut NodeContext<'_>) -> Result<(), NodeError> {
        self.store.flush(ctx)
    }
}

impl<K, V, W, F> TableReceiver<K, V> for TableMapValues<K, W, F>
where
    K: 'static,
    V: 'static,
    W: 'static,
    F: Fn(&K, &V) -> Option<W> + Send + Sync,
{
    fn receive(
        &mut self,
        change: Change<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let map = |row: &Option<V>| row.as_ref().and_then(|v| (self.mapper)(change.key, v));
        let new = map(change.new);
        let old = match (&self.store, self.sends_old) {
            (_, false) => None,
            (None, true) => map(change.old),
            (Some(store), true) => store.get(change.key, ctx)?.map(|(value, _)| value),
        };
        let change = change.with_values(&old, &new);
        keep_or_forward(&mut self.store, change, ctx)
    }
}

/// Looks a row up in the parent and maps it.
pub(crate) struct MapGetter<K, V, F> {
    pub(crate) parent: Box<dyn ValueGetter<K, V>>,
    pub(crate) mapper: Arc<F>,
}

impl<K, V, W, F> ValueGetter<K, W> for MapGetter<K, V, F>
where
    F: Fn(&K, &V) -> Option<W> + Send + Sync,
{
    fn get(&mut self, key: &K, task: &mut TaskState) -> Result<Option<(W, i64)>, NodeError> {
        let found = self.parent.get(key, task)?;
        Ok(found.and_then(|(value, time)| Some(((self.mapper)(key, &value)?, time))))
    }

    fn get_as_of(
        &mut self,
        key: &K,
        time: i64,
        task: &mut TaskState,
    ) -> Result<Option<(W, i64)>, NodeError> {
        let found = self.parent.get_as_of(key, time, task)?;
        Ok(found.and_then(|(value, since)| Some(((self.mapper)(key, &value)?, since))))
    }
}

//! `KTable::filter` and `filter_not`: the rows for which a predicate holds. A row that stops
//! matching becomes a tombstone.
//!
//! Source: `KTableFilter`. A filter that knows old values does not forward a change whose old and
//! new row are both absent or rejected; one that does not know them forwards every rejected row as a
//! tombstone.

use std::sync::Arc;

use super::table_store::{TableStore, keep_or_forward};
use crate::processor::NodeError;
use crate::processor::getter::ValueGetter;
use crate::processor::node::{Lifecycle, NodeContext, NodeInit, TableReceiver};
use crate::processor::state::TaskState;
use crate::record::Change;

pub(crate) struct TableFilter<K, V, F> {
    pub(crate) predicate: Arc<F>,
    pub(crate) store: Option<TableStore<K, V>>,
    pub(crate) sends_old: bool,
    /// The table above keeps versions: every change of it counts.
    pub(crate) is_versioned: bool,
}

impl<K, V, F> Lifecycle for TableFilter<K, V, F>
where
    K: 'static,
    V: 'static,
    F: Send + Sync,
{
    fn init(&mut self, ctx: &mut NodeInit<'_>) -> Result<(), NodeError> {
        self.store.init(ctx)
    }

    fn flush(&mut self, ctx: &mut NodeContext<'_>) -> Result<(), NodeError> {
        self.store.flush(ctx)
    }
}

impl<K, V, F> TableReceiver<K, V> for TableFilter<K, V, F>
where
    K: 'static,
    V: 'static,
    F: Fn(&K, &V) -> bool + Send + Sync,
{
    fn receive(
        &mut self,
        change: Change<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let rejected = None;
        let keep = |row: &Option<V>| row.as_ref().is_some_and(|v| (self.predicate)(change.key, v));
        let new = if keep(change.new) { change.new } else { &rejected };
        let stored;
        let old = match (&self.store, self.sends_old) {
            (_, false) => &rejected,
            (None, true) if keep(change.old) => change.old,
            (None, true) => &rejected,
            (Some(store), true) => {
                stored = store.get(change.key, ctx)?.map(|(value, _)| value);
                &stored
            }
        };
        if self.sends_old && !self.is_versioned && old.is_none() && new.is_none() {
            return Ok(());
        }
        let change = change.with_values(old, new);
        keep_or_forward(&mut self.store, change, ctx)
    }
}

/// Looks a row up in the parent and tests it.
pub(crate) struct FilterGetter<K, V, F> {
    pub(crate) parent: Box<dyn ValueGetter<K, V>>,
    pub(crate) predicate: Arc<F>,
}

impl<K, V, F> ValueGetter<K, V> for FilterGetter<K, V, F>
where
    F: Fn(&K, &V) -> bool + Send + Sync,
{
    fn get(&mut self, key: &K, task: &mut TaskState) -> Result<Option<(V, i64)>, NodeError> {
        let found = self.parent.get(key, task)?;
        Ok(found.filter(|(value, _)| (self.predicate)(key, value)))
    }

    fn get_as_of(
        &mut self,
        key: &K,
        time: i64,
        task: &mut TaskState,
    ) -> Result<Option<(V, i64)>, NodeError> {
        let found = self.parent.get_as_of(key, time, task)?;
        Ok(found.filter(|(value, _)| (self.predicate)(key, value)))
    }
}

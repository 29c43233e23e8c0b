//! `KTable::join`: rows of two tables with equal keys. A change of either side looks the other row
//! up and sends on the joined change; both sides meet in one node, which keeps the result if asked.
//!
//! Source: `KTableKTableInnerJoin`, `KTableKTableJoinMerger`. Without the other row nothing is
//! forwarded; with it a deletion becomes a tombstone, also when there was no result before. The time
//! is the greater of the change's and the other row's.

use std::sync::Arc;

use super::table_store::{TableStore, keep_or_forward};
use crate::processor::NodeError;
use crate::processor::getter::ValueGetter;
use crate::processor::node::{Lifecycle, NodeContext, NodeInit, TableReceiver};
use crate::processor::state::TaskState;
use crate::record::Change;

/// The change of one side, joined with the row of the other.
pub(crate) struct JoinSide<K, O, F> {
    pub(crate) other: Box<dyn ValueGetter<K, O>>,
    /// Joins this side's row with the other's.
    pub(crate) joiner: Arc<F>,
    pub(crate) sends_old: bool,
}

impl<K, O, F: Send + Sync> Lifecycle for JoinSide<K, O, F> {}

impl<K, V, O, W, F> TableReceiver<K, V> for JoinSide<K, O, F>
where
    K: 'static,
    V: 'static,
    O: 'static,
    W: 'static,
    F: Fn(&V, &O) -> W + Send + Sync,
{
    fn receive(
        &mut self,
        change: Change<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let Some((other, time)) = self.other.get(change.key, ctx.task)? else { return Ok(()) };
        let join = |row: &Option<V>| row.as_ref().map(|v| (self.joiner)(v, &other));
        let new = join(change.new);
        let old = if self.sends_old { join(change.old) } else { None };
        let timestamp = change.timestamp.max(time);
        ctx.forward_change(Change { timestamp, ..change.with_values(&old, &new) })
    }
}

/// Where both sides meet.
pub(crate) struct JoinResult<K, V>(pub(crate) Option<TableStore<K, V>>);

impl<K: 'static, V: 'static> Lifecycle for JoinResult<K, V> {
    fn init(&mut self, ctx: &mut NodeInit<'_>) -> Result<(), NodeError> {
        self.0.init(ctx)
    }

    fn flush(&mut self, ctx: &mut NodeContext<'_>) -> Result<(), NodeError> {
        self.0.flush(ctx)
    }
}

impl<K: 'static, V: 'static> TableReceiver<K, V> for JoinResult<K, V> {
    fn receive(
        &mut self,
        change: Change<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        keep_or_forward(&mut self.0, change, ctx)
    }
}

/// Looks both rows up and joins them.
pub(crate) struct JoinGetter<K, L, R, F> {
    pub(crate) left: Box<dyn ValueGetter<K, L>>,
    pub(crate) right: Box<dyn ValueGetter<K, R>>,
    pub(crate) joiner: Arc<F>,
}

impl<K, L, R, W, F> ValueGetter<K, W> for JoinGetter<K, L, R, F>
where
    F: Fn(&L, &R) -> W + Send + Sync,
{
    fn get(&mut self, key: &K, task: &mut TaskState) -> Result<Option<(W, i64)>, NodeError> {
        let Some((left, at)) = self.left.get(key, task)? else { return Ok(None) };
        let found = self.right.get(key, task)?;
        Ok(found.map(|(right, time)| ((self.joiner)(&left, &right), at.max(time))))
    }
}

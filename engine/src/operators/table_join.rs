//! `KTable::join`, `left_join` and `outer_join`: rows of two tables with equal keys. A change of
//! either side looks the other row up and sends on the joined change; both sides meet in one node,
//! which keeps the result if asked.
//!
//! Source: `KTableKTableInnerJoin`, `KTableKTableLeftJoin`, `KTableKTableRightJoin`,
//! `KTableKTableOuterJoin`, `KTableKTableJoinMerger`. A side that needs the other row (both of an
//! inner join, the right one of a left join) forwards nothing without it, and with it every change,
//! also a deletion where there was no result before. The other sides forward nothing only if old
//! row, new row and other row are all absent. The time is the greater of the change's and the other
//! row's, if there is one.

use std::sync::Arc;

use super::table_store::{TableStore, keep_or_forward};
use crate::processor::NodeError;
use crate::processor::getter::ValueGetter;
use crate::processor::node::{Lifecycle, NodeContext, NodeInit, TableReceiver};
use crate::processor::state::TaskState;
use crate::record::Change;

/// Joins this side's row with the other's; `None` where rows that are there give no result.
pub(crate) type RowJoiner<V, O, W> = Arc<dyn Fn(Option<&V>, Option<&O>) -> Option<W> + Send + Sync>;

/// The change of one side, joined with the row of the other.
pub(crate) struct TableJoinSide<K, V, O, W> {
    pub(crate) other: Box<dyn ValueGetter<K, O>>,
    pub(crate) joiner: RowJoiner<V, O, W>,
    /// Without the other row there is no result.
    pub(crate) needs_other: bool,
    pub(crate) sends_old: bool,
    /// This side's table keeps versions: a change that is older than another of its key is no news.
    pub(crate) is_versioned: bool,
}

impl<K, V, O, W> Lifecycle for TableJoinSide<K, V, O, W> {}

impl<K, V, O, W> TableReceiver<K, V> for TableJoinSide<K, V, O, W>
where
    K: 'static,
    V: 'static,
    O: 'static,
    W: 'static,
{
    fn receive(
        &mut self,
        change: Change<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        if self.is_versioned && ctx.task.is_out_of_order {
            return Ok(());
        }
        let other = self.other.get(change.key, ctx.task)?;
        let absent = change.new.is_none() && change.old.is_none();
        if other.is_none() && (self.needs_other || absent) {
            return Ok(());
        }
        let time = other.as_ref().map_or(change.timestamp, |(_, time)| *time);
        let join =
            |row: &Option<V>| (self.joiner)(row.as_ref(), other.as_ref().map(|(row, _)| row));
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
pub(crate) struct JoinGetter<K, L, R, W> {
    pub(crate) left: Box<dyn ValueGetter<K, L>>,
    pub(crate) right: Box<dyn ValueGetter<K, R>>,
    pub(crate) joiner: RowJoiner<L, R, W>,
}

impl<K, L, R, W> ValueGetter<K, W> for JoinGetter<K, L, R, W> {
    fn get(&mut self, key: &K, task: &mut TaskState) -> Result<Option<(W, i64)>, NodeError> {
        let (left, right) = (self.left.get(key, task)?, self.right.get(key, task)?);
        let times = [left.as_ref().map(|(_, time)| *time), right.as_ref().map(|(_, time)| *time)];
        let joined = (self.joiner)(left.as_ref().map(|(l, _)| l), right.as_ref().map(|(r, _)| r));
        Ok(joined.zip(times.into_iter().flatten().max()))
    }
}

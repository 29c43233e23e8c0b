//! A stream's record joined with a row, however the row was found: what joins with tables and with
//! global tables share. Knows no table.

use std::sync::Arc;

use crate::processor::drops::OnDropped;
use crate::processor::node::NodeContext;
use crate::processor::{DropReason, NodeError};
use crate::record::Record;
use crate::serde::{Serde, SharedSerde};

/// Joins a record with the row that was found, or with none; gives `None` where the join is inner
/// and there is no row.
pub(crate) type Joiner<K, V, T, W> = Arc<dyn Fn(&K, &V, Option<&T>) -> Option<W> + Send + Sync>;

pub(crate) struct RowJoin<K, V, T, W> {
    pub(crate) joiner: Joiner<K, V, T, W>,
    pub(crate) left: bool,
    pub(crate) value: SharedSerde<V>,
    pub(crate) on_dropped: OnDropped,
}

impl<K: 'static, V: 'static, T, W: 'static> RowJoin<K, V, T, W> {
    /// Joins a record with the row that `look_up` gives; it gives `None` where `key`, which names the
    /// row, is null. Nothing joins with a null value, and an inner join with no null key.
    pub(crate) fn receive(
        &self,
        record: Record<'_, K, V>,
        key: &str,
        look_up: impl FnOnce(&mut NodeContext<'_>) -> Result<Option<Option<T>>, NodeError>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        if self.value.is_null(record.value) {
            ctx.drop_record(DropReason::NullValue, self.on_dropped, || "value is null".into());
            return Ok(());
        }
        let row = match look_up(ctx)? {
            Some(row) => row,
            None if self.left => None,
            None => {
                let detail = || format!("{key} is null");
                ctx.drop_record(DropReason::NullKey, self.on_dropped, detail);
                return Ok(());
            }
        };
        match (self.joiner)(record.key, record.value, row.as_ref()) {
            Some(joined) => ctx.forward(record.with_value(&joined)),
            None => Ok(()),
        }
    }
}

//! `KStream::join_global` and `left_join_global`: each record looks the row of a key that its mapper
//! gives up in a global table; the table never triggers. The result has the record's time.
//!
//! Source: `KStreamGlobalKTableJoin` over `KStreamKTableJoinProcessor`. Inner: a null value or mapped
//! key is dropped, without a row nothing is forwarded. Left: a null value is dropped, a null mapped
//! key or no row joins with none. The record's own key may be null.

use std::sync::Arc;

use super::row_join::RowJoin;
use crate::processor::NodeError;
use crate::processor::node::{Lifecycle, NodeContext, StreamReceiver};
use crate::record::Record;
use crate::serde::SharedSerde;

/// The key of the row that a record is joined with, if it names one.
pub(crate) type KeyMapper<K, V, G> = Arc<dyn Fn(&K, &V) -> Option<G> + Send + Sync>;

pub(crate) struct GlobalJoin<K, V, G, T, W> {
    /// The table's number in the topology.
    pub(crate) table: usize,
    pub(crate) mapper: KeyMapper<K, V, G>,
    pub(crate) row_key: SharedSerde<G>,
    pub(crate) row: SharedSerde<T>,
    pub(crate) rows: RowJoin<K, V, T, W>,
}

impl<K, V, G, T, W> Lifecycle for GlobalJoin<K, V, G, T, W> {}

impl<K, V, G, T, W> StreamReceiver<K, V> for GlobalJoin<K, V, G, T, W>
where
    K: 'static,
    V: 'static,
    G: 'static,
    T: 'static,
    W: 'static,
{
    fn receive(
        &mut self,
        record: Record<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let look_up = |ctx: &mut NodeContext<'_>| {
            let Some(key) = (self.mapper)(record.key, record.value) else { return Ok(None) };
            let Some(key) = self.row_key.to_bytes(&key)? else { return Ok(None) };
            let row = ctx.task.globals[self.table].get(&key)?;
            Ok(Some(row.map(|row| self.row.decode(Some(&row))).transpose()?))
        };
        self.rows.receive(record, "the mapped key", look_up, ctx)
    }
}

//! `KStream::join` and `left_join` with a table: each stream record looks its key's row up when it
//! is processed; the table never triggers. The result has the stream record's time.
//!
//! Source: `KStreamKTableJoinProcessor`. Inner: a null key or value is dropped, without a row nothing
//! is forwarded. Left: a null value is dropped, a null key or no row joins with none (KIP-962).

use super::row_join::RowJoin;
use crate::processor::NodeError;
use crate::processor::getter::ValueGetter;
use crate::processor::node::{Lifecycle, NodeContext, StreamReceiver};
use crate::record::Record;
use crate::serde::{Serde, SharedSerde};

pub(crate) struct StreamTableJoin<K, V, T, W> {
    pub(crate) table: Box<dyn ValueGetter<K, T>>,
    pub(crate) key: SharedSerde<K>,
    pub(crate) rows: RowJoin<K, V, T, W>,
}

impl<K: 'static, V: 'static, T, W> Lifecycle for StreamTableJoin<K, V, T, W> {}

impl<K: 'static, V: 'static, T, W: 'static> StreamReceiver<K, V> for StreamTableJoin<K, V, T, W> {
    fn receive(
        &mut self,
        record: Record<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let look_up = |ctx: &mut NodeContext<'_>| {
            if self.key.is_null(record.key) {
                return Ok(None);
            }
            let row = self.table.get_as_of(record.key, record.timestamp, ctx.task)?;
            Ok(Some(row.map(|(value, _)| value)))
        };
        self.rows.receive(record, "key", look_up, ctx)
    }
}

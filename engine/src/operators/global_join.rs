//! `KStream::join_global` and `left_join_global`: each record looks the row of a key that its mapper
//! gives up in a global table; the table never triggers. The result has the record's time.
//!
//! Source: `KStreamGlobalKTableJoin` over `KStreamKTableJoinProcessor`. Inner: a null value or mapped
//! key is dropped, without a row nothing is forwarded. Left: a null value is dropped, a null mapped
//! key or no row joins with none. The record's own key may be null.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::processor::drops::OnDropped;
use crate::processor::node::{Lifecycle, NodeContext, StreamReceiver};
use crate::processor::{DropReason, NodeError};
use crate::record::Record;
use crate::serde::{Serde, SharedSerde};

/// The key of the row that a record is joined with, if it names one.
pub(crate) type KeyMapper<K, V, G> = Arc<dyn Fn(&K, &V) -> Option<G> + Send + Sync>;

pub(crate) struct GlobalJoin<K, V, G, T, F, W> {
    /// The table's number in the topology.
    pub(crate) table: usize,
    pub(crate) mapper: KeyMapper<K, V, G>,
    /// Gives `None` where the join is inner and there is no row.
    pub(crate) joiner: Arc<F>,
    pub(crate) left: bool,
    pub(crate) value: SharedSerde<V>,
    pub(crate) row_key: SharedSerde<G>,
    pub(crate) row: SharedSerde<T>,
    pub(crate) on_dropped: OnDropped,
    pub(crate) _out: PhantomData<fn() -> W>,
}

impl<K, V, G, T, F: Send + Sync, W> Lifecycle for GlobalJoin<K, V, G, T, F, W> {}

impl<K, V, G, T, F, W> StreamReceiver<K, V> for GlobalJoin<K, V, G, T, F, W>
where
    K: 'static,
    V: 'static,
    G: 'static,
    T: 'static,
    W: 'static,
    F: Fn(&K, &V, Option<&T>) -> Option<W> + Send + Sync,
{
    fn receive(
        &mut self,
        record: Record<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        if self.value.is_null(record.value) {
            ctx.drop_record(DropReason::NullValue, self.on_dropped, || "value is null".into());
            return Ok(());
        }
        let mapped = (self.mapper)(record.key, record.value);
        let mapped = match &mapped {
            Some(key) => self.row_key.to_bytes(key)?,
            None => None,
        };
        let row = match mapped {
            Some(key) => self.look_up(&key, ctx)?,
            None if self.left => None,
            None => {
                ctx.drop_record(DropReason::NullKey, self.on_dropped, || {
                    "the mapped key is null".into()
                });
                return Ok(());
            }
        };
        match (self.joiner)(record.key, record.value, row.as_ref()) {
            Some(joined) => ctx.forward(record.with_value(&joined)),
            None => Ok(()),
        }
    }
}

impl<K, V, G, T: 'static, F, W> GlobalJoin<K, V, G, T, F, W> {
    fn look_up(&self, key: &[u8], ctx: &NodeContext<'_>) -> Result<Option<T>, NodeError> {
        let value = ctx.task.globals[self.table].get(key)?;
        Ok(value.map(|value| self.row.decode(Some(&value))).transpose()?)
    }
}

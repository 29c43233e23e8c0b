//! `KStream::join` and `left_join` with a table: each stream record looks its key's row up when it
//! is processed; the table never triggers. The result has the stream record's time.
//!
//! Source: `KStreamKTableJoinProcessor`. Inner: a null key or value is dropped, without a row nothing
//! is forwarded. Left: a null value is dropped, a null key or no row joins with none (KIP-962).

use std::marker::PhantomData;
use std::sync::Arc;

use crate::processor::drops::OnDropped;
use crate::processor::getter::ValueGetter;
use crate::processor::node::{Lifecycle, NodeContext, StreamReceiver};
use crate::processor::{DropReason, NodeError};
use crate::record::Record;
use crate::serde::{Serde, SharedSerde};

pub(crate) struct StreamTableJoin<K, V, T, F, W> {
    pub(crate) table: Box<dyn ValueGetter<K, T>>,
    /// Gives `None` where the join is inner and there is no row.
    pub(crate) joiner: Arc<F>,
    pub(crate) left: bool,
    pub(crate) key: SharedSerde<K>,
    pub(crate) value: SharedSerde<V>,
    pub(crate) on_dropped: OnDropped,
    pub(crate) _out: PhantomData<fn() -> W>,
}

impl<K: 'static, V: 'static, T, F: Send + Sync, W> Lifecycle for StreamTableJoin<K, V, T, F, W> {}

impl<K, V, T, F, W> StreamReceiver<K, V> for StreamTableJoin<K, V, T, F, W>
where
    K: 'static,
    V: 'static,
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
        let null_key = self.key.is_null(record.key);
        if null_key && !self.left {
            ctx.drop_record(DropReason::NullKey, self.on_dropped, || "key is null".into());
            return Ok(());
        }
        let row = if null_key {
            None
        } else {
            self.table.get_as_of(record.key, record.timestamp, ctx.task)?
        };
        match (self.joiner)(record.key, record.value, row.as_ref().map(|(value, _)| value)) {
            Some(joined) => ctx.forward(record.with_value(&joined)),
            None => Ok(()),
        }
    }
}

//! `KStream::map_values`: a new value from key and value; the key stays.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::processor::NodeError;
use crate::processor::node::{Lifecycle, NodeContext, StreamReceiver};
use crate::record::Record;

pub(crate) struct MapValues<F, W> {
    mapper: Arc<F>,
    _value: PhantomData<fn() -> W>,
}

impl<F, W> MapValues<F, W> {
    pub(crate) fn new(mapper: Arc<F>) -> Self {
        Self { mapper, _value: PhantomData }
    }
}

impl<F: Send + Sync, W> Lifecycle for MapValues<F, W> {}

impl<K, V, W, F> StreamReceiver<K, V> for MapValues<F, W>
where
    K: 'static,
    V: 'static,
    W: 'static,
    F: Fn(&K, &V) -> W + Send + Sync,
{
    fn receive(
        &mut self,
        record: Record<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let value = (self.mapper)(record.key, record.value);
        ctx.forward(record.with_value(&value))
    }
}

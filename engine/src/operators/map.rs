//! `KStream::map`: a new key and value from key and value. Key-changing.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::processor::NodeError;
use crate::processor::node::{Lifecycle, NodeContext, StreamReceiver};
use crate::record::Record;

pub(crate) struct Map<F, L, W> {
    mapper: Arc<F>,
    _out: PhantomData<fn() -> (L, W)>,
}

impl<F, L, W> Map<F, L, W> {
    pub(crate) fn new(mapper: Arc<F>) -> Self {
        Self { mapper, _out: PhantomData }
    }
}

impl<F: Send + Sync, L, W> Lifecycle for Map<F, L, W> {}

impl<K, V, L, W, F> StreamReceiver<K, V> for Map<F, L, W>
where
    K: 'static,
    V: 'static,
    L: 'static,
    W: 'static,
    F: Fn(&K, &V) -> (L, W) + Send + Sync,
{
    fn receive(
        &mut self,
        record: Record<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let (key, value) = (self.mapper)(record.key, record.value);
        ctx.forward(record.with_key(&key).with_value(&value))
    }
}

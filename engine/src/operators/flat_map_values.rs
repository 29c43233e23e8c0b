//! `KStream::flat_map_values` and `flat_map`: zero or more records from one, in order.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::processor::NodeError;
use crate::processor::node::{Lifecycle, NodeContext, StreamReceiver};
use crate::record::Record;

pub(crate) struct FlatMapValues<F, I> {
    mapper: Arc<F>,
    _values: PhantomData<fn() -> I>,
}

impl<F, I> FlatMapValues<F, I> {
    pub(crate) fn new(mapper: Arc<F>) -> Self {
        Self { mapper, _values: PhantomData }
    }
}

impl<F: Send + Sync, I> Lifecycle for FlatMapValues<F, I> {}

impl<K, V, I, F> StreamReceiver<K, V> for FlatMapValues<F, I>
where
    K: 'static,
    V: 'static,
    I: IntoIterator + 'static,
    I::Item: 'static,
    F: Fn(&K, &V) -> I + Send + Sync,
{
    fn receive(
        &mut self,
        record: Record<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        for value in (self.mapper)(record.key, record.value) {
            ctx.forward(record.with_value(&value))?;
        }
        Ok(())
    }
}

pub(crate) struct FlatMap<F, I> {
    mapper: Arc<F>,
    _pairs: PhantomData<fn() -> I>,
}

impl<F, I> FlatMap<F, I> {
    pub(crate) fn new(mapper: Arc<F>) -> Self {
        Self { mapper, _pairs: PhantomData }
    }
}

impl<F: Send + Sync, I> Lifecycle for FlatMap<F, I> {}

impl<K, V, L, W, I, F> StreamReceiver<K, V> for FlatMap<F, I>
where
    K: 'static,
    V: 'static,
    L: 'static,
    W: 'static,
    I: IntoIterator<Item = (L, W)> + 'static,
    F: Fn(&K, &V) -> I + Send + Sync,
{
    fn receive(
        &mut self,
        record: Record<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        for (key, value) in (self.mapper)(record.key, record.value) {
            ctx.forward(record.with_key(&key).with_value(&value))?;
        }
        Ok(())
    }
}

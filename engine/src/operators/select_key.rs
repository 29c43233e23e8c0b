//! `KStream::select_key`: a new key from key and value; the value is lent on. Key-changing.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::processor::NodeError;
use crate::processor::node::{Lifecycle, NodeContext, StreamReceiver};
use crate::record::Record;

pub(crate) struct SelectKey<F, L> {
    selector: Arc<F>,
    _key: PhantomData<fn() -> L>,
}

impl<F, L> SelectKey<F, L> {
    pub(crate) fn new(selector: Arc<F>) -> Self {
        Self { selector, _key: PhantomData }
    }
}

impl<F: Send + Sync, L> Lifecycle for SelectKey<F, L> {}

impl<K, V, L, F> StreamReceiver<K, V> for SelectKey<F, L>
where
    K: 'static,
    V: 'static,
    L: 'static,
    F: Fn(&K, &V) -> L + Send + Sync,
{
    fn receive(
        &mut self,
        record: Record<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let key = (self.selector)(record.key, record.value);
        ctx.forward(record.with_key(&key))
    }
}

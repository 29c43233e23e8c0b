//! `KStream::filter` and `filter_not`: lends on the records for which a predicate holds.

use std::sync::Arc;

use crate::processor::NodeError;
use crate::processor::node::{Lifecycle, NodeContext, StreamReceiver};
use crate::record::Record;

pub(crate) struct Filter<F>(pub(crate) Arc<F>);

impl<F: Send + Sync> Lifecycle for Filter<F> {}

impl<K, V, F> StreamReceiver<K, V> for Filter<F>
where
    K: 'static,
    V: 'static,
    F: Fn(&K, &V) -> bool + Send + Sync,
{
    fn receive(
        &mut self,
        record: Record<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        if (self.0)(record.key, record.value) { ctx.forward(record) } else { Ok(()) }
    }
}

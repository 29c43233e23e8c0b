//! `KStream::peek` and `for_each`: looks at each record, then lends it on.

use std::sync::Arc;

use crate::processor::NodeError;
use crate::processor::node::{Lifecycle, NodeContext, StreamReceiver};
use crate::record::Record;

pub(crate) struct Peek<F>(pub(crate) Arc<F>);

impl<F: Send + Sync> Lifecycle for Peek<F> {}

impl<K, V, F> StreamReceiver<K, V> for Peek<F>
where
    K: 'static,
    V: 'static,
    F: Fn(&K, &V) + Send + Sync,
{
    fn receive(
        &mut self,
        record: Record<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        (self.0)(record.key, record.value);
        ctx.forward(record)
    }
}

//! `KStream::merge`: the records of two streams, as they come.

use crate::processor::NodeError;
use crate::processor::node::{Lifecycle, NodeContext, StreamReceiver};
use crate::record::Record;

pub(crate) struct Merge;

impl Lifecycle for Merge {}

impl<K: 'static, V: 'static> StreamReceiver<K, V> for Merge {
    fn receive(
        &mut self,
        record: Record<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        ctx.forward(record)
    }
}

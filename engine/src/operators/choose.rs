//! `KStream::to_chosen`: each record goes to the sink of the topic that is chosen for it.
//!
//! Source: `TopicNameExtractor` (KIP-303), but among topics that are named when the topology is
//! built, so that a start finds out what is missing and how many partitions each has. A topic that
//! was not named is the record's failure. Sink number n is the node's n-th child.

use std::sync::Arc;

use crate::processor::NodeError;
use crate::processor::node::{Lifecycle, NodeContext, StreamReceiver};
use crate::record::Record;

pub(crate) struct Choose<F> {
    pub(crate) topics: Arc<[Arc<str>]>,
    pub(crate) chooser: Arc<F>,
}

impl<F: Send + Sync> Lifecycle for Choose<F> {}

impl<K, V, T, F> StreamReceiver<K, V> for Choose<F>
where
    K: 'static,
    V: 'static,
    T: AsRef<str>,
    F: Fn(&K, &V) -> T + Send + Sync,
{
    fn receive(
        &mut self,
        record: Record<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let chosen = (self.chooser)(record.key, record.value);
        let chosen = chosen.as_ref();
        match self.topics.iter().position(|topic| **topic == *chosen) {
            Some(sink) => ctx.forward_to(sink, record),
            None => Err(NodeError::message(format!(
                "topic '{chosen}' was chosen, but is not among those named: {}",
                self.topics.join(", ")
            ))),
        }
    }
}

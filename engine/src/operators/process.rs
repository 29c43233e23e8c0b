//! `KStream::process`: a custom processor behind a stream edge.

use std::marker::PhantomData;

use crate::processor::node::{Lifecycle, NodeContext, NodeInit, StreamReceiver};
use crate::processor::{
    InitContext, NodeError, Processor, ProcessorContext, Punctuated, Punctuation,
};
use crate::record::Record;

/// The types that a processor takes and forwards, without holding any of them.
type Signature<KIn, VIn, K, V> = PhantomData<fn(KIn, VIn) -> (K, V)>;

pub(crate) struct Process<P, KIn, VIn, K, V> {
    processor: P,
    _types: Signature<KIn, VIn, K, V>,
}

impl<P, KIn, VIn, K, V> Process<P, KIn, VIn, K, V> {
    pub(crate) fn new(processor: P) -> Self {
        Self { processor, _types: PhantomData }
    }
}

impl<P, KIn, VIn, K, V> Lifecycle for Process<P, KIn, VIn, K, V>
where
    P: Processor<KIn, VIn, K, V>,
    K: 'static,
    V: 'static,
{
    fn init(&mut self, ctx: &mut NodeInit<'_>) -> Result<(), NodeError> {
        let inner = NodeInit { task: ctx.task, name: ctx.name, node: ctx.node };
        self.processor.init(&mut InitContext::new(inner))
    }

    fn punctuate(
        &mut self,
        punctuation: Punctuation<'_>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<Punctuated, NodeError> {
        self.processor.punctuate(punctuation, &mut ProcessorContext::new(ctx))
    }
}

impl<P, KIn, VIn, K, V> StreamReceiver<KIn, VIn> for Process<P, KIn, VIn, K, V>
where
    P: Processor<KIn, VIn, K, V>,
    K: 'static,
    V: 'static,
{
    fn receive(
        &mut self,
        record: Record<'_, KIn, VIn>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        self.processor.process(record, &mut ProcessorContext::new(ctx))
    }
}

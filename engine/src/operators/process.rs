//! `KStream::process`: a custom processor behind a stream edge.

use std::marker::PhantomData;

use crate::processor::node::{Lifecycle, NodeContext, NodeInit, StreamReceiver};
use crate::processor::timers::{Due, TimerLane};
use crate::processor::{
    InitContext, NodeError, Processor, ProcessorContext, Punctuated, Punctuation, Timer,
};
use crate::record::Record;
use crate::store::{DueTimer, StateStore, TimerHandle, TimerPosition};

/// The types that a processor takes and forwards, without holding any of them.
type Signature<KIn, VIn, K, V> = PhantomData<fn(KIn, VIn) -> (K, V)>;

pub(crate) struct Process<P, KIn, VIn, K, V> {
    processor: P,
    timers: Vec<TimerHandle<KIn>>,
    _types: Signature<KIn, VIn, K, V>,
}

impl<P, KIn, VIn, K, V> Process<P, KIn, VIn, K, V> {
    pub(crate) fn new(processor: P) -> Self {
        Self { processor, timers: Vec::new(), _types: PhantomData }
    }
}

impl<P, KIn, VIn, K, V> Lifecycle for Process<P, KIn, VIn, K, V>
where
    P: Processor<KIn, VIn, K, V>,
    KIn: 'static,
    K: 'static,
    V: 'static,
{
    fn init(&mut self, ctx: &mut NodeInit<'_>) -> Result<(), NodeError> {
        self.timers = self.processor.timers();
        for timers in &self.timers {
            own(*timers, ctx)?;
        }
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

    fn on_timer(
        &mut self,
        due: Due<'_>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<Option<TimerPosition>, NodeError> {
        let handle = self.timers.iter().find(|handle| handle.index() == due.store);
        let timers = ctx.task.stores.get(*handle.expect("the lane is this node's"));
        let domain = timers.domain();
        let Some(DueTimer { key, row }) = timers.take_due(due.after, due.clock)? else {
            return Ok(None);
        };
        let timer = Timer { key: &key, name: &row.name, time: row.time_ms, domain };
        self.processor.on_timer(timer, &mut ProcessorContext::new(ctx))?;
        Ok(Some(row.position()))
    }
}

/// Makes these timers the node's.
fn own<K: 'static>(timers: TimerHandle<K>, ctx: &mut NodeInit<'_>) -> Result<(), NodeError> {
    let (store, name) = (timers.index(), ctx.name);
    if !ctx.task.stores.has(store) {
        return Err(NodeError::message(format!(
            "timers of processor `{name}` are not connected to it: name their handle when the \
             processor is added"
        )));
    }
    if ctx.task.timers.iter().any(|lane| lane.store == store) {
        let store = ctx.task.stores.get(timers).name();
        return Err(NodeError::message(format!(
            "timers `{store}` of processor `{name}` belong to another processor already: give \
             each its own"
        )));
    }
    let opened = ctx.task.stores.get(timers);
    opened.forget_earliest();
    let domain = opened.domain();
    ctx.task.timers.push(TimerLane { node: ctx.node, store, domain, after: None });
    Ok(())
}

impl<P, KIn, VIn, K, V> StreamReceiver<KIn, VIn> for Process<P, KIn, VIn, K, V>
where
    P: Processor<KIn, VIn, K, V>,
    KIn: 'static,
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

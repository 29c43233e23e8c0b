//! `KStream::deduplicate`: of records with one id within a time, the first that arrives.
//!
//! The operator's clock is the greatest time of all records with an id. A record at `t` is a duplicate
//! if one of its id was forwarded with a time in `t - within ..= t + within`: order of arrival
//! decides, not order of time, and a duplicate does not prolong the time. A record before
//! `clock - grace` is late, and dropped, because what it might repeat is no longer known.
//!
//! Not in Kafka Streams, where it is written by hand with a window store, which is what this keeps.

use std::sync::Arc;

use crate::processor::drops::OnDropped;
use crate::processor::node::{Lifecycle, NodeContext, NodeInit, StreamReceiver};
use crate::processor::state::ClockId;
use crate::processor::{DropReason, NodeError};
use crate::record::Record;
use crate::serde::{Serde, SharedSerde};
use crate::store::{StateStore, StoreHandle, WindowStore};

/// How far apart duplicates are, and how late a record may be; milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) within_ms: i64,
    pub(crate) grace_ms: i64,
}

pub(crate) struct Deduplicate<I, F> {
    pub(crate) id_of: Arc<F>,
    pub(crate) id: SharedSerde<I>,
    pub(crate) span: Span,
    /// The ids that were forwarded, at their times.
    pub(crate) seen: StoreHandle<WindowStore<I, i64>>,
    pub(crate) on_dropped: OnDropped,
    pub(crate) clock: Option<ClockId>,
}

impl<I: 'static, F: Send + Sync> Lifecycle for Deduplicate<I, F> {
    fn init(&mut self, ctx: &mut NodeInit<'_>) -> Result<(), NodeError> {
        let name: Arc<str> = ctx.task.stores.get(self.seen).name().into();
        self.clock = Some(ctx.task.clock(&name));
        Ok(())
    }
}

impl<K, V, I, F> StreamReceiver<K, V> for Deduplicate<I, F>
where
    K: 'static,
    V: 'static,
    I: 'static,
    F: Fn(&K, &V) -> I + Send + Sync,
{
    fn receive(
        &mut self,
        record: Record<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let (at, id) = (record.timestamp, (self.id_of)(record.key, record.value));
        if self.id.is_null(&id) {
            ctx.drop_record(DropReason::NullKey, self.on_dropped, || "id is null".into());
            return Ok(());
        }
        let clock = ctx.task.observe(self.clock.expect("init ran"), at);
        let Span { within_ms, grace_ms } = self.span;
        if at < clock - grace_ms {
            ctx.drop_record(DropReason::Late, self.on_dropped, || {
                format!("{at} is more than {grace_ms} ms before stream time {clock}")
            });
            return Ok(());
        }
        let seen = ctx.task.stores.get(self.seen);
        let earlier = seen.fetch_range(&id, (at - within_ms).max(0), at + within_ms)?;
        if let Some((first, _)) = earlier.first() {
            ctx.drop_record(DropReason::Duplicate, self.on_dropped, || {
                format!("a record of its id was there at {first}")
            });
            return Ok(());
        }
        seen.put(&id, at, Some(&at))?;
        ctx.forward(record)
    }
}

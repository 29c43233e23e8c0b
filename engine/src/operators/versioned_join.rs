//! `KStream::join` and `left_join` with a versioned table, by a grace period: stream records wait so
//! that rows which come late are found.
//!
//! Source: `KStreamKTableJoinProcessor` with its buffer (KIP-923). The operator's clock is the greatest
//! time of a record that waited. A record before `clock - grace` joins at once; any other waits, and
//! then all up to `clock - grace` join, by time, key and arrival, as of their own time. Rows of the
//! table do not move the clock. What cannot wait, a null key of a left join, joins at once.

use std::sync::Arc;

use super::stream_table_join::StreamTableJoin;
use crate::processor::NodeError;
use crate::processor::node::{Lifecycle, NodeContext, NodeInit, StreamReceiver};
use crate::processor::state::ClockId;
use crate::record::Record;
use crate::serde::Serde;
use crate::store::{JoinBuffer, StateStore, StoreHandle};

/// The bits of a sequence number that Kafka Streams uses.
const SEQUENCE_MASK: i64 = 0x7fff_ffff;

pub(crate) struct VersionedJoin<K, V, T, W> {
    pub(crate) join: StreamTableJoin<K, V, T, W>,
    pub(crate) buffer: StoreHandle<JoinBuffer<K, V>>,
    pub(crate) grace_ms: i64,
    pub(crate) clock: Option<ClockId>,
    pub(crate) sequence: Option<ClockId>,
}

impl<K: 'static, V: 'static, T, W> Lifecycle for VersionedJoin<K, V, T, W> {
    fn init(&mut self, ctx: &mut NodeInit<'_>) -> Result<(), NodeError> {
        let name: Arc<str> = ctx.task.stores.get(self.buffer).name().into();
        self.clock = Some(ctx.task.clock(&name));
        self.sequence = Some(ctx.task.clock(&format!("{name}/sequence").into()));
        Ok(())
    }
}

impl<K: 'static, V: 'static, T, W: 'static> StreamReceiver<K, V> for VersionedJoin<K, V, T, W> {
    fn receive(
        &mut self,
        record: Record<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let (clock, sequence) = (self.clock.expect("init ran"), self.sequence.expect("init ran"));
        let cannot_wait =
            self.join.key.is_null(record.key) || self.join.rows.value.is_null(record.value);
        if cannot_wait || record.timestamp < ctx.task.time_of(clock) - self.grace_ms {
            return self.join.receive(record, ctx);
        }
        let due = ctx.task.observe(clock, record.timestamp) - self.grace_ms;
        let next = (ctx.task.time_of(sequence) + 1) & SEQUENCE_MASK;
        ctx.task.set_clock(sequence, next);
        let place = ctx.task.place.clone();
        let buffer = ctx.task.stores.get(self.buffer);
        buffer.put(record, u32::try_from(next)?, place.as_ref())?;
        while let Some(waiting) = ctx.task.stores.get(self.buffer).take_up_to(due)? {
            let (key, value) = (&waiting.key, &waiting.value);
            let (timestamp, headers) = (waiting.timestamp, &waiting.headers);
            self.join.receive(Record { key, value, timestamp, headers }, ctx)?;
        }
        Ok(())
    }
}

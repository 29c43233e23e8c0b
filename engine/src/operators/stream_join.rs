//! `KStream::join_stream`, `left_join_stream` and `outer_join_stream`: records of two streams with
//! equal keys whose times are near each other. One node a side; both sides share the join's clock
//! and what has found no match yet.
//!
//! Source: `KStreamKStreamJoin`. There is no late check: grace only delays results without a match
//! and lengthens retention. For a record at t of the side whose forward reach is a:
//!
//! 1. The join's time T moves to t, whatever the record. A null value is dropped, a null key too
//!    unless the side is outer: then the record is joined with none at once (KIP-962).
//! 2. If t = T, unmatched records whose time has passed go out joined with none, in order of time,
//!    right before left, key. The walk begins only when the least time that waits, as it is assumed
//!    to be, has passed; the assumption is left at the last record the walk looked at, which can be
//!    later than the true least. Results may so be delayed, exactly as in Kafka Streams.
//! 3. Each match, in order of time and arrival, is joined at the greater of both times, and whatever
//!    waits with the match's time, side and key waits no longer.
//! 4. Without a match, an outer side's record is joined with none at once if t + a < T, else waits.
//! 5. The record is stored for the other side.
//!
//! The clocks travel in the unit of commit: the join's time, the assumed least time of what waits,
//! and a count that tells equal records apart.

use std::sync::Arc;

use crate::processor::drops::OnDropped;
use crate::processor::node::{Lifecycle, NodeContext, NodeInit, StreamReceiver};
use crate::processor::state::ClockId;
use crate::processor::{DropReason, NodeError};
use crate::record::Record;
use crate::serde::kafka_streams::JoinSide;
use crate::serde::{Serde, SharedSerde};
use crate::store::{
    JoinWindowStore, StateStore, StoreHandle, WaitingKey, WaitingStore, WaitingValues,
};
use crate::time::NO_TIMESTAMP;

/// How many waiting records the walk takes at a time.
const PAGE: usize = 64;
/// Kafka Streams counts duplicates in 31 bits.
const SEQUENCE_MASK: i64 = 0x7fff_ffff;

/// How near two records must be, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reach {
    /// How much earlier than a left record a right one may be.
    pub(crate) before_ms: i64,
    /// How much later.
    pub(crate) after_ms: i64,
    pub(crate) grace_ms: i64,
}

impl Reach {
    /// How far ahead of a record of this side its matches may be.
    fn forward(self, side: JoinSide) -> i64 {
        match side {
            JoinSide::Left => self.after_ms,
            JoinSide::Right => self.before_ms,
        }
    }

    fn backward(self, side: JoinSide) -> i64 {
        match side {
            JoinSide::Left => self.before_ms,
            JoinSide::Right => self.after_ms,
        }
    }

    /// A record of this side and time can still find a match at `now`, grace included.
    fn is_open(self, side: JoinSide, timestamp: i64, now: i64) -> bool {
        timestamp + self.forward(side) + self.grace_ms >= now
    }
}

/// Joins a record of this side with one of the other; one of them may be missing.
pub(crate) type SideJoiner<K, V, O, W> = Arc<dyn Fn(&K, Option<&V>, Option<&O>) -> W + Send + Sync>;

/// One side of a join: its records are `V`, the other's `O`.
pub(crate) struct StreamJoinSide<K, V, O, W> {
    pub(crate) side: JoinSide,
    /// A record without a match is joined with none.
    pub(crate) outer: bool,
    pub(crate) reach: Reach,
    pub(crate) joiner: SideJoiner<K, V, O, W>,
    pub(crate) own: StoreHandle<JoinWindowStore<K, V>>,
    pub(crate) others: StoreHandle<JoinWindowStore<K, O>>,
    /// None in an inner join.
    pub(crate) waiting: Option<StoreHandle<WaitingStore>>,
    /// The join's name, by which the clocks go.
    pub(crate) join: Arc<str>,
    pub(crate) key: SharedSerde<K>,
    pub(crate) value: SharedSerde<V>,
    pub(crate) other: SharedSerde<O>,
    pub(crate) on_dropped: OnDropped,
    pub(crate) clocks: Option<Clocks>,
}

impl<K, V, O, W> Clone for StreamJoinSide<K, V, O, W> {
    fn clone(&self) -> Self {
        Self {
            joiner: Arc::clone(&self.joiner),
            join: Arc::clone(&self.join),
            key: self.key.clone(),
            value: self.value.clone(),
            other: self.other.clone(),
            ..*self
        }
    }
}

/// What both sides share beside the stores.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clocks {
    /// The greatest time that reached the join.
    time: ClockId,
    /// The assumed least time of what waits; none is [`NO_TIMESTAMP`].
    least: ClockId,
    /// How many records were stored.
    sequence: ClockId,
}

impl<K: 'static, V: 'static, O: 'static, W: 'static> Lifecycle for StreamJoinSide<K, V, O, W> {
    fn init(&mut self, ctx: &mut NodeInit<'_>) -> Result<(), NodeError> {
        // Names of nodes are unique, and no store's has a `#`: these are nobody else's.
        let mut clock = |what| ctx.task.clock(&format!("{}#{what}", self.join).into());
        self.clocks = Some(Clocks {
            time: clock("time"),
            least: clock("least"),
            sequence: clock("sequence"),
        });
        Ok(())
    }
}

impl<K: 'static, V: 'static, O: 'static, W: 'static> StreamReceiver<K, V>
    for StreamJoinSide<K, V, O, W>
{
    fn receive(
        &mut self,
        record: Record<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let clocks = self.clocks.expect("init ran");
        let waiting = self.waiting;
        // Nothing of an inner join depends on its time.
        let now = match waiting {
            Some(_) => ctx.task.observe(clocks.time, record.timestamp),
            None => record.timestamp,
        };
        if self.value.is_null(record.value) {
            ctx.drop_record(DropReason::NullValue, self.on_dropped, || "value is null".into());
            return Ok(());
        }
        if self.key.is_null(record.key) {
            if self.outer {
                return self.forward(record, Some(record.value), None, record.timestamp, ctx);
            }
            ctx.drop_record(DropReason::NullKey, self.on_dropped, || "key is null".into());
            return Ok(());
        }
        if let Some(waiting) = waiting
            && record.timestamp == now
        {
            self.expire(record, waiting, now, ctx)?;
        }
        let matched = self.join_matches(record, ctx)?;
        if let Some(waiting) = waiting
            && self.outer
            && !matched
        {
            if record.timestamp + self.reach.forward(self.side) < now {
                self.forward(record, Some(record.value), None, record.timestamp, ctx)?;
            } else {
                self.wait(record, waiting, ctx)?;
            }
        }
        self.keep(record, ctx)
    }
}

impl<K: 'static, V: 'static, O: 'static, W: 'static> StreamJoinSide<K, V, O, W> {
    fn forward(
        &self,
        record: Record<'_, K, V>,
        own: Option<&V>,
        other: Option<&O>,
        timestamp: i64,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let joined = (self.joiner)(record.key, own, other);
        ctx.forward(record.with_value(&joined).with_timestamp(timestamp))
    }

    /// Joins the record with every match; false if there is none.
    fn join_matches(
        &mut self,
        record: Record<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<bool, NodeError> {
        let from = record.timestamp.saturating_sub(self.reach.backward(self.side)).max(0);
        let to = record.timestamp.saturating_add(self.reach.forward(self.side));
        let matches = ctx.task.stores.get(self.others).fetch(record.key, from, to)?;
        for (time, other) in &matches {
            if let Some(waiting) = self.waiting {
                let side = opposite(self.side);
                let met = self.waiting_key(record.key, *time, side)?;
                let waiting = ctx.task.stores.get(waiting);
                if waiting.get(&met)?.is_some() {
                    waiting.delete(&met)?;
                }
            }
            let timestamp = record.timestamp.max(*time);
            self.forward(record, Some(record.value), Some(other), timestamp, ctx)?;
        }
        Ok(!matches.is_empty())
    }

    fn waiting_key(
        &self,
        key: &K,
        timestamp: i64,
        side: JoinSide,
    ) -> Result<WaitingKey, NodeError> {
        let key = self.key.to_bytes(key)?.expect("null keys are joined with none before");
        Ok(WaitingKey { timestamp, side, key })
    }

    /// The record waits for a match.
    fn wait(
        &mut self,
        record: Record<'_, K, V>,
        waiting: StoreHandle<WaitingStore>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let key = self.waiting_key(record.key, record.timestamp, self.side)?;
        let value = self.value.to_bytes(record.value)?.expect("null values are dropped before");
        let store = ctx.task.stores.get(waiting);
        let none = WaitingValues { side: self.side, values: Vec::new() };
        let mut values = store.get(&key)?.unwrap_or(none);
        values.values.push(value);
        store.put(&key, &values)?;
        let least = self.clocks.expect("init ran").least;
        let before = ctx.task.time_of(least);
        if before == NO_TIMESTAMP || record.timestamp < before {
            ctx.task.set_clock(least, record.timestamp);
        }
        Ok(())
    }

    /// Sends on what has waited long enough, joined with none.
    fn expire(
        &mut self,
        record: Record<'_, K, V>,
        waiting: StoreHandle<WaitingStore>,
        now: i64,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let least = self.clocks.expect("init ran").least;
        let assumed = ctx.task.time_of(least);
        if assumed == NO_TIMESTAMP || self.reach.is_open(self.side, assumed, now) {
            return Ok(());
        }
        ctx.task.set_clock(least, NO_TIMESTAMP);
        let (mut left_open, mut right_open) = (false, false);
        let mut after = None;
        loop {
            let page = ctx.task.stores.get(waiting).page(after.as_ref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (key, values) in page {
                ctx.task.set_clock(least, key.timestamp);
                if left_open && right_open {
                    return Ok(());
                }
                if self.reach.is_open(key.side, key.timestamp, now) {
                    match key.side {
                        JoinSide::Left => left_open = true,
                        JoinSide::Right => right_open = true,
                    }
                    continue;
                }
                self.forward_unmatched(record, &key, &values.values, ctx)?;
                ctx.task.stores.get(waiting).delete(&key)?;
            }
        }
    }

    fn forward_unmatched(
        &self,
        record: Record<'_, K, V>,
        waited: &WaitingKey,
        values: &[Vec<u8>],
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let key = self.key.decode(Some(&waited.key))?;
        let record = record.with_key(&key);
        for value in values {
            if waited.side == self.side {
                let own = self.value.decode(Some(value))?;
                self.forward(record, Some(&own), None, waited.timestamp, ctx)?;
            } else {
                let other = self.other.decode(Some(value))?;
                self.forward(record, None, Some(&other), waited.timestamp, ctx)?;
            }
        }
        Ok(())
    }

    /// Keeps the record for the other side.
    fn keep(
        &mut self,
        record: Record<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let count = self.clocks.expect("init ran").sequence;
        let next = ctx.task.time_of(count) + 1;
        ctx.task.set_clock(count, next);
        let sequence = u32::try_from(next & SEQUENCE_MASK).expect("31 bits fit");
        let store = ctx.task.stores.get(self.own);
        if !store.put(record.key, record.timestamp, sequence, record.value)? {
            let store = store.name().to_owned();
            ctx.drop_record(DropReason::Expired, self.on_dropped, || {
                format!(
                    "the record is past the retention of `{store}`: later records cannot meet it"
                )
            });
        }
        Ok(())
    }
}

fn opposite(side: JoinSide) -> JoinSide {
    match side {
        JoinSide::Left => JoinSide::Right,
        JoinSide::Right => JoinSide::Left,
    }
}

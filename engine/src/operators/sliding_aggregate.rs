//! `TimeWindowedKStream::count`, `reduce` and `aggregate` in sliding windows: a window `[t - d, t]`
//! for each record's time `t`, and one `[t + 1, t + 1 + d]` for what follows it, kept only while they
//! hold different records. Both ends are inclusive.
//!
//! Source: `KStreamSlidingWindowAggregate` (KIP-450), its reverse walk. A null key or value is dropped
//! and does not move the operator's clock. A record at `t` is late, and dropped, if
//! `t + d < clock - grace`; one of its windows is, and skipped, if its `end < clock - grace`. A record
//! at `t < d` would have a window that begins before 0: `[0, d]` stands for it.

use super::aggregate::Aggregation;
use super::window_table::{WindowRow, WindowTable};
use crate::processor::node::{Lifecycle, NodeContext, NodeInit, StreamReceiver};
use crate::processor::{DropReason, NodeError};
use crate::record::{Record, Window, Windowed};
use crate::serde::{Serde, SharedSerde};

/// Sliding windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sliding {
    pub(crate) difference_ms: i64,
    pub(crate) grace_ms: i64,
}

pub(crate) struct SlidingAggregate<K, V, A> {
    pub(crate) aggregation: Aggregation<K, V, A>,
    pub(crate) windows: Sliding,
    pub(crate) table: WindowTable<K, A>,
    pub(crate) value: SharedSerde<V>,
    pub(crate) result: SharedSerde<A>,
}

/// A record and the window of its key that is being looked at.
struct Walk<'r, K, V> {
    record: Record<'r, K, V>,
    key: Windowed<K>,
    closed: i64,
}

/// A stored window, before the record: its start, the greatest time of its records, its row.
struct Stored {
    start: i64,
    latest: i64,
    row: Box<[u8]>,
}

impl<K: 'static, V: 'static, A: 'static> Lifecycle for SlidingAggregate<K, V, A> {
    fn init(&mut self, ctx: &mut NodeInit<'_>) -> Result<(), NodeError> {
        self.table.init(ctx)
    }

    fn flush(&mut self, ctx: &mut NodeContext<'_>) -> Result<(), NodeError> {
        self.table.flush(ctx)
    }
}

impl<K: 'static, V: 'static, A: 'static> SlidingAggregate<K, V, A> {
    /// The windows of the record's key that start in this range, by start.
    fn stored(
        &self,
        walk: &Walk<'_, K, V>,
        from: i64,
        ctx: &mut NodeContext<'_>,
    ) -> Result<Vec<Stored>, NodeError> {
        let Record { key, timestamp: at, .. } = walk.record;
        let store = self.table.rows(ctx);
        let rows = store.range_rows(key, from.max(0), at + 1)?;
        let one = |(start, row): (i64, Box<[u8]>)| {
            let (_, latest) = store.decode_row(&row)?;
            Ok(Stored { start, latest, row })
        };
        rows.into_iter().map(one).collect()
    }

    /// Adds the record to the window at `start`, on top of what a row holds, or of nothing.
    fn add(
        &mut self,
        walk: &mut Walk<'_, K, V>,
        start: i64,
        base: Option<&Stored>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let Record { key, value, timestamp: at, headers } = walk.record;
        walk.key.window = self.table.window(start);
        if walk.key.window.end < walk.closed {
            self.table.drop_late(walk.key.window, walk.closed, ctx);
            return Ok(());
        }
        let store = self.table.rows(ctx);
        let read = || base.map(|stored| store.decode_row(&stored.row)).transpose();
        let old = match self.table.sends_old() {
            true => read()?.map(|(old, _)| old).or_else(|| self.aggregation.initial(&self.result)),
            false => None,
        };
        let (base, latest) = read()?.map_or((None, 0), |(value, time)| (Some(value), time));
        let new = (self.aggregation.step)(key, value, base)?;
        let new = if self.result.is_null(&new) { None } else { Some(new) };
        let row = WindowRow { old, new, timestamp: at.max(latest), caused_at: at, headers };
        self.table.write(&walk.key, row, ctx)
    }

    /// Creates the window after the record from one that holds later records, without this one.
    fn copy_right(
        &mut self,
        walk: &mut Walk<'_, K, V>,
        from: &Stored,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let Record { timestamp: at, headers, .. } = walk.record;
        let (value, timestamp) = self.table.rows(ctx).decode_row(&from.row)?;
        walk.key.window = self.table.window(at + 1);
        let row = WindowRow { old: None, new: Some(value), timestamp, caused_at: at, headers };
        self.table.write(&walk.key, row, ctx)
    }

    fn update(
        &mut self,
        walk: &mut Walk<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let (at, difference) = (walk.record.timestamp, self.windows.difference_ms);
        let stored = self.stored(walk, at.saturating_sub(2 * difference), ctx)?;
        let (mut right, mut right_exists) = (None, false);
        let (mut left, mut left_exists) = (None, false);
        let (mut previous, mut first_met) = (None, at + 2);
        for window in stored.iter().rev() {
            let end = window.start + difference;
            first_met = window.start;
            if window.start == at + 1 {
                right_exists = true;
            } else if end > at {
                right = right.or(Some(window));
                self.add(walk, window.start, Some(window), ctx)?;
            } else if end == at {
                left_exists = true;
                self.add(walk, window.start, Some(window), ctx)?;
                if window.latest >= at {
                    return Ok(());
                }
                previous = Some(window.latest);
            } else {
                left = Some(window);
                previous = Some(window.latest);
                break;
            }
        }
        let was_met =
            |start: i64| start >= first_met && stored.iter().any(|window| window.start == start);
        if let Some(after) = previous.map(|previous| previous + 1)
            && !was_met(after)
            && after + difference >= at
        {
            self.add(walk, after, None, ctx)?;
        }
        if !left_exists {
            let base = left.filter(|_| previous.is_some_and(|time| time >= at - difference));
            self.add(walk, at - difference, base, ctx)?;
        }
        match right.filter(|right| !right_exists && right.latest > at) {
            Some(right) => self.copy_right(walk, right, ctx),
            None => Ok(()),
        }
    }

    /// As [`update`](Self::update) for a record whose own window would begin before 0.
    fn update_early(
        &mut self,
        walk: &mut Walk<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let at = walk.record.timestamp;
        let stored = self.stored(walk, 0, ctx)?;
        let (mut combined, mut right, mut right_exists) = (None, None, false);
        for window in &stored {
            if window.start == 0 {
                combined = Some(window);
            } else if window.start <= at {
                right = Some(window);
                self.add(walk, window.start, Some(window), ctx)?;
            } else {
                right_exists = true;
            }
        }
        let right = right.or(combined).filter(|right| !right_exists && right.latest > at);
        if let Some(right) = right {
            self.copy_right(walk, right, ctx)?;
        }
        let previous = combined.map(|window| window.latest).filter(|latest| *latest < at);
        if let Some(after) = previous.map(|previous| previous + 1)
            && !stored.iter().any(|window| window.start == after)
        {
            self.add(walk, after, None, ctx)?;
        }
        self.add(walk, 0, combined, ctx)
    }
}

impl<K: 'static, V: 'static, A: 'static> StreamReceiver<K, V> for SlidingAggregate<K, V, A> {
    fn receive(
        &mut self,
        record: Record<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let Some(key) = self.table.own_key(record, ctx)? else { return Ok(()) };
        if self.value.is_null(record.value) {
            let on_dropped = self.table.on_dropped();
            ctx.drop_record(DropReason::NullValue, on_dropped, || "value is null".into());
            return Ok(());
        }
        let (at, difference) = (record.timestamp, self.windows.difference_ms);
        let stream_time = self.table.observe(at, ctx);
        let closed = stream_time - self.windows.grace_ms;
        if at + difference < closed {
            let window = Window { start: at - difference, end: at };
            self.table.drop_late(window, closed, ctx);
            return Ok(());
        }
        let mut walk = Walk { record, key: Windowed { key, window: self.table.window(0) }, closed };
        if at < difference {
            return self.update_early(&mut walk, ctx);
        }
        self.update(&mut walk, ctx)?;
        self.table.emit_closed(closed - 1, record.headers, ctx)
    }
}

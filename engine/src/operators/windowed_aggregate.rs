//! `TimeWindowedKStream::count`, `reduce` and `aggregate` in windows that do not depend on the
//! records: one row per key and window.
//!
//! Source: `KStreamWindowAggregate`. A null key is dropped and does not move the operator's clock; a
//! null value is aggregated. The clock is the greatest time of all records with a key, late ones
//! included. A record updates each of its windows in ascending order of start; a window is late, and
//! skipped, if `end <= clock - grace`: a record may be late for some of its windows only.

use super::aggregate::Aggregation;
use super::window_table::{WindowRow, WindowTable};
use crate::processor::NodeError;
use crate::processor::node::{Lifecycle, NodeContext, NodeInit, StreamReceiver};
use crate::record::{Record, Window, Windowed};
use crate::serde::{Serde, SharedSerde};

/// Windows of a fixed size, beginning every `advance_ms` from 0; or one, from `first_ms` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Windows {
    pub(crate) size_ms: i64,
    pub(crate) advance_ms: i64,
    pub(crate) grace_ms: i64,
    pub(crate) first_ms: i64,
}

impl Windows {
    /// One window for all times from `first_ms` on.
    pub(crate) fn unlimited(first_ms: i64) -> Self {
        Self { size_ms: i64::MAX, advance_ms: i64::MAX, grace_ms: 0, first_ms }
    }

    pub(crate) fn is_unlimited(self) -> bool {
        self.size_ms == i64::MAX
    }

    /// The starts of the windows that contain a time, ascending.
    pub(crate) fn starts(self, timestamp: i64) -> impl Iterator<Item = i64> {
        let (numbers, origin, step) = if self.is_unlimited() {
            (0..i64::from(timestamp >= self.first_ms), self.first_ms, 0)
        } else {
            let first = (timestamp - self.size_ms + self.advance_ms).max(0) / self.advance_ms;
            (first..timestamp / self.advance_ms + 1, 0, self.advance_ms)
        };
        numbers.map(move |n| origin + n * step)
    }
}

pub(crate) struct WindowedAggregate<K, V, A> {
    pub(crate) aggregation: Aggregation<K, V, A>,
    pub(crate) windows: Windows,
    pub(crate) table: WindowTable<K, A>,
    pub(crate) result: SharedSerde<A>,
}

impl<K: 'static, V: 'static, A: 'static> Lifecycle for WindowedAggregate<K, V, A> {
    fn init(&mut self, ctx: &mut NodeInit<'_>) -> Result<(), NodeError> {
        self.table.init(ctx)
    }

    fn flush(&mut self, ctx: &mut NodeContext<'_>) -> Result<(), NodeError> {
        self.table.flush(ctx)
    }
}

impl<K: 'static, V: 'static, A: 'static> WindowedAggregate<K, V, A> {
    fn update(
        &mut self,
        record: Record<'_, K, V>,
        key: &Windowed<K>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let start = key.window.start;
        let store = self.table.rows(ctx);
        let stored = store.fetch(record.key, start)?;
        let old = match (self.table.sends_old(), &stored) {
            (false, _) => None,
            (true, None) => self.aggregation.initial(&self.result),
            (true, Some(_)) => store.fetch(record.key, start)?.map(|(value, _)| value),
        };
        let timestamp = record.timestamp.max(stored.as_ref().map_or(0, |(_, time)| *time));
        let stored = stored.map(|(value, _)| value);
        let new = (self.aggregation.step)(record.key, record.value, stored)?;
        let new = if self.result.is_null(&new) { None } else { Some(new) };
        let (caused_at, headers) = (record.timestamp, record.headers);
        self.table.write(key, WindowRow { old, new, timestamp, caused_at, headers }, ctx)
    }
}

impl<K: 'static, V: 'static, A: 'static> StreamReceiver<K, V> for WindowedAggregate<K, V, A> {
    fn receive(
        &mut self,
        record: Record<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        let Some(key) = self.table.own_key(record, ctx)? else { return Ok(()) };
        let stream_time = self.table.observe(record.timestamp, ctx);
        let closed = stream_time - self.windows.grace_ms;
        let mut windowed = Windowed { key, window: Window { start: 0, end: 0 } };
        for start in self.windows.starts(record.timestamp) {
            windowed.window = self.table.window(start);
            if windowed.window.end > closed {
                self.update(record, &windowed, ctx)?;
            } else {
                self.table.drop_late(windowed.window, closed, ctx);
            }
        }
        self.table.emit_closed(closed, record.headers, ctx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(size_ms: i64, advance_ms: i64, timestamp: i64) -> Vec<i64> {
        let windows = Windows { size_ms, advance_ms, grace_ms: 0, first_ms: 0 };
        windows.starts(timestamp).collect()
    }

    #[test]
    fn a_time_is_in_one_tumbling_window() {
        assert_eq!(starts(10, 10, 0), [0]);
        assert_eq!(starts(10, 10, 19), [10]);
        assert_eq!(starts(10, 10, 20), [20]);
    }

    #[test]
    fn a_time_is_in_every_hopping_window_that_contains_it() {
        assert_eq!(starts(10, 5, 12), [5, 10]);
        assert_eq!(starts(10, 3, 12), [3, 6, 9, 12]);
        assert_eq!(starts(10, 4, 3), [0]);
    }

    #[test]
    fn an_unlimited_window_holds_every_time_from_its_start_on() {
        let windows = Windows::unlimited(7);
        assert_eq!(windows.starts(6).count(), 0);
        assert_eq!(windows.starts(7).collect::<Vec<_>>(), [7]);
        assert_eq!(windows.starts(i64::MAX - 1).collect::<Vec<_>>(), [7]);
    }
}

//! `TimeWindowedKStream::count`, `reduce` and `aggregate`: one row per key and window.
//!
//! Source: `KStreamWindowAggregate`. A null key is dropped and does not move the operator's clock; a
//! null value is aggregated. The clock is the greatest time of all records with a key, late ones
//! included. A record updates each of its windows in ascending order of start; a window is late, and
//! skipped, if `end <= clock - grace`: a record may be late for some of its windows only.

use super::aggregate::Aggregation;
use crate::processor::drops::OnDropped;
use crate::processor::getter::ValueGetter;
use crate::processor::node::{Lifecycle, NodeContext, NodeInit, StreamReceiver};
use crate::processor::state::{ClockId, TaskState};
use crate::processor::{DropReason, NodeError};
use crate::record::{Change, Headers, Record, Window, Windowed};
use crate::serde::{Serde, SharedSerde};
use crate::store::{StoreHandle, TimestampedWindowStore};

/// Windows of a fixed size, beginning every `advance_ms` from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Windows {
    pub(crate) size_ms: i64,
    pub(crate) advance_ms: i64,
    pub(crate) grace_ms: i64,
}

impl Windows {
    /// The starts of the windows that contain a time, ascending.
    pub(crate) fn starts(self, timestamp: i64) -> impl Iterator<Item = i64> {
        let first = (timestamp - self.size_ms + self.advance_ms).max(0) / self.advance_ms;
        let last = timestamp / self.advance_ms;
        (first..=last).map(move |n| n * self.advance_ms)
    }
}

pub(crate) struct WindowedAggregate<K, V, A> {
    pub(crate) aggregation: Aggregation<K, V, A>,
    pub(crate) windows: Windows,
    pub(crate) store: StoreHandle<TimestampedWindowStore<K, A>>,
    pub(crate) key: SharedSerde<K>,
    pub(crate) result: SharedSerde<A>,
    pub(crate) on_dropped: OnDropped,
    pub(crate) sends_old: bool,
    pub(crate) cached: bool,
    pub(crate) clock: Option<ClockId>,
    pub(crate) lane: usize,
    pub(crate) key_buffer: Vec<u8>,
}

impl<K: 'static, V: 'static, A: 'static> Lifecycle for WindowedAggregate<K, V, A> {
    fn init(&mut self, ctx: &mut NodeInit<'_>) -> Result<(), NodeError> {
        // The clock goes by the store's name, which its user gave, never by a node's.
        let store: std::sync::Arc<str> = {
            use crate::store::StateStore;
            ctx.task.stores.get(self.store).name().into()
        };
        self.clock = Some(ctx.task.clock(&store));
        if self.cached {
            self.lane = ctx.task.add_cache();
        }
        Ok(())
    }

    fn flush(&mut self, ctx: &mut NodeContext<'_>) -> Result<(), NodeError> {
        if !self.cached {
            return Ok(());
        }
        for (key, touched) in ctx.task.caches[self.lane].take() {
            let (key, start) = key.split_at(key.len() - 8);
            let start = i64::from_be_bytes(start.try_into().expect("eight bytes were split off"));
            let key = self.key.decode(Some(key))?;
            let store = ctx.task.stores.get(self.store);
            let now = store.fetch(&key, start)?;
            let change = touched.change(now, self.sends_old, |row| store.decode_row(row))?;
            if let Some((old, new, timestamp)) = change {
                let key = Windowed { key, window: self.window(start) };
                let (old, new, headers) = (&old, &new, &touched.headers);
                ctx.forward_change(Change { key: &key, old, new, timestamp, headers })?;
            }
        }
        Ok(())
    }
}

impl<K: 'static, V: 'static, A: 'static> WindowedAggregate<K, V, A> {
    fn window(&self, start: i64) -> Window {
        Window { start, end: start + self.windows.size_ms }
    }

    fn update(
        &mut self,
        record: Record<'_, K, V>,
        key: Windowed<K>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<Windowed<K>, NodeError> {
        let start = key.window.start;
        let store = ctx.task.stores.get(self.store);
        let stored = store.fetch(record.key, start)?;
        let old = match (self.sends_old, &stored) {
            (false, _) => None,
            (true, None) => self.aggregation.initial(&self.result),
            (true, Some(_)) => store.fetch(record.key, start)?.map(|(value, _)| value),
        };
        let timestamp = record.timestamp.max(stored.as_ref().map_or(0, |(_, time)| *time));
        let stored = stored.map(|(value, _)| value);
        let new = (self.aggregation.step)(record.key, record.value, stored)?;
        let new = if self.result.is_null(&new) { None } else { Some(new) };
        if self.cached {
            self.touch(record.key, start, record.timestamp, record.headers, ctx)?;
        }
        let store = ctx.task.stores.get(self.store);
        if !store.put(record.key, start, new.as_ref(), timestamp)? {
            ctx.drop_record(DropReason::Expired, self.on_dropped, || {
                format!("window at {start} is past the store's retention")
            });
            return Ok(key);
        }
        if !self.cached {
            let headers = record.headers;
            ctx.forward_change(Change { key: &key, old: &old, new: &new, timestamp, headers })?;
        }
        Ok(key)
    }

    fn touch(
        &mut self,
        key: &K,
        start: i64,
        caused_at: i64,
        headers: &Headers,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        self.key_buffer.clear();
        self.key.encode(key, &mut self.key_buffer)?;
        self.key_buffer.extend_from_slice(&start.to_be_bytes());
        let before = if ctx.task.caches[self.lane].contains(&self.key_buffer) {
            None
        } else {
            ctx.task.stores.get(self.store).row(key, start)?
        };
        ctx.task.caches[self.lane].touch(&self.key_buffer, before, caused_at, headers);
        Ok(())
    }
}

impl<K: 'static, V: 'static, A: 'static> StreamReceiver<K, V> for WindowedAggregate<K, V, A> {
    fn receive(
        &mut self,
        record: Record<'_, K, V>,
        ctx: &mut NodeContext<'_>,
    ) -> Result<(), NodeError> {
        self.key_buffer.clear();
        let Some(key) = self.key.encode(record.key, &mut self.key_buffer)? else {
            ctx.drop_record(DropReason::NullKey, self.on_dropped, || "key is null".into());
            return Ok(());
        };
        // Windowed<K> owns its key; reading it back asks no Clone of K.
        let key = self.key.decode(Some(key))?;
        let clock = self.clock.expect("init ran");
        let stream_time = ctx.task.observe(clock, record.timestamp);
        let closed = stream_time - self.windows.grace_ms;
        let mut windowed = Windowed { key, window: Window { start: 0, end: 0 } };
        for start in self.windows.starts(record.timestamp) {
            windowed.window = self.window(start);
            if windowed.window.end > closed {
                windowed = self.update(record, windowed, ctx)?;
            } else {
                let Window { start, end } = windowed.window;
                ctx.drop_record(DropReason::Late, self.on_dropped, || {
                    format!(
                        "window [{start}, {end}) had closed: stream time is {stream_time}, grace {} ms",
                        self.windows.grace_ms
                    )
                });
            }
        }
        Ok(())
    }
}

/// Looks rows up in a windowed table's store.
pub(crate) struct WindowGetter<K, V>(pub(crate) StoreHandle<TimestampedWindowStore<K, V>>);

impl<K: 'static, V: 'static> ValueGetter<Windowed<K>, V> for WindowGetter<K, V> {
    fn get(
        &mut self,
        key: &Windowed<K>,
        task: &mut TaskState,
    ) -> Result<Option<(V, i64)>, NodeError> {
        task.stores.get(self.0).fetch(&key.key, key.window.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(size_ms: i64, advance_ms: i64, timestamp: i64) -> Vec<i64> {
        Windows { size_ms, advance_ms, grace_ms: 0 }.starts(timestamp).collect()
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
}

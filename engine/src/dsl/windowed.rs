//! Time windows, aligned or sliding, and `TimeWindowedKStream`: a grouped stream, aggregated within
//! windows.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::grouped::{KGroupedStream, aggregating, counting, reducing};
use super::options::Materialized;
use super::table::{GetterSupplier, KTable, aggregate_table};
use crate::operators::aggregate::Aggregation;
use crate::operators::sliding_aggregate::{Sliding, SlidingAggregate};
use crate::operators::stream_node;
use crate::operators::window_table::{Emission, WindowGetter, WindowTable};
use crate::operators::windowed_aggregate::{WindowedAggregate, Windows};
use crate::record::Windowed;
use crate::serde::SharedSerde;
use crate::serde::kafka_streams::time_windowed;
use crate::store::{StoreHandle, StoreKind, WindowSpec};
use crate::time::saturating_ms;
use crate::topology::graph::{Graph, Instance, NewNode, Supplier};

/// Windows of a fixed size, half-open `[start, start + size)`, aligned to the epoch.
///
/// Grace is how long after its end a window still takes records, in stream time. It must be said:
/// [`tumbling`](Self::tumbling) and [`hopping`](Self::hopping) take it (KIP-633).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeWindows {
    pub(super) windows: Windows,
}

impl TimeWindows {
    /// Windows that do not overlap: `[n * size, n * size + size)`.
    pub fn tumbling(size: Duration, grace: Duration) -> Self {
        Self::hopping(size, size, grace)
    }

    /// Windows that begin every `advance`: `[n * advance, n * advance + size)`, n >= 0.
    pub fn hopping(size: Duration, advance: Duration, grace: Duration) -> Self {
        let (size_ms, advance_ms) = (saturating_ms(size), saturating_ms(advance));
        let grace_ms = saturating_ms(grace);
        Self { windows: Windows { size_ms, advance_ms, grace_ms, first_ms: 0 } }
    }

    /// One window that begins `start` after the epoch and never ends; earlier records are in none.
    /// Its end reads as `i64::MAX`.
    ///
    /// Source: `UnlimitedWindows`.
    pub fn unlimited(start: Duration) -> Self {
        Self { windows: Windows::unlimited(saturating_ms(start)) }
    }
}

/// Windows that slide with the records: all records of a key within `difference` of each other meet
/// in one window `[end - difference, end]`, both ends included. Unlike hopping windows there are only
/// as many as there are different sets of records.
///
/// Source: `SlidingWindows` (KIP-450).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlidingWindows {
    pub(super) windows: Sliding,
}

impl SlidingWindows {
    /// Windows of records at most `difference` apart, which take records for `grace` after their
    /// end.
    pub fn of_difference(difference: Duration, grace: Duration) -> Self {
        let (difference_ms, grace_ms) = (saturating_ms(difference), saturating_ms(grace));
        Self { windows: Sliding { difference_ms, grace_ms } }
    }
}

/// Either kind of window.
#[derive(Debug, Clone, Copy)]
pub(super) enum Windowing {
    Aligned(Windows),
    Sliding(Sliding),
}

impl From<TimeWindows> for Windowing {
    fn from(of: TimeWindows) -> Self {
        Self::Aligned(of.windows)
    }
}

impl From<SlidingWindows> for Windowing {
    fn from(of: SlidingWindows) -> Self {
        Self::Sliding(of.windows)
    }
}

impl Windowing {
    fn size_ms(self) -> i64 {
        match self {
            Windowing::Aligned(windows) => windows.size_ms,
            Windowing::Sliding(windows) => windows.difference_ms,
        }
    }

    pub(super) fn grace_ms(self) -> i64 {
        match self {
            Windowing::Aligned(windows) => windows.grace_ms,
            Windowing::Sliding(windows) => windows.grace_ms,
        }
    }

    /// What a store must keep so that no window that can still change is lost, in milliseconds.
    fn kept_ms(self) -> i64 {
        let kept = self.size_ms().saturating_add(self.grace_ms());
        match self {
            Windowing::Aligned(_) => kept,
            Windowing::Sliding(windows) => kept.saturating_add(windows.difference_ms),
        }
    }

    fn check(self, graph: &mut Graph, name: &str, retention_ms: i64) {
        graph.check_duration("window grace", name, self.grace_ms(), 0);
        match self {
            Windowing::Aligned(windows) if windows.is_unlimited() => {
                return graph.check_duration("window start", name, windows.first_ms, 0);
            }
            Windowing::Aligned(windows) => {
                graph.check_duration("window size", name, windows.size_ms, 1);
                graph.check_duration("window advance", name, windows.advance_ms, 1);
                if windows.advance_ms > windows.size_ms {
                    // Times between two windows would belong to none.
                    graph.check_duration("window size", name, windows.size_ms, windows.advance_ms);
                }
            }
            Windowing::Sliding(windows) => {
                graph.check_duration("window difference", name, windows.difference_ms, 0);
            }
        }
        graph.check_duration("window retention", name, retention_ms, self.kept_ms().max(1));
    }
}

/// The store of a windowed aggregation, and what its nodes share.
pub(super) struct WindowPlace<K, A> {
    /// The number of the store.
    pub(super) store: usize,
    windowing: Windowing,
    key: SharedSerde<K>,
    result: SharedSerde<A>,
    closing: bool,
}

impl<K: 'static, A: 'static> WindowPlace<K, A> {
    pub(super) fn new(
        graph: &mut Graph,
        windowing: Windowing,
        key: SharedSerde<K>,
        materialized: Materialized<A>,
        closing: bool,
    ) -> Self {
        let retention_ms = materialized.retention_ms.unwrap_or(windowing.kept_ms());
        windowing.check(graph, &materialized.name, retention_ms);
        let spec = WindowSpec { size_ms: windowing.size_ms(), retention_ms };
        let kind = match closing {
            true => StoreKind::ClosingWindow(spec),
            false => StoreKind::TimestampedWindow(spec),
        };
        let store = graph.add_store(materialized.store(kind, key.clone()));
        Self { store, windowing, key, result: materialized.value, closing }
    }

    /// Makes the node that aggregates a grouped stream into the store. `table`: the node that is
    /// the table.
    pub(super) fn supplier<V: 'static>(
        &self,
        grouped: &KGroupedStream<'_, K, V>,
        aggregation: Aggregation<K, V, A>,
        clock_name: Arc<str>,
        table: usize,
    ) -> Supplier {
        let (store, windowing, closing) = (self.store, self.windowing, self.closing);
        let (key, result) = (self.key.clone(), self.result.clone());
        let (value, on_dropped) = (grouped.value.clone(), grouped.on_dropped);
        let rows = move |instance: &Instance<'_>| {
            let emission = Emission::of(closing, instance.is_cached(store));
            let sends_old = instance.graph.table(table).sends_old;
            let size_ms = windowing.size_ms();
            WindowTable::new(store, key.clone(), size_ms, emission, sends_old, on_dropped)
                .with_clock(Arc::clone(&clock_name))
        };
        Box::new(move |instance| match windowing {
            Windowing::Aligned(windows) => stream_node::<K, V>(WindowedAggregate {
                aggregation: aggregation.clone(),
                windows,
                table: rows(instance),
                result: result.clone(),
            }),
            Windowing::Sliding(windows) => stream_node::<K, V>(SlidingAggregate {
                aggregation: aggregation.clone(),
                windows,
                table: rows(instance),
                value: value.clone(),
                result: result.clone(),
            }),
        })
    }

    /// Makes a node the table of the store.
    pub(super) fn into_table(self, new: &mut NewNode) {
        let Self { store, windowing, key, .. } = self;
        let getter: GetterSupplier<Windowed<K>, A> =
            Arc::new(move |_| Box::new(WindowGetter::<K, A>(StoreHandle::new(store, 0))));
        new.closes_after_ms = Some(windowing.grace_ms());
        aggregate_table(new, store, time_windowed(key, windowing.size_ms()), getter);
    }
}

/// A grouped stream, to be aggregated within windows: a record updates each window that contains
/// its time, unless the window has closed (`end + grace <= stream time` of this operator: late; of
/// sliding windows, whose end is included, `end + grace < stream time`). Late records are counted,
/// logged with their place and, where the grouping asks, dead-lettered.
///
/// Source: `org.apache.kafka.streams.kstream.TimeWindowedKStream`.
pub struct TimeWindowedKStream<'g, 'b, K, V> {
    grouped: &'g KGroupedStream<'b, K, V>,
    windowing: Windowing,
    closing: bool,
}

impl<K, V> fmt::Debug for TimeWindowedKStream<'_, '_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimeWindowedKStream({:?})", self.windowing)
    }
}

impl<'g, 'b, K: 'static, V: 'static> TimeWindowedKStream<'g, 'b, K, V> {
    pub(super) fn new(
        grouped: &'g KGroupedStream<'b, K, V>,
        windowing: impl Into<Windowing>,
    ) -> Self {
        Self { grouped, windowing: windowing.into(), closing: false }
    }

    /// Sends one result for each window, when it has closed, and no updates before. With it the
    /// store does not cache. Windows that close by a jump of stream time past the store's retention
    /// never appear: give a [`retention`](Materialized::retention) as long as the pauses to expect.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # use std::time::Duration;
    /// # let b = StreamsBuilder::new();
    /// # let clicks = b.stream("clicks", Consumed::with(string(), string()));
    /// let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
    /// let finals = clicks
    ///     .group_by_key(Grouped::with("by-user", string(), string()))
    ///     .windowed_by(TimeWindows::tumbling(minute, Duration::ZERO))
    ///     .emit_on_window_close()
    ///     .count(Materialized::count("clicks-per-minute").retention(hour));
    /// ```
    ///
    /// Source: `EmitStrategy.onWindowClose` (KIP-825).
    #[must_use]
    pub fn emit_on_window_close(mut self) -> Self {
        self.closing = true;
        self
    }

    /// The number of records of each key and window; null values count, but not in sliding windows.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # use std::time::Duration;
    /// # let b = StreamsBuilder::new();
    /// # let clicks = b.stream("clicks", Consumed::with(string(), string()));
    /// let five_minutes = TimeWindows::tumbling(Duration::from_secs(300), Duration::from_secs(60));
    /// let counts = clicks
    ///     .group_by_key(Grouped::with("by-user", string(), string()))
    ///     .windowed_by(five_minutes)
    ///     .count(Materialized::count("clicks-per-window"));
    /// ```
    pub fn count(&self, materialized: Materialized<i64>) -> KTable<'b, Windowed<K>, i64> {
        self.add("windowed-count", counting(), materialized)
    }

    /// As [`KGroupedStream::reduce`], in each window.
    pub fn reduce(
        &self,
        reducer: impl Fn(&V, &V) -> V + Send + Sync + 'static,
        materialized: Materialized<V>,
    ) -> KTable<'b, Windowed<K>, V> {
        let aggregation = reducing(reducer, self.grouped.value.clone());
        self.add("windowed-reduce", aggregation, materialized)
    }

    /// As [`KGroupedStream::aggregate`], in each window; null values are aggregated, but not in
    /// sliding windows.
    pub fn aggregate<A: 'static>(
        &self,
        initializer: impl Fn() -> A + Send + Sync + 'static,
        aggregator: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
        materialized: Materialized<A>,
    ) -> KTable<'b, Windowed<K>, A> {
        self.add("windowed-aggregate", aggregating(initializer, aggregator), materialized)
    }

    fn add<A: 'static>(
        &self,
        operator: &'static str,
        aggregation: Aggregation<K, V, A>,
        materialized: Materialized<A>,
    ) -> KTable<'b, Windowed<K>, A> {
        let stream = self.grouped.partitioned();
        let mut graph = stream.builder.graph();
        let key = self.grouped.key.clone();
        let place = WindowPlace::new(&mut graph, self.windowing, key, materialized, self.closing);
        let (name, node) = (graph.store_name(place.store), graph.nodes.len());
        drop(graph);
        let supplier = place.supplier(self.grouped, aggregation, name, node);
        let mut new = stream.new_node::<Windowed<K>, A>(operator, false, supplier);
        new.clocks = 1 + usize::from(self.closing);
        place.into_table(&mut new);
        stream.builder.table_handle(new)
    }
}

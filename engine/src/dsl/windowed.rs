//! Time windows and `TimeWindowedKStream`: a grouped stream, aggregated within windows.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::grouped::{KGroupedStream, aggregating, counting, reducing};
use super::options::Materialized;
use super::table::{GetterSupplier, KTable};
use crate::operators::aggregate::Aggregation;
use crate::operators::stream_node;
use crate::operators::windowed_aggregate::{WindowGetter, WindowedAggregate, Windows};
use crate::record::Windowed;
use crate::serde::kafka_streams::time_windowed;
use crate::store::{StoreHandle, StoreKind, StoreSpec, WindowSpec};
use crate::time::saturating_ms;
use crate::topology::graph::{EdgeType, Supplier, Table, TableKind};

/// Windows of a fixed size, half-open `[start, start + size)`, aligned to the epoch.
///
/// Grace is how long after its end a window still takes records, in stream time. It must be said:
/// [`tumbling`](Self::tumbling) and [`hopping`](Self::hopping) take it (KIP-633).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeWindows {
    windows: Windows,
}

impl TimeWindows {
    /// Windows that do not overlap: `[n * size, n * size + size)`.
    pub fn tumbling(size: Duration, grace: Duration) -> Self {
        Self::hopping(size, size, grace)
    }

    /// Windows that begin every `advance`: `[n * advance, n * advance + size)`, n >= 0.
    pub fn hopping(size: Duration, advance: Duration, grace: Duration) -> Self {
        let (size_ms, advance_ms) = (saturating_ms(size), saturating_ms(advance));
        Self { windows: Windows { size_ms, advance_ms, grace_ms: saturating_ms(grace) } }
    }
}

/// A grouped stream, to be aggregated within windows: a record updates each window that contains
/// its time, unless the window has closed (`end + grace <= stream time` of this operator: late).
/// Late records are counted, logged with their place and, where the grouping asks, dead-lettered.
///
/// Source: `org.apache.kafka.streams.kstream.TimeWindowedKStream`.
pub struct TimeWindowedKStream<'g, 'b, K, V> {
    grouped: &'g KGroupedStream<'b, K, V>,
    windows: Windows,
}

impl<K, V> fmt::Debug for TimeWindowedKStream<'_, '_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimeWindowedKStream({:?})", self.windows)
    }
}

impl<'g, 'b, K: 'static, V: 'static> TimeWindowedKStream<'g, 'b, K, V> {
    pub(super) fn new(grouped: &'g KGroupedStream<'b, K, V>, windows: TimeWindows) -> Self {
        Self { grouped, windows: windows.windows }
    }

    /// The number of records of each key and window; null values count.
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

    /// As [`KGroupedStream::aggregate`], in each window; null values are aggregated.
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
        let builder = stream.builder;
        let windows = self.windows;
        let Materialized { name, value: result, cached, retention_ms } = materialized;
        let kept = windows.size_ms.saturating_add(windows.grace_ms);
        let retention_ms = retention_ms.unwrap_or(kept);
        {
            let mut graph = builder.graph();
            graph.check_duration("window size", &name, windows.size_ms, 1);
            graph.check_duration("window advance", &name, windows.advance_ms, 1);
            graph.check_duration("window grace", &name, windows.grace_ms, 0);
            graph.check_duration("window retention", &name, retention_ms, kept.max(1));
            if windows.advance_ms > windows.size_ms {
                // Times between two windows would belong to none.
                graph.check_duration("window size", &name, windows.size_ms, windows.advance_ms);
            }
        }
        let key = self.grouped.key.clone();
        let spec = WindowSpec { size_ms: windows.size_ms, retention_ms };
        let kind = StoreKind::TimestampedWindow(spec);
        let mut spec = StoreSpec::new(name.as_str(), kind, key.clone(), result.clone());
        spec.cached = cached;
        let store = builder.graph().add_store(spec);
        let on_dropped = self.grouped.on_dropped;
        let own_key = key.clone();
        let supplier: Supplier = Box::new(move |instance| {
            stream_node::<K, V>(WindowedAggregate {
                aggregation: aggregation.clone(),
                windows,
                store: StoreHandle::new(store, 0),
                key: own_key.clone(),
                result: result.clone(),
                on_dropped,
                sends_old: instance.sends_old(),
                cached: instance.is_cached(store),
                clock: None,
                lane: usize::MAX,
                key_buffer: Vec::new(),
            })
        });
        let getter: GetterSupplier<Windowed<K>, A> =
            Arc::new(move |_| Box::new(WindowGetter::<K, A>(StoreHandle::new(store, 0))));
        let mut new = stream.new_node::<Windowed<K>, A>(operator, false, supplier);
        new.output = Some(EdgeType::table::<Windowed<K>, A>());
        new.stores = vec![store];
        new.clocks = 1;
        new.table = Some(Table {
            kind: TableKind::Aggregate,
            store: Some(store),
            sends_old: false,
            key_serde: Box::new(time_windowed(key, windows.size_ms)),
            force: None,
            getter: Box::new(getter),
        });
        builder.table_handle(new)
    }
}

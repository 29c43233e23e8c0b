//! `KGroupedStream`: a stream grouped by key, to be aggregated.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use super::builder::StreamsBuilder;
use super::cogrouped::CogroupedKStream;
use super::options::{Grouped, Materialized, Repartitioned};
use super::session_windowed::{SessionWindowedKStream, SessionWindows};
use super::stream::KStream;
use super::table::{KTable, aggregate_table, getter_of};
use super::windowed::{SlidingWindows, TimeWindowedKStream, TimeWindows};
use crate::operators::aggregate::{Aggregate, Aggregation};
use crate::operators::stream_node;
use crate::processor::NodeError;
use crate::processor::drops::OnDropped;
use crate::serde::SharedSerde;
use crate::store::StoreKind;
use crate::topology::graph::Supplier;

/// A grouped stream. If the key was changed since the source, all its aggregations share one
/// repartition topic, `<application>-<name>-repartition`.
///
/// Source: `org.apache.kafka.streams.kstream.KGroupedStream`.
pub struct KGroupedStream<'b, K, V> {
    stream: Cell<KStream<'b, K, V>>,
    pub(super) name: String,
    pub(super) key: SharedSerde<K>,
    pub(super) value: SharedSerde<V>,
    pub(super) on_dropped: OnDropped,
}

impl<K, V> fmt::Debug for KGroupedStream<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KGroupedStream({})", self.name)
    }
}

impl<'b, K: 'static, V: 'static> KGroupedStream<'b, K, V> {
    pub(super) fn new(stream: KStream<'b, K, V>, grouped: Grouped<K, V>) -> Self {
        let Grouped { name, key, value, on_dropped } = grouped;
        Self { stream: Cell::new(stream), name, key, value, on_dropped }
    }

    pub(super) fn builder(&self) -> &'b StreamsBuilder {
        self.stream.get().builder
    }

    /// The stream to aggregate, repartitioned at the first use if need be.
    pub(super) fn partitioned(&self) -> KStream<'b, K, V> {
        let stream = self.stream.get();
        if stream.key_changed() {
            let (key, value) = (self.key.clone(), self.value.clone());
            self.stream.set(stream.repartition(Repartitioned::with(&self.name, key, value)));
        }
        self.stream.get()
    }

    /// The number of records of each key. Null keys and values are dropped.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// # let clicks = b.stream("clicks", Consumed::with(string(), string()));
    /// let counts = clicks
    ///     .group_by_key(Grouped::with("by-user", string(), string()))
    ///     .count(Materialized::count("clicks-per-user"));
    /// ```
    pub fn count(&self, materialized: Materialized<i64>) -> KTable<'b, K, i64> {
        self.add("count", counting(), materialized)
    }

    /// The first value of each key, then `reducer(so far, value)`. Null keys and values are dropped.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// # let bids = b.stream("bids", Consumed::with(string(), i64()));
    /// let highest = bids
    ///     .group_by_key(Grouped::with("by-item", string(), i64()))
    ///     .reduce(|best, bid| *best.max(bid), Materialized::with("highest", i64()));
    /// ```
    pub fn reduce(
        &self,
        reducer: impl Fn(&V, &V) -> V + Send + Sync + 'static,
        materialized: Materialized<V>,
    ) -> KTable<'b, K, V> {
        self.add("reduce", reducing(reducer, self.value.clone()), materialized)
    }

    /// `initializer()` for each key, then `aggregator(key, value, so far)`. Null keys and values are
    /// dropped; an aggregate that its serde takes for null deletes the row.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// # let bids = b.stream("bids", Consumed::with(string(), i64()));
    /// let totals = bids.group_by_key(Grouped::with("by-item", string(), i64())).aggregate(
    ///     || 0,
    ///     |_, bid, total| total + bid,
    ///     Materialized::with("totals", i64()),
    /// );
    /// ```
    pub fn aggregate<A: 'static>(
        &self,
        initializer: impl Fn() -> A + Send + Sync + 'static,
        aggregator: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
        materialized: Materialized<A>,
    ) -> KTable<'b, K, A> {
        self.add("aggregate", aggregating(initializer, aggregator), materialized)
    }

    /// Aggregates within windows of time.
    pub fn windowed_by(&self, windows: TimeWindows) -> TimeWindowedKStream<'_, 'b, K, V> {
        TimeWindowedKStream::new(self, windows)
    }

    /// Aggregates within windows that slide with the records.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # use std::time::Duration;
    /// # let b = StreamsBuilder::new();
    /// # let logins = b.stream("logins", Consumed::with(string(), string()));
    /// let ten_minutes = SlidingWindows::of_difference(Duration::from_secs(600), Duration::ZERO);
    /// let bursts = logins
    ///     .group_by_key(Grouped::with("by-user", string(), string()))
    ///     .windowed_by_sliding(ten_minutes)
    ///     .count(Materialized::count("logins-within-ten-minutes"));
    /// ```
    pub fn windowed_by_sliding(
        &self,
        windows: SlidingWindows,
    ) -> TimeWindowedKStream<'_, 'b, K, V> {
        TimeWindowedKStream::new(self, windows)
    }

    /// Aggregates by sessions: records of a key within a gap of each other.
    pub fn windowed_by_sessions(
        &self,
        windows: SessionWindows,
    ) -> SessionWindowedKStream<'_, 'b, K, V> {
        SessionWindowedKStream::new(self, windows)
    }

    /// Begins a cogroup: streams of other values that are aggregated together with this one. See
    /// [`CogroupedKStream::aggregate`].
    pub fn cogroup<A: 'static>(
        self,
        aggregator: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
    ) -> CogroupedKStream<'b, K, A> {
        CogroupedKStream::new(self, aggregator)
    }

    fn add<A: 'static>(
        &self,
        operator: &'static str,
        aggregation: Aggregation<K, V, A>,
        materialized: Materialized<A>,
    ) -> KTable<'b, K, A> {
        let stream = self.partitioned();
        let builder = stream.builder;
        let spec = materialized.store(StoreKind::TimestampedKeyValue, self.key.clone());
        let (store, result) = (builder.graph().add_store(spec), materialized.value);
        let (key, value, on_dropped) = (self.key.clone(), self.value.clone(), self.on_dropped);
        let supplier: Supplier = Box::new(move |instance| {
            stream_node::<K, V>(Aggregate {
                aggregation: aggregation.clone(),
                store: instance.table_store().expect("an aggregation has a store"),
                key: key.clone(),
                value: value.clone(),
                result: result.clone(),
                on_dropped,
            })
        });
        let node = builder.graph().nodes.len();
        let mut new = stream.new_node::<K, A>(operator, false, supplier);
        aggregate_table(&mut new, store, self.key.clone(), getter_of::<K, A>(node));
        builder.table_handle(new)
    }
}

/// Counts records.
pub(super) fn counting<K, V>() -> Aggregation<K, V, i64> {
    Aggregation {
        step: Arc::new(|_, _, count| {
            let next = count.unwrap_or(0).checked_add(1);
            next.ok_or_else(|| NodeError::message("the count is larger than an i64"))
        }),
        initial: Some(Arc::new(|| 0)),
    }
}

/// Reduces values. The first value is copied through its serde, which asks no Clone of it.
pub(super) fn reducing<K, V: 'static>(
    reducer: impl Fn(&V, &V) -> V + Send + Sync + 'static,
    serde: SharedSerde<V>,
) -> Aggregation<K, V, V> {
    Aggregation {
        step: Arc::new(move |_, value, so_far| match so_far {
            Some(so_far) => Ok(reducer(&so_far, value)),
            None => Ok(serde.decode(serde.to_bytes(value)?.as_deref())?),
        }),
        initial: None,
    }
}

/// Aggregates values.
pub(super) fn aggregating<K, V, A>(
    initializer: impl Fn() -> A + Send + Sync + 'static,
    aggregator: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
) -> Aggregation<K, V, A> {
    let initializer = Arc::new(initializer);
    let initial = Arc::clone(&initializer);
    Aggregation {
        step: Arc::new(move |key, value, so_far| {
            Ok(aggregator(key, value, so_far.unwrap_or_else(|| initializer())))
        }),
        initial: Some(initial),
    }
}

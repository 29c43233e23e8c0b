//! Session windows and `SessionWindowedKStream`: a grouped stream, aggregated by sessions.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::grouped::{KGroupedStream, aggregating, counting, reducing};
use super::options::Materialized;
use super::table::{GetterSupplier, KTable, aggregate_table};
use crate::operators::aggregate::Aggregation;
use crate::operators::session_aggregate::{Merge, SessionAggregate, SessionGetter, Sessions};
use crate::operators::stream_node;
use crate::operators::window_table::Emission;
use crate::processor::NodeError;
use crate::record::Windowed;
use crate::serde::SharedSerde;
use crate::serde::kafka_streams::session_windowed;
use crate::store::{SessionSpec, StoreHandle, StoreKind};
use crate::time::saturating_ms;
use crate::topology::graph::{Graph, NewNode, Supplier};

/// Sessions: records of a key, each within `gap` of the next. A session's window has the times of its
/// first and last record as its ends, both included.
///
/// Source: `SessionWindows`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionWindows {
    pub(super) sessions: Sessions,
}

impl SessionWindows {
    /// Sessions that end when a key has no record for longer than `gap`, and take records for
    /// `grace` after that, in stream time.
    pub fn with_gap(gap: Duration, grace: Duration) -> Self {
        let (gap_ms, grace_ms) = (saturating_ms(gap), saturating_ms(grace));
        Self { sessions: Sessions { gap_ms, grace_ms } }
    }
}

/// The store of an aggregation by sessions, and what its nodes share.
pub(super) struct SessionPlace<K, A> {
    /// The number of the store.
    pub(super) store: usize,
    sessions: Sessions,
    key: SharedSerde<K>,
    result: SharedSerde<A>,
    closing: bool,
}

impl<K: 'static, A: 'static> SessionPlace<K, A> {
    pub(super) fn new(
        graph: &mut Graph,
        sessions: Sessions,
        key: SharedSerde<K>,
        materialized: Materialized<A>,
        closing: bool,
    ) -> Self {
        let name = &materialized.name;
        let kept = sessions.gap_ms.saturating_add(sessions.grace_ms);
        let retention_ms = materialized.retention_ms.unwrap_or(kept);
        graph.check_duration("session gap", name, sessions.gap_ms, 1);
        graph.check_duration("session grace", name, sessions.grace_ms, 0);
        graph.check_duration("session retention", name, retention_ms, kept.max(1));
        let kind = StoreKind::Session(SessionSpec { retention_ms, closing });
        let store = graph.add_store(materialized.store(kind, key.clone()));
        Self { store, sessions, key, result: materialized.value, closing }
    }

    /// Makes the node that aggregates a grouped stream into the store. `table`: the node that is
    /// the table.
    pub(super) fn supplier<V: 'static>(
        &self,
        grouped: &KGroupedStream<'_, K, V>,
        aggregation: Aggregation<K, V, A>,
        merge: Merge<K, A>,
        clock_name: Arc<str>,
        table: usize,
    ) -> Supplier {
        let (store, sessions, closing) = (self.store, self.sessions, self.closing);
        let (key, result, on_dropped) = (self.key.clone(), self.result.clone(), grouped.on_dropped);
        Box::new(move |instance| {
            stream_node::<K, V>(SessionAggregate {
                aggregation: aggregation.clone(),
                merge: Arc::clone(&merge),
                sessions,
                store: StoreHandle::new(store, 0),
                key: key.clone(),
                result: result.clone(),
                on_dropped,
                sends_old: instance.graph.table(table).sends_old,
                emission: Emission::of(closing, instance.is_cached(store)),
                clock_name: Arc::clone(&clock_name),
                clocks: None,
                lane: usize::MAX,
                key_buffer: Vec::new(),
            })
        })
    }

    /// Makes a node the table of the store.
    pub(super) fn into_table(self, new: &mut NewNode) {
        let Self { store, sessions, key, .. } = self;
        let getter: GetterSupplier<Windowed<K>, A> =
            Arc::new(move |_| Box::new(SessionGetter::<K, A>(StoreHandle::new(store, 0))));
        new.closes_after_ms = Some(sessions.gap_ms.saturating_add(sessions.grace_ms));
        aggregate_table(new, store, session_windowed(key), getter);
    }
}

/// A grouped stream, to be aggregated by sessions. A record joins the sessions within a gap of its
/// time and merges them: a tombstone is sent for each, then the merged session's new row at its end,
/// which is the row's time. A record whose session had closed (`end + gap + grace < stream time` of
/// this operator) is late: counted, logged with its place and, where the grouping asks,
/// dead-lettered.
///
/// Source: `org.apache.kafka.streams.kstream.SessionWindowedKStream`.
pub struct SessionWindowedKStream<'g, 'b, K, V> {
    grouped: &'g KGroupedStream<'b, K, V>,
    sessions: Sessions,
    closing: bool,
}

impl<K, V> fmt::Debug for SessionWindowedKStream<'_, '_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionWindowedKStream({:?})", self.sessions)
    }
}

impl<'g, 'b, K: 'static, V: 'static> SessionWindowedKStream<'g, 'b, K, V> {
    pub(super) fn new(grouped: &'g KGroupedStream<'b, K, V>, windows: SessionWindows) -> Self {
        Self { grouped, sessions: windows.sessions, closing: false }
    }

    /// Sends one result for each session, when it has closed, and neither updates nor tombstones
    /// before. With it the store does not cache.
    ///
    /// Source: `EmitStrategy.onWindowClose` (KIP-825).
    #[must_use]
    pub fn emit_on_window_close(mut self) -> Self {
        self.closing = true;
        self
    }

    /// The number of records of each session; null values count.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # use std::time::Duration;
    /// # let b = StreamsBuilder::new();
    /// # let clicks = b.stream("clicks", Consumed::with(string(), string()));
    /// let visits = clicks
    ///     .group_by_key(Grouped::with("by-user", string(), string()))
    ///     .windowed_by_sessions(SessionWindows::with_gap(
    ///         Duration::from_secs(1800),
    ///         Duration::from_secs(60),
    ///     ))
    ///     .count(Materialized::count("clicks-per-visit"));
    /// ```
    pub fn count(&self, materialized: Materialized<i64>) -> KTable<'b, Windowed<K>, i64> {
        self.add("session-count", counting(), merging_counts(), materialized)
    }

    /// The first value of each session, then `reducer(so far, value)`; sessions merge by the same
    /// function.
    pub fn reduce(
        &self,
        reducer: impl Fn(&V, &V) -> V + Send + Sync + 'static,
        materialized: Materialized<V>,
    ) -> KTable<'b, Windowed<K>, V> {
        let reducer = Arc::new(reducer);
        let reduce = Arc::clone(&reducer);
        let aggregation = reducing(move |a, b| reduce(a, b), self.grouped.value.clone());
        let merge: Merge<K, V> = Arc::new(move |_, so_far, session| {
            Ok(match so_far {
                Some(so_far) => reducer(&so_far, &session),
                None => session,
            })
        });
        self.add("session-reduce", aggregation, merge, materialized)
    }

    /// `initializer()`, then `merger(key, so far, session's)` for each session that the record
    /// joins, by end, then `aggregator(key, value, so far)`. Null values are aggregated; an aggregate
    /// that its serde takes for null deletes the row.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # use std::time::Duration;
    /// # let b = StreamsBuilder::new();
    /// # let bids = b.stream("bids", Consumed::with(string(), i64()));
    /// let totals = bids
    ///     .group_by_key(Grouped::with("by-item", string(), i64()))
    ///     .windowed_by_sessions(SessionWindows::with_gap(Duration::from_secs(5), Duration::ZERO))
    ///     .aggregate(
    ///         || 0,
    ///         |_, bid, total| total + bid,
    ///         |_, a, b| a + b,
    ///         Materialized::with("totals", i64()),
    ///     );
    /// ```
    pub fn aggregate<A: 'static>(
        &self,
        initializer: impl Fn() -> A + Send + Sync + 'static,
        aggregator: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
        merger: impl Fn(&K, A, A) -> A + Send + Sync + 'static,
        materialized: Materialized<A>,
    ) -> KTable<'b, Windowed<K>, A> {
        let initializer = Arc::new(initializer);
        let initial = Arc::clone(&initializer);
        let aggregation = aggregating(move || initial(), aggregator);
        let merge = merging(move || initializer(), merger);
        self.add("session-aggregate", aggregation, merge, materialized)
    }

    fn add<A: 'static>(
        &self,
        operator: &'static str,
        aggregation: Aggregation<K, V, A>,
        merge: Merge<K, A>,
        materialized: Materialized<A>,
    ) -> KTable<'b, Windowed<K>, A> {
        let stream = self.grouped.partitioned();
        let mut graph = stream.builder.graph();
        let key = self.grouped.key.clone();
        let place = SessionPlace::new(&mut graph, self.sessions, key, materialized, self.closing);
        let (name, node) = (graph.store_name(place.store), graph.nodes.len());
        drop(graph);
        let supplier = place.supplier(self.grouped, aggregation, merge, name, node);
        let mut new = stream.new_node::<Windowed<K>, A>(operator, false, supplier);
        new.clocks = 1 + usize::from(self.closing);
        place.into_table(&mut new);
        stream.builder.table_handle(new)
    }
}

/// Merges counts.
fn merging_counts<K>() -> Merge<K, i64> {
    Arc::new(|_, so_far, session| {
        let sum = so_far.unwrap_or(0).checked_add(session);
        sum.ok_or_else(|| NodeError::message("the count is larger than an i64"))
    })
}

/// Merges aggregates, beginning with the initial one.
pub(super) fn merging<K, A>(
    initializer: impl Fn() -> A + Send + Sync + 'static,
    merger: impl Fn(&K, A, A) -> A + Send + Sync + 'static,
) -> Merge<K, A> {
    Arc::new(move |key, so_far, session| {
        Ok(merger(key, so_far.unwrap_or_else(&initializer), session))
    })
}

//! `CogroupedKStream`: several grouped streams of one key type that share one aggregate.

use std::fmt;
use std::sync::Arc;

use super::builder::StreamsBuilder;
use super::grouped::{KGroupedStream, aggregating};
use super::options::Materialized;
use super::session_windowed::{SessionPlace, SessionWindows, merging};
use super::table::{KTable, aggregate_table, getter_of};
use super::windowed::{SlidingWindows, TimeWindows, WindowPlace, Windowing};
use crate::operators::aggregate::Aggregate;
use crate::operators::session_aggregate::{Merge, Sessions};
use crate::operators::table_join::JoinResult;
use crate::operators::table_store::TableStore;
use crate::operators::{stream_node, table_node};
use crate::record::Windowed;
use crate::serde::SharedSerde;
use crate::store::StoreKind;
use crate::topology::Mistake;
use crate::topology::graph::{EdgeType, NewNode, Supplier};

/// The value before the first record, of any input.
type Init<A> = Arc<dyn Fn() -> A + Send + Sync>;

/// What a record of one input makes of the aggregate so far.
type Aggregator<K, V, A> = Arc<dyn Fn(&K, &V, A) -> A + Send + Sync>;

/// Where an input's records go.
enum Target<'p, K, A> {
    Rows { store: usize, key: &'p SharedSerde<K>, result: &'p SharedSerde<A> },
    Windows(&'p WindowPlace<K, A>),
    Sessions(&'p SessionPlace<K, A>, Merge<K, A>),
}

/// What an input is asked for when the aggregation is added.
trait Input<'b, K, A> {
    /// Repartitions the stream if need be; gives its node and its grouping's name.
    fn partition(&self) -> usize;
    /// The name of the grouping.
    fn name(&self) -> &str;
    /// A node, without its stores, that aggregates this input for the table node `table`.
    fn node(&self, target: &Target<'_, K, A>, store: &str, init: Init<A>, table: usize) -> NewNode;
}

struct Cogroup<'b, K, V, A> {
    grouped: KGroupedStream<'b, K, V>,
    aggregator: Aggregator<K, V, A>,
}

impl<'b, K: 'static, V: 'static, A: 'static> Input<'b, K, A> for Cogroup<'b, K, V, A> {
    fn partition(&self) -> usize {
        self.grouped.partitioned().node
    }

    fn name(&self) -> &str {
        &self.grouped.name
    }

    fn node(&self, target: &Target<'_, K, A>, store: &str, init: Init<A>, table: usize) -> NewNode {
        let aggregator = Arc::clone(&self.aggregator);
        let aggregation = aggregating(move || init(), move |k: &K, v: &V, a| aggregator(k, v, a));
        let stream = self.grouped.partitioned();
        // Each input has its own time for lateness.
        let clock: Arc<str> = format!("{store}/{}", self.grouped.name).into();
        let (supplier, output): (Supplier, _) = match target {
            Target::Windows(place) => (
                place.supplier(&self.grouped, aggregation, clock, table),
                EdgeType::table::<Windowed<K>, A>(),
            ),
            Target::Sessions(place, merge) => (
                place.supplier(&self.grouped, aggregation, Arc::clone(merge), clock, table),
                EdgeType::table::<Windowed<K>, A>(),
            ),
            Target::Rows { store, key, result } => {
                let (store, key, result) = (*store, (*key).clone(), (*result).clone());
                let (value, on_dropped) = (self.grouped.value.clone(), self.grouped.on_dropped);
                let supplier: Supplier = Box::new(move |instance| {
                    let (cached, sends_old) =
                        (instance.is_cached(store), instance.graph.table(table).sends_old);
                    stream_node::<K, V>(Aggregate {
                        aggregation: aggregation.clone(),
                        store: TableStore::new(store, key.clone(), cached, sends_old),
                        key: key.clone(),
                        value: value.clone(),
                        result: result.clone(),
                        on_dropped,
                    })
                });
                (supplier, EdgeType::table::<K, A>())
            }
        };
        let mut new = stream.new_node::<K, A>("cogroup-input", false, supplier);
        new.output = Some(output);
        new.clocks = usize::from(!matches!(target, Target::Rows { .. }));
        new
    }
}

/// Grouped streams of one key type that share one aggregate and its store: each record is aggregated
/// by its own stream's function. Streams are added by [`cogroup`](Self::cogroup); all must be
/// co-partitioned.
///
/// Source: `org.apache.kafka.streams.kstream.CogroupedKStream` (KIP-150).
pub struct CogroupedKStream<'b, K, A> {
    builder: &'b StreamsBuilder,
    key: SharedSerde<K>,
    inputs: Vec<Box<dyn Input<'b, K, A> + 'b>>,
}

impl<K, A> fmt::Debug for CogroupedKStream<'_, K, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CogroupedKStream({} inputs)", self.inputs.len())
    }
}

impl<'b, K: 'static, A: 'static> CogroupedKStream<'b, K, A> {
    pub(super) fn new<V: 'static>(
        grouped: KGroupedStream<'b, K, V>,
        aggregator: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
    ) -> Self {
        let builder = grouped.builder();
        let key = grouped.key.clone();
        let first = Cogroup { grouped, aggregator: Arc::new(aggregator) };
        Self { builder, key, inputs: vec![Box::new(first)] }
    }

    /// Adds a grouped stream with its own function. Every grouping of a cogroup needs its own name.
    #[must_use]
    pub fn cogroup<V: 'static>(
        mut self,
        grouped: KGroupedStream<'b, K, V>,
        aggregator: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
    ) -> Self {
        let graph = &mut self.builder.graph();
        if !std::ptr::eq(self.builder, grouped.builder()) {
            graph.mistakes.push(Mistake::ForeignBuilder { operator: "cogroup" });
            return self;
        }
        if self.inputs.iter().any(|input| input.name() == grouped.name) {
            let name = grouped.name.clone();
            graph.mistakes.push(Mistake::NameTaken { what: "grouping of a cogroup", name });
        }
        self.inputs.push(Box::new(Cogroup { grouped, aggregator: Arc::new(aggregator) }));
        self
    }

    /// One row per key, of all streams. Null keys and values are dropped.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// # let clicks = b.stream("clicks", Consumed::with(string(), string()));
    /// # let buys = b.stream("buys", Consumed::with(string(), i64()));
    /// let spent = buys.group_by_key(Grouped::with("buys-by-user", string(), i64()));
    /// let score = clicks
    ///     .group_by_key(Grouped::with("clicks-by-user", string(), string()))
    ///     .cogroup(|_, _, score: i64| score + 1)
    ///     .cogroup(spent, |_, amount, score| score + 10 * amount)
    ///     .aggregate(|| 0, Materialized::with("scores", i64()));
    /// ```
    pub fn aggregate(
        &self,
        initializer: impl Fn() -> A + Send + Sync + 'static,
        materialized: Materialized<A>,
    ) -> KTable<'b, K, A> {
        let spec = materialized.store(StoreKind::TimestampedKeyValue, self.key.clone());
        let store = self.builder.graph().add_store(spec);
        let Materialized { name, value: result, .. } = materialized;
        let target = Target::Rows { store, key: &self.key, result: &result };
        let (mut new, node) = self.add::<K>(&target, store, &name, Arc::new(initializer));
        aggregate_table(&mut new, store, self.key.clone(), getter_of::<K, A>(node));
        self.builder.table_handle(new)
    }

    /// Aggregates within windows of time; each stream has its own time for lateness.
    pub fn windowed_by(&self, windows: TimeWindows) -> WindowedCogroup<'_, 'b, K, A> {
        WindowedCogroup { cogrouped: self, windowing: windows.into() }
    }

    /// Aggregates within sliding windows; each stream has its own time for lateness.
    pub fn windowed_by_sliding(&self, windows: SlidingWindows) -> WindowedCogroup<'_, 'b, K, A> {
        WindowedCogroup { cogrouped: self, windowing: windows.into() }
    }

    /// Aggregates by sessions of all streams; each stream has its own time for lateness.
    pub fn windowed_by_sessions(&self, windows: SessionWindows) -> SessionCogroup<'_, 'b, K, A> {
        SessionCogroup { cogrouped: self, sessions: windows.sessions }
    }

    /// Adds the nodes of the inputs; gives the node that is the table, to be added next, and its
    /// number.
    fn add<L: 'static>(
        &self,
        target: &Target<'_, K, A>,
        store: usize,
        name: &str,
        init: Init<A>,
    ) -> (NewNode, usize) {
        for input in &self.inputs {
            input.partition();
        }
        let first = self.builder.graph().nodes.len();
        let table = first + self.inputs.len();
        for input in &self.inputs {
            let mut new = input.node(target, name, Arc::clone(&init), table);
            new.stores = vec![store];
            self.builder.graph().add(new);
        }
        let edge = Some(EdgeType::table::<L, A>());
        let supplier: Supplier = Box::new(|_| table_node::<L, A>(JoinResult(None)));
        (NewNode::new("cogroup", (first..table).collect(), edge, edge, supplier), table)
    }
}

/// A cogroup, to be aggregated within windows.
pub struct WindowedCogroup<'c, 'b, K, A> {
    cogrouped: &'c CogroupedKStream<'b, K, A>,
    windowing: Windowing,
}

impl<K, A> fmt::Debug for WindowedCogroup<'_, '_, K, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WindowedCogroup({:?})", self.windowing)
    }
}

impl<'b, K: 'static, A: 'static> WindowedCogroup<'_, 'b, K, A> {
    /// As [`CogroupedKStream::aggregate`], in each window.
    pub fn aggregate(
        &self,
        initializer: impl Fn() -> A + Send + Sync + 'static,
        materialized: Materialized<A>,
    ) -> KTable<'b, Windowed<K>, A> {
        let (cogrouped, name) = (self.cogrouped, materialized.name.clone());
        let key = cogrouped.key.clone();
        let mut graph = cogrouped.builder.graph();
        let place = WindowPlace::new(&mut graph, self.windowing, key, materialized, false);
        drop(graph);
        let (target, store) = (Target::Windows(&place), place.store);
        let (mut new, _) =
            cogrouped.add::<Windowed<K>>(&target, store, &name, Arc::new(initializer));
        place.into_table(&mut new);
        cogrouped.builder.table_handle(new)
    }
}

/// A cogroup, to be aggregated by sessions.
pub struct SessionCogroup<'c, 'b, K, A> {
    cogrouped: &'c CogroupedKStream<'b, K, A>,
    sessions: Sessions,
}

impl<K, A> fmt::Debug for SessionCogroup<'_, '_, K, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionCogroup({:?})", self.sessions)
    }
}

impl<'b, K: 'static, A: 'static> SessionCogroup<'_, 'b, K, A> {
    /// As [`CogroupedKStream::aggregate`], by sessions; `merger(key, so far, session's)` joins two.
    pub fn aggregate(
        &self,
        initializer: impl Fn() -> A + Send + Sync + 'static,
        merger: impl Fn(&K, A, A) -> A + Send + Sync + 'static,
        materialized: Materialized<A>,
    ) -> KTable<'b, Windowed<K>, A> {
        let (cogrouped, name) = (self.cogrouped, materialized.name.clone());
        let key = cogrouped.key.clone();
        let mut graph = cogrouped.builder.graph();
        let place = SessionPlace::new(&mut graph, self.sessions, key, materialized, false);
        drop(graph);
        let init: Init<A> = Arc::new(initializer);
        let first = Arc::clone(&init);
        let merge = merging(move || first(), merger);
        let (target, store) = (Target::Sessions(&place, merge), place.store);
        let (mut new, _) = cogrouped.add::<Windowed<K>>(&target, store, &name, init);
        place.into_table(&mut new);
        cogrouped.builder.table_handle(new)
    }
}

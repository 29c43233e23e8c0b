//! `KStream`: a stream of independent records, and its verbs.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::builder::StreamsBuilder;
use super::grouped::KGroupedStream;
use super::options::{Consumed, Grouped, Joined, Produced, Repartitioned};
use super::table::{KTable, getter};
use crate::operators::filter::Filter;
use crate::operators::flat_map_values::{FlatMap, FlatMapValues};
use crate::operators::map::Map;
use crate::operators::map_values::MapValues;
use crate::operators::merge::Merge;
use crate::operators::peek::Peek;
use crate::operators::process::Process;
use crate::operators::row_join::{Joiner, RowJoin};
use crate::operators::select_key::SelectKey;
use crate::operators::sink::{PartitionOf, Sink};
use crate::operators::stream_node;
use crate::operators::stream_table_join::StreamTableJoin;
use crate::operators::versioned_join::VersionedJoin;
use crate::processor::Processor;
use crate::processor::node::StreamReceiver;
use crate::serde::SharedSerde;
use crate::store::{StoreHandle, StoreId, StoreKind, StoreSpec};
use crate::topology::Mistake;
use crate::topology::graph::{EdgeType, NewNode, Role, Supplier, TopicName};

/// A stream of records: a typed handle to what one node emits. Copying it is free; using it twice
/// is fan-out.
///
/// Source: `org.apache.kafka.streams.kstream.KStream`.
pub struct KStream<'b, K, V> {
    pub(super) builder: &'b StreamsBuilder,
    pub(super) node: usize,
    pub(super) _types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for KStream<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for KStream<'_, K, V> {}

impl<K, V> fmt::Debug for KStream<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KStream(node {})", self.node)
    }
}

impl<'b, K: 'static, V: 'static> KStream<'b, K, V> {
    /// Names the operator just added, for display: descriptions, logs, errors. No topic, store or
    /// byte on disk derives from it.
    pub fn named(self, name: &str) -> Self {
        if self.exists() {
            self.builder.graph().rename(self.node, name);
        }
        self
    }

    /// Keeps the records for which the predicate holds.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// # let clicks = b.stream("clicks", Consumed::with(string(), i64()));
    /// let positive = clicks.filter(|_, n| *n > 0);
    /// ```
    pub fn filter(self, predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        let predicate = Arc::new(predicate);
        self.attach("filter", false, move || Filter(Arc::clone(&predicate)))
    }

    /// Keeps the records for which the predicate does not hold.
    pub fn filter_not(self, predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        self.filter(move |key, value| !predicate(key, value))
    }

    /// A new key and value for each record. The key is changed: a grouping or join behind it goes
    /// through a repartition topic.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// # let clicks = b.stream("clicks", Consumed::with(string(), i64()));
    /// let by_count = clicks.map(|user, n| (*n, user.clone()));
    /// ```
    pub fn map<L: 'static, W: 'static>(
        self,
        mapper: impl Fn(&K, &V) -> (L, W) + Send + Sync + 'static,
    ) -> KStream<'b, L, W> {
        let mapper = Arc::new(mapper);
        self.attach("map", true, move || Map::new(Arc::clone(&mapper)))
    }

    /// A new value for each record; the key stays.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// # let clicks = b.stream("clicks", Consumed::with(string(), i64()));
    /// let doubled = clicks.map_values(|_, n| n * 2);
    /// ```
    pub fn map_values<W: 'static>(
        self,
        mapper: impl Fn(&K, &V) -> W + Send + Sync + 'static,
    ) -> KStream<'b, K, W> {
        let mapper = Arc::new(mapper);
        self.attach("map-values", false, move || MapValues::new(Arc::clone(&mapper)))
    }

    /// Zero or more records from each, in order. The key is changed.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// # let clicks = b.stream("clicks", Consumed::with(string(), i64()));
    /// let each = clicks.flat_map(|user, n| (0..*n).map(|i| (i, user.clone())).collect::<Vec<_>>());
    /// ```
    pub fn flat_map<L: 'static, W: 'static, I>(
        self,
        mapper: impl Fn(&K, &V) -> I + Send + Sync + 'static,
    ) -> KStream<'b, L, W>
    where
        I: IntoIterator<Item = (L, W)> + 'static,
    {
        let mapper = Arc::new(mapper);
        self.attach("flat-map", true, move || FlatMap::new(Arc::clone(&mapper)))
    }

    /// Zero or more values from each record, in order; the key stays.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// # let lines = b.stream("lines", Consumed::with(string(), string()));
    /// let words = lines.flat_map_values(|_, l| l.split(' ').map(String::from).collect::<Vec<_>>());
    /// ```
    pub fn flat_map_values<I>(
        self,
        mapper: impl Fn(&K, &V) -> I + Send + Sync + 'static,
    ) -> KStream<'b, K, I::Item>
    where
        I: IntoIterator + 'static,
        I::Item: 'static,
    {
        let mapper = Arc::new(mapper);
        self.attach("flat-map-values", false, move || FlatMapValues::new(Arc::clone(&mapper)))
    }

    /// A new key for each record; the value is lent on, not copied. The key is changed.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// # let clicks = b.stream("clicks", Consumed::with(string(), i64()));
    /// let by_initial = clicks.select_key(|user, _| user.chars().next().map_or(0, |c| c as i64));
    /// ```
    pub fn select_key<L: 'static>(
        self,
        selector: impl Fn(&K, &V) -> L + Send + Sync + 'static,
    ) -> KStream<'b, L, V> {
        let selector = Arc::new(selector);
        self.attach("select-key", true, move || SelectKey::new(Arc::clone(&selector)))
    }

    /// Shows each record to `action`, then passes it on. The action may run again for a record
    /// whose transaction was aborted.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// # let clicks = b.stream("clicks", Consumed::with(string(), i64()));
    /// let seen = clicks.peek(|user, n| assert!(*n >= 0 || user.is_empty()));
    /// ```
    pub fn peek(self, action: impl Fn(&K, &V) + Send + Sync + 'static) -> Self {
        let action = Arc::new(action);
        self.attach("peek", false, move || Peek(Arc::clone(&action)))
    }

    /// Shows each record to `action` and ends there.
    pub fn for_each(self, action: impl Fn(&K, &V) + Send + Sync + 'static) {
        let _ended: Self = self.peek(action);
    }

    /// The records of both streams, as they come.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// # let (web, app) = (b.stream("web", Consumed::with(string(), i64())),
    /// #     b.stream("app", Consumed::with(string(), i64())));
    /// let all = web.merge(app);
    /// ```
    pub fn merge(self, other: KStream<'b, K, V>) -> Self {
        if !self.has_builder("merge", other.builder) {
            return self;
        }
        let edge = Some(EdgeType::stream::<K, V>());
        let parents = self.parents().chain(other.parents()).collect::<Vec<_>>();
        let supplier: Supplier = Box::new(|_| stream_node::<K, V>(Merge));
        let mut new = NewNode::new("merge", parents, edge, edge, supplier);
        new.key_changed = self.key_changed() || other.key_changed();
        self.builder.stream_handle(new)
    }

    /// Runs a custom processor, one for each task, with these stores. The key counts as changed.
    ///
    /// ```
    /// # use headwater::{dsl::*, processor::*, record::Record, serde::serdes::*, store::*};
    /// struct Dedup(StoreHandle<KeyValueStore<String, i64>>);
    ///
    /// impl Processor<String, i64, String, i64> for Dedup {
    ///     fn process(
    ///         &mut self,
    ///         record: Record<'_, String, i64>,
    ///         ctx: &mut ProcessorContext<'_, '_, String, i64>,
    ///     ) -> Result<(), NodeError> {
    ///         let seen = ctx.store(self.0);
    ///         if seen.get(record.key)? == Some(*record.value) {
    ///             return Ok(());
    ///         }
    ///         seen.put(record.key, record.value)?;
    ///         ctx.forward(record)
    ///     }
    /// }
    ///
    /// let b = StreamsBuilder::new();
    /// let seen = b.add_store(Stored::key_value("seen", string(), i64()));
    /// let clicks = b.stream("clicks", Consumed::with(string(), i64()));
    /// let changes = clicks.process(move || Dedup(seen), &[seen.id()]);
    /// ```
    pub fn process<L: 'static, W: 'static, P>(
        self,
        supplier: impl Fn() -> P + Send + Sync + 'static,
        stores: &[StoreId],
    ) -> KStream<'b, L, W>
    where
        P: Processor<K, V, L, W> + 'static,
    {
        let made: Supplier =
            Box::new(move |_| stream_node::<K, V>(Process::<P, K, V, L, W>::new(supplier())));
        let mut new = self.new_node::<L, W>("process", true, made);
        let foreign = stores.iter().any(|s| s.builder != self.builder.id());
        new.stores = stores.iter().map(|s| s.index).collect();
        if foreign {
            let node = "process".to_owned();
            self.builder.graph().mistakes.push(Mistake::UnknownStore { node });
            new.stores.clear();
        }
        self.builder.stream_handle(new)
    }

    /// Groups by a new key, through the repartition topic `<application>-<name>-repartition`.
    pub fn group_by<L: 'static>(
        self,
        selector: impl Fn(&K, &V) -> L + Send + Sync + 'static,
        grouped: Grouped<L, V>,
    ) -> KGroupedStream<'b, L, V> {
        self.select_key(selector).group_by_key(grouped)
    }

    /// Groups by the key; through a repartition topic if the key was changed since the source.
    pub fn group_by_key(self, grouped: Grouped<K, V>) -> KGroupedStream<'b, K, V> {
        KGroupedStream::new(self, grouped)
    }

    /// Sends every record through a topic of its own, partitioned by key. A null key is dropped.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// # let clicks = b.stream("clicks", Consumed::with(string(), i64()));
    /// let spread = clicks
    ///     .select_key(|_, n| *n)
    ///     .repartition(Repartitioned::with("by-count", i64(), i64()));
    /// ```
    pub fn repartition(self, through: Repartitioned<K, V>) -> Self {
        let Repartitioned { name, key, value, partitions } = through;
        let topic = self.builder.graph().add_repartition(&name, partitions);
        self.sink("repartition-sink", topic.clone(), key.clone(), value.clone(), true);
        self.builder.source(topic, Consumed::with(key, value))
    }

    /// Joins each record with its key's row; a record without one is left out. The key's stream is
    /// repartitioned first if its key was changed. The result has the record's time.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// # let orders = b.stream("orders", Consumed::with(string(), i64()));
    /// # let names = b.table("names", Consumed::with(string(), string()));
    /// let named = orders.join(
    ///     names,
    ///     |_, amount, name| format!("{name}: {amount}"),
    ///     Joined::with("orders-names", string(), i64()),
    /// );
    /// ```
    pub fn join<T: 'static, W: 'static>(
        self,
        table: KTable<'b, K, T>,
        joiner: impl Fn(&K, &V, &T) -> W + Send + Sync + 'static,
        joined: Joined<K, V>,
    ) -> KStream<'b, K, W> {
        let joiner = move |key: &K, value: &V, row: Option<&T>| row.map(|r| joiner(key, value, r));
        self.table_join("stream-table-join", table, joiner, joined, false)
    }

    /// Joins each record with its key's row, or with none. See [`join`](Self::join).
    pub fn left_join<T: 'static, W: 'static>(
        self,
        table: KTable<'b, K, T>,
        joiner: impl Fn(&K, &V, Option<&T>) -> W + Send + Sync + 'static,
        joined: Joined<K, V>,
    ) -> KStream<'b, K, W> {
        let joiner = move |key: &K, value: &V, row: Option<&T>| Some(joiner(key, value, row));
        self.table_join("stream-table-left-join", table, joiner, joined, true)
    }

    fn table_join<T: 'static, W: 'static>(
        self,
        operator: &'static str,
        table: KTable<'b, K, T>,
        joiner: impl Fn(&K, &V, Option<&T>) -> Option<W> + Send + Sync + 'static,
        joined: Joined<K, V>,
        left: bool,
    ) -> KStream<'b, K, W> {
        if !self.has_builder("join", table.builder) {
            return KStream { builder: self.builder, node: usize::MAX, _types: PhantomData };
        }
        let Joined { name, key, value, on_dropped, grace_ms } = joined;
        let stream = if self.key_changed() {
            self.repartition(Repartitioned::with(&name, key.clone(), value.clone()))
        } else {
            self
        };
        let getter = getter::<K, T>(&mut self.builder.graph(), table.node);
        let waiting = grace_ms.map(|grace_ms| {
            let mut graph = self.builder.graph();
            graph.check_duration("grace of join", &name, grace_ms, 0);
            if !graph.is_versioned(table.node) {
                graph.mistakes.push(Mistake::NotVersioned { node: name.clone() });
            }
            let kind = StoreKind::JoinBuffer;
            let spec = StoreSpec::new(name.as_str(), kind, key.clone(), value.clone());
            (graph.add_store(spec), grace_ms)
        });
        let joiner: Joiner<K, V, T, W> = Arc::new(joiner);
        let supplier: Supplier = Box::new(move |instance| {
            let (joiner, value) = (Arc::clone(&joiner), value.clone());
            let join = StreamTableJoin {
                table: getter(instance.graph),
                key: key.clone(),
                rows: RowJoin { joiner, left, value, on_dropped },
            };
            match waiting {
                None => stream_node::<K, V>(join),
                Some((store, grace_ms)) => stream_node::<K, V>(VersionedJoin {
                    join,
                    buffer: StoreHandle::new(store, 0),
                    grace_ms,
                    clock: None,
                    sequence: None,
                }),
            }
        });
        let mut new = stream.new_node::<K, W>(operator, false, supplier);
        new.name = Some(name);
        new.joins_null_keys = left;
        new.stores = self.builder.graph().lookup_stores(table.node);
        if let Some((store, _)) = waiting {
            new.stores.push(store);
            new.clocks = 2;
        }
        self.builder.stream_handle(new)
    }

    /// Writes every record to a topic, partitioned by key as every Kafka client of the JVM does.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// # let clicks = b.stream("clicks", Consumed::with(string(), i64()));
    /// clicks.to("copies", Produced::with(string(), i64()));
    /// ```
    pub fn to(self, topic: &str, produced: Produced<K, V>) {
        let Produced { key, value } = produced;
        self.sink("sink", TopicName::External(topic.into()), key, value, false);
    }

    pub(super) fn sink(
        self,
        operator: &'static str,
        topic: TopicName,
        key: SharedSerde<K>,
        value: SharedSerde<V>,
        drops_null_keys: bool,
    ) {
        let name = topic.clone();
        let supplier: Supplier = Box::new(move |instance| {
            let topic = name.resolve(instance.application_id);
            let drops = drops_null_keys && !instance.graph.takes_null_keys(&name);
            stream_node(Sink::new(topic, key.clone(), value.clone(), drops))
        });
        let edge = Some(EdgeType::stream::<K, V>());
        let mut new = NewNode::new(operator, self.parents().collect(), edge, None, supplier);
        new.role = Role::Sink(topic);
        self.builder.graph().add(new);
    }

    /// Writes what these nodes emit to a topic of the topology's own, partitioned by the value.
    pub(super) fn sink_of(
        builder: &StreamsBuilder,
        operator: &'static str,
        parents: Vec<usize>,
        topic: TopicName,
        (key, value): (SharedSerde<K>, SharedSerde<V>),
        partition_of: PartitionOf<V>,
    ) {
        let name = topic.clone();
        let supplier: Supplier = Box::new(move |instance| {
            let topic = name.resolve(instance.application_id);
            let sink = Sink::new(topic, key.clone(), value.clone(), false);
            stream_node(sink.partitioned_by(Arc::clone(&partition_of)))
        });
        let edge = Some(EdgeType::stream::<K, V>());
        let mut new = NewNode::new(operator, parents, edge, None, supplier);
        new.role = Role::Sink(topic);
        builder.graph().add(new);
    }

    fn attach<L: 'static, W: 'static, R>(
        self,
        operator: &'static str,
        changes_key: bool,
        make: impl Fn() -> R + Send + Sync + 'static,
    ) -> KStream<'b, L, W>
    where
        R: StreamReceiver<K, V> + 'static,
    {
        let supplier: Supplier = Box::new(move |_| stream_node::<K, V>(make()));
        let new = self.new_node::<L, W>(operator, changes_key, supplier);
        self.builder.stream_handle(new)
    }

    pub(super) fn new_node<L: 'static, W: 'static>(
        self,
        operator: &'static str,
        changes_key: bool,
        supplier: Supplier,
    ) -> NewNode {
        let (input, output) = (EdgeType::stream::<K, V>(), EdgeType::stream::<L, W>());
        let parents = self.parents().collect();
        let mut new = NewNode::new(operator, parents, Some(input), Some(output), supplier);
        new.key_changed = changes_key || self.key_changed();
        new
    }

    pub(super) fn key_changed(self) -> bool {
        self.exists() && self.builder.graph().nodes[self.node].key_changed
    }

    fn exists(self) -> bool {
        self.node != usize::MAX
    }

    /// The node, unless it could not be made, which is a mistake already.
    pub(super) fn parents(self) -> impl Iterator<Item = usize> {
        self.exists().then_some(self.node).into_iter()
    }

    /// The other node is of the same builder; else that is a mistake.
    pub(super) fn has_builder(self, operator: &'static str, other: &StreamsBuilder) -> bool {
        let same = std::ptr::eq(self.builder, other);
        if !same {
            self.builder.graph().mistakes.push(Mistake::ForeignBuilder { operator });
        }
        same
    }
}

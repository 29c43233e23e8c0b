//! `KTable`: a table of rows by key, seen as its changes, and its verbs.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::builder::StreamsBuilder;
use super::options::Materialized;
use super::stream::KStream;
use crate::operators::table_filter::{FilterGetter, TableFilter};
use crate::operators::table_map_values::{MapGetter, TableMapValues};
use crate::operators::table_node;
use crate::operators::table_store::{StoreGetter, VersionGetter};
use crate::operators::to_stream::ToStream;
use crate::processor::getter::ValueGetter;
use crate::serde::SharedSerde;
use crate::store::{StoreHandle, StoreKind};
use crate::topology::Mistake;
use crate::topology::graph::{EdgeType, Graph, NewNode, Supplier, Table, TableKind};

/// Makes a value getter for one task.
pub(crate) type GetterSupplier<K, V> =
    Arc<dyn Fn(&Graph) -> Box<dyn ValueGetter<K, V>> + Send + Sync>;

/// The getter of a table node that keeps its rows in its own store.
pub(super) fn getter_of<K: 'static, V: 'static>(node: usize) -> GetterSupplier<K, V> {
    Arc::new(move |graph| {
        let store = graph.table(node).store.expect("a table that is looked up has a store");
        if matches!(graph.stores[store].kind, StoreKind::Versioned(_)) {
            return Box::new(VersionGetter::<K, V>(StoreHandle::new(store, 0)));
        }
        Box::new(StoreGetter::<K, V>(StoreHandle::new(store, 0)))
    })
}

/// Makes a node the table of the aggregates in a store.
pub(super) fn aggregate_table<K: 'static, A: 'static>(
    new: &mut NewNode,
    store: usize,
    key: SharedSerde<K>,
    getter: GetterSupplier<K, A>,
) {
    new.output = Some(EdgeType::table::<K, A>());
    new.stores = vec![store];
    new.table = Some(Table {
        kind: TableKind::Aggregate,
        store: Some(store),
        sends_old: false,
        key_serde: Box::new(key),
        force: None,
        getter: Box::new(getter),
    });
}

/// The getter of any table node; makes sure that it can answer.
pub(super) fn getter<K: 'static, V: 'static>(
    graph: &mut Graph,
    node: usize,
) -> GetterSupplier<K, V> {
    graph.enable_lookup(node);
    let getter = graph.table(node).getter.downcast_ref::<GetterSupplier<K, V>>();
    Arc::clone(getter.expect("the handle's types are the node's"))
}

/// A table of rows: a typed handle to the changes that one node emits. Copying it is free; using it
/// twice is fan-out. `V` is the type of a row that is there.
///
/// Source: `org.apache.kafka.streams.kstream.KTable`.
pub struct KTable<'b, K, V> {
    pub(super) builder: &'b StreamsBuilder,
    pub(super) node: usize,
    pub(super) _types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for KTable<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for KTable<'_, K, V> {}

impl<K, V> fmt::Debug for KTable<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KTable(node {})", self.node)
    }
}

impl<'b, K: 'static, V: 'static> KTable<'b, K, V> {
    /// Names the operator just added, for display.
    pub fn named(self, name: &str) -> Self {
        self.builder.graph().rename(self.node, name);
        self
    }

    /// Keeps the rows of the table just made in a named store that can be queried. Aggregations
    /// have their store already.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// let names = b
    ///     .table("names", Consumed::with(string(), string()))
    ///     .materialized(Materialized::with("names-store", string()));
    /// ```
    #[must_use]
    pub fn materialized(self, materialized: Materialized<V>) -> Self {
        let mut graph = self.builder.graph();
        let key = graph.key_serde::<K>(self.node);
        let kind = match materialized.history_ms {
            None => StoreKind::TimestampedKeyValue,
            Some(history_ms) => {
                graph.check_duration("history retention", &materialized.name, history_ms, 0);
                StoreKind::Versioned(history_ms)
            }
        };
        let (spec, name) = (materialized.store(kind, key), materialized.name);
        let table = graph.table(self.node);
        if table.store.is_some() || table.kind == TableKind::Suppressed {
            let what = "second store of one table";
            graph.mistakes.push(Mistake::NameTaken { what, name });
        } else {
            graph.materialize(self.node, spec);
        }
        drop(graph);
        self
    }

    /// Keeps the rows for which the predicate holds; a row that stops matching is deleted.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// # let stock = b.table("stock", Consumed::with(string(), i64()));
    /// let low = stock.filter(|_, n| *n < 10);
    /// ```
    pub fn filter(self, predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        let predicate = Arc::new(predicate);
        // Knowing old values saves needless tombstones, where the table above can tell them.
        let knows_old = self.builder.graph().enable_old_values(self.node, false);
        let test = Arc::clone(&predicate);
        let supplier: Supplier = Box::new(move |instance| {
            table_node::<K, V>(TableFilter {
                predicate: Arc::clone(&test),
                store: instance.table_store(),
                sends_old: instance.sends_old(),
                is_versioned: instance.is_parent_versioned(),
            })
        });
        let parent = self.parent_getter();
        let getter = move |graph: &Graph| {
            let (parent, predicate) = (parent(graph), Arc::clone(&predicate));
            Box::new(FilterGetter { parent, predicate }) as Box<dyn ValueGetter<K, V>>
        };
        self.derive("table-filter", knows_old, supplier, getter)
    }

    /// Keeps the rows for which the predicate does not hold.
    pub fn filter_not(self, predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        self.filter(move |key, value| !predicate(key, value))
    }

    /// A new row from each row. Not called for deletions.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// # let names = b.table("names", Consumed::with(string(), string()));
    /// let lengths = names.map_values(|_, name| name.len());
    /// ```
    pub fn map_values<W: 'static>(
        self,
        mapper: impl Fn(&K, &V) -> W + Send + Sync + 'static,
    ) -> KTable<'b, K, W> {
        self.filter_map_values(move |key, value| Some(mapper(key, value)))
    }

    /// A new row from each row, or none: a row mapped to `None` is deleted (a mapper of Kafka
    /// Streams that returns null). Not called for deletions.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// # let names = b.table("names", Consumed::with(string(), string()));
    /// let numbers = names.filter_map_values(|_, name| name.parse::<i64>().ok());
    /// ```
    pub fn filter_map_values<W: 'static>(
        self,
        mapper: impl Fn(&K, &V) -> Option<W> + Send + Sync + 'static,
    ) -> KTable<'b, K, W> {
        let mapper = Arc::new(mapper);
        let map = Arc::clone(&mapper);
        let supplier: Supplier = Box::new(move |instance| {
            table_node::<K, V>(TableMapValues {
                mapper: Arc::clone(&map),
                store: instance.table_store::<K, W>(),
                sends_old: instance.sends_old(),
            })
        });
        let parent = self.parent_getter();
        let getter = move |graph: &Graph| {
            let (parent, mapper) = (parent(graph), Arc::clone(&mapper));
            Box::new(MapGetter { parent, mapper }) as Box<dyn ValueGetter<K, W>>
        };
        self.derive("table-map-values", false, supplier, getter)
    }

    /// Every change as a record: the new row, or `None` for a deletion, at the change's time.
    ///
    /// ```
    /// # use headwater::{dsl::*, serde::serdes::*};
    /// # let b = StreamsBuilder::new();
    /// # let stock = b.table("stock", Consumed::with(string(), i64()));
    /// stock.to_stream().to("stock-changes", Produced::with(string(), optional(i64())));
    /// ```
    pub fn to_stream(self) -> KStream<'b, K, Option<V>> {
        let supplier: Supplier = Box::new(|_| table_node::<K, V>(ToStream));
        let (input, output) = (EdgeType::table::<K, V>(), EdgeType::stream::<K, Option<V>>());
        let parents = vec![self.node];
        let new = NewNode::new("to-stream", parents, Some(input), Some(output), supplier);
        self.builder.stream_handle(new)
    }

    fn parent_getter(self) -> GetterSupplier<K, V> {
        let graph = self.builder.graph();
        let getter = graph.table(self.node).getter.downcast_ref::<GetterSupplier<K, V>>();
        Arc::clone(getter.expect("the handle's types are the node's"))
    }

    fn derive<W: 'static>(
        self,
        operator: &'static str,
        sends_old: bool,
        supplier: Supplier,
        getter: impl Fn(&Graph) -> Box<dyn ValueGetter<K, W>> + Send + Sync + 'static,
    ) -> KTable<'b, K, W> {
        let (input, output) = (EdgeType::table::<K, V>(), EdgeType::table::<K, W>());
        let parents = vec![self.node];
        let mut new = NewNode::new(operator, parents, Some(input), Some(output), supplier);
        new.table = Some(self.table_info(TableKind::Derived, sends_old, getter));
        self.builder.table_handle(new)
    }

    /// What the graph keeps of the table node that is added next but for its own store: a getter
    /// that reads that store if there is one, and else derives the row.
    pub(super) fn table_info<W: 'static>(
        self,
        kind: TableKind,
        sends_old: bool,
        derived: impl Fn(&Graph) -> Box<dyn ValueGetter<K, W>> + Send + Sync + 'static,
    ) -> Table {
        let graph = self.builder.graph();
        let node = graph.nodes.len();
        let own = getter_of::<K, W>(node);
        let getter: GetterSupplier<K, W> =
            Arc::new(
                move |graph| {
                    if graph.table(node).store.is_some() { own(graph) } else { derived(graph) }
                },
            );
        let key_serde = Box::new(graph.key_serde::<K>(self.node));
        Table { kind, store: None, sends_old, key_serde, force: None, getter: Box::new(getter) }
    }
}

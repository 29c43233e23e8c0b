//! The builder: collects nodes, stores and mistakes, and checks them all at once.

use std::cell::{RefCell, RefMut};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::options::Consumed;
use super::stream::KStream;
use super::table::{KTable, getter_of};
use crate::operators::source::{Reading, Source};
use crate::operators::table_source::TableSource;
use crate::processor::drops::DeadLetter;
use crate::processor::node::{Node, SourceCell};
use crate::record::{Headers, TopicSpec};
use crate::store::{StateStore, StoreHandle, StoreKind, StoreSpec, Stored};
use crate::topology::graph::{
    EdgeType, Graph, NewNode, Role, Supplier, Table, TableKind, TopicName,
};
use crate::topology::{Mistake, Topology, TopologyError};

/// Builds a topology.
///
/// Source: `org.apache.kafka.streams.StreamsBuilder`.
pub struct StreamsBuilder {
    graph: RefCell<Graph>,
    id: u64,
}

impl fmt::Debug for StreamsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamsBuilder").field("nodes", &self.graph.borrow().nodes.len()).finish()
    }
}

impl Default for StreamsBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl StreamsBuilder {
    /// An empty topology.
    pub fn new() -> Self {
        static BUILDERS: AtomicU64 = AtomicU64::new(0);
        let id = BUILDERS.fetch_add(1, Ordering::Relaxed);
        Self { graph: RefCell::new(Graph::default()), id }
    }

    /// Reads a topic as a stream of records. A null key or value is dropped with a reason unless
    /// its serde takes null ([`serdes::optional`](crate::serde::serdes::optional)).
    pub fn stream<K: 'static, V: 'static>(
        &self,
        topic: &str,
        consumed: Consumed<K, V>,
    ) -> KStream<'_, K, V> {
        self.source(TopicName::External(topic.into()), consumed)
    }

    pub(super) fn source<K: 'static, V: 'static>(
        &self,
        topic: TopicName,
        consumed: Consumed<K, V>,
    ) -> KStream<'_, K, V> {
        let role = Role::Source(topic.clone());
        let supplier: Supplier = Box::new(move |instance| {
            let reading = reading(&consumed, topic.resolve(instance.application_id));
            Box::new(SourceCell(Box::new(Source(reading)))) as Box<dyn Node>
        });
        let output = Some(EdgeType::stream::<K, V>());
        let node = NewNode { role, ..NewNode::new("source", vec![], None, output, supplier) };
        self.stream_handle(node)
    }

    /// Reads a topic as a table: a record sets its key's row, a null value deletes it. The table
    /// keeps no rows unless [`KTable::materialized`] names a store, or a join or an operator that
    /// needs old values makes it keep them under the topic's name.
    pub fn table<K: 'static, V: 'static>(
        &self,
        topic: &str,
        consumed: Consumed<K, V>,
    ) -> KTable<'_, K, V> {
        let name = TopicName::External(topic.into());
        let role = Role::Source(name.clone());
        let (key, value, cached) = (consumed.key.clone(), consumed.value.clone(), consumed.cached);
        let supplier: Supplier = Box::new(move |instance| {
            let reading = reading(&consumed, name.resolve(instance.application_id));
            let store = instance.table_store();
            Box::new(SourceCell(Box::new(TableSource { reading, store }))) as Box<dyn Node>
        });
        let store_name = topic.to_owned();
        let own_key = key.clone();
        let force = move || {
            let kind = StoreKind::TimestampedKeyValue;
            let (key, value) = (own_key.clone(), value.clone());
            let mut spec = StoreSpec::new(store_name.as_str(), kind, key, value);
            spec.cached = cached;
            spec
        };
        let node = self.graph.borrow().nodes.len();
        let table = Table {
            kind: TableKind::Source,
            store: None,
            sends_old: false,
            key_serde: Box::new(key),
            force: Some(Box::new(force)),
            getter: Box::new(getter_of::<K, V>(node)),
        };
        let output = Some(EdgeType::table::<K, V>());
        let new = NewNode::new("table-source", vec![], None, output, supplier);
        self.table_handle(NewNode { role, table: Some(table), ..new })
    }

    /// Adds a store for processors.
    pub fn add_store<S: StateStore>(&self, stored: Stored<S>) -> StoreHandle<S> {
        StoreHandle::new(self.graph.borrow_mut().add_store(stored.spec), self.id)
    }

    /// Says how a topic that the topology reads or writes is to be. The embedded log creates it so; on
    /// Kafka it is compared with what exists, and never changed. The dead letter topic of a declared
    /// topic can be declared too.
    ///
    /// ```
    /// use headwater::dsl::StreamsBuilder;
    /// use headwater::record::{Cleanup, TopicSpec};
    ///
    /// let b = StreamsBuilder::new();
    /// let cleanup = Cleanup::Delete { retention: Some(std::time::Duration::from_secs(86_400)) };
    /// b.declare_topic(TopicSpec { name: "orders".into(), partitions: 12, cleanup });
    /// ```
    pub fn declare_topic(&self, topic: TopicSpec) {
        self.graph.borrow_mut().declare(topic);
    }

    /// Adds headers to every dead letter of the topology, after the engine's own; the last such
    /// function counts.
    pub fn dead_letter_headers(
        &self,
        add: impl Fn(&DeadLetter<'_>, &mut Headers) + Send + Sync + 'static,
    ) {
        self.graph.borrow_mut().dead_letter_headers = Some(Box::new(add));
    }

    /// The stream that the node of this name emits, for topologies put together from modules. The
    /// types are checked by [`build`](Self::build).
    pub fn stream_named<K: 'static, V: 'static>(&self, name: &str) -> KStream<'_, K, V> {
        let mut graph = self.graph.borrow_mut();
        let found = graph.nodes.iter().position(|n| *n.name == *name);
        let node = found.unwrap_or_else(|| {
            graph.mistakes.push(Mistake::UnknownNode { name: name.to_owned() });
            usize::MAX
        });
        KStream { builder: self, node, _types: PhantomData }
    }

    /// Checks everything and gives the topology, to be shared by all tasks.
    ///
    /// # Errors
    /// Every mistake at once, each with what to do about it.
    pub fn build(self) -> Result<Arc<Topology>, TopologyError> {
        Topology::new(self.graph.into_inner()).map(Arc::new)
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn graph(&self) -> RefMut<'_, Graph> {
        self.graph.borrow_mut()
    }

    pub(super) fn stream_handle<K, V>(&self, node: NewNode) -> KStream<'_, K, V> {
        KStream { builder: self, node: self.graph.borrow_mut().add(node), _types: PhantomData }
    }

    pub(super) fn table_handle<K, V>(&self, node: NewNode) -> KTable<'_, K, V> {
        KTable { builder: self, node: self.graph.borrow_mut().add(node), _types: PhantomData }
    }
}

fn reading<K: 'static, V: 'static>(consumed: &Consumed<K, V>, topic: Arc<str>) -> Reading<K, V> {
    Reading {
        topic,
        key: consumed.key.clone(),
        value: consumed.value.clone(),
        extractor: consumed.extractor.clone(),
        on_dropped: consumed.on_dropped,
    }
}

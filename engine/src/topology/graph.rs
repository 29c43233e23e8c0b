//! The logical graph that the DSL builds: nodes with typed edges, stores, topics. Owns who sends
//! old values and which tables have stores; knows no operator's semantics and no task.
//!
//! Nodes are kept in the order they were added, and every node is added after its parents, so that
//! order is topological and is the order in which a record visits the children of a node.

use std::any::{Any, TypeId, type_name};
use std::sync::Arc;

use super::mistake::Mistake;
use crate::operators::table_store::TableStore;
use crate::processor::drops::DeadLetterHeaders;
use crate::processor::node::Node;
use crate::record::TopicSpec;
use crate::serde::SharedSerde;
use crate::store::{StoreKind, StoreSpec};

/// What an edge carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EdgeType {
    kind: EdgeKind,
    types: TypeId,
    name: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EdgeKind {
    Stream,
    Table,
}

impl EdgeType {
    pub(crate) fn stream<K: 'static, V: 'static>() -> Self {
        Self { kind: EdgeKind::Stream, types: TypeId::of::<(K, V)>(), name: type_name::<(K, V)>() }
    }

    pub(crate) fn table<K: 'static, V: 'static>() -> Self {
        Self { kind: EdgeKind::Table, types: TypeId::of::<(K, V)>(), name: type_name::<(K, V)>() }
    }

    pub(crate) fn describe(&self) -> String {
        match self.kind {
            EdgeKind::Stream => format!("records of {}", self.name),
            EdgeKind::Table => format!("changes of {}", self.name),
        }
    }
}

/// A topic as the topology names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TopicName {
    /// A topic of the user's.
    External(Arc<str>),
    /// A repartition topic, `<application>-<name>-repartition`.
    Repartition(Arc<str>),
    /// A topic of the topology's own, `<application>-<name>`.
    Internal(Arc<str>),
}

impl TopicName {
    /// The topic's name in the log.
    pub(crate) fn resolve(&self, application_id: &str) -> Arc<str> {
        match self {
            TopicName::External(name) => Arc::clone(name),
            TopicName::Repartition(name) => format!("{application_id}-{name}-repartition").into(),
            TopicName::Internal(name) => format!("{application_id}-{name}").into(),
        }
    }
}

/// Makes the node of one task.
pub(crate) type Supplier = Box<dyn Fn(&Instance<'_>) -> Box<dyn Node> + Send + Sync>;

/// What a supplier may know when it makes a node.
pub(crate) struct Instance<'g> {
    pub(crate) graph: &'g Graph,
    pub(crate) node: usize,
    pub(crate) application_id: &'g str,
}

impl Instance<'_> {
    /// Something downstream of this table node asked for old values.
    pub(crate) fn sends_old(&self) -> bool {
        self.graph.nodes[self.node].table.as_ref().is_some_and(|t| t.sends_old)
    }

    /// The store of this table node, if it has one.
    pub(crate) fn store(&self) -> Option<usize> {
        self.graph.nodes[self.node].table.as_ref().and_then(|t| t.store)
    }

    /// That store, as the node's operator uses it.
    pub(crate) fn table_store<K: 'static, V: 'static>(&self) -> Option<TableStore<K, V>> {
        let store = self.store()?;
        let key = self.graph.key_serde(self.node);
        let rows = TableStore::new(store, key, self.is_cached(store), self.sends_old());
        let is_versioned = matches!(self.graph.stores[store].kind, StoreKind::Versioned(_));
        Some(if is_versioned { rows.versioned() } else { rows })
    }

    /// The table above this node keeps versions.
    pub(crate) fn is_parent_versioned(&self) -> bool {
        self.graph.is_versioned(self.graph.nodes[self.node].parents[0])
    }

    /// The store of a table node keeps changes back until a flush.
    pub(crate) fn is_cached(&self, store: usize) -> bool {
        self.graph.stores[store].cached
    }
}

/// What a node is towards the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    Inner,
    Source(TopicName),
    Sink(TopicName),
}

pub(crate) struct GraphNode {
    pub(crate) name: Arc<str>,
    pub(crate) operator: &'static str,
    pub(crate) parents: Vec<usize>,
    pub(crate) output: Option<EdgeType>,
    pub(crate) role: Role,
    pub(crate) stores: Vec<usize>,
    pub(crate) key_changed: bool,
    pub(crate) clocks: usize,
    /// A join of a stream that takes null keys.
    pub(crate) joins_null_keys: bool,
    /// How long after their end the table's windows still change, in its own stream time.
    pub(crate) closes_after_ms: Option<i64>,
    pub(crate) table: Option<Table>,
    pub(crate) supplier: Supplier,
}

/// What a table node is towards those who ask it (old values, value getters).
pub(crate) struct Table {
    pub(crate) kind: TableKind,
    pub(crate) store: Option<usize>,
    pub(crate) sends_old: bool,
    /// `SharedSerde<K>`.
    pub(crate) key_serde: Box<dyn Any + Send + Sync>,
    /// Opens an unnamed store for a source that is forced to have one.
    pub(crate) force: Option<Box<dyn Fn() -> StoreSpec + Send + Sync>>,
    /// `GetterSupplier<K, V>`.
    pub(crate) getter: Box<dyn Any + Send + Sync>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableKind {
    Source,
    /// Filter or mapping of the parent.
    Derived,
    Aggregate,
    /// Changes of the parent, held back.
    Suppressed,
    /// A join of these two tables.
    Join(usize, usize),
}

/// What the DSL gives to add a node.
pub(crate) struct NewNode {
    pub(crate) operator: &'static str,
    pub(crate) name: Option<String>,
    pub(crate) parents: Vec<usize>,
    pub(crate) input: Option<EdgeType>,
    pub(crate) output: Option<EdgeType>,
    pub(crate) role: Role,
    pub(crate) stores: Vec<usize>,
    pub(crate) key_changed: bool,
    pub(crate) clocks: usize,
    /// A join of a stream that takes null keys.
    pub(crate) joins_null_keys: bool,
    /// How long after their end the table's windows still change, in its own stream time.
    pub(crate) closes_after_ms: Option<i64>,
    pub(crate) table: Option<Table>,
    pub(crate) supplier: Supplier,
}

impl NewNode {
    pub(crate) fn new(
        operator: &'static str,
        parents: Vec<usize>,
        input: Option<EdgeType>,
        output: Option<EdgeType>,
        supplier: Supplier,
    ) -> Self {
        Self {
            operator,
            name: None,
            parents,
            input,
            output,
            role: Role::Inner,
            stores: Vec::new(),
            key_changed: false,
            clocks: 0,
            joins_null_keys: false,
            closes_after_ms: None,
            table: None,
            supplier,
        }
    }
}

/// The checked parts of a topology, as they are added.
#[derive(Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<GraphNode>,
    pub(crate) stores: Vec<StoreSpec>,
    pub(crate) repartitions: Vec<Repartition>,
    pub(crate) globals: Vec<GlobalTable>,
    pub(crate) mistakes: Vec<Mistake>,
    /// What the topology says of topics it does not own.
    pub(crate) topics: Vec<TopicSpec>,
    pub(crate) dead_letter_headers: Option<Box<DeadLetterHeaders>>,
}

/// A global table of the topology.
#[derive(Debug, Clone)]
pub struct GlobalTable {
    /// The topic it follows.
    pub topic: Arc<str>,
    /// Its store.
    pub spec: StoreSpec,
}

/// A repartition topic of the topology.
#[derive(Debug, Clone)]
pub(crate) struct Repartition {
    pub(crate) topic: TopicName,
    pub(crate) partitions: Option<u32>,
}

impl Graph {
    /// Declares a topic, as often as one likes, always the same.
    pub(crate) fn declare(&mut self, topic: TopicSpec) {
        if topic.partitions == 0 {
            self.mistakes.push(Mistake::NoPartitions { topic: topic.name.to_string() });
        }
        match self.topics.iter().find(|known| known.name == topic.name) {
            None => self.topics.push(topic),
            Some(known) if *known == topic => {}
            Some(known) => self.mistakes.push(Mistake::DeclaredTwice {
                topic: topic.name.to_string(),
                one: known.to_string(),
                other: topic.to_string(),
            }),
        }
    }

    /// The name that a store was given by its user.
    pub(crate) fn store_name(&self, store: usize) -> Arc<str> {
        Arc::clone(&self.stores[store].name)
    }

    pub(crate) fn add(&mut self, new: NewNode) -> usize {
        let index = self.nodes.len();
        let name: Arc<str> = match &new.name {
            Some(name) => name.as_str().into(),
            None => format!("{}-{index}", new.operator).into(),
        };
        if self.nodes.iter().any(|n| n.name == name) {
            self.mistakes.push(Mistake::NameTaken { what: "node", name: name.to_string() });
        }
        if let Role::Source(topic) = &new.role
            && self.nodes.iter().any(|n| n.role == new.role)
        {
            let topic = topic.resolve("application").to_string();
            self.mistakes.push(Mistake::TopicReadTwice { topic });
        }
        for &parent in &new.parents {
            let parent = &self.nodes[parent];
            if parent.output != new.input {
                let show = |t: &Option<EdgeType>| t.map_or("nothing".into(), |t| t.describe());
                self.mistakes.push(Mistake::WrongEdge {
                    node: name.to_string(),
                    takes: show(&new.input),
                    parent: parent.name.to_string(),
                    emits: show(&parent.output),
                });
            }
        }
        self.nodes.push(GraphNode {
            name,
            operator: new.operator,
            parents: new.parents,
            output: new.output,
            role: new.role,
            stores: new.stores,
            key_changed: new.key_changed,
            clocks: new.clocks,
            joins_null_keys: new.joins_null_keys,
            closes_after_ms: new.closes_after_ms,
            table: new.table,
            supplier: new.supplier,
        });
        index
    }

    /// Renames a node for display.
    pub(crate) fn rename(&mut self, node: usize, name: &str) {
        if self.nodes.iter().enumerate().any(|(at, n)| at != node && *n.name == *name) {
            self.mistakes.push(Mistake::NameTaken { what: "node", name: name.to_owned() });
        }
        self.nodes[node].name = name.into();
    }

    pub(crate) fn add_store(&mut self, spec: StoreSpec) -> usize {
        self.check_store(&spec);
        self.stores.push(spec);
        self.stores.len() - 1
    }

    fn check_store(&mut self, spec: &StoreSpec) {
        self.check_name("store", &spec.name);
        let mut taken = self.stores.iter().chain(self.globals.iter().map(|g| &g.spec));
        if taken.any(|s| s.name == spec.name) {
            let name = spec.name.to_string();
            self.mistakes.push(Mistake::NameTaken { what: "store", name });
        }
    }

    pub(crate) fn add_repartition(&mut self, name: &str, partitions: Option<u32>) -> TopicName {
        self.add_own_topic(name, TopicName::Repartition(name.into()), partitions)
    }

    /// A topic through which parts of the topology talk; as many partitions as its readers' other
    /// inputs.
    pub(crate) fn add_internal_topic(&mut self, name: &str) -> TopicName {
        self.add_own_topic(name, TopicName::Internal(name.into()), None)
    }

    fn add_own_topic(
        &mut self,
        name: &str,
        topic: TopicName,
        partitions: Option<u32>,
    ) -> TopicName {
        let what = "repartition topic";
        self.check_name(what, name);
        if self.repartitions.iter().any(|r| r.topic == topic) {
            self.mistakes.push(Mistake::NameTaken { what, name: name.to_owned() });
        }
        self.repartitions.push(Repartition { topic: topic.clone(), partitions });
        topic
    }

    pub(crate) fn add_global(&mut self, topic: &str, spec: StoreSpec) -> usize {
        self.check_store(&spec);
        self.globals.push(GlobalTable { topic: topic.into(), spec });
        self.globals.len() - 1
    }

    /// Topics that are read twice over, counting global tables.
    pub(crate) fn check_globals(&mut self) {
        for at in 0..self.globals.len() {
            let topic = TopicName::External(Arc::clone(&self.globals[at].topic));
            let role = Role::Source(topic);
            let earlier = self.globals[..at].iter().any(|g| g.topic == self.globals[at].topic);
            if earlier || self.nodes.iter().any(|n| n.role == role) {
                let topic = self.globals[at].topic.to_string();
                self.mistakes.push(Mistake::TopicReadTwice { topic });
            }
        }
    }

    pub(crate) fn check_name(&mut self, what: &'static str, name: &str) {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > 200 || !name.chars().all(legal) {
            self.mistakes.push(Mistake::IllegalName { what, name: name.to_owned() });
        }
    }

    pub(crate) fn check_duration(&mut self, what: &'static str, node: &str, ms: i64, min: i64) {
        let max = crate::time::MAX_SPAN_MS;
        if !(min..=max).contains(&ms) {
            let node = node.to_owned();
            self.mistakes.push(Mistake::Duration { what, node, found: ms, min, max });
        }
    }

    pub(crate) fn table(&self, node: usize) -> &Table {
        self.nodes[node].table.as_ref().expect("a table handle names a table node")
    }

    fn table_mut(&mut self, node: usize) -> &mut Table {
        self.nodes[node].table.as_mut().expect("a table handle names a table node")
    }

    /// The key serde of a table node.
    pub(crate) fn key_serde<K: 'static>(&self, node: usize) -> SharedSerde<K> {
        let serde = self.table(node).key_serde.downcast_ref::<SharedSerde<K>>();
        serde.expect("the handle's key type is the node's").clone()
    }

    /// Gives a table node the store that its user named.
    pub(crate) fn materialize(&mut self, node: usize, spec: StoreSpec) {
        let store = self.add_store(spec);
        self.nodes[node].stores.push(store);
        self.table_mut(node).store = Some(store);
    }

    /// Asks a table to send old values. With `force` a source without a store gets one; without,
    /// the answer may be no.
    ///
    /// Source: `KTableImpl.enableSendingOldValues`.
    pub(crate) fn enable_old_values(&mut self, node: usize, force: bool) -> bool {
        let table = self.table(node);
        if table.sends_old {
            return true;
        }
        let (kind, has_store) = (table.kind, table.store.is_some());
        let enabled = match kind {
            TableKind::Aggregate => true,
            TableKind::Source if has_store => true,
            TableKind::Source => {
                if force {
                    self.force_store(node);
                }
                force
            }
            TableKind::Derived if has_store => true,
            TableKind::Derived | TableKind::Suppressed => {
                let parent = self.nodes[node].parents[0];
                self.enable_old_values(parent, force)
            }
            TableKind::Join(left, right) => {
                self.enable_old_values(left, true);
                self.enable_old_values(right, true);
                true
            }
        };
        self.table_mut(node).sends_old = enabled;
        enabled
    }

    /// Makes sure that a lookup by key can be answered: an unnamed source gets a store.
    ///
    /// Source: `KTableImpl.valueGetterSupplier`.
    pub(crate) fn enable_lookup(&mut self, node: usize) {
        if self.table(node).store.is_some() {
            return;
        }
        match self.table(node).kind {
            TableKind::Source => self.force_store(node),
            TableKind::Derived | TableKind::Suppressed => {
                self.enable_lookup(self.nodes[node].parents[0]);
            }
            TableKind::Join(left, right) => {
                self.enable_lookup(left);
                self.enable_lookup(right);
            }
            TableKind::Aggregate => {}
        }
    }

    /// The stores that a lookup in this table reads; the looking node is connected to them.
    pub(crate) fn lookup_stores(&self, node: usize) -> Vec<usize> {
        let table = self.table(node);
        match (table.store, table.kind) {
            (Some(store), _) => vec![store],
            (None, TableKind::Suppressed) => self.nodes[node].stores.clone(),
            (None, TableKind::Derived) => self.lookup_stores(self.nodes[node].parents[0]),
            (None, TableKind::Join(left, right)) => {
                let mut stores = self.lookup_stores(left);
                stores.extend(self.lookup_stores(right));
                stores
            }
            (None, _) => Vec::new(),
        }
    }

    /// The table keeps versions, itself or in the table that it filters or maps.
    ///
    /// Source: `VersionedSemanticsGraphNode`.
    pub(crate) fn is_versioned(&self, node: usize) -> bool {
        let Some(table) = &self.nodes[node].table else { return false };
        match (table.store, table.kind) {
            (Some(store), _) => matches!(self.stores[store].kind, StoreKind::Versioned(_)),
            (None, TableKind::Derived) => self.is_versioned(self.nodes[node].parents[0]),
            (None, _) => false,
        }
    }

    /// How long after their end the windows of a node's keys still change: what the windowed
    /// aggregations above it say, the longest of several.
    ///
    /// Source: `GraphGraceSearchUtil`.
    pub(crate) fn closes_after_ms(&self, node: usize) -> Option<i64> {
        let node = &self.nodes[node];
        let above = || node.parents.iter().filter_map(|&p| self.closes_after_ms(p)).max();
        node.closes_after_ms.or_else(above)
    }

    fn force_store(&mut self, node: usize) {
        let make = self.table_mut(node).force.take().expect("a source without a store can get one");
        let spec = make();
        self.materialize(node, spec);
    }

    /// A repartition topic keeps records with a null key only if a join that takes them is behind
    /// it, through whatever further topics (KIP-962).
    pub(crate) fn takes_null_keys(&self, topic: &TopicName) -> bool {
        let mut reached = vec![false; self.nodes.len()];
        let mut topics = vec![topic];
        while let Some(topic) = topics.pop() {
            for (at, node) in self.nodes.iter().enumerate() {
                let reads = matches!(&node.role, Role::Source(read) if read == topic);
                let behind = node.parents.iter().any(|&p| reached[p]);
                if reached[at] || !(reads || behind) {
                    continue;
                }
                reached[at] = true;
                if let Role::Sink(next) = &node.role {
                    topics.push(next);
                }
            }
        }
        self.nodes.iter().zip(reached).any(|(n, reached)| reached && n.joins_null_keys)
    }

    pub(crate) fn children(&self, node: usize) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&n| self.nodes[n].parents.contains(&node)).collect()
    }
}

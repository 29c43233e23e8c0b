//! Topologies: a checked graph, cut into subtopologies, and the nodes of a task made from it. Owns
//! numbering, internal topics' names and the description; knows no log and no thread.

mod describe;
pub(crate) mod graph;
mod mistake;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use describe::{DescribedNode, Description};
pub use graph::GlobalTable;
pub use mistake::{Mistake, TopologyError};

use crate::processor::drops::DeadLetterHeaders;
use crate::processor::node::{Node, Slot};
use crate::record::TopicSpec;
use crate::store::StoreSpec;
use graph::{Graph, Instance, Role};

/// What a broker stores with a committed offset (`offset.metadata.max.bytes`).
const OFFSET_METADATA_MAX_BYTES: usize = 4096;
/// A clock in that metadata: name hash, time, framing; see `serde::kafka_streams`.
const CLOCK_BYTES_MAX: usize = 32;

/// A topology that can run: every edge, name and bound is checked. Shared by all tasks.
pub struct Topology {
    graph: Graph,
    /// The subtopology of each node.
    subtopology_of: Vec<usize>,
    subtopologies: usize,
}

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.describe(), f)
    }
}

/// A repartition topic that the runtime creates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepartitionTopic {
    /// Its name in the log.
    pub topic: Arc<str>,
    /// Its partitions, if the topology says how many.
    pub partitions: Option<u32>,
    /// The topics whose partition counts decide otherwise: the inputs of the writing subtopology.
    pub written_from: Vec<Arc<str>>,
}

/// Part of a topology that one task runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subtopology {
    /// Its number.
    pub id: u32,
    /// The topics it reads; all must have the same number of partitions (co-partitioning).
    pub inputs: Vec<Arc<str>>,
    /// The topics it writes.
    pub outputs: Vec<Arc<str>>,
    /// The topology's stores it has, by their index in [`Topology::stores`].
    pub stores: Vec<usize>,
}

impl Topology {
    pub(crate) fn new(mut graph: Graph) -> Result<Self, TopologyError> {
        if !graph.nodes.iter().any(|n| matches!(n.role, Role::Source(_))) {
            graph.mistakes.push(Mistake::NoSource);
        }
        graph.check_globals();
        let (subtopology_of, subtopologies) = cut(&graph);
        for subtopology in 0..subtopologies {
            let members = graph.nodes.iter().zip(&subtopology_of);
            let clocks = members.filter(|(_, s)| **s == subtopology).map(|(n, _)| n.clocks).sum();
            let bytes = clocks * CLOCK_BYTES_MAX;
            if bytes > OFFSET_METADATA_MAX_BYTES {
                let limit = OFFSET_METADATA_MAX_BYTES;
                graph.mistakes.push(Mistake::MetadataTooLarge {
                    subtopology,
                    clocks,
                    bytes,
                    limit,
                });
            }
        }
        if graph.mistakes.is_empty() {
            Ok(Self { graph, subtopology_of, subtopologies })
        } else {
            Err(TopologyError { mistakes: graph.mistakes })
        }
    }

    /// What the topology says of topics that it reads or writes and does not own.
    pub fn declared_topics(&self) -> &[TopicSpec] {
        &self.graph.topics
    }

    /// The declaration of this topic.
    pub fn declared(&self, topic: &str) -> Option<&TopicSpec> {
        self.graph.topics.iter().find(|declared| *declared.name == *topic)
    }

    /// Headers that the topology adds to its dead letters.
    pub(crate) fn dead_letter_headers(&self) -> Option<&DeadLetterHeaders> {
        self.graph.dead_letter_headers.as_deref()
    }

    /// The stores, in the order they were added.
    pub fn stores(&self) -> &[StoreSpec] {
        &self.graph.stores
    }

    /// The global tables, in the order they were added.
    pub fn globals(&self) -> &[GlobalTable] {
        &self.graph.globals
    }

    /// The subtopologies, with topics as an application of this id names them.
    pub fn subtopologies(&self, application_id: &str) -> Vec<Subtopology> {
        (0..self.subtopologies).map(|s| self.subtopology(s, application_id)).collect()
    }

    fn subtopology(&self, number: usize, application_id: &str) -> Subtopology {
        let mut sub = Subtopology {
            id: u32::try_from(number).expect("a topology has fewer than 2^32 nodes"),
            inputs: Vec::new(),
            outputs: Vec::new(),
            stores: Vec::new(),
        };
        for node in self.members(Some(number)).map(|n| &self.graph.nodes[n]) {
            match &node.role {
                Role::Source(topic) => sub.inputs.push(topic.resolve(application_id)),
                Role::Sink(topic) => sub.outputs.push(topic.resolve(application_id)),
                Role::Inner => {}
            }
            sub.stores.extend(&node.stores);
        }
        sub.stores.sort_unstable();
        sub.stores.dedup();
        sub.outputs.sort();
        sub.outputs.dedup();
        sub
    }

    /// The repartition topics that an application of this id needs.
    pub fn repartition_topics(&self, application_id: &str) -> Vec<RepartitionTopic> {
        let subtopologies = self.subtopologies(application_id);
        let topic = |r: &graph::Repartition| {
            let name = r.topic.resolve(application_id);
            let writers = subtopologies.iter().filter(|s| s.outputs.contains(&name));
            let written_from = writers.flat_map(|s| s.inputs.iter().cloned()).collect();
            RepartitionTopic { topic: name, partitions: r.partitions, written_from }
        };
        self.graph.repartitions.iter().map(topic).collect()
    }

    /// The topology as a person reads it.
    pub fn describe(&self) -> Description {
        Description::of(&self.graph, &self.subtopology_of, self.subtopologies)
    }

    fn members(&self, subtopology: Option<usize>) -> impl Iterator<Item = usize> {
        let all = 0..self.graph.nodes.len();
        all.filter(move |&n| subtopology.is_none_or(|s| self.subtopology_of[n] == s))
    }

    /// Makes the nodes of one task of a subtopology, or of the whole topology in one task.
    pub(crate) fn instantiate(&self, subtopology: Option<u32>, application_id: &str) -> Arena {
        let subtopology = subtopology.map(|s| s as usize);
        let members: Vec<usize> = self.members(subtopology).collect();
        let place: BTreeMap<usize, usize> = members.iter().copied().zip(0..).collect();
        let mut sources = Vec::new();
        let slots = members.iter().map(|&n| {
            let node = &self.graph.nodes[n];
            if let Role::Source(topic) = &node.role {
                sources.push((topic.resolve(application_id), place[&n]));
            }
            let instance = Instance { graph: &self.graph, node: n, application_id };
            let made: Box<dyn Node> = (node.supplier)(&instance);
            let children = self.graph.children(n).iter().map(|c| place[c]).collect();
            Slot { name: Arc::clone(&node.name), node: made, children }
        });
        let slots = slots.collect();
        Arena { slots, sources }
    }
}

/// The nodes of one task.
pub(crate) struct Arena {
    pub(crate) slots: Vec<Slot>,
    /// Each topic that is read, and the node that reads it.
    pub(crate) sources: Vec<(Arc<str>, usize)>,
}

/// Numbers the connected parts of the graph: by edges and by shared stores, not by topics.
fn cut(graph: &Graph) -> (Vec<usize>, usize) {
    let mut root: Vec<usize> = (0..graph.nodes.len()).collect();
    fn find(root: &mut [usize], n: usize) -> usize {
        let mut n = n;
        while root[n] != n {
            root[n] = root[root[n]];
            n = root[n];
        }
        n
    }
    let mut first_with_store = BTreeMap::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        let with_store = node.stores.iter().map(|s| *first_with_store.entry(*s).or_insert(at));
        for other in node.parents.iter().copied().chain(with_store.collect::<Vec<_>>()) {
            let (a, b) = (find(&mut root, at), find(&mut root, other));
            root[a.max(b)] = a.min(b);
        }
    }
    let mut numbers = BTreeMap::new();
    let numbered = (0..root.len()).map(|n| {
        let next = numbers.len();
        let r = find(&mut root, n);
        *numbers.entry(r).or_insert(next)
    });
    let numbered: Vec<usize> = numbered.collect();
    (numbered, numbers.len())
}

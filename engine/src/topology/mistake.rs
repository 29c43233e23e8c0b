//! What can be wrong with a topology. `build()` returns every mistake at once.

use std::fmt;

use crate::error::{Classified, ErrorClass};

/// One mistake in a topology.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mistake {
    /// An edge joins an output to an input of other types.
    #[error("node `{node}` takes {takes} but its parent `{parent}` emits {emits}")]
    WrongEdge {
        /// The node.
        node: String,
        /// What it takes.
        takes: String,
        /// Its parent.
        parent: String,
        /// What that emits.
        emits: String,
    },
    /// A handle was used on another builder than its own.
    #[error(
        "operator `{operator}` joins nodes of two builders; build one topology with one builder"
    )]
    ForeignBuilder {
        /// The operator.
        operator: &'static str,
    },
    /// A topic is declared without partitions.
    #[error("topic `{topic}` is declared with 0 partitions; it needs at least 1")]
    NoPartitions {
        /// The topic.
        topic: String,
    },
    /// A topic is declared in two ways.
    #[error("topic `{topic}` is declared as {one} and as {other}; declare it once")]
    DeclaredTwice {
        /// The topic.
        topic: String,
        /// The first declaration.
        one: String,
        /// The second.
        other: String,
    },
    /// No node has this name.
    #[error("no node is named `{name}`; name one with `.named(\"{name}\")` before it is looked up")]
    UnknownNode {
        /// The name.
        name: String,
    },
    /// A name is taken.
    #[error("{what} `{name}` is used twice; give each its own name")]
    NameTaken {
        /// What has the name: "node", "store", "repartition topic".
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A name cannot be part of a topic's name.
    #[error(
        "{what} `{name}` is not a legal name: use 1 to 200 of the characters a-z A-Z 0-9 . _ -"
    )]
    IllegalName {
        /// What has the name.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A topic is read by two sources.
    #[error("topic `{topic}` is read by two sources; read it once and use the handle twice")]
    TopicReadTwice {
        /// The topic.
        topic: String,
    },
    /// A duration is out of bounds.
    #[error("{what} of `{node}` is {found} ms; it must be between {min} and {max}")]
    Duration {
        /// Which one.
        what: &'static str,
        /// Whose.
        node: String,
        /// The value in milliseconds.
        found: i64,
        /// The smallest.
        min: i64,
        /// The largest.
        max: i64,
    },
    /// Something waits for windows to close where there are none.
    #[error(
        "`{node}` waits for windows to close, but no windowed aggregation is above it; aggregate within windows first, or suppress until a time limit"
    )]
    NoWindows {
        /// The node.
        node: String,
    },
    /// A join with a grace period looks up in a table that has no history.
    #[error(
        "join `{node}` has a grace period, but its table keeps no versions; materialize the table with `Materialized::versioned`, or give no grace"
    )]
    NotVersioned {
        /// The join.
        node: String,
    },
    /// A node names a store that does not exist.
    #[error("processor `{node}` names a store of another builder; add the store to this one")]
    UnknownStore {
        /// The node.
        node: String,
    },
    /// The tasks' clocks may not fit into the metadata of a committed offset.
    #[error(
        "subtopology {subtopology} has {clocks} operator clocks; their metadata may take {bytes} bytes of the {limit} that a broker stores with an offset: split the topology with a repartition"
    )]
    MetadataTooLarge {
        /// The subtopology.
        subtopology: usize,
        /// How many clocks it has.
        clocks: usize,
        /// What they take at most.
        bytes: usize,
        /// What there is.
        limit: usize,
    },
    /// There is nothing to run.
    #[error("the topology has no source; begin with `builder.stream(..)` or `builder.table(..)`")]
    NoSource,
}

/// Every mistake of a topology, in the order they were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopologyError {
    /// The mistakes; never empty.
    pub mistakes: Vec<Mistake>,
}

impl fmt::Display for TopologyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.mistakes.len();
        write!(f, "the topology has {n} mistake{}", if n == 1 { "" } else { "s" })?;
        for mistake in &self.mistakes {
            write!(f, "\n- {mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for TopologyError {}

impl Classified for TopologyError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Fatal
    }
}

//! What a topic is, apart from its records: its partitions, and what happens to old records.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A topic as it is to be, or as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// The topic's name.
    pub name: Arc<str>,
    /// How many partitions it has.
    pub partitions: u32,
    /// What happens to old records.
    pub cleanup: Cleanup,
}

/// What a log does with old records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleanup {
    /// Deletes records older than the retention; `None` keeps them for ever.
    Delete {
        /// How long a record is kept after its timestamp.
        retention: Option<Duration>,
    },
    /// Keeps the last record of each key; a null value deletes the key.
    Compact,
    /// As [`Compact`](Self::Compact), but no record before it is this old: versions of a key.
    CompactAfter {
        /// How long every record is kept after it was written.
        lag: Duration,
    },
    /// Both: the last record of each key, no longer than the retention.
    CompactAndDelete {
        /// How long a record is kept after its timestamp.
        retention: Duration,
    },
}

impl fmt::Display for TopicSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, partitions, cleanup } = self;
        write!(f, "'{name}' with {partitions} partitions, {cleanup}")
    }
}

impl fmt::Display for Cleanup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = |kept: &Duration| kept.as_secs() / 3_600;
        match self {
            Cleanup::Delete { retention: None } => write!(f, "kept for ever"),
            Cleanup::Delete { retention: Some(kept) } => write!(f, "kept {} h", hours(kept)),
            Cleanup::Compact => write!(f, "compacted"),
            Cleanup::CompactAfter { lag } => write!(f, "compacted after {} h", hours(lag)),
            Cleanup::CompactAndDelete { retention } => {
                write!(f, "compacted and kept {} h", hours(retention))
            }
        }
    }
}

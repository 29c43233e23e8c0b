//! Records that an operator does not take: each has a reason and is counted; none is dropped in
//! silence.

use std::fmt;
use std::sync::Arc;

use crate::record::{Headers, Place, TopicPartition};

/// Why a record was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DropReason {
    /// The operator needs a key.
    NullKey,
    /// The operator needs a value.
    NullValue,
    /// Every window of the record had closed (end + grace is behind the operator's stream time).
    Late,
    /// A record of the same id was there before.
    Duplicate,
    /// The store no longer keeps the record's time (retention).
    Expired,
    /// The timestamp is negative or too far in the future to compute with.
    Timestamp,
    /// The key or value could not be read.
    Deserialization,
    /// The answer of a foreign-key join was overtaken by a change of the row that asked.
    Stale,
    /// Processing failed and the handler said to drop it.
    Failed,
    /// The log refuses the output of a flush or a punctuation, which no record causes alone.
    Refused,
}

impl DropReason {
    /// The reason's name in metrics, headers and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            DropReason::NullKey => "null-key",
            DropReason::NullValue => "null-value",
            DropReason::Late => "late",
            DropReason::Duplicate => "duplicate",
            DropReason::Expired => "expired",
            DropReason::Timestamp => "timestamp",
            DropReason::Deserialization => "deserialization",
            DropReason::Stale => "stale",
            DropReason::Failed => "failed",
            DropReason::Refused => "refused",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an operator does with a record it drops, beyond counting and logging it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDropped {
    /// Nothing more.
    #[default]
    Count,
    /// The record that was read goes to the dead letter topic, in the same transaction.
    DeadLetter,
}

/// One drop, noted while a record is processed.
#[derive(Debug, Clone)]
pub(crate) struct Dropped {
    pub(crate) node: Arc<str>,
    pub(crate) reason: DropReason,
    pub(crate) detail: String,
    pub(crate) dead_letter: bool,
}

/// A dead letter on its way, for a topology that adds headers of its own.
#[derive(Debug, Clone, Copy)]
pub struct DeadLetter<'a> {
    /// Where the record was read; of an output that a flush wrote, where it was to go, at offset -1.
    pub place: &'a Place,
    /// The record's headers.
    pub headers: &'a Headers,
    /// The name of the [`DropReason`].
    pub reason: &'a str,
    /// The node.
    pub node: &'a str,
    /// What happened.
    pub message: &'a str,
    /// Wall-clock time of the task, in milliseconds.
    pub wall_ms: i64,
}

/// Adds headers to a dead letter.
pub(crate) type DeadLetterHeaders = dyn Fn(&DeadLetter<'_>, &mut Headers) + Send + Sync;

/// An output that the log refuses and that no record being processed is the cause of.
#[derive(Debug, Clone)]
pub(crate) struct RefusedOutput {
    pub(crate) node: Arc<str>,
    pub(crate) to: TopicPartition,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Headers,
    pub(crate) why: String,
}

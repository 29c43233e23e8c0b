//! Records: what flows along edges, and its raw form in partition queues and logs. Owns record
//! views, headers and the record batch; knows nothing of serdes, processors or where bytes lie.
//!
//! There are two edge kinds. A stream edge lends a [`Record`], a table edge lends a [`Change`];
//! both are views of borrowed data, so fan-out copies pointers and asks nothing of `K` and `V`.

pub mod batch;
pub mod fetched;
pub mod headers;
mod print;
pub mod stamp;
mod topic;
pub(crate) mod varint;

use std::fmt;
use std::sync::Arc;

pub use batch::{BatchCursor, BatchError, RawRecord, RecordBatch, RecordBatchBuilder};
pub use headers::{Header, Headers, HeadersError, RawHeaders};
pub use print::RecordPrint;
pub use topic::{Cleanup, TopicSpec};

/// One partition of one topic.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition, from 0.
    pub partition: u32,
}

impl TopicPartition {
    /// Names a partition.
    pub fn new(topic: impl Into<Arc<str>>, partition: u32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One task: the same partition of every input of one subtopology. Shown as Kafka Streams shows
/// it, `subtopology_partition`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId {
    /// The subtopology's number.
    pub subtopology: u32,
    /// The partition, from 0.
    pub partition: u32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.subtopology, self.partition)
    }
}

/// A record on a stream edge: a view, copied freely.
#[derive(Debug)]
pub struct Record<'r, K, V> {
    /// The key.
    pub key: &'r K,
    /// The value.
    pub value: &'r V,
    /// Milliseconds since the Unix epoch, never negative.
    pub timestamp: i64,
    /// The headers of the record this one comes from, or what a processor put in their place.
    pub headers: &'r Headers,
}

impl<K, V> Clone for Record<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Record<'_, K, V> {}

impl<'r, K, V> Record<'r, K, V> {
    /// The same record with another value.
    pub fn with_value<W>(self, value: &'r W) -> Record<'r, K, W> {
        Record { key: self.key, value, timestamp: self.timestamp, headers: self.headers }
    }

    /// The same record with another key.
    pub fn with_key<L>(self, key: &'r L) -> Record<'r, L, V> {
        Record { key, value: self.value, timestamp: self.timestamp, headers: self.headers }
    }

    /// The same record at another time.
    pub fn with_timestamp(self, timestamp: i64) -> Self {
        Self { timestamp, ..self }
    }

    /// The same record with other headers.
    pub fn with_headers(self, headers: &'r Headers) -> Self {
        Self { headers, ..self }
    }
}

/// A change of one row on a table edge: a view, copied freely. Absent values are `None`.
///
/// The two sides are lent as whole options, so that [`to_stream`](crate::dsl::KTable::to_stream)
/// can lend them on as nullable values without asking `Clone` of `V`.
#[derive(Debug)]
pub struct Change<'r, K, V> {
    /// The row's key.
    pub key: &'r K,
    /// The row before, where something downstream asked for it; else `None`.
    pub old: &'r Option<V>,
    /// The row now; `None` is a deletion (tombstone).
    pub new: &'r Option<V>,
    /// Milliseconds since the Unix epoch, never negative.
    pub timestamp: i64,
    /// The headers of the record that caused the change.
    pub headers: &'r Headers,
}

impl<K, V> Clone for Change<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Change<'_, K, V> {}

impl<'r, K, V> Change<'r, K, V> {
    /// The same change of other values.
    pub fn with_values<W>(self, old: &'r Option<W>, new: &'r Option<W>) -> Change<'r, K, W> {
        Change { key: self.key, old, new, timestamp: self.timestamp, headers: self.headers }
    }
}

/// The key of a windowed row: a key and the window it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Windowed<K> {
    /// The key.
    pub key: K,
    /// The window.
    pub window: Window,
}

/// A window in time, in milliseconds. `end` is exclusive for tumbling and hopping windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Window {
    /// The first millisecond of the window.
    pub start: i64,
    /// The end.
    pub end: i64,
}

/// The place of a record in the log, for errors, dead letters and logging.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where the record was read.
    pub partition: TopicPartition,
    /// Its offset there.
    pub offset: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} offset {}", self.partition, self.offset)
    }
}

//! What a log hands to a task, and what it takes back beside records: fetched batches and committed
//! positions. Plain data, so that a task need not know any log.

use super::batch::RecordBatch;

/// What a reader found.
#[derive(Debug, Default)]
pub struct Fetched {
    /// Batches in offset order, all at or after the reader's position.
    pub batches: Vec<RecordBatch>,
    /// The reader's position now: the next offset it will read. It may lie past the last record
    /// of `batches` (aborted records, control records, compacted offsets).
    pub position: i64,
    /// There was nothing more to read when this was fetched.
    pub at_end: bool,
}

/// An input position with what must travel with it (Kafka's offset metadata).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to read.
    pub next_offset: i64,
    /// The task's clocks, encoded; at most 4,096 bytes.
    pub metadata: String,
}

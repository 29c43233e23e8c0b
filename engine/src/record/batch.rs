//! Placeholder: record batches.

/// An encoded batch of records.
#[derive(Debug, Clone)]
pub struct RecordBatch {}

//! Placeholder of the seams that the engine already names; the crate replaces it whole.

/// Receives the writes of a batch.
pub trait BatchSink {}

/// A part of an atomic batch.
pub trait BatchPart {
    /// Replays the part's writes into the batch.
    fn replay(&self, sink: &mut dyn BatchSink);
}

/// The right to write one store-partition.
#[derive(Debug, Clone)]
pub struct Lease {}

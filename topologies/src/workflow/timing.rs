//! What can be chosen of a workflow.
//!
//! Owns the options and their defaults. It must not know what they do.

use crate::quality::{Gate, default_gates};
use crate::saga::Timing;

/// How work items are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dispatch {
    /// All at once.
    Parallel,
    /// Each when the one before it is done.
    Sequential,
}

/// What can be chosen of a workflow.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkflowOptions {
    /// How work items are handed out.
    pub dispatch: Dispatch,
    /// How long the manager agent may analyse, in milliseconds.
    pub analysis_ms: i64,
    /// How long a worker agent may execute an item, in milliseconds.
    pub item_ms: i64,
    /// How long the manager agent may review, in milliseconds.
    pub review_ms: i64,
    /// How long the quality gates may judge, in milliseconds.
    pub quality_ms: i64,
    /// Attempts at an analysis, an item and a review.
    pub attempts: u32,
    /// How often results may be sent back.
    pub rework_rounds: u32,
    /// The gates that judge results.
    pub gates: Vec<Gate>,
    /// Backoff, compensation and retention.
    pub saga: Timing,
}

impl Default for WorkflowOptions {
    fn default() -> Self {
        Self {
            dispatch: Dispatch::Parallel,
            analysis_ms: 120_000,
            item_ms: 600_000,
            review_ms: 120_000,
            quality_ms: 60_000,
            attempts: 3,
            rework_rounds: 2,
            gates: default_gates(),
            saga: Timing::default(),
        }
    }
}

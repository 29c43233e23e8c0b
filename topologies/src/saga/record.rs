//! What survives of a saga between two inputs: the row of its store, and its answer to queries.
//!
//! Owns the fields and their JSON form. It must not know when they change.

use headwater_schemas::envelope::EventTime;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Where a saga stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SagaState {
    /// A step is under way.
    Running,
    /// Completed steps are being undone.
    Compensating,
    /// Every step is done.
    Completed,
    /// Given up, and what could be undone is undone.
    Failed,
}

impl SagaState {
    /// Whether nothing follows.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

/// When a saga gives up waiting, and how long it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Backoff before the second attempt, in milliseconds; doubled with each further one.
    pub backoff_ms: i64,
    /// The longest backoff, in milliseconds.
    pub backoff_max_ms: i64,
    /// How long one compensation may take, in milliseconds.
    pub compensation_ms: i64,
    /// How long a finished saga can be asked for, in milliseconds.
    pub retention_ms: i64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            backoff_ms: 1_000,
            backoff_max_ms: 60_000,
            compensation_ms: 60_000,
            retention_ms: 24 * 60 * 60 * 1_000,
        }
    }
}

impl Timing {
    /// How long to wait before attempt `attempt + 1`, in milliseconds: `backoff * 2^(attempt - 1)`,
    /// bounded.
    pub fn backoff(&self, attempt: u32) -> i64 {
        let doublings = attempt.saturating_sub(1).min(32);
        self.backoff_ms.saturating_mul(1_i64 << doublings).min(self.backoff_max_ms)
    }
}

/// One saga.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SagaRecord<D> {
    /// Its id, such as the task's or the order's.
    pub saga_id: String,
    /// The name of its definition.
    pub saga_name: String,
    /// Where it stands.
    pub state: SagaState,
    /// The step under way, or the one that is being undone.
    pub current_step: String,
    /// Steps that are done, oldest first; compensation takes them off from the end.
    pub completed_steps: Vec<String>,
    /// The attempt at the current step, from 1.
    pub attempt: u32,
    /// How much was emitted so far: the last part of the name of the next emission.
    pub emissions: u64,
    /// When waiting for the current step ends.
    pub deadline: Option<EventTime>,
    /// When the current step is entered again after a failure.
    pub retry_at: Option<EventTime>,
    /// Why it failed.
    pub error: Option<String>,
    /// What went wrong while undoing.
    pub compensation_errors: Vec<String>,
    /// Inputs that came for a step that was over, or twice.
    pub ignored: u64,
    /// When it began.
    pub started_at: EventTime,
    /// When it last changed.
    pub updated_at: EventTime,
    /// One per user request.
    pub correlation_id: Uuid,
    /// The event that began it.
    pub cause: Uuid,
    /// What its definition keeps.
    pub data: D,
}

impl<D> SagaRecord<D> {
    /// Whether every step is done.
    pub fn is_completed(&self) -> bool {
        self.state == SagaState::Completed
    }
}

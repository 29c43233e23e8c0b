//! What a quality gate says of a work item.
//!
//! Owns the payload of `quality.gates`. It must not know which gates there are.

use serde::{Deserialize, Serialize};

use super::task::{at_least_one, not_negative};
use super::{PAYLOAD, Payload};
use crate::envelope::EventTime;
use crate::violation::Violations;

/// One quality gate judged one work item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QualityGateResult {
    /// The gate.
    pub gate_id: String,
    /// Its name for people.
    pub gate_name: String,
    /// The item.
    pub work_item_id: String,
    /// The task it is a part of.
    pub task_id: String,
    /// In which session.
    pub session_id: String,
    /// Whether the item passed.
    pub passed: bool,
    /// How good it is, from 0 to 1.
    pub score: f64,
    /// What the gate asks for, in its own unit.
    pub threshold: f64,
    /// Whether the task fails with the gate.
    pub required: bool,
    /// What it found, in words.
    #[serde(default)]
    pub findings: Vec<String>,
    /// When it judged.
    pub evaluated_at: EventTime,
    /// How long that took, in milliseconds.
    pub duration_ms: i64,
    /// Which try of the item it judged, from 1.
    #[serde(default = "super::work_item::first_attempt")]
    pub attempt: i32,
}

impl Payload for QualityGateResult {
    const EVENT_TYPE: &'static str = "QualityGateResult";

    fn rules(&self, violations: &mut Violations) {
        if !(0.0..=1.0).contains(&self.score) {
            violations.push(
                format!("{PAYLOAD}.score"),
                format!("must be from 0 to 1, found {:e}", self.score),
            );
        }
        not_negative(self.duration_ms, "durationMs", violations);
        at_least_one(self.attempt, "attempt", violations);
    }
}

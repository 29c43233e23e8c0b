//! What happens to a work item, a task's part that one worker agent executes.
//!
//! Owns the item itself, its result, and the payloads of its life. It must not know how items are
//! handed out.

use serde::{Deserialize, Serialize};

use super::Payload;
use super::task::{at_least_one, not_negative};
use crate::envelope::EventTime;
use crate::violation::Violations;

/// A part of a task that one worker agent executes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkItem {
    /// Its id, of its own within the task.
    pub id: String,
    /// What is to be done.
    pub description: String,
    /// Such as `implementation` or `testing`; quality gates look at it.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the agent is told, where it differs from the description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
}

/// What an agent produced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkResult {
    /// Whether the agent reached what it was asked for.
    pub success: bool,
    /// What it answered.
    pub output: String,
}

pub(super) fn first_attempt() -> i32 {
    1
}

/// A work item is given to the worker agents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkItemCreated {
    /// The item; its fields lie beside the others.
    #[serde(flatten)]
    pub item: WorkItem,
    /// The task it is a part of.
    pub task_id: String,
    /// In which session.
    pub session_id: String,
    /// Which try it is, from 1.
    #[serde(default = "first_attempt")]
    pub attempt: i32,
}

impl Payload for WorkItemCreated {
    const EVENT_TYPE: &'static str = "WorkItemCreated";

    fn rules(&self, violations: &mut Violations) {
        at_least_one(self.attempt, "attempt", violations);
    }
}

/// A worker agent finished a work item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkItemCompleted {
    /// The item.
    pub work_item_id: String,
    /// The task it is a part of.
    pub task_id: String,
    /// In which session.
    pub session_id: String,
    /// What it produced.
    pub result: WorkResult,
    /// When.
    pub completed_at: EventTime,
    /// How long the agent worked, in milliseconds.
    pub execution_time: i64,
    /// The item's type, which the workflow adds for the quality gates.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Which try it was, from 1.
    #[serde(default = "first_attempt")]
    pub attempt: i32,
}

impl Payload for WorkItemCompleted {
    const EVENT_TYPE: &'static str = "WorkItemCompleted";

    fn rules(&self, violations: &mut Violations) {
        at_least_one(self.attempt, "attempt", violations);
        not_negative(self.execution_time, "executionTime", violations);
    }
}

/// A worker agent could not finish a work item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkItemFailed {
    /// The item.
    pub work_item_id: String,
    /// The task it is a part of.
    pub task_id: String,
    /// In which session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// What went wrong.
    pub error: String,
    /// Whether another try may help.
    pub retryable: bool,
    /// Which try it was, from 1.
    pub attempt: i32,
}

impl Payload for WorkItemFailed {
    const EVENT_TYPE: &'static str = "WorkItemFailed";

    fn rules(&self, violations: &mut Violations) {
        at_least_one(self.attempt, "attempt", violations);
    }
}

/// A work item is withdrawn; its agent need not answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkItemCancelled {
    /// The item.
    pub work_item_id: String,
    /// The task it is a part of.
    pub task_id: String,
    /// In which session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Why.
    pub reason: String,
}

impl Payload for WorkItemCancelled {
    const EVENT_TYPE: &'static str = "WorkItemCancelled";
}

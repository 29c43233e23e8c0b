//! What happens to a task: from its assignment to its end.
//!
//! Owns the payloads of the workflow between the manager agent and the rest. It must not know who
//! reacts to them. Field by field they are the records of `avro/`.

use serde::{Deserialize, Serialize};

use super::work_item::{WorkItem, WorkResult};
use super::{PAYLOAD, Payload};
use crate::envelope::EventTime;
use crate::violation::Violations;

/// Whom a task is assigned to unless the event says otherwise.
pub const MANAGER_AGENT: &str = "manager-agent";

/// A user's task is given to the manager agent.
///
/// Two forms: the full one carries `description`; the short one names `agentId`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskAssigned {
    /// The task.
    pub task_id: String,
    /// What is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// `low`, `medium`, `high` and `critical` are usual; any text is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    /// Whom it is given to; see [`TaskAssigned::assignee`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assigned_to: Option<String>,
    /// The same, in the short form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// When it should be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_date: Option<EventTime>,
    /// Who asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// In which session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
}

impl TaskAssigned {
    /// Whom the task is given to, [`MANAGER_AGENT`] when it is not said.
    pub fn assignee(&self) -> &str {
        self.assigned_to.as_deref().or(self.agent_id.as_deref()).unwrap_or(MANAGER_AGENT)
    }
}

impl Payload for TaskAssigned {
    const EVENT_TYPE: &'static str = "TaskAssigned";

    fn rules(&self, violations: &mut Violations) {
        if self.description.is_none() && self.agent_id.is_none() {
            violations.push(
                format!("{PAYLOAD}.description"),
                "is missing (it may be only when agentId is given)".to_owned(),
            );
        }
    }
}

/// The manager agent split a task into work items. None means that there is nothing to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskAnalyzed {
    /// The task.
    pub task_id: String,
    /// In which session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Its parts, in the order they were thought of; ids differ.
    pub work_items: Vec<WorkItem>,
    /// How long it will take, in seconds.
    pub estimated_duration: i32,
}

impl Payload for TaskAnalyzed {
    const EVENT_TYPE: &'static str = "TaskAnalyzed";

    fn rules(&self, violations: &mut Violations) {
        for (position, item) in self.work_items.iter().enumerate() {
            if self.work_items[..position].iter().any(|earlier| earlier.id == item.id) {
                violations.push(
                    format!("{PAYLOAD}.workItems[{position}].id"),
                    "is the id of an earlier item; each item needs its own".to_owned(),
                );
            }
        }
        not_negative(self.estimated_duration.into(), "estimatedDuration", violations);
    }
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TaskStatus {
    /// Given to the manager agent.
    Assigned,
    /// Split into work items.
    Analyzed,
    /// Work items are being executed.
    InProgress,
    /// The manager agent judges the results.
    InReview,
    /// The quality gates judge them.
    QualityCheck,
    /// Ended well.
    Completed,
    /// Ended badly.
    Failed,
    /// Withdrawn.
    Cancelled,
}

impl TaskStatus {
    /// Whether nothing follows.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// A task moved on. The event's aggregate is the task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskStatusUpdated {
    /// The task, where the payload repeats it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// Where it stands now.
    pub status: TaskStatus,
    /// Since when, where it differs from the event's time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<EventTime>,
}

impl Payload for TaskStatusUpdated {
    const EVENT_TYPE: &'static str = "TaskStatusUpdated";
}

/// A task met an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskErrorOccurred {
    /// The task.
    pub task_id: String,
    /// What was being done, such as `analysis`.
    pub stage: String,
    /// A code that does not change with the wording.
    pub error_code: String,
    /// What went wrong.
    pub message: String,
    /// Whether another try may help.
    pub retryable: bool,
    /// Which try it was, from 1.
    pub attempt: i32,
}

impl Payload for TaskErrorOccurred {
    const EVENT_TYPE: &'static str = "TaskErrorOccurred";

    fn rules(&self, violations: &mut Violations) {
        at_least_one(self.attempt, "attempt", violations);
    }
}

/// The manager agent is asked to judge the results of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReviewRequested {
    /// The task.
    pub task_id: String,
    /// In which session.
    pub session_id: String,
    /// From 0, one more for each rework.
    pub round: i32,
    /// What is to be judged.
    pub results: Vec<ItemResult>,
}

/// One work item's result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemResult {
    /// The item.
    pub work_item_id: String,
    /// What it produced.
    pub result: WorkResult,
}

impl Payload for ReviewRequested {
    const EVENT_TYPE: &'static str = "ReviewRequested";

    fn rules(&self, violations: &mut Violations) {
        not_negative(self.round.into(), "round", violations);
    }
}

/// The manager agent judged the results of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskReviewed {
    /// The task.
    pub task_id: String,
    /// In which session.
    pub session_id: String,
    /// The judgement.
    pub review: Review,
    /// The round of the request it answers.
    #[serde(default)]
    pub round: i32,
}

/// A judgement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Review {
    /// Whether the results are good.
    pub approved: bool,
    /// Why, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feedback: Option<String>,
    /// What is to be done again; all items when it is empty and the results are not good.
    #[serde(default)]
    pub rework: Vec<ReworkItem>,
}

/// A work item to execute again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReworkItem {
    /// The item.
    pub work_item_id: String,
    /// What to do otherwise this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
}

impl Payload for TaskReviewed {
    const EVENT_TYPE: &'static str = "TaskReviewed";

    fn rules(&self, violations: &mut Violations) {
        not_negative(self.round.into(), "round", violations);
        if self.review.approved && !self.review.rework.is_empty() {
            violations.push(
                format!("{PAYLOAD}.review.rework"),
                "must be empty when the review approves".to_owned(),
            );
        }
    }
}

/// A task ended well, quality gates included. (A worker's end is `WorkItemCompleted`.)
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskCompleted {
    /// The task.
    pub task_id: String,
    /// In which session.
    pub session_id: String,
    /// Whether it succeeded.
    pub success: bool,
    /// What it produced.
    pub result: WorkResult,
}

impl Payload for TaskCompleted {
    const EVENT_TYPE: &'static str = "TaskCompleted";
}

pub(super) fn at_least_one(number: i32, field: &str, violations: &mut Violations) {
    if number < 1 {
        violations
            .push(format!("{PAYLOAD}.{field}"), format!("must be at least 1, found {number}"));
    }
}

pub(super) fn not_negative(number: i64, field: &str, violations: &mut Violations) {
    if number < 0 {
        violations
            .push(format!("{PAYLOAD}.{field}"), format!("must be at least 0, found {number}"));
    }
}

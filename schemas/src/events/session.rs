//! What happens to a session, a user's conversation with the agents.
//!
//! Owns the payloads of `session.events` that belong to the session itself. It must not know how
//! they are folded into a view.

use serde::{Deserialize, Serialize};

use super::Payload;
use super::agent_performance_metric::AgentType;
use crate::envelope::EventTime;

/// A user began a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionStarted {
    /// Who.
    pub user_id: String,
    /// What for.
    pub task_description: String,
    /// When.
    pub start_time: EventTime,
}

impl Payload for SessionStarted {
    const EVENT_TYPE: &'static str = "SessionStarted";
}

/// A session's task is given to an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskAssignedToAgent {
    /// The task.
    pub task_id: String,
    /// Which kind of agent.
    pub agent_type: AgentType,
    /// When.
    pub assigned_at: EventTime,
}

impl Payload for TaskAssignedToAgent {
    const EVENT_TYPE: &'static str = "TaskAssignedToAgent";
}

/// How a session ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Well, or nobody said otherwise.
    #[default]
    Completed,
    /// Badly.
    Failed,
}

/// A session ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionCompleted {
    /// When.
    pub end_time: EventTime,
    /// How.
    #[serde(default)]
    pub outcome: Outcome,
    /// Why, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Payload for SessionCompleted {
    const EVENT_TYPE: &'static str = "SessionCompleted";
}

/// A session's workflow moved on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowStateChanged {
    /// The session.
    pub session_id: String,
    /// Where its workflow stands, such as `task-assigned`.
    pub workflow_state: String,
    /// The task that moved it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
}

impl Payload for WorkflowStateChanged {
    const EVENT_TYPE: &'static str = "WorkflowStateChanged";
}

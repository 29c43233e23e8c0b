//! A user's task: what is asked for, and the event that it becomes.
//!
//! Owns the fields of a task as users send it. It must not know how it is sent on.

use headwater_schemas::envelope::EventTime;
use headwater_schemas::events::task::MANAGER_AGENT;
use headwater_schemas::events::{Payload, TaskAssigned};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::publisher::{Draft, DraftMetadata};

/// Longest id, in characters.
const ID_CHARS_MAX: usize = 128;

/// Longest description, in bytes.
const DESCRIPTION_BYTES_MAX: usize = 65_536;

/// A task as a user sends it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserTask {
    /// Its id; a new one when absent.
    pub id: Option<String>,
    /// What is to be done.
    pub description: String,
    /// `low`, `medium`, `high` and `critical` are usual.
    pub priority: Option<String>,
    /// When it should be done.
    pub due_date: Option<EventTime>,
    /// Its session; one of the task's own when absent.
    pub session_id: Option<String>,
    /// Who asks.
    pub user_id: String,
}

/// What a user gets for a task: where to ask for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Coordinated {
    /// One per request.
    pub correlation_id: Uuid,
    /// The task.
    pub task_id: String,
    /// Its session.
    pub session_id: String,
}

impl UserTask {
    /// What is wrong with it: each field and why.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut check = |name: &str, text: &str, max: usize, length: usize| {
            if text.trim().is_empty() {
                mistakes.push(format!("$.{name} is empty"));
            } else if length > max {
                mistakes.push(format!("$.{name} is too long: {length}, at most {max} are allowed"));
            }
        };
        let ids = [("id", &self.id), ("sessionId", &self.session_id)];
        for (name, id) in ids {
            if let Some(id) = id {
                check(name, id, ID_CHARS_MAX, id.chars().count());
            }
        }
        check("userId", &self.user_id, ID_CHARS_MAX, self.user_id.chars().count());
        let description = &self.description;
        check("description", description, DESCRIPTION_BYTES_MAX, description.len());
        mistakes
    }

    /// The event that gives the task to the manager agent, under a correlation id of its own.
    pub fn assign(self) -> (Draft, Coordinated) {
        let correlation_id = Uuid::new_v4();
        let task_id = self.id.unwrap_or_else(|| Uuid::new_v4().to_string());
        let session_id = self.session_id.unwrap_or_else(|| format!("session-{task_id}"));
        let assigned = TaskAssigned {
            task_id: task_id.clone(),
            description: Some(self.description),
            priority: self.priority,
            assigned_to: Some(MANAGER_AGENT.to_owned()),
            agent_id: None,
            due_date: self.due_date,
            user_id: Some(self.user_id.clone()),
            session_id: Some(session_id.clone()),
        };
        let draft = Draft {
            event_id: None,
            event_type: TaskAssigned::EVENT_TYPE.to_owned(),
            aggregate_id: task_id.clone(),
            aggregate_type: "Task".to_owned(),
            event_data: assigned.to_event_data(),
            metadata: DraftMetadata {
                correlation_id: Some(correlation_id),
                user_id: Some(self.user_id),
                session_id: Some(session_id.clone()),
                ..DraftMetadata::default()
            },
        };
        (draft, Coordinated { correlation_id, task_id, session_id })
    }
}

//! What can be asked of a session.
//!
//! Owns the requests and their payloads. It must not know which of them a session accepts.

use serde_json::{Map, Value, json};

use super::{ID_CHARS_MAX, Request, TEXT_BYTES_MAX, short_id};
use crate::events::agent_performance_metric::AgentType;
use crate::events::{Payload, WorkItemCompleted};
use crate::fields::Fields;
use crate::violation::Violations;

/// What can be asked of a session.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionRequest {
    /// Begin it. The only request that may create a session.
    StartSession {
        /// Whose it is.
        user_id: String,
        /// What it is for.
        task_description: String,
        /// Whether a session that exists is an answer rather than a conflict.
        if_absent: bool,
    },
    /// Give one of its tasks to an agent.
    AssignTaskToAgent {
        /// The task.
        task_id: String,
        /// The kind of agent.
        agent_type: AgentType,
    },
    /// Note that a work item of it is done.
    RecordWorkItemCompleted(WorkItemCompleted),
    /// End it.
    CompleteSession {
        /// Why.
        reason: Option<String>,
    },
    /// A type this program does not know; its answer is a refusal that names it.
    Unknown {
        /// As it came.
        command_type: String,
    },
}

impl Request for SessionRequest {
    fn command_type(&self) -> &str {
        match self {
            Self::StartSession { .. } => "StartSession",
            Self::AssignTaskToAgent { .. } => "AssignTaskToAgent",
            Self::RecordWorkItemCompleted(_) => "RecordWorkItemCompleted",
            Self::CompleteSession { .. } => "CompleteSession",
            Self::Unknown { command_type } => command_type,
        }
    }

    fn read(
        command_type: &str,
        payload: &Map<String, Value>,
        aggregate_id: Option<&str>,
        violations: &mut Violations,
    ) -> Option<Self> {
        let mut fields = Fields::new(payload, "$.payload", violations);
        match command_type {
            "StartSession" => {
                let user_id = short_id(&mut fields, "userId");
                let task_description = fields.text("taskDescription", TEXT_BYTES_MAX);
                let if_absent = fields.optional_bool("ifAbsent").unwrap_or(false);
                Some(Self::StartSession {
                    user_id: user_id?,
                    task_description: task_description?.to_owned(),
                    if_absent,
                })
            }
            "AssignTaskToAgent" => {
                let task_id = short_id(&mut fields, "taskId");
                let agent_type = agent_type(&mut fields);
                Some(Self::AssignTaskToAgent { task_id: task_id?, agent_type: agent_type? })
            }
            "RecordWorkItemCompleted" => {
                let mut payload = payload.clone();
                if let Some(aggregate_id) = aggregate_id {
                    payload.insert("sessionId".to_owned(), json!(aggregate_id));
                }
                WorkItemCompleted::read_at("$.payload", &payload, violations)
                    .map(Self::RecordWorkItemCompleted)
            }
            "CompleteSession" => {
                let reason = fields.optional_text("reason", TEXT_BYTES_MAX).map(str::to_owned);
                Some(Self::CompleteSession { reason })
            }
            other => Some(Self::Unknown { command_type: other.to_owned() }),
        }
    }

    fn to_payload(&self) -> Value {
        match self {
            Self::StartSession { user_id, task_description, if_absent } => json!({
                "userId": user_id, "taskDescription": task_description, "ifAbsent": if_absent}),
            Self::AssignTaskToAgent { task_id, agent_type } => {
                json!({"taskId": task_id, "agentType": agent_type})
            }
            Self::RecordWorkItemCompleted(completed) => Value::Object(completed.to_event_data()),
            Self::CompleteSession { reason } => json!({"reason": reason}),
            Self::Unknown { .. } => json!({}),
        }
    }
}

fn agent_type(fields: &mut Fields<'_, '_>) -> Option<AgentType> {
    match fields.text("agentType", ID_CHARS_MAX)? {
        "manager" => Some(AgentType::Manager),
        "worker" => Some(AgentType::Worker),
        other => {
            let reason = format!("must be manager or worker, found {other:.40?}");
            fields.refuse("agentType", reason)
        }
    }
}

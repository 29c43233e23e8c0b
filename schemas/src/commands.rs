//! Commands to a session and the answers to them.
//!
//! Owns the command envelope, its rules and the codes of a refusal. It must not know which state a
//! session is in: whether a valid command is accepted is its aggregate's decision.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::envelope::{EventTime, parse_json, root_object};
use crate::events::agent_performance_metric::AgentType;
use crate::events::{Payload, WorkItemCompleted};
use crate::fields::Fields;
use crate::violation::{EventError, Violations};

/// Longest id in a command, in characters.
pub const ID_CHARS_MAX: usize = 128;

const TEXT_BYTES_MAX: usize = 65_536;

/// A request to change one session.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// Identity of the command; answers name it, and a repeated command is answered again.
    pub id: Uuid,
    /// The session.
    pub session_id: String,
    /// What is asked.
    pub request: Request,
    /// The version that the session must have, when it matters to the caller.
    pub expected_version: Option<i64>,
    /// Who asks.
    pub user_id: Option<String>,
    /// One per user request.
    pub correlation_id: Uuid,
    /// When it was asked.
    pub timestamp: EventTime,
}

/// What can be asked of a session.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
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

impl Request {
    /// The command type.
    pub fn command_type(&self) -> &str {
        match self {
            Self::StartSession { .. } => "StartSession",
            Self::AssignTaskToAgent { .. } => "AssignTaskToAgent",
            Self::RecordWorkItemCompleted(_) => "RecordWorkItemCompleted",
            Self::CompleteSession { .. } => "CompleteSession",
            Self::Unknown { command_type } => command_type,
        }
    }
}

/// Why a command was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RejectionCode {
    /// A field is missing or wrong.
    Validation,
    /// There is no such session.
    NotFound,
    /// The session exists already, or has another version.
    Conflict,
    /// The session has ended.
    InactiveSession,
    /// No such command.
    UnknownCommand,
}

/// The answer to a command, on `api.responses` under its correlation id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
pub enum Reply {
    /// Done.
    CommandAccepted {
        /// The command.
        command_id: Uuid,
        /// The session.
        session_id: String,
        /// Its version now.
        version: i64,
    },
    /// Not done, and why.
    CommandRejected {
        /// The command.
        command_id: Uuid,
        /// The reason, for programs.
        code: RejectionCode,
        /// The reason, for people.
        message: String,
    },
}

impl Command {
    /// Reads a command: `{id, type, aggregateId, payload, metadata{userId?, correlationId,
    /// timestamp}, expectedVersion?}`.
    ///
    /// # Errors
    /// [`EventError`] with every offending path. Answer [`RejectionCode::Validation`] when
    /// [`Command::reply_address`] finds whom to answer, and send the record to the dead letters
    /// when it does not.
    pub fn parse(value: &[u8]) -> Result<Self, EventError> {
        let document = parse_json(value)?;
        let mut violations = Violations::default();
        let command = Self::read(&document, &mut violations);
        violations.finish(command)
    }

    /// The command id and the correlation id of a value that is not a valid command, when both can
    /// be read.
    pub fn reply_address(value: &[u8]) -> Option<(Uuid, Uuid)> {
        let document = parse_json(value).ok()?;
        let id = document.get("id")?.as_str()?.parse().ok()?;
        let correlation_id =
            document.get("metadata")?.get("correlationId")?.as_str()?.parse().ok()?;
        Some((id, correlation_id))
    }

    fn read(document: &Value, violations: &mut Violations) -> Option<Self> {
        let object = root_object(document, violations)?;
        let mut fields = Fields::new(object, "$", violations);
        let id = fields.uuid("id");
        let command_type = fields.text("type", ID_CHARS_MAX);
        let session_id = short_id(&mut fields, "aggregateId");
        let payload = fields.object("payload");
        let metadata = fields.object("metadata");
        let expected_version = expected_version(&mut fields);
        let metadata = metadata.map(|metadata| {
            let mut fields = Fields::new(metadata, "$.metadata", violations);
            (fields.optional_id("userId"), fields.uuid("correlationId"), fields.time("timestamp"))
        });
        let request = match (command_type, payload) {
            (Some(command_type), Some(payload)) => {
                request(command_type, payload, session_id.as_deref(), violations)
            }
            _ => None,
        };
        let (user_id, correlation_id, timestamp) = metadata?;
        Some(Self {
            id: id?,
            session_id: session_id?,
            request: request?,
            expected_version: expected_version?,
            user_id,
            correlation_id: correlation_id?,
            timestamp: timestamp?,
        })
    }

    /// The command as JSON; [`Command::parse`] reads it back.
    pub fn to_json(&self) -> Vec<u8> {
        let payload = match &self.request {
            Request::StartSession { user_id, task_description, if_absent } => json!({
                "userId": user_id, "taskDescription": task_description, "ifAbsent": if_absent}),
            Request::AssignTaskToAgent { task_id, agent_type } => {
                json!({"taskId": task_id, "agentType": agent_type})
            }
            Request::RecordWorkItemCompleted(completed) => Value::Object(completed.to_event_data()),
            Request::CompleteSession { reason } => json!({"reason": reason}),
            Request::Unknown { .. } => json!({}),
        };
        let document = json!({
            "id": self.id, "type": self.request.command_type(), "aggregateId": self.session_id,
            "payload": payload, "expectedVersion": self.expected_version,
            "metadata": {"userId": self.user_id, "correlationId": self.correlation_id,
                         "timestamp": self.timestamp},
        });
        serde_json::to_vec(&document).expect("text keys and finite numbers only")
    }
}

fn request(
    command_type: &str,
    payload: &Map<String, Value>,
    session_id: Option<&str>,
    violations: &mut Violations,
) -> Option<Request> {
    let mut fields = Fields::new(payload, "$.payload", violations);
    match command_type {
        "StartSession" => {
            let user_id = short_id(&mut fields, "userId");
            let task_description = fields.text("taskDescription", TEXT_BYTES_MAX);
            let if_absent = fields.optional_bool("ifAbsent").unwrap_or(false);
            Some(Request::StartSession {
                user_id: user_id?,
                task_description: task_description?.to_owned(),
                if_absent,
            })
        }
        "AssignTaskToAgent" => {
            let task_id = short_id(&mut fields, "taskId");
            let agent_type = agent_type(&mut fields);
            Some(Request::AssignTaskToAgent { task_id: task_id?, agent_type: agent_type? })
        }
        "RecordWorkItemCompleted" => {
            let mut payload = payload.clone();
            if let Some(session_id) = session_id {
                payload.insert("sessionId".to_owned(), json!(session_id));
            }
            WorkItemCompleted::read_at("$.payload", &payload, violations)
                .map(Request::RecordWorkItemCompleted)
        }
        "CompleteSession" => {
            let reason = fields.optional_text("reason", TEXT_BYTES_MAX).map(str::to_owned);
            Some(Request::CompleteSession { reason })
        }
        other => Some(Request::Unknown { command_type: other.to_owned() }),
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

fn short_id(fields: &mut Fields<'_, '_>, name: &str) -> Option<String> {
    let id = fields.id(name)?;
    let chars = id.chars().count();
    if chars > ID_CHARS_MAX {
        let reason = format!("has {chars} characters, at most {ID_CHARS_MAX} are allowed");
        return fields.refuse(name, reason);
    }
    Some(id)
}

/// `Some(None)` when it is not given, `None` when it is wrong.
fn expected_version(fields: &mut Fields<'_, '_>) -> Option<Option<i64>> {
    match fields.get("expectedVersion") {
        None => Some(None),
        Some(value) => match value.as_i64().filter(|version| *version >= 0) {
            Some(version) => Some(Some(version)),
            None => fields.refuse("expectedVersion", "must be a whole number from 0".to_owned()),
        },
    }
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;

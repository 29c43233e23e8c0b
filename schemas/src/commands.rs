//! Commands to aggregates and services, and the answers to them.
//!
//! Owns the command envelope, its rules and the codes of a refusal; what can be asked of whom is in
//! [`session`], [`order`] and [`service`]. It must not know which state anything is in: whether a
//! valid command is accepted is its aggregate's decision.

pub mod order;
pub mod service;
pub mod session;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

pub use self::order::OrderRequest;
pub use self::service::ServiceRequest;
pub use self::session::SessionRequest;
use crate::envelope::{EventTime, parse_json, root_object};
use crate::fields::Fields;
use crate::violation::{EventError, Violations};

/// Longest id in a command, in characters.
pub const ID_CHARS_MAX: usize = 128;

/// Longest text of a request, in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 65_536;

/// A command to a session.
pub type SessionCommand = Command<SessionRequest>;

/// A command to an order.
pub type OrderCommand = Command<OrderRequest>;

/// A command to a service that fulfils orders.
pub type ServiceCommand = Command<ServiceRequest>;

/// What can be asked of one kind of aggregate.
pub trait Request: Sized {
    /// The command type.
    fn command_type(&self) -> &str;

    /// Reads the payload of a command of this type; paths begin with `$.payload`. `None` when
    /// something was reported. A type that is not known is a request too, so that it can be answered.
    fn read(
        command_type: &str,
        payload: &Map<String, Value>,
        aggregate_id: Option<&str>,
        violations: &mut Violations,
    ) -> Option<Self>;

    /// The payload that [`Request::read`] reads back.
    fn to_payload(&self) -> Value;
}

/// A request to change one aggregate.
#[derive(Clone, Debug, PartialEq)]
pub struct Command<R> {
    /// Identity of the command; answers name it, and a repeated command is answered again.
    pub id: Uuid,
    /// The aggregate.
    pub aggregate_id: String,
    /// What is asked.
    pub request: R,
    /// The version that the aggregate must have, when it matters to the caller.
    pub expected_version: Option<i64>,
    /// Who asks.
    pub user_id: Option<String>,
    /// One per user request.
    pub correlation_id: Uuid,
    /// When it was asked.
    pub timestamp: EventTime,
}

/// Why a command was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RejectionCode {
    /// A field is missing or wrong.
    Validation,
    /// There is no such aggregate.
    NotFound,
    /// The aggregate exists already, or has another version.
    Conflict,
    /// The session has ended.
    InactiveSession,
    /// The state of the order does not allow it.
    InvalidState,
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
        /// The aggregate.
        aggregate_id: String,
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

impl<R: Request> Command<R> {
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
        let aggregate_id = short_id(&mut fields, "aggregateId");
        let payload = fields.object("payload");
        let metadata = fields.object("metadata");
        let expected_version = expected_version(&mut fields);
        let metadata = metadata.map(|metadata| {
            let mut fields = Fields::new(metadata, "$.metadata", violations);
            (fields.optional_id("userId"), fields.uuid("correlationId"), fields.time("timestamp"))
        });
        let request = match (command_type, payload) {
            (Some(command_type), Some(payload)) => {
                R::read(command_type, payload, aggregate_id.as_deref(), violations)
            }
            _ => None,
        };
        let (user_id, correlation_id, timestamp) = metadata?;
        Some(Self {
            id: id?,
            aggregate_id: aggregate_id?,
            request: request?,
            expected_version: expected_version?,
            user_id,
            correlation_id: correlation_id?,
            timestamp: timestamp?,
        })
    }

    /// The command as JSON; [`Command::parse`] reads it back.
    pub fn to_json(&self) -> Vec<u8> {
        let document = json!({
            "id": self.id, "type": self.request.command_type(), "aggregateId": self.aggregate_id,
            "payload": self.request.to_payload(), "expectedVersion": self.expected_version,
            "metadata": {"userId": self.user_id, "correlationId": self.correlation_id,
                         "timestamp": self.timestamp},
        });
        serde_json::to_vec(&document).expect("text keys and finite numbers only")
    }
}

/// An id of at most [`ID_CHARS_MAX`] characters.
pub(crate) fn short_id(fields: &mut Fields<'_, '_>, name: &str) -> Option<String> {
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

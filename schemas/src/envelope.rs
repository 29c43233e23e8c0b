//! The envelope every platform event travels in, `DomainEvent`.
//!
//! Owns its fields, its JSON form and its bounds. It must not know which events exist (see
//! [`crate::events`]) nor the older envelopes (see [`crate::adapter`]).

use std::fmt;

use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::fields::{Fields, describe};
use crate::violation::{EventError, Violations};

/// Largest event, in bytes of JSON. Larger payloads are stored elsewhere and sent by reference.
pub const EVENT_BYTES_MAX: usize = 1_048_576;

/// The schema version of all events so far.
pub const VERSION: &str = "1.0";

pub(crate) const EVENT_TYPE_BYTES_MAX: usize = 128;
pub(crate) const VERSION_BYTES_MAX: usize = 32;

/// A point in time in whole milliseconds since 1970, between the years 1970 and 9999 (UTC).
///
/// Text form: ISO-8601 with milliseconds and `Z`. Finer digits of a parsed text are cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventTime(i64);

impl EventTime {
    /// The latest time, 9999-12-30T22:00:00.000Z.
    pub const MAX: Self = Self(253_402_207_200_000);

    /// The time at `millis` since 1970; `None` when negative or after [`EventTime::MAX`].
    pub fn from_millis(millis: i64) -> Option<Self> {
        (0..=Self::MAX.0).contains(&millis).then_some(Self(millis))
    }

    /// Reads ISO-8601 with any offset; `None` when it is not one or out of range.
    pub fn parse(text: &str) -> Option<Self> {
        let timestamp: Timestamp = text.parse().ok()?;
        if timestamp < Timestamp::UNIX_EPOCH {
            return None;
        }
        Self::from_millis(timestamp.as_millisecond())
    }

    /// Milliseconds since 1970.
    pub fn as_millis(self) -> i64 {
        self.0
    }
}

impl fmt::Display for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timestamp = Timestamp::from_millisecond(self.0).expect("checked when it was made");
        write!(f, "{timestamp:.3}")
    }
}

impl Serialize for EventTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventTime {
    /// From text, or from a number of milliseconds.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            Millis(i64),
        }
        let time = match Form::deserialize(deserializer) {
            Ok(Form::Text(text)) => Self::parse(&text),
            Ok(Form::Millis(millis)) => Self::from_millis(millis),
            Err(_) => None,
        };
        time.ok_or(D::Error::custom("must be an iso-8601 time from 1970 to 9999 (or its epoch ms)"))
    }
}

/// One immutable fact, as it lies on every topic of the platform.
///
/// JSON names are camelCase. Fields a newer producer adds are ignored.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DomainEvent {
    /// Identity of the event; consumers deduplicate by it.
    pub event_id: Uuid,
    /// What happened, in the past tense.
    pub event_type: String,
    /// The thing it happened to.
    pub aggregate_id: String,
    /// The kind of that thing, such as `Task` or `Session`.
    pub aggregate_type: String,
    /// The payload, of the shape the event type asks for.
    pub event_data: Map<String, Value>,
    /// Where the event stands among others.
    pub metadata: Metadata,
}

/// Where an event stands among others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// When it happened (event time).
    pub timestamp: EventTime,
    /// Version of the payload's schema.
    pub version: String,
    /// One per user request.
    pub correlation_id: Uuid,
    /// The event that caused this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub causation_id: Option<Uuid>,
    /// The user the request came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The session it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Position in the aggregate's stream, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<i64>,
}

impl DomainEvent {
    /// Reads an event in the canonical envelope.
    ///
    /// # Errors
    /// [`EventError`] when the value is too large, is not JSON, or misses the shape; the last case
    /// names every offending path. Send the record to the dead letters.
    pub fn parse(value: &[u8]) -> Result<Self, EventError> {
        let document = parse_json(value)?;
        let mut violations = Violations::default();
        let event = Self::read(&document, &mut violations);
        violations.finish(event)
    }

    pub(crate) fn read(document: &Value, violations: &mut Violations) -> Option<Self> {
        let object = root_object(document, violations)?;
        let mut fields = Fields::new(object, "$", violations);
        let event_id = fields.uuid("eventId");
        let event_type = fields.text("eventType", EVENT_TYPE_BYTES_MAX);
        let aggregate_id = fields.id("aggregateId");
        let aggregate_type = fields.text("aggregateType", EVENT_TYPE_BYTES_MAX);
        let event_data = fields.object("eventData");
        let metadata = fields.object("metadata");
        let metadata = metadata.and_then(|metadata| {
            Metadata::read(&mut Fields::new(metadata, "$.metadata", violations))
        });
        Some(Self {
            event_id: event_id?,
            event_type: event_type?.to_owned(),
            aggregate_id: aggregate_id?,
            aggregate_type: aggregate_type?.to_owned(),
            event_data: event_data?.clone(),
            metadata: metadata?,
        })
    }

    /// The canonical JSON form; [`DomainEvent::parse`] reads it back.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text keys and finite numbers only")
    }

    /// The key of the event's record: the session, else the aggregate.
    pub fn record_key(&self) -> &str {
        self.metadata.session_id.as_deref().unwrap_or(&self.aggregate_id)
    }
}

impl Metadata {
    fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let timestamp = fields.time("timestamp");
        let version = fields.text("version", VERSION_BYTES_MAX);
        let correlation_id = fields.uuid("correlationId");
        let causation_id = fields.optional_uuid("causationId");
        let user_id = fields.optional_id("userId");
        let session_id = fields.optional_id("sessionId");
        let sequence = fields.optional_position("sequence");
        Some(Self {
            timestamp: timestamp?,
            version: version?.to_owned(),
            correlation_id: correlation_id?,
            causation_id,
            user_id,
            session_id,
            sequence,
        })
    }
}

/// Checks the size and parses; nesting is bounded by the JSON parser (128 levels).
pub(crate) fn parse_json(value: &[u8]) -> Result<Value, EventError> {
    if value.len() > EVENT_BYTES_MAX {
        return Err(EventError::TooLarge { bytes: value.len(), max: EVENT_BYTES_MAX });
    }
    serde_json::from_slice(value).map_err(|error| EventError::Malformed {
        line: error.line(),
        column: error.column(),
        reason: reason_of(&error),
    })
}

/// The parser's text without the position it appends.
fn reason_of(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

pub(crate) fn root_object<'a>(
    document: &'a Value,
    violations: &mut Violations,
) -> Option<&'a Map<String, Value>> {
    if let Value::Object(object) = document {
        return Some(object);
    }
    violations.push("$".to_owned(), format!("must be an object, found {}", describe(document)));
    None
}

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;

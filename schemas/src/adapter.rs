//! Older envelopes, normalised to the canonical one.
//!
//! Owns the recognition of each variant and the renaming of its fields. It must not know which
//! events exist. Recognition is by fields that only one variant has:
//!
//! | variant | recognised by | becomes |
//! |---|---|---|
//! | canonical | `eventData` or `metadata.correlationId` beside `eventType` | itself |
//! | stored event | `type`, `aggregateId` | `id`, `type`, `data` renamed; `version` -> `metadata.sequence` |
//! | session store event | `type`, `sequence` | as above; aggregate = session of the data |
//! | bus event | `type` | aggregate = `data.id`, else the event's id; `source` -> header |
//! | minimal event | `eventType`, `data` | event id = name-based UUID of the value's bytes |
//! | base event, agent task event | `eventType`, none of the above | all other fields are the payload |
//!
//! Everywhere: a missing correlation id is the event id, a missing time the record's.

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::envelope::{
    DomainEvent, EVENT_TYPE_BYTES_MAX, EventTime, Metadata, VERSION, VERSION_BYTES_MAX, parse_json,
    root_object,
};
use crate::fields::{Fields, ID_BYTES_MAX};
use crate::violation::{EventError, Violations};

/// Names of the base envelope, which are not payload.
const BASE_FIELDS: [&str; 6] =
    ["eventId", "eventType", "timestamp", "version", "correlationId", "causationId"];

/// An event of any envelope, in the canonical one.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapted {
    /// The event.
    pub event: DomainEvent,
    /// The envelope it came in.
    pub variant: Variant,
    /// The producing service, which the canonical form carries in a header.
    pub source: Option<String>,
}

/// The envelopes that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// [`DomainEvent`].
    Canonical,
    /// `id, aggregateId, aggregateType, type, version, timestamp, data, metadata?`.
    Stored,
    /// `id, type, sequence, timestamp, data`.
    SessionStore,
    /// `id, type, timestamp, source, data, metadata?`.
    Bus,
    /// `eventType, aggregateId, data, timestamp, version`.
    Minimal,
    /// Envelope fields and payload side by side at the top level.
    Base,
}

impl Variant {
    /// The variant a document has the marks of.
    fn of(object: &Map<String, Value>) -> Self {
        let has = |name: &str| object.contains_key(name);
        if has("eventData") || has("eventType") && has("metadata") {
            Self::Canonical
        } else if has("type") && has("aggregateId") {
            Self::Stored
        } else if has("type") && has("sequence") {
            Self::SessionStore
        } else if has("type") && !has("eventType") {
            Self::Bus
        } else if has("data") {
            Self::Minimal
        } else if has("eventType") {
            Self::Base
        } else {
            Self::Canonical
        }
    }
}

/// Reads an event in any envelope. `record_time` is the record's timestamp, used when the event
/// names no time of its own.
///
/// # Errors
/// [`EventError`] as [`DomainEvent::parse`]; a document without the marks of any variant is judged
/// as canonical.
pub fn parse_any(value: &[u8], record_time: Option<EventTime>) -> Result<Adapted, EventError> {
    let document = parse_json(value)?;
    let mut violations = Violations::default();
    let adapted = read(&document, value, record_time, &mut violations);
    violations.finish(adapted)
}

fn read(
    document: &Value,
    value: &[u8],
    record_time: Option<EventTime>,
    violations: &mut Violations,
) -> Option<Adapted> {
    let object = root_object(document, violations)?;
    let variant = Variant::of(object);
    if variant == Variant::Canonical {
        let event = DomainEvent::read(document, violations)?;
        return Some(Adapted { event, variant, source: None });
    }
    let nested = nested_metadata(object, violations);
    let mut fields = Fields::new(object, "$", violations);
    let event_id = match variant {
        Variant::Minimal => Some(Uuid::new_v5(&Uuid::NAMESPACE_OID, value)),
        Variant::Base => fields.uuid("eventId"),
        _ => fields.uuid("id"),
    };
    let type_field =
        if matches!(variant, Variant::Minimal | Variant::Base) { "eventType" } else { "type" };
    let event_type = fields.text(type_field, EVENT_TYPE_BYTES_MAX);
    let timestamp = match (fields.get("timestamp"), record_time) {
        (None, Some(time)) => Some(time),
        _ => fields.time("timestamp"),
    };
    let (version, sequence) = version_and_sequence(variant, &mut fields);
    let source = fields.optional_id("source");
    let top_correlation = fields.optional_uuid("correlationId");
    let top_causation = fields.optional_uuid("causationId");
    let event_data = match variant {
        Variant::Base => Some(payload_beside(object)),
        _ => fields.object("data").cloned(),
    }?;
    let session_id = fields
        .optional_id("sessionId")
        .or(nested.session_id)
        .or_else(|| id_in(&event_data, "sessionId"));
    let (aggregate_id, aggregate_type) =
        aggregate(variant, &mut fields, &event_data, session_id.as_deref(), event_id);
    let event_id = event_id?;
    let metadata = Metadata {
        timestamp: timestamp?,
        version,
        correlation_id: top_correlation.or(nested.correlation_id).unwrap_or(event_id),
        causation_id: top_causation.or(nested.causation_id),
        user_id: nested.user_id,
        session_id,
        sequence,
    };
    let event = DomainEvent {
        event_id,
        event_type: event_type?.to_owned(),
        aggregate_id: aggregate_id?,
        aggregate_type: aggregate_type?,
        event_data,
        metadata,
    };
    Some(Adapted { event, variant, source })
}

#[derive(Default)]
struct NestedMetadata {
    correlation_id: Option<Uuid>,
    causation_id: Option<Uuid>,
    user_id: Option<String>,
    session_id: Option<String>,
}

fn nested_metadata(object: &Map<String, Value>, violations: &mut Violations) -> NestedMetadata {
    let mut fields = Fields::new(object, "$", violations);
    if fields.get("metadata").is_none() {
        return NestedMetadata::default();
    }
    let Some(metadata) = fields.object("metadata") else { return NestedMetadata::default() };
    let mut fields = Fields::new(metadata, "$.metadata", violations);
    NestedMetadata {
        correlation_id: fields.optional_uuid("correlationId"),
        causation_id: fields.optional_uuid("causationId"),
        user_id: fields.optional_id("userId"),
        session_id: fields.optional_id("sessionId"),
    }
}

/// A text `version` is the schema's; a whole number is the position in the stream.
fn version_and_sequence(variant: Variant, fields: &mut Fields<'_, '_>) -> (String, Option<i64>) {
    let (version, sequence) = match variant {
        Variant::Stored => (None, fields.optional_position("version")),
        Variant::SessionStore => (None, fields.optional_position("sequence")),
        Variant::Base => (fields.optional_text("version", VERSION_BYTES_MAX), None),
        Variant::Minimal | Variant::Bus | Variant::Canonical => (None, None),
    };
    (version.unwrap_or(VERSION).to_owned(), sequence)
}

fn payload_beside(object: &Map<String, Value>) -> Map<String, Value> {
    object
        .iter()
        .filter(|(name, _)| !BASE_FIELDS.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn id_in(data: &Map<String, Value>, name: &str) -> Option<String> {
    let id = data.get(name).and_then(Value::as_str)?;
    (1..=ID_BYTES_MAX).contains(&id.len()).then(|| id.to_owned())
}

/// The thing the event is about, from the best the variant has to offer.
fn aggregate(
    variant: Variant,
    fields: &mut Fields<'_, '_>,
    data: &Map<String, Value>,
    session_id: Option<&str>,
    event_id: Option<Uuid>,
) -> (Option<String>, Option<String>) {
    let typed = |name: &str| Some(name.to_owned());
    let itself = event_id.map(|id| id.to_string());
    match variant {
        Variant::Stored => (fields.id("aggregateId"), fields.id("aggregateType")),
        Variant::Minimal => (fields.id("aggregateId"), typed("Event")),
        Variant::Bus => (id_in(data, "id").or(itself), typed("Event")),
        Variant::SessionStore => match session_id {
            Some(session) => (Some(session.to_owned()), typed("Session")),
            None => (itself, typed("Event")),
        },
        Variant::Base | Variant::Canonical => match (id_in(data, "taskId"), session_id) {
            (Some(task), _) => (Some(task), typed("Task")),
            (None, Some(session)) => (Some(session.to_owned()), typed("Session")),
            (None, None) => (itself, typed("Event")),
        },
    }
}

#[cfg(test)]
#[path = "adapter_tests.rs"]
mod tests;

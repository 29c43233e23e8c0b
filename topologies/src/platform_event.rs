//! Platform events as stream values: read from any envelope, typed, with a bad one refused by path.
//!
//! Owns the serdes of events and of their keys. It must not know any topology.

use headwater::serde::{Serde, SerdeError, SharedSerde};
use headwater_schemas::adapter::parse_any;
use headwater_schemas::envelope::DomainEvent;
use headwater_schemas::events::{Event, canonical_type};

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 256;

/// How far an event's time may lie ahead of its record's.
pub const AHEAD_MAX_MS: i64 = 60 * 60 * 1_000;

/// One event and its typed payload.
#[derive(Clone, Debug, PartialEq)]
pub struct PlatformEvent {
    /// The event, in the canonical envelope.
    pub event: DomainEvent,
    /// Its payload.
    pub payload: Event,
}

impl PlatformEvent {
    /// The time of a record with this event, for a topology's timestamp extractor: event time. An
    /// event that claims to come from more than an hour after its record would close the windows
    /// of everything else; it gets a time that the engine refuses.
    pub fn time(&self, record_time: i64) -> i64 {
        let time = self.event.metadata.timestamp.as_millis();
        if time <= record_time.saturating_add(AHEAD_MAX_MS) { time } else { i64::MAX }
    }
}

/// Events as JSON: any envelope is read, the canonical one is written.
pub fn platform_events() -> SharedSerde<PlatformEvent> {
    PlatformEventSerde { only: None }.shared()
}

/// The same, for a reader of one event type: payloads of other types are not looked at, and count
/// as unknown. Whether they are valid is not this reader's business.
pub fn platform_events_of(event_type: &'static str) -> SharedSerde<PlatformEvent> {
    PlatformEventSerde { only: Some(event_type) }.shared()
}

struct PlatformEventSerde {
    only: Option<&'static str>,
}

impl Serde<PlatformEvent> for PlatformEventSerde {
    fn serialize(&self, value: &PlatformEvent, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        into.extend_from_slice(&value.event.to_json());
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<PlatformEvent, SerdeError> {
        let refused =
            |error: headwater_schemas::violation::EventError| SerdeError::other(error.to_string());
        let event = parse_any(bytes, None).map_err(refused)?.event;
        let payload = match self.only {
            Some(only) if canonical_type(&event.event_type) != only => {
                Event::Unknown { event_type: event.event_type.clone() }
            }
            _ => Event::of(&event).map_err(refused)?,
        };
        Ok(PlatformEvent { event, payload })
    }
}

/// Keys of platform topics: text of 1 to [`KEY_BYTES_MAX`] bytes.
pub fn event_keys() -> SharedSerde<String> {
    EventKeySerde.shared()
}

struct EventKeySerde;

impl Serde<String> for EventKeySerde {
    fn serialize(&self, key: &String, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        check_length(key.len())?;
        into.extend_from_slice(key.as_bytes());
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<String, SerdeError> {
        check_length(bytes.len())?;
        match std::str::from_utf8(bytes) {
            Ok(key) => Ok(key.to_owned()),
            Err(error) => Err(SerdeError::Text { position: error.valid_up_to() }),
        }
    }

    fn to_json(&self, key: &String) -> Option<serde_json::Value> {
        Some(serde_json::Value::from(key.as_str()))
    }

    fn from_text(&self, text: &str) -> Option<String> {
        check_length(text.len()).ok().map(|()| text.to_owned())
    }
}

fn check_length(found: usize) -> Result<(), SerdeError> {
    match found {
        0 => Err(SerdeError::other("key is empty")),
        1..=KEY_BYTES_MAX => Ok(()),
        _ => Err(SerdeError::Limit { what: "key length in bytes", found, limit: KEY_BYTES_MAX }),
    }
}

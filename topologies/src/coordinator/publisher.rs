//! The event publisher: the way an event of the platform's own services becomes a record.
//!
//! Owns the order: validate, fill in what is missing, choose the topic, make the record, count. It
//! must not know who sends, nor the log.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use headwater::query::NewRecord;
use headwater_schemas::envelope::{DomainEvent, EVENT_BYTES_MAX, EventTime, Metadata, VERSION};
use headwater_schemas::events::Event;
use headwater_schemas::routing::topic_of;
use headwater_schemas::violation::EventError;
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::outgoing::event_headers;

/// An event as a service hands it over; what it leaves out is filled in.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Draft {
    /// Its identity; a new one when absent.
    pub event_id: Option<Uuid>,
    /// What happened.
    pub event_type: String,
    /// The thing it happened to.
    pub aggregate_id: String,
    /// The kind of that thing.
    pub aggregate_type: String,
    /// The payload.
    pub event_data: Map<String, Value>,
    /// Where it stands among others.
    #[serde(default)]
    pub metadata: DraftMetadata,
}

/// Metadata as a service hands it over.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DraftMetadata {
    /// When it happened; now when absent.
    pub timestamp: Option<EventTime>,
    /// Version of the payload's schema; [`VERSION`] when absent.
    pub version: Option<String>,
    /// The request's; a new one when absent.
    pub correlation_id: Option<Uuid>,
    /// The event that caused it.
    pub causation_id: Option<Uuid>,
    /// Whose request it is.
    pub user_id: Option<String>,
    /// Its session.
    pub session_id: Option<String>,
}

type Hook = Box<dyn Fn(&str, &EventError) + Send + Sync>;

/// Publishes for one service.
pub struct Publisher {
    source: &'static str,
    on_error: Hook,
    published: Mutex<BTreeMap<String, u64>>,
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Publisher {
    /// A publisher of the service `source`; failures are logged.
    pub fn new(source: &'static str) -> Self {
        let log = |event_type: &str, error: &EventError| {
            tracing::warn!(event_type, %error, "an event was not published");
        };
        Self::with_hook(source, Box::new(log))
    }

    /// The same; each failure is told to `on_error` before the caller gets it.
    pub fn with_hook(source: &'static str, on_error: Hook) -> Self {
        Self { source, on_error, published: Mutex::default() }
    }

    /// The record of an event, and the event as it is in it. Times and ids that are missing are
    /// `now_ms` and random.
    ///
    /// # Errors
    /// [`EventError`] with every offending path; nothing is to be sent.
    pub fn publish(
        &self,
        draft: Draft,
        now_ms: i64,
    ) -> Result<(DomainEvent, NewRecord), EventError> {
        let event_type = draft.event_type.clone();
        let made = self.make(draft, now_ms);
        match &made {
            Ok(_) => *self.counts().entry(event_type).or_default() += 1,
            Err(error) => (self.on_error)(&event_type, error),
        }
        made
    }

    /// Events published so far, by type.
    pub fn published(&self) -> BTreeMap<String, u64> {
        self.counts().clone()
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, u64>> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self, draft: Draft, now_ms: i64) -> Result<(DomainEvent, NewRecord), EventError> {
        let now = EventTime::from_millis(now_ms.max(0)).unwrap_or(EventTime::MAX);
        let given = draft.metadata;
        let event = DomainEvent {
            event_id: draft.event_id.unwrap_or_else(Uuid::new_v4),
            event_type: draft.event_type,
            aggregate_id: draft.aggregate_id,
            aggregate_type: draft.aggregate_type,
            event_data: draft.event_data,
            metadata: Metadata {
                timestamp: given.timestamp.unwrap_or(now),
                version: given.version.unwrap_or_else(|| VERSION.to_owned()),
                correlation_id: given.correlation_id.unwrap_or_else(Uuid::new_v4),
                causation_id: given.causation_id,
                user_id: given.user_id,
                session_id: given.session_id,
                sequence: None,
            },
        };
        let value = event.to_json();
        if value.len() > EVENT_BYTES_MAX {
            return Err(EventError::TooLarge { bytes: value.len(), max: EVENT_BYTES_MAX });
        }
        // As every reader will see it: the envelope's own rules, then those of the payload.
        let event = DomainEvent::parse(&value)?;
        Event::of(&event)?;
        let record = NewRecord {
            topic: topic_of(&event.event_type).name.to_string(),
            key: event.record_key().as_bytes().to_vec(),
            value,
            timestamp: event.metadata.timestamp.as_millis(),
            headers: event_headers(&event, self.source),
        };
        Ok((event, record))
    }
}

#[cfg(test)]
#[path = "publisher_tests.rs"]
mod tests;

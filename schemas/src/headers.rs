//! Record headers of the platform: UTF-8 names and values beside an event.
//!
//! Owns the names and the full set every producer sends. It must not know the engine's own
//! headers, nor those of dead letters beyond their names.

use crate::envelope::DomainEvent;

/// The event's type, so that a reader can skip without parsing.
pub const EVENT_TYPE: &str = "event-type";
/// Version of the payload's schema.
pub const EVENT_VERSION: &str = "event-version";
/// One per user request.
pub const CORRELATION_ID: &str = "correlation-id";
/// The event that caused this one.
pub const CAUSATION_ID: &str = "causation-id";
/// Name of the producing service.
pub const EVENT_SOURCE: &str = "event-source";
/// The aggregate the event is about.
pub const AGGREGATE_ID: &str = "aggregate-id";
/// Decimal position in the aggregate's stream.
pub const SEQUENCE_NUMBER: &str = "sequence-number";
/// Always [`CONTENT_TYPE_JSON`] so far.
pub const CONTENT_TYPE: &str = "content-type";
/// The value of [`CONTENT_TYPE`].
pub const CONTENT_TYPE_JSON: &str = "application/json";
/// Decimal number of retries a record went through.
pub const RETRY_COUNT: &str = "retry-count";
/// The topic a retry or dead letter record came from.
pub const ORIGINAL_TOPIC: &str = "original-topic";
/// Why it was retried or given up.
pub const ERROR_MESSAGE: &str = "error-message";
/// Epoch ms before which a retry record waits.
pub const RETRY_AT: &str = "retry-at";
/// Decimal number of retries before a record was given up.
pub const FINAL_RETRY_COUNT: &str = "final-retry-count";
/// Epoch ms at which a record was given up.
pub const DLQ_TIMESTAMP: &str = "dlq-timestamp";

/// The full header set of an event sent by the service `source`, in a fixed order.
pub fn of(event: &DomainEvent, source: &str) -> Vec<(&'static str, String)> {
    let metadata = &event.metadata;
    let mut headers = vec![
        (EVENT_TYPE, event.event_type.clone()),
        (EVENT_VERSION, metadata.version.clone()),
        (CORRELATION_ID, metadata.correlation_id.to_string()),
        (EVENT_SOURCE, source.to_owned()),
        (AGGREGATE_ID, event.aggregate_id.clone()),
        (CONTENT_TYPE, CONTENT_TYPE_JSON.to_owned()),
    ];
    headers.extend(metadata.causation_id.map(|id| (CAUSATION_ID, id.to_string())));
    headers.extend(metadata.sequence.map(|sequence| (SEQUENCE_NUMBER, sequence.to_string())));
    headers
}

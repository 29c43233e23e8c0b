//! Older envelopes become canonical events, or are refused by path.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::events::Event;

const ID: &str = "4b7a1c9e-2f43-4c56-9a0e-5a3b8b1f0d11";
const OTHER: &str = "00000000-0000-4000-8000-000000000001";
const TIME: &str = "2026-01-05T10:00:00.000Z";

fn adapt(document: &Value) -> Result<Adapted, EventError> {
    parse_any(&serde_json::to_vec(document).expect("json"), None)
}

fn adapted(document: &Value) -> Adapted {
    adapt(document).expect("a known envelope")
}

#[test]
fn a_canonical_event_passes_unchanged() {
    let document = json!({
        "eventId": ID, "eventType": "TaskAssigned", "aggregateId": "t", "aggregateType": "Task",
        "eventData": {}, "metadata": {"timestamp": TIME, "version": "1.0", "correlationId": ID},
    });
    let adapted = adapted(&document);
    assert_eq!(adapted.variant, Variant::Canonical);
    assert_eq!(serde_json::to_value(&adapted.event).expect("json"), document);
}

#[test]
fn a_bus_event_takes_its_aggregate_from_the_data_and_its_source_to_a_header() {
    let adapted = adapted(&json!({
        "id": ID, "type": "order.created", "timestamp": TIME, "source": "order-service",
        "data": {"id": "123", "total": 99.99}, "metadata": {"anything": "goes"},
    }));
    assert_eq!(adapted.variant, Variant::Bus);
    assert_eq!(adapted.source.as_deref(), Some("order-service"));
    assert_eq!(adapted.event.aggregate_id, "123");
    assert_eq!(adapted.event.event_type, "order.created");
    assert_eq!(adapted.event.metadata.correlation_id.to_string(), ID, "the event's own id");
}

#[test]
fn a_stored_events_version_becomes_its_sequence() {
    let adapted = adapted(&json!({
        "id": ID, "aggregateId": "order-1", "aggregateType": "Order", "type": "OrderCreated",
        "version": 3, "timestamp": TIME, "data": {"total": 1},
        "metadata": {"userId": "u", "correlationId": OTHER, "causationId": ID},
    }));
    assert_eq!(adapted.variant, Variant::Stored);
    let metadata = &adapted.event.metadata;
    assert_eq!((metadata.sequence, metadata.version.as_str()), (Some(3), "1.0"));
    assert_eq!(metadata.correlation_id.to_string(), OTHER);
    assert_eq!(metadata.user_id.as_deref(), Some("u"));
    assert_eq!(adapted.event.aggregate_type, "Order");
}

#[test]
fn a_minimal_event_gets_an_id_that_a_second_read_gives_again() {
    let document = json!({
        "eventType": "created", "aggregateId": "user-1", "data": {"id": "1"},
        "timestamp": TIME, "version": 1,
    });
    let first = adapted(&document);
    assert_eq!(first.variant, Variant::Minimal);
    assert_eq!(first, adapted(&document));
    assert_eq!(first.event.event_id.get_version_num(), 5);
}

#[test]
fn a_base_events_other_fields_are_its_payload() {
    let adapted = adapted(&json!({
        "eventId": ID, "eventType": "AgentPerformanceMetricEvent", "timestamp": TIME,
        "version": "1.0", "correlationId": OTHER, "agentType": "worker", "sessionId": "s-1",
        "metric": "tokens", "value": 812,
    }));
    assert_eq!(adapted.variant, Variant::Base);
    assert_eq!(adapted.event.metadata.session_id.as_deref(), Some("s-1"));
    assert_eq!(adapted.event.aggregate_id, "s-1");
    let Ok(Event::AgentPerformanceMetric(metric)) = Event::of(&adapted.event) else {
        panic!("a metric")
    };
    assert_eq!((metric.session_id.as_str(), metric.value), ("s-1", 812.0));
}

#[test]
fn an_agent_task_event_is_about_its_task() {
    let adapted = adapted(&json!({
        "eventId": ID, "eventType": "WorkItemCompleted", "timestamp": TIME, "version": "1.0",
        "correlationId": OTHER, "causationId": ID, "agentType": "worker", "taskId": "t-1",
        "workItem": {"id": "wi-1"}, "sessionId": "s-1",
    }));
    assert_eq!(adapted.event.aggregate_id, "t-1");
    assert_eq!(adapted.event.aggregate_type, "Task");
    assert_eq!(adapted.event.metadata.causation_id.map(|id| id.to_string()).as_deref(), Some(ID));
    assert_eq!(adapted.event.record_key(), "s-1");
}

#[test]
fn a_session_store_event_is_about_its_session() {
    let adapted = adapted(&json!({
        "id": ID, "type": "SessionStarted", "sequence": 1, "timestamp": TIME,
        "data": {"sessionId": "s-1", "taskId": "t-1"},
    }));
    assert_eq!(adapted.variant, Variant::SessionStore);
    assert_eq!(adapted.event.aggregate_id, "s-1");
    assert_eq!(adapted.event.metadata.sequence, Some(1));
}

#[test]
fn an_event_without_a_time_has_its_records() {
    let document = json!({"id": ID, "type": "ping", "data": {}});
    let value = serde_json::to_vec(&document).expect("json");
    let time = EventTime::from_millis(42);
    let adapted = parse_any(&value, time).expect("the record has a time");
    assert_eq!(Some(adapted.event.metadata.timestamp), time);
    assert!(adapt(&document).is_err(), "neither has a time");
}

#[test]
fn every_offending_path_of_a_variant_is_named() {
    let document = json!({
        "id": 7, "type": "x", "aggregateId": "", "version": "one", "timestamp": "never",
        "data": {}, "metadata": {"correlationId": "c"},
    });
    let Err(EventError::Invalid(violations)) = adapt(&document) else { panic!("invalid") };
    assert_eq!(
        violations.paths(),
        [
            "$.metadata.correlationId",
            "$.id",
            "$.timestamp",
            "$.version",
            "$.aggregateId",
            "$.aggregateType",
        ]
    );
}

#[test]
fn a_document_without_any_marks_is_judged_as_canonical() {
    let Err(EventError::Invalid(violations)) = adapt(&json!({})) else { panic!("invalid") };
    assert_eq!(violations.paths().first(), Some(&"$.eventId"));
}

proptest! {
    #[test]
    fn arbitrary_fields_give_an_event_or_a_short_error(
        present in prop::collection::btree_map(
            prop::sample::select(vec![
                "id", "eventId", "type", "eventType", "data", "eventData", "metadata",
                "aggregateId", "aggregateType", "version", "sequence", "timestamp", "source",
                "correlationId", "sessionId", "taskId",
            ]),
            prop_oneof![
                Just(json!(ID)), Just(json!(TIME)), Just(json!({})), Just(json!(3)),
                Just(Value::Null), Just(json!("x".repeat(1_000))),
            ],
            0..16,
        ),
    ) {
        let document = json!(present);
        match adapt(&document) {
            Ok(adapted) => {
                let canonical = DomainEvent::parse(&adapted.event.to_json());
                prop_assert_eq!(canonical, Ok(adapted.event), "the adapted form is canonical");
            }
            Err(error) => prop_assert!(error.to_string().len() < 4_096),
        }
    }
}

//! The event catalogue: known payloads are checked, unknown types recognised.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::agent_performance_metric::{AgentType, Metric};
use super::*;

const ID: &str = "4b7a1c9e-2f43-4c56-9a0e-5a3b8b1f0d11";

fn event(event_type: &str, data: Value) -> DomainEvent {
    let document = json!({
        "eventId": ID, "eventType": event_type, "aggregateId": "s", "aggregateType": "Session",
        "eventData": data,
        "metadata": {"timestamp": 0, "version": "1.0", "correlationId": ID},
    });
    DomainEvent::parse(&serde_json::to_vec(&document).expect("json")).expect("valid envelope")
}

fn metric(data: Value) -> Result<AgentPerformanceMetric, EventError> {
    AgentPerformanceMetric::of(&event(AgentPerformanceMetric::EVENT_TYPE, data))
}

fn violations(data: Value) -> Vec<String> {
    let Err(EventError::Invalid(violations)) = metric(data) else { panic!("invalid") };
    violations.paths().into_iter().map(str::to_owned).collect()
}

fn valid() -> Value {
    json!({
        "agentType": "manager", "agentId": "a-1", "sessionId": "s-1", "taskId": "t-1",
        "metric": "quality_score", "value": 0.75, "success": false,
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut data = valid();
    data[name] = value;
    data
}

#[test]
fn a_complete_metric_is_read_and_written_back_unchanged() {
    let metric = metric(valid()).expect("valid");
    assert_eq!(metric.agent_type, AgentType::Manager);
    assert_eq!(metric.metric, Metric::QualityScore);
    assert_eq!(Value::Object(metric.to_event_data()), valid());
}

#[test]
fn an_unknown_event_type_is_recognised_and_not_an_error() {
    let unknown = event("SessionArchived", json!({"anything": [1]}));
    assert_eq!(
        Event::of(&unknown),
        Ok(Event::Unknown { event_type: "SessionArchived".to_owned() })
    );
}

#[test]
fn a_type_may_carry_the_suffix_event() {
    let event = event("AgentPerformanceMetricEvent", valid());
    assert!(matches!(Event::of(&event), Ok(Event::AgentPerformanceMetric(_))));
    assert_eq!(canonical_type("Event"), "Event");
}

#[test]
fn every_offending_field_of_a_metric_is_named_at_once() {
    let data = json!({
        "agentType": "boss", "agentId": 1, "metric": "mood", "value": "high", "success": "yes",
    });
    assert_eq!(
        violations(data),
        [
            "$.eventData.agentType",
            "$.eventData.agentId",
            "$.eventData.sessionId",
            "$.eventData.metric",
            "$.eventData.value",
            "$.eventData.success",
        ]
    );
}

#[test]
fn a_value_that_cannot_be_true_is_refused_by_path() {
    for (name, value) in [
        ("execution_time_ms", json!(-0.001)),
        ("queue_time_ms", json!(-1)),
        ("tokens", json!(1.1e15)),
        ("cost_usd", json!(f64::MAX)),
        ("quality_score", json!(1.000_001)),
        ("tokens", json!("NaN")),
        ("tokens", json!("Infinity")),
        ("tokens", Value::Null),
        ("tokens", json!(true)),
    ] {
        let data = with("metric", json!(name));
        let mut data = data;
        data["value"] = value.clone();
        assert_eq!(violations(data), ["$.eventData.value"], "{name} {value}");
    }
}

#[test]
fn the_ends_of_the_range_are_accepted_and_minus_zero_is_zero() {
    for metric_name in Metric::ALL {
        for value in [0.0, metric_name.value_max()] {
            let mut data = with("metric", json!(metric_name.name()));
            data["value"] = json!(value);
            assert_eq!(metric(data).expect("in range").value, value);
        }
    }
    let zero = metric(with("value", json!(-0.0))).expect("zero").value;
    assert!(zero.is_sign_positive());
}

#[test]
fn a_metric_without_a_session_takes_that_of_the_metadata() {
    let mut data = valid();
    data.as_object_mut().expect("object").remove("sessionId");
    let mut event = event(AgentPerformanceMetric::EVENT_TYPE, data);
    event.metadata.session_id = Some("from-metadata".to_owned());
    let metric = AgentPerformanceMetric::of(&event).expect("valid");
    assert_eq!(metric.session_id, "from-metadata");
}

#[test]
fn metrics_are_named_once_and_found_by_name() {
    for metric in Metric::ALL {
        assert_eq!(Metric::from_name(metric.name()), Some(metric));
    }
    assert!(Metric::ALL.is_sorted());
}

proptest! {
    #[test]
    fn a_metric_survives_its_json_exactly(
        agent in prop::option::of(".{1,20}"), session in ".{1,20}", position in 0_usize..5,
        share in 0.0..=1.0_f64, success in any::<Option<bool>>(),
    ) {
        let kind = Metric::ALL[position];
        let expected = AgentPerformanceMetric {
            agent_type: AgentType::Worker,
            agent_id: agent,
            session_id: session,
            task_id: None,
            metric: kind,
            value: share * kind.value_max(),
            success,
        };
        let data: Map<String, Value> = expected.to_event_data();
        prop_assert_eq!(metric(Value::Object(data)), Ok(expected));
    }
}

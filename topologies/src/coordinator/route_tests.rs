//! What a user may send, and what is made of it.

use headwater_schemas::envelope::DomainEvent;
use serde_json::Value;

use super::*;

fn tasks() -> TasksRoute {
    TasksRoute(Arc::new(Publisher::new("test")))
}

fn take(route: &dyn Route, body: &Value) -> Result<Taken, QueryError> {
    route.take(body.to_string().as_bytes(), &Parameters::default(), 1_000)
}

fn refusal(route: &dyn Route, body: &Value) -> (Problem, String) {
    let error = take(route, body).expect_err("refused");
    (error.problem, error.detail)
}

#[test]
fn a_task_becomes_one_assignment_under_the_correlation_id_that_is_answered() {
    let body = json!({"id": "integration-test-task", "description": "d", "priority": "high",
        "sessionId": "test-session-123", "userId": "test-user",
        "dueDate": "2026-12-01T00:00:00Z"});
    let taken = take(&tasks(), &body).expect("taken");
    let [record] = &taken.records[..] else { panic!("one record") };
    assert_eq!(record.topic, "agent.tasks.manager");
    let event = DomainEvent::parse(&record.value).expect("an event");
    assert_eq!(json!(event.metadata.correlation_id), taken.answer["correlationId"]);
    assert_eq!(taken.answer["taskId"], json!("integration-test-task"));
    assert_eq!(event.event_data["assignedTo"], json!("manager-agent"));
    assert_eq!(event.event_data["dueDate"], json!("2026-12-01T00:00:00.000Z"));
    assert_eq!((event.aggregate_type.as_str(), event.metadata.version.as_str()), ("Task", "1.0"));
    assert_eq!(event.metadata.user_id.as_deref(), Some("test-user"));
    assert_eq!(event.metadata.session_id.as_deref(), Some("test-session-123"));
}

#[test]
fn each_task_has_a_correlation_id_of_its_own_and_gets_an_id_and_a_session_when_it_has_none() {
    let body = json!({"description": "d", "userId": "u"});
    let first = take(&tasks(), &body).expect("taken").answer;
    let second = take(&tasks(), &body).expect("taken").answer;
    assert_ne!(first["correlationId"], second["correlationId"]);
    assert_ne!(first["taskId"], second["taskId"]);
    assert_ne!(first["sessionId"], second["sessionId"]);
}

#[test]
fn a_task_with_mistakes_is_told_each_of_them() {
    let long = "x".repeat(129);
    let body = json!({"id": long, "description": " ", "userId": "", "sessionId": "s"});
    let (problem, detail) = refusal(&tasks(), &body);
    assert_eq!(problem, Problem::InvalidBody);
    for field in ["$.id is too long", "$.description is empty", "$.userId is empty"] {
        assert!(detail.contains(field), "{detail}");
    }
    assert!(refusal(&tasks(), &json!({"userId": "u"})).1.contains("description"));
    let unknown = json!({"description": "d", "userId": "u", "colour": "red"});
    assert!(refusal(&tasks(), &unknown).1.contains("colour"));
    assert!(refusal(&tasks(), &json!([])).1.contains("the body"));
}

#[test]
fn an_event_is_published_to_the_topic_of_its_type() {
    let route = EventsRoute(Arc::new(Publisher::new("test")));
    let body = json!({"eventType": "SessionStarted", "aggregateId": "s",
        "aggregateType": "Session",
        "eventData": {"userId": "u", "taskDescription": "d", "startTime": 1}});
    let taken = take(&route, &body).expect("taken");
    assert_eq!(taken.answer["topic"], json!("session.events"));
    let bad = json!({"eventType": "SessionStarted", "aggregateId": "s",
        "aggregateType": "Session", "eventData": {}});
    let (problem, detail) = refusal(&route, &bad);
    assert_eq!(problem, Problem::InvalidBody);
    assert!(detail.contains("$.eventData.userId"), "{detail}");
}

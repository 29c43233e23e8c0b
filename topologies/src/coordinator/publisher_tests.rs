//! What becomes of an event on its way out.

use std::sync::Arc;

use headwater_schemas::headers;
use serde_json::json;

use super::*;

fn draft(event_type: &str, data: Value) -> Draft {
    let document = json!({"eventType": event_type, "aggregateId": "test-task-123",
        "aggregateType": "Task", "eventData": data,
        "metadata": {"sessionId": "test-session-123", "userId": "test-user"}});
    serde_json::from_value(document).expect("a draft")
}

fn task() -> Draft {
    draft("TaskAssigned", json!({"taskId": "test-task-123", "description": "d"}))
}

#[test]
fn what_is_missing_is_filled_in_and_what_is_given_stays() {
    let publisher = Publisher::new("test");
    let (event, record) = publisher.publish(task(), 77).expect("published");
    assert_eq!((event.metadata.timestamp.as_millis(), record.timestamp), (77, 77));
    assert_eq!(event.metadata.version, "1.0");
    assert_ne!(event.event_id, event.metadata.correlation_id);
    let id = Uuid::from_u128(5);
    let mut given = task();
    given.event_id = Some(id);
    given.metadata.correlation_id = Some(id);
    let (event, _) = publisher.publish(given, 77).expect("published");
    assert_eq!((event.event_id, event.metadata.correlation_id), (id, id));
}

#[test]
fn an_event_goes_to_the_topic_of_its_type_under_its_session_with_all_headers() {
    let publisher = Publisher::new("test");
    let (event, record) = publisher.publish(task(), 1).expect("published");
    assert_eq!(
        (record.topic.as_str(), record.key.as_slice()),
        ("agent.tasks.manager", &b"test-session-123"[..])
    );
    let header = |name| {
        let header = record.headers.last(name).and_then(|header| header.value.clone());
        String::from_utf8(header.unwrap_or_default().to_vec()).expect("text")
    };
    assert_eq!(header(headers::EVENT_TYPE), "TaskAssigned");
    assert_eq!(header(headers::EVENT_VERSION), "1.0");
    assert_eq!(header(headers::CORRELATION_ID), event.metadata.correlation_id.to_string());
    assert_eq!(header(headers::EVENT_SOURCE), "test");
    assert_eq!(DomainEvent::parse(&record.value), Ok(event));
    let (_, record) = publisher.publish(draft("SessionArchived", json!({})), 1).expect("published");
    assert_eq!(record.topic, "default.events");
}

#[test]
fn an_event_that_its_readers_would_refuse_is_not_published_and_the_hook_hears_of_it() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&heard);
    let hook = move |event_type: &str, error: &EventError| {
        told.lock().expect("no panic").push(format!("{event_type}: {error}"));
    };
    let publisher = Publisher::with_hook("test", Box::new(hook));
    let refused = publisher.publish(draft("TaskAssigned", json!({"description": 5})), 1);
    let message = refused.expect_err("refused").to_string();
    assert!(message.contains("$.eventData.taskId") && message.contains("$.eventData.description"));
    assert_eq!(heard.lock().expect("no panic").len(), 1);
    let large = json!({"taskId": "t", "description": "x".repeat(EVENT_BYTES_MAX)});
    let refused = publisher.publish(draft("TaskAssigned", large), 1);
    assert!(matches!(refused, Err(EventError::TooLarge { .. })));
}

#[test]
fn publications_are_counted_by_type() {
    let publisher = Publisher::new("test");
    for _ in 0..3 {
        publisher.publish(task(), 1).expect("published");
    }
    drop(publisher.publish(draft("TaskAssigned", json!({})), 1));
    assert_eq!(publisher.published(), BTreeMap::from([("TaskAssigned".to_owned(), 3)]));
}

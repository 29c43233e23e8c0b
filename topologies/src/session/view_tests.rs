//! What queries see after each event, repeats and orders included.

use headwater_schemas::envelope::DomainEvent;
use serde_json::{Value, json};

use super::*;

const ID: &str = "4b7a1c9e-2f43-4c56-9a0e-5a3b8b1f0d11";

fn event(event_type: &str, sequence: Option<i64>, time: i64, data: Value) -> PlatformEvent {
    let document = json!({
        "eventId": ID, "eventType": event_type, "aggregateId": "t", "aggregateType": "Task",
        "eventData": data, "metadata": {"timestamp": time, "version": "1.0",
        "correlationId": ID, "sessionId": "s", "sequence": sequence}});
    let bytes = serde_json::to_vec(&document).expect("json");
    let event = DomainEvent::parse(&bytes).expect("an envelope");
    let payload = Event::of(&event).expect("a payload");
    PlatformEvent { event, payload }
}

fn started() -> PlatformEvent {
    let data = json!({"userId": "u", "taskDescription": "d", "startTime": 10});
    event("SessionStarted", Some(1), 10, data)
}

fn assigned(sequence: i64, task: &str, at: i64) -> PlatformEvent {
    let data = json!({"taskId": task, "agentType": "manager", "assignedAt": at});
    event("TaskAssignedToAgent", Some(sequence), at, data)
}

fn created(task: &str, item: &str) -> PlatformEvent {
    let data = json!({"id": item, "description": "d", "type": "testing", "taskId": task});
    event("WorkItemCreated", None, 0, data)
}

fn done(sequence: Option<i64>, task: &str, item: &str, at: i64) -> PlatformEvent {
    let data = json!({"workItemId": item, "taskId": task, "completedAt": at, "executionTime": 1,
                      "result": {"success": true, "output": ""}});
    event("WorkItemCompleted", sequence, at, data)
}

fn status(task: &str, status: &str, at: i64) -> PlatformEvent {
    event("TaskStatusUpdated", None, at, json!({"taskId": task, "status": status}))
}

fn fold(events: &[PlatformEvent]) -> SessionFold {
    let mut fold = SessionFold::default();
    for event in events {
        fold.take(event);
    }
    fold
}

fn model(events: &[PlatformEvent]) -> SessionReadModel {
    fold(events).model.expect("started")
}

fn counts(model: &SessionReadModel) -> (u64, u64, Option<i64>) {
    let estimate = model.estimated_completion.map(EventTime::as_millis);
    (model.total_tasks, model.completed_tasks, estimate)
}

#[test]
fn a_started_session_is_active_and_empty() {
    let model = model(&[started()]);
    assert_eq!(model.status, SessionStatus::Active);
    assert_eq!((model.start_time.as_millis(), counts(&model)), (10, (0, 0, None)));
    assert_eq!(
        serde_json::to_value(&model).expect("json"),
        json!({"sessionId": "s", "userId": "u", "status": "active", "activeTasks": [],
               "startTime": "1970-01-01T00:00:00.010Z", "totalTasks": 0, "completedTasks": 0})
    );
}

#[test]
fn nothing_shows_of_a_session_nobody_started_but_its_facts_are_kept() {
    let early = [created("a", "w"), status("a", "COMPLETED", 30)];
    assert_eq!(fold(&early).model, None);
    let mut all = early.to_vec();
    all.extend([started(), assigned(2, "a", 20)]);
    assert_eq!(counts(&model(&all)), (1, 1, Some(30)));
}

#[test]
fn a_task_without_known_items_is_closed_by_its_first_completed_item() {
    let all = [
        started(),
        assigned(2, "a", 20),
        done(Some(3), "a", "w1", 50),
        done(Some(4), "a", "w2", 60),
    ];
    let model = model(&all);
    assert_eq!(model.active_tasks[0].completed_at.map(EventTime::as_millis), Some(50));
    assert_eq!(counts(&model), (1, 1, Some(50)));
}

#[test]
fn a_task_with_known_items_is_closed_by_its_status_only() {
    let open = [started(), assigned(2, "a", 20), created("a", "w"), done(Some(3), "a", "w", 50)];
    assert_eq!(counts(&model(&open)), (1, 0, None));
    for (word, state) in [
        ("COMPLETED", TaskState::Completed),
        ("FAILED", TaskState::Failed),
        ("CANCELLED", TaskState::Failed),
    ] {
        let mut closed = open.to_vec();
        closed.push(status("a", word, 70));
        let model = model(&closed);
        assert_eq!((model.active_tasks[0].status, counts(&model)), (state, (1, 1, Some(70))));
    }
    let mut closed = open.to_vec();
    closed.push(status("a", "IN_PROGRESS", 70));
    assert_eq!(counts(&model(&closed)), (1, 0, None));
}

#[test]
fn a_task_is_counted_once_however_often_its_end_is_told() {
    let completed =
        json!({"taskId": "a", "success": true, "result": {"success": true, "output": ""}});
    let all = [
        started(),
        assigned(2, "a", 20),
        status("a", "COMPLETED", 70),
        event("TaskCompleted", None, 90, completed),
        status("a", "FAILED", 95),
        done(Some(3), "a", "w", 99),
        done(Some(4), "unmatched", "w9", 99),
    ];
    let model = model(&all);
    assert_eq!(counts(&model), (1, 1, Some(70)));
    assert_eq!(model.active_tasks[0].status, TaskState::Completed);
}

#[test]
fn a_second_assignment_replaces_agent_and_time_only() {
    let mut again = assigned(3, "a", 40);
    let Event::TaskAssignedToAgent(payload) = &mut again.payload else { panic!("its payload") };
    payload.agent_type = AgentType::Worker;
    let model = model(&[started(), assigned(2, "a", 20), again]);
    assert_eq!(model.total_tasks, 1);
    let task = &model.active_tasks[0];
    assert_eq!((task.agent_type, task.assigned_at.as_millis()), (AgentType::Worker, 40));
}

#[test]
fn the_estimate_adds_the_mean_for_each_open_task_to_the_last_completion() {
    let all = [
        started(),
        assigned(2, "a", 100),
        assigned(3, "b", 100),
        assigned(4, "c", 100),
        assigned(5, "d", 100),
        done(Some(6), "a", "w1", 200),
        done(Some(7), "b", "w2", 400),
    ];
    // Means of 100 and 300 are 200; two are open.
    assert_eq!(counts(&model(&all)), (4, 2, Some(400 + 2 * 200)));
}

#[test]
fn an_event_that_was_taken_before_changes_nothing() {
    let all = [started(), assigned(2, "a", 20), done(Some(3), "a", "w", 50), created("a", "w2")];
    let mut fold = fold(&all);
    for repeated in &all {
        assert!(!fold.take(repeated), "{}", repeated.event.event_type);
    }
}

#[test]
fn a_completed_session_has_its_outcome_and_its_end() {
    for (outcome, status) in
        [("completed", SessionStatus::Completed), ("failed", SessionStatus::Failed)]
    {
        let end = event("SessionCompleted", Some(2), 9, json!({"endTime": 99, "outcome": outcome}));
        let model = model(&[started(), end]);
        assert_eq!((model.status, model.end_time.map(EventTime::as_millis)), (status, Some(99)));
    }
}

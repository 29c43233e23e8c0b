//! The workflow on the test driver: rows, timers, and what is sent where.

use std::time::Duration;

use headwater::record::Headers;
use headwater::testing::TopologyTestDriver;
use headwater_schemas::headers;
use headwater_schemas::topics::Topic;
use serde_json::{Value, json};

use super::*;

pub(in crate::workflow) fn driver(options: &WorkflowOptions) -> TopologyTestDriver {
    let builder = StreamsBuilder::new();
    topology(&builder, options);
    let topology = builder.build().expect("the topology has no mistakes");
    TopologyTestDriver::new(&topology).expect("it starts")
}

/// An event's document; its id follows from what is given.
pub(in crate::workflow) fn document(
    session: &str,
    event_type: &str,
    data: &Value,
    cause: Option<Uuid>,
) -> Value {
    let name = format!("{session}{event_type}{data}{cause:?}");
    let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes());
    json!({"eventId": id, "eventType": event_type, "aggregateId": "a", "aggregateType": "Task",
        "eventData": data,
        "metadata": {"timestamp": 1, "version": "1.0", "correlationId": Uuid::from_u128(7),
                     "causationId": cause, "sessionId": session, "userId": "u"}})
}

struct Bench(TopologyTestDriver);

impl Bench {
    fn new() -> Self {
        Self(driver(&WorkflowOptions::default()))
    }

    fn say(&mut self, event_type: &str, data: Value) {
        self.raw("s", event_type, &document("s", event_type, &data, None));
    }

    fn raw(&mut self, key: &str, event_type: &str, event: &Value) {
        let (topic, value) = (&topic_of(event_type).name, event.to_string());
        let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
        self.0.pipe(topic, key, value, 1, Headers::empty()).expect("it goes on");
    }

    fn wait(&mut self, ms: u64) {
        self.0.advance_wall_clock(Duration::from_millis(ms)).expect("it goes on");
    }

    /// Type and id of what was sent to a topic since the last call.
    fn sent(&mut self, topic: &Topic) -> Vec<(String, Value)> {
        let records = self.0.take(&topic.name);
        let read = records.into_iter().map(|record| {
            assert_eq!(record.key.as_deref(), Some(&b"s"[..]), "everything is the session's");
            let value = record.value.expect("a document");
            let document: Value = serde_json::from_slice(&value).expect("json");
            let name = document.get("eventType").or(document.get("type")).expect("a type");
            (name.as_str().unwrap_or_default().to_owned(), document)
        });
        read.collect()
    }

    fn names(&mut self, topic: &Topic) -> Vec<String> {
        self.sent(topic).into_iter().map(|(name, _)| name).collect()
    }

    fn saga(&self) -> WorkflowRecord {
        let rows = self.0.rows(STORE);
        assert_eq!(rows.len(), 1, "one saga");
        serde_json::from_slice(&rows[0].value).expect("a row")
    }

    fn assign(&mut self) {
        self.say("TaskAssigned", json!({"taskId": "t", "description": "d"}));
    }

    fn analyze(&mut self) {
        let items = json!([{"id": "a", "description": "d", "type": "testing"}]);
        self.say(
            "TaskAnalyzed",
            json!({"taskId": "t", "workItems": items, "estimatedDuration": 9}),
        );
    }

    fn complete(&mut self) {
        let data = json!({"workItemId": "a", "taskId": "t", "completedAt": 5,
            "executionTime": 7, "attempt": 1, "result": {"success": true, "output": "o"}});
        self.say("WorkItemCompleted", data);
    }
}

#[test]
fn an_assignment_is_a_row_that_can_be_found_and_a_session_that_is_told() {
    let mut bench = Bench::new();
    bench.assign();
    assert_eq!(bench.names(&SESSION_COMMANDS), ["StartSession", "AssignTaskToAgent"]);
    let facts = bench.sent(&SESSION_EVENTS);
    let names: Vec<_> = facts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["TaskAssigned", "WorkflowStateChanged"]);
    let given = document("s", "TaskAssigned", &json!({"taskId": "t", "description": "d"}), None);
    assert_eq!(facts[0].1["eventId"], given["eventId"], "a fact keeps its id");
    assert_eq!(facts[1].1["metadata"]["causationId"], given["eventId"]);
    assert_eq!(bench.saga().saga_id, "t");
    let index: Vec<_> = bench.0.rows(INDEX_STORE).into_iter().map(|row| row.key).collect();
    let expected = [by_correlation(Uuid::from_u128(7), "t"), by_task("t", "s")];
    assert_eq!(index, expected.map(String::into_bytes));
}

#[test]
fn a_task_goes_to_the_agents_the_gates_and_the_sessions_log() {
    let mut bench = Bench::new();
    bench.assign();
    bench.analyze();
    let created = bench.sent(&AGENT_TASKS_WORKER);
    assert_eq!(created.len(), 1);
    let logged = bench.sent(&SESSION_EVENTS);
    let copy = logged.iter().find(|(name, _)| name == "WorkItemCreated").expect("in the log too");
    assert_eq!(copy.1["eventId"], created[0].1["eventId"]);
    bench.complete();
    assert_eq!(bench.names(&AGENT_TASKS_MANAGER), ["ReviewRequested"]);
    bench.say("TaskReviewed", json!({"taskId": "t", "review": {"approved": true}}));
    assert_eq!(bench.names(&TASK_COMPLETED), ["WorkItemCompleted"]);
    bench.say(
        "QualityGateResult",
        json!({"gateId": "result-success", "gateName": "g", "workItemId": "a", "taskId": "t",
            "passed": true, "score": 1, "threshold": 1, "required": true, "evaluatedAt": 1,
            "durationMs": 0, "attempt": 1}),
    );
    let told = bench.names(&SESSION_EVENTS);
    assert_eq!(told[told.len() - 2..], ["TaskStatusUpdated", "TaskCompleted"]);
    assert_eq!(bench.saga().state, crate::saga::SagaState::Completed);
}

#[test]
fn every_event_carries_the_full_header_set() {
    let mut bench = Bench::new();
    bench.assign();
    bench.analyze();
    let records = bench.0.take(&AGENT_TASKS_WORKER.name);
    let header = |name| {
        let header = records[0].headers.last(name).and_then(|header| header.value.clone());
        String::from_utf8(header.unwrap_or_default().to_vec()).expect("text")
    };
    assert_eq!(header(headers::EVENT_TYPE), "WorkItemCreated");
    assert_eq!(header(headers::EVENT_SOURCE), APPLICATION);
    assert_eq!(header(headers::CORRELATION_ID), Uuid::from_u128(7).to_string());
    assert_eq!(header(headers::EVENT_VERSION), "1.0");
}

#[test]
fn an_analysis_that_never_comes_is_asked_for_again_by_timers_that_survive_restart_and_move() {
    let mut bench = Bench::new();
    bench.assign();
    bench.wait(119_999);
    bench.0.restart().expect("it starts");
    assert_eq!(bench.saga().attempt, 1);
    bench.wait(1);
    bench.0.move_task().expect("it starts");
    bench.wait(999);
    assert!(bench.names(&AGENT_TASKS_MANAGER).is_empty(), "the backoff is a second");
    bench.wait(1);
    assert_eq!(bench.names(&AGENT_TASKS_MANAGER), ["TaskAssigned"]);
    assert_eq!(bench.saga().attempt, 2);
    bench.wait(120_000);
    bench.wait(2_000);
    bench.wait(120_000);
    let saga = bench.saga();
    assert_eq!(saga.state, crate::saga::SagaState::Failed);
    assert_eq!(saga.error.as_deref(), Some("analyse timed out"));
    let told = bench.names(&SESSION_EVENTS);
    assert_eq!(told[told.len() - 2..], ["TaskStatusUpdated", "TaskErrorOccurred"]);
}

#[test]
fn a_long_sleep_of_the_process_is_one_missed_deadline_and_not_all_of_them() {
    let mut bench = Bench::new();
    bench.assign();
    bench.wait(10 * 3_600_000);
    assert_eq!((bench.saga().attempt, bench.saga().state), (1, crate::saga::SagaState::Running));
    bench.wait(1_000);
    assert_eq!(bench.names(&AGENT_TASKS_MANAGER), ["TaskAssigned"]);
}

#[test]
fn a_finished_saga_leaves_no_row_and_no_timer_a_day_later() {
    let mut bench = Bench::new();
    bench.assign();
    bench.say("TaskAnalyzed", json!({"taskId": "t", "workItems": [], "estimatedDuration": 0}));
    bench.wait(86_399_999);
    assert_eq!(bench.0.rows(STORE).len(), 1);
    bench.wait(1);
    for store in [STORE, INDEX_STORE] {
        assert!(bench.0.rows(store).is_empty(), "{store}");
    }
    bench.say("TaskReviewed", json!({"taskId": "t", "review": {"approved": true}}));
    assert!(bench.0.rows(STORE).is_empty(), "a late reply begins nothing");
}

#[test]
fn a_record_under_another_sessions_key_is_a_dead_letter() {
    let mut bench = Bench::new();
    let data = json!({"taskId": "t", "description": "d"});
    bench.raw("another", "TaskAssigned", &document("s", "TaskAssigned", &data, None));
    let letters = bench.0.take(&AGENT_TASKS_MANAGER.dead_letters().name);
    assert_eq!(letters.len(), 1);
    let why = letters[0].headers.last(headers::ERROR_MESSAGE).and_then(|h| h.value.clone());
    let why = String::from_utf8(why.expect("a reason").to_vec()).expect("text");
    assert!(why.contains("key must be its session"), "{why}");
    assert!(bench.0.rows(STORE).is_empty());
}

#[test]
fn rubbish_and_unknown_types_stop_nothing() {
    let mut bench = Bench::new();
    bench.raw("s", "TaskAssigned", &json!({"eventType": "TaskAssigned"}));
    bench.raw("s", "TaskAssigned", &document("s", "SessionArchived", &json!({}), None));
    bench.raw("s", "TaskAnalyzed", &document("s", "TaskAnalyzed", &json!({"taskId": 5}), None));
    bench.assign();
    assert_eq!(bench.saga().saga_id, "t");
    assert_eq!(bench.0.take(&AGENT_TASKS_MANAGER.dead_letters().name).len(), 1);
    assert_eq!(bench.0.take(&AGENT_RESPONSES.dead_letters().name).len(), 1);
}

#[test]
fn tasks_of_one_id_in_two_sessions_are_two_sagas() {
    let mut bench = Bench::new();
    bench.assign();
    let data = json!({"taskId": "t", "description": "d"});
    bench.raw("r", "TaskAssigned", &document("r", "TaskAssigned", &data, None));
    assert_eq!(bench.0.rows(STORE).len(), 2);
}

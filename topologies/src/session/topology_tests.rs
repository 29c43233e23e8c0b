//! Both topologies on the test driver: from a command's bytes to the rows that queries read.

use headwater::dsl::StreamsBuilder;
use headwater::record::Headers;
use headwater::testing::{TestRecord, TopologyTestDriver};
use headwater_schemas::headers;
use headwater_schemas::topics::{API_RESPONSES, SESSION_COMMANDS, SESSION_EVENTS};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;

type Raw = TestRecord<Option<Vec<u8>>, Option<Vec<u8>>>;

fn driver(topology: fn(&StreamsBuilder)) -> TopologyTestDriver {
    let builder = StreamsBuilder::new();
    topology(&builder);
    let topology = builder.build().expect("the topology has no mistakes");
    TopologyTestDriver::new(&topology).expect("it starts")
}

/// The writing side, whose events the reading side reads.
struct Bench {
    aggregate: TopologyTestDriver,
    projection: TopologyTestDriver,
    sent: u128,
}

impl Bench {
    fn new() -> Self {
        let (aggregate, projection) = (driver(aggregate_topology), driver(projection_topology));
        Self { aggregate, projection, sent: 0 }
    }

    fn raw(&mut self, key: &str, value: &[u8], time: i64) {
        let (key, headers) = (Some(key.as_bytes()), Headers::empty());
        let piped = self.aggregate.pipe(&SESSION_COMMANDS.name, key, Some(value), time, headers);
        piped.expect("a bad command does not stop the topology");
    }

    /// Sends a command to a session; its answer.
    fn send(&mut self, session: &str, command_type: &str, payload: Value) -> Value {
        self.sent += 1;
        let id = Uuid::from_u128(self.sent);
        let time = i64::try_from(self.sent).expect("few");
        let document = json!({"id": id, "type": command_type, "aggregateId": session, "payload": payload,
            "metadata": {"correlationId": id, "timestamp": time}});
        self.raw(session, document.to_string().as_bytes(), time);
        let answers = self.answers();
        assert_eq!(answers.len(), 1, "one answer to one command");
        answers[0].clone()
    }

    fn answers(&mut self) -> Vec<Value> {
        let records = self.aggregate.take(&API_RESPONSES.name);
        records
            .iter()
            .map(|record| {
                let value: Value =
                    serde_json::from_slice(record.value.as_deref().expect("an answer"))
                        .expect("json");
                let key = record.key.as_deref().map(String::from_utf8_lossy);
                assert_eq!(key.as_deref(), value["correlationId"].as_str());
                value
            })
            .collect()
    }

    /// Events that the writing side told since the last call; the reading side has read them.
    fn told(&mut self) -> Vec<Raw> {
        let told = self.aggregate.take(&SESSION_EVENTS.name);
        for record in &told {
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            let piped = self.projection.pipe(
                &SESSION_EVENTS.name,
                key,
                value,
                record.timestamp,
                &record.headers,
            );
            piped.expect("an event of ours can be read");
        }
        told
    }

    fn rows(&self, store: &str) -> Vec<(String, Value)> {
        let driver = if [STORE, BY_START_STORE, BY_USER_STORE, items::STORE].contains(&store) {
            &self.projection
        } else {
            &self.aggregate
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let rows = driver.rows(store);
        rows.iter()
            .map(|row| {
                let value =
                    serde_json::from_slice(&row.value).unwrap_or_else(|_| json!(text(&row.value)));
                (text(&row.key), value)
            })
            .collect()
    }
}

fn started() -> Value {
    json!({"userId": "u", "taskDescription": "d"})
}

#[test]
fn a_command_becomes_an_event_an_answer_and_a_row_that_can_be_asked() {
    let mut bench = Bench::new();
    let answer = bench.send("s", "StartSession", started());
    assert_eq!((&answer["status"], &answer["body"]["version"]), (&json!(200), &json!(1)));
    let told = bench.told();
    let header = |name| told[0].headers.last(name).and_then(|header| header.value.clone());
    assert_eq!(header(headers::EVENT_TYPE).as_deref(), Some(&b"SessionStarted"[..]));
    assert_eq!(header(headers::SEQUENCE_NUMBER).as_deref(), Some(&b"1"[..]));
    assert_eq!(told[0].key.as_deref(), Some(&b"s"[..]));
    let rows = bench.rows(STORE);
    assert_eq!((rows[0].0.as_str(), &rows[0].1["status"]), ("s", &json!("active")));
    assert_eq!(bench.rows(LOG_STORE)[0].0, log_key("s", 1));
}

#[test]
fn a_refused_command_is_answered_and_tells_nothing() {
    let mut bench = Bench::new();
    let answer =
        bench.send("s", "AssignTaskToAgent", json!({"taskId": "t", "agentType": "worker"}));
    assert_eq!((&answer["status"], &answer["body"]["code"]), (&json!(404), &json!("NOT_FOUND")));
    let answer = bench.send("s", "StartSession", json!({"userId": "u"}));
    assert_eq!((&answer["status"], &answer["body"]["code"]), (&json!(400), &json!("VALIDATION")));
    let message = answer["body"]["message"].as_str().expect("a message");
    assert!(message.contains("$.payload.taskDescription is missing"), "{message}");
    let answer = bench.send("s", "Archive", json!({}));
    assert_eq!(answer["body"]["code"], json!("UNKNOWN_COMMAND"));
    assert!(bench.told().is_empty());
}

#[test]
fn a_command_under_another_sessions_key_is_refused() {
    let mut bench = Bench::new();
    let id = Uuid::from_u128(1);
    let document = json!({"id": id, "type": "StartSession", "aggregateId": "s", "payload": started(),
                          "metadata": {"correlationId": id, "timestamp": 1}});
    bench.raw("another", document.to_string().as_bytes(), 1);
    assert_eq!(bench.answers()[0]["body"]["code"], json!("VALIDATION"));
    assert!(bench.rows(AGGREGATE_STORE).is_empty());
}

#[test]
fn a_command_that_does_not_say_whom_to_answer_is_a_dead_letter() {
    let mut bench = Bench::new();
    bench.raw("s", b"{\"type\": \"StartSession\"}", 1);
    bench.raw("s", b"not json", 2);
    let letters = bench.aggregate.take(&SESSION_COMMANDS.dead_letters().name);
    assert_eq!(letters.len(), 2);
    assert!(bench.answers().is_empty());
}

#[test]
fn the_last_task_of_a_workflow_ends_the_session_and_its_row_leaves_the_active_ones() {
    let mut bench = Bench::new();
    bench.send("s", "StartSession", started());
    bench.send("s", "AssignTaskToAgent", json!({"taskId": "t", "agentType": "manager"}));
    bench.told();
    assert_eq!(bench.rows(BY_USER_STORE), [(user_key("u", "s"), json!("s"))]);
    let id = Uuid::from_u128(77);
    let fact = json!({"eventId": id, "eventType": "TaskStatusUpdated", "aggregateId": "t",
        "aggregateType": "Task", "eventData": {"taskId": "t", "status": "FAILED"},
        "metadata": {"timestamp": 50, "version": "1.0", "correlationId": id, "sessionId": "s"}});
    let fact = fact.to_string();
    let (key, value) = (Some(&b"s"[..]), Some(fact.as_bytes()));
    for driver in [&mut bench.aggregate, &mut bench.projection] {
        driver.pipe(&SESSION_EVENTS.name, key, value, 50, Headers::empty()).expect("an event");
    }
    let told = bench.told();
    assert_eq!(told.len(), 1, "the driver does not feed the topology its own output");
    let rows = bench.rows(STORE);
    assert_eq!((&rows[0].1["status"], &rows[0].1["completedTasks"]), (&json!("failed"), &json!(1)));
    assert!(bench.rows(BY_USER_STORE).is_empty());
    assert_eq!(bench.rows(BY_START_STORE), [(start_key(1, "s"), json!("s"))]);
}

#[test]
fn work_items_have_rows_and_those_a_failed_task_leaves_behind_have_failed() {
    let mut bench = Bench::new();
    let mut tell = |number: u128, kind: &str, data: Value| {
        let id = Uuid::from_u128(number);
        let fact = json!({"eventId": id, "eventType": kind, "aggregateId": "t",
            "aggregateType": "Task", "eventData": data,
            "metadata": {"timestamp": 50, "version": "1.0", "correlationId": id,
                         "sessionId": "s"}});
        let fact = fact.to_string();
        let (key, value) = (Some(&b"s"[..]), Some(fact.as_bytes()));
        let piped = bench.projection.pipe(&SESSION_EVENTS.name, key, value, 50, Headers::empty());
        piped.expect("an event");
    };
    for (number, item) in [(1, "a"), (2, "b")] {
        let data = json!({"id": item, "description": "d", "type": "testing", "taskId": "t",
            "sessionId": "s", "attempt": 1});
        tell(number, "WorkItemCreated", data);
    }
    let done = json!({"workItemId": "a", "taskId": "t", "sessionId": "s", "completedAt": 60,
        "result": {"success": true, "output": "o"}, "executionTime": 7, "attempt": 1});
    tell(3, "WorkItemCompleted", done);
    tell(4, "TaskStatusUpdated", json!({"taskId": "t", "status": "FAILED"}));
    let rows = bench.rows(items::STORE);
    let told: Vec<_> = rows.iter().map(|(key, row)| (&**key, row["status"].clone())).collect();
    assert_eq!(told, [("a/s/t", json!("completed")), ("b/s/t", json!("failed"))]);
    assert_eq!((&rows[0].1["executionTime"], &rows[0].1["type"]), (&json!(7), &json!("testing")));
}

#[test]
fn every_hundredth_event_leaves_a_snapshot() {
    let mut bench = Bench::new();
    bench.send("s", "StartSession", started());
    for number in 0..100 {
        let task = json!({"taskId": format!("t{number}"), "agentType": "worker"});
        bench.send("s", "AssignTaskToAgent", task);
    }
    let rows = bench.rows(SNAPSHOT_STORE);
    assert_eq!((rows.len(), &rows[0].1["version"]), (1, &json!(100)));
    assert_eq!(bench.rows(LOG_STORE).len(), 101);
}

#[test]
fn one_users_rows_do_not_mix_with_those_of_a_user_whose_name_goes_on() {
    assert!(!user_key("a/b", "s").starts_with(&user_key("a", "")));
    assert!(start_key(9, "z") < start_key(10, "a"));
    assert!(log_key("s", 9) < log_key("s", 10));
}

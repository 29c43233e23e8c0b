//! The manager on the test driver: what it keeps, and what commands do to it.

use std::time::Duration;

use headwater::dsl::StreamsBuilder;
use headwater::record::Headers;
use headwater::testing::TopologyTestDriver;
use headwater_schemas::headers;
use headwater_schemas::topics::{
    API_RESPONSES, DLQ_COMMANDS, MONITORING_EVENTS, SESSION_COMMANDS, TASK_COMPLETED,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::manager::{DeadLetterMessage, LETTERS, QUEUES, letter_id, wire};
use super::policy::Policy;
use super::record::{header, with};

const QUEUE: &str = "task.completed";

struct Bench {
    driver: TopologyTestDriver,
    sent: u128,
}

impl Bench {
    fn new() -> Self {
        let b = StreamsBuilder::new();
        // What fails in `session.commands` has nowhere to go back to.
        wire(&b, &[&TASK_COMPLETED, &SESSION_COMMANDS], &[&*TASK_COMPLETED.name]);
        let topology = b.build().expect("it is sound");
        Self { driver: TopologyTestDriver::new(&topology).expect("it starts"), sent: 0 }
    }

    fn die(&mut self, queue: &str, value: &str, failed_at: i64) {
        let said = [
            (headers::ORIGINAL_TOPIC, queue.to_owned()),
            (headers::ERROR_MESSAGE, "VALIDATION: no".to_owned()),
            (headers::FINAL_RETRY_COUNT, "5".to_owned()),
            (headers::DLQ_TIMESTAMP, failed_at.to_string()),
            ("trace", "7".to_owned()),
        ];
        let all = with(Headers::empty(), &said);
        let topic = format!("{queue}.dlq");
        let piped = self.driver.pipe(&topic, Some(b"k"), Some(value.as_bytes()), 5, &all);
        piped.expect("it is kept");
    }

    /// Sends a command; the status and body of its one answer.
    fn command(&mut self, queue: &str, kind: &str, payload: Value) -> (i64, Value) {
        self.sent += 1;
        let id = Uuid::from_u128(self.sent);
        let document = json!({"id": id, "type": kind, "aggregateId": queue, "payload": payload,
            "metadata": {"correlationId": id}});
        self.raw(queue, &document.to_string());
        let answers = self.driver.take(&API_RESPONSES.name);
        assert_eq!(answers.len(), 1, "one answer to one command");
        let answer = answers[0].value.as_deref().expect("an answer");
        let answer: Value = serde_json::from_slice(answer).expect("json");
        assert_eq!(answer["correlationId"], json!(id));
        (answer["status"].as_i64().expect("a status"), answer["body"].clone())
    }

    fn raw(&mut self, key: &str, value: &str) {
        let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
        let piped = self.driver.pipe(&DLQ_COMMANDS.name, key, value, 5, Headers::empty());
        piped.expect("a bad command does not stop the topology");
    }

    fn letters(&self) -> Vec<DeadLetterMessage> {
        let rows = self.driver.rows(LETTERS);
        rows.iter().map(|row| serde_json::from_slice(&row.value).expect("its own")).collect()
    }

    fn size(&self, queue: &str) -> Value {
        let rows = self.driver.rows(QUEUES);
        let row = rows.iter().find(|row| row.key == queue.as_bytes()).expect("a queue");
        serde_json::from_slice::<Value>(&row.value).expect("json")["size"].clone()
    }

    fn sent_back(&mut self) -> Vec<String> {
        let text =
            |value: Option<Vec<u8>>| String::from_utf8(value.expect("a value")).expect("text");
        self.driver.take(QUEUE).into_iter().map(|record| text(record.value)).collect()
    }
}

#[test]
fn a_dead_letter_is_kept_with_all_that_is_known_of_it() {
    let mut bench = Bench::new();
    bench.driver.advance_wall_clock(Duration::from_millis(50)).expect("it runs");
    bench.die(QUEUE, "v", 40);
    let letters = bench.letters();
    let [letter] = &letters[..] else { panic!("one letter: {letters:?}") };
    assert_eq!(letter.id, letter_id(QUEUE, 50, 0, 0));
    assert_eq!((&*letter.original_queue, &*letter.error), (QUEUE, "VALIDATION: no"));
    assert_eq!((letter.failed_at, letter.retry_count, letter.last_retry_at), (40, 5, None));
    assert_eq!(letter.original_message.raw_value().as_deref(), Some(&b"v"[..]));
    assert_eq!(bench.size(QUEUE), 1);
}

#[test]
fn a_retried_letter_goes_back_as_it_was_and_is_kept_no_longer() {
    let mut bench = Bench::new();
    bench.die(QUEUE, "one", 0);
    bench.die(QUEUE, "two", 0);
    let id = bench.letters()[0].id.clone();
    let answer = bench.command(QUEUE, "RetryDeadLetter", json!({"messageId": id}));
    assert_eq!(answer, (200, json!({"messageId": id})));
    let back = bench.driver.take(QUEUE);
    assert_eq!((back.len(), back[0].timestamp), (1, 5));
    assert_eq!(
        (back[0].key.as_deref(), back[0].value.as_deref()),
        (Some(&b"k"[..]), Some(&b"one"[..]))
    );
    assert_eq!(back[0].headers.len(), 1, "what was said of the failure is gone");
    assert_eq!(header(&back[0].headers, "trace").as_deref(), Some("7"));
    assert_eq!((bench.letters().len(), bench.size(QUEUE)), (1, json!(1)));
}

#[test]
fn an_unknown_letter_and_one_of_another_queue_are_refused() {
    let mut bench = Bench::new();
    bench.die(QUEUE, "v", 0);
    let id = bench.letters()[0].id.clone();
    for (queue, id) in [(QUEUE, "nobody"), (&*SESSION_COMMANDS.name, &*id)] {
        let (status, body) = bench.command(queue, "RetryDeadLetter", json!({"messageId": id}));
        assert_eq!(status, 404);
        assert!(body["error"].as_str().is_some_and(|e| e.contains("has no dead letter")), "{body}");
    }
    assert_eq!(bench.letters().len(), 1);
}

#[test]
fn a_letter_that_its_topic_does_not_take_stays_with_one_retry_more() {
    let mut bench = Bench::new();
    let queue = &*SESSION_COMMANDS.name;
    bench.die(queue, "v", 0);
    bench.driver.advance_wall_clock(Duration::from_millis(70)).expect("it runs");
    let id = bench.letters()[0].id.clone();
    let (status, body) = bench.command(queue, "RetryDeadLetter", json!({"messageId": id}));
    assert_eq!((status, body["messageId"].as_str()), (500, Some(&*id)));
    let letter = bench.letters().remove(0);
    assert_eq!((letter.retry_count, letter.last_retry_at), (6, Some(70)));
    let answer = bench.command(queue, "RetryDeadLetters", json!({}));
    assert_eq!(answer, (200, json!({"success": 0, "failed": 1})));
}

#[test]
fn retry_all_sends_a_whole_queue_back_in_order_and_in_parts_and_no_other() {
    let mut bench = Bench::new();
    for number in 0..120 {
        bench.die(QUEUE, &format!("{number:03}"), 0);
    }
    bench.die(&SESSION_COMMANDS.name, "other", 0);
    let answer = bench.command(QUEUE, "RetryDeadLetters", json!({}));
    assert_eq!(answer, (200, json!({"success": 120, "failed": 0})));
    assert_eq!(bench.sent_back(), (0..120).map(|n| format!("{n:03}")).collect::<Vec<_>>());
    assert_eq!((bench.letters().len(), bench.size(QUEUE)), (1, json!(0)));
    assert!(bench.driver.rows("dead-letter-runs").is_empty());
    let answer = bench.command(QUEUE, "RetryDeadLetters", json!({}));
    assert_eq!(answer, (200, json!({"success": 0, "failed": 0})), "an empty queue");
}

#[test]
fn a_purge_deletes_what_failed_before_a_time_or_everything() {
    let mut bench = Bench::new();
    for failed_at in [10, 20, 30, 40] {
        bench.die(QUEUE, "v", failed_at);
    }
    let purge = |bench: &mut Bench, payload| bench.command(QUEUE, "PurgeDeadLetters", payload);
    assert_eq!(purge(&mut bench, json!({"olderThan": 20})), (200, json!({"deleted": 1})));
    let iso = json!({"olderThan": "1970-01-01T00:00:00.031Z"});
    assert_eq!(purge(&mut bench, iso), (200, json!({"deleted": 2})));
    assert_eq!(bench.size(QUEUE), 1);
    assert_eq!(purge(&mut bench, json!({})), (200, json!({"deleted": 1})));
    assert!(bench.letters().is_empty() && bench.sent_back().is_empty());
}

#[test]
fn a_command_that_makes_no_sense_is_answered_with_why() {
    let mut bench = Bench::new();
    for (kind, payload, why) in [
        ("Archive", json!({}), "there is no command \"Archive\""),
        ("RetryDeadLetter", json!({}), "payload.messageId is missing"),
        ("PurgeDeadLetters", json!({"olderThan": "soon"}), "payload.olderThan is no time"),
        ("PurgeDeadLetters", json!({"olderThan": -1}), "payload.olderThan is no time"),
        ("RetryDeadLetter", json!({"messageId": 7}), "invalid type"),
    ] {
        let (status, body) = bench.command(QUEUE, kind, payload);
        assert_eq!(status, 400);
        assert!(body["error"].as_str().is_some_and(|e| e.contains(why)), "{body}");
    }
    let id = Uuid::from_u128(99);
    bench.raw(
        "another",
        &json!({"id": id, "type": "RetryDeadLetters", "aggregateId": QUEUE,
        "metadata": {"correlationId": id}})
        .to_string(),
    );
    assert_eq!(bench.driver.take(&API_RESPONSES.name).len(), 1, "the key must be the queue");
    bench.raw(QUEUE, "{}");
    bench.raw(QUEUE, "no json");
    assert_eq!(
        bench.driver.take(&format!("{}.dlq", DLQ_COMMANDS.name)).len(),
        2,
        "nobody to answer"
    );
}

#[test]
fn a_queue_of_more_than_a_hundred_is_told_once_in_five_minutes() {
    let mut bench = Bench::new();
    for _ in 0..100 {
        bench.die(QUEUE, "v", 0);
    }
    assert_eq!(bench.driver.take(&MONITORING_EVENTS.name), []);
    bench.die(QUEUE, "v", 0);
    bench.die(QUEUE, "v", 0);
    let told = bench.driver.take(&MONITORING_EVENTS.name);
    assert_eq!(told.len(), 1);
    let event: Value =
        serde_json::from_slice(told[0].value.as_deref().expect("a value")).expect("json");
    assert_eq!(
        (&event["eventType"], &event["eventData"]["count"]),
        (&json!("DlqSizeWarning"), &json!(101))
    );
    bench.driver.advance_wall_clock(Duration::from_secs(300)).expect("it runs");
    bench.die(QUEUE, "v", 0);
    assert_eq!(bench.driver.take(&MONITORING_EVENTS.name).len(), 1, "again");
}

#[test]
fn letters_and_commands_under_way_survive_a_restart_and_a_move() {
    let mut bench = Bench::new();
    bench.die(QUEUE, "one", 0);
    bench.driver.restart().expect("it goes on");
    bench.die(QUEUE, "two", 0);
    bench.driver.move_task().expect("it goes on");
    let answer = bench.command(QUEUE, "RetryDeadLetters", json!({}));
    assert_eq!(answer, (200, json!({"success": 2, "failed": 0})));
    assert_eq!(bench.sent_back(), ["one", "two"]);
}

#[test]
fn the_platforms_topologies_for_failed_records_are_sound() {
    for application in
        [super::retry_application(&super::TOPICS, Policy::default()), super::manager_application()]
    {
        let b = StreamsBuilder::new();
        (application.topology)(&b);
        let topology = b.build().unwrap_or_else(|error| panic!("{}: {error}", application.id));
        TopologyTestDriver::new(&topology).expect("it starts");
    }
}

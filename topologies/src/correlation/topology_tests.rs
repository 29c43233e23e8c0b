//! The tracker on the test driver: from events on many topics to the trace of a request.

use std::time::Duration;

use headwater::dsl::StreamsBuilder;
use headwater::record::Headers;
use headwater::testing::TopologyTestDriver;
use headwater_schemas::envelope::EventTime;
use headwater_schemas::topics::{AGENT_RESPONSES, QUALITY_GATES, SESSION_EVENTS, Topic};
use serde_json::{Value, json};
use uuid::Uuid;

use super::route::causes;
use super::{Correlation, EVENT_STORE, EVENTS_MAX, KEPT_MS, STORE, Seen, Status, topology};

struct Bench(TopologyTestDriver);

impl Bench {
    fn new() -> Self {
        let b = StreamsBuilder::new();
        topology(&b);
        Self(TopologyTestDriver::new(&b.build().expect("it is sound")).expect("it starts"))
    }

    /// An event of request 9.
    fn tell(&mut self, topic: &Topic, id: u128, cause: Option<u128>, kind: &str, data: Value) {
        let event = json!({"eventId": Uuid::from_u128(id), "eventType": kind, "aggregateId": "a",
            "aggregateType": "Task", "eventData": data,
            "metadata": {"timestamp": 10_000 - i64::try_from(id).expect("small"), "version": "1.0",
                "sessionId": "s", "correlationId": Uuid::from_u128(9),
                "causationId": cause.map(Uuid::from_u128)}});
        self.raw(topic, event.to_string().as_bytes());
    }

    fn raw(&mut self, topic: &Topic, value: &[u8]) {
        let piped = self.0.pipe(&topic.name, Some(b"s"), Some(value), 1, Headers::empty());
        piped.expect("it goes on");
    }

    fn status(&mut self, id: u128, status: &str) {
        let data = json!({"taskId": "t", "status": status});
        self.tell(&SESSION_EVENTS, id, None, "TaskStatusUpdated", data);
    }

    fn request(&self) -> Option<Correlation> {
        let rows = self.0.rows(STORE);
        rows.first().map(|row| serde_json::from_slice(&row.value).expect("its own"))
    }

    fn events(&self) -> Vec<Seen> {
        let rows = self.0.rows(EVENT_STORE);
        let read = |value: &[u8]| serde_json::from_slice::<Seen>(value).expect("its own");
        let mut events: Vec<Seen> = rows.iter().map(|row| read(&row.value)).collect();
        events.sort_by_key(|seen| seen.number);
        events
    }
}

#[test]
fn events_of_all_topics_come_together_under_their_request() {
    let mut bench = Bench::new();
    bench.tell(&AGENT_RESPONSES, 1, None, "Anything", json!({}));
    bench.tell(&QUALITY_GATES, 2, Some(1), "Other", json!({}));
    bench.0.restart().expect("it goes on");
    bench.tell(&SESSION_EVENTS, 3, Some(2), "Third", json!({}));
    let request = bench.request().expect("it is known");
    assert_eq!((request.events, request.status, request.beyond), (3, Status::Open, 0));
    assert_eq!(request.session_id.as_deref(), Some("s"));
    let at = |ms| EventTime::from_millis(ms).expect("in range");
    assert_eq!((request.first_at, request.last_at), (at(9_997), at(9_999)));
    let topics: Vec<_> = bench.events().into_iter().map(|seen| seen.topic).collect();
    assert_eq!(topics, ["agent.responses", "quality.gates", "session.events"]);
}

#[test]
fn an_event_that_comes_again_or_is_copied_is_there_once() {
    let mut bench = Bench::new();
    for topic in [&AGENT_RESPONSES, &AGENT_RESPONSES, &SESSION_EVENTS] {
        bench.tell(topic, 1, None, "Anything", json!({}));
    }
    let events = bench.events();
    assert_eq!((events.len(), &*events[0].topic), (1, "agent.responses"));
    assert_eq!(bench.request().expect("it is known").events, 1);
}

#[test]
fn the_end_of_a_task_is_the_end_of_its_request_and_a_failure_stays() {
    let mut bench = Bench::new();
    for (id, said, expected) in [
        (1, "IN_PROGRESS", Status::Open),
        (2, "COMPLETED", Status::Completed),
        (3, "IN_REVIEW", Status::Completed),
        (4, "CANCELLED", Status::Failed),
        (5, "COMPLETED", Status::Failed),
    ] {
        bench.status(id, said);
        assert_eq!(bench.request().expect("it is known").status, expected, "{said}");
    }
}

#[test]
fn events_beyond_a_thousand_are_counted_and_not_kept() {
    let mut bench = Bench::new();
    for id in 0..EVENTS_MAX + 5 {
        bench.tell(&SESSION_EVENTS, u128::from(id) + 1, None, "Anything", json!({}));
    }
    let request = bench.request().expect("it is known");
    assert_eq!((request.events, request.beyond), (EVENTS_MAX, 5));
    assert_eq!(bench.events().len(), 1_000);
}

#[test]
fn what_cannot_be_read_is_passed_over() {
    let mut bench = Bench::new();
    for value in [&b"{"[..], b"", &[0xff], b"{\"eventId\": 3}"] {
        bench.raw(&SESSION_EVENTS, value);
    }
    assert_eq!(bench.request(), None);
    assert!(bench.0.take(&SESSION_EVENTS.dead_letters().name).is_empty());
}

#[test]
fn a_request_is_forgotten_a_day_after_its_last_event_however_many_it_has() {
    let mut bench = Bench::new();
    let wait = |bench: &mut Bench, ms: i64| {
        let time = Duration::from_millis(u64::try_from(ms).expect("positive"));
        bench.0.advance_wall_clock(time).expect("it runs");
    };
    for id in 1..=250 {
        bench.tell(&SESSION_EVENTS, id, None, "Anything", json!({}));
    }
    wait(&mut bench, KEPT_MS - 1);
    bench.tell(&SESSION_EVENTS, 251, None, "Anything", json!({}));
    wait(&mut bench, KEPT_MS - 1);
    assert_eq!((bench.request().is_some(), bench.events().len()), (true, 251));
    wait(&mut bench, 1);
    wait(&mut bench, 1);
    assert_eq!((bench.request(), bench.events().len()), (None, 0));
    assert!(bench.0.rows("correlation-ends").is_empty());
}

#[test]
fn causes_are_a_tree_from_the_roots_down_and_circles_end() {
    let seen = |id: u128, cause: Option<u128>| Seen {
        event_id: Uuid::from_u128(id),
        event_type: id.to_string(),
        causation_id: cause.map(Uuid::from_u128),
        session_id: None,
        topic: "t".to_owned(),
        timestamp: EventTime::MAX,
        says: Status::Open,
        number: 0,
    };
    let events = [
        seen(1, Some(77)),
        seen(2, Some(1)),
        seen(3, Some(1)),
        seen(4, Some(2)),
        seen(5, Some(6)),
        seen(6, Some(5)),
        seen(7, Some(7)),
    ];
    let lines: Vec<_> = causes(&events)
        .iter()
        .map(|line| (line["depth"].as_u64().unwrap_or(99), line["eventType"].clone()))
        .collect();
    let expected = [(0, "1"), (1, "2"), (2, "4"), (1, "3"), (0, "5"), (1, "6"), (0, "7")];
    assert_eq!(lines, expected.map(|(depth, kind)| (depth, json!(kind))));
}

//! The error handler on the test driver: what becomes of records whose handler fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use headwater::dsl::{Produced, StreamsBuilder};
use headwater::record::Headers;
use headwater::serde::serdes::string;
use headwater::testing::{TestBytes, TopologyTestDriver};
use headwater_schemas::headers;
use headwater_schemas::topics::{MONITORING_EVENTS, QUALITY_GATES, TASK_COMPLETED};
use serde_json::Value;

use super::guard::{Guard, guard};
use super::policy::HandlerError;
use super::record::{header, with};

const TOPIC: &str = "task.completed";
const RETRY: &str = "task.completed.retry";
const DEAD: &str = "task.completed.dlq";

/// A service that is down until it is brought up, and what it was asked.
#[derive(Default)]
struct Service {
    up: AtomicBool,
    calls: AtomicUsize,
}

struct Bench {
    driver: TopologyTestDriver,
    service: Arc<Service>,
}

impl Bench {
    /// Values `ok` are handled, `bad` ones never, `panic` panics, others when the service is up.
    fn new(in_order: bool) -> Self {
        let service = Arc::new(Service::default());
        let asked = Arc::clone(&service);
        let b = StreamsBuilder::new();
        let guarded = Guard::new("handle", &TASK_COMPLETED, string(), string());
        let guarded = if in_order { guarded.in_order() } else { guarded };
        guard(&b, guarded, move |_: &String, value: &String, _| {
            asked.calls.fetch_add(1, Ordering::SeqCst);
            match &**value {
                "ok" => Ok(vec![value.clone()]),
                "bad" => Err(HandlerError::new("VALIDATION", "no such thing")),
                "panic" => panic!("a handler's mistake"),
                _ if asked.up.load(Ordering::SeqCst) => Ok(vec![value.clone(), "and more".into()]),
                _ => Err(HandlerError::new("REQUEST_TIMEOUT", "the service is down")),
            }
        })
        .to("handled", Produced::with(string(), string()));
        let topology = b.build().expect("it is sound");
        Self { driver: TopologyTestDriver::new(&topology).expect("it starts"), service }
    }

    fn pipe(&mut self, key: &str, value: &str) {
        self.pipe_with(Some(key.as_bytes()), value, Headers::empty());
    }

    fn pipe_with(&mut self, key: Option<&[u8]>, value: &str, headers: &Headers) {
        let piped = self.driver.pipe(TOPIC, key, Some(value.as_bytes()), 5, headers);
        piped.expect("a failure does not stop the topology");
    }

    fn advance(&mut self, ms: u64) {
        self.driver.advance_wall_clock(Duration::from_millis(ms)).expect("it runs");
    }

    /// `key value`
    fn seen(&mut self, topic: &str) -> Vec<String> {
        let text = |bytes: &Option<Vec<u8>>| {
            String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned()
        };
        let line = |r: TestBytes| format!("{} {}", text(&r.key), text(&r.value));
        self.driver.take(topic).into_iter().map(line).collect()
    }
}

#[test]
fn a_failure_that_may_pass_sends_the_record_to_the_retry_topic_with_its_headers() {
    let mut bench = Bench::new(false);
    bench.advance(10_000);
    for (said, delay) in
        [(None, 1_000), (Some("1"), 2_000), (Some("4"), 16_000), (Some("9"), 60_000)]
    {
        let count = said.map(|n| (headers::RETRY_COUNT, n.to_owned()));
        let all = with(Headers::empty(), &Vec::from_iter(count));
        let all = with(&all, &[("trace", "7".to_owned())]);
        bench.pipe_with(Some(b"k"), "try", &all);
        let retry = bench.driver.take(RETRY);
        let of = |name: &str| header(&retry[0].headers, name).unwrap_or_default();
        let count = said.map_or(0, |n| n.parse::<u32>().expect("a number")) + 1;
        assert_eq!(
            (retry[0].key.as_deref(), retry[0].value.as_deref()),
            (Some(&b"k"[..]), Some(&b"try"[..]))
        );
        assert_eq!(of(headers::RETRY_COUNT), count.to_string());
        assert_eq!(of(headers::ORIGINAL_TOPIC), TOPIC);
        assert_eq!(of(headers::ERROR_MESSAGE), "REQUEST_TIMEOUT: the service is down");
        assert_eq!(of(headers::RETRY_AT), (10_000 + delay).to_string());
        assert_eq!(of("trace"), "7");
    }
    assert_eq!(bench.seen(DEAD), [""; 0]);
}

#[test]
fn a_failure_that_will_not_pass_makes_a_dead_letter_at_once() {
    for in_order in [false, true] {
        let mut bench = Bench::new(in_order);
        bench.advance(7);
        bench.pipe_with(
            Some(b"k"),
            "bad",
            &with(Headers::empty(), &[(headers::RETRY_COUNT, "2".into())]),
        );
        bench.pipe("k", "ok");
        let dead = bench.driver.take(DEAD);
        let of = |name: &str| header(&dead[0].headers, name).unwrap_or_default();
        assert_eq!((dead.len(), dead[0].value.as_deref()), (1, Some(&b"bad"[..])));
        assert_eq!(of(headers::ORIGINAL_TOPIC), TOPIC);
        assert_eq!(of(headers::ERROR_MESSAGE), "VALIDATION: no such thing");
        assert_eq!(
            (of(headers::FINAL_RETRY_COUNT), of(headers::DLQ_TIMESTAMP)),
            ("2".into(), "7".into())
        );
        assert_eq!((bench.seen("handled"), bench.seen(RETRY)), (vec!["k ok".into()], vec![]));
    }
}

#[test]
fn what_cannot_be_read_and_a_handler_that_panics_are_dead_letters_with_a_reason() {
    let mut bench = Bench::new(true);
    bench.pipe("k", "panic");
    let not_text = bench.driver.pipe(TOPIC, Some(b"k"), Some(&[0xff]), 5, Headers::empty());
    not_text.expect("it does not stop the topology");
    let dead = bench.driver.take(DEAD);
    let why: Vec<_> =
        dead.iter().filter_map(|r| header(&r.headers, headers::ERROR_MESSAGE)).collect();
    assert_eq!(why[0], "PANIC: the handler panicked");
    assert!(why[1].starts_with("DESERIALIZATION: value cannot be read"), "{}", why[1]);
}

#[test]
fn in_order_later_records_of_a_key_wait_behind_one_that_failed_and_others_do_not() {
    let mut bench = Bench::new(true);
    bench.pipe("a", "first");
    bench.pipe("a", "ok");
    bench.pipe("b", "ok");
    assert_eq!(bench.seen("handled"), ["b ok"]);
    assert_eq!(bench.seen(RETRY), [""; 0], "it waits here");
    bench.service.up.store(true, Ordering::SeqCst);
    bench.pipe("a", "third");
    bench.advance(999);
    assert_eq!(bench.seen("handled"), [""; 0]);
    bench.advance(1);
    let handled = ["a first", "a and more", "a ok", "a third", "a and more"];
    assert_eq!(bench.seen("handled"), handled);
    bench.pipe("a", "ok");
    assert_eq!(bench.seen("handled"), ["a ok"], "nothing waits any more");
}

#[test]
fn in_order_waits_double_and_after_the_last_retry_the_next_record_goes_on() {
    let mut bench = Bench::new(true);
    bench.pipe("a", "stuck");
    bench.pipe("a", "ok");
    for (tried, wait) in [(2, 1_000), (3, 2_000), (4, 4_000), (5, 8_000)] {
        bench.advance(wait - 1);
        assert_eq!(bench.service.calls.load(Ordering::SeqCst), tried - 1);
        bench.advance(1);
        assert_eq!(bench.service.calls.load(Ordering::SeqCst), tried, "after {wait} ms");
    }
    bench.advance(16_000);
    let dead = bench.driver.take(DEAD);
    let count = header(&dead[0].headers, headers::FINAL_RETRY_COUNT);
    assert_eq!((dead.len(), count.as_deref()), (1, Some("5")));
    assert_eq!(bench.seen("handled"), ["a ok"]);
    for store in ["handle-lines", "handle-waiting", "handle-retries"] {
        assert!(bench.driver.rows(store).is_empty(), "nothing is left in {store}");
    }
}

#[test]
fn in_order_what_waits_survives_restarts_and_moves_and_forged_counts() {
    let mut bench = Bench::new(true);
    let forged = with(Headers::empty(), &[(headers::RETRY_COUNT, "99".to_owned())]);
    bench.pipe_with(Some(b"a"), "first", &forged);
    bench.driver.restart().expect("it goes on");
    bench.pipe("a", "ok");
    bench.driver.move_task().expect("it goes on");
    bench.service.up.store(true, Ordering::SeqCst);
    bench.advance(1_000);
    assert_eq!(bench.seen("handled"), ["a first", "a and more", "a ok"]);
    assert_eq!(bench.seen(DEAD), [""; 0]);
}

#[test]
fn in_order_a_long_line_goes_on_in_parts_and_keeps_its_order() {
    let mut bench = Bench::new(true);
    for number in 0..200 {
        bench.pipe("a", &format!("{number}"));
    }
    bench.service.up.store(true, Ordering::SeqCst);
    bench.advance(1_000);
    let mut handled = bench.seen("handled");
    handled.retain(|line| line != "a and more");
    let expected: Vec<_> = (0..200).map(|number| format!("a {number}")).collect();
    assert_eq!(handled, expected);
}

#[test]
fn a_topic_of_which_more_than_a_tenth_fails_is_told_with_the_last_failure() {
    let mut bench = Bench::new(false);
    for number in 0..30 {
        bench.pipe("k", if number % 5 == 4 { "bad" } else { "ok" });
        if number == 9 {
            bench.advance(1_000);
        }
    }
    bench.driver.restart().expect("it goes on");
    bench.advance(1_000);
    bench.pipe("k", "bad");
    bench.advance(1_000);
    let told = bench.driver.take(&MONITORING_EVENTS.name);
    assert_eq!(told.len(), 1, "once, not at each failure");
    let event: Value =
        serde_json::from_slice(told[0].value.as_deref().expect("a value")).expect("json");
    assert_eq!(event["eventType"], "ErrorRateExceeded");
    assert_eq!(header(&told[0].headers, headers::EVENT_SOURCE).as_deref(), Some("handle"));
    assert_eq!(
        (&event["eventData"]["severity"], &event["eventData"]["percentage"]),
        (&"HIGH".into(), &20.into())
    );
    assert_eq!(event["eventData"]["topic"], TOPIC);
    let context = &event["eventData"]["context"];
    assert_eq!((&context["offset"], &context["key"]), (&29.into(), &"k".into()));
    assert_eq!(context["error"], "VALIDATION: no such thing");
}

#[test]
fn a_topic_whose_handler_fails_stops_no_other_and_may_have_dead_letters_of_its_own() {
    let b = StreamsBuilder::new();
    let fails = Guard::new("fails", &TASK_COMPLETED, string(), string());
    let works = Guard::new("works", &QUALITY_GATES, string(), string());
    guard(&b, fails.dead_letters_to("failed.user.events"), |_: &String, _: &String, _| {
        Err::<Vec<String>, _>(HandlerError::new("VALIDATION", "never"))
    })
    .to("handled", Produced::with(string(), string()));
    guard(&b, works, |_: &String, value: &String, _| Ok(vec![value.clone()]))
        .to("handled", Produced::with(string(), string()));
    let topology = b.build().expect("it is sound");
    let mut driver = TopologyTestDriver::new(&topology).expect("it starts");
    for topic in [TOPIC, &QUALITY_GATES.name, TOPIC, &QUALITY_GATES.name] {
        let piped = driver.pipe(topic, Some(b"k"), Some(b"v"), 5, Headers::empty());
        piped.expect("a failure does not stop the topology");
    }
    assert_eq!((driver.take("handled").len(), driver.take("failed.user.events").len()), (2, 2));
    assert_eq!(driver.take(DEAD), []);
}

#[test]
fn a_record_without_a_key_has_no_order_to_keep() {
    let mut bench = Bench::new(true);
    bench.pipe_with(None, "try", Headers::empty());
    let dead = bench.driver.take(DEAD);
    assert_eq!(dead.len(), 1, "a key that is no text cannot be handled");
    assert!(bench.driver.rows("handle-lines").is_empty());
}

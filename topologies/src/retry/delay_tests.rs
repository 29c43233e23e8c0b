//! The retry consumer on the test driver: what waits, comes back, and is given up.

use std::time::Duration;

use headwater::dsl::StreamsBuilder;
use headwater::record::Headers;
use headwater::testing::{TestBytes, TopologyTestDriver};
use headwater_schemas::headers;
use headwater_schemas::topics::TASK_COMPLETED;

use super::policy::Policy;
use super::record::{header, with};
use super::{RETRY_ID, delay};

const TOPIC: &str = "task.completed";
const RETRY: &str = "task.completed.retry";
const DEAD: &str = "task.completed.dlq";

fn driver() -> TopologyTestDriver {
    let b = StreamsBuilder::new();
    delay::retries(&b, &TASK_COMPLETED, Policy::default());
    TopologyTestDriver::new(&b.build().expect("it is sound")).expect("it starts")
}

/// A record fails: it comes to the retry topic with these headers.
fn fail(driver: &mut TopologyTestDriver, key: &str, value: &str, said: &[(&str, &str)]) {
    let said: Vec<_> = said.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let all = with(Headers::empty(), &said);
    let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
    driver.pipe(RETRY, key, value, 5, &all).expect("it is processed");
}

fn advance(driver: &mut TopologyTestDriver, ms: u64) -> Vec<TestBytes> {
    driver.advance_wall_clock(Duration::from_millis(ms)).expect("it runs");
    driver.take(TOPIC)
}

fn values(records: &[TestBytes]) -> Vec<String> {
    let text =
        |r: &TestBytes| String::from_utf8_lossy(r.value.as_deref().unwrap_or_default()).into();
    records.iter().map(text).collect()
}

/// The record fails again, with what was said when it was sent out.
fn fail_again(driver: &mut TopologyTestDriver, record: &TestBytes) {
    let (key, value) = (record.key.as_deref(), record.value.as_deref());
    driver.pipe(RETRY, key, value, record.timestamp, &record.headers).expect("it is processed");
}

#[test]
fn a_record_waits_until_retry_at_and_goes_back_without_it() {
    let mut driver = driver();
    let said = [
        (headers::RETRY_AT, "3000"),
        (headers::ORIGINAL_TOPIC, TOPIC),
        (headers::RETRY_COUNT, "1"),
        (headers::ERROR_MESSAGE, "REQUEST_TIMEOUT: late"),
        ("trace", "7"),
    ];
    fail(&mut driver, "k", "v", &said);
    assert_eq!(advance(&mut driver, 2_999), []);
    let back = advance(&mut driver, 1);
    assert_eq!(values(&back), ["v"]);
    assert_eq!((back[0].key.as_deref(), back[0].timestamp), (Some(&b"k"[..]), 5));
    let of = |name: &str| header(&back[0].headers, name);
    assert_eq!((of(headers::RETRY_AT), of(headers::ORIGINAL_TOPIC)), (None, None));
    assert_eq!(of(headers::RETRY_COUNT).as_deref(), Some("1"));
    assert_eq!(of(headers::ERROR_MESSAGE).as_deref(), Some("REQUEST_TIMEOUT: late"));
    assert_eq!(of("trace").as_deref(), Some("7"));
    assert_eq!(advance(&mut driver, 60_000), [], "once");
}

#[test]
fn what_is_not_due_yet_is_not_lost_by_a_restart_or_a_move() {
    let mut driver = driver();
    fail(&mut driver, "k", "early", &[(headers::RETRY_AT, "1000")]);
    fail(&mut driver, "k", "late", &[(headers::RETRY_AT, "9000")]);
    driver.restart().expect("it goes on");
    assert_eq!(values(&advance(&mut driver, 5_000)), ["early"]);
    driver.move_task().expect("it goes on");
    assert_eq!(values(&advance(&mut driver, 5_000)), ["late"]);
}

#[test]
fn without_retry_at_waits_double_with_each_try_in_state() {
    let mut driver = driver();
    fail(&mut driver, "k", "v", &[]);
    for wait in [1_000, 2_000, 4_000, 8_000, 16_000] {
        assert_eq!(advance(&mut driver, wait - 1), []);
        let back = advance(&mut driver, 1);
        assert_eq!(values(&back), ["v"], "after {wait} ms");
        fail_again(&mut driver, &back[0]);
    }
    assert_eq!(driver.take(DEAD).len(), 1);
}

#[test]
fn after_the_last_retry_a_record_is_a_dead_letter_with_its_reason() {
    let mut driver = driver();
    fail(&mut driver, "k", "v", &[(headers::ERROR_MESSAGE, "NETWORK_EXCEPTION: gone"), ("a", "1")]);
    for _ in 0..5 {
        let back = advance(&mut driver, 60_000);
        fail_again(&mut driver, &back[0]);
    }
    assert_eq!(advance(&mut driver, 600_000), []);
    let dead = driver.take(DEAD);
    assert_eq!((dead.len(), dead[0].value.as_deref()), (1, Some(&b"v"[..])));
    let of = |name: &str| header(&dead[0].headers, name);
    assert_eq!(of(headers::ORIGINAL_TOPIC).as_deref(), Some(TOPIC));
    assert_eq!(of(headers::ERROR_MESSAGE).as_deref(), Some("NETWORK_EXCEPTION: gone"));
    assert_eq!(of(headers::FINAL_RETRY_COUNT).as_deref(), Some("5"));
    assert_eq!(of(headers::DLQ_TIMESTAMP).as_deref(), Some("300000"));
    assert_eq!(of("a").as_deref(), Some("1"), "its own headers stay");
    for store in ["delayed.task.completed", "attempts.task.completed", "delays.task.completed"] {
        assert!(driver.rows(store).is_empty(), "nothing is left in {store}");
    }
}

#[test]
fn no_header_makes_the_number_of_tries_smaller() {
    let mut driver = driver();
    fail(&mut driver, "k", "v", &[]);
    for tries in 1..=5 {
        let mut back = advance(&mut driver, 60_000);
        let said = header(&back[0].headers, headers::RETRY_COUNT);
        assert_eq!(said.as_deref(), Some(&*tries.to_string()), "for readers");
        back[0].headers = with(&back[0].headers, &[(headers::RETRY_COUNT, "0".to_owned())]);
        fail_again(&mut driver, &back[0]);
    }
    assert_eq!((driver.take(DEAD).len(), advance(&mut driver, 600_000).len()), (1, 0));
}

#[test]
fn another_records_id_is_no_record_of_its_own() {
    let mut driver = driver();
    fail(&mut driver, "k", "v", &[]);
    for _ in 0..4 {
        let back = advance(&mut driver, 60_000);
        fail_again(&mut driver, &back[0]);
    }
    let back = advance(&mut driver, 60_000);
    let id = header(&back[0].headers, RETRY_ID).expect("it has one");
    fail(&mut driver, "k", "forged", &[(RETRY_ID, &id)]);
    fail(&mut driver, "k", "unknown", &[(RETRY_ID, "7-7")]);
    assert_eq!(driver.take(DEAD), [], "both are new");
    let mut back = values(&advance(&mut driver, 1_000));
    back.sort();
    assert_eq!(back, ["forged", "unknown"]);
}

#[test]
fn a_hostile_retry_at_neither_hurries_nor_stays_for_ever() {
    let mut driver = driver();
    let hostile = [i64::MAX.to_string(), i64::MIN.to_string(), "soon".to_owned()];
    for at in &hostile {
        fail(&mut driver, "k", at, &[(headers::RETRY_AT, at)]);
    }
    assert_eq!(values(&advance(&mut driver, 0)), [hostile[1].clone()], "over already");
    assert_eq!(values(&advance(&mut driver, 1_000)), ["soon"], "no time: the first wait");
    assert_eq!(values(&advance(&mut driver, 59_000)), [hostile[0].clone()], "the longest wait");
}

#[test]
fn a_record_without_key_or_value_comes_back_as_it_was() {
    let mut driver = driver();
    driver.pipe(RETRY, None, Some(b"v"), 5, Headers::empty()).expect("it is processed");
    driver.pipe(RETRY, Some(&[0, 255]), None, 6, Headers::empty()).expect("it is processed");
    let back = advance(&mut driver, 1_000);
    let seen: Vec<_> = back.iter().map(|r| (r.key.clone(), r.value.clone())).collect();
    assert_eq!(seen, [(None, Some(b"v".to_vec())), (Some(vec![0, 255]), None)]);
}

#[test]
fn tries_are_forgotten_when_a_record_has_not_failed_again_for_a_week() {
    let mut driver = driver();
    fail(&mut driver, "k", "v", &[]);
    assert_eq!(advance(&mut driver, 1_000).len(), 1);
    assert_eq!(driver.rows("attempts.task.completed").len(), 1);
    advance(&mut driver, 7 * 24 * 60 * 60 * 1_000);
    assert!(driver.rows("attempts.task.completed").is_empty());
    assert!(driver.rows("delays.task.completed").is_empty());
}

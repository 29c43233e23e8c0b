//! Bad input: a failing record goes to its dead letter topic with its place, everything it did is
//! undone, and the next record is processed as if it had never been.

use headwater::config::{OnError, StreamsConfig};
use headwater::dsl::{Consumed, Grouped, Materialized, Produced, StreamsBuilder};
use headwater::record::Headers;
use headwater::serde::serdes::{i64, optional, string};
use headwater::testing::TopologyTestDriver;

fn counting(on_error: OnError) -> TopologyTestDriver {
    let b = StreamsBuilder::new();
    let numbers = b.stream("in", Consumed::with(string(), i64()));
    let counts = numbers
        .group_by_key(Grouped::with("g", string(), i64()))
        .count(Materialized::count("counts"));
    counts.to_stream().to("counts-out", Produced::with(string(), optional(i64())));
    numbers
        .map_values(|_, n| {
            assert!(*n != 13, "thirteen");
            *n
        })
        .named("no-thirteen")
        .to("out", Produced::with(string(), i64()));
    let config = StreamsConfig { on_error, ..StreamsConfig::new("app") };
    let topology = b.build().expect("the topology is sound");
    TopologyTestDriver::with(&topology, &config, 0).expect("it starts")
}

fn pipe(driver: &mut TopologyTestDriver, key: Option<&[u8]>, value: Option<&[u8]>, time: i64) {
    driver.pipe("in", key, value, time, Headers::empty()).expect("bad input stops nothing");
}

fn number(n: i64) -> [u8; 8] {
    n.to_be_bytes()
}

fn header(headers: &Headers, name: &str) -> String {
    let value = headers.last(name).and_then(|h| h.value.clone()).unwrap_or_default();
    String::from_utf8_lossy(&value).into_owned()
}

#[test]
fn a_panic_in_user_code_undoes_the_record_and_dead_letters_it() {
    let mut driver = counting(OnError::UndoRecord);
    pipe(&mut driver, Some(b"a"), Some(&number(1)), 10);
    pipe(&mut driver, Some(b"a"), Some(&number(13)), 11);
    pipe(&mut driver, Some(b"a"), Some(&number(2)), 12);
    let counts: Vec<_> = driver.take("counts-out").into_iter().map(|r| r.value).collect();
    let expected = [1, 2].map(|n| Some(number(n).to_vec()));
    assert_eq!(counts, expected, "the failed record is not counted");
    let dead = driver.take("in.dlq");
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].key.as_deref(), Some(&b"a"[..]));
    assert_eq!(dead[0].value.as_deref(), Some(&number(13)[..]));
    let headers = &dead[0].headers;
    assert_eq!(header(headers, "headwater.node"), "no-thirteen");
    assert_eq!(header(headers, "headwater.reason"), "failed");
    assert_eq!(header(headers, "__streams.errors.topic"), "in");
    assert_eq!(header(headers, "__streams.errors.offset"), "1");
    assert!(header(headers, "__streams.errors.message").contains("thirteen"));
}

#[test]
fn with_drop_here_what_other_nodes_did_stays() {
    let mut driver = counting(OnError::DropHere);
    pipe(&mut driver, Some(b"a"), Some(&number(13)), 11);
    assert_eq!(driver.take("counts-out").len(), 1);
    assert_eq!(driver.take("out").len(), 0);
    assert_eq!(driver.take("in.dlq").len(), 0);
}

#[test]
fn with_fail_the_error_names_place_and_node() {
    let mut driver = counting(OnError::Fail);
    let failed = driver.pipe("in", Some(b"a"), Some(&number(13)), 11, Headers::empty());
    let message = failed.expect_err("the handler says to fail").to_string();
    assert!(message.contains("in-0 offset 0") && message.contains("`no-thirteen`"), "{message}");
}

#[test]
fn bytes_that_cannot_be_read_are_dead_lettered_with_the_field() {
    let mut driver = counting(OnError::UndoRecord);
    pipe(&mut driver, Some(b"a"), Some(b"short"), 10);
    pipe(&mut driver, Some(&[0xff, 0xfe]), Some(&number(1)), 10);
    pipe(&mut driver, Some(b"b"), Some(&number(1)), 10);
    let dead = driver.take("in.dlq");
    let messages: Vec<_> =
        dead.iter().map(|r| header(&r.headers, "__streams.errors.message")).collect();
    assert!(messages[0].contains("value cannot be read"), "{messages:?}");
    assert!(messages[1].contains("key cannot be read"), "{messages:?}");
    assert_eq!(driver.take("out").len(), 1);
}

#[test]
fn hostile_timestamps_are_dead_lettered_and_stall_nothing() {
    let mut driver = counting(OnError::UndoRecord);
    for time in [-1, i64::MIN, i64::MAX, i64::MAX - 1] {
        pipe(&mut driver, Some(b"a"), Some(&number(1)), time);
    }
    pipe(&mut driver, Some(b"a"), Some(&number(1)), 5);
    assert_eq!(driver.take("in.dlq").len(), 4);
    assert_eq!(driver.take("out").len(), 1);
    assert_eq!(driver.stream_time(), 5, "a hostile timestamp does not move stream time");
}

#[test]
fn a_null_that_its_type_refuses_is_dropped_with_a_reason_and_is_no_failure() {
    let mut driver = counting(OnError::Fail);
    pipe(&mut driver, None, Some(&number(1)), 5);
    pipe(&mut driver, Some(b"a"), None, 5);
    assert_eq!(driver.take("out").len(), 0);
    assert_eq!(driver.take("in.dlq").len(), 0);
}

#[test]
fn a_huge_record_passes_unchanged() {
    let mut driver = {
        let b = StreamsBuilder::new();
        b.stream("in", Consumed::with(string(), string()))
            .to("out", Produced::with(string(), string()));
        TopologyTestDriver::new(&b.build().expect("it is sound")).expect("it starts")
    };
    let huge = vec![b'x'; 16 << 20];
    pipe(&mut driver, Some(b"a"), Some(&huge), 5);
    assert_eq!(driver.take("out")[0].value.as_deref(), Some(&huge[..]));
}

//! Suppress: what waits, for how long, and what it is when it comes.

use std::time::Duration;

use headwater::dsl::{
    Consumed, Grouped, Materialized, Produced, StreamsBuilder, Suppressed, TimeWindows,
};
use headwater::record::{Header, Headers};
use headwater::serde::kafka_streams::time_windowed;
use headwater::serde::serdes::{i64, optional, string};
use headwater::testing::{TestInput, TestOutput, TopologyTestDriver};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn limited(suppressed: Suppressed<String, i64>) -> TopologyTestDriver {
    let b = StreamsBuilder::new();
    b.table("in", Consumed::with(string(), i64()))
        .suppress(suppressed)
        .to_stream()
        .to("out", Produced::with(string(), optional(i64())));
    TopologyTestDriver::new(&b.build().expect("it is sound")).expect("it starts")
}

fn seen(driver: &mut TopologyTestDriver) -> Vec<(String, Option<i64>, i64)> {
    let output = TestOutput::new("out", string(), optional(i64()));
    let read = output.read(driver).expect("it can be read").into_iter();
    read.map(|r| (r.key, r.value, r.timestamp)).collect()
}

fn put(driver: &mut TopologyTestDriver, key: &str, value: i64, time: i64) {
    let input = TestInput::new("in", string(), i64());
    input.pipe(driver, &key.into(), &value, time).expect("it is processed");
}

#[test]
fn a_change_that_waits_keeps_its_place_when_a_later_one_replaces_it() {
    let mut driver = limited(Suppressed::until_time_limit("waiting", ms(10), i64()));
    put(&mut driver, "a", 1, 0);
    put(&mut driver, "b", 2, 5);
    put(&mut driver, "a", 3, 9);
    assert_eq!(seen(&mut driver), []);
    put(&mut driver, "c", 4, 10);
    assert_eq!(seen(&mut driver), [("a".into(), Some(3), 9)], "due since its first change");
}

#[test]
fn over_its_bound_the_earliest_go_early() {
    let waiting = Suppressed::until_time_limit("waiting", ms(1_000), i64());
    let mut driver = limited(waiting.max_records(2));
    for (key, time) in [("a", 3), ("b", 1), ("c", 2)] {
        put(&mut driver, key, 0, time);
    }
    assert_eq!(seen(&mut driver), [("b".into(), Some(0), 1)]);
}

#[test]
fn what_waits_survives_a_move_with_its_time_and_headers() {
    let b = StreamsBuilder::new();
    b.stream("in", Consumed::with(string(), i64()))
        .group_by_key(Grouped::with("g", string(), i64()))
        .windowed_by(TimeWindows::tumbling(ms(10), ms(0)))
        .count(Materialized::count("counts"))
        .suppress(Suppressed::until_window_closes("finals", i64()))
        .to_stream()
        .to("out", Produced::with(time_windowed(string(), 10), optional(i64())));
    let mut driver = TopologyTestDriver::new(&b.build().expect("it is sound")).expect("it starts");
    let mut headers = Headers::default();
    headers.append("trace", Some("7".into()));
    let one = 1i64.to_be_bytes();
    driver.pipe("in", Some(b"k"), Some(&one), 4, &headers).expect("it is processed");
    driver.move_task().expect("it goes on");
    assert_eq!(driver.take("out"), []);
    driver.pipe("in", Some(b"k"), Some(&one), 10, Headers::empty()).expect("it is processed");
    let out = driver.take("out");
    assert_eq!((out.len(), out[0].timestamp), (1, 4));
    let header = Header { name: "trace".into(), value: Some("7".into()) };
    assert_eq!(out[0].headers.last("trace"), Some(&header));
}

#[test]
fn suppress_until_windows_close_needs_windows_above() {
    let b = StreamsBuilder::new();
    let table = b.table("in", Consumed::with(time_windowed(string(), 10), i64()));
    table
        .suppress(Suppressed::until_window_closes("finals", i64()))
        .suppress(Suppressed::until_time_limit("no/slash", ms(1), i64()))
        .to_stream();
    let text = b.build().expect_err("it has mistakes").to_string();
    assert!(text.contains("`finals` waits for windows to close"), "{text}");
    assert!(text.contains("store `no/slash` is not a legal name"), "{text}");
}

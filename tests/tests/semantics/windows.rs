//! Windows: bounds, grace, lateness, retention, dead letters for late records.

use std::time::Duration;

use headwater::dsl::{Consumed, Grouped, Materialized, Produced, StreamsBuilder, TimeWindows};
use headwater::processor::drops::OnDropped;
use headwater::record::Headers;
use headwater::serde::kafka_streams::time_windowed;
use headwater::serde::serdes::{i64, optional, string};
use headwater::testing::{TestInput, TestOutput, TopologyTestDriver};

fn counting(windows: TimeWindows, on_dropped: OnDropped) -> TopologyTestDriver {
    let b = StreamsBuilder::new();
    b.stream("in", Consumed::with(string(), i64()))
        .group_by_key(Grouped::with("g", string(), i64()).on_dropped(on_dropped))
        .windowed_by(windows)
        .count(Materialized::count("counts"))
        .to_stream()
        .to("out", Produced::with(time_windowed(string(), 10), optional(i64())));
    TopologyTestDriver::new(&b.build().expect("it is sound")).expect("it starts")
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn feed(driver: &mut TopologyTestDriver, times: &[i64]) -> Vec<(i64, i64, i64)> {
    let input = TestInput::new("in", string(), i64());
    for time in times {
        input.pipe(driver, &"k".into(), &1, *time).expect("it is processed");
    }
    let output = TestOutput::new("out", time_windowed(string(), 10), optional(i64()));
    let read = output.read(driver).expect("it can be read");
    read.into_iter().map(|r| (r.key.window.start, r.value.unwrap_or(0), r.timestamp)).collect()
}

#[test]
fn a_late_record_inside_grace_updates_its_window() {
    let mut driver = counting(TimeWindows::tumbling(ms(10), ms(5)), OnDropped::Count);
    assert_eq!(feed(&mut driver, &[3, 14, 4]), [(0, 1, 3), (10, 1, 14), (0, 2, 4)]);
}

#[test]
fn a_record_whose_window_closed_is_dropped_at_exactly_end_plus_grace() {
    let mut driver = counting(TimeWindows::tumbling(ms(10), ms(5)), OnDropped::DeadLetter);
    assert_eq!(feed(&mut driver, &[3, 15, 4]), [(0, 1, 3), (10, 1, 15)]);
    let dead = driver.take("in.dlq");
    assert_eq!(dead.len(), 1);
    let reason = dead[0].headers.last("headwater.reason").and_then(|h| h.value.clone());
    assert_eq!(reason.as_deref(), Some(&b"late"[..]));
}

#[test]
fn a_record_can_be_late_for_some_of_its_windows_only() {
    let mut driver = counting(TimeWindows::hopping(ms(10), ms(5), ms(0)), OnDropped::Count);
    let seen = feed(&mut driver, &[16, 9]);
    // At stream time 16 the window [0, 10) is closed, [5, 15) too: nothing is left for 9.
    assert_eq!(seen, [(10, 1, 16), (15, 1, 16)]);
    let seen = feed(&mut driver, &[14]);
    assert_eq!(seen, [(10, 2, 16)], "[5, 15) is closed, [10, 20) is open");
}

#[test]
fn a_null_key_does_not_move_the_windows_clock() {
    let mut driver = counting(TimeWindows::tumbling(ms(10), ms(0)), OnDropped::Count);
    driver
        .pipe("in", None, Some(&1i64.to_be_bytes()), 1_000, Headers::empty())
        .expect("it is dropped");
    assert_eq!(feed(&mut driver, &[3]), [(0, 1, 3)]);
}

#[test]
fn windows_past_retention_cannot_be_read() {
    let mut driver = counting(TimeWindows::tumbling(ms(10), ms(0)), OnDropped::Count);
    feed(&mut driver, &[1, 11, 21]);
    let starts: Vec<_> =
        driver.rows("counts").iter().filter_map(|r| r.window.map(|w| w.start)).collect();
    assert_eq!(starts, [20], "retention is 10 ms by default: only starts after 20 - 10 are kept");
}

#[test]
fn the_largest_usable_time_is_counted_without_overflow() {
    let mut driver = counting(TimeWindows::tumbling(ms(10), ms(5)), OnDropped::Count);
    let last = (0..63).map(|p| i64::MAX >> p).find(|t| headwater::time::is_usable(*t));
    let seen = feed(&mut driver, &[last.expect("some time is usable")]);
    assert_eq!(seen.len(), 1);
}

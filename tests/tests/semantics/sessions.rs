//! Sessions, sliding windows, cogroups and emission on close: what is sent on, when, and what is late.

use std::time::Duration;

use headwater::dsl::{
    Consumed, Grouped, Materialized, Produced, SessionWindows, SlidingWindows, StreamsBuilder,
    TimeWindows,
};
use headwater::processor::drops::OnDropped;
use headwater::serde::kafka_streams::{session_windowed, time_windowed};
use headwater::serde::serdes::{i64, optional, string};
use headwater::testing::{TestInput, TestOutput, TopologyTestDriver};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn driver(b: StreamsBuilder) -> TopologyTestDriver {
    TopologyTestDriver::new(&b.build().expect("it is sound")).expect("it starts")
}

fn feed(driver: &mut TopologyTestDriver, topic: &str, times: &[i64]) {
    let input = TestInput::new(topic, string(), i64());
    for time in times {
        input.pipe(driver, &"k".into(), &1, *time).expect("it is processed");
    }
}

fn counting_sessions(emit_on_close: bool) -> TopologyTestDriver {
    let b = StreamsBuilder::new();
    let grouped = b
        .stream("in", Consumed::with(string(), i64()))
        .group_by_key(Grouped::with("g", string(), i64()).on_dropped(OnDropped::DeadLetter));
    let windowed = grouped.windowed_by_sessions(SessionWindows::with_gap(ms(10), ms(5)));
    let windowed = if emit_on_close { windowed.emit_on_window_close() } else { windowed };
    windowed
        .count(Materialized::count("counts").retention(ms(1_000)))
        .to_stream()
        .to("out", Produced::with(session_windowed(string()), optional(i64())));
    driver(b)
}

/// Start, end, count (none is a tombstone) and time of what came out.
fn sessions(driver: &mut TopologyTestDriver) -> Vec<(i64, i64, Option<i64>, i64)> {
    let output = TestOutput::new("out", session_windowed(string()), optional(i64()));
    let read = output.read(driver).expect("it can be read").into_iter();
    read.map(|r| (r.key.window.start, r.key.window.end, r.value, r.timestamp)).collect()
}

#[test]
fn a_record_between_two_sessions_merges_them_and_tombstones_go_before() {
    let mut driver = counting_sessions(false);
    feed(&mut driver, "in", &[0, 20, 10]);
    assert_eq!(
        sessions(&mut driver),
        [
            (0, 0, Some(1), 0),
            (20, 20, Some(1), 20),
            (0, 0, None, 0),
            (20, 20, None, 20),
            (0, 20, Some(3), 20),
        ]
    );
    let rows = driver.rows("counts");
    assert_eq!(rows.len(), 1, "merged sessions leave the store");
}

#[test]
fn a_record_whose_session_closed_is_dropped_one_past_gap_and_grace() {
    let mut driver = counting_sessions(false);
    feed(&mut driver, "in", &[100, 85]);
    assert_eq!(sessions(&mut driver).len(), 2, "85 + 10 + 5 is 100: not yet late");
    assert!(driver.take("in.dlq").is_empty());
    // Alone: beside a session that is open it would join that one.
    let mut driver = counting_sessions(false);
    feed(&mut driver, "in", &[100, 84]);
    assert_eq!(sessions(&mut driver).len(), 1);
    assert_eq!(driver.take("in.dlq").len(), 1);
}

#[test]
fn sessions_that_are_emitted_on_close_come_once_and_without_tombstones() {
    let mut driver = counting_sessions(true);
    feed(&mut driver, "in", &[0, 15, 8, 30]);
    assert_eq!(sessions(&mut driver), [], "15 + 10 + 5 is 30: not yet closed");
    feed(&mut driver, "in", &[31]);
    assert_eq!(sessions(&mut driver), [(0, 15, Some(3), 15)]);
    driver.move_task().expect("it goes on");
    feed(&mut driver, "in", &[32]);
    assert_eq!(sessions(&mut driver), [], "what was emitted is not emitted after a move");
}

#[test]
fn tumbling_windows_that_are_emitted_on_close_come_in_the_order_of_start_and_key() {
    let b = StreamsBuilder::new();
    b.stream("in", Consumed::with(string(), i64()))
        .group_by_key(Grouped::with("g", string(), i64()))
        .windowed_by(TimeWindows::tumbling(ms(10), ms(0)))
        .emit_on_window_close()
        .count(Materialized::count("counts").retention(ms(1_000)))
        .to_stream()
        .to("out", Produced::with(time_windowed(string(), 10), optional(i64())));
    let mut driver = driver(b);
    let input = TestInput::new("in", string(), i64());
    for (key, time) in [("b", 1), ("a", 2), ("a", 3), ("c", 30)] {
        input.pipe(&mut driver, &key.into(), &1, time).expect("it is processed");
    }
    let output = TestOutput::new("out", time_windowed(string(), 10), optional(i64()));
    let read = output.read(&mut driver).expect("it can be read");
    let seen: Vec<_> = read.iter().map(|r| (&*r.key.key, r.value, r.timestamp)).collect();
    assert_eq!(seen, [("a", Some(2), 3), ("b", Some(1), 1)]);
}

#[test]
fn sliding_windows_hold_every_set_of_records_within_the_difference() {
    let b = StreamsBuilder::new();
    b.stream("in", Consumed::with(string(), i64()))
        .group_by_key(Grouped::with("g", string(), i64()))
        .windowed_by_sliding(SlidingWindows::of_difference(ms(10), ms(50)))
        .count(Materialized::count("counts"));
    let mut driver = driver(b);
    feed(&mut driver, "in", &[20, 25, 35]);
    let rows = driver.rows("counts");
    let seen: Vec<_> = rows
        .iter()
        .map(|row| {
            let window = row.window.expect("a window");
            let count = i64::from_be_bytes(row.value.clone().try_into().expect("an i64"));
            (window.start, window.end, count)
        })
        .collect();
    assert_eq!(seen, [(10, 20, 1), (15, 25, 2), (21, 31, 1), (25, 35, 2), (26, 36, 1)]);
}

#[test]
fn the_inputs_of_a_cogroup_share_a_row_and_each_has_its_own_time() {
    let b = StreamsBuilder::new();
    let grouped = |topic: &str| {
        b.stream(topic, Consumed::with(string(), i64())).group_by_key(Grouped::with(
            topic,
            string(),
            i64(),
        ))
    };
    grouped("ones")
        .cogroup(|_, n, sum: i64| sum + n)
        .cogroup(grouped("tens"), |_, n, sum| sum + 10 * n)
        .windowed_by(TimeWindows::tumbling(ms(100), ms(0)))
        .aggregate(|| 0, Materialized::with("sums", i64()).retention(ms(1_000)))
        .to_stream()
        .to("out", Produced::with(time_windowed(string(), 100), optional(i64())));
    let mut driver = driver(b);
    feed(&mut driver, "ones", &[1, 250]);
    feed(&mut driver, "tens", &[2]);
    let output = TestOutput::new("out", time_windowed(string(), 100), optional(i64()));
    let read = output.read(&mut driver).expect("it can be read");
    let seen: Vec<_> = read.iter().map(|r| (r.key.window.start, r.value)).collect();
    let late_for_ones_only = (0, Some(11));
    assert_eq!(seen, [(0, Some(1)), (200, Some(1)), late_for_ones_only]);
}

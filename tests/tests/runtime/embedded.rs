//! Applications on the embedded log.

use std::sync::Arc;

use headwater::config::StreamsConfig;
use headwater::dsl::{Consumed, Grouped, Materialized, Produced, StreamsBuilder, TimeWindows};
use headwater::runtime::StreamsState;
use headwater::serde::serdes::{i64, optional, string};
use headwater::topology::Topology;

use super::world::{Ground, World};

pub(crate) fn word_count() -> Arc<Topology> {
    let builder = StreamsBuilder::new();
    builder
        .stream("lines", Consumed::with(string(), string()))
        .flat_map_values(|_, line| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .group_by(|_, word| word.clone(), Grouped::with("words", string(), string()))
        .count(Materialized::count("counts"))
        .to_stream()
        .to("word-counts", Produced::with(string(), optional(i64())));
    builder.build().expect("a valid topology")
}

pub(crate) fn start(ground: Ground, threads: usize) -> World {
    let config = StreamsConfig { threads, ..StreamsConfig::new("wc") };
    let mut world = World::start(ground, config, word_count());
    world.until_running();
    world
}

pub(crate) const LINES: &[(&str, &str, i64)] =
    &[("1", "to be or not to be", 1_000), ("2", "that is the question", 2_000)];

pub(crate) fn is_counted(world: &World) -> bool {
    let counts = world.last_outputs("word-counts");
    counts.get("be") == Some(&2) && counts.get("question") == Some(&1)
}

#[test]
fn words_are_counted_through_a_repartition_topic_by_two_threads() {
    let mut world = start(Ground::held(), 2);
    world.append("lines", 0, LINES);
    world.until("counted", is_counted);
    let outputs = world.outputs("word-counts");
    assert_eq!(outputs.len(), 10, "each word once: {outputs:?}");
    assert_eq!(world.last_outputs("word-counts").len(), 8);
}

#[test]
fn a_graceful_stop_commits_what_was_processed_and_closes_every_task() {
    let mut world = start(Ground::held(), 2);
    world.append("lines", 1, LINES);
    world.until("counted", is_counted);
    world.streams.stop();
    world.until("stopped", |w| w.streams.state() == StreamsState::NotRunning);
    assert!(world.streams.board().tasks().is_empty());
    let before = world.outputs("word-counts");
    let mut world = start(world.kill(0), 1);
    for _ in 0..500 {
        world.round();
    }
    assert_eq!(world.outputs("word-counts"), before, "nothing is processed again");
}

#[test]
fn killed_after_any_number_of_rounds_nothing_is_lost_or_doubled() {
    for rounds in (0..240).step_by(7) {
        let mut world = start(Ground::held(), 2);
        world.append("lines", 0, LINES);
        for _ in 0..rounds {
            world.round();
        }
        let mut world = start(world.kill(0), 2);
        world.until("counted", is_counted);
        let outputs = world.outputs("word-counts");
        assert_eq!(outputs.len(), 10, "killed after {rounds} rounds: {outputs:?}");
    }
}

/// Five-minute windows without grace: a record of a closed window is late.
fn windows() -> Arc<Topology> {
    let builder = StreamsBuilder::new();
    let five_minutes = std::time::Duration::from_secs(300);
    builder
        .stream("clicks", Consumed::with(string(), string()))
        .group_by_key(Grouped::with("by-user", string(), string()))
        .windowed_by(TimeWindows::tumbling(five_minutes, std::time::Duration::ZERO))
        .count(Materialized::count("clicks-per-window"))
        .to_stream()
        .map(|windowed, count| (windowed.key.clone(), *count))
        .to("window-counts", Produced::with(string(), optional(i64())));
    builder.build().expect("a valid topology")
}

#[test]
fn a_late_record_stays_late_after_a_restart() {
    for ground in [Ground::held(), Ground::unheld()] {
        let config = StreamsConfig::new("clicks");
        let mut world = World::start(ground, config.clone(), windows());
        world.until_running();
        world.append("clicks", 0, &[("u", "a", 10_000), ("u", "b", 700_000)]);
        world.until("counted", |w| w.outputs("window-counts").len() == 2);
        let mut world = World::start(world.kill(usize::MAX), config, windows());
        world.until_running();
        world.append("clicks", 0, &[("u", "late", 20_000), ("u", "c", 700_001)]);
        world.until("counted", |w| w.outputs("window-counts").len() == 3);
        let last = world.outputs("window-counts").pop().expect("three outputs");
        assert_eq!(last, ("u".to_owned(), Some(2), 700_001), "the late record is not counted");
        assert!(world.metrics.text().contains(
            r#"stream_task_dropped_records_total{application="clicks",reason="late",task="0_0"} 1"#
        ));
    }
}

#[test]
fn an_output_or_dead_letter_larger_than_the_log_takes_stops_nothing() {
    let builder = StreamsBuilder::new();
    builder
        .stream("in", Consumed::with(string(), string()))
        .map_values(|_, value| match value.len() {
            0..10 => value.repeat(1 << 20),
            10..1_000 => value.clone(),
            _ => panic!("too much"),
        })
        .to("out", Produced::with(string(), string()));
    let topology = builder.build().expect("a valid topology");
    let mut world = World::start(Ground::held(), StreamsConfig::new("big"), topology);
    world.until_running();
    let full = "x".repeat((1 << 20) - 64);
    let fits = "y".repeat(100);
    world.append("in", 0, &[("1", "grow", 1), ("2", &full, 2), ("3", &fits, 3)]);
    world.until("the last is through", |w| w.records("out").len() == 1);
    assert_eq!(world.records("out"), [(Some("3".into()), Some(fits.into()))]);
    let dead = world.records("in.dlq");
    let whole = (Some("1".into()), Some("grow".into()));
    assert_eq!(
        dead,
        [whole, (None, None)],
        "the second is named, but does not fit with our headers"
    );
}

//! Records that the log refuses: the transaction is lost, the work is done again, and the cause is
//! set aside; everything else goes through once.

use std::sync::Arc;

use headwater::config::{OnError, StreamsConfig};
use headwater::dsl::{Consumed, Grouped, Materialized, Produced, StreamsBuilder};
use headwater::log::sim::SimConfig;
use headwater::runtime::{Streams, StreamsState};
use headwater::serde::serdes::{optional, string};
use headwater::topology::Topology;
use headwater_state::database::memory::MemoryDisk;

use super::beside::Beside;

const LIMIT: usize = 100;

/// A record's value, ten times over.
fn repeated() -> Arc<Topology> {
    let builder = StreamsBuilder::new();
    builder
        .stream("in", Consumed::with(string(), string()))
        .map_values(|_, value| value.repeat(10))
        .to("out", Produced::with(string(), string()));
    builder.build().expect("a valid topology")
}

/// All values of a key so far, joined.
fn joined(cached: bool) -> Arc<Topology> {
    let builder = StreamsBuilder::new();
    let store = Materialized::with("joined", string());
    builder
        .stream("in", Consumed::with(string(), string()))
        .group_by_key(Grouped::with("by-key", string(), string()))
        .aggregate(
            String::new,
            |_, value, all| all + value,
            if cached { store.cached() } else { store },
        )
        .to_stream()
        .to("out", Produced::with(string(), optional(string())));
    builder.build().expect("a valid topology")
}

fn start(seed: u64, on_error: OnError, topology: Arc<Topology>) -> (Beside, Streams) {
    let mut world = Beside::new(SimConfig::calm(seed), &["in", "out"]);
    let config = StreamsConfig { on_error, ..StreamsConfig::new("app") };
    let streams = world.start("one", &MemoryDisk::new(), config, topology);
    world.until("running", |_| streams.state() == StreamsState::Running);
    (world, streams)
}

fn is_counted(world: &Beside, name: &str, reason: &str) -> bool {
    let line = format!("{name}{{application=\"app\",reason=\"{reason}\",task=\"0_0\"}} 1");
    world.metrics.text().lines().any(|found| found == line)
}

#[test]
fn an_output_that_the_log_refuses_sets_its_cause_aside_and_nothing_else() {
    for seed in 0..10 {
        let (mut world, streams) = start(seed, OnError::UndoRecord, repeated());
        world.cluster.limit_records("out", LIMIT);
        let long = "long".repeat(4);
        for (time, value) in (1..).zip(["a", "b", &long, "c"]) {
            world.append("in", value, time);
        }
        world.until("all are through", |world| world.records("out").len() == 3);
        let tens = ["a", "b", "c"].map(|value| value.repeat(10));
        assert_eq!(world.values("out"), tens, "seed {seed}");
        assert_eq!(world.values("in.dlq"), [long], "seed {seed}: the input, unchanged");
        assert_eq!(streams.state(), StreamsState::Running);
        assert!(is_counted(&world, "stream_task_dead_letters_total", "failed"));
    }
}

#[test]
fn many_refused_outputs_in_one_transaction_are_set_aside_one_after_the_other() {
    let (mut world, _streams) = start(1, OnError::UndoRecord, repeated());
    world.cluster.limit_records("out", LIMIT);
    for number in 0..60 {
        let value = if number % 2 == 0 { format!("{number}") } else { format!("{number:020}") };
        world.append("in", &value, number);
    }
    world.until("all are through", |world| {
        world.records("out").len() == 30 && world.records("in.dlq").len() == 30
    });
}

#[test]
fn a_refused_output_stops_an_application_that_fails_on_errors_and_names_its_cause() {
    let (mut world, streams) = start(1, OnError::Fail, repeated());
    world.cluster.limit_records("out", LIMIT);
    world.append("in", "a", 1);
    world.append("in", &"long".repeat(4), 2);
    world.until("stopped", |_| streams.state() == StreamsState::Error);
    let why = streams.board().failure().expect("it says why");
    assert!(why.contains("in-0") && why.contains("too large"), "{why}");
}

#[test]
fn a_row_that_its_changelog_refuses_is_undone_with_the_record_that_wrote_it() {
    for seed in 0..10 {
        let (mut world, streams) = start(seed, OnError::UndoRecord, joined(false));
        world.cluster.limit_records("app-joined-changelog", LIMIT);
        let long = "x".repeat(LIMIT);
        for (time, value) in (1..).zip(["a", &long, "b"]) {
            world.append("in", value, time);
        }
        world.until("all are through", |world| world.records("out").len() == 2);
        assert_eq!(world.values("out"), ["a", "ab"], "seed {seed}: as if it had never been");
        assert_eq!(world.values("app-joined-changelog").last().map(String::as_str), Some("ab"));
        assert_eq!(world.values("in.dlq"), [long]);
        assert_eq!(streams.state(), StreamsState::Running);
    }
}

#[test]
fn a_row_larger_than_any_record_is_undone_without_asking_the_log() {
    let (mut world, _streams) = start(1, OnError::UndoRecord, joined(true));
    let (long, longer) = ("x".repeat(600_000), "y".repeat(600_000));
    for (time, value) in (1..).zip(["a", &long, &longer, "b"]) {
        world.append("in", value, time);
    }
    let last = format!("a{long}b");
    world.until("all are through", |world| world.values("out").last() == Some(&last));
    assert!(world.values("in.dlq") == [longer], "the record that made the row too large");
}

#[test]
fn a_refused_output_of_a_cached_table_is_dead_lettered_by_itself() {
    for seed in 0..10 {
        let (mut world, streams) = start(seed, OnError::UndoRecord, joined(true));
        world.cluster.limit_records("out", LIMIT);
        world.append("in", "a", 1);
        world.until("told", |world| world.records("out").len() == 1);
        let long = "x".repeat(LIMIT);
        world.append("in", &long, 2);
        world.until("set aside", |world| world.records("in.dlq").len() == 1);
        assert_eq!(world.values("in.dlq"), [format!("a{long}")], "seed {seed}: the output");
        assert_eq!(streams.state(), StreamsState::Running);
        assert!(is_counted(&world, "stream_task_dropped_records_total", "refused"));
    }
}

//! Applications on the embedded log.

use std::sync::Arc;

use headwater::config::StreamsConfig;
use headwater::dsl::{Consumed, Grouped, Materialized, Produced, StreamsBuilder};
use headwater::runtime::StreamsState;
use headwater::serde::serdes::{i64, optional, string};
use headwater::time::VirtualClock;
use headwater::topology::Topology;
use headwater_state::database::memory::MemoryDisk;

use super::world::World;

fn word_count() -> Arc<Topology> {
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

fn start(threads: usize) -> World {
    restart((MemoryDisk::new(), VirtualClock::new(1_700_000_000_000)), threads)
}

fn restart((disk, clock): (MemoryDisk, VirtualClock), threads: usize) -> World {
    let config = StreamsConfig { threads, ..StreamsConfig::new("wc") };
    let mut world = World::start(&disk, &clock, config, word_count());
    world.until_running();
    world
}

const LINES: &[(&str, &str, i64)] =
    &[("1", "to be or not to be", 1_000), ("2", "that is the question", 2_000)];

fn is_counted(world: &World) -> bool {
    let counts = world.last_outputs("word-counts");
    counts.get("be") == Some(&2) && counts.get("question") == Some(&1)
}

#[test]
fn words_are_counted_through_a_repartition_topic_by_two_threads() {
    let mut world = start(2);
    world.append("lines", 0, LINES);
    world.until("counted", is_counted);
    let outputs = world.outputs("word-counts");
    assert_eq!(outputs.len(), 10, "each word once: {outputs:?}");
    assert_eq!(world.last_outputs("word-counts").len(), 8);
}

#[test]
fn a_graceful_stop_commits_what_was_processed_and_closes_every_task() {
    let mut world = start(2);
    world.append("lines", 1, LINES);
    world.until("counted", is_counted);
    world.streams.stop();
    world.until("stopped", |w| w.streams.state() == StreamsState::NotRunning);
    assert!(world.streams.board().tasks().is_empty());
    let before = world.outputs("word-counts");
    let mut world = restart(world.kill(), 1);
    for _ in 0..500 {
        world.round();
    }
    assert_eq!(world.outputs("word-counts"), before, "nothing is processed again");
}

#[test]
fn killed_after_any_number_of_rounds_nothing_is_lost_or_doubled() {
    for rounds in (0..240).step_by(7) {
        let mut world = start(2);
        world.append("lines", 0, LINES);
        for _ in 0..rounds {
            world.round();
        }
        let mut world = restart(world.kill(), 2);
        world.until("counted", is_counted);
        let outputs = world.outputs("word-counts");
        assert_eq!(outputs.len(), 10, "killed after {rounds} rounds: {outputs:?}");
    }
}

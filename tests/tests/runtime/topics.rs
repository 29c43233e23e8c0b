//! Topics that a topology declares: created so where nobody else can, compared where somebody can.

use std::sync::Arc;
use std::time::Duration;

use headwater::config::StreamsConfig;
use headwater::dsl::{Consumed, Produced, StreamsBuilder};
use headwater::log::sim::SimConfig;
use headwater::record::{Cleanup, TopicSpec};
use headwater::runtime::StreamsState;
use headwater::serde::serdes::string;
use headwater::topology::Topology;
use headwater_state::database::memory::MemoryDisk;

use super::beside::Beside;
use super::world::{Ground, World};

fn spec(name: &str, partitions: u32, days: u64) -> TopicSpec {
    let retention = Some(Duration::from_secs(days * 86_400));
    TopicSpec { name: name.into(), partitions, cleanup: Cleanup::Delete { retention } }
}

/// Copies `in` to `out`, and declares `in` and its dead letters.
fn declared() -> Arc<Topology> {
    let builder = StreamsBuilder::new();
    builder.declare_topic(spec("in", 3, 7));
    builder.declare_topic(spec("in.dlq", 3, 30));
    builder
        .stream("in", Consumed::with(string(), string()))
        .to("out", Produced::with(string(), string()));
    builder.build().expect("a valid topology")
}

#[test]
fn the_embedded_log_creates_topics_as_they_are_declared_and_others_as_it_likes() {
    let mut world = World::start(Ground::held(), StreamsConfig::new("app"), declared());
    world.until_running();
    let topics = world.log.topics();
    let found = |name: &str| topics.iter().find(|topic| *topic.name == *name).cloned();
    assert_eq!(found("in"), Some(spec("in", 3, 7)));
    assert_eq!(found("in.dlq"), Some(spec("in.dlq", 3, 30)));
    assert_eq!(found("out").map(|topic| topic.partitions), Some(2));
}

#[test]
fn a_cluster_keeps_the_topics_it_has_whatever_is_declared() {
    let mut world = Beside::new(SimConfig::calm(1), &["in", "out"]);
    let config = StreamsConfig::new("app");
    let streams = world.start("one", &MemoryDisk::new(), config, declared());
    world.until("running", |_| streams.state() == StreamsState::Running);
    let kept = world.cluster.topics().into_iter().find(|topic| &*topic.name == "in");
    assert_eq!(kept.map(|topic| topic.partitions), Some(2));
    world.append("in", "a", 1);
    world.until("it works", |world| world.values("out") == ["a"]);
}

#[test]
fn a_topic_that_a_cluster_lacks_is_named_with_its_declaration() {
    let mut world = Beside::new(SimConfig::calm(1), &["out"]);
    let config = StreamsConfig::new("app");
    let streams = world.start("one", &MemoryDisk::new(), config, declared());
    world.until("it fails", |_| streams.state() == StreamsState::Error);
    let why = streams.board().failure().expect("it says why");
    assert!(why.contains("'in' with 3 partitions, kept 168 h"), "{why}");
}

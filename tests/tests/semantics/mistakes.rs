//! Mistakes in a topology: `build()` names every one at once.

use std::time::Duration;

use headwater::dsl::{
    Consumed, Grouped, Joined, Materialized, Repartitioned, StreamsBuilder, TimeWindows,
};
use headwater::processor::{NodeError, Processor, ProcessorContext};
use headwater::record::{Cleanup, Record, TopicSpec};
use headwater::serde::serdes::{i64, string};
use headwater::store::Stored;

fn message(b: StreamsBuilder) -> String {
    b.build().expect_err("the topology has mistakes").to_string()
}

#[test]
fn a_node_looked_up_with_the_wrong_types_is_a_wrong_edge() {
    let b = StreamsBuilder::new();
    b.stream("clicks", Consumed::with(string(), i64())).filter(|_, n| *n > 0).named("positive");
    b.stream_named::<String, String>("positive").filter(|_, _| true).named("texts");
    let message = message(b);
    assert!(message.contains("takes records of (alloc::string::String, alloc::string::String)"));
    assert!(
        message.contains("its parent `positive` emits records of (alloc::string::String, i64)")
    );
}

#[test]
fn every_mistake_is_reported_at_once() {
    let b = StreamsBuilder::new();
    let clicks = b.stream("clicks", Consumed::with(string(), i64()));
    b.stream("clicks", Consumed::with(string(), i64())).named("again");
    b.stream_named::<String, i64>("nowhere").for_each(|_, _| ());
    let grouped = clicks.group_by_key(Grouped::with("g", string(), i64()));
    grouped.count(Materialized::count("counts"));
    grouped.count(Materialized::count("counts"));
    grouped.count(Materialized::count("no/slash"));
    grouped
        .windowed_by(TimeWindows::tumbling(Duration::ZERO, Duration::ZERO))
        .count(Materialized::count("windows"));
    clicks.filter(|_, _| true).named("again");
    let error = b.build().expect_err("the topology has mistakes");
    let text = error.to_string();
    for part in [
        "topic `clicks` is read by two sources",
        "no node is named `nowhere`",
        "store `counts` is used twice",
        "store `no/slash` is not a legal name",
        "window size of `windows` is 0 ms",
        "node `again` is used twice",
    ] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    assert!(error.mistakes.len() >= 6, "{text}");
}

#[test]
fn a_topology_without_a_source_is_refused() {
    assert!(message(StreamsBuilder::new()).contains("no source"));
}

#[test]
fn a_repartition_topic_has_one_owner() {
    let b = StreamsBuilder::new();
    let clicks = b.stream("clicks", Consumed::with(string(), i64()));
    clicks.repartition(Repartitioned::with("by-x", string(), i64())).for_each(|_, _| ());
    clicks.repartition(Repartitioned::with("by-x", string(), i64())).for_each(|_, _| ());
    assert!(message(b).contains("repartition topic `by-x` is used twice"));
}

#[test]
fn retention_shorter_than_window_and_grace_is_refused() {
    let b = StreamsBuilder::new();
    b.stream("clicks", Consumed::with(string(), i64()))
        .group_by_key(Grouped::with("g", string(), i64()))
        .windowed_by(TimeWindows::tumbling(Duration::from_secs(60), Duration::from_secs(10)))
        .count(Materialized::count("counts").retention(Duration::from_secs(60)));
    assert!(
        message(b).contains("window retention of `counts` is 60000 ms; it must be between 70000")
    );
}

#[test]
fn a_join_with_another_builders_table_is_refused() {
    let b = StreamsBuilder::new();
    let other = StreamsBuilder::new();
    let names = other.table("names", Consumed::with(string(), string()));
    b.stream("clicks", Consumed::with(string(), i64())).join(
        names,
        |_, n, name| format!("{name}{n}"),
        Joined::with("j", string(), i64()),
    );
    assert!(message(b).contains("joins nodes of two builders"));
}

struct Pass;

impl Processor<String, i64, String, i64> for Pass {
    fn process(
        &mut self,
        record: Record<'_, String, i64>,
        ctx: &mut ProcessorContext<'_, '_, String, i64>,
    ) -> Result<(), NodeError> {
        ctx.forward(record)
    }
}

#[test]
fn a_store_of_another_builder_is_refused() {
    let other = StreamsBuilder::new();
    let foreign = other.add_store(Stored::key_value("seen", string(), i64()));
    let b = StreamsBuilder::new();
    let clicks = b.stream("clicks", Consumed::with(string(), i64()));
    clicks.process(|| Pass, &[foreign.id()]).for_each(|_, _| ());
    assert!(message(b).contains("names a store of another builder"));
}

#[test]
fn a_topic_that_is_declared_in_two_ways_or_without_partitions_is_refused() {
    let spec = |partitions| TopicSpec {
        name: "clicks".into(),
        partitions,
        cleanup: Cleanup::Delete { retention: None },
    };
    let b = StreamsBuilder::new();
    b.stream("clicks", Consumed::with(string(), i64())).for_each(|_, _| ());
    b.declare_topic(spec(3));
    b.declare_topic(spec(3));
    b.declare_topic(spec(0));
    let text = message(b);
    for part in ["declared with 0 partitions", "with 3 partitions, kept for ever and as"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

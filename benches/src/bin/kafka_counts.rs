//! What a keyed count and a count in windows of five minutes cost on Kafka with their changelogs, in
//! processor time, beside two bare loops on the same broker in the same run: one that writes each
//! record once, and the floor of a count, which writes each record twice (an output and a changelog
//! record). The input lies ready; all commit every 100 ms. One JSON line each.
//!
//! The engine writes one changelog record for each key that changed between two commits, which may be
//! fewer than one for each input; how many it wrote is printed with its outputs.
#![expect(clippy::print_stdout, reason = "a bench prints its result")]

use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use headwater::config::StreamsConfig;
use headwater::dsl::{Consumed, Grouped, Materialized, Produced, StreamsBuilder, TimeWindows};
use headwater::serde::kafka_streams::time_windowed;
use headwater::serde::serdes::{bytes, i64, optional};
use headwater::topology::Topology;
use headwater_benches::kafka::{Cost, PARTITIONS, bare, end_of, engine, fill};
use headwater_tests::kafka_broker::KafkaBroker;

const WINDOW_MS: i64 = 300_000;

/// Counts on Kafka, bare and by the engine.
#[derive(Parser)]
struct Arguments {
    /// Records that lie ready.
    #[arg(long, default_value_t = 500_000)]
    records: u32,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100)]
    value_bytes: usize,
    /// Stream threads of the engine.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

fn main() {
    let arguments = Arguments::parse();
    let records = arguments.records;
    let Some(broker) = KafkaBroker::start(&[]) else { return };
    for topic in ["in", "once", "twice-a", "twice-b", "keyed", "windowed"] {
        broker.create_topic(topic, PARTITIONS, &[]);
    }
    fill(&broker, "in", records, arguments.value_bytes);
    let once = bare(&broker, "in", &["once"], records);
    let twice = bare(&broker, "in", &["twice-a", "twice-b"], records);
    let report = |what: &str, cost: Cost, beside: Option<Cost>| {
        cost.report("kafka_counts", what, records, beside)
    };
    println!("{}", report("bare loop", once, None));
    println!("{}", report("bare loop and one changelog record", twice, Some(once)));
    for (name, topology) in [("keyed", keyed()), ("windowed", windowed())] {
        let config = StreamsConfig { threads: arguments.threads, ..StreamsConfig::new(name) };
        let cost = engine(&broker, topology, config, records);
        let mut line = report(&format!("engine, {name} count"), cost, Some(once));
        let floor = cost.processor.as_secs_f64() / twice.processor.as_secs_f64();
        line["processor_against_floor"] = headwater_benches::kafka::hundredths(floor).into();
        line["outputs"] = end_of(&broker, name).into();
        line["changelog_records"] = end_of(&broker, &format!("{name}-counts-changelog")).into();
        println!("{line}");
    }
}

fn keyed() -> Arc<Topology> {
    let b = StreamsBuilder::new();
    b.stream("in", Consumed::with(bytes(), bytes()))
        .group_by_key(Grouped::with("g", bytes(), bytes()))
        .count(Materialized::count("counts"))
        .to_stream()
        .to("keyed", Produced::with(bytes(), optional(i64())));
    b.build().expect("a sound topology")
}

fn windowed() -> Arc<Topology> {
    let b = StreamsBuilder::new();
    let size = Duration::from_millis(WINDOW_MS.unsigned_abs());
    b.stream("in", Consumed::with(bytes(), bytes()))
        .group_by_key(Grouped::with("g", bytes(), bytes()))
        .windowed_by(TimeWindows::tumbling(size, Duration::ZERO))
        .count(Materialized::count("counts"))
        .to_stream()
        .to("windowed", Produced::with(time_windowed(bytes(), WINDOW_MS), optional(i64())));
    b.build().expect("a sound topology")
}

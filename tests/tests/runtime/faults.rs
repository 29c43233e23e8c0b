//! Every kind of failure of a transaction, in random order, and what comes out is what one perfect
//! run would have written.

use std::collections::BTreeMap;

use headwater::config::StreamsConfig;
use headwater::dsl::{Consumed, Grouped, Materialized, Produced, StreamsBuilder};
use headwater::serde::serdes::{i64, optional, string};
use headwater_state::database::memory::Fault;

use super::embedded::start;
use super::world::{Ground, World};

const LINES: usize = 60;

/// Appends lines while everything fails, kills now and then, and waits for the last count.
/// Answers how often the last run lost a transaction.
fn survives(mut ground: Ground, seed: u64) -> u64 {
    ground.faults = Some(seed);
    let mut world = start(ground, 2);
    let mut expected: BTreeMap<String, i64> = BTreeMap::new();
    for number in 0..LINES {
        let (even, odd) = (format!("w{}", number % 7), format!("v{}", number % 3));
        let line = format!("{even} {odd}");
        let time = i64::try_from(number).expect("small");
        world.append("lines", u32::try_from(number % 2).expect("small"), &[("k", &line, time)]);
        for word in [even, odd] {
            *expected.entry(word).or_default() += 1;
        }
        for _ in 0..(seed + number as u64) % 17 {
            world.round();
        }
        if number % 20 == 19 {
            let mut ground = world.kill(usize::try_from(seed % 5).expect("small"));
            ground.faults = Some(seed + 1_000 + number as u64);
            world = start(ground, 2);
        }
    }
    world.until("all counted", |w| w.last_outputs("word-counts") == expected);
    exactly_once(&world, 2 * LINES, seed);
    let text = world.metrics.text();
    let rewinds = text.lines().filter(|line| line.starts_with("stream_thread_rewind_total"));
    rewinds.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// Each word's counts are 1, 2, 3 and so on: nothing is missing, nothing is there twice.
fn exactly_once(world: &World, records: usize, seed: u64) {
    let outputs = world.outputs("word-counts");
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    for (word, count, _) in &outputs {
        let next = counts.entry(word).or_default();
        *next += 1;
        assert_eq!(*count, Some(*next), "seed {seed}, word {word}: {outputs:?}");
    }
    assert_eq!(outputs.len(), records, "seed {seed}");
}

#[test]
fn failing_transactions_neither_lose_nor_double_on_a_log_that_holds_the_state() {
    let rewinds: u64 = (0..30).map(|seed| survives(Ground::held(), seed)).sum();
    assert!(rewinds > 30, "only {rewinds} transactions were lost");
}

#[test]
fn failing_transactions_neither_lose_nor_double_with_changelogs() {
    let rewinds: u64 = (0..30).map(|seed| survives(Ground::unheld(), seed)).sum();
    assert!(rewinds > 30, "only {rewinds} transactions were lost");
}

/// The number at the end of a metric's line, of all its lines the largest.
fn largest(world: &World, metric: &str) -> u64 {
    let text = world.metrics.text();
    let lines = text.lines().filter(|line| line.starts_with(metric));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).max().expect("a line")
}

#[test]
fn a_thread_whose_state_is_not_written_stops_taking_records_at_its_limit() {
    const LIMIT: usize = 16 << 10;
    const RECORDS: usize = 1_000;
    let b = StreamsBuilder::new();
    b.stream("clicks", Consumed::with(string(), string()))
        .group_by_key(Grouped::with("by-key", string(), string()))
        .count(Materialized::count("counts"))
        .to_stream()
        .to("click-counts", Produced::with(string(), optional(i64())));
    let config = StreamsConfig {
        threads: 1,
        overlay_limit: Some(LIMIT),
        records_per_turn: 8,
        ..StreamsConfig::new("clicks")
    };
    let mut world = World::start(Ground::unheld(), config, b.build().expect("sound"));
    world.until_running();
    let disk = world.ground.state.clone().expect("of its own");
    disk.faults().fail_writes(Some(Fault::Full));
    let keys: Vec<String> = (0..RECORDS).map(|number| format!("key{number}")).collect();
    let records: Vec<_> = keys.iter().map(|key| (key.as_str(), "v", 1_000)).collect();
    world.append("clicks", 0, &records);
    let mut most = 0;
    for _ in 0..2_000 {
        world.round();
        most = most.max(largest(&world, "stream_thread_uncommitted_bytes"));
    }
    let limit = u64::try_from(LIMIT).expect("small");
    assert!((limit..limit + 8 * 512).contains(&most), "{most} bytes are uncommitted");
    disk.faults().heal();
    world.until("all counted", |w| w.last_outputs("click-counts").len() == RECORDS);
}

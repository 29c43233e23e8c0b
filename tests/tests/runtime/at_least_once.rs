//! The weaker guarantee: without failures the same answers, with any failure nothing is lost.

use std::collections::BTreeMap;

use headwater::config::{ProcessingGuarantee, StreamsConfig};
use headwater::log::sim::{SimConfig, SimFaults};
use headwater::runtime::Streams;
use headwater_state::database::memory::MemoryDisk;

use super::beside::Beside;
use super::embedded::word_count;

fn start(world: &mut Beside, disk: &MemoryDisk) -> Streams {
    let processing_guarantee = ProcessingGuarantee::AtLeastOnce;
    let config = StreamsConfig { threads: 2, processing_guarantee, ..StreamsConfig::new("wc") };
    world.start("one", disk, config, word_count())
}

/// The last count of each word.
fn counts(world: &Beside) -> BTreeMap<Vec<u8>, i64> {
    let count = |value: Vec<u8>| i64::from_be_bytes(value.try_into().expect("8 bytes"));
    let records = world.records("word-counts").into_iter();
    records.map(|r| (r.key.expect("a word"), count(r.value.expect("a count")))).collect()
}

#[test]
fn without_failures_at_least_once_is_once() {
    let mut world = Beside::new(SimConfig::calm(1), &["lines", "word-counts"]);
    start(&mut world, &MemoryDisk::new());
    for _ in 0..10 {
        world.append("lines", "to be or not to be", 1);
    }
    world.until("counted", |world| world.records("word-counts").len() == 60);
    assert_eq!(counts(&world).into_values().collect::<Vec<_>>(), [20, 10, 10, 20]);
    for _ in 0..500 {
        world.round();
    }
    assert_eq!(world.records("word-counts").len(), 60, "nothing comes twice");
}

#[test]
fn killed_at_any_moment_on_a_rough_network_at_least_once_loses_nothing() {
    let mut repeated = 0;
    for seed in 0..20 {
        let config = SimConfig { faults: SimFaults::rough(), ..SimConfig::calm(seed) };
        let mut world = Beside::new(config, &["lines", "word-counts"]);
        let disk = MemoryDisk::new();
        start(&mut world, &disk);
        for line in 0..12 {
            world.append("lines", "to be", 1);
            for _ in 0..(seed * 13 + line * 29) % 190 {
                world.round();
            }
            if line % 3 == 2 {
                world.kill("one", &disk);
                start(&mut world, &disk);
            }
        }
        world.until("counted", |world| {
            let counts = counts(world);
            counts.len() == 2 && counts.values().all(|count| *count >= 12)
        });
        repeated += counts(&world).into_values().sum::<i64>() - 24;
    }
    assert!(repeated > 0, "some commit was interrupted");
}

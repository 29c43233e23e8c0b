//! The analytics topology under generated traffic, judged by the independent checker.

use headwater::dsl::StreamsBuilder;
use headwater::record::Headers;
use headwater::testing::{TestRecord, TopologyTestDriver};
use headwater_tests::checker::LogRecord;
use headwater_tests::checker::rollup::compare_output;
use headwater_topologies::analytics::load::{Load, Profile};
use headwater_topologies::analytics::{STORE, rollups, topology};

const START: i64 = 1_767_607_200_000;

fn driver() -> TopologyTestDriver {
    let builder = StreamsBuilder::new();
    topology(&builder);
    let topology = builder.build().expect("the topology has no mistakes");
    TopologyTestDriver::new(&topology).expect("it starts")
}

fn record(offset: usize, record: TestRecord<Option<Vec<u8>>, Option<Vec<u8>>>) -> LogRecord {
    let headers = record.headers.iter().map(|header| {
        (header.name.to_string(), header.value.as_deref().unwrap_or_default().to_vec())
    });
    LogRecord {
        partition: 0,
        offset: i64::try_from(offset).expect("small"),
        timestamp: record.timestamp,
        key: record.key,
        value: record.value,
        headers: headers.collect(),
    }
}

fn records(driver: &mut TopologyTestDriver, topic: &str) -> Vec<LogRecord> {
    driver.take(topic).into_iter().enumerate().map(|(at, taken)| record(at, taken)).collect()
}

/// Half an hour of mixed traffic into one partition.
fn input(seed: u64) -> Vec<LogRecord> {
    let mut now = START;
    let clock = move || {
        now += 450;
        now
    };
    let load = Load::new(seed, Profile { sessions: 40, ..Profile::MIXED }, clock);
    load.take(4_000)
        .enumerate()
        .map(|(at, load)| LogRecord {
            partition: 0,
            offset: i64::try_from(at).expect("small"),
            timestamp: load.timestamp,
            key: load.key,
            value: load.value,
            headers: load.headers,
        })
        .collect()
}

#[test]
fn every_output_every_dead_letter_and_every_window_is_as_recomputed() {
    for seed in 1..=3 {
        let (mut driver, input) = (driver(), input(seed));
        for record in &input {
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            driver
                .pipe("monitoring.events", key, value, record.timestamp, Headers::empty())
                .expect("no record stops the topology");
        }
        let output = records(&mut driver, "analytics.aggregated");
        let letters = records(&mut driver, "monitoring.events.dlq");
        let (expected, mut findings) = compare_output(&input, &output);
        findings.extend(expected.compare_dead_letters(&letters));
        let rows = driver.rows(STORE);
        for key in expected.keys() {
            let shown: Vec<_> = rows
                .iter()
                .filter(|row| row.key == key.as_bytes())
                .map(|row| {
                    let rollup = rollups().decode(Some(&row.value)).expect("a rollup");
                    let view = serde_json::to_value(&rollup).expect("json");
                    (row.window.expect("a window store").start, view)
                })
                .collect();
            findings.extend(expected.compare_windows(key, &shown));
        }
        assert!(findings.is_empty(), "seed {seed}:\n{findings}");
        assert!(expected.counted > 3_500 && !expected.late.is_empty(), "seed {seed}");
        assert_eq!(rows.len(), expected.window_count(), "seed {seed}");
        assert_eq!(u64::try_from(output.len()).expect("small"), expected.counted, "seed {seed}");
    }
}

//! Topologies under generated traffic, judged by the independent checker.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater::config::{HostConfig, StreamsConfig};
use headwater::dsl::StreamsBuilder;
use headwater::query::{HttpOptions, HttpServer};
use headwater::record::Headers;
use headwater::runtime::{Application, Host};
use headwater::shell::HostQueries;
use headwater::testing::{TestRecord, TopologyTestDriver};
use headwater::time::SystemClock;
use headwater_tests::checker::http::Http;
use headwater_tests::checker::{LogRecord, joined as sales, rollup};
use headwater_tests::joined;
use headwater_topologies::analytics;
use headwater_topologies::analytics::load::{Load, Profile};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

const START: i64 = 1_767_607_200_000;

fn driver(topology: fn(&StreamsBuilder)) -> TopologyTestDriver {
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
fn every_rollup_every_dead_letter_and_every_window_is_as_recomputed() {
    for seed in 1..=3 {
        let (mut driver, input) = (driver(analytics::topology), input(seed));
        for record in &input {
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            driver
                .pipe("monitoring.events", key, value, record.timestamp, Headers::empty())
                .expect("no record stops the topology");
        }
        let output = records(&mut driver, "analytics.aggregated");
        let letters = records(&mut driver, "monitoring.events.dlq");
        let (expected, mut findings) = rollup::compare_output(&input, &output);
        findings.extend(expected.compare_dead_letters(&letters));
        let rows = driver.rows(analytics::STORE);
        for key in expected.keys() {
            let shown: Vec<_> = rows
                .iter()
                .filter(|row| row.key == key.as_bytes())
                .map(|row| {
                    let rollup = analytics::rollups().decode(Some(&row.value)).expect("a rollup");
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

fn sent(offset: usize, key: String, value: &serde_json::Value, timestamp: i64) -> LogRecord {
    LogRecord {
        partition: 0,
        offset: i64::try_from(offset).expect("small"),
        timestamp,
        key: Some(key.into_bytes()),
        value: Some(value.to_string().into_bytes()),
        headers: Vec::new(),
    }
}

/// Customers, and orders in and out of order, some late, some of unknown customers.
fn shop(seed: u64) -> (Vec<LogRecord>, Vec<LogRecord>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let regions = ["north", "south", "west"];
    let customers = (0..20).map(|at| {
        let region = json!({ "region": regions[rng.random_range(0..regions.len())] });
        sent(at, format!("customer-{at}"), &region, START)
    });
    let customers = customers.collect();
    let orders = (0..3_000).map(|at| {
        let late = if rng.random_range(0..20) == 0 { rng.random_range(0..30_000) } else { 0 };
        let amount = json!({ "amount": rng.random_range(-50..1_000) });
        let time = START + i64::try_from(at).expect("small") * 30 - late;
        sent(at, format!("customer-{}", rng.random_range(0..22)), &amount, time.max(START))
    });
    (customers, orders.collect())
}

#[test]
fn every_joined_sum_is_as_recomputed() {
    for seed in 1..=3 {
        let (mut driver, (customers, orders)) = (driver(joined::topology), shop(seed));
        for (topic, records) in [(joined::CUSTOMERS, &customers), (joined::ORDERS, &orders)] {
            for record in records {
                let (key, value) = (record.key.as_deref(), record.value.as_deref());
                driver
                    .pipe(topic, key, value, record.timestamp, Headers::empty())
                    .expect("no record stops the topology");
            }
        }
        let by_customer = records(&mut driver, joined::BY_CUSTOMER);
        let by_region = records(&mut driver, joined::BY_REGION);
        let (expected, findings) =
            sales::compare_output(&customers, &orders, &by_customer, &by_region);
        assert!(findings.is_empty(), "seed {seed}:\n{findings}");
        assert!(expected.joined > 2_500 && expected.unknown > 100, "seed {seed}");
        assert!(expected.late > 20, "seed {seed}: {}", expected.late);

        let known = |order: &&LogRecord| {
            expected.customers().any(|customer| order.key.as_deref() == Some(customer.as_bytes()))
        };
        let mut doubled = orders.clone();
        doubled.extend(orders.iter().rev().find(known).cloned());
        let (_, findings) = sales::compare_output(&customers, &doubled, &by_customer, &by_region);
        assert!(!findings.is_empty(), "an order more than was processed must show");
    }
}

/// The rollups in a process of their own, with HTTP on a free port.
fn start(state: &Path) -> (Host, HttpServer) {
    let builder = StreamsBuilder::new();
    analytics::topology(&builder);
    let topology = builder.build().expect("the topology has no mistakes");
    let config = StreamsConfig::new(analytics::APPLICATION);
    let host = HostConfig { state_dir: state.to_owned(), http: None, ..HostConfig::default() };
    let host = Host::start(host, vec![Application { topology, config }]).expect("it starts");
    let routes: Vec<_> = analytics::application()
        .routes
        .into_iter()
        .map(|route| (Arc::from(analytics::APPLICATION), route))
        .collect();
    let target = Arc::new(HostQueries::new(host.view().clone()));
    let options = HttpOptions::at("127.0.0.1:0".parse().expect("an address"));
    let clock = Arc::new(SystemClock::new());
    let metrics = host.view().metrics.clone();
    let http = HttpServer::start(target, &routes, options, metrics, clock).expect("it listens");
    (host, http)
}

#[test]
fn a_keys_windows_and_their_exact_total_are_answered_over_http() {
    let state = tempfile::tempdir().expect("a scratch directory");
    let (host, server) = start(state.path());
    let http = Http::new(&format!("http://{}", server.address()));
    let deadline = Instant::now() + Duration::from_secs(60);
    let until = |path: &str, done: &dyn Fn(&serde_json::Value) -> bool| loop {
        assert!(Instant::now() < deadline, "{path} did not come to it in time");
        if let Ok(answer) = http.get(path)
            && done(&answer)
        {
            break answer;
        }
    };
    until("/health/ready", &|_| true);
    for (minutes, value) in [(0, 10), (1, 20), (7, 40)] {
        let time = START + minutes * 60_000;
        let metric = json!({
            "eventId": "4b7a1c9e-2f43-4c56-9a0e-5a3b8b1f0d11", "eventType": "AgentPerformanceMetric",
            "timestamp": time, "agentType": "worker", "sessionId": "s 1", "metric": "tokens",
            "value": value,
        });
        let address = format!("http://{}/topics/monitoring.events/records", server.address());
        let record = json!({ "key": "s 1", "value": metric, "timestamp": time });
        ureq::post(address).send_json(&record).expect("the record is appended");
    }
    let path = "/analytics?key=s%201";
    let answer = until(path, &|answer| answer["total"]["count"] == 3);
    let windows = answer["windows"].as_array().expect("a list");
    let counts: Vec<_> = windows.iter().map(|window| &window["count"]).collect();
    assert_eq!(counts, [&json!(2), &json!(1)]);
    let total = &answer["total"]["metrics"]["tokens"];
    assert_eq!((&total["sum"], &total["max"]), (&json!(70.0), &json!(40.0)));
    assert_eq!(answer["asOf"][0]["topic"], "monitoring.events");

    let later = http.get(&format!("{path}&from={}", START + 1)).expect("an answer");
    assert_eq!(later["total"]["count"], 1);
    let nobody = http.get("/analytics?key=nobody").expect("an answer");
    assert_eq!((&nobody["windows"], &nobody["total"]["count"]), (&json!([]), &json!(0)));
    for wrong in ["/analytics", "/analytics?key=a&from=soon", "/analytics?key="] {
        let refused = http.get(wrong).expect_err("a question that cannot be answered");
        assert!(refused.contains("status 400"), "{refused}");
    }
    server.stop(Duration::from_secs(5));
    host.stop();
    host.wait().expect("it ends in order");
}

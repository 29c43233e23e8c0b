//! Killed with -9 at any moment under load, a process on the embedded log has lost nothing it
//! acknowledged, doubled nothing and kept its stores: every output, dead letter and window of two
//! applications (the rollups; orders that are joined, repartitioned and windowed) is as an
//! independent checker recomputes it from the input that the log holds.

use std::path::Path;
use std::process::Command;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headwater::time::{Clock, SystemClock};
use headwater_tests::checker::http::Http;
use headwater_tests::checker::{Findings, LogRecord, joined as sales, rollup};
use headwater_tests::child::{Child, signal};
use headwater_tests::{joined, proof};
use headwater_topologies::analytics;
use headwater_topologies::analytics::load::{Load, Profile};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

/// Kills in `make test`.
const KILLS: u64 = 20;
const SOON: Duration = Duration::from_secs(60);
/// Kills after which everything is compared.
const COMPARE_EVERY: u64 = 10;
/// Event time begins at a full hour so long ago: topics keep records by their timestamps.
const AGO_MS: i64 = 6 * HOUR_MS;
const HOUR_MS: i64 = 60 * 60 * 1_000;
const CUSTOMERS: usize = 20;
const METRICS: &str = "monitoring.events";

#[test]
fn a_process_that_is_killed_again_and_again_loses_and_doubles_nothing() {
    let seeds = proof::seeds("embedded kills", KILLS);
    let state = tempfile::tempdir().expect("a folder for state");
    let mut world = World::new(*seeds.start());
    let mut summary = String::new();
    for (nth, seed) in (1..).zip(seeds.clone()) {
        world.kill_once(state.path(), seed);
        if nth % COMPARE_EVERY == 0 || seed == *seeds.end() {
            summary = world.compare(state.path());
        }
    }
    proof::say(&format!("embedded kills: {} kills, {summary}", seeds.count()));
}

/// What was sent and what was acknowledged, over all lives of the process.
struct World {
    rng: ChaCha8Rng,
    seed: u64,
    batches: u64,
    start: i64,
    time: i64,
    acknowledged: Vec<Acknowledged>,
}

/// A record whose append was answered.
struct Acknowledged {
    topic: &'static str,
    partition: u32,
    offset: i64,
    value: Vec<u8>,
}

struct Sent {
    json: Value,
    value: Vec<u8>,
}

fn sent(key: Option<&[u8]>, value: Option<Vec<u8>>, timestamp: i64) -> Sent {
    let value = value.unwrap_or_default();
    let mut json = json!({ "valueBase64": STANDARD.encode(&value), "timestamp": timestamp });
    if let Some(key) = key {
        json["keyBase64"] = STANDARD.encode(key).into();
    }
    Sent { json, value }
}

impl World {
    fn new(seed: u64) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let start = SystemClock::new().now().wall_ms - AGO_MS;
        let start = start - start % HOUR_MS;
        Self { rng, seed, batches: 0, start, time: start, acknowledged: Vec::new() }
    }

    /// One life: start, load, kill -9 at a random moment; late records come before and after.
    fn kill_once(&mut self, state: &Path, seed: u64) {
        let (child, base) = start(state);
        let agent = agent();
        self.customers(&agent, &base);
        let after = Duration::from_millis(ChaCha8Rng::seed_from_u64(seed).random_range(0..700));
        let deadline = Instant::now() + after;
        let killer = std::thread::spawn(move || {
            while let Some(left) = deadline.checked_duration_since(Instant::now()) {
                park_timeout(left);
            }
            child.kill();
        });
        while self.metrics(&agent, &base) && self.orders(&agent, &base) {}
        killer.join().expect("the process is killed");
    }

    /// The table is written whole before the first order, so that the join has one answer.
    fn customers(&mut self, agent: &ureq::Agent, base: &str) {
        if self.acknowledged.iter().any(|a| a.topic == joined::CUSTOMERS) {
            return;
        }
        let rows = (0..CUSTOMERS).map(|at| {
            let region = ["north", "south", "west"][at % 3];
            let value = json!({ "region": region }).to_string().into_bytes();
            sent(Some(format!("customer-{at}").as_bytes()), Some(value), self.start)
        });
        assert!(self.post(agent, base, joined::CUSTOMERS, rows.collect()), "the rows are written");
    }

    fn metrics(&mut self, agent: &ureq::Agent, base: &str) -> bool {
        self.batches += 1;
        let time = &mut self.time;
        let clock = || {
            *time += 450;
            *time
        };
        let profile = Profile { sessions: 40, late: 40, hostile: 0, ..Profile::MIXED };
        let load = Load::new(self.seed.wrapping_mul(1_000_003) ^ self.batches, profile, clock);
        let records = load.take(40).map(|r| sent(r.key.as_deref(), r.value, r.timestamp)).collect();
        self.post(agent, base, METRICS, records)
    }

    fn orders(&mut self, agent: &ureq::Agent, base: &str) -> bool {
        let records = (0..20).map(|_| {
            let late =
                if self.rng.random_ratio(1, 10) { self.rng.random_range(0..60_000) } else { 0 };
            let customer = format!("customer-{}", self.rng.random_range(0..CUSTOMERS + 2));
            let amount = json!({ "amount": self.rng.random_range(-50..1_000) });
            let value = amount.to_string().into_bytes();
            sent(Some(customer.as_bytes()), Some(value), (self.time - late).max(self.start))
        });
        let records = records.collect();
        self.post(agent, base, joined::ORDERS, records)
    }

    /// Appends records as one whole. False when the process is gone.
    fn post(
        &mut self,
        agent: &ureq::Agent,
        base: &str,
        topic: &'static str,
        records: Vec<Sent>,
    ) -> bool {
        let body: Vec<&Value> = records.iter().map(|record| &record.json).collect();
        let answer = agent.post(format!("{base}/topics/{topic}/records")).send_json(&body);
        let Ok(mut answer) = answer else { return false };
        let status = answer.status().as_u16();
        let Ok(text) = answer.body_mut().read_to_string() else { return false };
        assert!((200..300).contains(&status), "POST to {topic}: status {status}: {text}");
        let answer: Value = serde_json::from_str(&text).expect("the answer is JSON");
        let places = answer["items"].as_array();
        let places = places.unwrap_or_else(|| panic!("no places in {text}"));
        assert_eq!(places.len(), records.len(), "every record has its place");
        for (place, record) in places.iter().zip(records) {
            self.acknowledged.push(Acknowledged {
                topic,
                partition: u32::try_from(place["partition"].as_u64().expect("a partition"))
                    .expect("few partitions"),
                offset: place["offset"].as_i64().expect("an offset"),
                value: record.value,
            });
        }
        true
    }

    /// Starts once more, lets it catch up, and compares everything there is.
    fn compare(&self, state: &Path) -> String {
        let (mut child, base) = start(state);
        let http = Http::new(&base);
        let deadline = Instant::now() + SOON;
        loop {
            let (findings, summary) = self.differences(&http, &base);
            if findings.is_empty() {
                signal(child.pid(), "TERM");
                let status = child.wait(SOON);
                assert!(status.success(), "it stops in order:\n{}", child.log_tail());
                return summary;
            }
            assert!(Instant::now() < deadline, "seed {}:\n{findings}", self.seed);
            park_timeout(Duration::from_millis(100));
        }
    }

    fn differences(&self, http: &Http, base: &str) -> (Findings, String) {
        let read = |topic: &str| http.topic(topic).expect("the topic can be read");
        let metrics = read(METRICS);
        let (rollups, mut findings) =
            rollup::compare_output(&metrics, &read("analytics.aggregated"));
        findings.extend(rollups.compare_dead_letters(&read("monitoring.events.dlq")));
        let shown = Http::new(&format!("{base}/apps/analytics"));
        for key in rollups.keys() {
            let windows = shown.windows(analytics::STORE, key).expect("windows can be read");
            findings.extend(rollups.compare_windows(key, &windows));
        }
        let (customers, orders) = (read(joined::CUSTOMERS), read(joined::ORDERS));
        let (by_customer, by_region) = (read(joined::BY_CUSTOMER), read(joined::BY_REGION));
        let (sales, more) = sales::compare_output(&customers, &orders, &by_customer, &by_region);
        findings.extend(more);
        let shown = Http::new(&format!("{base}/apps/{}", joined::APPLICATION));
        for customer in sales.customers() {
            let windows = shown.windows(joined::BY_CUSTOMER, customer).expect("they can be read");
            findings.extend(sales.compare_customer(customer, &windows));
        }
        for region in sales.regions() {
            let windows = shown.windows(joined::BY_REGION, region).expect("they can be read");
            findings.extend(sales.compare_region(region, &windows));
        }
        let inputs =
            [(METRICS, &metrics), (joined::CUSTOMERS, &customers), (joined::ORDERS, &orders)];
        self.acknowledged_are_there(&inputs);
        let summary = format!(
            "{} metrics ({} late), {} orders ({} late), {} acknowledged; 0 lost, 0 doubled, \
             windows equal",
            metrics.len(),
            rollups.late.len(),
            orders.len(),
            sales.late,
            self.acknowledged.len(),
        );
        (findings, summary)
    }

    fn acknowledged_are_there(&self, inputs: &[(&str, &Vec<LogRecord>)]) {
        for (topic, records) in inputs {
            let by_place: std::collections::BTreeMap<_, _> =
                records.iter().map(|r| ((r.partition, r.offset), r)).collect();
            for a in self.acknowledged.iter().filter(|a| a.topic == *topic) {
                let found = by_place.get(&(a.partition, a.offset)).map(|r| r.value.as_deref());
                let found = found.map(Option::unwrap_or_default);
                let place = format!("{topic}-{} offset {}", a.partition, a.offset);
                assert_eq!(found, Some(&*a.value), "seed {}: {place} was acknowledged", self.seed);
            }
        }
    }
}

/// Starts the process on a free port and waits until it is ready.
fn start(state: &Path) -> (Child, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crash"));
    command.arg("run").env("STATE_DIR", state).env("HTTP_ADDR", "127.0.0.1:0");
    command.env("THREADS", "2").env_remove("KAFKA_BROKERS").env("MEMORY_LIMIT", "96MiB");
    let mut child = Child::start("crash", &command);
    let line = child.wait_for_line(SOON, |line| line.contains("listening on http://"));
    let base = line.split("listening on ").nth(1).expect("the address").trim().to_owned();
    let (http, deadline) = (Http::new(&base), Instant::now() + SOON);
    while http.get("/health/ready").is_err() {
        assert!(Instant::now() < deadline && !child.has_ended(), "{}", child.log_tail());
        park_timeout(Duration::from_millis(5));
    }
    (child, base)
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    config.timeout_global(Some(SOON)).build().into()
}

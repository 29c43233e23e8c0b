//! What the whole engine does in one process on the embedded log, beside bare RocksDB in the same
//! run: pass-through and windowed count in records a second over preloaded input, processing latency
//! and lag at a steady 10,000 records a second, start to first result on an empty directory, and
//! dispatch per hop. One JSON line. For the figures of one core, pin the process:
//! `taskset -c 0 engine`.
#![expect(clippy::print_stdout, reason = "a bench prints its result")]

use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use clap::Parser;
use headwater::actor::{Bell, Poll, Ticket};
use headwater::config::{HostConfig, StreamsConfig};
use headwater::dsl::{Consumed, Grouped, Materialized, Produced, StreamsBuilder, TimeWindows};
use headwater::log::embedded::EmbeddedLog;
use headwater::log::{Cleanup, Fetched, Log, LogResult, TopicSpec};
use headwater::metrics::Metrics;
use headwater::record::{Headers, RecordBatch, RecordBatchBuilder, TaskId, TopicPartition};
use headwater::runtime::{Application, Host};
use headwater::serde::kafka_streams::{partition_for, time_windowed};
use headwater::serde::serdes::{bytes, i64, optional, string};
use headwater::task::{StreamTask, TaskSettings};
use headwater::time::Now;
use headwater::topology::Topology;
use headwater_state::positions::TaskPositions;
use rocksdb::{DB, Options, WriteBatch};
use serde_json::json;

const PARTITIONS: u32 = 4;
const KEYS: usize = 10_000;
const BATCH: usize = 512;
const VALUE_BYTES: usize = 100;
const WINDOW_MS: i64 = 300_000;

/// Measures the engine on the embedded log.
#[derive(Parser)]
struct Arguments {
    /// Records of each throughput measurement.
    #[arg(long, default_value_t = 1_000_000)]
    records: usize,
    /// Seconds at 10,000 records a second.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let scratch = tempfile::tempdir()?;
    let at = |name: &str| scratch.path().join(name);
    let bare_pass = bare_pass_through(&at("bare-pass"), arguments.records)?;
    let bare_count = bare_windowed_count(&at("bare-count"), arguments.records)?;
    let pass = throughput(&at("pass"), pass_through(), arguments.records)?;
    let count = throughput(&at("count"), windowed_count(false), arguments.records)?;
    let on_commit = throughput(&at("on-commit"), windowed_count(true), arguments.records)?;
    let steady = steady(&at("steady"), arguments.seconds)?;
    let start = start_to_first_result(&at("start"))?;
    let line = json!({
        "bench": "engine",
        "records": arguments.records,
        "pass_through": {
            "records_per_s": pass.round(),
            "bare_rocksdb_records_per_s": bare_pass.round(),
            "ratio": pass / bare_pass,
        },
        "windowed_count": {
            "records_per_s": count.round(),
            "bare_rocksdb_records_per_s": bare_count.round(),
            "ratio": count / bare_count,
        },
        "windowed_count_emit_on_commit": {
            "records_per_s": on_commit.round(),
            "ratio": on_commit / bare_count,
        },
        "steady_10k": steady,
        "start_to_first_result_ms": start.as_secs_f64() * 1e3,
        "dispatch_ns_per_hop": dispatch_per_hop(),
        "resident_mib": resident_mib(),
    });
    println!("{line}");
    Ok(())
}

fn pass_through() -> Arc<Topology> {
    let b = StreamsBuilder::new();
    b.stream("in", Consumed::with(string(), bytes())).to("out", Produced::with(string(), bytes()));
    b.build().expect("the topology is sound")
}

/// Every update is told, or one a key and commit.
fn windowed_count(emit_on_commit: bool) -> Arc<Topology> {
    let b = StreamsBuilder::new();
    let counts = Materialized::count("counts");
    let size = Duration::from_millis(WINDOW_MS.unsigned_abs());
    b.stream("in", Consumed::with(string(), bytes()))
        .group_by_key(Grouped::with("g", string(), bytes()))
        .windowed_by(TimeWindows::tumbling(size, Duration::ZERO))
        .count(if emit_on_commit { counts.cached() } else { counts })
        .to_stream()
        .to("out", Produced::with(time_windowed(string(), WINDOW_MS), optional(i64())));
    b.build().expect("the topology is sound")
}

fn idle() -> Arc<Topology> {
    let b = StreamsBuilder::new();
    b.stream("idle", Consumed::with(string(), bytes())).for_each(|_, _| ());
    b.build().expect("the topology is sound")
}

fn host(dir: &Path, topology: Arc<Topology>) -> Result<Host, Box<dyn std::error::Error>> {
    let config = HostConfig { state_dir: dir.to_owned(), http: None, ..HostConfig::default() };
    let application = Application { topology, config: StreamsConfig::new("bench") };
    Ok(Host::start(config, vec![application])?)
}

fn stop(host: Host) -> Result<(), Box<dyn std::error::Error>> {
    host.stop();
    Ok(host.wait()?)
}

fn wait<T>(ticket: &Ticket<LogResult<T>>) -> LogResult<T> {
    loop {
        match ticket.poll() {
            Poll::Done(answer) => return answer,
            Poll::Pending => sleep(Duration::from_micros(200)),
            Poll::Abandoned => panic!("the log gave the call up"),
        }
    }
}

fn create_input(log: &EmbeddedLog) -> LogResult<()> {
    let cleanup = Cleanup::Delete { retention: None };
    let spec = |name: &str| TopicSpec { name: name.into(), partitions: PARTITIONS, cleanup };
    wait(&log.create_topics(vec![spec("in"), spec("out")]))
}

/// Keyed records, one a millisecond from now on, as one batch for each partition.
struct Input {
    keys: Vec<(String, u32)>,
    value: Vec<u8>,
    next: usize,
    time: i64,
}

impl Input {
    fn new() -> Self {
        let key = |n: usize| format!("key-{n:08}");
        let keys = (0..KEYS).map(|n| (key(n), partition_for(key(n).as_bytes(), PARTITIONS)));
        Self { keys: keys.collect(), value: vec![b'v'; VALUE_BYTES], next: 0, time: wall_ms() }
    }

    fn batches(&mut self, records: usize) -> Vec<(TopicPartition, RecordBatch)> {
        let mut lanes: Vec<RecordBatchBuilder> = Vec::new();
        lanes.resize_with(PARTITIONS as usize, RecordBatchBuilder::new);
        for _ in 0..records {
            // A stride that is prime to the number of keys visits all of them.
            self.next = (self.next + 7_919) % KEYS;
            let (key, partition) = &self.keys[self.next];
            self.time += 1;
            let (key, value) = (Some(key.as_bytes()), Some(&*self.value));
            let lane = &mut lanes[*partition as usize];
            lane.append(self.time, key, value, Headers::empty()).expect("the batch has room");
        }
        let full = (0..).zip(lanes).filter(|(_, lane)| !lane.is_empty());
        full.map(|(partition, lane)| {
            let batch = RecordBatch::new(0, lane.finish()).expect("the builder's encoding reads");
            (TopicPartition::new("in", partition), batch)
        })
        .collect()
    }
}

/// Preloads the input, then measures from the first record processed to all records committed.
fn throughput(
    dir: &Path,
    topology: Arc<Topology>,
    records: usize,
) -> Result<f64, Box<dyn std::error::Error>> {
    let loader = host(dir, idle())?;
    let log = Arc::clone(loader.view().embedded.as_ref().expect("no cluster is named"));
    create_input(&log)?;
    let mut input = Input::new();
    let per_call = BATCH * PARTITIONS as usize;
    for _ in 0..records.div_ceil(per_call) {
        wait(&log.append(&input.batches(per_call), Bell::new()))?;
    }
    drop(log);
    stop(loader)?;
    let total = records.div_ceil(per_call) * per_call;
    let running = host(dir, topology)?;
    let started = wait_for_commits(&running, 1);
    let (first, at_first) = (started.0, Instant::now());
    let (all, _) = wait_for_commits(&running, total);
    let rate = (all - first) as f64 / at_first.elapsed().as_secs_f64();
    stop(running)?;
    Ok(rate)
}

/// Waits until this many records are committed; gives how many are, and when.
fn wait_for_commits(host: &Host, records: usize) -> (usize, Instant) {
    loop {
        let done = committed(host);
        if done >= records {
            return (done, Instant::now());
        }
        assert!(host.view().is_live(), "the application failed");
        sleep(Duration::from_millis(1));
    }
}

fn committed(host: &Host) -> usize {
    let board = host.view().applications[0].board();
    let offsets = board.tasks().into_values().flat_map(|task| task.committed.into_values());
    usize::try_from(offsets.sum::<i64>()).expect("offsets are not negative")
}

/// 10,000 records a second: processing latency p99, the largest lag, memory.
fn steady(dir: &Path, seconds: u64) -> Result<serde_json::Value, Box<dyn std::error::Error>> {
    let running = host(dir, windowed_count(false))?;
    let log = Arc::clone(running.view().embedded.as_ref().expect("no cluster is named"));
    create_input(&log)?;
    let mut input = Input::new();
    let begin = Instant::now();
    let (mut sent, mut lag_max) = (0_usize, 0_usize);
    for tick in 1..=seconds * 100 {
        let batches = input.batches(100);
        wait(&log.append(&batches, Bell::new()))?;
        sent += 100;
        if tick > 100 {
            lag_max = lag_max.max(sent.saturating_sub(committed(&running)));
        }
        sleep((begin + Duration::from_millis(tick * 10)).saturating_duration_since(Instant::now()));
    }
    let achieved = sent as f64 / begin.elapsed().as_secs_f64();
    wait_for_commits(&running, sent);
    let text = running.view().metrics.text();
    let p99 = quantile(&text, "stream_thread_process_latency_seconds", 0.99);
    let p50 = quantile(&text, "stream_thread_process_latency_seconds", 0.5);
    let report = json!({
        "records_per_s": achieved.round(),
        "processing_p50_ms_at_most": p50.map(|s| s * 1e3),
        "processing_p99_ms_at_most": p99.map(|s| s * 1e3),
        "lag_max_ms": lag_max as f64 / achieved * 1e3,
        "resident_mib": resident_mib(),
    });
    drop(log);
    stop(running)?;
    Ok(report)
}

/// The upper bound of the histogram's bucket that holds the quantile.
fn quantile(text: &str, family: &str, q: f64) -> Option<f64> {
    let mut buckets: Vec<(f64, f64)> = Vec::new();
    for line in text.lines().filter(|l| l.starts_with(&format!("{family}_bucket"))) {
        let bound = line.split("le=\"").nth(1)?.split('"').next()?.parse().unwrap_or(f64::INFINITY);
        buckets.push((bound, line.rsplit(' ').next()?.parse().ok()?));
    }
    let total = buckets.iter().map(|(_, n)| *n).fold(0.0, f64::max);
    buckets.iter().find(|(_, n)| *n >= total * q).map(|(bound, _)| *bound)
}

fn start_to_first_result(dir: &Path) -> Result<Duration, Box<dyn std::error::Error>> {
    let begin = Instant::now();
    let running = host(dir, pass_through())?;
    let log = Arc::clone(running.view().embedded.as_ref().expect("no cluster is named"));
    create_input(&log)?;
    wait(&log.append(&Input::new().batches(1), Bell::new()))?;
    wait_for_commits(&running, 1);
    let took = begin.elapsed();
    drop(log);
    stop(running)?;
    Ok(took)
}

/// What one more operator costs a record: ten filters more, divided by ten.
fn dispatch_per_hop() -> f64 {
    let cost = |filters: usize| {
        let b = StreamsBuilder::new();
        let mut stream = b.stream("in", Consumed::with(i64(), i64()));
        for _ in 0..filters {
            stream = stream.filter(|_, n| *n >= 0);
        }
        stream.for_each(|_, n| {
            std::hint::black_box(n);
        });
        run_task(&b.build().expect("the topology is sound"))
    };
    let best = |filters| (0..5).map(|_| cost(filters)).fold(f64::INFINITY, f64::min);
    (best(11) - best(1)) / 10.0
}

/// Nanoseconds a record in one task.
fn run_task(topology: &Arc<Topology>) -> f64 {
    const RECORDS: i64 = 200_000;
    let now = Now { monotonic: Duration::ZERO, wall_ms: 0 };
    let settings = TaskSettings {
        audit: false,
        application_id: "bench".into(),
        on_error: headwater::config::OnError::default(),
        dead_letter_topic: None,
        partition_counts: Arc::default(),
        queue_bytes: usize::MAX,
        record_bytes_max: None,
        tasks_family: None,
        globals: Arc::default(),
        whole_topology: true,
        metrics: Metrics::new().task("bench", "0_0"),
    };
    let id = TaskId { subtopology: 0, partition: 0 };
    let from = TaskPositions::default();
    let task = StreamTask::new(topology, id, Vec::new(), &from, settings, now);
    let mut task = task.expect("the task has no state");
    let mut batch = RecordBatchBuilder::new();
    for n in 0..RECORDS {
        let field = n.to_be_bytes();
        batch.append(n, Some(&field), Some(&field), Headers::empty()).expect("the batch has room");
    }
    let batch = RecordBatch::new(0, batch.finish()).expect("the builder's encoding reads");
    let fetched = Fetched { batches: vec![batch], position: RECORDS, at_end: true };
    task.enqueue(0, fetched, now);
    let begin = Instant::now();
    while task.process(now, 1_024).expect("filters do not fail") > 0 {}
    begin.elapsed().as_nanos() as f64 / RECORDS as f64
}

/// Bare RocksDB: the same batches read, decoded, encoded again and written, input preloaded.
fn bare_pass_through(dir: &Path, records: usize) -> Result<f64, Box<dyn std::error::Error>> {
    let db = open_bare(dir)?;
    let mut input = Input::new();
    let mut stored = Vec::new();
    for n in 0..records.div_ceil(BATCH) as u64 {
        for (partition, batch) in input.batches(BATCH) {
            let key = [&b"in"[..], &partition.partition.to_be_bytes(), &n.to_be_bytes()].concat();
            db.put(&key, batch.bytes())?;
            stored.push(key);
        }
    }
    let begin = Instant::now();
    let mut done = 0_usize;
    for keys in stored.chunks(64) {
        let mut commit = WriteBatch::default();
        for key in keys {
            let value = Bytes::from(db.get(key)?.expect("the batch was put"));
            let mut out = RecordBatchBuilder::with_capacity(value.len());
            for record in RecordBatch::new(0, value)?.records() {
                let record = record?;
                out.append(record.timestamp, record.key, record.value, Headers::empty())?;
                done += 1;
            }
            commit.put([&b"out"[..], &key[2..]].concat(), out.finish());
        }
        db.write(commit)?;
    }
    Ok(done as f64 / begin.elapsed().as_secs_f64())
}

/// Bare RocksDB: a get and a put for each record, committed every 20,000.
fn bare_windowed_count(dir: &Path, records: usize) -> Result<f64, Box<dyn std::error::Error>> {
    let db = open_bare(dir)?;
    let keys: Vec<Vec<u8>> =
        (0..KEYS).map(|n| format!("key-{n:08}-00000000").into_bytes()).collect();
    let begin = Instant::now();
    let mut commit = WriteBatch::default();
    for n in 0..records {
        let key = &keys[(n * 7_919) % KEYS];
        let count = match db.get_pinned(key)? {
            Some(value) => i64::from_be_bytes((*value).try_into()?),
            None => 0,
        };
        commit.put(key, (count + 1).to_be_bytes());
        if n % 20_000 == 0 {
            db.write(std::mem::take(&mut commit))?;
        }
    }
    db.write(commit)?;
    Ok(records as f64 / begin.elapsed().as_secs_f64())
}

fn open_bare(dir: &Path) -> Result<DB, rocksdb::Error> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_write_buffer_size(64 << 20);
    DB::open(&options, dir)
}

fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).expect("the clock is in range")
}

/// Resident memory of this process.
fn resident_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}

//! Two processes of two applications (the rollups; orders that are joined, repartitioned and windowed)
//! share their tasks on a real cluster, under load, while processes are killed with -9, stopped for
//! longer than their transactions may take, ended in order and started again, and brokers are killed
//! under them: nothing is lost, nothing doubled, nothing aborted is seen, and the stores of every
//! process are what an independent checker computes from the input.
//!
//! Three brokers, so that each partition is led at any time: a broker of Kafka 4.2 and 4.3 leaves out
//! the transaction markers of partitions that have no leader at that moment (KAFKA-20734), and then
//! aborted records are committed by the next transaction of the same producer. `docs/kafka.md` says
//! more.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, park_timeout};
use std::time::{Duration, Instant};

use headwater::time::{Clock, SystemClock};
use headwater_tests::checker::http::Http;
use headwater_tests::checker::{Findings, LogRecord, joined as sales, rollup};
use headwater_tests::child::{Child, signal};
use headwater_tests::kafka_broker::{FAST_GROUPS, KafkaCluster, committed_records, is_passing};
use headwater_tests::{joined, proof};
use headwater_topologies::analytics;
use headwater_topologies::analytics::load::{Load as Metrics, Profile};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::json;

/// Faults in `make test`.
const FAULTS: u64 = 8;
/// Faults of one part in `make soak`.
const PART: u64 = 32;
const SOON: Duration = Duration::from_secs(120);
/// A process that is silent for so long is put out; transactions are given up after 10 s.
const SESSION: Duration = Duration::from_secs(3);
const BEYOND_TRANSACTIONS: Duration = Duration::from_secs(11);
const PARTITIONS: u16 = 4;
const CUSTOMERS: usize = 20;
const METRICS: &str = "monitoring.events";
const ROLLUPS: &str = "analytics.aggregated";
const LETTERS: &str = "monitoring.events.dlq";
const INPUTS: [&str; 3] = [METRICS, joined::CUSTOMERS, joined::ORDERS];
const OUTPUTS: [&str; 3] = [ROLLUPS, joined::BY_CUSTOMER, joined::BY_REGION];
/// The status of a process that has aborted, as a shell tells it.
const ABORTED: i32 = 128 + 6;
/// Where a process dies inside a commit.
const PHASES: [&str; 3] = ["sealed", "committing", "writing"];
/// Event time runs so much faster than the clock that windows close, and stays in the past.
const HEAD_START_MS: i64 = 6 * 60 * 60 * 1_000;
const STEP_MS: i64 = 45;

#[test]
fn whatever_is_killed_or_stopped_nothing_is_lost_or_doubled_and_every_store_is_right() {
    let seeds = proof::seeds("kafka chaos", FAULTS);
    let Some(cluster) = KafkaCluster::start(&FAST_GROUPS) else { return };
    for topic in INPUTS.iter().chain(&OUTPUTS) {
        cluster.create_topic(topic, PARTITIONS, &[]);
    }
    // Each part of the soak proves the other protocol.
    let protocol = if (seeds.start() / PART) % 2 == 1 { "consumer" } else { "classic" };
    let mut crowd = [Instance::new("a", protocol), Instance::new("b", protocol)];
    crowd.iter_mut().for_each(|instance| instance.start(&cluster));
    write_customers(&cluster);
    let load = Load::start(&cluster, *seeds.start());
    let mut done = BTreeMap::new();
    for seed in seeds.clone() {
        *done.entry(fault(seed, &cluster, &mut crowd)).or_insert(0) += 1;
    }
    load.stop();
    let summary = compare(&cluster, &mut crowd, *seeds.start());
    proof::say(&format!("kafka chaos, {protocol} protocol: {done:?}, {summary}"));
    crowd.iter_mut().for_each(Instance::end);
    cluster.stop();
}

/// One process with both applications; its state outlives it.
struct Instance {
    name: &'static str,
    protocol: &'static str,
    state: tempfile::TempDir,
    child: Option<Child>,
    base: String,
}

impl Instance {
    fn new(name: &'static str, protocol: &'static str) -> Self {
        let state = tempfile::tempdir().expect("a folder for state");
        Self { name, protocol, state, child: None, base: String::new() }
    }

    /// Starts it; it listens when this returns, and may have no task yet.
    fn start(&mut self, cluster: &KafkaCluster) {
        self.launch(cluster, "run", &[]);
    }

    /// Starts it to die inside a commit, and waits until it has died.
    fn die_in(&mut self, cluster: &KafkaCluster, phase: &str, times: u32) {
        let times = times.to_string();
        self.launch(cluster, "die", &[("CRASH_PHASE", phase), ("CRASH_TIMES", &times)]);
        let mut child = self.child.take().expect("it was started");
        let status = child.wait(SOON);
        assert_eq!(status.code(), Some(ABORTED), "{}:\n{}", self.name, child.log_tail());
    }

    fn launch(&mut self, cluster: &KafkaCluster, word: &str, settings: &[(&str, &str)]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_crash"));
        command.arg(word).env("STATE_DIR", self.state.path()).env("HTTP_ADDR", "127.0.0.1:0");
        command.envs(settings.iter().copied());
        command
            .env("KAFKA_BROKERS", cluster.addresses().join(","))
            .env("KAFKA_GROUP_PROTOCOL", self.protocol);
        command.env("KAFKA_SESSION_TIMEOUT_MS", SESSION.as_millis().to_string());
        command.env("THREADS", "2").env("MEMORY_LIMIT", "96MiB");
        let mut child = Child::start(self.name, &command);
        let line = child.wait_for_line(SOON, |line| line.contains("listening on http://"));
        self.base = line.split("listening on ").nth(1).expect("the address").trim().to_owned();
        self.child = Some(child);
    }

    fn child(&mut self) -> &mut Child {
        let child = self.child.as_mut().expect("it runs");
        assert!(!child.has_ended(), "{} ended by itself:\n{}", self.name, child.log_tail());
        child
    }

    fn signal(&mut self, name: &str) {
        signal(self.child().pid(), name);
    }

    fn kill(&mut self) {
        self.child();
        self.child.take().expect("it runs").kill();
    }

    /// Ends it in order, if it runs.
    fn end(&mut self) {
        if self.child.is_some() {
            self.child();
            let mut child = self.child.take().expect("it runs");
            signal(child.pid(), "TERM");
            let status = child.wait(SOON);
            assert!(status.success(), "{} ends in order:\n{}", self.name, child.log_tail());
        }
    }
}

impl Drop for Instance {
    /// What it has said, and where its tasks stand, is needed to see what went wrong.
    fn drop(&mut self) {
        if let Some(child) = self.child.as_ref().filter(|_| std::thread::panicking()) {
            for application in ["analytics", joined::APPLICATION] {
                let tasks = Http::new(&self.base).get(&format!("/apps/{application}/tasks"));
                proof::say(&format!("{}, {application}: {tasks:?}", self.name));
            }
            proof::say(&format!("{} has said:\n{}", self.name, child.log_tail()));
        }
    }
}

/// Something bad happens at a random moment, and passes. The kinds come by turns, so that a few seeds
/// have them all; moments and victims are the seed's.
fn fault(seed: u64, cluster: &KafkaCluster, crowd: &mut [Instance; 2]) -> &'static str {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut moment = |most: u64| Duration::from_millis(random.random_range(0..most));
    let (before, within, after) = (moment(2_000), moment(1_500), moment(6_000));
    let victim = &mut crowd[usize::from(random.random_ratio(1, 2))];
    wait(before);
    match seed % 8 {
        1 => {
            victim.kill();
            wait(within);
            victim.start(cluster);
            "killed and started at once"
        }
        3 => {
            victim.end();
            let phase = PHASES.choose(&mut random).expect("there are some");
            victim.die_in(cluster, phase, random.random_range(1..40));
            wait(within);
            victim.start(cluster);
            "killed inside a commit"
        }
        2 => {
            victim.kill();
            wait(SESSION + after);
            victim.start(cluster);
            "killed and replaced by the other"
        }
        4 => {
            victim.signal("STOP");
            wait(BEYOND_TRANSACTIONS + within);
            victim.signal("CONT");
            "stopped beyond session and transaction"
        }
        5 => {
            crowd.iter_mut().for_each(Instance::kill);
            wait(within);
            crowd.iter_mut().for_each(|instance| instance.start(cluster));
            "both killed"
        }
        6 => {
            let broker = cluster.brokers().choose(&mut random).expect("there are three");
            broker.kill();
            wait(within + after);
            broker.restart();
            "one of three brokers killed"
        }
        7 => {
            victim.end();
            wait(within);
            victim.start(cluster);
            "ended in order and started"
        }
        _ => {
            victim.kill();
            victim.start(cluster);
            wait(within);
            victim.kill();
            victim.start(cluster);
            "killed while it started"
        }
    }
}

fn wait(time: Duration) {
    let deadline = Instant::now() + time;
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        park_timeout(left);
    }
}

// ---- the load ----------------------------------------------------------------------------------

fn producer(cluster: &KafkaCluster) -> BaseProducer {
    let mut config = cluster.client();
    config.set("enable.idempotence", "true").set("partitioner", "murmur2_random");
    config.create().expect("a producer can be made")
}

/// The table is written and read whole before the first order, so that the join has one answer.
fn write_customers(cluster: &KafkaCluster) {
    let producer = producer(cluster);
    for at in 0..CUSTOMERS {
        let region = ["north", "south", "west"][at % 3];
        let value = json!({ "region": region }).to_string();
        let key = format!("customer-{at}");
        let record = BaseRecord::to(joined::CUSTOMERS).key(&key).payload(&value);
        let sent =
            producer.send(record.timestamp(SystemClock::new().now().wall_ms - 2 * HEAD_START_MS));
        sent.map_err(|(error, _)| error).expect("the queue takes a record");
    }
    producer.flush(SOON).expect("the customers are written");
    let consumer: BaseConsumer =
        cluster.client().set("group.id", joined::APPLICATION).create().expect("a consumer");
    let mut partitions = TopicPartitionList::new();
    for partition in 0..i32::from(PARTITIONS) {
        partitions.add_partition(joined::CUSTOMERS, partition);
    }
    let deadline = Instant::now() + SOON;
    loop {
        let committed = consumer.committed_offsets(partitions.clone(), Duration::from_secs(5));
        let read = committed.is_ok_and(|committed| {
            committed.elements().iter().all(|element| {
                let end = consumer
                    .fetch_watermarks(joined::CUSTOMERS, element.partition(), SOON)
                    .expect("the end of a partition")
                    .1;
                end == 0 || element.offset() == Offset::Offset(end)
            })
        });
        if read {
            return;
        }
        assert!(Instant::now() < deadline, "the customers are read");
        wait(Duration::from_millis(50));
    }
}

/// Writes metrics and orders at a steady pace until it is stopped.
struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Load {
    fn start(cluster: &KafkaCluster, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let producer = producer(cluster);
        let thread = std::thread::spawn(move || {
            let mut time = SystemClock::new().now().wall_ms - HEAD_START_MS;
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let profile = Profile { sessions: 40, late: 40, hostile: 0, ..Profile::MIXED };
            let clock = std::cell::Cell::new(time);
            let mut metrics = Metrics::new(seed, profile, || clock.get());
            while !stopped.load(Ordering::Acquire) {
                for _ in 0..10 {
                    time += STEP_MS;
                    clock.set(time);
                    let metric = metrics.next().expect("an endless stream");
                    write_metric(&producer, &metric);
                    if random.random_ratio(1, 2) {
                        write_order(&producer, time, &mut random);
                    }
                }
                producer.poll(Duration::from_millis(20));
            }
            producer.flush(SOON).expect("all is delivered");
        });
        Self { stop, thread }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.join().expect("the load was written");
    }
}

fn write_metric(producer: &BaseProducer, metric: &analytics::load::LoadRecord) {
    let mut headers = OwnedHeaders::new();
    for (key, value) in &metric.headers {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    let mut record =
        BaseRecord::<Vec<u8>, Vec<u8>>::to(METRICS).timestamp(metric.timestamp).headers(headers);
    record.key = metric.key.as_ref();
    record.payload = metric.value.as_ref();
    check(producer.send(record).map_err(|(error, _)| error));
}

fn write_order(producer: &BaseProducer, time: i64, random: &mut ChaCha8Rng) {
    let late = if random.random_ratio(1, 10) { random.random_range(0..60_000) } else { 0 };
    let customer = format!("customer-{}", random.random_range(0..CUSTOMERS + 2));
    let value = json!({ "amount": random.random_range(-50..1_000) }).to_string();
    let record = BaseRecord::to(joined::ORDERS).key(&customer).payload(&value);
    check(producer.send(record.timestamp(time - late)).map_err(|(error, _)| error));
}

/// While the broker is away the queue may be full; what is not taken is not part of the input.
fn check(sent: Result<(), KafkaError>) {
    match sent {
        Ok(()) | Err(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) => {}
        Err(error) => panic!("the load cannot be written: {error}"),
    }
}

// ---- the judge ---------------------------------------------------------------------------------

/// Waits until everything that was written is right, and then what each process alone keeps.
fn compare(cluster: &KafkaCluster, crowd: &mut [Instance; 2], seed: u64) -> String {
    let deadline = Instant::now() + SOON;
    let (rollups, sales, summary) = loop {
        let (rollups, sales, findings, summary) = outputs(cluster);
        if findings.is_empty() {
            break (rollups, sales, summary);
        }
        for instance in crowd.iter_mut() {
            instance.child();
        }
        assert!(Instant::now() < deadline, "seed {seed}: {summary}\n{findings}");
        wait(Duration::from_millis(500));
    };
    // Each alone gets every task, with the state that it has kept and the changelogs.
    let [a, b] = crowd;
    b.end();
    compare_stores(a, &rollups, &sales, seed);
    a.end();
    b.start(cluster);
    compare_stores(b, &rollups, &sales, seed);
    let (.., findings, after) = outputs(cluster);
    assert!(findings.is_empty(), "seed {seed}: {after}\n{findings}");
    assert_eq!(after, summary, "seed {seed}: nothing more was written");
    summary
}

fn outputs(cluster: &KafkaCluster) -> (rollup::Rollups, sales::Sales, Findings, String) {
    let read = |topic: &str| read(cluster, topic);
    let (metrics, told) = (read(METRICS), read(ROLLUPS));
    let (rollups, mut findings) = rollup::compare_output(&metrics, &told);
    findings.extend(rollups.compare_dead_letters(&read(LETTERS)));
    let (customers, orders) = (read(joined::CUSTOMERS), read(joined::ORDERS));
    let (by_customer, by_region) = (read(joined::BY_CUSTOMER), read(joined::BY_REGION));
    let (sales, more) = sales::compare_output(&customers, &orders, &by_customer, &by_region);
    findings.extend(more);
    let summary = format!(
        "{} metrics ({} late), {} orders ({} late), {} outputs; 0 lost, 0 doubled, 0 aborted seen, \
         stores of both equal",
        metrics.len(),
        rollups.late.len(),
        orders.len(),
        sales.late,
        told.len() + by_customer.len() + by_region.len(),
    );
    (rollups, sales, findings, summary)
}

/// The committed records of a topic, up to the last stable one of each partition.
fn read(cluster: &KafkaCluster, topic: &str) -> Vec<LogRecord> {
    let mut client = cluster.client();
    client.set("enable.partition.eof", "true");
    let consumer = committed_records(client, &[topic], PARTITIONS);
    let (mut records, mut ended) = (Vec::new(), 0);
    let deadline = Instant::now() + SOON;
    while ended < PARTITIONS {
        assert!(Instant::now() < deadline, "{topic} cannot be read");
        match consumer.poll(Duration::from_millis(500)) {
            Some(Ok(message)) => records.push(record(&message)),
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            None => {}
            Some(Err(error)) if is_passing(&error) => {}
            Some(Err(error)) => panic!("{topic} cannot be read: {error}"),
        }
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}

fn record(message: &impl Message) -> LogRecord {
    let headers = message.headers().map(|headers| {
        let headers = headers.iter();
        let owned = headers.map(|h| (h.key.to_owned(), h.value.unwrap_or_default().to_vec()));
        owned.collect()
    });
    LogRecord {
        partition: u32::try_from(message.partition()).expect("counted from 0"),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis().unwrap_or(-1),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
    }
}

fn compare_stores(
    instance: &mut Instance,
    rollups: &rollup::Rollups,
    sales: &sales::Sales,
    seed: u64,
) {
    let deadline = Instant::now() + SOON;
    loop {
        instance.child();
        match stores(&instance.base, rollups, sales) {
            Ok(findings) if findings.is_empty() => return,
            other => {
                let why = other.map_or_else(|error| error, |findings| findings.to_string());
                assert!(Instant::now() < deadline, "seed {seed}, {}: {why}", instance.name);
                wait(Duration::from_millis(200));
            }
        }
    }
}

/// Differences of every window of a process; an error while it has not all partitions.
fn stores(base: &str, rollups: &rollup::Rollups, sales: &sales::Sales) -> Result<Findings, String> {
    let mut findings = Findings::default();
    let shown = Http::new(&format!("{base}/apps/analytics"));
    for key in rollups.keys() {
        findings.extend(rollups.compare_windows(key, &shown.windows(analytics::STORE, key)?));
    }
    let shown = Http::new(&format!("{base}/apps/{}", joined::APPLICATION));
    for customer in sales.customers() {
        let windows = shown.windows(joined::BY_CUSTOMER, customer)?;
        findings.extend(sales.compare_customer(customer, &windows));
    }
    for region in sales.regions() {
        let windows = shown.windows(joined::BY_REGION, region)?;
        findings.extend(sales.compare_region(region, &windows));
    }
    Ok(findings)
}

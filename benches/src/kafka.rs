//! The benches on Kafka: an input that lies ready, the bare loop of rdkafka's safe interface that
//! every figure stands beside, and a run of the engine over the same input. Owns how cost is
//! measured; knows no topology.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use headwater::config::{HostConfig, KafkaConfig, StreamsConfig};
use headwater::runtime::{Application, Host};
use headwater::topology::Topology;
use headwater_tests::kafka_broker::KafkaBroker;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

/// Partitions of every topic.
pub const PARTITIONS: u16 = 4;
/// How often everybody commits.
pub const COMMIT_EVERY: Duration = Duration::from_millis(100);
const KEYS: u32 = 10_000;
const SOON: Duration = Duration::from_secs(60);

/// Wall-clock and processor time of a run.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// From start to the last commit.
    pub wall: Duration,
    /// Of all threads of this process, in that time.
    pub processor: Duration,
}

impl Cost {
    /// Measures from now on.
    pub fn begin() -> Begun {
        Begun { start: Instant::now(), before: processor_time() }
    }

    /// One JSON object; `beside` is the bare loop.
    pub fn report(
        self,
        bench: &str,
        what: &str,
        records: u32,
        beside: Option<Cost>,
    ) -> serde_json::Value {
        let each = self.processor.as_secs_f64() * 1e6 / f64::from(records);
        let rate = f64::from(records) / self.wall.as_secs_f64();
        let mut line = serde_json::json!({
            "bench": bench,
            "what": what,
            "records": records,
            "records_per_second": rate.round(),
            "processor_us_per_record": hundredths(each),
        });
        if let Some(bare) = beside {
            let times = self.processor.as_secs_f64() / bare.processor.as_secs_f64();
            line["processor_against_bare"] = hundredths(times).into();
            let share = bare.wall.as_secs_f64() / self.wall.as_secs_f64();
            line["throughput_against_bare"] = hundredths(share).into();
        }
        line
    }
}

/// The middle of several runs, by processor time.
///
/// # Panics
/// Without runs.
#[must_use]
pub fn median(mut runs: Vec<Cost>) -> Cost {
    runs.sort_by_key(|cost| cost.processor);
    runs[runs.len() / 2]
}

/// A measurement that has begun.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    start: Instant,
    before: Duration,
}

impl Begun {
    /// What it cost until now.
    #[must_use]
    pub fn end(self) -> Cost {
        let processor = processor_time().saturating_sub(self.before);
        Cost { wall: self.start.elapsed(), processor }
    }
}

/// To two places.
#[must_use]
pub fn hundredths(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// Processor time of this process so far (Linux: hundredths of a second in fields 14 and 15).
///
/// # Panics
/// Elsewhere than on Linux.
#[must_use]
pub fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux tells about this process");
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ');
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Writes the input: 10,000 keys in turn over all partitions, a millisecond apart.
///
/// # Panics
/// When the broker does not take it.
pub fn fill(broker: &KafkaBroker, topic: &str, records: u32, value_bytes: usize) {
    let producer: BaseProducer = broker
        .client()
        .set("linger.ms", "20")
        .set("compression.type", "lz4")
        .create()
        .expect("a producer");
    let value = vec![b'v'; value_bytes];
    let start = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let start = i64::try_from(start.expect("after 1970").as_millis()).expect("not that late");
    for number in 0..records {
        let key = (number % KEYS).to_be_bytes();
        let partition = i32::try_from(number % u32::from(PARTITIONS)).expect("few partitions");
        let time = start + i64::from(number);
        let record = || {
            let to = BaseRecord::to(topic).partition(partition).timestamp(time);
            to.key(&key[..]).payload(&value[..])
        };
        while let Err((error, _)) = producer.send(record()) {
            let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            assert_eq!(error, full, "the input is written");
            producer.poll(Duration::from_millis(5));
        }
    }
    producer.flush(SOON).expect("the input is delivered");
}

/// The bare loop: reads committed records one by one (the poll form) and writes each to every output,
/// in transactions with the offsets every 100 ms. It serves delivery reports itself before a commit,
/// because rdkafka's own flush takes steps of 100 ms.
///
/// # Panics
/// When the broker refuses anything.
#[must_use]
pub fn bare(broker: &KafkaBroker, input: &str, outputs: &[&str], records: u32) -> Cost {
    let name = format!("bare-{}", outputs.join("-"));
    let consumer: BaseConsumer = broker
        .client()
        .set("group.id", &name)
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .create()
        .expect("a consumer");
    let producer: BaseProducer = broker
        .client()
        .set("transactional.id", &name)
        .set("linger.ms", "5")
        .set("compression.type", "lz4")
        .create()
        .expect("a producer");
    producer.init_transactions(SOON).expect("initialised");
    let mut partitions = TopicPartitionList::new();
    for partition in 0..i32::from(PARTITIONS) {
        partitions.add_partition_offset(input, partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&partitions).expect("assigned");
    let begun = Cost::begin();
    let mut next = [0_i64; PARTITIONS as usize];
    let (mut passed, mut committed) = (0, Instant::now());
    producer.begin_transaction().expect("begun");
    while passed < records {
        if let Some(message) = consumer.poll(Duration::from_millis(10)) {
            let message = message.expect("a record");
            for output in outputs {
                send(&producer, output, &message);
            }
            let partition = usize::try_from(message.partition()).expect("a partition");
            next[partition] = message.offset() + 1;
            passed += 1;
        }
        if committed.elapsed() >= COMMIT_EVERY {
            commit(&consumer, &producer, input, &next);
            committed = Instant::now();
            producer.begin_transaction().expect("begun");
        }
    }
    commit(&consumer, &producer, input, &next);
    begun.end()
}

fn send(producer: &BaseProducer, output: &str, message: &impl Message) {
    loop {
        let mut record: BaseRecord<'_, [u8], [u8]> =
            BaseRecord::to(output).partition(message.partition());
        record.key = message.key();
        record.payload = message.payload();
        match producer.send(record) {
            Ok(()) => return,
            Err((error, _)) => {
                let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
                assert_eq!(error, full, "the output is written");
                producer.poll(Duration::from_millis(1));
            }
        }
    }
}

fn commit(consumer: &BaseConsumer, producer: &BaseProducer, input: &str, next: &[i64]) {
    while producer.in_flight_count() > 0 {
        producer.poll(Duration::from_millis(1));
    }
    let mut offsets = TopicPartitionList::new();
    for (partition, offset) in (0..).zip(next) {
        offsets.add_partition_offset(input, partition, Offset::Offset(*offset)).expect("an offset");
    }
    let metadata = consumer.group_metadata().expect("a group");
    producer.send_offsets_to_transaction(&offsets, &metadata, SOON).expect("offsets");
    producer.commit_transaction(SOON).expect("committed");
}

/// The engine with this topology on this broker, ready to read.
///
/// # Panics
/// When it does not start.
#[must_use]
pub fn start(
    broker: &KafkaBroker,
    state: &Path,
    topology: Arc<Topology>,
    config: StreamsConfig,
) -> Host {
    let kafka = KafkaConfig { brokers: vec![broker.address()], ..KafkaConfig::default() };
    let host = HostConfig {
        state_dir: state.to_owned(),
        kafka: Some(kafka),
        http: None,
        ..HostConfig::default()
    };
    let host = Host::start(host, vec![Application { topology, config }]).expect("it starts");
    let board = host.view().applications[0].board().clone();
    while !board.is_ready() || board.tasks().is_empty() {
        assert!(host.view().is_live(), "it runs");
        park_timeout(Duration::from_millis(1));
    }
    host
}

/// How many records of the input are committed.
#[must_use]
pub fn committed(host: &Host) -> i64 {
    let board = host.view().applications[0].board();
    board.tasks().values().flat_map(|task| task.committed.values()).sum()
}

/// Runs the engine over an input that lies ready, from its first step to its last commit.
///
/// # Panics
/// When it fails.
#[must_use]
pub fn engine(
    broker: &KafkaBroker,
    topology: Arc<Topology>,
    config: StreamsConfig,
    records: u32,
) -> Cost {
    let state = tempfile::tempdir().expect("a folder");
    let host = start(broker, state.path(), topology, config);
    let begun = Cost::begin();
    while committed(&host) < i64::from(records) {
        assert!(host.view().is_live(), "it runs");
        park_timeout(Duration::from_millis(2));
    }
    let cost = begun.end();
    host.stop();
    host.wait().expect("it stops");
    cost
}

/// How many records lie in a topic, control records included.
///
/// # Panics
/// When the broker does not say.
#[must_use]
pub fn end_of(broker: &KafkaBroker, topic: &str) -> i64 {
    let consumer: BaseConsumer = broker.client().create().expect("a consumer");
    let ends = (0..i32::from(PARTITIONS)).map(|partition| {
        let (_, high) = consumer.fetch_watermarks(topic, partition, SOON).expect("an end");
        high
    });
    ends.sum()
}

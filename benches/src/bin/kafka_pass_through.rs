//! How many records a second pass through a topology on Kafka, and at what cost in processor time,
//! beside a bare loop of librdkafka's consumer and producer on the same broker in the same run. Both
//! read committed records of 4 partitions and write them in transactions, committed with their
//! offsets every 100 ms; the input lies ready. One JSON line each.
//!
//! The bare loop takes records one by one (the poll form), and serves delivery reports itself
//! before a commit, because rdkafka's own flush takes steps of 100 ms.
#![expect(clippy::print_stdout, reason = "a bench prints its result")]

use std::fs;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use clap::Parser;
use headwater::config::{HostConfig, KafkaConfig, StreamsConfig};
use headwater::dsl::{Consumed, Produced, StreamsBuilder};
use headwater::runtime::{Application, Host};
use headwater::serde::serdes::bytes;
use headwater_tests::kafka_broker::KafkaBroker;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

const PARTITIONS: u16 = 4;
const COMMIT_EVERY: Duration = Duration::from_millis(100);
const SOON: Duration = Duration::from_secs(60);

/// Passes records through Kafka, bare and by the engine.
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
    let Some(broker) = KafkaBroker::start(&[]) else { return };
    for topic in ["in", "bare", "engine"] {
        broker.create_topic(topic, PARTITIONS, &[]);
    }
    fill(&broker, &arguments);
    let bare = bare(&broker, arguments.records);
    report("bare loop, poll form", arguments.records, bare, None);
    let engine = engine(&broker, &arguments);
    report("engine", arguments.records, engine, Some(bare));
}

/// Wall-clock and processor time.
#[derive(Clone, Copy)]
struct Cost {
    wall: Duration,
    processor: Duration,
}

fn report(what: &str, records: u32, cost: Cost, beside: Option<Cost>) {
    let each = cost.processor.as_secs_f64() * 1e6 / f64::from(records);
    let rate = f64::from(records) / cost.wall.as_secs_f64();
    let mut line = serde_json::json!({
        "bench": "kafka_pass_through",
        "what": what,
        "records": records,
        "records_per_second": rate.round(),
        "processor_us_per_record": (each * 100.0).round() / 100.0,
    });
    if let Some(bare) = beside {
        let times = cost.processor.as_secs_f64() / bare.processor.as_secs_f64();
        line["processor_against_bare"] = ((times * 100.0).round() / 100.0).into();
        let share = bare.wall.as_secs_f64() / cost.wall.as_secs_f64();
        line["throughput_against_bare"] = ((share * 100.0).round() / 100.0).into();
    }
    println!("{line}");
}

/// Processor time of this process so far (Linux: hundredths of a second in fields 14 and 15).
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux tells about this process");
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ');
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn fill(broker: &KafkaBroker, arguments: &Arguments) {
    let producer: BaseProducer = broker
        .client()
        .set("linger.ms", "20")
        .set("compression.type", "lz4")
        .create()
        .expect("a producer");
    let value = vec![b'v'; arguments.value_bytes];
    for number in 0..arguments.records {
        let key = (number % 10_000).to_be_bytes();
        let partition = i32::try_from(number % u32::from(PARTITIONS)).expect("few partitions");
        let record = || BaseRecord::to("in").partition(partition).key(&key[..]).payload(&value[..]);
        while let Err((error, _)) = producer.send(record()) {
            let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            assert_eq!(error, full, "the input is written");
            producer.poll(Duration::from_millis(5));
        }
    }
    producer.flush(SOON).expect("the input is delivered");
}

fn bare(broker: &KafkaBroker, records: u32) -> Cost {
    let consumer: BaseConsumer = broker
        .client()
        .set("group.id", "bare")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .create()
        .expect("a consumer");
    let producer: BaseProducer = broker
        .client()
        .set("transactional.id", "bare")
        .set("linger.ms", "5")
        .set("compression.type", "lz4")
        .create()
        .expect("a producer");
    producer.init_transactions(SOON).expect("initialised");
    let mut partitions = TopicPartitionList::new();
    for partition in 0..i32::from(PARTITIONS) {
        partitions.add_partition_offset("in", partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&partitions).expect("assigned");
    let (start, before) = (Instant::now(), processor_time());
    let mut next = [0_i64; PARTITIONS as usize];
    let (mut passed, mut committed) = (0, Instant::now());
    producer.begin_transaction().expect("begun");
    while passed < records {
        if let Some(message) = consumer.poll(Duration::from_millis(10)) {
            let message = message.expect("a record");
            send(&producer, &message);
            let partition = usize::try_from(message.partition()).expect("a partition");
            next[partition] = message.offset() + 1;
            passed += 1;
        }
        if committed.elapsed() >= COMMIT_EVERY {
            commit(&consumer, &producer, &next);
            committed = Instant::now();
            producer.begin_transaction().expect("begun");
        }
    }
    commit(&consumer, &producer, &next);
    Cost { wall: start.elapsed(), processor: processor_time().saturating_sub(before) }
}

fn send(producer: &BaseProducer, message: &impl Message) {
    loop {
        let mut record: BaseRecord<'_, [u8], [u8]> =
            BaseRecord::to("bare").partition(message.partition());
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

fn commit(consumer: &BaseConsumer, producer: &BaseProducer, next: &[i64]) {
    while producer.in_flight_count() > 0 {
        producer.poll(Duration::from_millis(1));
    }
    let mut offsets = TopicPartitionList::new();
    for (partition, offset) in (0..).zip(next) {
        offsets.add_partition_offset("in", partition, Offset::Offset(*offset)).expect("an offset");
    }
    let metadata = consumer.group_metadata().expect("a group");
    producer.send_offsets_to_transaction(&offsets, &metadata, SOON).expect("offsets");
    producer.commit_transaction(SOON).expect("committed");
}

fn engine(broker: &KafkaBroker, arguments: &Arguments) -> Cost {
    let builder = StreamsBuilder::new();
    builder
        .stream("in", Consumed::with(bytes(), bytes()))
        .to("engine", Produced::with(bytes(), bytes()));
    let topology = builder.build().expect("a sound topology");
    let state = tempfile::tempdir().expect("a folder");
    let kafka = KafkaConfig { brokers: vec![broker.address()], ..KafkaConfig::default() };
    let config = HostConfig {
        state_dir: state.path().to_owned(),
        kafka: Some(kafka),
        http: None,
        ..HostConfig::default()
    };
    let streams = StreamsConfig { threads: arguments.threads, ..StreamsConfig::new("engine") };
    let host = Host::start(config, vec![Application { topology, config: streams }]).expect("runs");
    let board = host.view().applications[0].board().clone();
    while !board.is_ready() || board.tasks().is_empty() {
        park_timeout(Duration::from_millis(1));
    }
    let (start, before) = (Instant::now(), processor_time());
    let wanted = i64::from(arguments.records);
    loop {
        let committed: i64 = board.tasks().values().flat_map(|t| t.committed.values()).sum();
        if committed >= wanted {
            break;
        }
        assert!(host.view().is_live(), "it runs");
        park_timeout(Duration::from_millis(2));
    }
    let cost = Cost { wall: start.elapsed(), processor: processor_time().saturating_sub(before) };
    host.stop();
    host.wait().expect("it stops");
    cost
}

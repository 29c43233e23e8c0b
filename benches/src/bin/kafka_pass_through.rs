//! How many records a second pass through a topology on Kafka, and at what cost in processor time,
//! beside a bare loop of librdkafka's consumer and producer on the same broker in the same run. Both
//! read committed records of 4 partitions and write them in transactions, committed with their
//! offsets every 100 ms; the input lies ready. Beside them the engine's log alone, without a task: its
//! readers' batches go to its producer as they are. They take turns; the middle of the turns counts.
//! One JSON line each.
#![expect(clippy::print_stdout, reason = "a bench prints its result")]

use std::thread::park_timeout;
use std::time::{Duration, Instant};

use clap::Parser;
use headwater::actor::{Bell, Poll, Ticket};
use headwater::config::{KafkaConfig, StreamsConfig};
use headwater::dsl::{Consumed, Produced, StreamsBuilder};
use headwater::log::kafka::{KafkaLog, KafkaSettings};
use headwater::log::{
    CommitRequest, CommittedOffset, Identity, Isolation, Log, Purpose, StateBatch,
};
use headwater::record::TopicPartition;
use headwater::serde::serdes::bytes;
use headwater_benches::kafka::{
    COMMIT_EVERY, Cost, PARTITIONS, bare, end_of, engine, fill, median,
};
use headwater_tests::kafka_broker::KafkaBroker;

/// Between two looks at the log.
const SHORT: Duration = Duration::from_micros(500);

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
    /// Turns that each of them has.
    #[arg(long, default_value_t = 3)]
    turns: usize,
}

fn main() {
    let arguments = Arguments::parse();
    let Some(broker) = KafkaBroker::start(&[]) else { return };
    broker.create_topic("in", PARTITIONS, &[]);
    fill(&broker, "in", arguments.records, arguments.value_bytes);
    let (mut polled, mut logged, mut engined) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..arguments.turns {
        let [to_bare, to_log, to_engine] =
            ["bare", "log", "engine"].map(|name| format!("{name}-{turn}"));
        for topic in [&to_bare, &to_log, &to_engine] {
            broker.create_topic(topic, PARTITIONS, &[]);
        }
        polled.push(bare(&broker, "in", &[&to_bare], arguments.records));
        logged.push(log_alone(&broker, &to_log, arguments.records));
        engined.push(pass_through(&broker, &to_engine, &arguments));
        for topic in [&to_bare, &to_log, &to_engine] {
            let end = end_of(&broker, topic);
            assert!(end >= i64::from(arguments.records), "{topic} has {end} records");
        }
    }
    let bare = median(polled);
    let report = |what, cost: Cost, beside| {
        println!("{}", cost.report("kafka_pass_through", what, arguments.records, beside));
    };
    report("bare loop, poll form", bare, None);
    report("log alone, batches", median(logged), Some(bare));
    report("engine", median(engined), Some(bare));
}

fn pass_through(broker: &KafkaBroker, to: &str, arguments: &Arguments) -> Cost {
    let builder = StreamsBuilder::new();
    builder.stream("in", Consumed::with(bytes(), bytes())).to(to, Produced::with(bytes(), bytes()));
    let topology = builder.build().expect("a sound topology");
    let config = StreamsConfig { threads: arguments.threads, ..StreamsConfig::new(to) };
    engine(broker, topology, config, arguments.records)
}

fn wait<T>(ticket: &Ticket<T>) -> T {
    loop {
        match ticket.poll() {
            Poll::Done(answer) => return answer,
            Poll::Pending => park_timeout(SHORT),
            Poll::Abandoned => panic!("a call to the log was given up"),
        }
    }
}

/// The log's readers and producer on one thread, and nothing between them.
fn log_alone(broker: &KafkaBroker, to: &str, records: u32) -> Cost {
    let config = KafkaConfig { brokers: vec![broker.address()], ..KafkaConfig::default() };
    let log = KafkaLog::connect(&config, KafkaSettings::default()).expect("a broker");
    let bell = Bell::new();
    let mut producer = log.producer(to, bell.clone()).expect("a producer");
    wait(&producer.initialise()).expect("initialised");
    let open = |partition| {
        let from = TopicPartition::new("in", partition);
        let (isolation, purpose) = (Isolation::ReadCommitted, Purpose::Input);
        let reader = log.reader(&from, 0, isolation, purpose, bell.clone()).expect("a reader");
        (reader, TopicPartition::new(to, partition), 0)
    };
    let begun = Cost::begin();
    let mut lanes: Vec<_> = (0..u32::from(PARTITIONS)).map(open).collect();
    let (mut passed, mut committed) = (0, Instant::now());
    producer.begin().expect("begun");
    while passed < records {
        let mut came = false;
        for (reader, to, position) in &mut lanes {
            let fetched = reader.take(64 << 10).expect("records");
            for batch in &fetched.batches {
                while let Err(error) = producer.send(to, batch) {
                    assert_eq!(error.class, headwater::error::ErrorClass::Retry, "{error}");
                    park_timeout(SHORT);
                }
                passed += batch.count();
                came = true;
            }
            *position = fetched.position;
        }
        if committed.elapsed() >= COMMIT_EVERY || passed >= records {
            let offsets = lanes.iter().map(|(reader, _, position)| {
                let offset = CommittedOffset { next_offset: *position, metadata: String::new() };
                (reader.partition().clone(), offset)
            });
            let identity = Identity { group: to.into(), member: "".into(), epoch: -1 };
            let (offsets, state) = (offsets.collect(), StateBatch::default());
            let request = CommitRequest { offsets, identity, state };
            wait(&producer.commit(request)).expect("committed");
            committed = Instant::now();
            if passed < records {
                producer.begin().expect("begun");
            }
        } else if !came {
            park_timeout(SHORT);
        }
    }
    begun.end()
}

//! How long a record takes on Kafka at a steady 10,000 records a second: from the call that produces
//! it to the read-committed consumer that gets the result, and how long the engine's commits take.
//! The record passes through a topology with a count and its changelog. One JSON line.
#![expect(clippy::print_stdout, reason = "a bench prints its result")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, park_timeout};
use std::time::{Duration, Instant};

use clap::Parser;
use headwater::config::StreamsConfig;
use headwater::dsl::{Consumed, Grouped, Materialized, Produced, StreamsBuilder};
use headwater::serde::serdes::{bytes, optional};
use headwater_benches::kafka::{PARTITIONS, hundredths, start};
use headwater_tests::kafka_broker::KafkaBroker;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

const KEYS: u64 = 10_000;
const TICK: Duration = Duration::from_millis(1);

/// Measures latency on Kafka.
#[derive(Parser)]
struct Arguments {
    /// Seconds that count.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Seconds before them.
    #[arg(long, default_value_t = 5)]
    warm_up: u64,
    /// Records a second.
    #[arg(long, default_value_t = 10_000)]
    rate: u64,
    /// The commit intervals, in milliseconds.
    #[arg(long, value_delimiter = ',', default_values_t = [20, 50, 100])]
    commit_ms: Vec<u64>,
}

fn main() {
    let arguments = Arguments::parse();
    let Some(broker) = KafkaBroker::start(&[]) else { return };
    let runs: Vec<Value> =
        arguments.commit_ms.iter().map(|&ms| run(&broker, &arguments, ms)).collect();
    println!(
        "{}",
        json!({ "bench": "kafka_latency", "records_per_second": arguments.rate, "runs": runs })
    );
}

fn run(broker: &KafkaBroker, arguments: &Arguments, commit_ms: u64) -> Value {
    let (input, output) = (format!("in-{commit_ms}"), format!("out-{commit_ms}"));
    for topic in [&input, &output] {
        broker.create_topic(topic, PARTITIONS, &[]);
    }
    let builder = StreamsBuilder::new();
    builder
        .stream(&input, Consumed::with(bytes(), bytes()))
        .group_by_key(Grouped::with("g", bytes(), bytes()))
        .reduce(|_, new| new.clone(), Materialized::with("last", bytes()))
        .to_stream()
        .to(&output, Produced::with(bytes(), optional(bytes())));
    let topology = builder.build().expect("a sound topology");
    let state = tempfile::tempdir().expect("a folder");
    let config = StreamsConfig {
        commit_interval: Duration::from_millis(commit_ms),
        ..StreamsConfig::new(format!("latency-{commit_ms}"))
    };
    let host = start(broker, state.path(), topology, config);
    let clock = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(0));
    let load = {
        let (producer, stop, sent) = (load_producer(broker), Arc::clone(&stop), Arc::clone(&sent));
        let rate = arguments.rate;
        thread::spawn(move || produce(&producer, &input, rate, clock, &stop, &sent))
    };
    let consumer = reader(broker, &output);
    let begin = clock.elapsed() + Duration::from_secs(arguments.warm_up);
    let end = begin + Duration::from_secs(arguments.seconds);
    let mut latencies = Vec::new();
    let mut read = 0;
    // What was produced before the end is read to its last record.
    loop {
        let now = clock.elapsed();
        if now > end {
            stop.store(true, Ordering::Release);
            if load.is_finished() && read >= sent.load(Ordering::Acquire) {
                break;
            }
            assert!(now < end + Duration::from_secs(60), "{read} of {sent:?} results came");
        }
        let Some(message) = consumer.poll(Duration::from_millis(10)) else { continue };
        let message = message.expect("a record");
        read += 1;
        let value = message.payload().expect("a value");
        let produced = u64::from_be_bytes(*value.first_chunk().expect("eight bytes of time"));
        let produced = Duration::from_nanos(produced);
        if produced >= begin && produced < end {
            latencies.push(clock.elapsed().saturating_sub(produced));
        }
    }
    load.join().expect("the load ran");
    assert!(host.view().is_live(), "it ran");
    let text = host.view().metrics.text();
    host.stop();
    host.wait().expect("it stops");
    latencies.sort_unstable();
    json!({
        "commit_interval_ms": commit_ms,
        "records": latencies.len(),
        "end_to_end_p50_ms": quantile(&latencies, 0.5),
        "end_to_end_p99_ms": quantile(&latencies, 0.99),
        "end_to_end_max_ms": quantile(&latencies, 1.0),
        "commit_p50_ms_at_most": bucket(&text, "stream_thread_commit_latency_seconds", 0.5),
        "commit_p99_ms_at_most": bucket(&text, "stream_thread_commit_latency_seconds", 0.99),
        "processing_p99_ms_at_most": bucket(&text, "stream_thread_process_latency_seconds", 0.99),
    })
}

fn load_producer(broker: &KafkaBroker) -> BaseProducer {
    broker.client().set("linger.ms", "1").create().expect("a producer")
}

/// Values begin with the time at which they were produced.
fn produce(
    producer: &BaseProducer,
    topic: &str,
    rate: u64,
    clock: Instant,
    stop: &AtomicBool,
    sent: &AtomicU64,
) {
    let begin = clock.elapsed();
    let mut number = 0_u64;
    while !stop.load(Ordering::Acquire) {
        let due = (clock.elapsed() - begin).as_micros() * u128::from(rate) / 1_000_000;
        while u128::from(number) < due {
            let key = (number % KEYS).to_be_bytes();
            let mut value = [b'v'; 100];
            let now = u64::try_from(clock.elapsed().as_nanos()).expect("not that long");
            value[..8].copy_from_slice(&now.to_be_bytes());
            let partition = i32::try_from(number % u64::from(PARTITIONS)).expect("few partitions");
            let mut record =
                BaseRecord::to(topic).partition(partition).key(&key[..]).payload(&value[..]);
            // Its time counts from the first try.
            while let Err((error, back)) = producer.send(record) {
                assert_eq!(
                    error.rdkafka_error_code(),
                    Some(RDKafkaErrorCode::QueueFull),
                    "{error}"
                );
                producer.poll(TICK);
                record = back;
            }
            number += 1;
            // One call serves the deliveries of one batch.
            producer.poll(Duration::ZERO);
        }
        park_timeout(TICK);
    }
    producer.flush(Duration::from_secs(60)).expect("delivered");
    sent.store(number, Ordering::Release);
}

fn reader(broker: &KafkaBroker, topic: &str) -> BaseConsumer {
    let consumer: BaseConsumer = broker
        .client()
        .set("group.id", "latency-reader")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .create()
        .expect("a consumer");
    let mut partitions = TopicPartitionList::new();
    for partition in 0..i32::from(PARTITIONS) {
        partitions.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&partitions).expect("assigned");
    consumer
}

/// In milliseconds.
fn quantile(sorted: &[Duration], q: f64) -> f64 {
    let last = sorted.len().checked_sub(1).expect("results came");
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "q is 0 to 1")]
    let at = (last as f64 * q) as usize;
    hundredths(sorted[at].as_secs_f64() * 1e3)
}

/// The upper bound of the histogram's bucket that holds the quantile, in milliseconds.
fn bucket(text: &str, family: &str, q: f64) -> Option<f64> {
    let mut buckets: Vec<(f64, f64)> = Vec::new();
    for line in text.lines().filter(|l| l.starts_with(&format!("{family}_bucket"))) {
        let bound = line.split("le=\"").nth(1)?.split('"').next()?.parse().unwrap_or(f64::INFINITY);
        buckets.push((bound, line.rsplit(' ').next()?.parse().ok()?));
    }
    let total = buckets.iter().map(|(_, n)| *n).fold(0.0, f64::max);
    let found = buckets.iter().find(|(_, n)| *n >= total * q)?;
    Some(hundredths(found.0 * 1e3))
}

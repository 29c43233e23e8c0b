//! Whole applications on a real broker: what they do about records that it refuses.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use headwater::config::{HostConfig, KafkaConfig, StreamsConfig};
use headwater::dsl::{Consumed, Grouped, Materialized, Produced, StreamsBuilder};
use headwater::runtime::{Application, Host};
use headwater::serde::serdes::{optional, string};
use headwater::topology::Topology;
use headwater_tests::kafka_broker::{KafkaBroker, committed_records};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::message::{Headers as _, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

const SOON: Duration = Duration::from_secs(60);
/// What the topics take here.
const LIMIT: usize = 2_000;

fn start(broker: &KafkaBroker, state: &Path, id: &str, topology: Arc<Topology>) -> Host {
    let kafka = KafkaConfig { brokers: vec![broker.address()], ..KafkaConfig::default() };
    let config = HostConfig {
        state_dir: state.to_owned(),
        kafka: Some(kafka),
        memory_limit: 64 << 20,
        http: None,
        ..HostConfig::default()
    };
    let application = Application { topology, config: StreamsConfig::new(id) };
    Host::start(config, vec![application]).expect("it starts")
}

fn end(host: Host) {
    host.stop();
    host.wait().expect("it stops in order");
}

/// Text that no compression makes smaller.
fn noise(random: &mut StdRng, bytes: usize) -> String {
    (0..bytes).map(|_| char::from(random.random_range(b'!'..=b'~'))).collect()
}

fn write(broker: &KafkaBroker, topic: &str, records: &[(String, String)]) {
    let producer: BaseProducer = broker.client().create().expect("a producer can be made");
    for (key, value) in records {
        let record = BaseRecord::to(topic).key(key).payload(value).partition(0).timestamp(1_000);
        producer.send(record).expect("there is room");
    }
    producer.flush(SOON).expect("all is delivered");
}

/// A committed record: key, value, `headwater.reason`.
type Read = (String, String, Option<String>);

/// Reads a topic's committed records until so many are there, and a quiet half second after.
fn read(broker: &KafkaBroker, topic: &str, wanted: usize) -> Vec<Read> {
    let consumer = committed_records(broker.client(), &[topic], 1);
    let deadline = Instant::now() + SOON;
    let (mut found, mut quiet) = (Vec::new(), 0);
    while (found.len() < wanted || quiet < 5) && Instant::now() < deadline {
        quiet += 1;
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message.expect("the topic can be read");
        quiet = 0;
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or(b"")).into();
        let reason = message.headers().and_then(|headers| {
            headers.iter().find(|header| header.key == "headwater.reason").map(|h| text(h.value))
        });
        found.push((text(message.key()), text(message.payload()), reason));
    }
    found
}

fn wait_until_it_runs(host: &Host) {
    let deadline = Instant::now() + SOON;
    while !host.view().is_ready() {
        let failure = host.view().applications[0].board().failure();
        assert!(failure.is_none() && Instant::now() < deadline, "not ready in time: {failure:?}");
        park_timeout(Duration::from_millis(10));
    }
}

/// Many records that fit, more of them in a batch than the topic takes, and three that do not fit.
fn records(seed: u64) -> (Vec<(String, String)>, Vec<String>) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut records = Vec::new();
    let mut large = Vec::new();
    for number in 0..300 {
        let is_large = [40, 41, 200].contains(&number);
        let value = noise(&mut random, if is_large { 2 * LIMIT } else { 300 });
        let key = format!("key-{number}");
        if is_large {
            large.push(key.clone());
        }
        records.push((key, value));
    }
    (records, large)
}

#[test]
fn outputs_that_the_broker_refuses_are_set_aside_and_all_others_are_there_once() {
    let Some(broker) = KafkaBroker::shared() else { return };
    let (input, output) = ("refused-in", "refused-out");
    broker.create_topic(input, 1, &[]);
    broker.create_topic(output, 1, &[("max.message.bytes", &LIMIT.to_string())]);
    let builder = StreamsBuilder::new();
    builder
        .stream(input, Consumed::with(string(), string()))
        .to(output, Produced::with(string(), string()));
    let topology = builder.build().expect("a valid topology");
    let (records, large) = records(1);
    write(broker, input, &records);
    let state = tempfile::tempdir().expect("a folder for state");
    let host = start(broker, state.path(), "refused", topology);
    wait_until_it_runs(&host);
    let dead = read(broker, "refused-in.dlq", large.len());
    let told = read(broker, output, records.len() - large.len());
    end(host);
    let by_key: BTreeMap<_, _> = records.iter().cloned().collect();
    let keys: Vec<_> = dead.iter().map(|(key, ..)| key.clone()).collect();
    assert_eq!(keys, large);
    for (key, value, reason) in &dead {
        assert_eq!((value, reason.as_deref()), (&by_key[key], Some("failed")), "unchanged");
    }
    let expected = records.iter().filter(|(key, _)| !large.contains(key));
    let expected: Vec<_> = expected.map(|(k, v)| (k.clone(), v.clone(), None)).collect();
    assert_eq!(told.len(), expected.len());
    assert!(told == expected, "each once, in order");
}

#[test]
fn rows_that_the_broker_refuses_in_the_changelog_are_undone_with_their_records() {
    let Some(broker) = KafkaBroker::shared() else { return };
    let (input, output) = ("rows-in", "rows-out");
    broker.create_topic(input, 1, &[]);
    broker.create_topic(output, 1, &[]);
    let limit = LIMIT.to_string();
    let changelog = [("max.message.bytes", &*limit), ("cleanup.policy", "compact")];
    broker.create_topic("rows-last-changelog", 1, &changelog);
    let builder = StreamsBuilder::new();
    builder
        .stream(input, Consumed::with(string(), string()))
        .group_by_key(Grouped::with("by-key", string(), string()))
        .aggregate(String::new, |_, value, _| value.clone(), Materialized::with("last", string()))
        .to_stream()
        .to(output, Produced::with(string(), optional(string())));
    let topology = builder.build().expect("a valid topology");
    let mut random = StdRng::seed_from_u64(2);
    let large = noise(&mut random, 2 * LIMIT);
    let records = [("a", "small"), ("b", &large), ("c", "small")];
    let records = records.map(|(key, value)| (key.to_owned(), value.to_owned()));
    write(broker, input, &records);
    let state = tempfile::tempdir().expect("a folder for state");
    let host = start(broker, state.path(), "rows", topology);
    wait_until_it_runs(&host);
    let dead = read(broker, "rows-in.dlq", 1);
    let told = read(broker, output, 2);
    end(host);
    assert_eq!(dead, [("b".to_owned(), large, Some("failed".to_owned()))]);
    let told: Vec<_> = told.into_iter().map(|(key, ..)| key).collect();
    assert_eq!(told, ["a", "c"], "as if the large one had never been");
}

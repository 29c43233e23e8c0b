//! What can be wrong with a cluster or with the way to it: each is told at start or soon after, with
//! what, where and what to do. And what must not be wrong: Kafka 3.9.

use std::time::{Duration, Instant};

use headwater::config::{KafkaConfig, StreamsConfig};
use headwater::log::kafka::{KafkaLog, KafkaSettings};
use headwater_tests::counted::{self, INPUT, OUTPUT};
use headwater_tests::kafka_broker::{KafkaBroker, OldBroker, committed_records};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

const SOON: Duration = Duration::from_secs(120);
/// Longer than any refusal takes.
const BOUND: Duration = Duration::from_secs(60);
const WORDS: [&str; 4] = ["one", "two", "two", "three"];

fn at(address: &str) -> KafkaConfig {
    KafkaConfig { brokers: vec![address.to_owned()], ..KafkaConfig::default() }
}

fn with(broker: &KafkaBroker, name: &str, value: &str) -> KafkaConfig {
    let properties = vec![(name.to_owned(), value.to_owned())];
    KafkaConfig { properties, ..at(&broker.address()) }
}

/// Why nobody answers there, said within the time that connecting may take.
fn unreachable(address: &str) -> String {
    let settings =
        KafkaSettings { connect_timeout: Duration::from_secs(3), ..KafkaSettings::default() };
    let start = Instant::now();
    let error = KafkaLog::connect(&at(address), settings).expect_err("nobody answers");
    assert!(start.elapsed() < BOUND, "{:?}", start.elapsed());
    error.to_string()
}

/// Why an application does not run, said within [`BOUND`].
fn failure(kafka: KafkaConfig, config: StreamsConfig) -> String {
    let state = tempfile::tempdir().expect("a folder for state");
    let start = Instant::now();
    let why = counted::failure(kafka, config, state.path());
    assert!(start.elapsed() < BOUND, "{:?}: {why}", start.elapsed());
    why
}

/// The shared broker, with the application's topics.
fn broker() -> Option<&'static KafkaBroker> {
    static TOPICS: std::sync::Once = std::sync::Once::new();
    let broker = KafkaBroker::shared()?;
    TOPICS.call_once(|| {
        broker.create_topic(INPUT, 2, &[]);
        broker.create_topic(OUTPUT, 2, &[]);
    });
    Some(broker)
}

#[test]
fn a_host_that_does_not_exist_is_named_with_the_resolvers_answer() {
    let why = unreachable("no-such-host.invalid:9092");
    assert!(why.contains("no broker of no-such-host.invalid:9092 answered within 3s"), "{why}");
    assert!(why.contains("Failed to resolve"), "{why}");
    assert!(why.contains("check KAFKA_BROKERS"), "{why}");
}

#[test]
fn a_port_where_nobody_listens_is_named_with_the_refused_connection() {
    let why = unreachable("127.0.0.1:1");
    assert!(why.contains("no broker of 127.0.0.1:1 answered within 3s"), "{why}");
    assert!(why.contains("Connection refused"), "{why}");
}

#[test]
fn a_broker_from_before_kafka_2_5_is_refused_by_the_request_that_it_lacks() {
    let old = OldBroker::kafka_2_1();
    let why = unreachable(&old.address());
    assert!(why.contains(&format!("a broker of {} is too old", old.address())), "{why}");
    assert!(why.contains("TxnOffsetCommit of version 3 (Kafka 2.5)"), "{why}");
    assert!(why.contains("it knows it up to version 2"), "{why}");
    assert!(why.contains("upgrade the brokers to Kafka 2.5 or later"), "{why}");
}

#[test]
fn input_and_output_topics_that_do_not_exist_are_all_named() {
    // A broker of its own, where nobody has created them.
    let Some(broker) = KafkaBroker::start(&[]) else { return };
    let why = failure(at(&broker.address()), StreamsConfig::new("missing"));
    assert!(why.contains(&format!("topics '{INPUT}', '{OUTPUT}' do not exist")), "{why}");
    assert!(why.contains("create them"), "{why}");
}

#[test]
fn a_changelog_with_other_partitions_or_another_policy_is_refused_with_found_and_wanted() {
    let Some(broker) = broker() else { return };
    let changelog = "other-counts-changelog";
    broker.create_topic(changelog, 3, &[("cleanup.policy", "delete"), ("retention.ms", "1000")]);
    let why = failure(at(&broker.address()), StreamsConfig::new("other"));
    let topic = format!("internal topic '{changelog}'");
    assert!(why.contains(&format!("{topic} has 3 partitions, the topology needs 2")), "{why}");
    assert!(
        why.contains(&format!("{topic}: retention.ms is 1000, -1 at least is needed")),
        "{why}"
    );
}

#[test]
fn a_repartition_topic_that_is_compacted_is_refused_with_found_and_wanted() {
    let Some(broker) = broker() else { return };
    let repartition = "compacted-by-word-repartition";
    broker.create_topic(repartition, 2, &[("cleanup.policy", "compact")]);
    let why = failure(at(&broker.address()), StreamsConfig::new("compacted"));
    let told = format!(
        "internal topic '{repartition}': cleanup.policy is compact, delete is needed, because"
    );
    assert!(why.contains(&told), "{why}");
}

#[test]
fn an_internal_topic_that_puts_the_brokers_time_on_records_is_refused() {
    let Some(broker) = broker() else { return };
    let settings = [("cleanup.policy", "compact"), ("message.timestamp.type", "LogAppendTime")];
    broker.create_topic("timed-counts-changelog", 2, &settings);
    let why = failure(at(&broker.address()), StreamsConfig::new("timed"));
    let told = "'timed-counts-changelog': message.timestamp.type is LogAppendTime, CreateTime";
    assert!(why.contains(told), "{why}");
}

#[test]
fn a_transaction_timeout_that_is_not_longer_than_the_commit_interval_starts_nothing() {
    let Some(broker) = broker() else { return };
    let commit_interval = Duration::from_secs(3);
    let config = StreamsConfig { commit_interval, ..StreamsConfig::new("hasty") };
    let why = failure(with(broker, "transaction.timeout.ms", "3000"), config);
    assert!(why.contains("'hasty': the transaction timeout of 3s is not longer than"), "{why}");
    assert!(why.contains("lower COMMIT_INTERVAL_MS, or raise transaction.timeout.ms"), "{why}");
}

#[test]
fn a_transaction_timeout_above_the_brokers_maximum_is_told_with_both_settings() {
    let Some(broker) = broker() else { return };
    let why =
        failure(with(broker, "transaction.timeout.ms", "3600000"), StreamsConfig::new("patient"));
    assert!(why.contains("transaction.timeout.ms is above the broker's"), "{why}");
    assert!(why.contains("transaction.max.timeout.ms"), "{why}");
}

#[test]
fn a_property_that_exactly_once_depends_on_is_refused_with_the_reason() {
    let Some(broker) = broker() else { return };
    let why = failure(with(broker, "enable.auto.commit", "true"), StreamsConfig::new("own"));
    assert!(why.contains("property enable.auto.commit belongs to the engine, because"), "{why}");
}

#[test]
fn every_compression_that_kafka_has_is_written_and_read() {
    let Some(broker) = broker() else { return };
    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let application = format!("compressed-{compression}");
        count(broker, with(broker, "compression.type", compression), &application, 1);
    }
}

#[test]
fn an_application_runs_on_kafka_3_9_restarts_there_and_goes_on() {
    let Some(broker) = KafkaBroker::start_version("3.9.1", &[]) else { return };
    broker.create_topic(INPUT, 2, &[]);
    broker.create_topic(OUTPUT, 2, &[]);
    count(&broker, at(&broker.address()), "older", 1);
    count(&broker, at(&broker.address()), "older", 2);
    broker.stop();
}

/// Runs the application for the `round`th time, on an empty state directory, until it has counted
/// its words once more, and stops it. Words carry the application's name, so that several
/// applications share the topics.
fn count(broker: &KafkaBroker, kafka: KafkaConfig, application: &str, round: i64) {
    let producer: BaseProducer = broker.client().create().expect("a producer can be made");
    for word in WORDS {
        let word = format!("{application}-{word}");
        let record = BaseRecord::to(INPUT).key("k").payload(&word);
        producer.send(record).map_err(|(error, _)| error).expect("room");
    }
    producer.flush(SOON).expect("delivered");
    let state = tempfile::tempdir().expect("a folder for state");
    let config = StreamsConfig::new(application);
    let host = counted::start(counted::alone(kafka), config, state.path()).expect("it starts");
    let counts = counts_of(broker, &format!("{application}-two"), 2 * round);
    host.stop();
    host.wait().expect("it stops in order");
    assert_eq!(counts, (1..=2 * round).collect::<Vec<_>>(), "{application}");
}

/// The committed counts of a word, up to this one.
fn counts_of(broker: &KafkaBroker, word: &str, last: i64) -> Vec<i64> {
    let consumer = committed_records(broker.client(), &[OUTPUT], 2);
    let deadline = Instant::now() + SOON;
    let mut counts = Vec::new();
    while counts.last() != Some(&last) {
        assert!(Instant::now() < deadline, "{word}: only {counts:?}");
        let Some(message) = consumer.poll(Duration::from_millis(200)) else { continue };
        let message = message.expect("the partition can be read");
        if message.key() == Some(word.as_bytes()) {
            let value = message.payload().expect("a count").try_into().expect("eight bytes");
            counts.push(i64::from_be_bytes(value));
        }
    }
    counts
}

//! A broker that lets nobody in without a name: users by SASL over TLS, clients by certificate, and
//! rights. With exactly the rights that `docs/kafka.md` lists an application runs; each one that is
//! missing is named by the error, with the topic, group or id that it is about.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use headwater::config::{KafkaConfig, Secret, StreamsConfig};
use headwater::log::kafka::{KafkaLog, KafkaSettings};
use headwater_tests::counted::{self, INPUT, OUTPUT};
use headwater_tests::kafka_broker::{
    Operation, Resource, Right, SecuredBroker, committed_records, password,
};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

const SOON: Duration = Duration::from_secs(120);
/// Longer than any refusal takes.
const BOUND: Duration = Duration::from_secs(60);

fn broker() -> Option<&'static SecuredBroker> {
    static BROKER: OnceLock<Option<SecuredBroker>> = OnceLock::new();
    BROKER
        .get_or_init(|| {
            let broker = SecuredBroker::start()?;
            broker.plain().create_topic(INPUT, 2, &[]);
            broker.plain().create_topic(OUTPUT, 2, &[]);
            Some(broker)
        })
        .as_ref()
}

fn config(broker: &SecuredBroker, user: &str, mechanism: &str) -> KafkaConfig {
    KafkaConfig {
        brokers: vec![broker.sasl_address()],
        ssl: true,
        ssl_ca: Some(broker.authority()),
        username: Some(user.to_owned()),
        password: Some(Secret::new(password(user))),
        sasl_mechanism: Some(mechanism.to_owned()),
        ..KafkaConfig::default()
    }
}

/// The refusal, which comes within [`BOUND`].
fn refusal(config: &KafkaConfig) -> String {
    let start = Instant::now();
    let error = KafkaLog::connect(config, KafkaSettings::default()).expect_err("not let in");
    assert!(start.elapsed() < BOUND, "{:?}", start.elapsed());
    error.to_string()
}

#[test]
fn a_user_with_the_right_password_gets_in_by_plain_and_by_both_kinds_of_scram() {
    let Some(broker) = broker() else { return };
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let log = KafkaLog::connect(&config(broker, "alice", mechanism), KafkaSettings::default());
        let log = log.unwrap_or_else(|error| panic!("{mechanism}: {error}"));
        assert!(log.cluster_id().is_some(), "{mechanism}");
    }
}

#[test]
fn a_client_with_a_certificate_of_the_authority_gets_in_and_one_without_does_not() {
    let Some(broker) = broker() else { return };
    let (certificate, key) = broker.client_certificate();
    let with = KafkaConfig {
        brokers: vec![broker.tls_address()],
        ssl: true,
        ssl_ca: Some(broker.authority()),
        ssl_cert: Some(certificate),
        ssl_key: Some(key),
        ..KafkaConfig::default()
    };
    KafkaLog::connect(&with, KafkaSettings::default()).expect("the authority signed it");
    let error = refusal(&KafkaConfig { ssl_cert: None, ssl_key: None, ..with });
    assert!(error.contains("KAFKA_SSL_CERT"), "{error}");
}

#[test]
fn a_wrong_password_is_refused_with_the_users_name_by_every_mechanism() {
    let Some(broker) = broker() else { return };
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let right = config(broker, "alice", mechanism);
        let error = refusal(&KafkaConfig { password: Some(Secret::new("wrong")), ..right });
        assert!(error.contains(&broker.sasl_address()), "{error}");
        assert!(error.contains(&format!("do not let user 'alice' in by {mechanism}")), "{error}");
        assert!(error.contains("check KAFKA_USERNAME, KAFKA_PASSWORD"), "{error}");
        assert!(!error.contains("wrong"), "the password is not shown: {error}");
    }
}

#[test]
fn a_broker_that_another_authority_signed_is_refused_with_the_file_that_was_used() {
    let Some(broker) = broker() else { return };
    let right = config(broker, "alice", "SCRAM-SHA-512");
    let other = broker.other_authority();
    let error = refusal(&KafkaConfig { ssl_ca: Some(other.clone()), ..right });
    assert!(error.contains(&format!("KAFKA_SSL_CA ({})", other.display())), "{error}");
    assert!(error.contains("certificate verify failed"), "{error}");
}

/// The rights that `docs/kafka.md` lists, for an application whose id is the user's name.
fn rights(user: &str) -> Vec<Right<'_>> {
    use Operation::{Create, Delete, Describe, DescribeConfigs, Read, Write};
    let right = |resource, operation| Right { user, operation, resource };
    let dead_letters = "counted-input.dlq";
    let mut rights = vec![
        right(Resource::Topic(INPUT), Read),
        right(Resource::Topic(INPUT), DescribeConfigs),
        right(Resource::Topic(OUTPUT), Write),
        right(Resource::Topic(OUTPUT), DescribeConfigs),
        right(Resource::Topic(dead_letters), Create),
        right(Resource::Topic(dead_letters), Write),
        right(Resource::Topic(dead_letters), DescribeConfigs),
        right(Resource::Group(user), Read),
        right(Resource::TransactionalIds(user), Write),
        right(Resource::TransactionalIds(user), Describe),
    ];
    for operation in [Create, Read, Write, Delete, DescribeConfigs] {
        rights.push(right(Resource::Topics(user), operation));
    }
    rights
}

/// Gives the user all rights but those that `lacks` names, and Describe on both topics.
fn grant(broker: &SecuredBroker, user: &str, lacks: impl Fn(&Right<'_>) -> bool) {
    let mut rights = rights(user);
    rights.retain(|right| !lacks(right));
    broker.grant(&rights);
}

fn describe<'a>(user: &'a str, topic: &'a str) -> Right<'a> {
    Right { user, operation: Operation::Describe, resource: Resource::Topic(topic) }
}

/// Why the application of this user does not run, said within [`BOUND`].
fn failure(broker: &SecuredBroker, user: &str) -> String {
    let state = tempfile::tempdir().expect("a folder for state");
    let start = Instant::now();
    let kafka = config(broker, user, "SCRAM-SHA-256");
    let why = counted::failure(kafka, StreamsConfig::new(user), state.path());
    assert!(start.elapsed() < BOUND, "{:?}: {why}", start.elapsed());
    why
}

#[test]
fn with_the_rights_that_the_docs_list_and_no_others_an_application_runs() {
    let Some(broker) = broker() else { return };
    grant(broker, "alice", |_| false);
    let state = tempfile::tempdir().expect("a folder for state");
    let kafka = config(broker, "alice", "SCRAM-SHA-512");
    let host = counted::start(kafka, StreamsConfig::new("alice"), state.path()).expect("it starts");
    write(broker, "alice-word");
    assert_eq!(read_count(broker, "alice-word"), 1);
    host.stop();
    host.wait().expect("it stops in order");
}

#[test]
fn a_missing_right_to_see_the_input_is_named_with_the_topic() {
    let Some(broker) = broker() else { return };
    grant(broker, "no-describe", |right| right.resource == Resource::Topic(INPUT));
    let why = failure(broker, "no-describe");
    assert!(why.contains(&format!("topic {INPUT}")), "{why}");
    assert!(why.contains("give this user Describe and DescribeConfigs on the topic"), "{why}");
}

#[test]
fn a_missing_right_to_read_the_input_is_named_with_the_topic() {
    let Some(broker) = broker() else { return };
    let lacks = |right: &Right<'_>| {
        right.resource == Resource::Topic(INPUT) && right.operation == Operation::Read
    };
    grant(broker, "no-read", lacks);
    broker.grant(&[describe("no-read", INPUT)]);
    write(broker, "no-read-word");
    let why = failure(broker, "no-read");
    assert!(why.contains(INPUT), "{why}");
    assert!(why.contains("give this user Read on the topic"), "{why}");
}

#[test]
fn a_missing_right_to_write_the_output_is_named_with_the_topic() {
    let Some(broker) = broker() else { return };
    let lacks = |right: &Right<'_>| {
        right.resource == Resource::Topic(OUTPUT) && right.operation == Operation::Write
    };
    grant(broker, "no-write", lacks);
    broker.grant(&[describe("no-write", OUTPUT)]);
    write(broker, "no-write-word");
    let why = failure(broker, "no-write");
    assert!(why.contains(OUTPUT), "{why}");
    assert!(why.contains("give this user Write on the topic"), "{why}");
}

#[test]
fn a_missing_right_to_the_group_is_named() {
    let Some(broker) = broker() else { return };
    grant(broker, "no-group", |right| matches!(right.resource, Resource::Group(_)));
    let why = failure(broker, "no-group");
    assert!(why.contains("give this user Read on the consumer group"), "{why}");
    assert!(why.contains("application no-group"), "{why}");
}

#[test]
fn a_missing_right_to_the_transactional_id_is_named() {
    let Some(broker) = broker() else { return };
    let lacks = |right: &Right<'_>| matches!(right.resource, Resource::TransactionalIds(_));
    grant(broker, "no-transactions", lacks);
    let why = failure(broker, "no-transactions");
    assert!(why.contains("give this user Write and Describe on transactional ids"), "{why}");
    assert!(why.contains("application no-transactions"), "{why}");
}

#[test]
fn a_missing_right_to_create_topics_is_named_with_the_topic() {
    let Some(broker) = broker() else { return };
    grant(broker, "no-create", |right| right.operation == Operation::Create);
    let why = failure(broker, "no-create");
    assert!(why.contains("create topics: topic "), "{why}");
    assert!(why.contains("give this user Create on the topic or on the cluster"), "{why}");
}

fn write(broker: &SecuredBroker, word: &str) {
    let producer: BaseProducer = broker.plain().client().create().expect("a producer");
    let record = BaseRecord::to(INPUT).key("k").payload(word);
    producer.send(record).map_err(|(error, _)| error).expect("room");
    producer.flush(SOON).expect("delivered");
}

/// The last count of a word among the committed outputs, once there is one.
fn read_count(broker: &SecuredBroker, word: &str) -> i64 {
    let consumer = committed_records(broker.plain().client(), &[OUTPUT], 2);
    let deadline = Instant::now() + SOON;
    loop {
        assert!(Instant::now() < deadline, "no count of {word}");
        let Some(message) = consumer.poll(Duration::from_millis(200)) else { continue };
        let message = message.expect("the partition can be read");
        if message.key() == Some(word.as_bytes()) {
            let value = message.payload().expect("a count").try_into().expect("eight bytes");
            return i64::from_be_bytes(value);
        }
    }
}

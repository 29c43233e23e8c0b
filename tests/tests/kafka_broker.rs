//! The broker that the tests start is a real one: it creates topics only when asked, keeps what was
//! committed over a kill -9, and hides what a transaction aborted. Nothing of the engine runs here.

use std::time::{Duration, Instant};

use headwater_tests::kafka_broker::{KafkaBroker, KafkaCluster, committed_records, is_passing};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

const SOON: Duration = Duration::from_secs(60);

fn transactional_producer(mut client: ClientConfig, id: &str) -> BaseProducer {
    let producer: BaseProducer =
        client.set("transactional.id", id).create().expect("a transactional producer can be made");
    producer.init_transactions(SOON).expect("the coordinator answers");
    producer
}

fn send(producer: &BaseProducer, topic: &str, key: &str, value: &str) {
    let record = BaseRecord::to(topic).key(key).payload(value).partition(0);
    producer.send(record).map_err(|(error, _)| error).expect("the queue takes a record");
}

/// The committed values of partition 0, up to the value `last`.
fn read_committed(client: ClientConfig, topic: &str, last: &str) -> Vec<String> {
    let consumer = committed_records(client, &[topic], 1);
    let deadline = Instant::now() + SOON;
    let mut values = Vec::new();
    while values.last().is_none_or(|value| value != last) {
        assert!(Instant::now() < deadline, "only {values:?} could be read");
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                let value = message.payload_view::<str>().expect("a value").expect("text");
                values.push(value.to_owned());
            }
            None => {}
            Some(Err(error)) if is_passing(&error) => {}
            Some(Err(error)) => panic!("the partition cannot be read: {error}"),
        }
    }
    values
}

#[test]
fn committed_records_survive_a_kill_and_aborted_ones_stay_hidden() {
    let Some(broker) = KafkaBroker::start(&[]) else { return };
    broker.create_topic("smoke", 1, &[]);
    let producer = transactional_producer(broker.client(), "smoke-writer");
    producer.begin_transaction().expect("begun");
    send(&producer, "smoke", "k", "aborted");
    producer.flush(SOON).expect("delivered");
    producer.abort_transaction(SOON).expect("aborted");
    producer.begin_transaction().expect("begun");
    send(&producer, "smoke", "k", "committed");
    producer.commit_transaction(SOON).expect("committed");
    assert_eq!(read_committed(broker.client(), "smoke", "committed"), ["committed"]);

    broker.kill();
    broker.restart();
    assert_eq!(read_committed(broker.client(), "smoke", "committed"), ["committed"]);
    broker.stop();
}

#[test]
fn three_brokers_lose_nothing_and_go_on_when_one_is_killed_and_comes_back() {
    let Some(cluster) = KafkaCluster::start(&[]) else { return };
    cluster.create_topic("smoke", 1, &[]);
    let producer = transactional_producer(cluster.client(), "smoke-writer");
    let write = |value: &str| {
        producer.begin_transaction().expect("begun");
        send(&producer, "smoke", "k", value);
        producer.commit_transaction(SOON).expect("committed");
    };
    write("with three");
    cluster.brokers()[0].kill();
    write("with two");
    cluster.brokers()[0].restart();
    cluster.brokers()[1].kill();
    write("with another two");
    let all = ["with three", "with two", "with another two"];
    assert_eq!(read_committed(cluster.client(), "smoke", "with another two"), all);
    cluster.brokers()[1].restart();
    cluster.stop();
}

#[test]
fn a_topic_exists_only_when_it_was_created() {
    let Some(broker) = KafkaBroker::shared() else { return };
    broker.create_topic("created", 3, &[("cleanup.policy", "compact")]);
    let consumer: BaseConsumer = broker
        .client()
        .set("group.id", "looker")
        .set("allow.auto.create.topics", "true")
        .create()
        .expect("a consumer can be made");
    let partitions = |topic: &str| {
        let metadata = consumer.fetch_metadata(Some(topic), SOON).expect("metadata");
        metadata.topics().first().map_or(0, |topic| topic.partitions().len())
    };
    assert_eq!(partitions("created"), 3);
    assert_eq!(partitions("never-created"), 0);
}

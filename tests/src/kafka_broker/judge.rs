//! What a judge reads: committed records, from the beginning, in no group's name. Knows no topology.

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

/// A consumer of everything that is committed in these topics, each of so many partitions. What
/// `client` says goes before.
///
/// # Panics
/// When there is no such consumer.
#[must_use]
pub fn committed_records(
    mut client: ClientConfig,
    topics: &[&str],
    partitions: u16,
) -> BaseConsumer {
    let consumer: BaseConsumer = client
        .set("group.id", "judge")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .create()
        .expect("a consumer can be made");
    let mut list = TopicPartitionList::new();
    for topic in topics {
        for partition in 0..i32::from(partitions) {
            list.add_partition_offset(topic, partition, Offset::Beginning).expect("a valid offset");
        }
    }
    consumer.assign(&list).expect("assigned by hand");
    consumer
}

/// A broker went away under a consumer, which tells and goes on by itself when there is one again.
#[must_use]
pub fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure};
    matches!(error.rdkafka_error_code(), Some(AllBrokersDown | BrokerTransportFailure))
}

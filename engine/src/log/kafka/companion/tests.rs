//! Calls that librdkafka does not bring to an end, on its mock cluster.

use std::time::Duration;

use headwater_state::commit::StateBatch;
use rdkafka::mocking::{MockCluster, MockCoordinator};
use rdkafka::producer::DefaultProducerContext;

use crate::actor::{Bell, Poll, Ticket};
use crate::config::KafkaConfig;
use crate::log::kafka::{KafkaLog, KafkaSettings};
use crate::log::{CommitRequest, CommittedOffset, Identity, Log};
use crate::record::{Headers, RecordBatch, RecordBatchBuilder, TopicPartition};

/// Far beyond what the test allows.
const HOURS: Duration = Duration::from_secs(3 * 60 * 60);
const SOON: Duration = Duration::from_secs(60);

fn settled<T>(ticket: &Ticket<T>, bell: &Bell) -> Poll<T> {
    let deadline = std::time::Instant::now() + SOON;
    loop {
        match ticket.poll() {
            Poll::Pending => assert!(std::time::Instant::now() < deadline, "it hangs"),
            settled => return settled,
        }
        bell.wait(Some(Duration::from_millis(100)));
    }
}

fn one_record() -> RecordBatch {
    let mut builder = RecordBatchBuilder::new();
    builder.append(1, Some(b"k"), Some(b"v"), Headers::empty()).expect("small");
    RecordBatch::new(0, builder.finish()).expect("well formed")
}

#[test]
fn offsets_for_a_group_whose_coordinator_is_away_hold_nobody_up_beyond_the_transaction() {
    let cluster: MockCluster<'static, DefaultProducerContext> =
        MockCluster::new(2).expect("a mock cluster");
    cluster.create_topic("t", 1, 1).expect("a topic");
    cluster.partition_leader("t", 0, Some(1)).expect("its leader");
    cluster.coordinator(MockCoordinator::Transaction("id".into()), 1).expect("a coordinator");
    cluster.coordinator(MockCoordinator::Group("g".into()), 2).expect("a coordinator");
    let brokers = cluster.bootstrap_servers().split(',').map(str::to_owned).collect();
    let config = KafkaConfig { brokers, ..KafkaConfig::default() };
    let settings = KafkaSettings {
        transaction_timeout: Duration::from_secs(1),
        request_timeout: HOURS,
        ..KafkaSettings::default()
    };
    let log = KafkaLog::unchecked(&config, settings).expect("its threads start");
    let bell = Bell::new();
    let mut producer = log.producer("id", bell.clone()).expect("a producer");
    assert!(matches!(settled(&producer.initialise(), &bell), Poll::Done(Ok(()))));
    producer.begin().expect("begun");
    producer.send(&TopicPartition::new("t", 0), &one_record()).expect("taken");
    cluster.broker_down(2).expect("down");
    let offset = CommittedOffset { next_offset: 1, metadata: String::new() };
    let identity = Identity { group: "g".into(), member: "m".into(), epoch: 1 };
    let request = CommitRequest {
        offsets: vec![(TopicPartition::new("in", 0), offset)],
        identity,
        state: StateBatch::default(),
    };
    let ended = settled(&producer.commit(request), &bell);
    assert!(!matches!(ended, Poll::Done(Ok(_))), "nothing can be committed");
}

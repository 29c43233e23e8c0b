//! What the log on Kafka promises beyond the contract of all logs: errors of brokers and records,
//! full queues, aborts at bad moments, broker deaths. Judged by a real broker and, where it matters,
//! by a client of the test's own.

use std::sync::Arc;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use headwater::actor::{Bell, Poll, Ticket};
use headwater::config::KafkaConfig;
use headwater::error::ErrorClass;
use headwater::log::kafka::{KafkaLog, KafkaSettings};
use headwater::log::{
    Cleanup, CommitRequest, Committed, CommittedOffset, Identity, Isolation, Log, LogError,
    LogResult, OffsetQuery, Purpose, StateBatch, TopicSpec, TransactionalProducer,
};
use headwater::record::{Headers, RecordBatch, RecordBatchBuilder, TopicPartition};
use headwater_state::database::rocks::{MemoryBudget, SharedMemory};
use headwater_state::directory::{Identity as DirectoryIdentity, StateDirectory, Storage};
use headwater_state::error::Mode;
use headwater_tests::kafka_broker::KafkaBroker;
use headwater_tests::slice;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::{Offset, TopicPartitionList};

const SOON: Duration = Duration::from_secs(60);

fn config(broker: &KafkaBroker, properties: &[(&str, &str)]) -> KafkaConfig {
    let own = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    KafkaConfig {
        brokers: vec![broker.address()],
        properties: properties.iter().map(own).collect(),
        ..KafkaConfig::default()
    }
}

fn connect(broker: &KafkaBroker, properties: &[(&str, &str)]) -> KafkaLog {
    let settings = KafkaSettings {
        transaction_timeout: Duration::from_secs(5),
        request_timeout: Duration::from_secs(5),
        ..KafkaSettings::default()
    };
    KafkaLog::connect(&config(broker, properties), settings).expect("the broker answers")
}

/// The end of a ticket; `None` if it is abandoned.
fn end<T>(ticket: &Ticket<T>) -> Option<T> {
    let deadline = Instant::now() + SOON;
    loop {
        match ticket.poll() {
            Poll::Done(answer) => return Some(answer),
            Poll::Abandoned => return None,
            Poll::Pending => park_timeout(Duration::from_millis(1)),
        }
        assert!(Instant::now() < deadline, "no answer in time");
    }
}

fn answer<T>(ticket: &Ticket<T>) -> T {
    end(ticket).expect("somebody answers")
}

fn batch(records: &[(i64, &str, &[u8])]) -> RecordBatch {
    let mut builder = RecordBatchBuilder::new();
    for (timestamp, key, value) in records {
        builder
            .append(*timestamp, Some(key.as_bytes()), Some(value), Headers::empty())
            .expect("no headers");
    }
    RecordBatch::new(0, builder.finish()).expect("just built")
}

fn producer(log: &KafkaLog, id: &str) -> Box<dyn TransactionalProducer> {
    let mut producer = log.producer(id, Bell::new()).expect("a producer");
    answer(&producer.initialise()).expect("initialised");
    producer
}

fn request(group: &str, offsets: Vec<(TopicPartition, CommittedOffset)>) -> CommitRequest {
    let identity = Identity { group: group.into(), member: "".into(), epoch: -1 };
    CommitRequest { offsets, identity, state: StateBatch::default() }
}

fn commit(producer: &mut Box<dyn TransactionalProducer>) -> LogResult<Committed> {
    answer(&producer.commit(request("group", Vec::new())))
}

fn create(log: &KafkaLog, name: &str, cleanup: Cleanup) -> TopicPartition {
    let spec = TopicSpec { name: name.into(), partitions: 1, cleanup };
    answer(&log.create_topics(vec![spec])).expect("created");
    TopicPartition::new(name, 0)
}

fn kept_for_ever(log: &KafkaLog, name: &str) -> TopicPartition {
    create(log, name, Cleanup::Delete { retention: None })
}

/// Timestamp and value of all committed records; waits until the log is stable to its end.
fn read(log: &KafkaLog, partition: &TopicPartition) -> Vec<(i64, Vec<u8>)> {
    let deadline = Instant::now() + SOON;
    let end = answer(&log.offsets(vec![partition.clone()], OffsetQuery::HighWatermark));
    let end = end.expect("the end")[0];
    let mut reader = log
        .reader(partition, 0, Isolation::ReadCommitted, Purpose::Restore, Bell::new())
        .expect("a reader");
    let mut records = Vec::new();
    loop {
        let fetched = reader.take(1 << 20).expect("records");
        for record in fetched.batches.iter().flat_map(RecordBatch::records) {
            let record = record.expect("well formed");
            records.push((record.timestamp, record.value.expect("a value").to_vec()));
        }
        if fetched.position >= end {
            return records;
        }
        assert!(Instant::now() < deadline, "{} of {end}", fetched.position);
        park_timeout(Duration::from_millis(1));
    }
}

#[test]
fn an_address_where_no_broker_is_fails_in_time_and_says_where_and_what_to_do() {
    let config = KafkaConfig { brokers: vec!["127.0.0.1:1".into()], ..KafkaConfig::default() };
    let settings =
        KafkaSettings { connect_timeout: Duration::from_secs(2), ..KafkaSettings::default() };
    let begun = Instant::now();
    let error = KafkaLog::connect(&config, settings).expect_err("nobody listens");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(error.class, ErrorClass::Fatal);
    let text = error.to_string();
    for word in ["127.0.0.1:1", "refused", "check KAFKA_BROKERS"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn a_property_that_librdkafka_does_not_know_is_named() {
    let Some(broker) = KafkaBroker::shared() else { return };
    let config = config(broker, &[("fetch.wishes", "many")]);
    let error = KafkaLog::connect(&config, KafkaSettings::default()).expect_err("no such property");
    assert_eq!(error.class, ErrorClass::Fatal);
    assert!(error.to_string().contains("fetch.wishes"), "{error}");
}

#[test]
fn topics_have_the_settings_of_kafka_streams() {
    let Some(broker) = KafkaBroker::shared() else { return };
    let log = connect(broker, &[]);
    let all = [
        ("settings-repartition", Cleanup::Delete { retention: None }),
        ("settings-output", Cleanup::Delete { retention: Some(Duration::from_secs(3_600)) }),
        ("settings-changelog", Cleanup::Compact),
        (
            "settings-windowed-changelog",
            Cleanup::CompactAndDelete { retention: Duration::from_secs(90_000) },
        ),
    ];
    for (name, cleanup) in all {
        create(&log, name, cleanup);
    }
    let names: Vec<Arc<str>> = all.iter().map(|(name, _)| Arc::from(*name)).collect();
    let described = answer(&log.describe_topics(names)).expect("described");
    let found: Vec<_> = described.iter().map(|spec| (&*spec.name, spec.cleanup)).collect();
    assert_eq!(found, all);
}

#[test]
fn a_record_of_time_zero_is_written_at_the_first_millisecond_not_at_the_present() {
    let Some(broker) = KafkaBroker::shared() else { return };
    let log = connect(broker, &[]);
    let partition = kept_for_ever(&log, "time-zero");
    let mut producer = producer(&log, "time-zero");
    producer.begin().expect("begun");
    producer.send(&partition, &batch(&[(0, "k", b"a"), (-5, "k", b"b")])).expect("sent");
    commit(&mut producer).expect("committed");
    assert_eq!(read(&log, &partition), [(1, b"a".to_vec()), (1, b"b".to_vec())]);
}

/// The error of a transaction with this record, found by `send` or by `commit`, and aborted.
fn refusal(log: &KafkaLog, partition: &TopicPartition, value: &[u8]) -> LogError {
    let mut producer = producer(log, "sizes");
    producer.begin().expect("begun");
    let records = batch(&[(1, "small", b"s"), (2, "large\n", value)]);
    let error = match producer.send(partition, &records) {
        Err(error) => error,
        Ok(()) => commit(&mut producer).expect_err("refused by the broker"),
    };
    if let Some(aborted) = end(&producer.abort()) {
        aborted.expect("aborted");
    }
    error
}

#[test]
fn a_record_that_is_too_large_is_the_users_and_named_and_the_next_transaction_succeeds() {
    let Some(broker) = KafkaBroker::shared() else { return };
    let log = connect(broker, &[]);
    broker.create_topic("narrow", 1, &[("max.message.bytes", "2000")]);
    let narrow = TopicPartition::new("narrow", 0);
    let wide = kept_for_ever(&log, "wide");
    let noise: Vec<u8> =
        (0..1_500_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    // The broker refuses a batch and says nothing of its records; alone the record is refused.
    let error = refusal(&log, &narrow, &noise[..5_000]);
    assert_eq!(error.class, ErrorClass::Abort, "{error}");
    for (partition, bytes) in [(&wide, 1_500_000), (&narrow, 5_000)] {
        let error = refusal(&log, partition, &noise[..bytes]);
        assert_eq!(error.class, ErrorClass::User, "{error}");
        assert_eq!(error.place.as_ref(), Some(partition), "{error}");
        assert!(error.to_string().contains("max.message.bytes"), "{error}");
    }
    let mut producer = producer(&log, "sizes");
    producer.begin().expect("begun");
    producer.send(&narrow, &batch(&[(1, "k", b"fits")])).expect("sent");
    commit(&mut producer).expect("committed");
    assert_eq!(read(&log, &narrow), [(1, b"fits".to_vec())]);
    assert!(read(&log, &wide).is_empty());
}

#[test]
fn more_records_than_the_clients_queue_holds_are_all_delivered_in_order() {
    let Some(broker) = KafkaBroker::shared() else { return };
    let log = connect(broker, &[("queue.buffering.max.messages", "100")]);
    let partition = kept_for_ever(&log, "narrow-queue");
    let bell = Bell::new();
    let mut producer = log.producer("narrow-queue", bell.clone()).expect("a producer");
    answer(&producer.initialise()).expect("initialised");
    producer.begin().expect("begun");
    let (mut refused, mut expected) = (0, Vec::new());
    for round in 0..40_i64 {
        let values: Vec<_> = (0..50).map(|n| (round * 50 + n).to_string().into_bytes()).collect();
        let records: Vec<_> = values.iter().map(|value| (1, "k", value.as_slice())).collect();
        let records = batch(&records);
        expected.extend(values);
        bell.take();
        while let Err(error) = producer.send(&partition, &records) {
            assert_eq!(error.class, ErrorClass::Retry, "{error}");
            refused += 1;
            let deadline = Instant::now() + SOON;
            while !bell.take() {
                assert!(Instant::now() < deadline, "the bell rings when there is room");
                park_timeout(Duration::from_millis(1));
            }
        }
    }
    commit(&mut producer).expect("committed");
    assert!(refused > 0, "2,000 records found room in a queue of 100");
    let values: Vec<_> = read(&log, &partition).into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, expected);
}

#[test]
fn an_abort_right_after_the_first_records_were_sent_succeeds_and_hides_them() {
    let Some(broker) = KafkaBroker::shared() else { return };
    let log = connect(broker, &[]);
    let partition = kept_for_ever(&log, "hasty-abort");
    for id in 0..8 {
        let mut producer = producer(&log, &format!("hasty-abort-{id}"));
        for records in [1, 5_000] {
            producer.begin().expect("begun");
            let records = vec![(1, "k", &b"aborted"[..]); records];
            producer.send(&partition, &batch(&records)).expect("sent");
            answer(&producer.abort()).expect("aborted");
        }
        producer.begin().expect("begun");
        producer.send(&partition, &batch(&[(1, "k", b"kept")])).expect("sent");
        commit(&mut producer).expect("committed");
    }
    let values: Vec<_> = read(&log, &partition).into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, vec![b"kept".to_vec(); 8]);
}

#[test]
fn committed_offsets_are_answered_once_no_transaction_on_them_is_open() {
    let Some(broker) = KafkaBroker::shared() else { return };
    let log = connect(broker, &[]);
    let partition = kept_for_ever(&log, "unstable");
    let group = "unstable-group";
    let other: BaseProducer = broker
        .client()
        .set("transactional.id", "unstable")
        .create()
        .expect("a producer of the test's own");
    let member: BaseConsumer =
        broker.client().set("group.id", group).create().expect("a consumer of the test's own");
    other.init_transactions(SOON).expect("initialised");
    other.begin_transaction().expect("begun");
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset("unstable", 0, Offset::Offset(7)).expect("a valid offset");
    let metadata = member.group_metadata().expect("it has a group");
    other.send_offsets_to_transaction(&offsets, &metadata, SOON).expect("sent");
    let asked = log.committed(group, vec![partition]);
    let patience = Instant::now() + Duration::from_millis(700);
    while Instant::now() < patience {
        assert!(matches!(asked.poll(), Poll::Pending), "the transaction is open");
        park_timeout(Duration::from_millis(10));
    }
    other.commit_transaction(SOON).expect("committed");
    let committed = answer(&asked).expect("stable now");
    assert_eq!(committed[0].as_ref().map(|offset| offset.next_offset), Some(7));
}

#[test]
fn offsets_in_the_name_of_a_member_that_the_group_does_not_have_are_refused_and_nothing_is_seen() {
    let Some(broker) = KafkaBroker::shared() else { return };
    let log = connect(broker, &[]);
    let partition = kept_for_ever(&log, "zombie");
    let mut producer = producer(&log, "zombie");
    producer.begin().expect("begun");
    producer.send(&partition, &batch(&[(1, "k", b"of a zombie")])).expect("sent");
    let offset = CommittedOffset { next_offset: 5, metadata: String::new() };
    let mut request = request("zombies", vec![(partition.clone(), offset)]);
    request.identity.member = "it was a member once".into();
    request.identity.epoch = 3;
    let error = answer(&producer.commit(request)).expect_err("the group knows no such member");
    assert_eq!(error.class, ErrorClass::Abort, "{error}");
    answer(&producer.abort()).expect("aborted");
    producer.begin().expect("begun");
    producer.send(&partition, &batch(&[(1, "k", b"kept")])).expect("sent");
    commit(&mut producer).expect("committed");
    let committed = answer(&log.committed("zombies", vec![partition.clone()]));
    assert_eq!(committed.expect("stable"), [None]);
    let values: Vec<_> = read(&log, &partition).into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, [b"kept".to_vec()]);
}

#[test]
fn a_commit_does_not_wait_for_records_to_fill_a_batch() {
    let Some(broker) = KafkaBroker::shared() else { return };
    // A little less than the transaction timeout, after which the record would be given up.
    let log = connect(broker, &[("linger.ms", "4500")]);
    let partition = kept_for_ever(&log, "linger");
    let mut producer = producer(&log, "linger");
    let begun = Instant::now();
    for _ in 0..3 {
        producer.begin().expect("begun");
        producer.send(&partition, &batch(&[(1, "k", b"v")])).expect("sent");
        commit(&mut producer).expect("committed");
    }
    assert!(begun.elapsed() < Duration::from_secs(12), "each waited for others");
}

#[test]
fn a_commit_does_not_wait_in_the_clients_steps_of_a_tenth_of_a_second() {
    let Some(broker) = KafkaBroker::shared() else { return };
    let log = connect(broker, &[]);
    let partition = kept_for_ever(&log, "latency");
    let mut producer = producer(&log, "latency");
    let mut times: Vec<Duration> = (0..30)
        .map(|next_offset| {
            producer.begin().expect("begun");
            producer.send(&partition, &batch(&[(1, "k", b"v")])).expect("sent");
            let offset = CommittedOffset { next_offset, metadata: "m".to_owned() };
            let begun = Instant::now();
            let ticket = producer.commit(request("latency", vec![(partition.clone(), offset)]));
            answer(&ticket).expect("committed");
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    headwater_tests::proof::say(&format!(
        "commit of one record and one offset: lowest {:?}, median {:?}, highest {:?}",
        times[0], times[15], times[29]
    ));
    // With those steps not even the lowest could be less.
    assert!(times[0] < Duration::from_millis(90), "lowest {:?}", times[0]);
}

#[test]
fn clients_of_a_broker_that_is_gone_are_dropped_without_waiting_for_it() {
    let Some(broker) = KafkaBroker::start(&[]) else { return };
    let log = connect(&broker, &[]);
    let partition = kept_for_ever(&log, "gone");
    let mut producer = producer(&log, "gone");
    let reader = log
        .reader(&partition, 0, Isolation::ReadCommitted, Purpose::Input, Bell::new())
        .expect("a reader");
    producer.begin().expect("begun");
    broker.kill();
    producer.send(&partition, &batch(&[(1, "k", b"never delivered")])).expect("taken");
    let begun = Instant::now();
    drop(producer);
    drop(reader);
    drop(log);
    // Their own threads wait instead, and may hang (rust-rdkafka #453, #509).
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
}

#[test]
fn a_broker_that_dies_during_a_commit_leaves_a_result_that_the_next_producer_settles() {
    let Some(broker) = KafkaBroker::start(&[]) else { return };
    let log = connect(&broker, &[]);
    let partition = kept_for_ever(&log, "broker-death");
    let mut first = producer(&log, "broker-death");
    first.begin().expect("begun");
    first.send(&partition, &batch(&[(1, "k", b"before")])).expect("sent");
    commit(&mut first).expect("committed");

    first.begin().expect("begun");
    first.send(&partition, &batch(&[(1, "k", b"maybe")])).expect("sent");
    let offset = CommittedOffset { next_offset: 5, metadata: String::new() };
    let ticket = first.commit(request("broker-death", vec![(partition.clone(), offset)]));
    broker.kill();
    match end(&ticket) {
        None => {}
        Some(Ok(_)) => panic!("nobody was there to commit"),
        Some(Err(error)) => {
            assert!(matches!(error.class, ErrorClass::Abort | ErrorClass::Fenced), "{error}");
        }
    }
    drop(first);
    broker.restart();

    let mut second = log.producer("broker-death", Bell::new()).expect("a producer");
    let deadline = Instant::now() + SOON;
    while let Err(error) = answer(&second.initialise()) {
        assert_eq!(error.class, ErrorClass::Retry, "{error}");
        assert!(Instant::now() < deadline, "{error}");
    }
    let committed = answer(&log.committed("broker-death", vec![partition.clone()]));
    let happened = committed.expect("stable")[0].is_some();
    second.begin().expect("begun");
    second.send(&partition, &batch(&[(1, "k", b"after")])).expect("sent");
    commit(&mut second).expect("committed");
    let mut expected = vec![b"before".to_vec(), b"maybe".to_vec(), b"after".to_vec()];
    if !happened {
        expected.remove(1);
    }
    let values: Vec<_> = read(&log, &partition).into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, expected, "records and offsets share their fate");
    broker.stop();
}

#[test]
fn the_state_directory_of_another_cluster_is_refused_with_both_ids() {
    let Some(broker) = KafkaBroker::shared() else { return };
    let folder = tempfile::tempdir().expect("a folder for state");
    let budget = MemoryBudget { block_cache_bytes: 1 << 20, memtable_bytes: 1 << 20 };
    let storage =
        Storage::Files { path: folder.path().to_owned(), memory: SharedMemory::new(budget) };
    let applications = [slice::APPLICATION.to_owned()].into();
    let cluster = Some("a-cluster-of-before".to_owned());
    let before = DirectoryIdentity { mode: Mode::Kafka, applications, cluster };
    drop(StateDirectory::open(storage, before).expect("a fresh directory"));
    let error = slice::start(&broker.address(), folder.path()).expect_err("another cluster's");
    let id = connect(broker, &[]).cluster_id().expect("brokers tell it").to_owned();
    let text = error.to_string();
    for part in ["a-cluster-of-before", &*id, "use another directory"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

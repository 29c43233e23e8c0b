//! What the contestants read and what they wrote, by a client that is neither's.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use headwater_tests::kafka_broker::KafkaBroker;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

/// Partitions of every topic.
pub const PARTITIONS: u16 = 4;
const SOON: Duration = Duration::from_secs(60);
/// Event time between two records, in milliseconds.
const STEP_MS: i64 = 1;

/// Records to write.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// How many.
    pub records: u32,
    /// The number of the first.
    pub first: u32,
    /// Different keys.
    pub keys: u32,
    /// Bytes of a value.
    pub value_bytes: usize,
}

/// Writes a load to a topic; a key's partition and a record's time follow from its number.
///
/// # Panics
/// When the broker refuses.
pub fn fill(broker: &KafkaBroker, topic: &str, load: Load) {
    let producer: BaseProducer = broker
        .client()
        .set("linger.ms", "20")
        .set("compression.type", "lz4")
        .set("queue.buffering.max.kbytes", "65536")
        .create()
        .expect("a producer");
    // A generator of Marsaglia's; values that compress like text rather than like zeros.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut value = vec![0; load.value_bytes];
    for number in load.first..load.first + load.records {
        for byte in value.chunks_mut(2) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            byte.fill(u8::try_from(state & 0x7f).expect("seven bits"));
        }
        let key = (number % load.keys).to_be_bytes();
        let partition = i32::try_from(number % load.keys % u32::from(PARTITIONS)).expect("few");
        let time = 1_700_000_000_000 + i64::from(number) * STEP_MS;
        let record = || {
            let record = BaseRecord::to(topic).partition(partition).timestamp(time);
            record.key(&key[..]).payload(&value[..])
        };
        while let Err((error, _)) = producer.send(record()) {
            let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            assert_eq!(error, full, "the input is written");
            producer.poll(Duration::from_millis(5));
        }
    }
    producer.flush(SOON).expect("the input is delivered");
}

/// How many records of a topic a group has committed.
pub struct Progress {
    consumer: BaseConsumer,
    topic: String,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl fmt::Debug for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results").finish_non_exhaustive()
    }
}

fn partitions(topic: &str, offset: Offset) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in 0..i32::from(PARTITIONS) {
        list.add_partition_offset(topic, partition, offset).expect("an offset");
    }
    list
}

impl Progress {
    /// Watches a group's offsets in a topic.
    ///
    /// # Panics
    /// When there is no client.
    #[must_use]
    pub fn of(broker: &KafkaBroker, group: &str, topic: &str) -> Self {
        let consumer = broker.client().set("group.id", group).create().expect("a consumer");
        Self { consumer, topic: topic.to_owned() }
    }

    /// Committed records.
    #[must_use]
    pub fn committed(&self) -> u64 {
        let wanted = partitions(&self.topic, Offset::Invalid);
        let Ok(list) = self.consumer.committed_offsets(wanted, Duration::from_secs(5)) else {
            return 0;
        };
        let offsets = list.elements().into_iter().map(|element| match element.offset() {
            Offset::Offset(offset) => u64::try_from(offset).unwrap_or(0),
            _ => 0,
        });
        offsets.sum()
    }
}

/// Reads committed records of one topic.
pub struct Results {
    consumer: BaseConsumer,
}

/// Sends one record at a time through a running topology and measures how long each takes until its
/// result is committed, as long as `goes_on` says so.
///
/// # Panics
/// When there is no client, or a result takes longer than a minute.
#[must_use]
pub fn latencies(
    broker: &KafkaBroker,
    input: &str,
    output: &str,
    goes_on: impl Fn(usize) -> bool,
) -> Vec<Duration> {
    let results = Results::of(broker, output, true);
    let producer: BaseProducer =
        broker.client().set("linger.ms", "0").create().expect("a producer");
    let mut all = Vec::new();
    while goes_on(all.len()) {
        let started = Instant::now();
        let partition = i32::try_from(all.len() % usize::from(PARTITIONS)).expect("few");
        let record = BaseRecord::to(input).partition(partition).key("probe").payload("probe");
        producer.send(record).map_err(|(error, _)| error).expect("sent");
        producer.flush(SOON).expect("delivered");
        assert!(results.first(SOON), "{output} gives no result");
        all.push(started.elapsed());
    }
    all.sort_unstable();
    all
}

/// What a topic held.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its records.
    pub records: u64,
    /// The last value of each key.
    pub last: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Results {
    /// From the beginning of a topic, or from its end on.
    ///
    /// # Panics
    /// When there is no client, or the topic is not there.
    #[must_use]
    pub fn of(broker: &KafkaBroker, topic: &str, from_end: bool) -> Self {
        let consumer: BaseConsumer = broker
            .client()
            .set("group.id", "results")
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "5")
            .create()
            .expect("a consumer");
        let mut list = TopicPartitionList::new();
        for partition in 0..i32::from(PARTITIONS) {
            let ends = consumer.fetch_watermarks(topic, partition, SOON).expect("the topic's ends");
            let offset = Offset::Offset(if from_end { ends.1 } else { ends.0 });
            list.add_partition_offset(topic, partition, offset).expect("an offset");
        }
        consumer.assign(&list).expect("assigned");
        Self { consumer }
    }

    /// Waits for one record; false when none came in time.
    ///
    /// # Panics
    /// When reading fails.
    #[must_use]
    pub fn first(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if let Some(record) = self.consumer.poll(Duration::from_millis(20)) {
                drop(record.expect("a record"));
                return true;
            }
        }
        false
    }

    /// Reads until nothing more came for two seconds.
    ///
    /// # Panics
    /// When reading fails.
    #[must_use]
    pub fn all(&self) -> Outcome {
        let mut outcome = Outcome { records: 0, last: BTreeMap::new() };
        let mut quiet = Instant::now();
        while quiet.elapsed() < Duration::from_secs(2) {
            if let Some(record) = self.consumer.poll(Duration::from_millis(100)) {
                let record = record.expect("a record");
                outcome.records += 1;
                let key = record.key().unwrap_or_default().to_vec();
                outcome.last.insert(key, record.payload().unwrap_or_default().to_vec());
                quiet = Instant::now();
            }
        }
        outcome
    }
}

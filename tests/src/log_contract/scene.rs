//! One log and one topic, with the calls that claims are made of. Knows how to wait for a log.

use std::sync::Arc;

use headwater::actor::{Bell, Poll, Ticket};
use headwater::error::ErrorClass;
use headwater::log::{
    Cleanup, CommitRequest, Committed, CommittedOffset, Identity, Isolation, Log, LogError,
    LogResult, OffsetQuery, PartitionReader, Purpose, StateBatch, TopicSpec, TransactionalProducer,
};
use headwater::record::{Headers, RawRecord, RecordBatch, RecordBatchBuilder, TopicPartition};

use super::LogUnderTest;

/// How often a log is run before a missing answer is a failure.
pub const PATIENCE: usize = 20_000;
/// More bytes than any claim writes.
pub const EVERYTHING: usize = 64 << 20;

/// One log and the names of one claim.
#[expect(missing_debug_implementations, reason = "a log has no text form")]
pub struct Scene<'l> {
    /// What runs behind the log.
    pub under_test: &'l dyn LogUnderTest,
    /// The log.
    pub log: Arc<dyn Log>,
    /// The topic.
    pub topic: Arc<str>,
    /// The group that commits.
    pub group: String,
}

/// A boxed producer.
pub type Producer = Box<dyn TransactionalProducer>;
/// A boxed reader.
pub type Reader = Box<dyn PartitionReader>;

impl<'l> Scene<'l> {
    /// A log with one new topic that keeps everything.
    pub fn new(under_test: &'l dyn LogUnderTest, topic: &str, partitions: u32) -> Self {
        let scene = Self::existing(under_test, topic);
        scene.create(partitions).expect("a new topic");
        scene
    }

    /// A log that has the topic.
    pub fn existing(under_test: &'l dyn LogUnderTest, topic: &str) -> Self {
        let topic: Arc<str> = Arc::from(under_test.unique(topic));
        let group = under_test.unique("group");
        Self { under_test, log: under_test.log(), topic, group }
    }

    /// Creates the topic, unless it exists.
    ///
    /// # Errors
    /// The log's own.
    pub fn create(&self, partitions: u32) -> LogResult<()> {
        self.create_with(partitions, Cleanup::Delete { retention: None })
    }

    /// Creates the topic with this cleanup, unless it exists.
    ///
    /// # Errors
    /// The log's own.
    pub fn create_with(&self, partitions: u32, cleanup: Cleanup) -> LogResult<()> {
        let spec = TopicSpec { name: Arc::clone(&self.topic), partitions, cleanup };
        self.answer(self.log.create_topics(vec![spec]))
    }

    /// Runs the log until the answer is there.
    pub fn answer<T>(&self, ticket: Ticket<T>) -> T {
        for _ in 0..PATIENCE {
            match ticket.poll() {
                Poll::Done(answer) => return answer,
                Poll::Pending => self.under_test.run(),
                Poll::Abandoned => panic!("nobody will answer"),
            }
        }
        panic!("no answer after running the log {PATIENCE} times");
    }

    /// A partition of the topic.
    pub fn partition(&self, partition: u32) -> TopicPartition {
        TopicPartition::new(Arc::clone(&self.topic), partition)
    }

    /// An initialised producer.
    pub fn producer(&self, id: &str) -> Producer {
        let id = self.under_test.unique(id);
        let mut producer = self.log.producer(&id, Bell::new()).expect("a producer");
        self.answer(producer.initialise()).expect("initialised");
        producer
    }

    /// Sends a batch, waiting while the producer's queue is full.
    ///
    /// # Errors
    /// The log's own.
    pub fn send(
        &self,
        producer: &mut Producer,
        partition: u32,
        batch: &RecordBatch,
    ) -> LogResult<()> {
        let to = self.partition(partition);
        for _ in 0..PATIENCE {
            match producer.send(&to, batch) {
                Err(error) if error.class == ErrorClass::Retry => self.under_test.run(),
                other => return other,
            }
        }
        panic!("the producer's queue stays full");
    }

    /// A commit of these offsets: partition, next offset, metadata.
    pub fn request(&self, offsets: &[(u32, i64, &str)]) -> CommitRequest {
        let offset = |&(partition, next_offset, metadata): &(u32, i64, &str)| {
            let metadata = metadata.to_owned();
            (self.partition(partition), CommittedOffset { next_offset, metadata })
        };
        CommitRequest {
            offsets: offsets.iter().map(offset).collect(),
            identity: Identity {
                group: Arc::from(self.group.as_str()),
                member: Arc::from(""),
                epoch: -1,
            },
            state: StateBatch::default(),
        }
    }

    /// Commits the open transaction with these offsets.
    ///
    /// # Errors
    /// The log's own.
    pub fn try_commit(
        &self,
        producer: &mut Producer,
        offsets: &[(u32, i64, &str)],
    ) -> LogResult<Committed> {
        let committed = self.answer(producer.commit(self.request(offsets)))?;
        for (partition, end) in &committed.ends {
            self.wait_until_stable(partition.partition, *end);
        }
        Ok(committed)
    }

    /// A commit is decided before all partitions know of it (Kafka writes their markers later).
    fn wait_until_stable(&self, partition: u32, end: i64) {
        for _ in 0..PATIENCE {
            if self.offset(partition, OffsetQuery::LastStable) >= end {
                return;
            }
            self.under_test.run();
        }
        panic!("partition {partition} does not become stable up to {end}");
    }

    /// Commits the open transaction with these offsets, which succeeds.
    pub fn commit(&self, producer: &mut Producer, offsets: &[(u32, i64, &str)]) {
        self.try_commit(producer, offsets).expect("committed");
    }

    /// One transaction with these values for one partition.
    pub fn write(&self, producer: &mut Producer, partition: u32, values: &[&str]) {
        producer.begin().expect("begun");
        self.send(producer, partition, &batch(values)).expect("sent");
        self.commit(producer, &[]);
    }

    /// One end of a partition.
    pub fn offset(&self, partition: u32, query: OffsetQuery) -> i64 {
        let partitions = vec![self.partition(partition)];
        self.answer(self.log.offsets(partitions, query)).expect("offsets")[0]
    }

    /// The committed offset of a group.
    pub fn committed(&self, group: &str, partition: u32) -> Option<CommittedOffset> {
        let partitions = vec![self.partition(partition)];
        let answer = self.answer(self.log.committed(group, partitions));
        answer.expect("committed offsets").remove(0)
    }

    /// A read-committed reader with this bell.
    ///
    /// # Errors
    /// The log's own.
    pub fn reader_with(&self, partition: u32, offset: i64, bell: Bell) -> LogResult<Reader> {
        let partition = self.partition(partition);
        self.log.reader(&partition, offset, Isolation::ReadCommitted, Purpose::Input, bell)
    }

    /// A read-committed reader.
    pub fn reader(&self, partition: u32, offset: i64) -> Reader {
        self.reader_with(partition, offset, Bell::new()).expect("a reader")
    }

    /// Takes until the reader has passed what is stable now.
    pub fn drain(&self, reader: &mut Reader, max_bytes: usize) -> Vec<RecordBatch> {
        let end = self.offset(reader.partition().partition, OffsetQuery::LastStable);
        let mut batches: Vec<RecordBatch> = Vec::new();
        let mut position = 0;
        for _ in 0..PATIENCE {
            let fetched = reader.take(max_bytes).expect("records");
            assert!(fetched.position >= position, "a position never goes back");
            position = fetched.position;
            for batch in fetched.batches {
                let before = batches.last().map_or(0, RecordBatch::next_offset);
                assert!(batch.base_offset() >= before, "batches come in offset order");
                assert!(batch.next_offset() <= position, "the position is behind all batches");
                batches.push(batch);
            }
            if position >= end {
                return batches;
            }
            self.under_test.run();
        }
        panic!("the reader stands at {position} and does not reach {end}");
    }

    /// The values of a whole partition.
    pub fn values(&self, partition: u32) -> Vec<String> {
        let start = self.offset(partition, OffsetQuery::Earliest);
        values(&self.drain(&mut self.reader(partition, start), EVERYTHING))
    }

    /// A read that is expected to fail, which a log may find out late.
    pub fn read_error(&self, reader: &mut Reader) -> LogError {
        for _ in 0..PATIENCE {
            match reader.take(EVERYTHING) {
                Err(error) if error.class == ErrorClass::Retry => self.under_test.run(),
                Err(error) => return error,
                Ok(fetched) => {
                    assert!(fetched.batches.is_empty(), "nothing can be read there");
                    self.under_test.run();
                }
            }
        }
        panic!("reading does not fail");
    }
}

/// A batch of these values, all of one key.
pub fn batch(values: &[&str]) -> RecordBatch {
    let mut builder = RecordBatchBuilder::new();
    for value in values {
        builder
            .append(1_000, Some(b"key"), Some(value.as_bytes()), Headers::empty())
            .expect("no headers");
    }
    RecordBatch::new(0, builder.finish()).expect("just built")
}

/// The values of batches, as text.
pub fn values(batches: &[RecordBatch]) -> Vec<String> {
    let value = |record: RawRecord<'_>| {
        String::from_utf8(record.value.expect("a value").to_vec()).expect("text")
    };
    batches.iter().flat_map(|b| b.records().map(|r| value(r.expect("well formed")))).collect()
}

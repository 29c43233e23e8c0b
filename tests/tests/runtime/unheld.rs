//! The embedded log as if it did not hold the state: with changelogs, restores and a database per
//! task, as on Kafka.

use std::sync::Arc;

use headwater::actor::{Bell, Ticket};
use headwater::log::embedded::EmbeddedLog;
use headwater::log::{
    CommittedOffset, Isolation, Log, LogResult, OffsetQuery, PartitionReader, Purpose, TopicSpec,
    TransactionalProducer,
};
use headwater::record::TopicPartition;

#[derive(Debug)]
pub(crate) struct Unheld(pub(crate) Arc<EmbeddedLog>);

impl Log for Unheld {
    fn kind(&self) -> &'static str {
        "unheld"
    }

    fn holds_state(&self) -> bool {
        false
    }

    fn describe_topics(&self, names: Vec<Arc<str>>) -> Ticket<LogResult<Vec<TopicSpec>>> {
        self.0.describe_topics(names)
    }

    fn create_topics(&self, topics: Vec<TopicSpec>) -> Ticket<LogResult<()>> {
        self.0.create_topics(topics)
    }

    fn delete_records(&self, before: Vec<(TopicPartition, i64)>) -> Ticket<LogResult<()>> {
        self.0.delete_records(before)
    }

    fn offsets(
        &self,
        partitions: Vec<TopicPartition>,
        query: OffsetQuery,
    ) -> Ticket<LogResult<Vec<i64>>> {
        self.0.offsets(partitions, query)
    }

    fn committed(
        &self,
        group: &str,
        partitions: Vec<TopicPartition>,
    ) -> Ticket<LogResult<Vec<Option<CommittedOffset>>>> {
        self.0.committed(group, partitions)
    }

    fn reader(
        &self,
        partition: &TopicPartition,
        offset: i64,
        isolation: Isolation,
        purpose: Purpose,
        bell: Bell,
    ) -> LogResult<Box<dyn PartitionReader>> {
        self.0.reader(partition, offset, isolation, purpose, bell)
    }

    fn producer(&self, id: &str, bell: Bell) -> LogResult<Box<dyn TransactionalProducer>> {
        self.0.producer(id, bell)
    }
}

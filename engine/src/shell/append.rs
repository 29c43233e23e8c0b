//! Records that come by HTTP into the log. Owns the choice of their partitions, and on Kafka a
//! producer of the process's own; knows no route.
//!
//! On the embedded log an append is one atomic write. On Kafka it is one transaction, so that there
//! too all of it is seen or nothing; one at a time, because a producer has one transaction.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use crate::actor::Bell;
use crate::log::{CommitRequest, Identity, StateBatch, TransactionalProducer};
use crate::query::{NewRecord, Problem, QueryError, await_log, refused_by_log};
use crate::record::TopicPartition;
use crate::record::batch::{RecordBatch, RecordBatchBuilder};
use crate::runtime::HostView;
use crate::serde::kafka_streams::partition_for;
use crate::time::SystemClock;

type Batches = Vec<(TopicPartition, RecordBatch)>;

/// Appends records to a process's log.
pub(super) struct Appender {
    view: HostView,
    clock: SystemClock,
    partitions: Mutex<BTreeMap<String, u32>>,
    producer: Mutex<Option<Open>>,
}

struct Open {
    producer: Box<dyn TransactionalProducer>,
    bell: Bell,
}

impl Appender {
    pub(super) fn new(view: HostView) -> Self {
        let (partitions, producer) = (Mutex::default(), Mutex::default());
        Self { view, clock: SystemClock::new(), partitions, producer }
    }

    /// As [`QueryTarget::append`](crate::query::QueryTarget::append).
    pub(super) fn append(
        &self,
        records: &[NewRecord],
        patience: Duration,
    ) -> Result<(), QueryError> {
        let batches = self.batches(records, patience)?;
        if let Some(log) = &self.view.embedded {
            let bell = Bell::new();
            let ticket = log.append(&batches, bell.clone());
            return await_log(&ticket, &bell, &self.clock, patience).map(drop);
        }
        let mut producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open = match producer.take() {
            Some(open) => open,
            None => self.open(patience)?,
        };
        self.commit(&mut open, &batches, patience)?;
        // After any error it is dropped: the next append begins with a new one.
        *producer = Some(open);
        Ok(())
    }

    fn batches(&self, records: &[NewRecord], patience: Duration) -> Result<Batches, QueryError> {
        let mut batches: BTreeMap<TopicPartition, RecordBatchBuilder> = BTreeMap::new();
        for record in records {
            let count = self.partitions_of(&record.topic, patience)?;
            let partition = partition_for(&record.key, count);
            let place = TopicPartition::new(record.topic.as_str(), partition);
            let batch = batches.entry(place).or_default();
            let (key, value) = (Some(&*record.key), Some(&*record.value));
            batch
                .append(record.timestamp, key, value, &record.headers)
                .map_err(|error| QueryError::new(Problem::RecordRefused, error.to_string()))?;
        }
        let built = batches
            .into_iter()
            .map(|(place, batch)| RecordBatch::new(0, batch.finish()).map(|batch| (place, batch)));
        built.collect::<Result<_, _>>().map_err(|error| QueryError::failed(&error))
    }

    fn partitions_of(&self, topic: &str, patience: Duration) -> Result<u32, QueryError> {
        let known = || self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = known().get(topic) {
            return Ok(*count);
        }
        let bell = Bell::new();
        let ticket = self.view.log.describe_topics(vec![topic.into()]);
        let found = await_log(&ticket, &bell, &self.clock, patience)?;
        let Some(spec) = found.first() else {
            let detail = format!("the log has no topic `{topic}` yet; create it, or try again");
            return Err(QueryError::new(Problem::Unavailable, detail));
        };
        known().insert(topic.to_owned(), spec.partitions);
        Ok(spec.partitions)
    }

    fn open(&self, patience: Duration) -> Result<Open, QueryError> {
        let bell = Bell::new();
        let id = format!("http-{}", Uuid::new_v4().simple());
        let producer = self.view.log.producer(&id, bell.clone());
        let mut producer = producer.map_err(|error| refused_by_log(&error))?;
        let ready = producer.initialise();
        await_log(&ready, &bell, &self.clock, patience)?;
        Ok(Open { producer, bell })
    }

    fn commit(
        &self,
        open: &mut Open,
        batches: &Batches,
        patience: Duration,
    ) -> Result<(), QueryError> {
        let nothing: Arc<str> = "".into();
        let Open { producer, bell } = open;
        producer.begin().map_err(|error| refused_by_log(&error))?;
        for (place, batch) in batches {
            producer.send(place, batch).map_err(|error| refused_by_log(&error))?;
        }
        let identity = Identity { group: Arc::clone(&nothing), member: nothing, epoch: -1 };
        let state = StateBatch::default();
        let done = producer.commit(CommitRequest { offsets: Vec::new(), identity, state });
        await_log(&done, bell, &self.clock, patience).map(drop)
    }
}

impl std::fmt::Debug for Appender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Appender").finish_non_exhaustive()
    }
}

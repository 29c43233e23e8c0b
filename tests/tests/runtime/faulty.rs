//! A log whose transactional producers fail: with errors of every class, and with commits whose
//! answer is lost, before or after they happened. Drawn from a seed.

use std::sync::{Arc, Mutex};

use headwater::actor::{Bell, Ticket, ticket};
use headwater::error::ErrorClass;
use headwater::log::{
    CommitRequest, Committed, CommittedOffset, Isolation, Log, LogError, LogResult, OffsetQuery,
    PartitionReader, Purpose, TopicSpec, TransactionalProducer,
};
use headwater::record::TopicPartition;
use headwater::record::batch::RecordBatch;
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

type Dice = Arc<Mutex<ChaCha8Rng>>;

#[derive(Debug)]
pub(crate) struct Faulty {
    inner: Arc<dyn LogDebug>,
    dice: Dice,
}

/// A log that can be shown.
pub(crate) trait LogDebug: Log + std::fmt::Debug {}
impl<L: Log + std::fmt::Debug> LogDebug for L {}

impl Faulty {
    pub(crate) fn new(inner: Arc<dyn LogDebug>, seed: u64) -> Self {
        Self { inner, dice: Arc::new(Mutex::new(ChaCha8Rng::seed_from_u64(seed))) }
    }
}

/// True once in so many times.
fn once_in(dice: &Dice, times: u32) -> bool {
    dice.lock().expect("no test panics under the lock").random_range(0..times) == 0
}

fn injected(class: ErrorClass, operation: &'static str) -> LogError {
    LogError::new(class, operation, "injected")
}

/// A ticket that nobody answers.
fn lost<T>(bell: &Bell) -> Ticket<T> {
    ticket(bell.clone()).1
}

impl Log for Faulty {
    fn kind(&self) -> &'static str {
        "faulty"
    }

    fn holds_state(&self) -> bool {
        self.inner.holds_state()
    }

    fn describe_topics(&self, names: Vec<Arc<str>>) -> Ticket<LogResult<Vec<TopicSpec>>> {
        self.inner.describe_topics(names)
    }

    fn create_topics(&self, topics: Vec<TopicSpec>) -> Ticket<LogResult<()>> {
        self.inner.create_topics(topics)
    }

    fn delete_records(&self, before: Vec<(TopicPartition, i64)>) -> Ticket<LogResult<()>> {
        self.inner.delete_records(before)
    }

    fn offsets(
        &self,
        partitions: Vec<TopicPartition>,
        query: OffsetQuery,
    ) -> Ticket<LogResult<Vec<i64>>> {
        if once_in(&self.dice, 5) {
            return Ticket::done(Err(injected(ErrorClass::Retry, "offsets")));
        }
        self.inner.offsets(partitions, query)
    }

    fn committed(
        &self,
        group: &str,
        partitions: Vec<TopicPartition>,
    ) -> Ticket<LogResult<Vec<Option<CommittedOffset>>>> {
        if once_in(&self.dice, 5) {
            return Ticket::done(Err(injected(ErrorClass::Retry, "committed")));
        }
        self.inner.committed(group, partitions)
    }

    fn reader(
        &self,
        partition: &TopicPartition,
        offset: i64,
        isolation: Isolation,
        purpose: Purpose,
        bell: Bell,
    ) -> LogResult<Box<dyn PartitionReader>> {
        self.inner.reader(partition, offset, isolation, purpose, bell)
    }

    fn producer(&self, id: &str, bell: Bell) -> LogResult<Box<dyn TransactionalProducer>> {
        if once_in(&self.dice, 5) {
            return Err(injected(ErrorClass::Retry, "open producer"));
        }
        let inner = self.inner.producer(id, bell.clone())?;
        Ok(Box::new(FaultyProducer { inner, dice: Arc::clone(&self.dice), bell }))
    }
}

struct FaultyProducer {
    inner: Box<dyn TransactionalProducer>,
    dice: Dice,
    bell: Bell,
}

impl TransactionalProducer for FaultyProducer {
    fn initialise(&mut self) -> Ticket<LogResult<()>> {
        if once_in(&self.dice, 6) { lost(&self.bell) } else { self.inner.initialise() }
    }

    fn begin(&mut self) -> LogResult<()> {
        if once_in(&self.dice, 12) {
            return Err(injected(ErrorClass::Fenced, "begin"));
        }
        self.inner.begin()
    }

    fn send(&mut self, to: &TopicPartition, records: &RecordBatch) -> LogResult<()> {
        match self.dice.lock().expect("no test panics under the lock").random_range(0..24) {
            0 => {
                // Room again at once.
                self.bell.ring();
                Err(injected(ErrorClass::Retry, "send"))
            }
            1 => Err(injected(ErrorClass::Abort, "send")),
            _ => self.inner.send(to, records),
        }
    }

    fn commit(&mut self, request: CommitRequest) -> Ticket<LogResult<Committed>> {
        match self.dice.lock().expect("no test panics under the lock").random_range(0..8) {
            0 => lost(&self.bell),
            1 => {
                drop(self.inner.commit(request));
                lost(&self.bell)
            }
            2 => Ticket::done(Err(injected(ErrorClass::Abort, "commit"))),
            3 => Ticket::done(Err(injected(ErrorClass::Fenced, "commit"))),
            _ => self.inner.commit(request),
        }
    }

    fn abort(&mut self) -> Ticket<LogResult<()>> {
        if once_in(&self.dice, 4) { lost(&self.bell) } else { self.inner.abort() }
    }
}

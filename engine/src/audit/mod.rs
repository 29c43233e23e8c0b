//! The auditor: reads what an application wrote, by readers of its own, and says whether every
//! transaction is there once and whole. Owns what is read, in which order, and when it is enough;
//! knows no store and runs no task. `docs/audit.md` says what it can prove.
//!
//! The order makes the end sharp: first the committed offsets, which say how many transactions each
//! task has committed and how long the last one is; then the ends of the partitions, open
//! transactions included. Every record of a transaction that was committed by then lies before
//! those ends, and a read-committed reader that has passed them has seen it. A task of which there
//! are records though it had committed nothing is asked for again behind them: if it has committed
//! since, it began after the audit did.

mod judge;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::actor::{Bell, Poll, Ticket};
use crate::error::ErrorClass;
use crate::log::{Cleanup, Isolation, Log, LogError, LogResult, OffsetQuery, Purpose, TopicSpec};
use crate::record::stamp::{STAMP_HEADER, Stamp};
use crate::record::{RawRecord, TaskId, TopicPartition};
use crate::task::{Audited, application_hash, dead_letter_topic, positions_of_offsets};
use crate::time::Clock;
use crate::topology::Topology;

use judge::Judge;
pub use report::{Finding, Problem, Report, TaskReport};

/// How often an answer of the log is looked for.
const POLL: Duration = Duration::from_millis(5);
/// Bytes taken at a time.
const TAKE_BYTES: usize = 1 << 20;
const OPERATION: &str = "audit";

/// What is to be audited.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The application id.
    pub application: Arc<str>,
    /// The inputs of each subtopology, by its number: they say how many tasks there are and where
    /// these commit.
    inputs: BTreeMap<u32, Vec<Arc<str>>>,
    /// Every topic that the application writes for others.
    topics: BTreeSet<Arc<str>>,
}

impl Scope {
    /// Everything that an application of this topology writes for others: outputs and dead letters.
    /// What it writes for itself (repartition topics, changelogs) carries no stamps.
    pub fn of(topology: &Topology, application: &str, dead_letters: Option<&str>) -> Self {
        let subtopologies = topology.subtopologies(application);
        let own: BTreeSet<Arc<str>> =
            topology.repartition_topics(application).into_iter().map(|r| r.topic).collect();
        let outputs = subtopologies.iter().flat_map(|s| s.outputs.iter().cloned());
        let mut topics: BTreeSet<_> = outputs.filter(|topic| !own.contains(topic)).collect();
        let inputs = subtopologies.iter().flat_map(|s| s.inputs.iter());
        topics.extend(inputs.map(|topic| dead_letter_topic(topic, application, dead_letters)));
        Self {
            application: application.into(),
            inputs: subtopologies.into_iter().map(|s| (s.id, s.inputs)).collect(),
            topics,
        }
    }
}

/// Audits an application. `patience` bounds the wait for one partition's next record, so it must be
/// longer than the transaction timeout. Blocks; for a thread that may.
///
/// # Errors
/// The log's own; `Fatal` when the application's topics do not exist, or its committed offsets are
/// not this engine's.
pub fn audit(
    log: &dyn Log,
    scope: &Scope,
    clock: &dyn Clock,
    patience: Duration,
) -> LogResult<Report> {
    let auditor = Auditor { log, scope, clock, patience };
    auditor.run()
}

struct Auditor<'a> {
    log: &'a dyn Log,
    scope: &'a Scope,
    clock: &'a dyn Clock,
    patience: Duration,
}

/// What is counted while records are read.
#[derive(Default)]
struct Counts {
    records: u64,
    unstamped: u64,
    foreign: u64,
}

impl Auditor<'_> {
    fn run(&self) -> LogResult<Report> {
        let topics = self.topics()?;
        let mut committed = self.committed()?;
        let partitions: Vec<TopicPartition> = topics
            .iter()
            .flat_map(|topic| {
                (0..topic.partitions).map(|n| TopicPartition::new(Arc::clone(&topic.name), n))
            })
            .collect();
        let ends = self.wait(&self.log.offsets(partitions.clone(), OffsetQuery::HighWatermark))?;
        let begins = self.wait(&self.log.offsets(partitions.clone(), OffsetQuery::Earliest))?;
        let (mut judge, mut counts) = (Judge::default(), Counts::default());
        for ((partition, begin), end) in partitions.into_iter().zip(&begins).zip(ends) {
            judge.partition(partition.clone(), *begin > 0);
            self.read(&partition, *begin, end, &mut judge, &mut counts)?;
        }
        self.tell_new_from_unknown(&judge, &mut committed)?;
        let notes = self.notes(&topics, begins.iter().any(|begin| *begin > 0), &counts);
        let complete = !topics.iter().any(is_compacted);
        let (tasks, findings) = judge.judge(&committed, complete);
        let unknown = tasks.iter().filter(|task| !task.committed && task.records > 0);
        let unknown = unknown.map(|task| {
            format!(
                "task {} has committed no stamps: records missing at the end of its last \
                 transaction would not be noticed",
                task.task
            )
        });
        Ok(Report {
            application: Arc::clone(&self.scope.application),
            topics: topics.iter().map(|topic| Arc::clone(&topic.name)).collect(),
            records: counts.records,
            unstamped: counts.unstamped,
            foreign: counts.foreign,
            notes: notes.into_iter().chain(unknown).collect(),
            tasks,
            findings,
        })
    }

    /// The topics that exist, of those that the application writes.
    fn topics(&self) -> LogResult<Vec<TopicSpec>> {
        let names: Vec<_> = self.scope.topics.iter().cloned().collect();
        let found = self.wait(&self.log.describe_topics(names))?;
        if found.is_empty() {
            let names: Vec<&str> = self.scope.topics.iter().map(|topic| &**topic).collect();
            let message = format!("none of its topics exists: {}", names.join(", "));
            return Err(LogError::new(ErrorClass::Fatal, OPERATION, message));
        }
        Ok(found)
    }

    /// What each task has committed last.
    fn committed(&self) -> LogResult<BTreeMap<TaskId, Option<Audited>>> {
        let mut committed = BTreeMap::new();
        for (&subtopology, inputs) in &self.scope.inputs {
            let found = self.wait(&self.log.describe_topics(inputs.clone()))?;
            for partition in 0..found.iter().map(|topic| topic.partitions).max().unwrap_or(0) {
                let task = TaskId { subtopology, partition };
                let inputs: Vec<_> = found
                    .iter()
                    .map(|topic| TopicPartition::new(Arc::clone(&topic.name), partition))
                    .collect();
                let group = &self.scope.application;
                let offsets = self.wait(&self.log.committed(group, inputs.clone()))?;
                let offsets: Vec<_> = inputs.into_iter().zip(offsets).collect();
                let positions = positions_of_offsets(task, &offsets).map_err(|error| {
                    LogError::new(ErrorClass::Fatal, OPERATION, error.to_string())
                })?;
                committed.insert(task, Audited::of(&positions));
            }
        }
        Ok(committed)
    }

    /// A task with records of which no commit is known has either lost its committed offsets, or
    /// has committed for the first time since they were read, so that none of its transactions had
    /// to be there whole. The offsets of what was read are committed now, so they tell which.
    fn tell_new_from_unknown(
        &self,
        judge: &Judge,
        committed: &mut BTreeMap<TaskId, Option<Audited>>,
    ) -> LogResult<()> {
        let is_unknown = |task: &TaskId| matches!(committed.get(task), Some(None));
        let unknown: Vec<TaskId> = judge.tasks().filter(is_unknown).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let now = self.committed()?;
        for task in unknown.into_iter().filter(|task| matches!(now.get(task), Some(Some(_)))) {
            committed.insert(task, Some(Audited::NOTHING));
        }
        Ok(())
    }

    /// Reads one partition to its end.
    fn read(
        &self,
        partition: &TopicPartition,
        begin: i64,
        end: i64,
        judge: &mut Judge,
        counts: &mut Counts,
    ) -> LogResult<()> {
        if begin >= end {
            return Ok(());
        }
        let (bell, isolation) = (Bell::new(), Isolation::ReadCommitted);
        let mut reader =
            self.log.reader(partition, begin, isolation, Purpose::Restore, bell.clone())?;
        let mut moved = (begin, self.clock.now().monotonic);
        loop {
            let fetched = match reader.take(TAKE_BYTES) {
                Err(error) if error.class != ErrorClass::Retry => return Err(error),
                fetched => fetched.ok(),
            };
            for batch in fetched.iter().flat_map(|fetched| &fetched.batches) {
                for record in batch.records() {
                    let record = record.map_err(|error| {
                        let message = error.to_string();
                        LogError::new(ErrorClass::Fatal, OPERATION, message).on(partition)
                    })?;
                    if record.offset < end {
                        self.see(&record, judge, counts);
                    }
                }
            }
            let position = fetched.map_or(moved.0, |fetched| fetched.position);
            if position >= end {
                return Ok(());
            }
            let now = self.clock.now().monotonic;
            if position > moved.0 {
                moved = (position, now);
            } else if now > moved.1 + self.patience {
                let message = format!(
                    "the records between offsets {position} and {end} cannot be read: a \
                     transaction is open on them for longer than {:?}, or brokers are away; end \
                     the program that holds it open, then try again",
                    self.patience
                );
                return Err(LogError::new(ErrorClass::Retry, OPERATION, message).on(partition));
            } else {
                bell.wait(Some(POLL));
            }
        }
    }

    fn see(&self, record: &RawRecord<'_>, judge: &mut Judge, counts: &mut Counts) {
        counts.records += 1;
        let headers = record.headers.decode().unwrap_or_default();
        let stamp = headers.last(STAMP_HEADER).and_then(|header| header.value.as_ref());
        match stamp.and_then(|bytes| Stamp::decode(bytes)) {
            None => counts.unstamped += 1,
            Some(stamp) if stamp.application != application_hash(&self.scope.application) => {
                counts.foreign += 1;
            }
            Some(stamp) => judge.record(record.offset, &stamp),
        }
    }

    fn notes(&self, topics: &[TopicSpec], cut: bool, counts: &Counts) -> Vec<String> {
        let mut notes = Vec::new();
        let found: BTreeSet<_> = topics.iter().map(|topic| &topic.name).collect();
        for missing in self.scope.topics.iter().filter(|topic| !found.contains(topic)) {
            notes.push(format!("topic {missing} does not exist"));
        }
        for topic in topics.iter().filter(|topic| is_compacted(topic)) {
            notes.push(format!(
                "topic {} is compacted: that records are missing cannot be noticed, only that they \
                 are there twice",
                topic.name
            ));
        }
        if cut {
            notes.push(
                "the first records of some partitions are gone (retention): only transactions \
                 behind them are judged whole"
                    .to_owned(),
            );
        }
        if counts.unstamped > 0 {
            let count = counts.unstamped;
            notes.push(format!(
                "{count} records carry no stamp: of before the audit was on, or another program's"
            ));
        }
        notes
    }

    fn wait<T>(&self, ticket: &Ticket<LogResult<T>>) -> LogResult<T> {
        let bell = Bell::new();
        loop {
            match ticket.poll() {
                Poll::Pending => bell.wait(Some(POLL)),
                Poll::Done(answer) => return answer,
                Poll::Abandoned => {
                    return Err(LogError::new(ErrorClass::Retry, OPERATION, "the log is gone"));
                }
            }
        }
    }
}

fn is_compacted(topic: &TopicSpec) -> bool {
    !matches!(topic.cleanup, Cleanup::Delete { .. })
}

//! How a task stamps what it writes. Owns the numbering of its transactions and how that survives:
//! it travels with the clocks in the unit of commit, so a transaction that is done again gets the
//! same number again. Knows no log and judges nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use headwater_state::positions::TaskPositions;

use super::commit::short_name;
use crate::record::batch::{RecordBatch, RecordBatchBuilder};
use crate::record::stamp::{STAMP_HEADER, Stamp};
use crate::record::{Headers, TaskId, TopicPartition};
use crate::serde::kafka_streams::murmur2;
use crate::time::Now;
use crate::topology::Topology;

/// Names that no operator can have.
const SEQUENCE: &str = "$audit.sequence";
const RECORDS: &str = "$audit.records";

/// The last transaction in which a task wrote something: its number and how many records it has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Audited {
    /// Its number, from 1; 0 before the first.
    pub sequence: u64,
    /// How many records.
    pub records: u64,
}

impl Audited {
    /// Before the first.
    pub const NOTHING: Self = Self { sequence: 0, records: 0 };

    /// What was committed; `None` if the task committed without stamps.
    pub fn of(positions: &TaskPositions) -> Option<Self> {
        let clock = |name: &str| {
            let found = positions.clocks.get(name);
            found.or_else(|| positions.clocks.get(&short_name(name))).copied()
        };
        let number = |name| u64::try_from(clock(name)?).ok();
        Some(Self { sequence: number(SEQUENCE)?, records: number(RECORDS)? })
    }
}

/// How an application's id stands in a stamp.
pub fn application_hash(application_id: &str) -> u32 {
    murmur2(application_id.as_bytes())
}

/// Stamps one task's outputs.
#[derive(Debug)]
pub(super) struct Stamper {
    application: u32,
    task: TaskId,
    epoch: i64,
    last: Audited,
    index: u64,
    /// Topics whose records do not stay: they are purged after use.
    unstamped: BTreeSet<Arc<str>>,
}

impl Stamper {
    pub(super) fn new(topology: &Topology, application_id: &str, task: TaskId) -> Self {
        let repartitions = topology.repartition_topics(application_id);
        Self {
            application: application_hash(application_id),
            task,
            epoch: 0,
            last: Audited::default(),
            index: 0,
            unstamped: repartitions.into_iter().map(|r| r.topic).collect(),
        }
    }

    /// A new life, from what was committed.
    pub(super) fn restore(&mut self, from: &TaskPositions, now: Now) {
        self.epoch = now.wall_ms;
        self.last = Audited::of(from).unwrap_or_default();
        self.index = 0;
    }

    /// The outputs with their stamps. A stamp that came with the input is another task's: it goes.
    pub(super) fn stamp(
        &mut self,
        batches: Vec<(TopicPartition, RecordBatch)>,
    ) -> Vec<(TopicPartition, RecordBatch)> {
        let stamped = batches.into_iter().map(|(to, batch)| {
            if self.unstamped.contains(&to.topic) {
                return (to, batch);
            }
            let mut builder = RecordBatchBuilder::with_capacity(batch.bytes().len() * 3 / 2);
            for record in batch.records() {
                let record = record.expect("the outbox's own encoding reads");
                let headers = record.headers.decode().expect("the outbox's own encoding reads");
                let others = headers.iter().filter(|header| &*header.name != STAMP_HEADER);
                let mut headers: Headers = others.cloned().collect();
                let (time, key, value) = (record.timestamp, record.key, record.value);
                headers.append(STAMP_HEADER, Some(self.next()));
                if builder.append(time, key, value, &headers).is_ok() {
                    self.index += 1;
                } else {
                    // As many headers as a record can have: it goes without a stamp.
                    let headers = record.headers.decode().unwrap_or_default();
                    builder.append(time, key, value, &headers).expect("it was encoded before");
                }
            }
            let stamped = RecordBatch::new(0, builder.finish());
            (to, stamped.expect("the builder's own encoding reads"))
        });
        stamped.collect()
    }

    fn next(&self) -> bytes::Bytes {
        Stamp {
            application: self.application,
            task: self.task,
            epoch: self.epoch,
            sequence: self.last.sequence + 1,
            index: self.index,
            previous: self.last.records,
        }
        .encode()
    }

    /// The transaction takes no more.
    pub(super) fn end(&mut self) {
        if self.index > 0 {
            self.last = Audited { sequence: self.last.sequence + 1, records: self.index };
            self.index = 0;
        }
    }

    /// Adds what is to be committed.
    pub(super) fn add_to(&self, clocks: &mut BTreeMap<String, i64>) {
        for (name, number) in [(SEQUENCE, self.last.sequence), (RECORDS, self.last.records)] {
            clocks.insert(name.to_owned(), i64::try_from(number).unwrap_or(i64::MAX));
        }
    }
}

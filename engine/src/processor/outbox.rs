//! The outbox of a task: records that its sinks wrote and that have not been handed to a producer.
//! Owns their encoding and their undoing; knows no log.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::refusals::Refusals;
use crate::record::batch::{BatchError, RecordBatch, RecordBatchBuilder};
use crate::record::{Headers, RecordPrint, TopicPartition};

/// Records for the log, by topic and partition, in the order they were written.
#[derive(Debug, Default)]
pub struct Outbox {
    topics: Vec<Arc<str>>,
    by_name: BTreeMap<Arc<str>, usize>,
    lanes: Vec<BTreeMap<u32, RecordBatchBuilder>>,
    undo: Vec<(usize, u32, RecordBatchMark)>,
    bytes: usize,
    bytes_at_savepoint: usize,
    record_bytes_max: Option<usize>,
    /// Outlives a rewind.
    pub(crate) refusals: Refusals,
}

type RecordBatchMark = crate::record::batch::Mark;

impl Outbox {
    /// The number of a topic, for [`append`](Self::append).
    pub fn topic(&mut self, name: &Arc<str>) -> usize {
        if let Some(&index) = self.by_name.get(name) {
            return index;
        }
        self.topics.push(Arc::clone(name));
        self.lanes.push(BTreeMap::new());
        self.by_name.insert(Arc::clone(name), self.topics.len() - 1);
        self.topics.len() - 1
    }

    /// Forgets everything but what the log refused.
    pub(crate) fn reset(&mut self) {
        let refusals = std::mem::take(&mut self.refusals);
        *self = Self { refusals, ..Self::default() };
    }

    /// Refuses records that are larger from now on, because the log would.
    pub fn limit_records(&mut self, bytes: Option<usize>) {
        self.record_bytes_max = bytes;
    }

    /// Appends a record.
    ///
    /// # Errors
    /// The record is larger than a batch or the log may take, or the log refused it before; nothing
    /// was appended.
    pub fn append(
        &mut self,
        topic: usize,
        partition: u32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers,
    ) -> Result<(), BatchError> {
        if !self.refusals.is_empty() {
            let print = RecordPrint::of(key, value);
            if let Some(why) = self.refusals.why(&self.topics[topic], print) {
                return Err(BatchError::Refused { why: why.to_string() });
            }
        }
        let lane = self.lanes[topic].entry(partition).or_default();
        let mark = lane.mark();
        let before = lane.len();
        lane.append(timestamp, key, value, headers)?;
        let bytes = lane.len() - before;
        if let Some(max) = self.record_bytes_max.filter(|max| bytes > *max) {
            lane.truncate(mark);
            return Err(BatchError::TooLarge { bytes, max });
        }
        self.bytes += bytes;
        if !self.undo.iter().any(|(t, p, _)| *t == topic && *p == partition) {
            self.undo.push((topic, partition, mark));
        }
        Ok(())
    }

    /// What is appended from now on can be undone.
    pub fn savepoint(&mut self) {
        self.undo.clear();
        self.bytes_at_savepoint = self.bytes;
    }

    /// Takes back everything since the savepoint.
    pub fn undo(&mut self) {
        for (topic, partition, mark) in self.undo.drain(..) {
            if let Some(lane) = self.lanes[topic].get_mut(&partition) {
                lane.truncate(mark);
            }
        }
        self.bytes = self.bytes_at_savepoint;
    }

    /// Bytes waiting.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes everything, topic by topic in the order they were first written.
    pub fn take(&mut self) -> Vec<(TopicPartition, RecordBatch)> {
        let mut taken = Vec::new();
        for (topic, lanes) in self.topics.iter().zip(&mut self.lanes) {
            for (&partition, lane) in lanes.iter_mut() {
                if !lane.is_empty() {
                    let full = std::mem::take(lane).finish();
                    let batch =
                        RecordBatch::new(0, full).expect("the builder's own encoding reads");
                    taken.push((TopicPartition::new(Arc::clone(topic), partition), batch));
                }
            }
        }
        self.undo.clear();
        self.bytes = 0;
        self.bytes_at_savepoint = 0;
        taken
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        for lanes in &mut self.lanes {
            lanes.clear();
        }
        self.undo.clear();
        self.bytes = 0;
        self.bytes_at_savepoint = 0;
    }
}

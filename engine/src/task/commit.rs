//! What a task commits: offsets with its clocks, changelog records, state. Owns how clocks travel in
//! a committed offset's metadata; knows no log.

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_state::commit::{StateBatch, TaskCommit as TaskRow};
use headwater_state::overlay::FrozenOverlay;
use headwater_state::positions::{InputPosition, TaskPositions};

use super::{StreamTask, TaskError, failed};
use crate::processor::NodeError;
use crate::processor::punctuation::PunctuationType;
use crate::record::batch::{BatchError, RecordBatch, RecordBatchBuilder};
use crate::record::fetched::CommittedOffset;
use crate::record::{RecordPrint, TopicPartition};
use crate::serde::kafka_streams::{OffsetMetadata, murmur2};
use crate::time::NO_TIMESTAMP;

/// Everything of one task that a transaction commits.
#[derive(Debug)]
pub struct TaskCommit {
    /// The next offset of each input, with the clocks.
    pub offsets: Vec<(TopicPartition, CommittedOffset)>,
    /// What is left of the outbox, then the changelog.
    pub records: Vec<(TopicPartition, RecordBatch)>,
    /// The state.
    pub state: StateBatch,
}

/// The changelog topic of a store.
pub fn changelog_topic(application_id: &str, store: &str) -> Arc<str> {
    format!("{application_id}-{store}-changelog").into()
}

/// The family a store lies in.
pub fn store_family(application_id: &str, store: &str) -> String {
    format!("{application_id}/{store}")
}

/// Sets how far each store's changelog has come: to where the transaction's records ended.
pub fn set_changelog_ends(batch: &mut StateBatch, ends: &[(TopicPartition, i64)]) {
    for commit in &mut batch.stores {
        let Some((application, store)) = commit.family.name().split_once('/') else { continue };
        let topic = changelog_topic(application, store);
        let end = ends.iter().find(|(p, _)| p.topic == topic && p.partition == commit.partition);
        if let Some((_, end)) = end {
            commit.positions.changelog = Some(*end);
        }
    }
}

/// A name as it travels in offset metadata: eight hexadecimal digits.
pub(super) fn short_name(name: &str) -> String {
    format!("{:08x}", murmur2(name.as_bytes()))
}

/// Where a task stood, from the committed offsets of its inputs.
///
/// # Errors
/// `Metadata` when an offset's metadata cannot be read: the group was used by something else.
pub fn positions_of_offsets(
    task: crate::record::TaskId,
    offsets: &[(TopicPartition, Option<CommittedOffset>)],
) -> Result<TaskPositions, TaskError> {
    let mut positions = TaskPositions::default();
    for (partition, committed) in offsets {
        let Some(committed) = committed else { continue };
        let metadata = OffsetMetadata::decode(&committed.metadata).map_err(|e| {
            let (partition, message) = (partition.clone(), e.to_string());
            TaskError::Metadata { task, partition, message }
        })?;
        let time_ms = (metadata.partition_time >= 0).then_some(metadata.partition_time);
        let position = InputPosition { next_offset: committed.next_offset, time_ms };
        positions.inputs.insert((partition.topic.to_string(), partition.partition), position);
        // Clocks and schedules have names of different shape; both maps hold them all.
        for (name, time) in metadata.processors {
            positions.clocks.insert(name.clone(), time);
            positions.schedules.insert(name, time);
        }
    }
    Ok(positions)
}

/// The changelog of one store in one commit.
enum Changelog {
    Nothing,
    Records(TopicPartition, RecordBatch),
    /// A row's record is larger than the log takes.
    TooLarge {
        topic: Arc<str>,
        print: RecordPrint,
        why: String,
    },
}

impl StreamTask {
    /// Ends what a transaction is about: forwards what caches hold back, freezes the overlays and
    /// says what is to be committed. Work may go on at once, into the next transaction.
    ///
    /// # Errors
    /// As [`process`](StreamTask::process). `RowRefused`, of class `Abort`: a row is larger than its
    /// changelog takes; after the rewind the record that writes it fails.
    pub fn prepare_commit(&mut self, holds_state: bool) -> Result<TaskCommit, TaskError> {
        self.flush()?;
        let mut records = self.take_outbox();
        if let Some(stamper) = &mut self.stamper {
            stamper.end();
        }
        let frozen = self.state.stores.freeze();
        if !holds_state {
            for (index, rows) in &frozen {
                match self.changelog(*index, rows)? {
                    Changelog::Nothing => {}
                    Changelog::Records(to, batch) => records.push((to, batch)),
                    Changelog::TooLarge { topic, print, why } => {
                        let (task, known) = (self.id, !self.remember_refusal(&topic, print, &why));
                        return Err(TaskError::RowRefused { task, topic, message: why, known });
                    }
                }
            }
        }
        let positions = self.positions();
        let offsets = self.offsets(&positions)?;
        let mut state = StateBatch::default();
        self.pending.clear();
        for (index, store) in self.state.stores.indexed() {
            let commit = store.state().commit(None);
            self.pending.push((index, commit.clone()));
            state.stores.push(commit);
        }
        if holds_state {
            let family = self.settings.tasks_family.clone();
            state.tasks.extend(family.map(|family| TaskRow {
                family,
                task: self.id.to_string(),
                positions,
            }));
        }
        for (at, queue) in self.queues.iter().enumerate() {
            self.committed.insert(at, queue.next_offset());
        }
        self.dirty = false;
        Ok(TaskCommit { offsets, records, state })
    }

    /// The transaction of the last [`prepare_commit`](Self::prepare_commit) is committed and its
    /// state is in the database.
    pub fn commit_done(&mut self, ends: &[(TopicPartition, i64)]) {
        let mut done = StateBatch::default();
        let (indexes, commits): (Vec<_>, Vec<_>) = self.pending.drain(..).unzip();
        done.stores = commits;
        set_changelog_ends(&mut done, ends);
        for (index, commit) in indexes.into_iter().zip(&done.stores) {
            self.state.stores.at(index).state_mut().committed(commit);
        }
    }

    fn positions(&self) -> TaskPositions {
        let mut positions = TaskPositions::default();
        for queue in &self.queues {
            let place = (queue.partition().topic.to_string(), queue.partition().partition);
            let time_ms = (queue.partition_time != NO_TIMESTAMP).then_some(queue.partition_time);
            let position = InputPosition { next_offset: queue.next_offset(), time_ms };
            positions.inputs.insert(place, position);
        }
        positions.clocks = self.state.clocks();
        if let Some(stamper) = &self.stamper {
            stamper.add_to(&mut positions.clocks);
        }
        let stream = |s: &&crate::processor::punctuation::Schedule| {
            s.kind == PunctuationType::StreamTime && !s.cancelled
        };
        let schedules = self.state.schedules.iter().filter(stream);
        positions.schedules = schedules.map(|s| (s.name.clone(), s.next)).collect();
        positions
    }

    /// The offsets with partition time and every clock and schedule, as Kafka Streams encodes its
    /// own (KIP-695).
    fn offsets(
        &self,
        positions: &TaskPositions,
    ) -> Result<Vec<(TopicPartition, CommittedOffset)>, TaskError> {
        let named = positions.clocks.iter().chain(&positions.schedules);
        let processors: BTreeMap<String, i64> =
            named.map(|(name, time)| (short_name(name), *time)).collect();
        let one = |queue: &super::queue::PartitionQueue| {
            let metadata = OffsetMetadata {
                partition_time: queue.partition_time,
                processors: processors.clone(),
            };
            let partition = queue.partition().clone();
            match metadata.encode() {
                Ok(metadata) => {
                    let next_offset = queue.next_offset();
                    Ok((partition, CommittedOffset { next_offset, metadata }))
                }
                Err(error) => {
                    let message = error.to_string();
                    Err(TaskError::Metadata { task: self.id, partition, message })
                }
            }
        };
        self.queues.iter().map(one).collect()
    }

    /// One changelog record for each row that changed, in the order of last change.
    fn changelog(&self, store: usize, rows: &FrozenOverlay) -> Result<Changelog, TaskError> {
        let spec = &self.topology.stores()[store];
        let format = spec.kind.changelog_format();
        let mut batch = RecordBatchBuilder::new();
        let topic = changelog_topic(&self.settings.application_id, &spec.name);
        let max = self.settings.record_bytes_max.unwrap_or(usize::MAX);
        let mut append = |key: &[u8], value: Option<&[u8]>| -> Result<_, NodeError> {
            let Some(record) = format.record(key, value)? else { return Ok(None) };
            let time = record.timestamp.unwrap_or(self.state.stream_time.max(0));
            let (key, value, before) = (Some(record.key), record.value, batch.len());
            batch.append(time, key, value, record.headers)?;
            let bytes = batch.len() - before;
            Ok((bytes > max).then(|| (bytes, RecordPrint::of(key, value))))
        };
        for (key, value) in rows.in_touch_order() {
            let too_large = append(key, value).map_err(|e| failed(self.id, None, e))?;
            if let Some((bytes, print)) = too_large {
                let why = BatchError::TooLarge { bytes, max }.to_string();
                return Ok(Changelog::TooLarge { topic, print, why });
            }
        }
        if batch.is_empty() {
            return Ok(Changelog::Nothing);
        }
        let batch = RecordBatch::new(0, batch.finish()).expect("the builder's own encoding reads");
        Ok(Changelog::Records(TopicPartition::new(topic, self.id.partition), batch))
    }
}

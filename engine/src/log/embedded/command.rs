//! What the writer is asked to do, and the checks that are made before it is asked, on the caller's
//! thread. Must not know how anything is written.

use std::sync::Arc;

use bytes::Bytes;
use headwater_state::log_table::GroupOffset;

use super::EmbeddedSettings;
use super::partition::Partition;
use crate::actor::Promise;
use crate::error::ErrorClass;
use crate::log::{Committed, CommittedOffset, LogError, LogResult, StateBatch, TopicSpec};
use crate::record::TopicPartition;
use crate::record::batch::{RecordBatch, RecordBatchBuilder};

/// A call that the writer carries out, in the order of its mailbox.
pub(super) enum Command {
    /// This producer owns the transactional id from now on.
    Initialise {
        id: Arc<str>,
        producer: u64,
        promise: Promise<LogResult<()>>,
    },
    Commit(Commit),
    CreateTopics {
        topics: Vec<TopicSpec>,
        promise: Promise<LogResult<()>>,
    },
    DeleteRecords {
        before: Vec<(Arc<Partition>, i64)>,
        promise: Promise<LogResult<()>>,
    },
    /// What compaction leaves of batches.
    Rewrite {
        partition: Arc<Partition>,
        rows: Vec<Rewrite>,
        promise: Promise<LogResult<()>>,
    },
    Committed {
        group: Arc<str>,
        partitions: Vec<TopicPartition>,
        promise: Promise<LogResult<Vec<Option<CommittedOffset>>>>,
    },
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Initialise { .. } => "Initialise",
            Self::Commit(_) => "Commit",
            Self::CreateTopics { .. } => "CreateTopics",
            Self::DeleteRecords { .. } => "DeleteRecords",
            Self::Rewrite { .. } => "Rewrite",
            Self::Committed { .. } => "Committed",
        })
    }
}

/// One transaction.
pub(super) struct Commit {
    pub(super) id: Arc<str>,
    pub(super) producer: u64,
    pub(super) writes: Vec<Write>,
    pub(super) group: Arc<str>,
    pub(super) offsets: Vec<(Arc<Partition>, GroupOffset)>,
    pub(super) state: StateBatch,
    pub(super) promise: Promise<LogResult<Committed>>,
}

/// Records from outside every transaction, to be acknowledged when they are synced.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) writes: Vec<Write>,
    pub(super) promise: Promise<LogResult<Vec<i64>>>,
}

/// A batch that compaction made smaller; its offsets stay.
#[derive(Debug)]
pub(super) struct Rewrite {
    pub(super) base_offset: i64,
    pub(super) offsets: u32,
    pub(super) max_timestamp_ms: i64,
    /// The records that are left; `None` if there are none.
    pub(super) payload: Option<Bytes>,
}

/// Records for one partition, checked.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) partition: Arc<Partition>,
    /// Batches to follow each other, each with its number of offsets.
    pub(super) batches: Vec<(RecordBatch, u32)>,
}

impl Command {
    /// Answers that it was not done.
    pub(super) fn refuse(self, error: &LogError) {
        let error = error.clone();
        match self {
            Self::Initialise { promise, .. }
            | Self::CreateTopics { promise, .. }
            | Self::DeleteRecords { promise, .. }
            | Self::Rewrite { promise, .. } => promise.fulfil(Err(error)),
            Self::Commit(commit) => commit.promise.fulfil(Err(error)),
            Self::Committed { promise, .. } => promise.fulfil(Err(error)),
        }
    }
}

impl Append {
    pub(super) fn bytes(&self) -> usize {
        self.writes.iter().map(Write::bytes).sum()
    }

    /// Answers that it was not done.
    pub(super) fn refuse(self, error: &LogError) {
        self.promise.fulfil(Err(error.clone()));
    }
}

impl Write {
    /// Checks records for a partition and cuts a batch that is too large into several.
    ///
    /// # Errors
    /// `User` names the record that is too large or, in a compacted topic, has no key. `Fatal` when
    /// the batch cannot be read.
    pub(super) fn checked(
        partition: Arc<Partition>,
        batch: &RecordBatch,
        settings: &EmbeddedSettings,
        operation: &'static str,
    ) -> LogResult<Self> {
        let bytes = batch.bytes().len();
        if partition.keyed || bytes > settings.record_bytes_max {
            check_records(&partition, batch, settings.record_bytes_max, operation)?;
        }
        let batches = if batch.count() == 0 {
            Vec::new()
        } else if bytes > settings.batch_bytes_max {
            cut(batch, settings.batch_bytes_max)
                .map_err(|message| fatal(&partition, operation, message))?
        } else {
            vec![batch.clone()]
        };
        let spanned = |batch: RecordBatch| match u32::try_from(span(&batch)) {
            Ok(span) => Ok((batch, span)),
            Err(_) => {
                Err(fatal(&partition, operation, "a batch spans too many offsets".to_owned()))
            }
        };
        let batches = batches.into_iter().map(spanned).collect::<LogResult<_>>()?;
        Ok(Self { partition, batches })
    }

    pub(super) fn bytes(&self) -> usize {
        self.batches.iter().map(|(batch, _)| batch.bytes().len()).sum()
    }
}

fn span(batch: &RecordBatch) -> i64 {
    batch.next_offset() - batch.base_offset()
}

fn fatal(partition: &Partition, operation: &'static str, message: String) -> LogError {
    LogError::new(ErrorClass::Fatal, operation, message).on(&partition.name)
}

fn check_records(
    partition: &Partition,
    batch: &RecordBatch,
    record_bytes_max: usize,
    operation: &'static str,
) -> LogResult<()> {
    for (index, record) in batch.records().enumerate() {
        let record = record.map_err(|e| fatal(partition, operation, e.to_string()))?;
        let refused = |what: String| {
            let message = format!("record {index} of the batch {what}");
            Err(LogError::new(ErrorClass::User, operation, message).on(&partition.name))
        };
        let len = |field: Option<&[u8]>| field.map_or(0, <[u8]>::len);
        let bytes = len(record.key) + len(record.value) + record.headers.as_bytes().len();
        if bytes > record_bytes_max {
            return refused(format!("has {bytes} bytes, more than {record_bytes_max}"));
        }
        if partition.keyed && record.key.is_none() {
            return refused("has no key, which a compacted topic needs".to_owned());
        }
    }
    Ok(())
}

/// Cuts a batch into several of about `bytes_max`; each begins where the one before ends.
fn cut(batch: &RecordBatch, bytes_max: usize) -> Result<Vec<RecordBatch>, String> {
    let mut pieces = Vec::new();
    let mut piece = RecordBatchBuilder::new();
    let mut base = batch.base_offset();
    for record in batch.records() {
        let record = record.map_err(|e| e.to_string())?;
        let len = |field: Option<&[u8]>| field.map_or(0, <[u8]>::len);
        let bytes = len(record.key) + len(record.value) + record.headers.as_bytes().len();
        if !piece.is_empty() && piece.len() + bytes > bytes_max {
            let full = place(base, std::mem::take(&mut piece))?;
            base = full.next_offset();
            pieces.push(full);
        }
        let delta = u64::try_from(record.offset - base).map_err(|e| e.to_string())?;
        let headers = record.headers.decode().map_err(|e| e.to_string())?;
        piece
            .append_at(delta, record.timestamp, record.key, record.value, &headers)
            .map_err(|e| e.to_string())?;
    }
    pieces.push(place(base, piece)?);
    Ok(pieces)
}

fn place(base: i64, builder: RecordBatchBuilder) -> Result<RecordBatch, String> {
    RecordBatch::new(base, builder.finish()).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use headwater_state::log_table::LogPartition;

    use super::*;
    use crate::record::Headers;

    fn partition(keyed: bool) -> Arc<Partition> {
        let rows = LogPartition { topic: Arc::from("t"), topic_id: 1, partition: 0 };
        Arc::new(Partition::new(rows, keyed, 0, 0))
    }

    fn batch(values: &[Vec<u8>], key: Option<&[u8]>) -> RecordBatch {
        let mut builder = RecordBatchBuilder::new();
        for value in values {
            builder.append(5, key, Some(value), Headers::empty()).expect("small headers");
        }
        RecordBatch::new(0, builder.finish()).expect("just built")
    }

    fn settings(record_bytes_max: usize, batch_bytes_max: usize) -> EmbeddedSettings {
        EmbeddedSettings { record_bytes_max, batch_bytes_max, ..EmbeddedSettings::default() }
    }

    #[test]
    fn a_large_batch_is_cut_into_batches_that_follow_each_other_with_the_same_records() {
        let values: Vec<Vec<u8>> = (0..20u8).map(|n| vec![n; 100]).collect();
        let write = Write::checked(
            partition(false),
            &batch(&values, None),
            &settings(1 << 20, 512),
            "append",
        )
        .expect("nothing is too large");
        assert!(write.batches.len() > 3);
        let mut next = 0;
        let mut seen = Vec::new();
        for (batch, span) in &write.batches {
            assert_eq!(batch.base_offset(), next);
            assert!(batch.bytes().len() <= 512 + 128);
            next += i64::from(*span);
            for record in batch.records() {
                seen.push(record.expect("well formed").value.expect("not null").to_vec());
            }
        }
        assert_eq!(next, 20);
        assert_eq!(seen, values);
    }

    #[test]
    fn a_record_that_is_too_large_is_refused_by_its_place_in_the_batch() {
        let values = [vec![0; 10], vec![0; 300]];
        let error = Write::checked(
            partition(false),
            &batch(&values, None),
            &settings(256, 1 << 20),
            "append",
        )
        .expect_err("300 bytes are more than 256");
        assert_eq!(error.class, ErrorClass::User);
        assert!(error.to_string().contains("record 1 of the batch has 300 bytes"), "{error}");
    }

    #[test]
    fn a_compacted_topic_refuses_a_record_without_a_key() {
        let settings = EmbeddedSettings::default();
        let keyless = batch(&[vec![1]], None);
        let error = Write::checked(partition(true), &keyless, &settings, "append")
            .expect_err("there is no key");
        assert_eq!(error.class, ErrorClass::User);
        let keyed = batch(&[vec![1]], Some(b"k"));
        assert!(Write::checked(partition(true), &keyed, &settings, "append").is_ok());
    }

    #[test]
    fn an_empty_batch_writes_nothing() {
        let empty = RecordBatch::new(0, RecordBatchBuilder::new().finish()).expect("just built");
        let settings = EmbeddedSettings::default();
        let write = Write::checked(partition(false), &empty, &settings, "append").expect("legal");
        assert!(write.batches.is_empty());
    }
}

//! Tables of the embedded log: record batches by topic, partition and offset, and the topics.
//!
//! A batch is one row, `topic id (u32 BE) | partition (u32 BE) | base offset (u64 BE)`, so appends
//! are in key order and a partition is one range. Its value is
//! `version | offsets (u32) | max timestamp (i64) | CRC-32C (u32) | payload`, the checksum over
//! key, header and payload. The topics, and the offset each partition starts at after its front was
//! deleted, and the offsets that groups committed are rows of a second family. The end of a partition is where its last batch ends.
//!
//! Offsets are assigned by the caller, who is the only one to append. Must not know records: a
//! payload is opaque.

use std::sync::Arc;

use bytes::Bytes;

use crate::database::{
    BatchPart, BatchSink, Cursor, Database, Direction, Family, FamilyKind, Reader, ScanRange,
};
use crate::error::{Result, StateError};
use crate::layout::successor;

mod batch;
mod offsets;
mod topics;

pub use batch::{LogBatch, StoredBatch};
pub use offsets::{GroupOffset, OffsetPart};
pub use topics::{LogPartition, Topic};

const LOG_FAMILY: &str = "@log";
const TOPICS_FAMILY: &str = "@topics";

/// The embedded log's rows in a database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogTable {
    database: Arc<dyn Database>,
    log: Family,
    topics: Family,
}

impl LogTable {
    /// Opens the log of a database, creating its families when they are not there.
    ///
    /// # Errors
    /// The database's own.
    pub fn open(database: Arc<dyn Database>) -> Result<Self> {
        let log = database.family(LOG_FAMILY, FamilyKind::Log)?;
        let topics = database.family(TOPICS_FAMILY, FamilyKind::Meta)?;
        Ok(Self { database, log, topics })
    }

    /// The database below.
    pub fn database(&self) -> &Arc<dyn Database> {
        &self.database
    }

    /// A batch to append at `base_offset`, the end of the partition. Nothing checks that it is:
    /// offsets belong to the one sequencer.
    pub fn append<'b>(
        &self,
        partition: &LogPartition,
        base_offset: i64,
        batch: LogBatch<'b>,
    ) -> AppendPart<'b> {
        AppendPart { log: self.log.clone(), key: batch_key(partition, base_offset), batch }
    }

    /// The same batch with fewer records, as compaction leaves it. It covers the same offsets.
    pub fn replace<'b>(
        &self,
        partition: &LogPartition,
        base_offset: i64,
        batch: LogBatch<'b>,
    ) -> AppendPart<'b> {
        self.append(partition, base_offset, batch)
    }

    /// Removes one batch, of which compaction left nothing. Never the last one of a partition: the
    /// end is known by it.
    pub fn remove(&self, partition: &LogPartition, base_offset: i64) -> RemovePart {
        RemovePart { log: self.log.clone(), key: batch_key(partition, base_offset) }
    }

    /// Deletes the front of a partition: it starts at `start_offset` from then on. A batch that
    /// reaches over the new start stays, and readers skip into it.
    ///
    /// # Errors
    /// The database's own; `Invalid` beyond the end of the partition.
    pub fn truncate(&self, partition: &LogPartition, start_offset: i64) -> Result<TruncatePart> {
        let reader: &dyn Reader = &*self.database;
        let end = self.end_offset(reader, partition)?;
        if start_offset > end {
            return Err(StateError::Invalid {
                what: format!("{partition} ends at {end} and cannot start at {start_offset}"),
            });
        }
        let old_start = self.start_offset(reader, partition)?;
        let start_offset = start_offset.max(old_start);
        let first_kept = |start: i64| {
            Ok(match self.containing(reader, partition, start)? {
                Some((base, end)) if end > start => base,
                _ => start,
            })
        };
        Ok(TruncatePart {
            log: self.log.clone(),
            topics: self.topics.clone(),
            partition: partition.clone(),
            delete_from: first_kept(old_start)?,
            keep_from: first_kept(start_offset)?,
            start_offset,
        })
    }

    /// The first offset that can be read.
    ///
    /// # Errors
    /// The reader's own; `Corruption`.
    pub fn start_offset(&self, reader: &dyn Reader, partition: &LogPartition) -> Result<i64> {
        match reader.get(&self.topics, &topics::start_key(partition))? {
            Some(row) => topics::decode_start(&row, partition),
            None => Ok(0),
        }
    }

    /// The offset the next record gets.
    ///
    /// # Errors
    /// The reader's own; `Corruption` of the last batch's header.
    pub fn end_offset(&self, reader: &dyn Reader, partition: &LogPartition) -> Result<i64> {
        let start = self.start_offset(reader, partition)?;
        let last = self.containing(reader, partition, i64::MAX)?;
        Ok(last.map_or(start, |(_, end)| end.max(start)))
    }

    /// The last batch that begins at or before an offset: its base and the offset after it.
    fn containing(
        &self,
        reader: &dyn Reader,
        partition: &LogPartition,
        offset: i64,
    ) -> Result<Option<(i64, i64)>> {
        let mut to = batch_key(partition, offset).to_vec();
        to.push(0);
        let range = ScanRange { from: partition_prefix(partition).to_vec(), to: Some(to) };
        let mut cursor = reader.scan(&self.log, range, Direction::Backward)?;
        if !cursor.advance()? {
            return Ok(None);
        }
        let base = base_offset(cursor.key(), partition)?;
        let batch = StoredBatch::decode(cursor.key(), cursor.value(), partition, base)?;
        Ok(Some((base, batch.end_offset())))
    }

    /// The batches of a partition from the one that contains `offset` (or the first after it).
    /// Records before `offset` in the first batch are the caller's to skip, as are those before
    /// [`LogTable::start_offset`].
    ///
    /// # Errors
    /// The reader's own; `Corruption`.
    pub fn read<'r>(
        &self,
        reader: &'r dyn Reader,
        partition: &LogPartition,
        offset: i64,
    ) -> Result<LogCursor<'r>> {
        let scan_from = |from: i64| {
            let range = ScanRange {
                from: batch_key(partition, from).to_vec(),
                to: successor(&partition_prefix(partition)),
            };
            reader.scan(&self.log, range, Direction::Forward)
        };
        // A reader that goes on where it stopped asks for the very offset a batch begins at.
        let mut cursor = scan_from(offset)?;
        let mut at_first = cursor.advance()?;
        if !at_first || base_offset(cursor.key(), partition)? != offset {
            let containing = self.containing(reader, partition, offset)?;
            if let Some((base, _)) = containing.filter(|(_, end)| *end > offset) {
                (cursor, at_first) = (scan_from(base)?, false);
            }
        }
        Ok(LogCursor { cursor, partition: partition.clone(), at_first })
    }
}

/// Batches of one partition in order of offset.
pub struct LogCursor<'r> {
    cursor: Box<dyn Cursor + 'r>,
    partition: LogPartition,
    /// Whether the cursor stands on a batch that was not lent yet.
    at_first: bool,
}

impl std::fmt::Debug for LogCursor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LogCursor({})", self.partition)
    }
}

impl LogCursor<'_> {
    /// The next batch, checksum verified, lent until the next call.
    ///
    /// # Errors
    /// `Corruption` names topic, partition and offset; the reader's own.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend its items")]
    pub fn next(&mut self) -> Result<Option<StoredBatch<'_>>> {
        if !std::mem::take(&mut self.at_first) && !self.cursor.advance()? {
            return Ok(None);
        }
        let (key, value) = (self.cursor.key(), self.cursor.value());
        let base = base_offset(key, &self.partition)?;
        StoredBatch::decode(key, value, &self.partition, base).map(Some)
    }
}

const PREFIX_BYTES: usize = 8;
const KEY_BYTES: usize = 16;

fn partition_prefix(partition: &LogPartition) -> [u8; PREFIX_BYTES] {
    let mut prefix = [0; PREFIX_BYTES];
    prefix[..4].copy_from_slice(&partition.topic_id.to_be_bytes());
    prefix[4..].copy_from_slice(&partition.partition.to_be_bytes());
    prefix
}

fn batch_key(partition: &LogPartition, base_offset: i64) -> [u8; KEY_BYTES] {
    debug_assert!(base_offset >= 0, "offsets are not negative");
    let mut key = [0; KEY_BYTES];
    key[..PREFIX_BYTES].copy_from_slice(&partition_prefix(partition));
    key[PREFIX_BYTES..].copy_from_slice(&base_offset.to_be_bytes());
    key
}

fn base_offset(key: &[u8], partition: &LogPartition) -> Result<i64> {
    let offset = key.split_last_chunk::<8>().map(|(_, offset)| i64::from_be_bytes(*offset));
    offset.filter(|offset| *offset >= 0).ok_or_else(|| {
        StateError::corrupt(partition.to_string(), "a batch key has no offset".to_owned())
    })
}

/// Appends, or replaces, one batch.
#[derive(Debug)]
pub struct AppendPart<'b> {
    log: Family,
    key: [u8; KEY_BYTES],
    batch: LogBatch<'b>,
}

impl BatchPart for AppendPart<'_> {
    fn replay(&self, sink: &mut dyn BatchSink) {
        sink.put(&self.log, &self.key, &self.batch.encode(&self.key));
    }
}

/// Removes one batch.
#[derive(Debug)]
pub struct RemovePart {
    log: Family,
    key: [u8; KEY_BYTES],
}

impl BatchPart for RemovePart {
    fn replay(&self, sink: &mut dyn BatchSink) {
        sink.delete(&self.log, &self.key);
    }
}

/// Deletes the front of a partition.
#[derive(Debug)]
pub struct TruncatePart {
    log: Family,
    topics: Family,
    partition: LogPartition,
    /// The truncation before ended here: range deletions that overlap would make each read slower
    /// than the one before.
    delete_from: i64,
    keep_from: i64,
    start_offset: i64,
}

impl BatchPart for TruncatePart {
    fn replay(&self, sink: &mut dyn BatchSink) {
        let (from, to) = (
            batch_key(&self.partition, self.delete_from),
            batch_key(&self.partition, self.keep_from),
        );
        if from < to {
            sink.delete_range(&self.log, &from, &to);
        }
        let (key, row) = topics::start_row(&self.partition, self.start_offset);
        sink.put(&self.topics, &key, &row);
    }
}

/// A stored batch that outlives its cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedBatch {
    /// Offset of the first record the batch ever had.
    pub base_offset: i64,
    /// How many offsets it covers.
    pub offsets: u32,
    /// The greatest record time in it, in milliseconds.
    pub max_timestamp_ms: i64,
    /// The records.
    pub payload: Bytes,
}

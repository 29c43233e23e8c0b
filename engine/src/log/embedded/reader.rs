//! Reads one partition by position. Must not know who writes.

use headwater_state::database::Reader;
use headwater_state::log_table::{LogTable, StoredBatch};
use std::sync::Arc;

use super::failure::from_state;
use super::partition::{Bounds, Horizon, Partition};
use crate::actor::Bell;
use crate::error::ErrorClass;
use crate::log::{Fetched, LogError, LogResult, PartitionReader};
use crate::record::TopicPartition;
use crate::record::batch::{BatchError, RecordBatch, RecordBatchBuilder};

const OPERATION: &str = "read";

pub(super) struct EmbeddedReader {
    table: LogTable,
    partition: Arc<Partition>,
    position: i64,
    horizon: Horizon,
    number: u64,
    bell: Bell,
}

impl EmbeddedReader {
    pub(super) fn new(
        table: LogTable,
        partition: Arc<Partition>,
        position: i64,
        horizon: Horizon,
        number: u64,
        bell: Bell,
    ) -> Self {
        Self { table, partition, position, horizon, number, bell }
    }

    fn out_of_range(&self, bounds: Bounds) -> LogError {
        let message = format!(
            "offset {} is not in the log, which starts at {} and ends at {}; records before the \
             start were deleted",
            self.position, bounds.start, bounds.end
        );
        LogError::new(ErrorClass::Fatal, OPERATION, message).on(&self.partition.name)
    }

    fn missing(&self, end: i64) -> LogError {
        let message = format!(
            "no batch holds offset {} although the log goes on to {end}: its files are damaged",
            self.position
        );
        LogError::new(ErrorClass::Fatal, OPERATION, message).on(&self.partition.name)
    }

    /// Batches from the position up to `end`, and where the next one begins. An error behind the
    /// first batch is left for the next call. Nothing and the position itself: a gap is there.
    fn read(&self, end: i64, max_bytes: usize) -> LogResult<(Vec<RecordBatch>, i64)> {
        let failed = |e| from_state(OPERATION, &e).on(&self.partition.name);
        let reader: &dyn Reader = &**self.table.database();
        let rows = &self.partition.rows;
        let mut cursor = self.table.read(reader, rows, self.position).map_err(failed)?;
        let (mut batches, mut next, mut bytes) = (Vec::new(), self.position, 0);
        while next < end && (bytes < max_bytes || batches.is_empty()) {
            let batch = match cursor.next().map_err(failed) {
                // Only compaction leaves gaps.
                Ok(Some(stored)) if stored.base_offset > next && !self.partition.keyed => break,
                Ok(Some(stored)) if stored.base_offset < end => {
                    self.place(stored).map(|batch| (batch, stored.end_offset()))
                }
                Ok(_) if self.partition.keyed => {
                    next = end;
                    break;
                }
                Ok(_) => break,
                Err(error) => Err(error),
            };
            match batch {
                Ok((batch, after)) => {
                    next = after;
                    if batch.count() > 0 {
                        bytes += batch.bytes().len();
                        batches.push(batch);
                    }
                }
                Err(_) if !batches.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok((batches, next))
    }

    /// A stored batch as records, without those before the position.
    fn place(&self, stored: StoredBatch<'_>) -> LogResult<RecordBatch> {
        let damaged = |e: BatchError| {
            let message = format!("batch at offset {}: {e}", stored.base_offset);
            LogError::new(ErrorClass::Fatal, OPERATION, message).on(&self.partition.name)
        };
        let batch = RecordBatch::new(stored.base_offset, stored.to_owned().payload);
        let batch = batch.map_err(damaged)?;
        if stored.base_offset >= self.position {
            return Ok(batch);
        }
        let mut rest = RecordBatchBuilder::new();
        for record in batch.records() {
            let record = record.map_err(damaged)?;
            if let Ok(delta) = u64::try_from(record.offset - self.position) {
                let headers = record.headers.decode().map_err(|e| damaged(e.into()))?;
                rest.append_at(delta, record.timestamp, record.key, record.value, &headers)
                    .map_err(damaged)?;
            }
        }
        RecordBatch::new(self.position, rest.finish()).map_err(damaged)
    }

    /// Where the partition starts on disk, which may be ahead of what is known in memory for as long
    /// as a deletion is under way.
    fn start_on_disk(&self) -> LogResult<i64> {
        let reader: &dyn Reader = &**self.table.database();
        self.table
            .start_offset(reader, &self.partition.rows)
            .map_err(|e| from_state(OPERATION, &e).on(&self.partition.name))
    }
}

impl Drop for EmbeddedReader {
    fn drop(&mut self) {
        self.partition.forget(self.number);
    }
}

impl PartitionReader for EmbeddedReader {
    fn partition(&self) -> &TopicPartition {
        &self.partition.name
    }

    fn take(&mut self, max_bytes: usize) -> LogResult<Fetched> {
        let mut bounds = self.partition.look(self.position, self.horizon, self.number, &self.bell);
        // A deletion may have passed what is synced: then there is nothing to show yet.
        let end = bounds.end_within(self.horizon).max(bounds.start);
        if self.position < bounds.start || self.position > bounds.end {
            return Err(self.out_of_range(bounds));
        }
        if self.position >= end {
            return Ok(Fetched { batches: Vec::new(), position: self.position, at_end: true });
        }
        let (batches, next) = self.read(end, max_bytes)?;
        let gap = batches.first().is_none_or(|first| first.base_offset() > self.position);
        if gap {
            bounds.start = self.start_on_disk()?;
            if self.position < bounds.start {
                return Err(self.out_of_range(bounds));
            }
            if next == self.position {
                return Err(self.missing(end));
            }
        }
        self.position = next.min(end);
        Ok(Fetched { batches, position: self.position, at_end: self.position == end })
    }

    fn seek(&mut self, offset: i64) {
        self.position = offset;
    }
}

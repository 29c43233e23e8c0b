//! Compaction of one partition: keeps the last record of each key, and drops the deletion of a key
//! (a null value) once everybody has had time to see it.
//!
//! ```text
//! map   the keys from where the last run ended, each with its last offset, as far as memory allows
//! thin  every batch from the start up to there, in order: a record goes if its key comes later
//! ```
//!
//! - The last batch is never touched: the end of the partition is known by it.
//! - A thinned batch keeps its place and its offsets; readers step over what is gone. A batch of
//!   which nothing is left goes.
//! - Batches are thinned from the front, so that a crash between two leaves no old value behind
//!   whose deletion is gone already.
//! - A run is due when at least as many offsets came since the last one as records it left, so each
//!   record is rewritten a bounded number of times on average. After a restart all is new.
//!
//! Must not write: the writer does.

use std::collections::HashMap;
use std::sync::Arc;

use headwater_state::database::Reader;
use headwater_state::log_table::{LogTable, StoredBatch};

use super::Shared;
use super::command::{Command, Rewrite};
use super::failure::from_state;
use super::partition::Partition;
use crate::actor::{Next, Poll, Ticket, ticket};
use crate::error::ErrorClass;
use crate::log::{LogError, LogResult};
use crate::record::RawRecord;
use crate::record::batch::{RecordBatch, RecordBatchBuilder};

const OPERATION: &str = "compact";
/// Keys remembered in one run, with 16 bytes for each; the next run goes on behind them.
const KEY_BYTES_MAX: usize = 16 << 20;
/// Bytes of batches read in one step.
const STEP_BYTES: usize = 1 << 20;

/// What the last run of a partition left.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cleaned {
    /// Every key has one record at most before this offset.
    to: i64,
    /// How many records that are.
    records: u64,
}

/// What a step came to.
pub(super) enum Progress {
    More(Next),
    Done(Cleaned),
}

pub(super) struct Compaction {
    partition: Arc<Partition>,
    cleaned: Cleaned,
    /// Deletions in batches of before this time go, in milliseconds.
    tombstones_before: i64,
    latest: HashMap<Box<[u8]>, i64>,
    key_bytes: usize,
    /// The first offset not looked at in this phase.
    next: i64,
    phase: Phase,
    left: u64,
}

enum Phase {
    /// Up to what was the end when the run began.
    Mapping { end: i64 },
    /// Up to where keys are mapped.
    Thinning { end: i64, written: Option<Ticket<LogResult<()>>> },
}

impl Compaction {
    /// A run over a partition, if one is due.
    pub(super) fn start(
        partition: Arc<Partition>,
        cleaned: Cleaned,
        tombstones_before: i64,
    ) -> Option<Self> {
        let bounds = partition.bounds();
        let next = cleaned.to.max(bounds.start);
        let new = u64::try_from(bounds.end - next).unwrap_or(0);
        if new == 0 || new < cleaned.records {
            return None;
        }
        tracing::debug!(partition = %partition.name, from = next, "compaction begins");
        Some(Self {
            partition,
            cleaned,
            tombstones_before,
            latest: HashMap::new(),
            key_bytes: 0,
            next,
            phase: Phase::Mapping { end: bounds.end },
            left: 0,
        })
    }

    pub(super) fn partition(&self) -> &Partition {
        &self.partition
    }

    /// Goes a bounded way.
    ///
    /// # Errors
    /// A read failed, a batch is damaged, or the writer refused; the run is over.
    pub(super) fn step(&mut self, shared: &Shared) -> LogResult<Progress> {
        match &mut self.phase {
            Phase::Mapping { end } => {
                let end = *end;
                let more = self.map(&shared.table, end)?;
                if !more && self.latest.is_empty() {
                    return Ok(Progress::Done(self.cleaned));
                }
                Ok(Progress::More(Next::Again))
            }
            Phase::Thinning { end, written } => {
                let end = *end;
                if let Some(ticket) = written.take() {
                    match ticket.poll() {
                        Poll::Pending => {
                            *written = Some(ticket);
                            return Ok(Progress::More(Next::Wait));
                        }
                        Poll::Done(answer) => answer?,
                        Poll::Abandoned => return Err(self.failed("the writer is gone")),
                    }
                }
                self.thin(shared, end)
            }
        }
    }

    /// Maps a piece; false when the mapping is over.
    fn map(&mut self, table: &LogTable, end: i64) -> LogResult<bool> {
        let failed = |e| from_state(OPERATION, &e).on(&self.partition.name);
        let reader: &dyn Reader = &**table.database();
        let mut cursor = table.read(reader, &self.partition.rows, self.next).map_err(failed)?;
        let (mut bytes, mut next, mut full) = (0, self.next, false);
        while bytes < STEP_BYTES {
            let Some(stored) = cursor.next().map_err(failed)? else { break };
            if stored.end_offset() >= end {
                full = true;
                break;
            }
            bytes += stored.payload.len();
            for record in self.read(stored)?.records() {
                let record = record.map_err(|e| self.failed(&e.to_string()))?;
                let Some(key) = record.key else { continue };
                if self.latest.insert(Box::from(key), record.offset).is_none() {
                    self.key_bytes += key.len() + 16;
                }
            }
            next = stored.end_offset();
            if self.key_bytes >= KEY_BYTES_MAX {
                full = true;
                break;
            }
        }
        let more = !full && next > self.next;
        self.next = next;
        if !more {
            self.phase = Phase::Thinning { end: next, written: None };
            self.next = self.partition.bounds().start;
        }
        Ok(more)
    }

    fn thin(&mut self, shared: &Shared, end: i64) -> LogResult<Progress> {
        let table = &shared.table;
        let failed = |e| from_state(OPERATION, &e).on(&self.partition.name);
        let reader: &dyn Reader = &**table.database();
        let mut cursor = table.read(reader, &self.partition.rows, self.next).map_err(failed)?;
        let (mut bytes, mut next, mut left) = (0, self.next, 0);
        let mut rows = Vec::new();
        while bytes < STEP_BYTES {
            match cursor.next().map_err(failed)? {
                Some(stored) if stored.end_offset() <= end => {
                    bytes += stored.payload.len();
                    next = stored.end_offset();
                    left += self.thin_batch(stored, &mut rows)?;
                }
                _ => {
                    next = end;
                    break;
                }
            }
        }
        self.next = next;
        self.left += left;
        if !rows.is_empty() {
            let (promise, answer) = ticket(shared.bells.maintenance.clone());
            let partition = Arc::clone(&self.partition);
            shared.send(Command::Rewrite { partition, rows, promise });
            self.phase = Phase::Thinning { end, written: Some(answer) };
        } else if next >= end {
            return Ok(Progress::Done(Cleaned { to: end, records: self.left }));
        }
        Ok(Progress::More(Next::Again))
    }

    /// Adds what is to be written for one batch; how many records it has then.
    fn thin_batch(&self, stored: StoredBatch<'_>, rows: &mut Vec<Rewrite>) -> LogResult<u64> {
        let batch = self.read(stored)?;
        let old = stored.max_timestamp_ms < self.tombstones_before;
        let mut rest = RecordBatchBuilder::new();
        for record in batch.records() {
            let record = record.map_err(|e| self.failed(&e.to_string()))?;
            if self.stays(&record, old) {
                let delta = u64::try_from(record.offset - batch.base_offset())
                    .expect("records lie behind their base");
                let headers = record.headers.decode().map_err(|e| self.failed(&e.to_string()))?;
                rest.append_at(delta, record.timestamp, record.key, record.value, &headers)
                    .map_err(|e| self.failed(&e.to_string()))?;
            }
        }
        let count = rest.count();
        if count < batch.count() {
            rows.push(Rewrite {
                base_offset: stored.base_offset,
                offsets: stored.offsets,
                max_timestamp_ms: stored.max_timestamp_ms,
                payload: (count > 0).then(|| rest.finish()),
            });
        }
        Ok(u64::from(count))
    }

    fn stays(&self, record: &RawRecord<'_>, old: bool) -> bool {
        let Some(key) = record.key else { return true };
        let superseded = self.latest.get(key).is_some_and(|latest| *latest > record.offset);
        let forgotten = old && record.value.is_none();
        !superseded && !forgotten
    }

    fn read(&self, stored: StoredBatch<'_>) -> LogResult<RecordBatch> {
        RecordBatch::new(stored.base_offset, stored.to_owned().payload)
            .map_err(|e| self.failed(&format!("batch at offset {}: {e}", stored.base_offset)))
    }

    fn failed(&self, message: &str) -> LogError {
        LogError::new(ErrorClass::Fatal, OPERATION, message).on(&self.partition.name)
    }
}

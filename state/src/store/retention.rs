//! How long the rows of a store are kept: when they can no longer be read, and what of them has left
//! the disk.
//!
//! Rows are cut into segments by time. Reads hide a row as soon as it is expired; whole expired
//! segments leave the disk with a later commit. Must not know what lies in a row, nor which of its
//! times counts: that is its store's.

use super::StorePartition;
use crate::commit::StoreCommit;
use crate::database::{BatchPart, BatchSink, Family, Reader};
use crate::error::{Result, StateError};
use crate::layout::window::{Segments, segment_interval_ms};
use crate::positions::FamilyFormat;

/// How long a store keeps windows, and how they are cut into segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowRetention {
    retention_ms: i64,
    segments: Segments,
}

impl WindowRetention {
    /// Windows stay readable for `retention_ms` after their start, in the store's own time.
    ///
    /// # Errors
    /// `Invalid` when it is negative.
    pub fn new(retention_ms: i64) -> Result<Self> {
        Self::with_segments(retention_ms, segment_interval_ms(retention_ms))
    }

    fn with_segments(retention_ms: i64, interval_ms: i64) -> Result<Self> {
        if retention_ms < 0 {
            return Err(StateError::Invalid {
                what: format!("a retention of {retention_ms} ms is negative"),
            });
        }
        Ok(Self { retention_ms, segments: Segments::new(interval_ms)? })
    }

    /// The retention of a store that may exist: its segments stay as it was made with.
    ///
    /// # Errors
    /// `Invalid`, `NewerFormat`, `Corruption`, or the reader's own.
    pub fn of(reader: &dyn Reader, family: &Family, retention_ms: i64) -> Result<Self> {
        match FamilyFormat::read(reader, family)? {
            Some(FamilyFormat { segment_interval_ms: Some(interval_ms) }) => {
                Self::with_segments(retention_ms, interval_ms)
            }
            _ => Self::new(retention_ms),
        }
    }

    /// In milliseconds.
    pub fn retention_ms(&self) -> i64 {
        self.retention_ms
    }

    /// How starts are cut into segments.
    pub fn segments(&self) -> Segments {
        self.segments
    }

    /// The greatest start that is expired when `observed_ms` was observed. Neither side is negative,
    /// so the difference cannot overflow.
    pub(super) fn expired_ms(&self, observed_ms: i64) -> i64 {
        observed_ms - self.retention_ms
    }
}

/// The retention of one store-partition, and how far it is carried out.
#[derive(Debug)]
pub(super) struct Expiry {
    retention: WindowRetention,
    /// Rows before this store key left the disk already.
    done_before: Vec<u8>,
}

impl Expiry {
    /// A new store's segments follow from its retention; an existing one keeps those it was made
    /// with.
    ///
    /// # Errors
    /// `Invalid` when the retention is negative; `NewerFormat`, `Corruption`, or the database's own.
    pub(super) fn of(state: &StorePartition, retention_ms: i64) -> Result<Self> {
        Ok(Self { retention: write_format(state, retention_ms)?, done_before: Vec::new() })
    }

    pub(super) fn retention(&self) -> WindowRetention {
        self.retention
    }

    /// The first store key that stays when everything leaves the disk that is expired at this time
    /// and is still there.
    pub(super) fn expired_before(&self, observed_ms: i64) -> Option<Vec<u8>> {
        let live = self.retention.segments.live_from(self.retention.expired_ms(observed_ms));
        live.filter(|live| *live > self.done_before)
    }

    /// The commit is in the database.
    pub(super) fn committed(&mut self, commit: &StoreCommit) {
        if let Some(expired_before) = &commit.expired_before {
            self.done_before.clone_from(expired_before);
        }
    }
}

struct PutFormat<'f>(&'f FamilyFormat, &'f Family);

impl BatchPart for PutFormat<'_> {
    fn replay(&self, sink: &mut dyn BatchSink) {
        self.0.put(self.1, sink);
    }
}

/// Says in a family how its segments are cut, as its retention wants it or as it was made with.
fn write_format(state: &StorePartition, retention_ms: i64) -> Result<WindowRetention> {
    let database = state.database();
    let retention = WindowRetention::of(&**database, state.family(), retention_ms)?;
    let format = FamilyFormat { segment_interval_ms: Some(retention.segments.interval_ms()) };
    if FamilyFormat::read(&**database, state.family())?.as_ref() != Some(&format) {
        database.write(&[&PutFormat(&format, state.family())])?;
    }
    Ok(retention)
}

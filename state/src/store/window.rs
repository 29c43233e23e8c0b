//! Window stores over bytes: a value by key and window start.
//!
//! Owns the store's clock, *observed stream time*: the greatest window start ever put. A window is
//! readable while `start > observed - retention`, by anyone, whatever is still on disk: reads clip
//! first, and whole expired segments leave the disk with a later commit. A put that could not be
//! read is refused and said to be ([`PutOutcome::Expired`]), so that its caller can count it.
//!
//! The clock is the store's own: it is not its operator's and not its task's (those decide lateness).
//! Follows Kafka Streams' `AbstractRocksDBSegmentedBytesStore`. Must not know window sizes.

use super::retention::WindowRetention;
use super::{Committed, Rows, StorePartition, Value};
use crate::database::{Cursor, Direction, ScanRange};
use crate::error::Result;
use crate::layout::time_first;
use crate::layout::window::{belongs_to, decode, decode_changelog_key};

/// What a window store did with a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// It can be read.
    Stored,
    /// Its window is past retention, or starts before the epoch; nothing was stored. The caller
    /// counts and reports it.
    Expired,
}

/// Window reads over the rows of one store-partition, clipped to what is readable.
#[derive(Debug, Clone, Copy)]
pub struct WindowReads<'r, R: Rows + ?Sized> {
    rows: &'r R,
    retention: WindowRetention,
    observed_ms: Option<i64>,
}

impl<'r> WindowReads<'r, Committed<'r>> {
    /// Window reads of committed rows, with the observed stream time committed with them.
    ///
    /// # Errors
    /// `NewerFormat`, `Corruption`, or the reader's own.
    pub fn committed(rows: &'r Committed<'r>, retention: WindowRetention) -> Result<Self> {
        Ok(Self { rows, retention, observed_ms: rows.positions()?.observed_ms })
    }
}

impl<'r, R: Rows + ?Sized> WindowReads<'r, R> {
    /// Cuts `from_ms..=to_ms` down to readable starts that can exist; `None` when none is left.
    fn clip(&self, from_ms: i64, to_ms: i64) -> Option<(i64, i64)> {
        let observed_ms = self.observed_ms?;
        // observed - retention >= -i64::MAX, so the successor exists.
        let from_ms = from_ms.max(self.retention.expired_ms(observed_ms) + 1).max(0);
        let to_ms = to_ms.min(observed_ms);
        (from_ms <= to_ms).then_some((from_ms, to_ms))
    }

    /// The value of one window.
    ///
    /// # Errors
    /// The database's own.
    pub fn fetch(&self, key: &[u8], start_ms: i64) -> Result<Option<Value<'r>>> {
        if self.clip(start_ms, start_ms).is_none() {
            return Ok(None);
        }
        self.retention.segments().with_key(key, start_ms, 0, |store_key| self.rows.get(store_key))
    }

    /// One key's windows with starts in `from_ms..=to_ms` (both milliseconds, both inclusive), in
    /// order of start. For the next page, begin after the last start seen.
    ///
    /// # Errors
    /// The database's own.
    pub fn fetch_range(
        &self,
        key: &[u8],
        from_ms: i64,
        to_ms: i64,
        direction: Direction,
    ) -> Result<WindowCursor<'r>> {
        let Some((from_ms, to_ms)) = self.clip(from_ms, to_ms) else {
            return Ok(WindowCursor::new(Vec::new(), from_ms, to_ms, Some(key.len())));
        };
        let segments = self.retention.segments();
        let mut scans = Vec::new();
        for segment in segments.of(from_ms)..=segments.of(to_ms) {
            let range = segments.key_range(segment, key, from_ms, to_ms);
            scans.push(self.rows.scan(range, direction)?);
        }
        // Scans are taken from the end.
        if direction == Direction::Forward {
            scans.reverse();
        }
        Ok(WindowCursor::new(scans, from_ms, to_ms, Some(key.len())))
    }

    /// All windows with starts in `from_ms..=to_ms`, in the order of the store: by segment, key and
    /// start, as Kafka Streams' `fetchAll`. For the next page, pass the last
    /// [`WindowCursor::store_key`] as `after`.
    ///
    /// # Errors
    /// The database's own.
    pub fn fetch_all(
        &self,
        from_ms: i64,
        to_ms: i64,
        direction: Direction,
        after: Option<&[u8]>,
    ) -> Result<WindowCursor<'r>> {
        let Some((from_ms, to_ms)) = self.clip(from_ms, to_ms) else {
            return Ok(WindowCursor::new(Vec::new(), from_ms, to_ms, None));
        };
        let mut range = self.retention.segments().time_range(from_ms, to_ms);
        if let Some(after) = after {
            resume(&mut range, after, direction);
        }
        Ok(WindowCursor::new(vec![self.rows.scan(range, direction)?], from_ms, to_ms, None))
    }
}

/// Cuts off what a scan has passed.
fn resume(range: &mut ScanRange, after: &[u8], direction: Direction) {
    match direction {
        Direction::Forward => {
            let mut next = after.to_vec();
            next.push(0);
            range.from = std::mem::take(&mut range.from).max(next);
        }
        Direction::Backward => {
            let to = after.to_vec();
            range.to = Some(range.to.take().map_or(to.clone(), |end| end.min(to)));
        }
    }
}

/// Windows of a scan; positioned like a [`Cursor`], before the first.
pub struct WindowCursor<'a> {
    /// What is still to be read, the next one last.
    scans: Vec<Box<dyn Cursor + 'a>>,
    from_ms: i64,
    to_ms: i64,
    /// When one key was asked for: its length, by which its rows are told apart.
    key_bytes: Option<usize>,
}

impl std::fmt::Debug for WindowCursor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WindowCursor({}..={})", self.from_ms, self.to_ms)
    }
}

impl<'a> WindowCursor<'a> {
    fn new(
        scans: Vec<Box<dyn Cursor + 'a>>,
        from_ms: i64,
        to_ms: i64,
        key_bytes: Option<usize>,
    ) -> Self {
        Self { scans, from_ms, to_ms, key_bytes }
    }

    /// Moves to the next window; `false` when there is none.
    ///
    /// # Errors
    /// The database's own; `Corruption` for a row that is no window.
    pub fn advance(&mut self) -> Result<bool> {
        while let Some(scan) = self.scans.last_mut() {
            while scan.advance()? {
                if self.key_bytes.is_some_and(|bytes| !belongs_to(scan.key(), bytes)) {
                    continue;
                }
                let (_, start_ms, _) = decode(scan.key())?;
                if (self.from_ms..=self.to_ms).contains(&start_ms) {
                    return Ok(true);
                }
            }
            self.scans.pop();
        }
        Ok(false)
    }

    /// The current row's store key, from which a later scan can go on.
    pub fn store_key(&self) -> &[u8] {
        self.scans.last().expect("a row is read only after advance returned true").key()
    }

    /// The current window's key.
    pub fn key(&self) -> &[u8] {
        decode(self.store_key()).expect("advance decoded it").0
    }

    /// The current window's start in milliseconds.
    pub fn start_ms(&self) -> i64 {
        decode(self.store_key()).expect("advance decoded it").1
    }

    /// The current window's value.
    pub fn value(&self) -> &[u8] {
        self.scans.last().expect("a row is read only after advance returned true").value()
    }
}

/// A window store of one partition, one value per key and start, unless its caller keeps duplicates.
#[derive(Debug)]
pub struct WindowStore {
    state: StorePartition,
    retention: WindowRetention,
    time_first: bool,
}

impl WindowStore {
    /// A window store over this partition. A new store's segments follow from its retention; an
    /// existing one keeps those it was made with.
    ///
    /// # Errors
    /// `Invalid` when the retention is negative; `NewerFormat`, `Corruption`, or the database's own.
    pub fn new(mut state: StorePartition, retention_ms: i64) -> Result<Self> {
        let retention = state.keep_for(retention_ms)?;
        Ok(Self { state, retention, time_first: false })
    }

    /// The same store, which can also be asked which windows start by a time
    /// ([`StorePartition::derived_up_to`]), until their derived rows are taken off.
    #[must_use]
    pub fn time_first(mut self) -> Self {
        self.time_first = true;
        self
    }

    /// The value of a window that starts no more than the retention before observed stream time:
    /// also the one that reads begin to hide right then. Windows that close are read so.
    ///
    /// # Errors
    /// The database's own.
    pub fn fetch_closing(&self, key: &[u8], start_ms: i64) -> Result<Option<Value<'_>>> {
        let observed_ms = self.state.observed_ms().unwrap_or(start_ms);
        if start_ms < self.retention().expired_ms(observed_ms) {
            return Ok(None);
        }
        self.retention()
            .segments()
            .with_key(key, start_ms, 0, |store_key| self.state.get(store_key))
    }

    /// The partition below: savepoints, commits, positions, rewind.
    pub fn state(&self) -> &StorePartition {
        &self.state
    }

    /// The partition below, to be changed.
    pub fn state_mut(&mut self) -> &mut StorePartition {
        &mut self.state
    }

    /// How long windows are kept.
    pub fn retention(&self) -> WindowRetention {
        self.retention
    }

    /// Reads, clipped to what is readable now.
    pub fn reads(&self) -> WindowReads<'_, StorePartition> {
        WindowReads {
            rows: &self.state,
            retention: self.retention,
            observed_ms: self.state.observed_ms(),
        }
    }

    /// The value of one window.
    ///
    /// # Errors
    /// The database's own.
    pub fn fetch(&self, key: &[u8], start_ms: i64) -> Result<Option<Value<'_>>> {
        self.reads().fetch(key, start_ms)
    }

    /// Sets (or, with `None`, deletes) one window's value and moves observed stream time up to
    /// `start_ms`.
    ///
    /// # Errors
    /// `Invalid` when the key is too long for a store.
    pub fn put(&mut self, key: &[u8], start_ms: i64, value: Option<&[u8]>) -> Result<PutOutcome> {
        self.put_duplicate(key, start_ms, 0, value)
    }

    /// As [`WindowStore::put`], for stores that keep duplicates: `sequence` tells a value from others
    /// of the same key and start, and orders them. Reads of a range give them all.
    ///
    /// # Errors
    /// `Invalid` when the key is too long for a store.
    pub fn put_duplicate(
        &mut self,
        key: &[u8],
        start_ms: i64,
        sequence: u32,
        value: Option<&[u8]>,
    ) -> Result<PutOutcome> {
        crate::layout::check_key(key)?;
        if start_ms < 0 {
            return Ok(PutOutcome::Expired);
        }
        self.state.observe(start_ms);
        let observed_ms = self.state.observed_ms().unwrap_or(start_ms);
        if start_ms <= self.retention().expired_ms(observed_ms) {
            return Ok(PutOutcome::Expired);
        }
        let segments = self.retention().segments();
        let overlay = &mut self.state.overlay;
        segments.with_key(key, start_ms, sequence, |store_key| match value {
            Some(value) => overlay.put(store_key, value),
            None => overlay.delete(store_key),
        });
        if self.time_first {
            let derived = time_first::key(start_ms, key);
            match value {
                Some(_) => overlay.put(&derived, &[]),
                None => overlay.delete(&derived),
            }
        }
        Ok(PutOutcome::Stored)
    }

    /// Applies one record of the store's changelog, for restoring: its key is Kafka's
    /// `key | start | sequence`.
    ///
    /// # Errors
    /// `Corruption` when the key is no window key, else as [`WindowStore::put`].
    pub fn apply_changelog(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<PutOutcome> {
        let (key, start_ms, sequence) = decode_changelog_key(key)?;
        self.put_duplicate(key, start_ms, sequence, value)
    }
}

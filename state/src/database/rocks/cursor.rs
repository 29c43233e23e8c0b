//! A scan of RocksDB, positioned before its first row and bounded on both sides.

use rocksdb::{DBRawIteratorWithThreadMode, ReadOptions};

use super::{Db, errors::Place};
use crate::database::{Cursor, Direction, FamilyKind, ScanRange};
use crate::error::Result;

/// Bounds let RocksDB skip files and range deletions outside the range.
pub(super) fn read_options(range: &ScanRange, kind: FamilyKind) -> ReadOptions {
    let mut options = ReadOptions::default();
    if kind == FamilyKind::Log {
        // Each row of a log has a checksum of its own, over key and value, which its reader verifies
        // together with their succession; RocksDB's over the same bytes would cost more than the
        // rest of the scan.
        options.set_verify_checksums(false);
    }
    options.set_iterate_lower_bound(range.from.clone());
    if let Some(to) = &range.to {
        // RocksDB asserts that its bounds are in order.
        options.set_iterate_upper_bound(to.max(&range.from).clone());
    }
    options
}

pub(super) struct RocksCursor<'a> {
    rows: DBRawIteratorWithThreadMode<'a, Db>,
    direction: Direction,
    place: Place<'a>,
    started: bool,
    empty: bool,
}

impl<'a> RocksCursor<'a> {
    pub(super) fn new(
        rows: DBRawIteratorWithThreadMode<'a, Db>,
        range: &ScanRange,
        direction: Direction,
        place: Place<'a>,
    ) -> Self {
        Self { rows, direction, place, started: false, empty: range.is_empty() }
    }
}

impl Cursor for RocksCursor<'_> {
    fn advance(&mut self) -> Result<bool> {
        if self.empty {
            return Ok(false);
        }
        match (self.started, self.direction) {
            (false, Direction::Forward) => self.rows.seek_to_first(),
            (false, Direction::Backward) => self.rows.seek_to_last(),
            (true, Direction::Forward) => self.rows.next(),
            (true, Direction::Backward) => self.rows.prev(),
        }
        self.started = true;
        if self.rows.valid() {
            return Ok(true);
        }
        self.empty = true;
        self.rows.status().map(|()| false).map_err(|error| self.place.error(error, "scanning"))
    }

    fn key(&self) -> &[u8] {
        self.rows.key().expect("a row is read only after advance returned true")
    }

    fn value(&self) -> &[u8] {
        self.rows.value().expect("a row is read only after advance returned true")
    }
}

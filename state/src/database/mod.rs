//! The seam to storage engines: ordered families of byte rows with atomic batches.
//!
//! Owns the traits both engines implement and the handles that go through them. Must not know what
//! a key means: partitions, segments and positions belong to [`crate::layout`].
//!
//! Contract of every engine (one suite runs over all of them):
//! - a batch is applied whole or not at all, and later batches see it; its operations act in order;
//! - after a crash the database holds a prefix of the batches in the order they were written, and
//!   that prefix contains every batch written before the last [`Database::sync`] that returned;
//! - a scan and a view show the database as it was when they were made;
//! - keys are ordered as unsigned bytes.

use std::fmt;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::Result;

pub mod memory;
#[cfg(feature = "rocksdb")]
pub mod rocks;

/// A named, separately tuned set of rows in a database. Cheap to clone; valid for the database that
/// gave it.
#[derive(Clone)]
pub struct Family {
    name: Arc<str>,
    id: u32,
}

impl Family {
    pub(crate) fn new(name: &str, id: u32) -> Self {
        Self { name: Arc::from(name), id }
    }

    /// The name it was opened by.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }
}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Family({})", self.name)
    }
}

/// What a family is for, so that an engine can tune it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FamilyKind {
    /// Random reads and overwrites of small rows.
    State,
    /// Appends of large rows in key order, read in order, deleted from the front.
    Log,
    /// A few rows.
    Meta,
}

/// Which way a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Ascending byte order.
    Forward,
    /// Descending byte order.
    Backward,
}

/// A half-open range of keys, `from` (inclusive) up to `to` (exclusive; without one, to the end).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanRange {
    /// First key of the range.
    pub from: Vec<u8>,
    /// First key after the range; `None` has no end.
    pub to: Option<Vec<u8>>,
}

impl ScanRange {
    /// Every key.
    pub fn all() -> Self {
        Self { from: Vec::new(), to: None }
    }

    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        Self { from: prefix.to_vec(), to: crate::layout::successor(prefix) }
    }

    /// The keys between two bounds. The smallest key after `k` is `k` followed by a zero byte, so
    /// every pair of bounds has a half-open form.
    pub fn new(from: Bound<&[u8]>, to: Bound<&[u8]>) -> Self {
        let after = |key: &[u8]| {
            let mut key = key.to_vec();
            key.push(0);
            key
        };
        let from = match from {
            Bound::Included(key) => key.to_vec(),
            Bound::Excluded(key) => after(key),
            Bound::Unbounded => Vec::new(),
        };
        let to = match to {
            Bound::Included(key) => Some(after(key)),
            Bound::Excluded(key) => Some(key.to_vec()),
            Bound::Unbounded => None,
        };
        Self { from, to }
    }

    /// Whether no key can be in it.
    pub fn is_empty(&self) -> bool {
        self.to.as_ref().is_some_and(|to| *to <= self.from)
    }

    /// Whether `key` is in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.from.as_slice() && self.to.as_ref().is_none_or(|to| key < to.as_slice())
    }
}

/// A position in a scan. It starts before the first row; [`Cursor::advance`] moves it.
///
/// `key` and `value` may be called only after `advance` returned `true`; they are valid until the
/// next `advance`.
pub trait Cursor {
    /// Moves to the next row; `false` when there is none.
    ///
    /// # Errors
    /// A read failed or a file is damaged; the scan is over.
    fn advance(&mut self) -> Result<bool>;

    /// The current row's key.
    fn key(&self) -> &[u8];

    /// The current row's value.
    fn value(&self) -> &[u8];

    /// Moves to the next row and lends it until the next call.
    ///
    /// # Errors
    /// As [`Cursor::advance`].
    fn next(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        Ok(if self.advance()? { Some((self.key(), self.value())) } else { None })
    }
}

/// Reads of a database as it is, or of a view of it.
pub trait Reader: Send + Sync + fmt::Debug {
    /// The value of one key.
    ///
    /// # Errors
    /// `NoFamily` or `Closed` for a handle that outlived its family or database; `Corruption` for
    /// damaged files; `Io` otherwise.
    fn get(&self, family: &Family, key: &[u8]) -> Result<Option<Bytes>>;

    /// The rows of a range in order, as they are now: later writes do not show.
    ///
    /// # Errors
    /// As [`Reader::get`].
    fn scan<'a>(
        &'a self,
        family: &Family,
        range: ScanRange,
        direction: Direction,
    ) -> Result<Box<dyn Cursor + 'a>>;

    /// The family of this name, if the database has it; readers never create one.
    fn find_family(&self, name: &str) -> Option<Family>;
}

/// Memory and disk used by one database, for metrics. Estimates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Writes held in memory, not yet in table files.
    pub memtable_bytes: u64,
    /// Memory held by open table files, outside the shared block cache.
    pub table_reader_bytes: u64,
    /// Live data in files.
    pub disk_bytes: u64,
}

/// One database: families, batches, views.
pub trait Database: Reader {
    /// Opens a family, creating it when it is not there. Creation is durable at once.
    ///
    /// # Errors
    /// `Full`, `Io` or `Closed`; the family is then not created.
    fn family(&self, name: &str, kind: FamilyKind) -> Result<Family>;

    /// The names of all families, sorted.
    fn families(&self) -> Vec<String>;

    /// Removes a family with all its rows.
    ///
    /// # Errors
    /// `NoFamily`, `Io` or `Closed`.
    fn drop_family(&self, family: &Family) -> Result<()>;

    /// Writes one atomic batch made of parts, in order. It is visible when this returns but not yet
    /// safe from a power loss: see [`Database::sync`].
    ///
    /// # Errors
    /// The batch is refused whole: `Full` and `Io` may be retried.
    fn write(&self, parts: &[&dyn BatchPart]) -> Result<()>;

    /// Adds many rows as one sorted file: past the log and the memtable, and so much cheaper than
    /// [`Database::write`]. The part puts and deletes rows of `family` alone, in strictly ascending
    /// key order; ranges that it deletes lie under its rows. It is applied whole or not at all, over
    /// everything the family had. RocksDB makes it durable by itself: after a power loss it may be
    /// there although batches of *other* families that were written before it are not.
    ///
    /// # Errors
    /// As [`Database::write`]; `Io` or `Invalid` for rows that are not in order.
    fn ingest(&self, family: &Family, rows: &dyn BatchPart) -> Result<()>;

    /// Makes everything written before the call durable.
    ///
    /// # Errors
    /// `Full` or `Io`: nothing can be said about writes since the last success.
    fn sync(&self) -> Result<()>;

    /// The database as it is now, to be read later and elsewhere. Cheap enough for every commit.
    ///
    /// # Errors
    /// `Closed`.
    fn view(&self) -> Result<Arc<dyn Reader>>;

    /// How many rows a family has, roughly.
    fn approximate_rows(&self, family: &Family) -> u64;

    /// Memory and disk in use.
    fn usage(&self) -> Usage;

    /// Writes a consistent copy of the database to a new directory, while writes go on.
    ///
    /// # Errors
    /// `Io` or `Full` when the copy could not be made; `Invalid` when `path` exists or the engine
    /// has no files.
    fn checkpoint(&self, path: &Path) -> Result<()>;
}

/// Something that writes itself into a batch.
pub trait BatchPart: Send + Sync {
    /// Puts its operations, in order, into the sink.
    fn replay(&self, sink: &mut dyn BatchSink);
}

/// The engine's own batch, filled by [`BatchPart`]s.
pub trait BatchSink {
    /// Sets one row.
    fn put(&mut self, family: &Family, key: &[u8], value: &[u8]);
    /// Removes one row, if it is there.
    fn delete(&mut self, family: &Family, key: &[u8]);
    /// Removes the rows from `from` (inclusive) to `to` (exclusive).
    fn delete_range(&mut self, family: &Family, from: &[u8], to: &[u8]);
}

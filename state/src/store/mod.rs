//! A store over bytes: overlay and database seen as one.
//!
//! Owns [`StorePartition`], one partition of one store as its task sees it, and the read side of it,
//! [`Rows`], which a committed view has too ([`Committed`]): the key-value and window reads are
//! written once, over `Rows`, and serve tasks and queries alike. Must not know serdes, and when to
//! commit is the engine's concern.

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;

use crate::commit::StoreCommit;
use crate::database::{Cursor, Database, Direction, Family, FamilyKind, Reader, ScanRange};
use crate::error::Result;
use crate::layout::{self, DATA_PREFIX_BYTES, data_key, data_prefix, time_first, with_data_key};
use crate::lease::Lease;
use crate::overlay::{Found, FrozenOverlay, Overlay};
use crate::positions::{FamilyFormat, StorePositions};

use self::retention::Expiry;

mod buffer;
mod key_value;
mod retention;
mod session;
mod timers;
mod versioned;
mod window;

pub use buffer::{
    Buffer, BufferTotals, Held, decode_row as decode_buffered, decode_row_key as decode_buffer_key,
};
pub use key_value::{KeyValueReads, KeyValueStore};
pub use retention::WindowRetention;
pub use session::{Session, SessionReads, SessionStore, decode_derived as decode_derived_session};
pub use timers::{TimerPosition, TimerRow, Timers};
pub use versioned::{Version, VersionedReads, VersionedStore};
pub use window::{PutOutcome, WindowCursor, WindowReads, WindowStore};

/// A value read from a store: lent by the overlay, or shared with the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// Lent by the overlay.
    Lent(&'a [u8]),
    /// Read from the database.
    Shared(Bytes),
}

impl Deref for Value<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Lent(value) => value,
            Self::Shared(value) => value,
        }
    }
}

impl Value<'_> {
    /// The value by itself, copied if it was lent.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Lent(value) => Bytes::copy_from_slice(value),
            Self::Shared(value) => value,
        }
    }
}

/// Reads of one store-partition by store key.
pub trait Rows {
    /// The value of one store key.
    ///
    /// # Errors
    /// The database's own.
    fn get(&self, store_key: &[u8]) -> Result<Option<Value<'_>>>;

    /// The rows of a range of store keys, in order; the cursor's keys are store keys.
    ///
    /// # Errors
    /// The database's own.
    fn scan<'a>(&'a self, range: ScanRange, direction: Direction) -> Result<Box<dyn Cursor + 'a>>;
}

/// The committed rows of one store-partition, read from a view or a database, without an overlay.
#[derive(Debug, Clone, Copy)]
pub struct Committed<'r> {
    /// Where from.
    pub reader: &'r dyn Reader,
    /// The store's family.
    pub family: &'r Family,
    /// The store's partition.
    pub partition: u32,
}

impl Committed<'_> {
    /// How far the store-partition had come.
    ///
    /// # Errors
    /// `NewerFormat`, `Corruption`, or the reader's own.
    pub fn positions(&self) -> Result<StorePositions> {
        StorePositions::read(self.reader, self.family, self.partition)
    }
}

impl Rows for Committed<'_> {
    fn get(&self, store_key: &[u8]) -> Result<Option<Value<'_>>> {
        let found =
            with_data_key(self.partition, store_key, |key| self.reader.get(self.family, key))?;
        Ok(found.map(Value::Shared))
    }

    fn scan<'a>(&'a self, range: ScanRange, direction: Direction) -> Result<Box<dyn Cursor + 'a>> {
        let cursor = self.reader.scan(self.family, full(self.partition, &range), direction)?;
        Ok(Box::new(WithoutPrefix { cursor }))
    }
}

/// The range of full keys of a range of store keys.
fn full(partition: u32, range: &ScanRange) -> ScanRange {
    let to = match &range.to {
        Some(to) => Some(data_key(partition, to)),
        None => layout::successor(&data_prefix(partition)),
    };
    ScanRange { from: data_key(partition, &range.from), to }
}

struct WithoutPrefix<'a> {
    cursor: Box<dyn Cursor + 'a>,
}

impl Cursor for WithoutPrefix<'_> {
    fn advance(&mut self) -> Result<bool> {
        self.cursor.advance()
    }

    fn key(&self) -> &[u8] {
        &self.cursor.key()[DATA_PREFIX_BYTES..]
    }

    fn value(&self) -> &[u8] {
        self.cursor.value()
    }
}

/// One partition of one store, as the task that owns it sees it: what it wrote and has not
/// committed lies over what is in the database.
///
/// The order of calls in a commit: [`freeze`](Self::freeze), produce the changelog from what it
/// gave, [`commit`](Self::commit) for the batch, and when that is written
/// [`committed`](Self::committed). On any failure whose outcome is not known,
/// [`rewind`](Self::rewind).
#[derive(Debug)]
pub struct StorePartition {
    family: Family,
    partition: u32,
    lease: Lease,
    overlay: Overlay,
    database: Arc<dyn Database>,
    committed: StorePositions,
    observed_ms: Option<i64>,
    /// Of the frozen layer.
    frozen_observed_ms: Option<i64>,
    /// At the savepoint.
    saved_observed_ms: Option<i64>,
    /// Of stores that keep their rows for a time.
    expiry: Option<Expiry>,
}

impl StorePartition {
    /// Opens one partition of a store: its family, created if need be, and its positions.
    ///
    /// # Errors
    /// `NewerFormat`, `Corruption`, or the database's own.
    pub fn open(database: Arc<dyn Database>, lease: Lease) -> Result<Self> {
        let family = database.family(lease.store(), FamilyKind::State)?;
        let partition = lease.partition();
        FamilyFormat::read(&*database, &family)?;
        let committed = StorePositions::read(&*database, &family, partition)?;
        Ok(Self {
            family,
            partition,
            lease,
            overlay: Overlay::new(),
            database,
            committed,
            observed_ms: committed.observed_ms,
            frozen_observed_ms: None,
            saved_observed_ms: None,
            expiry: None,
        })
    }

    /// From now on commits take expired segments off the disk. A new store's segments follow from its
    /// retention; an existing one keeps those it was made with.
    ///
    /// # Errors
    /// `Invalid` when the retention is negative; `NewerFormat`, `Corruption`, or the database's own.
    fn keep_for(&mut self, retention_ms: i64) -> Result<WindowRetention> {
        let expiry = Expiry::of(self, retention_ms)?;
        Ok(self.expiry.insert(expiry).retention())
    }

    /// The store, by the name of its family.
    pub fn name(&self) -> &str {
        self.family.name()
    }

    /// The store's family.
    pub fn family(&self) -> &Family {
        &self.family
    }

    /// The partition.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// The right to write it.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The database below.
    pub fn database(&self) -> &Arc<dyn Database> {
        &self.database
    }

    /// The uncommitted writes.
    pub fn overlay(&self) -> &Overlay {
        &self.overlay
    }

    /// The positions of the last commit.
    pub fn positions(&self) -> StorePositions {
        self.committed
    }

    /// The greatest window start put, in milliseconds, uncommitted ones included.
    pub fn observed_ms(&self) -> Option<i64> {
        self.observed_ms
    }

    fn observe(&mut self, time_ms: i64) {
        self.observed_ms = self.observed_ms.max(Some(time_ms));
    }

    /// Sets a row.
    ///
    /// # Errors
    /// `Invalid` when the key is too long for a store.
    pub fn put(&mut self, store_key: &[u8], value: &[u8]) -> Result<()> {
        layout::check_key(store_key)?;
        self.overlay.put(store_key, value);
        Ok(())
    }

    /// Deletes a row.
    ///
    /// # Errors
    /// `Invalid` when the key is too long for a store.
    pub fn delete(&mut self, store_key: &[u8]) -> Result<()> {
        layout::check_key(store_key)?;
        self.overlay.delete(store_key);
        Ok(())
    }

    /// The derived rows of times up to `to_ms`, included, by time; see
    /// [`time_first`].
    ///
    /// # Errors
    /// The database's own.
    pub fn derived_up_to(&self, to_ms: i64) -> Result<Box<dyn Cursor + '_>> {
        self.scan(time_first::up_to(to_ms), Direction::Forward)
    }

    /// Deletes the rows from `from` (inclusive) to `to` (exclusive).
    pub fn delete_range(&mut self, from: &[u8], to: &[u8]) {
        self.overlay.delete_range(from, to);
    }

    /// Marks the present as what [`StorePartition::undo`] returns to: one mark per input record.
    pub fn savepoint(&mut self) {
        self.overlay.savepoint();
        self.saved_observed_ms = self.observed_ms;
    }

    /// Takes back everything since the savepoint.
    pub fn undo(&mut self) {
        self.overlay.undo();
        self.observed_ms = self.saved_observed_ms;
    }

    /// Hands what was written since the last freeze over for a commit.
    ///
    /// # Panics
    /// When the commit before was neither finished nor rewound.
    pub fn freeze(&mut self) -> Arc<FrozenOverlay> {
        self.frozen_observed_ms = self.observed_ms;
        self.saved_observed_ms = self.observed_ms;
        self.overlay.freeze()
    }

    /// The store-partition's share of the commit of the frozen rows. `changelog` is the changelog
    /// offset after the last of them, `None` to leave it where it is. Expired segments leave the disk
    /// with it.
    pub fn commit(&self, changelog: Option<i64>) -> StoreCommit {
        let observed_ms = self.frozen_observed_ms.or(self.committed.observed_ms);
        let expiry = self.expiry.as_ref().zip(observed_ms);
        StoreCommit {
            lease: self.lease.clone(),
            family: self.family.clone(),
            partition: self.partition,
            rows: self.overlay.frozen().filter(|rows| !rows.is_empty()).cloned(),
            positions: StorePositions {
                changelog: changelog.or(self.committed.changelog),
                observed_ms,
            },
            expired_before: expiry.and_then(|(expiry, at)| expiry.expired_before(at)),
        }
    }

    /// The batch of `commit` is in the database: its rows need no overlay any more.
    pub fn committed(&mut self, commit: &StoreCommit) {
        self.committed = commit.positions;
        self.overlay.release_frozen();
        if let Some(expiry) = &mut self.expiry {
            expiry.committed(commit);
        }
    }

    /// Forgets everything that is not in the database, also a commit under way, and reads the
    /// positions back.
    ///
    /// # Errors
    /// `NewerFormat`, `Corruption`, or the database's own.
    pub fn rewind(&mut self) -> Result<()> {
        self.overlay.discard();
        self.committed = StorePositions::read(&*self.database, &self.family, self.partition)?;
        self.observed_ms = self.committed.observed_ms;
        self.frozen_observed_ms = None;
        self.saved_observed_ms = self.observed_ms;
        Ok(())
    }

    /// How many rows the whole store has in the database, all partitions, roughly.
    pub fn approximate_rows(&self) -> u64 {
        self.database.approximate_rows(&self.family)
    }
}

impl Rows for StorePartition {
    fn get(&self, store_key: &[u8]) -> Result<Option<Value<'_>>> {
        match self.overlay.get(store_key) {
            Found::Value(value) => Ok(Some(Value::Lent(value))),
            Found::Deleted => Ok(None),
            Found::Unknown => {
                let found = with_data_key(self.partition, store_key, |key| {
                    self.database.get(&self.family, key)
                })?;
                Ok(found.map(Value::Shared))
            }
        }
    }

    fn scan<'a>(&'a self, range: ScanRange, direction: Direction) -> Result<Box<dyn Cursor + 'a>> {
        let base = self.database.scan(&self.family, full(self.partition, &range), direction)?;
        Ok(Box::new(self.overlay.merge(&range, direction, base, DATA_PREFIX_BYTES)))
    }
}

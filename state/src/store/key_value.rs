//! Key-value stores over bytes: the store key is the key.
//!
//! Owns reads and writes by key. Must not know serdes; order is byte order of serialised keys.

use std::ops::Bound;

use super::{Rows, StorePartition, Value};
use crate::database::{Cursor, Direction, ScanRange};
use crate::error::Result;

/// Key-value reads of anything that has [`Rows`]: a task's store, or a committed view.
pub trait KeyValueReads: Rows {
    /// The rows with keys between two bounds. For the next page, begin after the last key seen:
    /// `Bound::Excluded(last)` is `from` forwards and `to` backwards.
    ///
    /// # Errors
    /// The database's own.
    fn range<'a>(
        &'a self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
    ) -> Result<Box<dyn Cursor + 'a>> {
        self.scan(ScanRange::new(from, to), direction)
    }

    /// The rows whose keys begin with `prefix`.
    ///
    /// # Errors
    /// The database's own.
    fn prefix<'a>(&'a self, prefix: &[u8], direction: Direction) -> Result<Box<dyn Cursor + 'a>> {
        self.scan(ScanRange::prefix(prefix), direction)
    }

    /// All rows.
    ///
    /// # Errors
    /// The database's own.
    fn all<'a>(&'a self, direction: Direction) -> Result<Box<dyn Cursor + 'a>> {
        self.scan(ScanRange::all(), direction)
    }
}

impl<R: Rows + ?Sized> KeyValueReads for R {}

/// A key-value store of one partition.
#[derive(Debug)]
pub struct KeyValueStore {
    state: StorePartition,
}

impl KeyValueStore {
    /// A key-value store over this partition.
    pub fn new(state: StorePartition) -> Self {
        Self { state }
    }

    /// The partition below: savepoints, commit, positions; and [`KeyValueReads`].
    pub fn state(&self) -> &StorePartition {
        &self.state
    }

    /// The partition below, to be changed.
    pub fn state_mut(&mut self) -> &mut StorePartition {
        &mut self.state
    }

    /// The value of a key.
    ///
    /// # Errors
    /// The database's own.
    pub fn get(&self, key: &[u8]) -> Result<Option<Value<'_>>> {
        self.state.get(key)
    }

    /// Sets a key.
    ///
    /// # Errors
    /// `Invalid` when the key is too long for a store.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.state.put(key, value)
    }

    /// Deletes a key.
    ///
    /// # Errors
    /// `Invalid` when the key is too long for a store.
    pub fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.state.delete(key)
    }
}

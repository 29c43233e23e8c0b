//! A snapshot of RocksDB that owns its database, so that it can be read later and elsewhere.
//!
//! A snapshot borrows the database it is of; the two in one value is what `self_cell` is for.
#![expect(clippy::mem_forget, reason = "inside self_cell's macro, where ownership moves on")]

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use rocksdb::{ReadOptions, SnapshotWithThreadMode};
use self_cell::self_cell;

use super::cursor::{RocksCursor, read_options};
use super::{Db, Inner};
use crate::database::{Cursor, Direction, Family, Reader, ScanRange};
use crate::error::Result;

struct DbSnapshot<'d>(SnapshotWithThreadMode<'d, Db>);

impl RocksView {
    /// The database as it is now.
    pub(super) fn of(inner: &Arc<Inner>) -> Self {
        Self::new(Arc::clone(inner), |inner| DbSnapshot(SnapshotWithThreadMode::new(&inner.db)))
    }
}

self_cell!(
    /// A snapshot together with the database it is of.
    pub(super) struct RocksView {
        owner: Arc<Inner>,
        #[covariant]
        dependent: DbSnapshot,
    }
);

impl fmt::Debug for RocksView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RocksView({})", self.borrow_owner().path.display())
    }
}

impl Reader for RocksView {
    fn get(&self, family: &Family, key: &[u8]) -> Result<Option<Bytes>> {
        let inner = self.borrow_owner();
        let handle = inner.handle(family)?;
        match self.borrow_dependent().0.get_pinned_cf(&handle, key) {
            Ok(found) => Ok(found.map(|value| Bytes::copy_from_slice(&value))),
            Err(error) => Err(inner.place().family(family).error(error, "reading a row")),
        }
    }

    fn scan<'a>(
        &'a self,
        family: &Family,
        range: ScanRange,
        direction: Direction,
    ) -> Result<Box<dyn Cursor + 'a>> {
        let inner = self.borrow_owner();
        let handle = inner.handle(family)?;
        let mut options: ReadOptions = read_options(&range, inner.kind(family));
        options.set_snapshot(&self.borrow_dependent().0);
        let rows = inner.db.raw_iterator_cf_opt(&handle, options);
        let place = inner.place().family(family);
        Ok(Box::new(RocksCursor::new(rows, &range, direction, place)))
    }

    fn find_family(&self, name: &str) -> Option<Family> {
        self.borrow_owner().find(name)
    }
}

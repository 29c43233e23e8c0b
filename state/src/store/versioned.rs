//! Versioned stores over bytes: the values that a key had, each since a time.
//!
//! Owns the store's clock, the greatest time ever put, and the history's end: versions are found as
//! of times from `clock - history` on, and the latest always. A put before that is refused. A version
//! leaves the disk when its successor began at or before that time, by a derived row that says so, so
//! that nothing is searched. Follows Kafka Streams' `RocksDBVersionedStore` (KIP-889) in what is
//! found, not in how it lies.

use super::{PutOutcome, Rows, StorePartition};
use crate::database::Direction;
use crate::error::Result;
use crate::layout::versioned::{decode, decode_value, encode_value, range, store_key};
use crate::layout::{check_key, time_first};

/// A value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Since when it is valid, in milliseconds.
    pub since_ms: i64,
    /// The value; `None` is a deletion.
    pub value: Option<Vec<u8>>,
}

/// Reads of versions over the rows of one store-partition.
#[derive(Debug, Clone, Copy)]
pub struct VersionedReads<'r, R: Rows + ?Sized> {
    rows: &'r R,
    history_ms: i64,
    observed_ms: Option<i64>,
}

impl<'r, R: Rows + ?Sized> VersionedReads<'r, R> {
    /// Reads of rows with this history, when the store's clock is at `observed_ms`.
    pub fn new(rows: &'r R, history_ms: i64, observed_ms: Option<i64>) -> Self {
        Self { rows, history_ms, observed_ms }
    }

    /// The first time that can still be looked up and put.
    fn horizon_ms(&self) -> i64 {
        self.observed_ms.map_or(0, |observed| (observed - self.history_ms).max(0))
    }

    /// The nearest version in a range of times, from the end or from the beginning.
    fn nearest(&self, key: &[u8], from: i64, to: i64, way: Direction) -> Result<Option<Version>> {
        if from > to {
            return Ok(None);
        }
        let mut rows = self.rows.scan(range(key, from, to), way)?;
        while rows.advance()? {
            if let Some((found, since_ms)) = decode(rows.key())
                && found == key
            {
                let value = decode_value(rows.value())?.map(<[u8]>::to_vec);
                return Ok(Some(Version { since_ms, value }));
            }
        }
        Ok(None)
    }

    /// The latest version of a key, also a deletion that is still remembered.
    ///
    /// # Errors
    /// `Corruption`, or the database's own.
    pub fn latest(&self, key: &[u8]) -> Result<Option<Version>> {
        self.nearest(key, 0, i64::MAX, Direction::Backward)
    }

    /// The version of a key that was valid at a time. Before the history only the latest version is
    /// found, if it began by then.
    ///
    /// # Errors
    /// `Corruption`, or the database's own.
    pub fn as_of(&self, key: &[u8], time_ms: i64) -> Result<Option<Version>> {
        if time_ms >= self.horizon_ms() {
            return self.nearest(key, 0, time_ms, Direction::Backward);
        }
        Ok(self.latest(key)?.filter(|latest| latest.since_ms <= time_ms))
    }
}

/// A versioned store of one partition.
#[derive(Debug)]
pub struct VersionedStore {
    state: StorePartition,
    history_ms: i64,
}

impl VersionedStore {
    /// A versioned store over this partition, with this history in milliseconds, not negative.
    pub fn new(state: StorePartition, history_ms: i64) -> Self {
        Self { state, history_ms }
    }

    /// The partition below: savepoints, commit, positions.
    pub fn state(&self) -> &StorePartition {
        &self.state
    }

    /// The partition below, to be changed.
    pub fn state_mut(&mut self) -> &mut StorePartition {
        &mut self.state
    }

    /// Reads of what is there now.
    pub fn reads(&self) -> VersionedReads<'_, StorePartition> {
        let observed_ms = self.state.observed_ms();
        VersionedReads { rows: &self.state, history_ms: self.history_ms, observed_ms }
    }

    /// Sets the value of a key (`None` deletes it) since a time, until the next version's.
    ///
    /// # Errors
    /// `Invalid` when the key is too long; else as [`latest`](VersionedReads::latest).
    pub fn put(&mut self, key: &[u8], since_ms: i64, value: Option<&[u8]>) -> Result<PutOutcome> {
        check_key(key)?;
        if since_ms < 0 {
            return Ok(PutOutcome::Expired);
        }
        self.state.observe(since_ms);
        if since_ms < self.reads().horizon_ms() {
            return Ok(PutOutcome::Expired);
        }
        let next = self.reads().nearest(key, since_ms + 1, i64::MAX, Direction::Forward)?;
        let next_ms = next.map(|version| version.since_ms);
        let before = self.reads().nearest(key, 0, since_ms, Direction::Backward)?;
        if let Some(before) = before {
            self.forget_end(key, &before, next_ms)?;
            if before.since_ms < since_ms {
                self.remember_end(key, &before, Some(since_ms))?;
            }
        }
        let version = Version { since_ms, value: value.map(<[u8]>::to_vec) };
        self.state.put(&store_key(key, since_ms), &encode_value(value))?;
        self.remember_end(key, &version, next_ms)?;
        self.sweep()?;
        Ok(PutOutcome::Stored)
    }

    /// Notes when a version may leave: when its successor begins; a deletion at once.
    fn remember_end(&mut self, key: &[u8], version: &Version, next_ms: Option<i64>) -> Result<()> {
        match end_row(key, version, next_ms) {
            Some(row) => self.state.put(&row, &[]),
            None => Ok(()),
        }
    }

    fn forget_end(&mut self, key: &[u8], version: &Version, next_ms: Option<i64>) -> Result<()> {
        match end_row(key, version, next_ms) {
            Some(row) => self.state.delete(&row),
            None => Ok(()),
        }
    }

    /// Takes off what can no longer be found.
    fn sweep(&mut self) -> Result<()> {
        let Some(expired_ms) = self.state.observed_ms().map(|now| now - self.history_ms) else {
            return Ok(());
        };
        let mut due = Vec::new();
        let mut rows = self.state.derived_up_to(expired_ms)?;
        while rows.advance()? {
            due.push(rows.key().to_vec());
        }
        drop(rows);
        for row in due {
            let (_, rest) = time_first::decode(&row)?;
            if let Some((since, key)) = rest.split_first_chunk::<8>() {
                self.state.delete(&store_key(key, i64::from_be_bytes(*since)))?;
            }
            self.state.delete(&row)?;
        }
        Ok(())
    }
}

fn end_row(key: &[u8], version: &Version, next_ms: Option<i64>) -> Option<Vec<u8>> {
    let end_ms = if version.value.is_none() { Some(version.since_ms) } else { next_ms };
    end_ms.map(|end| time_first::key(end, &[&version.since_ms.to_be_bytes(), key].concat()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::database::memory::MemoryDisk;
    use crate::database::{Database, ScanRange};
    use crate::lease::Leases;

    fn store(history_ms: i64) -> VersionedStore {
        let database: Arc<dyn Database> = MemoryDisk::new().open("test").expect("memory");
        let lease = Leases::new().grant("app/v", 0);
        VersionedStore::new(StorePartition::open(database, lease).expect("opens"), history_ms)
    }

    fn put(store: &mut VersionedStore, key: &str, since: i64, value: Option<&str>) -> PutOutcome {
        store.put(key.as_bytes(), since, value.map(str::as_bytes)).expect("memory")
    }

    fn as_of(store: &VersionedStore, key: &str, time: i64) -> Option<String> {
        let found = store.reads().as_of(key.as_bytes(), time).expect("memory")?.value?;
        Some(String::from_utf8(found).expect("text"))
    }

    #[test]
    fn a_version_is_valid_until_the_next_whatever_the_order_they_came_in() {
        let mut store = store(100);
        put(&mut store, "k", 10, Some("a"));
        put(&mut store, "k", 30, Some("c"));
        put(&mut store, "k", 20, Some("b"));
        put(&mut store, "kk", 15, Some("longer"));
        let seen: Vec<_> = [9, 10, 19, 20, 29, 30, 99].map(|t| as_of(&store, "k", t)).into();
        let want = [None, Some("a"), Some("a"), Some("b"), Some("b"), Some("c"), Some("c")];
        assert_eq!(seen, want.map(|v| v.map(str::to_owned)));
    }

    #[test]
    fn versions_leave_the_disk_when_they_can_no_longer_be_found() {
        let mut store = store(10);
        for since in 0..100 {
            put(&mut store, "k", since, Some("v"));
        }
        put(&mut store, "gone", 100, None);
        put(&mut store, "other", 200, Some("v"));
        let mut rows = store.state().scan(ScanRange::all(), Direction::Forward).expect("memory");
        let mut left = 0;
        while rows.advance().expect("memory") {
            left += 1;
        }
        assert_eq!(left, 2, "the latest of k and other");
    }

    #[test]
    fn a_put_before_the_history_is_refused_and_the_latest_is_always_found() {
        let mut store = store(10);
        put(&mut store, "k", 5, Some("old"));
        put(&mut store, "l", 100, Some("new"));
        assert_eq!(put(&mut store, "k", 89, Some("late")), PutOutcome::Expired);
        assert_eq!(put(&mut store, "k", 90, Some("in time")), PutOutcome::Stored);
        assert_eq!(as_of(&store, "k", 7), None, "the version at 7 is history that is over");
        assert_eq!(as_of(&store, "l", 100).as_deref(), Some("new"));
    }
}

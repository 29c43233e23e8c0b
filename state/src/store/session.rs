//! Session stores over bytes: a value by key, start and end of a session.
//!
//! Owns the store's clock, *observed stream time*: the greatest end ever put. A session is readable
//! while `end > observed - retention`. Follows Kafka Streams' `RocksDBSessionStore`: a put whose
//! segment is gone is refused, and one that nobody can read is kept until its segment goes. Must not
//! know gaps and grace.

use super::{PutOutcome, Rows, StorePartition, Value, WindowRetention};
use crate::database::Direction;
use crate::error::Result;
use crate::layout::session::{belongs_to, decode, decode_changelog_key, key_range, store_key};
use crate::layout::{check_key, time_first};

/// One session of a key, its value lent or shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The time of its first record in milliseconds.
    pub start_ms: i64,
    /// The time of its last record in milliseconds.
    pub end_ms: i64,
    /// The value.
    pub value: Vec<u8>,
}

/// Session reads over the rows of one store-partition.
#[derive(Debug, Clone, Copy)]
pub struct SessionReads<'r, R: Rows + ?Sized> {
    rows: &'r R,
    retention: WindowRetention,
    observed_ms: Option<i64>,
}

impl<'r> SessionReads<'r, super::Committed<'r>> {
    /// Session reads of committed rows, with the observed stream time committed with them.
    ///
    /// # Errors
    /// `NewerFormat`, `Corruption`, or the reader's own.
    pub fn committed(rows: &'r super::Committed<'r>, retention: WindowRetention) -> Result<Self> {
        Ok(Self { rows, retention, observed_ms: rows.positions()?.observed_ms })
    }
}

impl<'r, R: Rows + ?Sized> SessionReads<'r, R> {
    /// The greatest end that can no longer be read.
    fn expired_ms(&self) -> i64 {
        self.observed_ms.map_or(i64::MIN, |observed| observed - self.retention.retention_ms())
    }

    /// The value of one session.
    ///
    /// # Errors
    /// The database's own.
    pub fn fetch(&self, key: &[u8], start_ms: i64, end_ms: i64) -> Result<Option<Value<'r>>> {
        if end_ms <= self.expired_ms() {
            return Ok(None);
        }
        self.rows.get(&store_key(self.retention.segments(), key, start_ms, end_ms))
    }

    /// As [`fetch`](Self::fetch), also if the session can no longer be read but is still there.
    ///
    /// # Errors
    /// The database's own.
    pub fn fetch_hidden(
        &self,
        key: &[u8],
        start_ms: i64,
        end_ms: i64,
    ) -> Result<Option<Value<'r>>> {
        self.rows.get(&store_key(self.retention.segments(), key, start_ms, end_ms))
    }

    /// One key's sessions that end at `earliest_end_ms` or later and start at `latest_start_ms` or
    /// earlier, by end, then start.
    ///
    /// # Errors
    /// The database's own.
    pub fn find(
        &self,
        key: &[u8],
        earliest_end_ms: i64,
        latest_start_ms: i64,
    ) -> Result<Vec<Session>> {
        self.find_from(
            key,
            earliest_end_ms.max(self.expired_ms().saturating_add(1)),
            latest_start_ms,
        )
    }

    /// As [`find`](Self::find), with sessions that can no longer be read but are still there.
    ///
    /// # Errors
    /// The database's own.
    pub fn find_hidden(
        &self,
        key: &[u8],
        earliest_end_ms: i64,
        latest_start_ms: i64,
    ) -> Result<Vec<Session>> {
        let segments = self.retention.segments();
        let live = segments.of(self.expired_ms().max(0)).saturating_mul(segments.interval_ms());
        self.find_from(key, earliest_end_ms.max(live), latest_start_ms)
    }

    fn find_from(&self, key: &[u8], from_ms: i64, latest_start_ms: i64) -> Result<Vec<Session>> {
        let mut found = Vec::new();
        let Some(observed_ms) = self.observed_ms else { return Ok(found) };
        let (from_ms, segments) = (from_ms.max(0), self.retention.segments());
        if from_ms > observed_ms {
            return Ok(found);
        }
        for segment in segments.of(from_ms)..=segments.of(observed_ms) {
            let range = key_range(segment, key, from_ms, observed_ms);
            let mut rows = self.rows.scan(range, Direction::Forward)?;
            while rows.advance()? {
                if !belongs_to(rows.key(), key.len()) {
                    continue;
                }
                let (_, start_ms, end_ms) = decode(rows.key())?;
                if (from_ms..=observed_ms).contains(&end_ms) && start_ms <= latest_start_ms {
                    found.push(Session { start_ms, end_ms, value: rows.value().to_vec() });
                }
            }
        }
        Ok(found)
    }
}

/// A session store of one partition.
#[derive(Debug)]
pub struct SessionStore {
    state: StorePartition,
    retention: WindowRetention,
    time_first: bool,
}

impl SessionStore {
    /// A session store over this partition. `time_first`: it can be asked which sessions end by a
    /// time ([`StorePartition::derived_up_to`]), until their derived rows are taken off.
    ///
    /// # Errors
    /// `Invalid` when the retention is negative; `NewerFormat`, `Corruption`, or the database's own.
    pub fn new(mut state: StorePartition, retention_ms: i64, time_first: bool) -> Result<Self> {
        let retention = state.keep_for(retention_ms)?;
        Ok(Self { state, retention, time_first })
    }

    /// The partition below: savepoints, commits, positions, rewind.
    pub fn state(&self) -> &StorePartition {
        &self.state
    }

    /// The partition below, to be changed.
    pub fn state_mut(&mut self) -> &mut StorePartition {
        &mut self.state
    }

    /// How long sessions are kept.
    pub fn retention(&self) -> WindowRetention {
        self.retention
    }

    /// Reads of what is there now.
    pub fn reads(&self) -> SessionReads<'_, StorePartition> {
        let observed_ms = self.state.observed_ms();
        SessionReads { rows: &self.state, retention: self.retention(), observed_ms }
    }

    /// Sets (or, with `None`, deletes) one session's value and moves observed stream time up to its
    /// end.
    ///
    /// # Errors
    /// `Invalid` when the key is too long for a store.
    pub fn put(
        &mut self,
        key: &[u8],
        start_ms: i64,
        end_ms: i64,
        value: Option<&[u8]>,
    ) -> Result<PutOutcome> {
        check_key(key)?;
        if start_ms < 0 || end_ms < start_ms {
            return Ok(PutOutcome::Expired);
        }
        self.state.observe(end_ms);
        let segments = self.retention().segments();
        let expired_ms = self.reads().expired_ms();
        if expired_ms >= 0 && segments.of(end_ms) < segments.of(expired_ms) {
            return Ok(PutOutcome::Expired);
        }
        let row = store_key(segments, key, start_ms, end_ms);
        let derived = self.time_first.then(|| derived_key(key, start_ms, end_ms));
        match value {
            Some(value) => self.state.overlay.put(&row, value),
            None => self.state.overlay.delete(&row),
        }
        if let Some(derived) = derived {
            match value {
                Some(_) => self.state.overlay.put(&derived, &[]),
                None => self.state.overlay.delete(&derived),
            }
        }
        Ok(PutOutcome::Stored)
    }

    /// Applies one record of the store's changelog, for restoring: its key is Kafka's
    /// `key | end | start`.
    ///
    /// # Errors
    /// `Corruption` when the key is no session key, else as [`SessionStore::put`].
    pub fn apply_changelog(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<PutOutcome> {
        let (key, start_ms, end_ms) = decode_changelog_key(key)?;
        self.put(key, start_ms, end_ms, value)
    }
}

/// The derived row of a session: `end | start | key`.
fn derived_key(key: &[u8], start_ms: i64, end_ms: i64) -> Vec<u8> {
    time_first::key(end_ms, &[&start_ms.to_be_bytes(), key].concat())
}

/// What a derived row's rest says: key and start of the session.
///
/// # Errors
/// `Corruption` when it is too short.
pub fn decode_derived(rest: &[u8]) -> Result<(&[u8], i64)> {
    let (start, key) = rest.split_first_chunk::<8>().ok_or_else(|| {
        crate::error::StateError::corrupt("a session by time", "it has no start".to_owned())
    })?;
    Ok((key, i64::from_be_bytes(*start)))
}

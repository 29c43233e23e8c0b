//! Session stores: one value for each key and session. Own (de)serialising; expiry is the state
//! crate's.

use std::fmt;

use headwater_state::layout::time_first;
use headwater_state::store::{
    PutOutcome, Session, SessionStore as Bytes, StorePartition, decode_derived_session,
};

use super::StateStore;
use super::error::NodeError;
use super::spec::SessionSpec;
use super::typed::{Opening, Typed};
use crate::record::{Window, Windowed};

/// A store from keys and sessions to values, one partition of it. A session's `start` and `end` are
/// the times of its first and last record.
///
/// The store's clock is the greatest end put into it. Sessions with `end <= clock - retention` can no
/// longer be read (Kafka Streams' `RocksDBSessionStore`).
pub struct SessionStore<K, V> {
    typed: Typed<Bytes, K, V>,
}

/// A session that closes, with its value if it can still be read.
pub(crate) type ClosingSession<K, V> = (Windowed<K>, Option<V>);

/// A session and its value.
type Found<V> = (Window, V);

impl<K: 'static, V: 'static> SessionStore<K, V> {
    pub(crate) fn new(opening: Opening<K, V>, spec: SessionSpec) -> Result<Self, NodeError> {
        let SessionSpec { retention_ms, closing } = spec;
        Ok(Self { typed: opening.try_over(|state| Bytes::new(state, retention_ms, closing))? })
    }

    /// The value of one session.
    ///
    /// # Errors
    /// The key or value cannot be (de)serialised, or the state failed. Pass it on with `?`.
    pub fn fetch(&mut self, key: &K, session: Window) -> Result<Option<V>, NodeError> {
        let key = self.typed.keys.encode(key)?;
        match self.typed.bytes.reads().fetch(key, session.start, session.end)? {
            Some(value) => Ok(Some(self.typed.value.decode(Some(&value))?)),
            None => Ok(None),
        }
    }

    /// As [`fetch`](Self::fetch), also if the session can no longer be read but is still there.
    pub(crate) fn fetch_hidden(
        &mut self,
        key: &K,
        session: Window,
    ) -> Result<Option<V>, NodeError> {
        let key = self.typed.keys.encode(key)?;
        let found = self.typed.bytes.reads().fetch_hidden(key, session.start, session.end)?;
        Ok(found.map(|value| self.typed.value.decode(Some(&value))).transpose()?)
    }

    /// A key's sessions that end at `earliest_end` or later and start at `latest_start` or earlier,
    /// in milliseconds, by end, then start.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    pub fn find(
        &mut self,
        key: &K,
        earliest_end: i64,
        latest_start: i64,
    ) -> Result<Vec<Found<V>>, NodeError> {
        let key = self.typed.keys.encode(key)?;
        let found = self.typed.bytes.reads().find(key, earliest_end, latest_start)?;
        self.decode_all(found)
    }

    /// As [`find`](Self::find), with sessions that are there but can no longer be read.
    pub(crate) fn find_hidden(
        &mut self,
        key: &K,
        earliest_end: i64,
        latest_start: i64,
    ) -> Result<Vec<Found<V>>, NodeError> {
        let key = self.typed.keys.encode(key)?;
        let found = self.typed.bytes.reads().find_hidden(key, earliest_end, latest_start)?;
        self.decode_all(found)
    }

    fn decode_all(&self, found: Vec<Session>) -> Result<Vec<Found<V>>, NodeError> {
        let one = |session: Session| {
            let window = Window { start: session.start_ms, end: session.end_ms };
            Ok((window, self.typed.value.decode(Some(&session.value))?))
        };
        found.into_iter().map(one).collect()
    }

    /// The row of a session as it is stored.
    pub(crate) fn row(&mut self, key: &K, session: Window) -> Result<Option<Box<[u8]>>, NodeError> {
        let key = self.typed.keys.encode(key)?;
        let found = self.typed.bytes.reads().fetch(key, session.start, session.end)?;
        Ok(found.map(|row| Box::from(&*row)))
    }

    /// Reads what [`row`](Self::row) gave.
    pub(crate) fn decode_row(&self, row: &[u8]) -> Result<V, NodeError> {
        Ok(self.typed.value.decode(Some(row))?)
    }

    /// Sets the value of a session, or deletes it with `None`. False if the session is so far past
    /// retention that nothing was stored.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    pub fn put(&mut self, key: &K, session: Window, value: Option<&V>) -> Result<bool, NodeError> {
        let key = self.typed.keys.encode(key)?;
        self.typed.value_buffer.clear();
        let value = match value {
            Some(value) => self.typed.value.encode(value, &mut self.typed.value_buffer)?,
            None => None,
        };
        let outcome = self.typed.bytes.put(key, session.start, session.end, value)?;
        Ok(outcome == PutOutcome::Stored)
    }

    /// Takes up to `limit` sessions that end by `to`, by end, start and key: each is given once,
    /// with its value if it can still be read.
    pub(crate) fn take_closing(
        &mut self,
        to: i64,
        limit: usize,
    ) -> Result<Vec<ClosingSession<K, V>>, NodeError> {
        let mut taken = Vec::new();
        let mut derived = self.typed.bytes.state().derived_up_to(to)?;
        let mut rows = Vec::new();
        while rows.len() < limit && derived.advance()? {
            rows.push(derived.key().to_vec());
        }
        drop(derived);
        for row in rows {
            let (end, rest) = time_first::decode(&row)?;
            let (key, start) = decode_derived_session(rest)?;
            let value = self.typed.bytes.reads().fetch(key, start, end)?;
            let value = value.map(|v| self.typed.value.decode(Some(&v))).transpose()?;
            let window = Window { start, end };
            taken.push((Windowed { key: self.typed.keys.decode(key)?, window }, value));
            self.typed.bytes.state_mut().delete(&row)?;
        }
        Ok(taken)
    }
}

impl<K, V> fmt::Debug for SessionStore<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionStore({})", self.typed.keys.store())
    }
}

impl<K: 'static, V: 'static> StateStore for SessionStore<K, V> {
    fn name(&self) -> &str {
        self.typed.keys.store()
    }

    fn state(&self) -> &StorePartition {
        self.typed.bytes.state()
    }

    fn state_mut(&mut self) -> &mut StorePartition {
        self.typed.bytes.state_mut()
    }
}

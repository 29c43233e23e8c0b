//! Versioned stores: the values that a key had, each since a time. Own (de)serialising; history and
//! expiry are the state crate's.

use std::fmt;

use headwater_state::store::{PutOutcome, StorePartition, Version, VersionedStore as Bytes};

use super::StateStore;
use super::error::NodeError;
use super::typed::{Opening, Typed};

/// A store from keys to the values they had, one partition of it.
///
/// The store's clock is the greatest time put into it. Lookups as of times from `clock - history` on
/// find what was valid then; a put before that is refused (Kafka Streams' `VersionedKeyValueStore`,
/// KIP-889).
pub struct VersionedStore<K, V> {
    typed: Typed<Bytes, K, V>,
}

impl<K: 'static, V: 'static> VersionedStore<K, V> {
    pub(crate) fn new(opening: Opening<K, V>, history_ms: i64) -> Self {
        Self { typed: opening.over(|state| Bytes::new(state, history_ms)) }
    }

    fn decode(&self, version: Option<Version>) -> Result<Option<(V, i64)>, NodeError> {
        let Some(Version { since_ms, value: Some(value) }) = version else { return Ok(None) };
        Ok(Some((self.typed.value.decode(Some(&value))?, since_ms)))
    }

    /// The latest value of a key and since when it is valid, in milliseconds.
    ///
    /// # Errors
    /// The key or value cannot be (de)serialised, or the state failed. Pass it on with `?`.
    pub fn get(&mut self, key: &K) -> Result<Option<(V, i64)>, NodeError> {
        let found = self.typed.bytes.reads().latest(self.typed.keys.encode(key)?)?;
        self.decode(found)
    }

    /// The value of a key that was valid at a time. Before the history only the latest is found, if
    /// it began by then.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_as_of(&mut self, key: &K, time: i64) -> Result<Option<(V, i64)>, NodeError> {
        let found = self.typed.bytes.reads().as_of(self.typed.keys.encode(key)?, time)?;
        self.decode(found)
    }

    /// A later version of the key, or its deletion, is known than one of this time.
    pub(crate) fn knows_later(&mut self, key: &K, time: i64) -> Result<bool, NodeError> {
        let latest = self.typed.bytes.reads().latest(self.typed.keys.encode(key)?)?;
        Ok(latest.is_some_and(|latest| latest.since_ms > time))
    }

    /// Sets the value of a key since a time, or deletes it with `None`. False if that is before the
    /// history: nothing was stored.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn put(&mut self, key: &K, value: Option<&V>, since: i64) -> Result<bool, NodeError> {
        let key = self.typed.keys.encode(key)?;
        self.typed.value_buffer.clear();
        let value = match value {
            Some(value) => self.typed.value.encode(value, &mut self.typed.value_buffer)?,
            None => None,
        };
        Ok(self.typed.bytes.put(key, since, value)? == PutOutcome::Stored)
    }
}

impl<K, V> fmt::Debug for VersionedStore<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VersionedStore({})", self.typed.keys.store())
    }
}

impl<K: 'static, V: 'static> StateStore for VersionedStore<K, V> {
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

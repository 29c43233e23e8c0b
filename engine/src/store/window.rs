//! Window stores: one value for each key and window start, plain and with a timestamp beside each
//! value. Own (de)serialising; expiry is the state crate's.

use std::fmt;

use headwater_state::database::Direction;
use headwater_state::layout::time_first;
use headwater_state::store::{PutOutcome, StorePartition, WindowStore as Bytes};

use super::StateStore;
use super::error::NodeError;
use super::key_value::{decode_timestamped, encode_timestamped};
use super::typed::{Opening, Typed};

/// A store from keys and window starts to values, one partition of it.
///
/// The store's clock is the greatest start put into it. Windows with `start <= clock - retention`
/// can no longer be read, by anyone (Kafka Streams' `RocksDBWindowStore`).
pub struct WindowStore<K, V> {
    typed: Typed<Bytes, K, V>,
}

/// A [`WindowStore`] that also keeps the time of each value: what windowed tables keep.
pub struct TimestampedWindowStore<K, V> {
    typed: Typed<Bytes, K, V>,
}

/// Start and row.
pub(crate) type WindowRow = (i64, Box<[u8]>);

/// Key, start, and value with its time unless it is lost.
pub(crate) type ClosingWindow<K, V> = (K, i64, Option<(V, i64)>);

impl<K: 'static, V: 'static> WindowStore<K, V> {
    pub(crate) fn new(opening: Opening<K, V>, retention_ms: i64) -> Result<Self, NodeError> {
        Ok(Self { typed: opening.try_over(|state| Bytes::new(state, retention_ms))? })
    }

    /// The value of a key's window.
    ///
    /// # Errors
    /// The key or value cannot be (de)serialised, or the state failed. Pass it on with `?`.
    pub fn fetch(&mut self, key: &K, start: i64) -> Result<Option<V>, NodeError> {
        let s = &mut self.typed;
        match s.bytes.fetch(s.keys.encode(key)?, start)? {
            Some(value) => Ok(Some(s.value.decode(Some(&value))?)),
            None => Ok(None),
        }
    }

    /// A key's windows with starts from `from` to `to`, both included, by start.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    pub fn fetch_range(&mut self, key: &K, from: i64, to: i64) -> Result<Vec<(i64, V)>, NodeError> {
        let s = &mut self.typed;
        let key = s.keys.encode(key)?;
        let reads = s.bytes.reads();
        let mut cursor = reads.fetch_range(key, from, to, Direction::Forward)?;
        let mut found = Vec::new();
        while cursor.advance()? {
            found.push((cursor.start_ms(), s.value.decode(Some(cursor.value()))?));
        }
        Ok(found)
    }

    /// Sets the value of a key's window, or deletes it with `None`. False if the window is past
    /// retention: nothing was stored.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    pub fn put(&mut self, key: &K, start: i64, value: Option<&V>) -> Result<bool, NodeError> {
        let s = &mut self.typed;
        let key = s.keys.encode(key)?;
        s.value_buffer.clear();
        let value = match value {
            Some(value) => s.value.encode(value, &mut s.value_buffer)?,
            None => None,
        };
        Ok(s.bytes.put(key, start, value)? == PutOutcome::Stored)
    }
}

impl<K: 'static, V: 'static> TimestampedWindowStore<K, V> {
    pub(crate) fn new(opening: Opening<K, V>, retention_ms: i64) -> Result<Self, NodeError> {
        Ok(Self { typed: opening.try_over(|state| Bytes::new(state, retention_ms))? })
    }

    /// The same store, whose windows are found when they close.
    pub(crate) fn time_first(mut self) -> Self {
        self.typed.bytes = self.typed.bytes.time_first();
        self
    }

    /// Takes up to `limit` windows that start by `to`, by start, then key: each is given once, with
    /// its value and time unless it is past retention.
    pub(crate) fn take_closing(
        &mut self,
        to: i64,
        limit: usize,
    ) -> Result<Vec<ClosingWindow<K, V>>, NodeError> {
        let s = &mut self.typed;
        let mut derived = s.bytes.state().derived_up_to(to)?;
        let mut rows = Vec::new();
        while rows.len() < limit && derived.advance()? {
            rows.push(derived.key().to_vec());
        }
        drop(derived);
        let mut taken = Vec::new();
        for row in rows {
            let (start, key) = time_first::decode(&row)?;
            let value = match s.bytes.fetch_closing(key, start)? {
                Some(stored) => Some(decode_timestamped(s.keys.store(), &s.value, &stored)?),
                None => None,
            };
            taken.push((s.keys.decode(key)?, start, value));
            s.bytes.state_mut().delete(&row)?;
        }
        Ok(taken)
    }

    /// A key's windows with starts from `from` to `to`, both included, by start: start and row.
    pub(crate) fn range_rows(
        &mut self,
        key: &K,
        from: i64,
        to: i64,
    ) -> Result<Vec<WindowRow>, NodeError> {
        let s = &mut self.typed;
        let key = s.keys.encode(key)?;
        let reads = s.bytes.reads();
        let mut cursor = reads.fetch_range(key, from, to, Direction::Forward)?;
        let mut found = Vec::new();
        while cursor.advance()? {
            found.push((cursor.start_ms(), Box::from(cursor.value())));
        }
        Ok(found)
    }

    /// The value of a key's window and its time.
    ///
    /// # Errors
    /// The key or value cannot be (de)serialised, or the state failed. Pass it on with `?`.
    pub fn fetch(&mut self, key: &K, start: i64) -> Result<Option<(V, i64)>, NodeError> {
        let s = &mut self.typed;
        match s.bytes.fetch(s.keys.encode(key)?, start)? {
            Some(stored) => decode_timestamped(s.keys.store(), &s.value, &stored).map(Some),
            None => Ok(None),
        }
    }

    /// The row of a key's window as it is stored: timestamp and value.
    pub(crate) fn row(&mut self, key: &K, start: i64) -> Result<Option<Box<[u8]>>, NodeError> {
        let s = &mut self.typed;
        Ok(s.bytes.fetch(s.keys.encode(key)?, start)?.map(|row| Box::from(&*row)))
    }

    /// Reads what [`row`](Self::row) gave.
    pub(crate) fn decode_row(&self, row: &[u8]) -> Result<(V, i64), NodeError> {
        decode_timestamped(self.typed.keys.store(), &self.typed.value, row)
    }

    /// Sets the value of a key's window at this time, or deletes it with `None`. False if the
    /// window is past retention: nothing was stored.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    pub fn put(
        &mut self,
        key: &K,
        start: i64,
        value: Option<&V>,
        timestamp: i64,
    ) -> Result<bool, NodeError> {
        let s = &mut self.typed;
        let key = s.keys.encode(key)?;
        s.value_buffer.clear();
        let kept = match value {
            Some(value) => encode_timestamped(&s.value, value, timestamp, &mut s.value_buffer)?,
            None => false,
        };
        let value = kept.then_some(&*s.value_buffer);
        Ok(s.bytes.put(key, start, value)? == PutOutcome::Stored)
    }
}

macro_rules! window_state_store {
    ($store:ident) => {
        impl<K, V> fmt::Debug for $store<K, V> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($store), "({})"), self.typed.keys.store())
            }
        }

        impl<K: 'static, V: 'static> StateStore for $store<K, V> {
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
    };
}

window_state_store!(WindowStore);
window_state_store!(TimestampedWindowStore);

//! Key-value stores, plain and with a timestamp beside each value. Own (de)serialising of keys and
//! values; know nothing of who reads them.

use std::fmt;
use std::ops::Bound;

use headwater_state::database::Direction;
use headwater_state::layout::{successor, timestamped};
use headwater_state::store::{KeyValueReads, KeyValueStore as Bytes, StorePartition};

use super::StateStore;
use super::error::NodeError;
use super::typed::{Opening, Typed};
use crate::serde::SharedSerde;

/// A store from keys to values, one partition of it. Writes are visible to this task at once and to
/// everyone else after the commit.
pub struct KeyValueStore<K, V> {
    typed: Typed<Bytes, K, V>,
}

impl<K, V> fmt::Debug for KeyValueStore<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyValueStore({})", self.typed.keys.store())
    }
}

impl<K: 'static, V: 'static> KeyValueStore<K, V> {
    pub(crate) fn new(opening: Opening<K, V>) -> Self {
        Self { typed: opening.over(Bytes::new) }
    }

    /// The value of a key.
    ///
    /// # Errors
    /// The key or value cannot be (de)serialised, or the state failed. Pass it on with `?`.
    pub fn get(&mut self, key: &K) -> Result<Option<V>, NodeError> {
        match self.typed.bytes.get(self.typed.keys.encode(key)?)? {
            Some(value) => Ok(Some(self.typed.value.decode(Some(&value))?)),
            None => Ok(None),
        }
    }

    /// Sets a key. A value that its serde takes for null deletes it.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn put(&mut self, key: &K, value: &V) -> Result<(), NodeError> {
        let key = self.typed.keys.encode(key)?;
        self.typed.value_buffer.clear();
        match self.typed.value.encode(value, &mut self.typed.value_buffer)? {
            Some(value) => self.typed.bytes.put(key, value)?,
            None => self.typed.bytes.delete(key)?,
        }
        Ok(())
    }

    /// Deletes a key.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn delete(&mut self, key: &K) -> Result<(), NodeError> {
        self.typed.bytes.delete(self.typed.keys.encode(key)?)?;
        Ok(())
    }

    /// Up to `limit` entries whose keys come after `after`, in the order of the keys' bytes. Give
    /// the last key of one page to get the next.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn page(&mut self, after: Option<&K>, limit: usize) -> Result<Vec<(K, V)>, NodeError> {
        let from = match after {
            None => Bound::Unbounded,
            Some(key) => Bound::Excluded(self.typed.keys.encode(key)?.to_vec()),
        };
        let mut page = Vec::new();
        let mut cursor = self.typed.bytes.state().range(
            from.as_ref().map(Vec::as_slice),
            Bound::Unbounded,
            Direction::Forward,
        )?;
        while page.len() < limit && cursor.advance()? {
            let key = self.typed.keys.decode(cursor.key())?;
            page.push((key, self.typed.value.decode(Some(cursor.value()))?));
        }
        Ok(page)
    }
}

impl<K: 'static, V: 'static> StateStore for KeyValueStore<K, V> {
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

/// A store from keys to values and the time of their last change: what tables keep.
///
/// Source: `TimestampedKeyValueStore` (KIP-258).
pub struct TimestampedKeyValueStore<K, V> {
    typed: Typed<Bytes, K, V>,
}

impl<K, V> fmt::Debug for TimestampedKeyValueStore<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimestampedKeyValueStore({})", self.typed.keys.store())
    }
}

impl<K: 'static, V: 'static> TimestampedKeyValueStore<K, V> {
    pub(crate) fn new(opening: Opening<K, V>) -> Self {
        Self { typed: opening.over(Bytes::new) }
    }

    /// The value of a key and its time in milliseconds.
    ///
    /// # Errors
    /// The key or value cannot be (de)serialised, or the state failed. Pass it on with `?`.
    pub fn get(&mut self, key: &K) -> Result<Option<(V, i64)>, NodeError> {
        match self.typed.bytes.get(self.typed.keys.encode(key)?)? {
            Some(stored) => {
                decode_timestamped(self.typed.keys.store(), &self.typed.value, &stored).map(Some)
            }
            None => Ok(None),
        }
    }

    /// The row of a key as it is stored: timestamp and value.
    pub(crate) fn row(&mut self, key: &K) -> Result<Option<Box<[u8]>>, NodeError> {
        Ok(self.typed.bytes.get(self.typed.keys.encode(key)?)?.map(|row| Box::from(&*row)))
    }

    /// Reads what [`row`](Self::row) gave.
    pub(crate) fn decode_row(&self, row: &[u8]) -> Result<(V, i64), NodeError> {
        decode_timestamped(self.typed.keys.store(), &self.typed.value, row)
    }

    /// Sets a key at this time. A value that its serde takes for null deletes it.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn put(&mut self, key: &K, value: &V, timestamp: i64) -> Result<(), NodeError> {
        let key = self.typed.keys.encode(key)?;
        self.typed.value_buffer.clear();
        if encode_timestamped(&self.typed.value, value, timestamp, &mut self.typed.value_buffer)? {
            self.typed.bytes.put(key, &self.typed.value_buffer)?;
        } else {
            self.typed.bytes.delete(key)?;
        }
        Ok(())
    }

    /// Deletes a key.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn delete(&mut self, key: &K) -> Result<(), NodeError> {
        self.typed.bytes.delete(self.typed.keys.encode(key)?)?;
        Ok(())
    }
}

impl<V: 'static> TimestampedKeyValueStore<Vec<u8>, V> {
    /// Up to `limit` rows whose keys begin with `prefix` and come after `after`, in their order.
    pub(crate) fn prefix_page(
        &mut self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, V)>, NodeError> {
        let from = after.map_or(Bound::Included(prefix), Bound::Excluded);
        let end = successor(prefix);
        let to = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut cursor = self.typed.bytes.state().range(from, to, Direction::Forward)?;
        let mut page = Vec::new();
        while page.len() < limit && cursor.advance()? {
            let (value, _) = self.decode_row(cursor.value())?;
            page.push((cursor.key().to_vec(), value));
        }
        Ok(page)
    }
}

impl<K: 'static, V: 'static> StateStore for TimestampedKeyValueStore<K, V> {
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

/// Appends timestamp and value; false if the value stands for null (then nothing is to be kept).
pub(super) fn encode_timestamped<V: 'static>(
    serde: &SharedSerde<V>,
    value: &V,
    timestamp: i64,
    into: &mut Vec<u8>,
) -> Result<bool, NodeError> {
    timestamped::encode(timestamp, &[], into);
    Ok(serde.encode(value, into)?.is_some())
}

/// Reads timestamp and value of a row.
pub(super) fn decode_timestamped<V: 'static>(
    store: &str,
    serde: &SharedSerde<V>,
    stored: &[u8],
) -> Result<(V, i64), NodeError> {
    let (timestamp, value) = timestamped::decode(stored).ok_or_else(|| {
        let n = stored.len();
        NodeError::message(format!(
            "a row of store `{store}` has {n} bytes, no timestamp: it is damaged"
        ))
    })?;
    Ok((serde.decode(Some(value))?, timestamp))
}

//! Suppress buffers: changes of a table that wait, one for each key, by a time. Own (de)serialising
//! and Kafka Streams' form of a waiting change; know nothing of when one is due.
//!
//! Source: `InMemoryTimeOrderedKeyValueChangeBuffer`. Here a buffer is a store like any other: what
//! waits is on disk, and no more of it is in memory than the overlay and the caches hold.

use std::fmt;

use headwater_state::store::{Buffer, BufferTotals, Held, StorePartition};

use super::StateStore;
use super::error::NodeError;
use super::typed::{Opening, Typed};
use crate::record::{Change, Headers, Place};
use crate::serde::kafka_streams::BufferValue;

/// The waiting changes of one partition of a table.
pub struct SuppressBuffer<K, V> {
    typed: Typed<Buffer, K, V>,
}

/// A change that was taken out.
pub(crate) struct Waiting<K, V> {
    pub(crate) key: K,
    pub(crate) old: Option<V>,
    pub(crate) new: Option<V>,
    pub(crate) timestamp: i64,
    pub(crate) headers: Headers,
}

impl<K: 'static, V: 'static> SuppressBuffer<K, V> {
    pub(crate) fn new(opening: Opening<K, V>) -> Self {
        Self { typed: opening.over(Buffer::new) }
    }

    /// Lets a change wait. If one of its key waits already it takes that one's place, at its time.
    pub(crate) fn put(
        &mut self,
        change: Change<'_, K, V>,
        time: i64,
        place: Option<&Place>,
    ) -> Result<(), NodeError> {
        let key = self.typed.keys.encode(change.key)?;
        let bytes = |value: &Option<V>| match value {
            Some(value) => self.typed.value.to_bytes(value),
            None => Ok(None),
        };
        let (old, new) = (bytes(change.old)?, bytes(change.new)?);
        let held = self.typed.bytes.get(key)?;
        let earlier = held.as_ref().map(|(_, held)| BufferValue::decode(held)).transpose()?;
        let (time, prior) = match (&held, &earlier) {
            (Some((time, _)), Some(earlier)) => (*time, earlier.prior),
            _ => (time, old.as_deref()),
        };
        let (offset, topic, partition) = match place {
            None => (-1, "", -1),
            Some(Place { partition, offset }) => {
                (*offset, &*partition.topic, i32::try_from(partition.partition)?)
            }
        };
        let mut row = Vec::new();
        BufferValue {
            timestamp: change.timestamp,
            offset,
            topic,
            partition,
            headers: change.headers.clone(),
            prior,
            old: old.as_deref(),
            new: new.as_deref(),
            buffer_time: time,
        }
        .encode(&mut row)?;
        Ok(self.typed.bytes.put(key, time, &row)?)
    }

    /// Takes out the change of the least time, then key, if that time is not after `to`.
    pub(crate) fn take_up_to(&mut self, to: i64) -> Result<Option<Waiting<K, V>>, NodeError> {
        let Some(Held { key, value, .. }) = self.typed.bytes.first_up_to(to)? else {
            return Ok(None);
        };
        self.typed.bytes.remove(&key)?;
        let held = BufferValue::decode(&value)?;
        let decode = |bytes: Option<&[u8]>| {
            bytes.map(|bytes| self.typed.value.decode(Some(bytes))).transpose()
        };
        Ok(Some(Waiting {
            key: self.typed.keys.decode(&key)?,
            old: decode(held.old)?,
            new: decode(held.new)?,
            timestamp: held.timestamp,
            headers: held.headers,
        }))
    }

    /// The row that was sent on last for a key that waits; `None` if none waits.
    pub(crate) fn prior(&mut self, key: &K) -> Result<Option<Option<V>>, NodeError> {
        let Some((_, held)) = self.typed.bytes.get(self.typed.keys.encode(key)?)? else {
            return Ok(None);
        };
        let held = BufferValue::decode(&held)?;
        Ok(Some(held.prior.map(|prior| self.typed.value.decode(Some(prior))).transpose()?))
    }

    /// How much waits.
    pub(crate) fn totals(&self) -> Result<BufferTotals, NodeError> {
        Ok(self.typed.bytes.totals()?)
    }
}

impl<K, V> fmt::Debug for SuppressBuffer<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SuppressBuffer({})", self.typed.keys.store())
    }
}

impl<K: 'static, V: 'static> StateStore for SuppressBuffer<K, V> {
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

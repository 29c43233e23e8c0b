//! Stores of stream-stream joins: every record of one side within the join's window, duplicates
//! included; and what of both sides has found no match yet. Own (de)serialising; expiry is the state
//! crate's, and when a record counts as unmatched is the join's.
//!
//! Source: Kafka Streams' window stores with `retainDuplicates`, and the list-value store behind
//! outer joins (`TimestampedKeyAndJoinSide` to a list of `LeftOrRightValue`).

use std::fmt;

use headwater_state::database::Direction;
use headwater_state::store::{PutOutcome, StorePartition, WindowStore as Bytes};

use super::StateStore;
use super::error::NodeError;
use super::key_value::KeyValueStore;
use super::typed::{Opening, Typed};
use crate::serde::kafka_streams::{
    JoinSide, JoinSideKey, decode_join_side_values, encode_join_side_values,
};
use crate::serde::{Serde, SerdeError};

/// One side's records by key and time; equal ones lie side by side, in the order they came.
///
/// The store's clock is the greatest time put into it; records with `time <= clock - retention` can
/// no longer be read.
pub struct JoinWindowStore<K, V> {
    typed: Typed<Bytes, K, V>,
}

impl<K, V> fmt::Debug for JoinWindowStore<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinWindowStore({})", self.typed.keys.store())
    }
}

impl<K: 'static, V: 'static> JoinWindowStore<K, V> {
    pub(crate) fn new(opening: Opening<K, V>, retention_ms: i64) -> Result<Self, NodeError> {
        Ok(Self { typed: opening.try_over(|state| Bytes::new(state, retention_ms))? })
    }

    /// A key's records with times from `from` to `to`, both included, by time and then arrival.
    pub(crate) fn fetch(
        &mut self,
        key: &K,
        from: i64,
        to: i64,
    ) -> Result<Vec<(i64, V)>, NodeError> {
        let key = self.typed.keys.encode(key)?;
        let reads = self.typed.bytes.reads();
        let mut cursor = reads.fetch_range(key, from, to, Direction::Forward)?;
        let mut found = Vec::new();
        while cursor.advance()? {
            found.push((cursor.start_ms(), self.typed.value.decode(Some(cursor.value()))?));
        }
        Ok(found)
    }

    /// Adds a record. `sequence` tells it from others of this key and time, and orders them. False
    /// if the time is past retention: nothing was stored.
    pub(crate) fn put(
        &mut self,
        key: &K,
        time: i64,
        sequence: u32,
        value: &V,
    ) -> Result<bool, NodeError> {
        let key = self.typed.keys.encode(key)?;
        self.typed.value_buffer.clear();
        let value = self.typed.value.encode(value, &mut self.typed.value_buffer)?;
        Ok(self.typed.bytes.put_duplicate(key, time, sequence, value)? == PutOutcome::Stored)
    }
}

impl<K: 'static, V: 'static> StateStore for JoinWindowStore<K, V> {
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

/// What of both sides waits for a match.
pub(crate) type WaitingStore = KeyValueStore<WaitingKey, WaitingValues>;

/// The key under which unmatched records wait: in order of time, right before left, key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WaitingKey {
    pub(crate) timestamp: i64,
    pub(crate) side: JoinSide,
    /// Encoded.
    pub(crate) key: Vec<u8>,
}

/// The values that wait under one key, encoded, in the order they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WaitingValues {
    pub(crate) side: JoinSide,
    pub(crate) values: Vec<Vec<u8>>,
}

/// Reads and writes both.
pub(crate) struct WaitingSerde;

impl Serde<WaitingKey> for WaitingSerde {
    fn serialize(&self, value: &WaitingKey, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        let WaitingKey { timestamp, side, ref key } = *value;
        JoinSideKey { timestamp, side, key }.encode(into);
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<WaitingKey, SerdeError> {
        let JoinSideKey { timestamp, side, key } = JoinSideKey::decode(bytes)?;
        Ok(WaitingKey { timestamp, side, key: key.to_vec() })
    }
}

impl Serde<WaitingValues> for WaitingSerde {
    fn serialize(&self, value: &WaitingValues, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        let values: Vec<_> = value.values.iter().map(Vec::as_slice).collect();
        encode_join_side_values(value.side, &values, into)
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<WaitingValues, SerdeError> {
        let found = decode_join_side_values(bytes)?;
        let side = found.first().map_or(JoinSide::Left, |(side, _)| *side);
        let values = found.into_iter().map(|(_, value)| value.to_vec()).collect();
        Ok(WaitingValues { side, values })
    }
}

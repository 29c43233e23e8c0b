//! Join buffers: records of a stream that wait for late rows of a table, by time. Own (de)serialising
//! and Kafka Streams' form of a waiting record; know nothing of when one is due.
//!
//! Source: `RocksDBTimeOrderedKeyValueBuffer`. A row's key, `time | key | sequence`, and its value are
//! the bytes of its changelog record.

use std::fmt;
use std::ops::Bound;

use headwater_state::database::Direction;
use headwater_state::store::{KeyValueReads, StorePartition};

use super::StateStore;
use super::error::NodeError;
use super::typed::{Opening, Typed};
use crate::record::{Headers, Place, Record};
use crate::serde::kafka_streams::BufferValue;

/// A buffered value ends with a time that a join's buffer leaves out.
const TIME_BYTES: usize = 8;

/// The waiting records of one partition of a stream.
pub struct JoinBuffer<K, V> {
    typed: Typed<StorePartition, K, V>,
}

/// A record that was taken out.
pub(crate) struct WaitingRecord<K, V> {
    pub(crate) key: K,
    pub(crate) value: V,
    pub(crate) timestamp: i64,
    pub(crate) headers: Headers,
}

impl<K: 'static, V: 'static> JoinBuffer<K, V> {
    pub(crate) fn new(opening: Opening<K, V>) -> Self {
        Self { typed: opening.over(|state| state) }
    }

    /// Lets a record wait; `sequence` orders records of equal time and key.
    pub(crate) fn put(
        &mut self,
        record: Record<'_, K, V>,
        sequence: u32,
        place: Option<&Place>,
    ) -> Result<(), NodeError> {
        let (time, key) = (record.timestamp, self.typed.keys.encode(record.key)?);
        let row_key = [&time.to_be_bytes(), key, &sequence.to_be_bytes()].concat();
        let value = self.typed.value.to_bytes(record.value)?;
        let (offset, topic, partition) = match place {
            None => (-1, "", -1),
            Some(Place { partition, offset }) => {
                (*offset, &*partition.topic, i32::try_from(partition.partition)?)
            }
        };
        let mut row = Vec::new();
        BufferValue {
            timestamp: time,
            offset,
            topic,
            partition,
            headers: record.headers.clone(),
            prior: None,
            old: None,
            new: value.as_deref(),
            buffer_time: time,
        }
        .encode(&mut row)?;
        row.truncate(row.len() - TIME_BYTES);
        Ok(self.typed.bytes.put(&row_key, &row)?)
    }

    /// Takes out the record of the least time, then key, then sequence, if that time is not after
    /// `to`.
    pub(crate) fn take_up_to(&mut self, to: i64) -> Result<Option<WaitingRecord<K, V>>, NodeError> {
        let Some(end) = to.checked_add(1).filter(|end| *end > 0) else { return Ok(None) };
        let end = end.to_be_bytes();
        let (from, to) = (Bound::Unbounded, Bound::Excluded(&end[..]));
        let mut rows = self.typed.bytes.range(from, to, Direction::Forward)?;
        if !rows.advance()? {
            return Ok(None);
        }
        let (row_key, mut row) = (rows.key().to_vec(), rows.value().to_vec());
        drop(rows);
        self.typed.bytes.delete(&row_key)?;
        row.extend_from_slice(&[0; TIME_BYTES]);
        let held = BufferValue::decode(&row)?;
        let key = row_key.get(8..row_key.len().saturating_sub(4)).unwrap_or_default();
        Ok(Some(WaitingRecord {
            key: self.typed.keys.decode(key)?,
            value: self.typed.value.decode(held.new)?,
            timestamp: held.timestamp,
            headers: held.headers,
        }))
    }
}

impl<K, V> fmt::Debug for JoinBuffer<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinBuffer({})", self.typed.keys.store())
    }
}

impl<K: 'static, V: 'static> StateStore for JoinBuffer<K, V> {
    fn name(&self) -> &str {
        self.typed.keys.store()
    }

    fn state(&self) -> &StorePartition {
        &self.typed.bytes
    }

    fn state_mut(&mut self) -> &mut StorePartition {
        &mut self.typed.bytes
    }
}

//! Serdes of windowed keys in topics. Source: `TimeWindowedSerializer`, `SessionWindowedSerializer`
//! and, for the partition, `WindowedStreamPartitioner`. Must not know stores.

use std::any::type_name;

use serde_json::{Value, json};

use super::{SessionKey, split_last_i64};
use crate::record::{Window, Windowed};
use crate::serde::{Serde, SerdeError, SharedSerde};

const TIME: &str = "time-windowed key";

/// Keys of tumbling, hopping and sliding windows: `key | start i64`. The end is not written, so the
/// reader must know the `size_ms` (for sliding windows: the time difference).
///
/// ```
/// use headwater::record::{Window, Windowed};
/// use headwater::serde::{kafka_streams, serdes};
///
/// let serde = kafka_streams::time_windowed(serdes::string(), 60_000);
/// let key = Windowed { key: "a".to_owned(), window: Window { start: 0, end: 60_000 } };
/// assert_eq!(serde.to_bytes(&key)?, Some(b"a\0\0\0\0\0\0\0\0".to_vec()));
/// # Ok::<(), headwater::serde::SerdeError>(())
/// ```
pub fn time_windowed<K: 'static>(inner: impl Serde<K>, size_ms: i64) -> SharedSerde<Windowed<K>> {
    TimeWindowedSerde { inner: inner.shared(), size_ms }.shared()
}

/// Keys of session windows: `key | end i64 | start i64`.
pub fn session_windowed<K: 'static>(inner: impl Serde<K>) -> SharedSerde<Windowed<K>> {
    SessionWindowedSerde { inner: inner.shared() }.shared()
}

struct TimeWindowedSerde<K: 'static> {
    inner: SharedSerde<K>,
    size_ms: i64,
}

impl<K: 'static> Serde<Windowed<K>> for TimeWindowedSerde<K> {
    fn serialize(&self, value: &Windowed<K>, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        encode_inner(&self.inner, &value.key, into)?;
        into.extend_from_slice(&value.window.start.to_be_bytes());
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<Windowed<K>, SerdeError> {
        let (key, start) = split_last_i64(TIME, bytes)?;
        let key = self.inner.deserialize(key)?;
        let end = start.saturating_add(self.size_ms);
        Ok(Windowed { key, window: Window { start, end } })
    }

    fn to_json(&self, value: &Windowed<K>) -> Option<Value> {
        windowed_json(&self.inner, value)
    }

    fn partition_key<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        split_last_i64(TIME, bytes).map_or(bytes, |(key, _)| key)
    }
}

struct SessionWindowedSerde<K: 'static> {
    inner: SharedSerde<K>,
}

impl<K: 'static> Serde<Windowed<K>> for SessionWindowedSerde<K> {
    fn serialize(&self, value: &Windowed<K>, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        encode_inner(&self.inner, &value.key, into)?;
        let Window { start, end } = value.window;
        SessionKey { key: &[], start, end }.encode(into);
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<Windowed<K>, SerdeError> {
        let SessionKey { key, start, end } = SessionKey::decode(bytes)?;
        Ok(Windowed { key: self.inner.deserialize(key)?, window: Window { start, end } })
    }

    fn to_json(&self, value: &Windowed<K>) -> Option<Value> {
        windowed_json(&self.inner, value)
    }

    fn partition_key<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        SessionKey::decode(bytes).map_or(bytes, |session| session.key)
    }
}

fn encode_inner<K: 'static>(
    inner: &SharedSerde<K>,
    key: &K,
    into: &mut Vec<u8>,
) -> Result<(), SerdeError> {
    let null = inner.encode(key, into)?.is_none();
    if null { Err(SerdeError::Null { type_name: type_name::<Windowed<K>>() }) } else { Ok(()) }
}

fn windowed_json<K: 'static>(inner: &SharedSerde<K>, value: &Windowed<K>) -> Option<Value> {
    let key = inner.to_json(&value.key)?;
    Some(json!({"key": key, "start": value.window.start, "end": value.window.end}))
}

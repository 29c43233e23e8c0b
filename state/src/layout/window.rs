//! Keys of window stores, key-first: `segment (i64 BE) | key | start (i64 BE) | sequence (u32 BE)`.
//!
//! Kafka Streams keeps a window store as one RocksDB instance per *segment* of time and walks the
//! segments oldest first, within each by key, then start. With the segment in front of the key the
//! byte order of one family is that very order, and dropping a segment is one range deletion
//! instead of a search. Without the segment the rest is Kafka's changelog key
//! (`WindowKeySchema.toStoreKeyBinary`), so both are one slice apart.
//!
//! Keys are not terminated: the rows of `a` lie among those of longer keys that begin with `a`. Any
//! key between two keys with the same `segment | key` begins with it too, so a row in such a range
//! belongs to `key` exactly when its length is right.
//!
//! Starts are never negative; Kafka's windows are not either. Owns no state and no clock.

use crate::database::ScanRange;
use crate::error::{Result, StateError};

const SEGMENT_BYTES: usize = 8;
const START_BYTES: usize = 8;
const SEQUENCE_BYTES: usize = 4;
const SUFFIX_BYTES: usize = START_BYTES + SEQUENCE_BYTES;
/// Segments are never shorter than this (Kafka Streams' `Stores.defaultSegmentInterval`).
const SEGMENT_INTERVAL_MIN_MS: i64 = 60_000;

/// Length of a segment for a store that keeps windows for `retention_ms`: half of it, at least a
/// minute (Kafka Streams' `Stores.defaultSegmentInterval`).
pub fn segment_interval_ms(retention_ms: i64) -> i64 {
    (retention_ms / 2).max(SEGMENT_INTERVAL_MIN_MS)
}

/// How the windows of one store are cut into segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segments {
    interval_ms: i64,
}

impl Segments {
    /// Segments of this length.
    ///
    /// # Errors
    /// `Invalid` unless the length is positive.
    pub fn new(interval_ms: i64) -> Result<Self> {
        if interval_ms <= 0 {
            return Err(StateError::Invalid {
                what: format!("a segment interval of {interval_ms} ms is not positive"),
            });
        }
        Ok(Self { interval_ms })
    }

    /// Length of a segment in milliseconds.
    pub fn interval_ms(self) -> i64 {
        self.interval_ms
    }

    /// The segment a window start falls into.
    pub fn of(self, start_ms: i64) -> i64 {
        start_ms.div_euclid(self.interval_ms)
    }

    /// Calls `use_key` with a store key, built on the stack when it is short.
    pub fn with_key<R>(
        self,
        key: &[u8],
        start_ms: i64,
        sequence: u32,
        use_key: impl FnOnce(&[u8]) -> R,
    ) -> R {
        const STACK_BYTES: usize = 128;
        debug_assert!(start_ms >= 0, "window starts are not negative");
        let parts: [&[u8]; 4] = [
            &self.of(start_ms).to_be_bytes(),
            key,
            &start_ms.to_be_bytes(),
            &sequence.to_be_bytes(),
        ];
        let len = SEGMENT_BYTES + key.len() + SUFFIX_BYTES;
        if len > STACK_BYTES {
            return use_key(&parts.concat());
        }
        let mut buffer = [0u8; STACK_BYTES];
        let mut rest = &mut buffer[..];
        for part in parts {
            let (here, after) = rest.split_at_mut(part.len());
            here.copy_from_slice(part);
            rest = after;
        }
        use_key(&buffer[..len])
    }

    /// The rows of one key in one segment with starts in `from_ms..=to_ms`, among them rows of
    /// longer keys: see [`belongs_to`].
    pub fn key_range(self, segment: i64, key: &[u8], from_ms: i64, to_ms: i64) -> ScanRange {
        let bound = |start: i64| {
            let mut bound = Vec::with_capacity(SEGMENT_BYTES + key.len() + SUFFIX_BYTES + 1);
            bound.extend_from_slice(&segment.to_be_bytes());
            bound.extend_from_slice(key);
            bound.extend_from_slice(&start.to_be_bytes());
            bound
        };
        let mut to = bound(to_ms);
        to.extend_from_slice(&u32::MAX.to_be_bytes());
        to.push(0);
        ScanRange { from: bound(from_ms), to: Some(to) }
    }

    /// All rows of the segments that hold starts in `from_ms..=to_ms`; starts at the edges have to
    /// be looked at.
    pub fn time_range(self, from_ms: i64, to_ms: i64) -> ScanRange {
        let from = self.of(from_ms).to_be_bytes().to_vec();
        let to = self.of(to_ms).checked_add(1).map(|segment| segment.to_be_bytes().to_vec());
        ScanRange { from, to }
    }

    /// The first store key whose segment may still hold a start after `expired_ms`: every key
    /// before it is expired. `None` when no whole segment is. Kafka Streams drops segments by the
    /// same rule.
    pub fn live_from(self, expired_ms: i64) -> Option<Vec<u8>> {
        let segment = self.of(expired_ms);
        (segment > 0).then(|| segment.to_be_bytes().to_vec())
    }
}

/// Whether a row found in the [`Segments::key_range`] of a key of `key_bytes` bytes is that key's.
pub fn belongs_to(store_key: &[u8], key_bytes: usize) -> bool {
    store_key.len() == SEGMENT_BYTES + key_bytes + SUFFIX_BYTES
}

/// What a store key says: key, window start in milliseconds, sequence number.
///
/// # Errors
/// `Corruption` when it is too short to be one.
pub fn decode(store_key: &[u8]) -> Result<(&[u8], i64, u32)> {
    split(store_key).ok_or_else(|| {
        StateError::corrupt("a window key", format!("{} bytes are too few", store_key.len()))
    })
}

fn split(store_key: &[u8]) -> Option<(&[u8], i64, u32)> {
    let changelog_key = store_key.get(SEGMENT_BYTES..)?;
    let (rest, sequence) = changelog_key.split_last_chunk::<SEQUENCE_BYTES>()?;
    let (key, start) = rest.split_last_chunk::<START_BYTES>()?;
    Some((key, i64::from_be_bytes(*start), u32::from_be_bytes(*sequence)))
}

/// Kafka's changelog key of a row: the store key without its segment.
///
/// # Errors
/// `Corruption` when it is too short to be one.
pub fn changelog_key(store_key: &[u8]) -> Result<&[u8]> {
    decode(store_key)?;
    Ok(&store_key[SEGMENT_BYTES..])
}

/// What a changelog key says: key, window start in milliseconds, sequence number.
///
/// # Errors
/// `Corruption` when it is too short to be one.
pub fn decode_changelog_key(changelog_key: &[u8]) -> Result<(&[u8], i64, u32)> {
    let too_short = || {
        StateError::corrupt(
            "a window changelog key",
            format!("{} bytes are too few", changelog_key.len()),
        )
    };
    let (rest, sequence) =
        changelog_key.split_last_chunk::<SEQUENCE_BYTES>().ok_or_else(too_short)?;
    let (key, start) = rest.split_last_chunk::<START_BYTES>().ok_or_else(too_short)?;
    Ok((key, i64::from_be_bytes(*start), u32::from_be_bytes(*sequence)))
}

//! Keys of session stores: `segment (i64 BE) | key | end (i64 BE) | start (i64 BE)`.
//!
//! As the layout of windows, with the session's end, the time of its last record, in the place of
//! the start: it decides the segment and when the session expires. Without the segment the rest is
//! Kafka's changelog key (`SessionKeySchema`). Sessions of one key lie by end, then start. Owns no
//! state and no clock.

use super::window::Segments;
use crate::database::ScanRange;
use crate::error::{Result, StateError};

const SEGMENT_BYTES: usize = 8;
const TIMES_BYTES: usize = 16;

/// The store key of a session.
pub fn store_key(segments: Segments, key: &[u8], start_ms: i64, end_ms: i64) -> Vec<u8> {
    let mut store_key = Vec::with_capacity(SEGMENT_BYTES + key.len() + TIMES_BYTES);
    store_key.extend_from_slice(&segments.of(end_ms).to_be_bytes());
    store_key.extend_from_slice(key);
    store_key.extend_from_slice(&end_ms.to_be_bytes());
    store_key.extend_from_slice(&start_ms.to_be_bytes());
    store_key
}

/// The rows of one key in one segment with ends in `from_ms..=to_ms`, among them rows of longer
/// keys: see [`belongs_to`].
pub fn key_range(segment: i64, key: &[u8], from_ms: i64, to_ms: i64) -> ScanRange {
    let bound = |end: i64| [&segment.to_be_bytes(), key, &end.to_be_bytes()].concat();
    let mut to = bound(to_ms);
    to.extend_from_slice(&[u8::MAX; 9]);
    ScanRange { from: bound(from_ms), to: Some(to) }
}

/// Whether a row found in the [`key_range`] of a key of `key_bytes` bytes is that key's.
pub fn belongs_to(store_key: &[u8], key_bytes: usize) -> bool {
    store_key.len() == SEGMENT_BYTES + key_bytes + TIMES_BYTES
}

/// What a store key says: key, start and end of the session in milliseconds.
///
/// # Errors
/// `Corruption` when it is too short to be one.
pub fn decode(store_key: &[u8]) -> Result<(&[u8], i64, i64)> {
    decode_changelog_key(changelog_key(store_key)?)
}

/// Kafka's changelog key of a row: the store key without its segment.
///
/// # Errors
/// `Corruption` when it is too short to be one.
pub fn changelog_key(store_key: &[u8]) -> Result<&[u8]> {
    let rest = store_key.get(SEGMENT_BYTES..).filter(|rest| rest.len() >= TIMES_BYTES);
    rest.ok_or_else(|| too_short("a session key", store_key.len()))
}

/// What a changelog key says: key, start and end of the session in milliseconds.
///
/// # Errors
/// `Corruption` when it is too short to be one.
pub fn decode_changelog_key(changelog_key: &[u8]) -> Result<(&[u8], i64, i64)> {
    let short = || too_short("a session changelog key", changelog_key.len());
    let (rest, start) = changelog_key.split_last_chunk::<8>().ok_or_else(short)?;
    let (key, end) = rest.split_last_chunk::<8>().ok_or_else(short)?;
    Ok((key, i64::from_be_bytes(*start), i64::from_be_bytes(*end)))
}

fn too_short(place: &str, bytes: usize) -> StateError {
    StateError::corrupt(place, format!("{bytes} bytes are too few"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_comes_back_and_its_changelog_key_is_kafkas() {
        let segments = Segments::new(60_000).expect("positive");
        let key = store_key(segments, b"k", 5, 61_000);
        assert_eq!(decode(&key).expect("a key"), (b"k".as_slice(), 5, 61_000));
        let mut kafka = b"k".to_vec();
        kafka.extend_from_slice(&61_000i64.to_be_bytes());
        kafka.extend_from_slice(&5i64.to_be_bytes());
        assert_eq!(changelog_key(&key).expect("a key"), kafka);
        assert!(belongs_to(&key, 1) && !belongs_to(&key, 2));
    }

    #[test]
    fn the_range_of_a_key_holds_its_sessions_whatever_their_start() {
        let segments = Segments::new(60_000).expect("positive");
        let range = key_range(0, b"k", 10, 20);
        let to = range.to.expect("bounded");
        for (start, end, inside) in [(0, 9, false), (0, 10, true), (20, 20, true), (0, 21, false)] {
            let key = store_key(segments, b"k", start, end);
            assert_eq!(range.from <= key && key < to, inside, "{start} {end}");
        }
    }
}

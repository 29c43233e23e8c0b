//! Keys of versioned stores: `0x00 | key | since (i64 BE)`, values `0x01 | value` or `0x00` for a
//! deletion.
//!
//! Keys are not terminated: the versions of `a` lie among those of longer keys that begin with `a`,
//! and are told apart by length, as in the layout of windows. Owns no state and no clock.

use crate::database::ScanRange;
use crate::error::{Result, StateError};

const ROW: u8 = 0x00;
const DELETED: u8 = 0x00;
const VALUE: u8 = 0x01;

/// The store key of a version.
pub fn store_key(key: &[u8], since_ms: i64) -> Vec<u8> {
    let mut row = Vec::with_capacity(9 + key.len());
    row.push(ROW);
    row.extend_from_slice(key);
    row.extend_from_slice(&since_ms.to_be_bytes());
    row
}

/// The versions of one key since times in `from_ms..=to_ms`, among them rows of longer keys: see
/// [`decode`].
pub fn range(key: &[u8], from_ms: i64, to_ms: i64) -> ScanRange {
    let mut to = store_key(key, to_ms);
    to.push(0);
    ScanRange { from: store_key(key, from_ms), to: Some(to) }
}

/// The key of a version and since when it is valid; `None` for rows that are no versions.
pub fn decode(store_key: &[u8]) -> Option<(&[u8], i64)> {
    let (key, since) = store_key.strip_prefix(&[ROW])?.split_last_chunk::<8>()?;
    Some((key, i64::from_be_bytes(*since)))
}

/// A version's stored value.
pub fn encode_value(value: Option<&[u8]>) -> Vec<u8> {
    match value {
        Some(value) => [&[VALUE], value].concat(),
        None => vec![DELETED],
    }
}

/// What a stored value says; `None` is a deletion.
///
/// # Errors
/// `Corruption` when it is neither.
pub fn decode_value(stored: &[u8]) -> Result<Option<&[u8]>> {
    match stored.split_first() {
        Some((&VALUE, value)) => Ok(Some(value)),
        Some((&DELETED, [])) => Ok(None),
        _ => Err(StateError::corrupt("a version", "it is neither value nor deletion")),
    }
}

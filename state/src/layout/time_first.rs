//! Rows in the order of a time, beside a store's own rows: `0x80 | time (i64 BE) | rest`.
//!
//! They are *derived*: a store keeps one for each of its own rows that has to be found by time
//! (windows that close, rows that wait, timers), writes them with the row and takes them off with
//! it. They never go to a changelog; restoring the row restores them. The first byte parts them
//! from the store's own rows, whose first byte is smaller in every layout that has derived rows.
//!
//! Times are never negative, so byte order is the order of time, then of the rest.

use crate::database::ScanRange;
use crate::error::{Result, StateError};

/// First byte of a derived row.
pub const DERIVED: u8 = 0x80;
const PREFIX_BYTES: usize = 9;

/// Whether a row is derived from another.
pub fn is_derived(store_key: &[u8]) -> bool {
    store_key.first() == Some(&DERIVED)
}

/// The key of a derived row.
pub fn key(time_ms: i64, rest: &[u8]) -> Vec<u8> {
    debug_assert!(time_ms >= 0, "times are not negative");
    let mut key = Vec::with_capacity(PREFIX_BYTES + rest.len());
    key.push(DERIVED);
    key.extend_from_slice(&time_ms.to_be_bytes());
    key.extend_from_slice(rest);
    key
}

/// The derived rows of times up to `to_ms`, included.
pub fn up_to(to_ms: i64) -> ScanRange {
    let to = to_ms.checked_add(1).filter(|to| *to >= 0);
    let to = match to {
        Some(to) => key(to, &[]),
        None if to_ms < 0 => key(0, &[]),
        None => vec![DERIVED + 1],
    };
    ScanRange { from: vec![DERIVED], to: Some(to) }
}

/// As [`up_to`], but behind the row of this time and rest.
pub fn after_up_to(time_ms: i64, rest: &[u8], to_ms: i64) -> ScanRange {
    let mut from = key(time_ms, rest);
    from.push(0);
    ScanRange { from, ..up_to(to_ms) }
}

/// What a derived row's key says: time in milliseconds, and the rest.
///
/// # Errors
/// `Corruption` when it is none.
pub fn decode(store_key: &[u8]) -> Result<(i64, &[u8])> {
    let timed = store_key.strip_prefix(&[DERIVED]).and_then(<[u8]>::split_first_chunk::<8>);
    let (time, rest) = timed.ok_or_else(|| {
        StateError::corrupt("a row by time", format!("{} bytes are no key", store_key.len()))
    })?;
    Ok((i64::from_be_bytes(*time), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_row_is_found_up_to_its_time() {
        let row = key(7, b"rest");
        assert!(is_derived(&row) && !is_derived(&[0, 1]));
        assert_eq!(decode(&row).expect("a key"), (7, b"rest".as_slice()));
        for (to, inside) in [(-1, false), (6, false), (7, true), (i64::MAX, true)] {
            let range = up_to(to);
            let end = range.to.expect("bounded");
            assert_eq!(range.from <= row && row < end, inside, "{to}");
        }
    }

    #[test]
    fn what_is_behind_a_row_begins_with_the_next() {
        let range = after_up_to(7, b"rest", 7);
        let end = range.to.expect("bounded");
        for (time, rest, inside) in
            [(7, &b"rest"[..], false), (7, b"rest\0", true), (7, b"s", true), (8, b"", false)]
        {
            let row = key(time, rest);
            assert_eq!(range.from <= row && row < end, inside, "{time} {rest:?}");
        }
    }
}

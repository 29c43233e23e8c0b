//! How rows are keyed. Every family has the same first byte.
//!
//! ```text
//! 0x00 | ...                      reserved: format of the family, positions
//! 0x01 | partition (u32 BE) | store key
//! ```
//!
//! The partition is part of the key although a Kafka task has a database of its own, so that one
//! layout serves both modes. What follows it is the *store key*, the only thing overlay and stores
//! see. Integers are big-endian, so byte order is numeric order for what is not negative.
//!
//! Must not know what a value holds, except for the timestamp in front of it.

use crate::error::{Result, StateError};

pub mod session;
pub mod time_first;
pub mod timer;
pub mod timestamped;
pub mod versioned;
pub mod window;

/// First byte of rows that are about the family rather than in the store.
pub const RESERVED: u8 = 0x00;
/// First byte of the store's own rows.
pub const DATA: u8 = 0x01;
/// Bytes in front of the store key in a data row.
pub const DATA_PREFIX_BYTES: usize = 5;
/// Store keys longer than this are refused: a key is copied into indexes and caches.
pub const KEY_BYTES_MAX: usize = 1 << 20;

/// The bytes in front of every store key of a partition.
pub fn data_prefix(partition: u32) -> [u8; DATA_PREFIX_BYTES] {
    let [a, b, c, d] = partition.to_be_bytes();
    [DATA, a, b, c, d]
}

/// The full key of a data row.
pub fn data_key(partition: u32, store_key: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(DATA_PREFIX_BYTES + store_key.len());
    key.extend_from_slice(&data_prefix(partition));
    key.extend_from_slice(store_key);
    key
}

/// Calls `use_key` with the full key of a data row, built on the stack when it is short.
pub fn with_data_key<R>(partition: u32, store_key: &[u8], use_key: impl FnOnce(&[u8]) -> R) -> R {
    const STACK_BYTES: usize = 128;
    let len = DATA_PREFIX_BYTES + store_key.len();
    if len <= STACK_BYTES {
        let mut buffer = [0u8; STACK_BYTES];
        buffer[..DATA_PREFIX_BYTES].copy_from_slice(&data_prefix(partition));
        buffer[DATA_PREFIX_BYTES..len].copy_from_slice(store_key);
        use_key(&buffer[..len])
    } else {
        use_key(&data_key(partition, store_key))
    }
}

/// The smallest key greater than every key that begins with `prefix`; `None` when there is none.
pub fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut next = prefix[..=last].to_vec();
    next[last] += 1;
    Some(next)
}

/// Refuses a store key no store could hold.
///
/// # Errors
/// `Invalid`; the record is bad input.
pub fn check_key(store_key: &[u8]) -> Result<()> {
    if store_key.len() > KEY_BYTES_MAX {
        return Err(StateError::Invalid {
            what: format!(
                "key of {} bytes is longer than the {KEY_BYTES_MAX} a store holds",
                store_key.len()
            ),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_successor_of_a_prefix_is_the_next_prefix_of_its_length_or_shorter() {
        assert_eq!(successor(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(successor(&[1, 0xff, 0xff]), Some(vec![2]));
        assert_eq!(successor(&[0xff, 0xff]), None);
        assert_eq!(successor(b""), None);
    }

    #[test]
    fn a_short_and_a_long_key_get_the_same_prefix() {
        for len in [0, 10, 123, 124, 300] {
            let store_key = vec![7u8; len];
            with_data_key(9, &store_key, |full| assert_eq!(full, data_key(9, &store_key)));
        }
    }
}

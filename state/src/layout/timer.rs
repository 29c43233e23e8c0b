//! The name of a timer: `key, each 0x00 as 0x00 0xff | 0x00 0x00 | name (UTF-8)`.
//!
//! Byte order is the order of keys, then of names, also where one key begins with another; and the
//! key can be taken out again. Owns no state and no clock.

use crate::error::{Result, StateError};

const ZERO: u8 = 0x00;
const ESCAPED: u8 = 0xff;
const END: [u8; 2] = [ZERO, ZERO];

/// The bytes of a key's timer of this name.
pub fn encode(key: &[u8], name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(key.len() + END.len() + name.len());
    for byte in key {
        bytes.push(*byte);
        if *byte == ZERO {
            bytes.push(ESCAPED);
        }
    }
    bytes.extend_from_slice(&END);
    bytes.extend_from_slice(name.as_bytes());
    bytes
}

/// Key and name.
///
/// # Errors
/// `Corruption` when the bytes are none of [`encode`]'s.
pub fn decode(bytes: &[u8]) -> Result<(Vec<u8>, &str)> {
    let damaged = |what: &str| StateError::corrupt("the name of a timer", what.to_owned());
    let mut key = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        match rest {
            [ZERO, ZERO, name @ ..] => {
                let name = std::str::from_utf8(name).map_err(|_| damaged("it is no UTF-8"))?;
                return Ok((key, name));
            }
            [ZERO, ESCAPED, behind @ ..] => {
                key.push(ZERO);
                rest = behind;
            }
            [ZERO, ..] | [] => return Err(damaged("its key has no end")),
            [byte, behind @ ..] => {
                key.push(*byte);
                rest = behind;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_and_name_come_back_whatever_bytes_the_key_has() {
        for key in [&b""[..], b"a", b"\0", b"a\0\0b", b"\0\xff", b"\xff\xff"] {
            let bytes = encode(key, "deadline");
            assert_eq!(decode(&bytes).expect("its own"), (key.to_vec(), "deadline"));
        }
    }

    #[test]
    fn timers_are_ordered_by_key_then_name() {
        let ordered = [
            (&b""[..], "z"),
            (b"\0", "z"),
            (b"a", "x"),
            (b"a", "y"),
            (b"a\0", "a"),
            (b"a\0b", "a"),
            (b"ab", "a"),
            (b"b", "a"),
        ];
        let bytes: Vec<_> = ordered.iter().map(|(key, name)| encode(key, name)).collect();
        assert!(bytes.is_sorted(), "{bytes:?}");
    }

    #[test]
    fn bytes_that_are_no_timer_are_damage() {
        for bytes in [&b""[..], b"abc", b"a\0b\0\0", b"a\0\0\xff"] {
            assert!(decode(bytes).is_err(), "{bytes:?}");
        }
    }
}

//! A table's change on its way through a repartition topic. Source: `ChangedSerializer` and
//! `ChangedDeserializer` since Kafka Streams 3.5 (KIP-904). Must not know the values' serde.
//!
//! ```text
//! old                              | 0
//! new                              | 1
//! length of new varint | new | old | 2
//! old                              | latest u8 | 3
//! new                              | latest u8 | 4
//! length of new varint | new | old | latest u8 | 5
//! ```
//!
//! The varint is in zigzag. Kafka Streams reads 3 to 5 and writes 0 to 2, and so do we.

use crate::record::varint;
use crate::serde::SerdeError;

const ONLY_OLD: u8 = 0;
const ONLY_NEW: u8 = 1;
const BOTH: u8 = 2;

/// A change of one row, values still encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeBytes<'a> {
    /// The value before.
    pub old: Option<&'a [u8]>,
    /// The value now.
    pub new: Option<&'a [u8]>,
    /// Whether no later change of the row was known when it was sent.
    pub is_latest: bool,
}

/// Appends a change.
///
/// # Errors
/// Both values are null, which is no change, or the new value is 2 GiB or more.
pub fn encode_change(
    old: Option<&[u8]>,
    new: Option<&[u8]>,
    into: &mut Vec<u8>,
) -> Result<(), SerdeError> {
    match (old, new) {
        (None, None) => return Err(malformed(0, "a change without old and new value")),
        (Some(old), None) => {
            into.extend_from_slice(old);
            into.push(ONLY_OLD);
        }
        (None, Some(new)) => {
            into.extend_from_slice(new);
            into.push(ONLY_NEW);
        }
        (Some(old), Some(new)) => {
            let len = i32::try_from(new.len()).map_err(|_| SerdeError::Limit {
                what: "new value of a change",
                found: new.len(),
                limit: usize::try_from(i32::MAX).expect("positive"),
            })?;
            varint::write(varint::zigzag(i64::from(len)), into);
            into.extend_from_slice(new);
            into.extend_from_slice(old);
            into.push(BOTH);
        }
    }
    Ok(())
}

/// Reads a change.
///
/// # Errors
/// The bytes are no change; the error has the position.
pub fn decode_change(bytes: &[u8]) -> Result<ChangeBytes<'_>, SerdeError> {
    let Some((flag, rest)) = bytes.split_last() else {
        return Err(malformed(0, "no flag"));
    };
    let (values, is_latest) = match flag {
        0..=2 => (rest, true),
        3..=5 => match rest.split_last() {
            Some((0, values)) => (values, false),
            Some((1, values)) => (values, true),
            _ => return Err(malformed(bytes.len() - 1, "the flag for latest is neither 0 nor 1")),
        },
        _ => return Err(malformed(bytes.len() - 1, "unknown flag")),
    };
    let (old, new) = match flag % 3 {
        ONLY_OLD => (Some(values), None),
        ONLY_NEW => (None, Some(values)),
        _ => {
            let (new, old) = split_new(values)?;
            (Some(old), Some(new))
        }
    };
    Ok(ChangeBytes { old, new, is_latest })
}

fn split_new(values: &[u8]) -> Result<(&[u8], &[u8]), SerdeError> {
    let mut at = 0;
    let len = varint::read(values, &mut at).map(varint::unzigzag);
    let len = len.and_then(|len| usize::try_from(len).ok());
    let values = &values[at..];
    len.and_then(|len| values.split_at_checked(len))
        .ok_or(malformed(0, "the new value's length is wrong"))
}

fn malformed(position: usize, problem: &'static str) -> SerdeError {
    SerdeError::Malformed { format: "change", position, problem }
}

//! A value with the timestamp of its last update, as one byte string: 8 bytes of timestamp, then
//! the value. Source: `ValueAndTimestampSerializer`. Must not know the value's serde.

use crate::serde::SerdeError;

/// Appends `timestamp` (milliseconds) and the value's bytes.
pub fn encode_value_and_timestamp(value: &[u8], timestamp: i64, into: &mut Vec<u8>) {
    into.reserve(8 + value.len());
    into.extend_from_slice(&timestamp.to_be_bytes());
    into.extend_from_slice(value);
}

/// The value's bytes and its timestamp.
///
/// # Errors
/// There are fewer than 8 bytes.
pub fn decode_value_and_timestamp(bytes: &[u8]) -> Result<(&[u8], i64), SerdeError> {
    let (timestamp, value) = bytes.split_first_chunk().ok_or(SerdeError::Malformed {
        format: "value and timestamp",
        position: bytes.len(),
        problem: "too short",
    })?;
    Ok((value, i64::from_be_bytes(*timestamp)))
}

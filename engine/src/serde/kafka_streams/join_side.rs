//! What an outer or left stream-stream join keeps of records that have met no other yet. Source:
//! `TimestampedKeyAndJoinSideSerializer`, `LeftOrRightValueSerializer`, and `ListSerializer` of
//! variable size, by which all records of one key, time and side are one row of the changelog.
//! Must not know the serdes of key and values.
//!
//! ```text
//! key:    timestamp i64 | side u8 | key
//! value:  1 u8 | count i32 | ( length i32 | side u8 | value ) *
//! ```
//!
//! The side is 1 for left and 0 for right.

use super::reader::{Reader, length};
use crate::serde::SerdeError;

const VARIABLE_SIZE: u8 = 1;

/// The side of a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinSide {
    /// The stream that `join` was called on.
    Left,
    /// The stream that it was given.
    Right,
}

impl JoinSide {
    fn byte(self) -> u8 {
        match self {
            JoinSide::Left => 1,
            JoinSide::Right => 0,
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, SerdeError> {
        match reader.array()? {
            [1] => Ok(JoinSide::Left),
            [0] => Ok(JoinSide::Right),
            _ => Err(reader.malformed("a side that is neither left nor right")),
        }
    }
}

/// A key of the store of records that have met no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinSideKey<'a> {
    /// The records' timestamp in milliseconds; the rows are in its order.
    pub timestamp: i64,
    /// Which stream they came from.
    pub side: JoinSide,
    /// Their key.
    pub key: &'a [u8],
}

impl<'a> JoinSideKey<'a> {
    /// Appends the bytes.
    pub fn encode(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.timestamp.to_be_bytes());
        into.push(self.side.byte());
        into.extend_from_slice(self.key);
    }

    /// Reads the bytes.
    ///
    /// # Errors
    /// The bytes are no such key; the error has the position.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, SerdeError> {
        let mut reader = Reader::new("join side key", bytes);
        let timestamp = i64::from_be_bytes(reader.array()?);
        Ok(Self { timestamp, side: JoinSide::read(&mut reader)?, key: reader.rest() })
    }
}

/// Appends the row of all values of one [`JoinSideKey`], in their order.
///
/// # Errors
/// There are 2^31 values, or one is 2 GiB or longer.
pub fn encode_join_side_values(
    side: JoinSide,
    values: &[&[u8]],
    into: &mut Vec<u8>,
) -> Result<(), SerdeError> {
    into.push(VARIABLE_SIZE);
    into.extend_from_slice(&length("values", values.len())?);
    for value in values {
        into.extend_from_slice(&length("value", value.len() + 1)?);
        into.push(side.byte());
        into.extend_from_slice(value);
    }
    Ok(())
}

/// The values of a row, in their order, each with its side.
///
/// # Errors
/// The bytes are no such row; the error has the position.
pub fn decode_join_side_values(bytes: &[u8]) -> Result<Vec<(JoinSide, &[u8])>, SerdeError> {
    let mut reader = Reader::new("join side values", bytes);
    if reader.array()? != [VARIABLE_SIZE] {
        return Err(reader.malformed("a list that is not of variable size"));
    }
    let mut values = Vec::new();
    for _ in 0..i32::from_be_bytes(reader.array()?) {
        let len = i32::from_be_bytes(reader.array()?);
        let mut entry = Reader::new("join side value", reader.slice_of(len)?);
        values.push((JoinSide::read(&mut entry)?, entry.rest()));
    }
    reader.end()?;
    Ok(values)
}

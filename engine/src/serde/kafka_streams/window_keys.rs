//! The keys of window and session stores in their changelogs, by bytes. Source: `WindowKeySchema`
//! and `SessionKeySchema`. Must not know the inner key's serde, nor the order of our own disk.

use super::split_last_i64;
use crate::serde::SerdeError;

/// A key of a window store: `key | start i64 | sequence number u32`, big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowStoreKey<'a> {
    /// The inner key.
    pub key: &'a [u8],
    /// Start of the window in milliseconds; in a join's store, the record's timestamp.
    pub start: i64,
    /// 0, but counted up in stores that keep duplicates.
    pub seqnum: u32,
}

impl<'a> WindowStoreKey<'a> {
    /// Appends the bytes.
    pub fn encode(&self, into: &mut Vec<u8>) {
        into.reserve(self.key.len() + 12);
        into.extend_from_slice(self.key);
        into.extend_from_slice(&self.start.to_be_bytes());
        into.extend_from_slice(&self.seqnum.to_be_bytes());
    }

    /// Reads the bytes.
    ///
    /// # Errors
    /// There are fewer than 12 bytes.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, SerdeError> {
        let format = "window store key";
        let too_short =
            SerdeError::Malformed { format, position: bytes.len(), problem: "too short" };
        let (rest, seqnum) = bytes.split_last_chunk().ok_or(too_short)?;
        let (key, start) = split_last_i64(format, rest)?;
        Ok(Self { key, start, seqnum: u32::from_be_bytes(*seqnum) })
    }
}

/// A key of a session store, which is also the form of a session's key in a topic:
/// `key | end i64 | start i64`, big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionKey<'a> {
    /// The inner key.
    pub key: &'a [u8],
    /// Timestamp of the first record in milliseconds.
    pub start: i64,
    /// Timestamp of the last record in milliseconds.
    pub end: i64,
}

impl<'a> SessionKey<'a> {
    /// Appends the bytes.
    pub fn encode(&self, into: &mut Vec<u8>) {
        into.reserve(self.key.len() + 16);
        into.extend_from_slice(self.key);
        into.extend_from_slice(&self.end.to_be_bytes());
        into.extend_from_slice(&self.start.to_be_bytes());
    }

    /// Reads the bytes.
    ///
    /// # Errors
    /// There are fewer than 16 bytes.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, SerdeError> {
        let (rest, start) = split_last_i64("session key", bytes)?;
        let (key, end) = split_last_i64("session key", rest)?;
        Ok(Self { key, start, end })
    }
}

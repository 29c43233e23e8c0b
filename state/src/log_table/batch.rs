//! One record batch as a row. Owns its header and checksum; must not know its payload.

use bytes::Bytes;

use super::{LogPartition, OwnedBatch};
use crate::error::{Result, StateError};

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 1 + 4 + 8 + 4;

/// A batch to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogBatch<'b> {
    /// How many offsets it covers, at least one.
    pub offsets: u32,
    /// The greatest record time in it, in milliseconds.
    pub max_timestamp_ms: i64,
    /// The records, opaque here.
    pub payload: &'b [u8],
}

impl LogBatch<'_> {
    pub(super) fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut value = Vec::with_capacity(HEADER_BYTES + self.payload.len());
        value.push(VERSION);
        value.extend_from_slice(&self.offsets.to_be_bytes());
        value.extend_from_slice(&self.max_timestamp_ms.to_be_bytes());
        let checksum = checksum(key, &value, self.payload);
        value.extend_from_slice(&checksum.to_be_bytes());
        value.extend_from_slice(self.payload);
        value
    }
}

fn checksum(key: &[u8], header: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(key), header), payload)
}

/// A batch as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredBatch<'b> {
    /// Offset of the first record the batch ever had.
    pub base_offset: i64,
    /// How many offsets it covers.
    pub offsets: u32,
    /// The greatest record time in it, in milliseconds.
    pub max_timestamp_ms: i64,
    /// The records.
    pub payload: &'b [u8],
}

impl<'b> StoredBatch<'b> {
    pub(super) fn decode(
        key: &[u8],
        value: &'b [u8],
        partition: &LogPartition,
        base_offset: i64,
    ) -> Result<Self> {
        let damaged =
            |what: &str| StateError::corrupt(format!("{partition} offset {base_offset}"), what);
        let cut = || damaged("the batch is cut short");
        let (header, payload) = value.split_first_chunk::<HEADER_BYTES>().ok_or_else(cut)?;
        let [version, rest @ ..] = header;
        if *version > VERSION {
            return Err(StateError::NewerFormat {
                what: format!("batch at {partition} offset {base_offset}"),
                found: u32::from(*version),
                supported: u32::from(VERSION),
            });
        }
        let (offsets, rest) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
        let (timestamp, rest) = rest.split_first_chunk::<8>().ok_or_else(cut)?;
        let stored = rest.first_chunk::<4>().ok_or_else(cut)?;
        if u32::from_be_bytes(*stored) != checksum(key, &header[..HEADER_BYTES - 4], payload) {
            return Err(damaged("the checksum of the batch is wrong"));
        }
        let batch = Self {
            base_offset,
            offsets: u32::from_be_bytes(*offsets),
            max_timestamp_ms: i64::from_be_bytes(*timestamp),
            payload,
        };
        batch.checked_end().map(|_| batch).ok_or_else(|| damaged("the batch ends past all offsets"))
    }

    fn checked_end(&self) -> Option<i64> {
        self.base_offset.checked_add(i64::from(self.offsets))
    }

    /// The offset after the last one it covers.
    pub fn end_offset(&self) -> i64 {
        self.checked_end().expect("decode refused a batch that ends past all offsets")
    }

    /// The batch by itself, its payload copied.
    pub fn to_owned(self) -> OwnedBatch {
        OwnedBatch {
            base_offset: self.base_offset,
            offsets: self.offsets,
            max_timestamp_ms: self.max_timestamp_ms,
            payload: Bytes::copy_from_slice(self.payload),
        }
    }
}

//! A row waiting in a suppress buffer, as its changelog holds it. Source: `BufferValue` and
//! `ProcessorRecordContext`, buffer version 3 (the record's header [`BUFFER_VERSION_HEADER`] says
//! so). Must not know the values' serde, nor when a row is released.
//!
//! ```text
//! timestamp i64 | offset i64 | topic | partition i32 | headers i32 | ( name | value ) *
//!   | prior | old | new | buffer time i64
//! ```
//!
//! Each text and value has an i32 length before it: -1 is null and, for `old` only, -2 is "as prior".

use bytes::Bytes;

use super::reader::{Reader, length};
use crate::record::{Header, Headers};
use crate::serde::SerdeError;

/// Name and value of the header on every record of a suppress buffer's changelog.
pub const BUFFER_VERSION_HEADER: (&str, &[u8]) = ("v", &[3]);

const NULL: i32 = -1;
const AS_PRIOR: i32 = -2;

/// A buffered row; values still encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferValue<'a> {
    /// Timestamp of the last record that changed the row, in milliseconds.
    pub timestamp: i64,
    /// That record's offset.
    pub offset: i64,
    /// That record's topic.
    pub topic: &'a str,
    /// That record's partition.
    pub partition: i32,
    /// That record's headers.
    pub headers: Headers,
    /// The value when the row entered the buffer, which is what was sent on last.
    pub prior: Option<&'a [u8]>,
    /// The value before the last change.
    pub old: Option<&'a [u8]>,
    /// The value now.
    pub new: Option<&'a [u8]>,
    /// The time by which the buffer is ordered, in milliseconds.
    pub buffer_time: i64,
}

impl<'a> BufferValue<'a> {
    /// Appends the bytes.
    ///
    /// # Errors
    /// A part is 2 GiB or longer.
    pub fn encode(&self, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        into.extend_from_slice(&self.timestamp.to_be_bytes());
        into.extend_from_slice(&self.offset.to_be_bytes());
        write(Some(self.topic.as_bytes()), into)?;
        into.extend_from_slice(&self.partition.to_be_bytes());
        into.extend_from_slice(&length("headers", self.headers.len())?);
        for header in &self.headers {
            write(Some(header.name.as_bytes()), into)?;
            write(header.value.as_deref(), into)?;
        }
        write(self.prior, into)?;
        if self.old.is_some() && self.old == self.prior {
            into.extend_from_slice(&AS_PRIOR.to_be_bytes());
        } else {
            write(self.old, into)?;
        }
        write(self.new, into)?;
        into.extend_from_slice(&self.buffer_time.to_be_bytes());
        Ok(())
    }

    /// Reads the bytes.
    ///
    /// # Errors
    /// The bytes are no such row; the error has the position.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, SerdeError> {
        let mut reader = Reader::new("buffer value", bytes);
        let timestamp = i64::from_be_bytes(reader.array()?);
        let offset = i64::from_be_bytes(reader.array()?);
        let topic = reader.text()?;
        let partition = i32::from_be_bytes(reader.array()?);
        // Older buffers wrote -1 for no headers.
        let count = i32::from_be_bytes(reader.array()?);
        if count < NULL {
            return Err(reader.malformed("a negative count"));
        }
        let header = |_| {
            let name = reader.text()?.into();
            let len = i32::from_be_bytes(reader.array()?);
            Ok(Header { name, value: read(&mut reader, len)?.map(Bytes::copy_from_slice) })
        };
        let headers = (0..count).map(header).collect::<Result<_, SerdeError>>()?;
        let prior_len = i32::from_be_bytes(reader.array()?);
        let prior = read(&mut reader, prior_len)?;
        let old = match i32::from_be_bytes(reader.array()?) {
            AS_PRIOR => prior,
            len => read(&mut reader, len)?,
        };
        let new_len = i32::from_be_bytes(reader.array()?);
        let new = read(&mut reader, new_len)?;
        let buffer_time = i64::from_be_bytes(reader.array()?);
        reader.end()?;
        let value =
            Self { timestamp, offset, topic, partition, headers, prior, old, new, buffer_time };
        Ok(value)
    }
}

fn write(part: Option<&[u8]>, into: &mut Vec<u8>) -> Result<(), SerdeError> {
    let Some(part) = part else {
        into.extend_from_slice(&NULL.to_be_bytes());
        return Ok(());
    };
    into.extend_from_slice(&length("part of a buffer value", part.len())?);
    into.extend_from_slice(part);
    Ok(())
}

fn read<'a>(reader: &mut Reader<'a>, len: i32) -> Result<Option<&'a [u8]>, SerdeError> {
    if len == NULL { Ok(None) } else { reader.slice_of(len).map(Some) }
}

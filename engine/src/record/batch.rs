//! The engine's own encoded record batch: what the embedded log stores, and the form in which
//! fetched records of every log wait in a partition's queue. Reading borrows from the bytes and
//! allocates nothing. Must not know topics, serdes, or who checks the bytes for damage.
//!
//! Layout, version 1. Fixed numbers are big-endian, `varint` is `record/varint.rs`.
//!
//! ```text
//! version u8 | count u32 | span u64 | max timestamp i64 | record *
//!
//! record: length varint          bytes of the record after this field
//!         skipped varint         offsets between the record before and this one
//!         timestamp varint       zigzag difference to the record before (to 0 for the first)
//!         key varint | bytes     length + 1; 0 is null
//!         value varint | bytes   length + 1; 0 is null
//!         headers                the rest, as `Headers::encode`; nothing if there are none
//! ```
//!
//! `span` is one more than the last record's offset from the base, so the batch after this one can
//! start at base + span. Offsets may have gaps, as they have in a compacted or transactional topic.

use bytes::Bytes;
use thiserror::Error;

use super::{
    headers::{Headers, HeadersError, RawHeaders},
    varint,
};

const VERSION: u8 = 1;
const COUNT_AT: usize = 1;
const SPAN_AT: usize = 5;
const MAX_TIMESTAMP_AT: usize = 13;
const PREFIX: usize = 21;

/// Encodes records into one batch. Offsets are relative until [`RecordBatch::new`] is told the base.
#[derive(Debug)]
pub struct RecordBatchBuilder {
    bytes: Vec<u8>,
    count: u32,
    span: u64,
    timestamp: i64,
    max_timestamp: i64,
}

/// A state of a [`RecordBatchBuilder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    bytes: usize,
    count: u32,
    span: u64,
    timestamp: i64,
    max_timestamp: i64,
}

impl Default for RecordBatchBuilder {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl RecordBatchBuilder {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch with room for that many encoded bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(bytes.max(PREFIX));
        buffer.resize(PREFIX, 0);
        Self { bytes: buffer, count: 0, span: 0, timestamp: 0, max_timestamp: i64::MIN }
    }

    /// Appends a record at the offset right after the last one (the base, for the first).
    /// `timestamp` is in milliseconds; any value is stored as it is.
    ///
    /// # Errors
    /// The headers pass a limit, or the batch holds `u32::MAX` records. Nothing was appended.
    #[inline]
    pub fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers,
    ) -> Result<(), BatchError> {
        let headers_len = if headers.is_empty() { 0 } else { headers.encoded_len() };
        self.push(0, timestamp, key, value, headers_len, |bytes| headers.encode(bytes))
    }

    /// Appends a record at `delta` offsets behind the base, for logs whose offsets have gaps.
    ///
    /// # Errors
    /// As [`RecordBatchBuilder::append`]; also if `delta` does not lie behind the last record.
    pub fn append_at(
        &mut self,
        delta: u64,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers,
    ) -> Result<(), BatchError> {
        let skipped = self.skipped(delta)?;
        let headers_len = if headers.is_empty() { 0 } else { headers.encoded_len() };
        self.push(skipped, timestamp, key, value, headers_len, |bytes| headers.encode(bytes))
    }

    /// The same for headers that are encoded already.
    ///
    /// # Errors
    /// As [`RecordBatchBuilder::append_at`].
    #[inline]
    pub fn append_raw_at(
        &mut self,
        delta: u64,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: RawHeaders<'_>,
    ) -> Result<(), BatchError> {
        let skipped = self.skipped(delta)?;
        let encoded = headers.as_bytes();
        self.push(skipped, timestamp, key, value, encoded.len(), |bytes| {
            bytes.extend_from_slice(encoded);
            Ok(())
        })
    }

    #[inline]
    fn skipped(&self, delta: u64) -> Result<u64, BatchError> {
        delta
            .checked_sub(self.span)
            .filter(|_| delta < i64::MAX.unsigned_abs())
            .ok_or(BatchError::OffsetOrder { delta, expected: self.span })
    }

    #[inline]
    fn push(
        &mut self,
        skipped: u64,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers_len: usize,
        write_headers: impl FnOnce(&mut Vec<u8>) -> Result<(), HeadersError>,
    ) -> Result<(), BatchError> {
        let count = self.count.checked_add(1).ok_or(BatchError::Full)?;
        let difference = varint::zigzag(timestamp.wrapping_sub(self.timestamp));
        let length = varint::len(skipped)
            + varint::len(difference)
            + field_len(key)
            + field_len(value)
            + headers_len;
        let start = self.bytes.len();
        self.bytes.reserve(length + 10);
        varint::write(wide(length), &mut self.bytes);
        varint::write(skipped, &mut self.bytes);
        varint::write(difference, &mut self.bytes);
        write_field(key, &mut self.bytes);
        write_field(value, &mut self.bytes);
        if headers_len > 0
            && let Err(error) = write_headers(&mut self.bytes)
        {
            self.bytes.truncate(start);
            return Err(error.into());
        }
        self.count = count;
        self.span += skipped + 1;
        self.timestamp = timestamp;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        Ok(())
    }

    /// The batch as it is now, to come back to with [`RecordBatchBuilder::truncate`].
    pub fn mark(&self) -> Mark {
        Mark {
            bytes: self.bytes.len(),
            count: self.count,
            span: self.span,
            timestamp: self.timestamp,
            max_timestamp: self.max_timestamp,
        }
    }

    /// Takes back every record appended since the mark was made on this batch.
    pub fn truncate(&mut self, mark: Mark) {
        self.bytes.truncate(mark.bytes);
        self.count = mark.count;
        self.span = mark.span;
        self.timestamp = mark.timestamp;
        self.max_timestamp = mark.max_timestamp;
    }

    /// How many bytes the batch has now.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has no record.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many records it has.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// How many offsets it takes: the records and the gaps between them.
    pub fn span(&self) -> u64 {
        self.span
    }

    /// The largest timestamp, in milliseconds; `None` without records.
    pub fn max_timestamp(&self) -> Option<i64> {
        (self.count > 0).then_some(self.max_timestamp)
    }

    /// The encoded batch.
    pub fn finish(mut self) -> Bytes {
        self.bytes[0] = VERSION;
        self.bytes[COUNT_AT..SPAN_AT].copy_from_slice(&self.count.to_be_bytes());
        self.bytes[SPAN_AT..MAX_TIMESTAMP_AT].copy_from_slice(&self.span.to_be_bytes());
        self.bytes[MAX_TIMESTAMP_AT..PREFIX].copy_from_slice(&self.max_timestamp.to_be_bytes());
        Bytes::from(self.bytes)
    }
}

/// An encoded batch placed at an offset of a partition. Cloning shares the bytes.
///
/// ```
/// use headwater::record::{Headers, RecordBatch, RecordBatchBuilder};
///
/// let mut builder = RecordBatchBuilder::new();
/// builder.append(1_000, Some(b"k"), Some(b"v"), Headers::empty())?;
/// builder.append(1_001, Some(b"k"), None, Headers::empty())?;
/// let batch = RecordBatch::new(40, builder.finish())?;
/// let offsets: Vec<i64> = batch.records().map(|r| r.map(|r| r.offset)).collect::<Result<_, _>>()?;
/// assert_eq!(offsets, [40, 41]);
/// assert_eq!(batch.next_offset(), 42);
/// # Ok::<(), headwater::record::BatchError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordBatch {
    base_offset: i64,
    count: u32,
    span: u64,
    max_timestamp: i64,
    bytes: Bytes,
}

impl RecordBatch {
    /// Places encoded bytes at `base_offset`. Only the fixed part is read here; each record is
    /// checked when a cursor comes to it.
    ///
    /// # Errors
    /// The bytes are no batch of a version this build reads, or would pass the largest offset.
    pub fn new(base_offset: i64, bytes: Bytes) -> Result<Self, BatchError> {
        let fixed = Fixed::read(&bytes)?;
        // A record takes five bytes at least, so a lying count is found before anyone reserves.
        let room = wide(bytes.len() - PREFIX) / 5;
        if u64::from(fixed.count) > room || u64::from(fixed.count) > fixed.span {
            return Err(malformed("count", COUNT_AT));
        }
        let end = i64::try_from(fixed.span).ok().and_then(|span| base_offset.checked_add(span));
        if base_offset < 0 || end.is_none() {
            return Err(malformed("span", SPAN_AT));
        }
        let Fixed { count, span, max_timestamp } = fixed;
        Ok(Self { base_offset, count, span, max_timestamp, bytes })
    }

    /// The offset from which the records' offsets are counted.
    pub fn base_offset(&self) -> i64 {
        self.base_offset
    }

    /// The offset behind the last record.
    pub fn next_offset(&self) -> i64 {
        self.base_offset + i64::try_from(self.span).expect("checked when the batch was placed")
    }

    /// How many records it says to have.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The largest timestamp, in milliseconds; `None` without records.
    pub fn max_timestamp(&self) -> Option<i64> {
        (self.count > 0).then_some(self.max_timestamp)
    }

    /// The encoded bytes; `Bytes::slice_ref` makes an owned key or value of them without a copy.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// All records in offset order; ends after the first error.
    pub fn records(&self) -> Records<'_> {
        Records { batch: self, place: Progress::START, ended: false }
    }

    /// A cursor that owns the batch, to be kept in a queue.
    pub fn into_cursor(self) -> BatchCursor {
        BatchCursor { batch: self, place: Progress::START }
    }

    /// Reads the record at `place` and says where the next one lies; `None` behind the last.
    #[inline]
    fn read(&self, place: Progress) -> Result<Option<(RawRecord<'_>, Progress)>, BatchError> {
        let mut at = place.at;
        if place.index == self.count {
            return if at == self.bytes.len() { Ok(None) } else { Err(malformed("end", at)) };
        }
        let bytes = &self.bytes[..];
        let length = read_number(bytes, &mut at, "length")?;
        let end = usize::try_from(length).ok().and_then(|length| at.checked_add(length));
        let body = end.and_then(|end| bytes.get(..end)).ok_or(malformed("length", place.at))?;
        let skipped_at = at;
        let skipped = read_number(body, &mut at, "offset")?;
        let delta = place
            .delta
            .checked_add(skipped)
            .filter(|delta| *delta < self.span)
            .ok_or(malformed("offset", skipped_at))?;
        let difference = varint::unzigzag(read_number(body, &mut at, "timestamp")?);
        let timestamp = place.timestamp.wrapping_add(difference);
        let key = read_field(body, &mut at, "key")?;
        let value = read_field(body, &mut at, "value")?;
        let offset = self.base_offset + i64::try_from(delta).expect("less than the span");
        let headers = RawHeaders::new(&body[at..]);
        let record = RawRecord { offset, timestamp, key, value, headers };
        let next = Progress { at: body.len(), index: place.index + 1, delta: delta + 1, timestamp };
        Ok(Some((record, next)))
    }
}

/// One record as it lies in a batch. Key, value and headers are borrowed; `None` is null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawRecord<'a> {
    /// Progress in the partition.
    pub offset: i64,
    /// Milliseconds since 1970, unchecked.
    pub timestamp: i64,
    /// The encoded key.
    pub key: Option<&'a [u8]>,
    /// The encoded value.
    pub value: Option<&'a [u8]>,
    /// The encoded headers.
    pub headers: RawHeaders<'a>,
}

/// Where the next record begins, and what its differences are counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Progress {
    at: usize,
    index: u32,
    delta: u64,
    timestamp: i64,
}

/// A place between two records of one batch.
#[derive(Clone, Copy, Debug)]
pub struct Place(Progress);

impl Progress {
    const START: Self = Self { at: PREFIX, index: 0, delta: 0, timestamp: 0 };
}

/// Walks a batch it owns; lends one record at a time. After an error it stays where it is, so the
/// error repeats and nothing is skipped.
#[derive(Clone, Debug)]
pub struct BatchCursor {
    batch: RecordBatch,
    place: Progress,
}

impl BatchCursor {
    /// The record that [`BatchCursor::next`] would return, without taking it.
    ///
    /// # Errors
    /// The bytes are damaged; the error has the position.
    #[inline]
    pub fn peek(&self) -> Result<Option<RawRecord<'_>>, BatchError> {
        Ok(self.batch.read(self.place)?.map(|(record, _)| record))
    }

    /// Takes the next record; `None` at the end. (A lending method: the record borrows the cursor.)
    ///
    /// # Errors
    /// As [`BatchCursor::peek`].
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend from itself")]
    pub fn next(&mut self) -> Result<Option<RawRecord<'_>>, BatchError> {
        let Some((record, next)) = self.batch.read(self.place)? else { return Ok(None) };
        self.place = next;
        Ok(Some(record))
    }

    /// Takes no record yet: lends the next one with the place behind it, for
    /// [`BatchCursor::go_to`].
    ///
    /// # Errors
    /// As [`BatchCursor::peek`].
    #[inline]
    pub fn peek_next(&self) -> Result<Option<(RawRecord<'_>, Place)>, BatchError> {
        Ok(self.batch.read(self.place)?.map(|(record, next)| (record, Place(next))))
    }

    /// Goes on behind a record that [`BatchCursor::peek_next`] of this cursor has lent.
    #[inline]
    pub fn go_to(&mut self, place: Place) {
        self.place = place.0;
    }

    /// How many records are left.
    pub fn remaining(&self) -> u32 {
        self.batch.count - self.place.index
    }

    /// The batch it walks.
    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }
}

/// The iterator of [`RecordBatch::records`].
#[derive(Clone, Debug)]
pub struct Records<'a> {
    batch: &'a RecordBatch,
    place: Progress,
    ended: bool,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RawRecord<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.batch.read(self.place) {
            Ok(Some((record, next))) => {
                self.place = next;
                Some(Ok(record))
            }
            Ok(None) => {
                self.ended = true;
                None
            }
            Err(error) => {
                self.ended = true;
                Some(Err(error))
            }
        }
    }
}

/// Why a batch could not be written or read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BatchError {
    /// A newer build wrote it, or it is no batch.
    #[error("record batch has version {version}, this build reads {VERSION}")]
    Version {
        /// The version byte found.
        version: u8,
    },
    /// The bytes hold what no builder writes.
    #[error("record batch is malformed at byte {position}: {field}")]
    Malformed {
        /// The field that cannot be read.
        field: &'static str,
        /// Byte within the batch where the field begins.
        position: usize,
    },
    /// A record was appended before or at the last one.
    #[error(
        "record {delta} behind the base offset was appended where {expected} or more must come"
    )]
    OffsetOrder {
        /// The offset asked for, counted from the base.
        delta: u64,
        /// The smallest that may come.
        expected: u64,
    },
    /// The record count would pass 32 bits.
    #[error("record batch is full")]
    Full,
    /// The record is larger than the log takes.
    #[error("record has {bytes} bytes encoded, the log takes {max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The log refused the same record before.
    #[error("the log refuses the record: {why}")]
    Refused {
        /// In its words.
        why: String,
    },
    /// The headers pass a limit.
    #[error(transparent)]
    Headers(#[from] HeadersError),
}

/// The fixed part of a batch.
struct Fixed {
    count: u32,
    span: u64,
    max_timestamp: i64,
}

impl Fixed {
    fn read(bytes: &[u8]) -> Result<Self, BatchError> {
        let (version, rest) = bytes.split_first().ok_or(malformed("version", 0))?;
        if *version != VERSION {
            return Err(BatchError::Version { version: *version });
        }
        let (count, rest) = rest.split_first_chunk().ok_or(malformed("count", COUNT_AT))?;
        let (span, rest) = rest.split_first_chunk().ok_or(malformed("span", SPAN_AT))?;
        let max = rest.first_chunk().ok_or(malformed("max timestamp", MAX_TIMESTAMP_AT))?;
        Ok(Self {
            count: u32::from_be_bytes(*count),
            span: u64::from_be_bytes(*span),
            max_timestamp: i64::from_be_bytes(*max),
        })
    }
}

#[inline]
fn field_len(field: Option<&[u8]>) -> usize {
    field.map_or(1, |bytes| varint::len(wide(bytes.len()) + 1) + bytes.len())
}

#[inline]
fn write_field(field: Option<&[u8]>, into: &mut Vec<u8>) {
    match field {
        None => into.push(0),
        Some(bytes) => {
            varint::write(wide(bytes.len()) + 1, into);
            into.extend_from_slice(bytes);
        }
    }
}

#[inline]
fn read_number(bytes: &[u8], at: &mut usize, field: &'static str) -> Result<u64, BatchError> {
    varint::read(bytes, at).ok_or(BatchError::Malformed { field, position: *at })
}

#[inline]
fn read_field<'a>(
    bytes: &'a [u8],
    at: &mut usize,
    field: &'static str,
) -> Result<Option<&'a [u8]>, BatchError> {
    let position = *at;
    let Some(len) = read_number(bytes, at, field)?.checked_sub(1) else { return Ok(None) };
    let end = usize::try_from(len).ok().and_then(|len| at.checked_add(len));
    let slice = end.and_then(|end| bytes.get(*at..end)).ok_or(malformed(field, position))?;
    *at += slice.len();
    Ok(Some(slice))
}

#[inline]
fn malformed(field: &'static str, position: usize) -> BatchError {
    BatchError::Malformed { field, position }
}

#[inline]
fn wide(len: usize) -> u64 {
    u64::try_from(len).expect("a length fits in 64 bits")
}

#[cfg(test)]
mod tests;

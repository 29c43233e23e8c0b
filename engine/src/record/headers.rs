//! Record headers: an ordered list of names with optional bytes, and its encoding. Names may
//! repeat; the order is kept. Must not know what any header means.

use bytes::Bytes;
use thiserror::Error;

use super::varint;

/// Most headers one record may carry.
pub const HEADERS_MAX: usize = 4_096;
/// Longest name of a header, in bytes.
pub const HEADER_NAME_BYTES_MAX: usize = 32_767;
/// Most bytes that all headers of one record may take when encoded.
pub const HEADERS_BYTES_MAX: usize = 4 * 1024 * 1024;

static EMPTY: Headers = Headers::new();

/// One header. A null value is kept apart from an empty one, as in Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The name; names may repeat within a record.
    pub name: Box<str>,
    /// The value, or null.
    pub value: Option<Bytes>,
}

/// The headers of one record, in the order they were appended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    list: Vec<Header>,
}

impl Headers {
    /// No headers yet; allocates nothing.
    pub const fn new() -> Self {
        Self { list: Vec::new() }
    }

    /// The shared empty list, for records without headers.
    pub fn empty() -> &'static Self {
        &EMPTY
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All headers in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Header> {
        self.list.iter()
    }

    /// The last header of that name, which is the one that counts where only one is expected.
    pub fn last(&self, name: &str) -> Option<&Header> {
        self.list.iter().rev().find(|header| &*header.name == name)
    }

    /// Adds a header at the end; an earlier one of the same name stays.
    pub fn append(&mut self, name: impl Into<Box<str>>, value: Option<Bytes>) {
        self.list.push(Header { name: name.into(), value });
    }

    /// Appends the encoding: a count, then for each header its name with a length, and its value
    /// with a length plus one, where zero is null.
    ///
    /// # Errors
    /// A limit of this module is passed; nothing was appended. The record cannot be written: treat
    /// it as any record that fails to serialise.
    pub fn encode(&self, into: &mut Vec<u8>) -> Result<(), HeadersError> {
        self.check_limits()?;
        varint::write(length(self.list.len()), into);
        for header in &self.list {
            write_header(&header.name, header.value.as_deref(), into);
        }
        Ok(())
    }

    /// Appends the same encoding for headers that nobody owns as a list: copies, allocates nothing.
    ///
    /// # Errors
    /// As [`Headers::encode`].
    pub fn encode_borrowed<'a>(
        headers: impl ExactSizeIterator<Item = (&'a str, Option<&'a [u8]>)>,
        into: &mut Vec<u8>,
    ) -> Result<(), HeadersError> {
        let start = into.len();
        if headers.len() > HEADERS_MAX {
            return Err(too_large("count", headers.len(), HEADERS_MAX));
        }
        varint::write(length(headers.len()), into);
        for (name, value) in headers {
            let bytes = into.len() - start + name.len() + value.map_or(0, <[u8]>::len);
            let refused = if name.len() > HEADER_NAME_BYTES_MAX {
                Some(too_large("name", name.len(), HEADER_NAME_BYTES_MAX))
            } else {
                // Two lengths of five bytes at most stand before name and value.
                (bytes + 10 > HEADERS_BYTES_MAX)
                    .then(|| too_large("bytes", bytes, HEADERS_BYTES_MAX))
            };
            if let Some(error) = refused {
                into.truncate(start);
                return Err(error);
            }
            write_header(name, value, into);
        }
        Ok(())
    }

    /// How many bytes [`Headers::encode`] appends.
    pub fn encoded_len(&self) -> usize {
        let each = |header: &Header| {
            let name = header.name.len();
            let value = header.value.as_ref().map_or(0, Bytes::len);
            let frame = header.value.as_ref().map_or(0, |value| length(value.len()) + 1);
            varint::len(length(name)) + name + varint::len(frame) + value
        };
        varint::len(length(self.list.len())) + self.list.iter().map(each).sum::<usize>()
    }

    /// Reads what [`Headers::encode`] wrote. The bytes need not be trusted.
    ///
    /// # Errors
    /// The bytes are not such an encoding or pass a limit; the error names the field.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeadersError> {
        if bytes.len() > HEADERS_BYTES_MAX {
            return Err(too_large("bytes", bytes.len(), HEADERS_BYTES_MAX));
        }
        let mut reader = Reader { bytes, at: 0 };
        let count = reader.number("count")?;
        if count > HEADERS_MAX {
            return Err(too_large("count", count, HEADERS_MAX));
        }
        // A header takes two bytes at least, so a lying count cannot reserve more than its input.
        let mut list = Vec::with_capacity(count.min(bytes.len() / 2));
        for _ in 0..count {
            let name = reader.name()?;
            let value = reader.value()?.map(Bytes::copy_from_slice);
            list.push(Header { name: name.into(), value });
        }
        if reader.at < bytes.len() {
            return Err(HeadersError::Malformed { field: "end", position: reader.at });
        }
        Ok(Self { list })
    }

    fn check_limits(&self) -> Result<(), HeadersError> {
        if self.list.len() > HEADERS_MAX {
            return Err(too_large("count", self.list.len(), HEADERS_MAX));
        }
        let longest = self.list.iter().map(|header| header.name.len()).max().unwrap_or(0);
        if longest > HEADER_NAME_BYTES_MAX {
            return Err(too_large("name", longest, HEADER_NAME_BYTES_MAX));
        }
        let bytes = self.encoded_len();
        if bytes > HEADERS_BYTES_MAX {
            return Err(too_large("bytes", bytes, HEADERS_BYTES_MAX));
        }
        Ok(())
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = &'a Header;
    type IntoIter = std::slice::Iter<'a, Header>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromIterator<Header> for Headers {
    fn from_iter<I: IntoIterator<Item = Header>>(headers: I) -> Self {
        Self { list: headers.into_iter().collect() }
    }
}

/// The headers of a fetched record, still encoded. They are read only when someone asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawHeaders<'a> {
    bytes: &'a [u8],
}

impl<'a> RawHeaders<'a> {
    /// Headers in the encoding of [`Headers::encode`]; no bytes at all stand for no headers.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Whether the record has no headers.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The encoded bytes.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The headers as an owned list; allocates nothing when there are none.
    ///
    /// # Errors
    /// As [`Headers::decode`].
    pub fn decode(&self) -> Result<Headers, HeadersError> {
        if self.is_empty() { Ok(Headers::new()) } else { Headers::decode(self.bytes) }
    }
}

/// Why headers could not be written or read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum HeadersError {
    /// The bytes end too early, or hold what no encoder writes.
    #[error("header {field} is malformed at byte {position}")]
    Malformed {
        /// `count`, `name`, `value` or `end`.
        field: &'static str,
        /// Byte within the encoded headers.
        position: usize,
    },
    /// A limit is passed.
    #[error("header {field} is {found}, more than the limit of {limit}")]
    TooLarge {
        /// `count`, `name` or `bytes`.
        field: &'static str,
        /// What was found.
        found: usize,
        /// What is allowed.
        limit: usize,
    },
}

fn write_header(name: &str, value: Option<&[u8]>, into: &mut Vec<u8>) {
    varint::write(length(name.len()), into);
    into.extend_from_slice(name.as_bytes());
    match value {
        None => varint::write(0, into),
        Some(value) => {
            varint::write(length(value.len()) + 1, into);
            into.extend_from_slice(value);
        }
    }
}

fn too_large(field: &'static str, found: usize, limit: usize) -> HeadersError {
    HeadersError::TooLarge { field, found, limit }
}

fn length(len: usize) -> u64 {
    u64::try_from(len).expect("a length fits in 64 bits")
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn number(&mut self, field: &'static str) -> Result<usize, HeadersError> {
        let malformed = HeadersError::Malformed { field, position: self.at };
        let number = varint::read(self.bytes, &mut self.at).ok_or_else(|| malformed.clone())?;
        usize::try_from(number).map_err(|_| malformed)
    }

    fn slice(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], HeadersError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let slice = rest.get(..len).ok_or(HeadersError::Malformed { field, position: self.at })?;
        self.at += len;
        Ok(slice)
    }

    fn name(&mut self) -> Result<&'a str, HeadersError> {
        let len = self.number("name")?;
        if len > HEADER_NAME_BYTES_MAX {
            return Err(too_large("name", len, HEADER_NAME_BYTES_MAX));
        }
        let position = self.at;
        let bytes = self.slice(len, "name")?;
        std::str::from_utf8(bytes).map_err(|_| HeadersError::Malformed { field: "name", position })
    }

    fn value(&mut self) -> Result<Option<&'a [u8]>, HeadersError> {
        match self.number("value")? {
            0 => Ok(None),
            framed => self.slice(framed - 1, "value").map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    fn encoded(headers: &Headers) -> Vec<u8> {
        let mut bytes = Vec::new();
        headers.encode(&mut bytes).expect("within the limits");
        bytes
    }

    fn any_headers() -> impl Strategy<Value = Headers> {
        let header = ("[a-z_\u{e9}]{0,12}", option::of(vec(any::<u8>(), 0..40)));
        vec(header, 0..8).prop_map(|list| {
            let header = |(name, value): (String, Option<Vec<u8>>)| Header {
                name: name.into(),
                value: value.map(Bytes::from),
            };
            list.into_iter().map(header).collect()
        })
    }

    #[test]
    fn the_last_header_of_a_name_wins_and_all_are_kept() {
        let mut headers = Headers::new();
        headers.append("a", Some(Bytes::from_static(b"1")));
        headers.append("b", None);
        headers.append("a", Some(Bytes::from_static(b"2")));
        assert_eq!(headers.len(), 3);
        assert_eq!(headers.last("a").and_then(|h| h.value.clone()), Some(Bytes::from_static(b"2")));
        assert_eq!(headers.last("b").map(|h| &h.value), Some(&None));
        assert_eq!(headers.last("c"), None);
    }

    #[test]
    fn borrowed_headers_are_encoded_as_a_list_of_them_is() {
        let mut headers = Headers::new();
        headers.append("a", Some(Bytes::from_static(b"1")));
        headers.append("", None);
        let borrowed = headers.iter().map(|h| (&*h.name, h.value.as_deref()));
        let mut bytes = b"before".to_vec();
        Headers::encode_borrowed(borrowed, &mut bytes).expect("within the limits");
        assert_eq!(bytes, [&b"before"[..], &encoded(&headers)[..]].concat());
        let long = "n".repeat(HEADER_NAME_BYTES_MAX + 1);
        let refused = Headers::encode_borrowed([(&*long, None)].into_iter(), &mut bytes);
        assert!(matches!(refused, Err(HeadersError::TooLarge { field: "name", .. })));
        assert_eq!(bytes.len(), 6 + encoded(&headers).len(), "nothing was appended");
    }

    #[test]
    fn a_null_value_is_not_an_empty_value() {
        let mut headers = Headers::new();
        headers.append("null", None);
        headers.append("empty", Some(Bytes::new()));
        assert_eq!(Headers::decode(&encoded(&headers)), Ok(headers));
    }

    #[test]
    fn a_count_larger_than_the_bytes_is_refused_by_name() {
        assert_eq!(
            Headers::decode(&[3, 1, b'a', 0]),
            Err(HeadersError::Malformed { field: "name", position: 4 })
        );
        assert!(matches!(
            Headers::decode(&[0xff, 0xff, 0x7f]),
            Err(HeadersError::TooLarge { field: "count", .. })
        ));
    }

    #[test]
    fn bytes_behind_the_last_header_are_refused() {
        assert_eq!(
            Headers::decode(&[0, 0]),
            Err(HeadersError::Malformed { field: "end", position: 1 })
        );
    }

    #[test]
    fn a_name_that_is_not_text_is_refused() {
        assert_eq!(
            Headers::decode(&[1, 1, 0xff, 0]),
            Err(HeadersError::Malformed { field: "name", position: 2 })
        );
    }

    #[test]
    fn limits_hold_for_writing_too() {
        let mut headers = Headers::new();
        headers.append("n".repeat(HEADER_NAME_BYTES_MAX + 1), None);
        let mut bytes = Vec::new();
        assert!(matches!(
            headers.encode(&mut bytes),
            Err(HeadersError::TooLarge { field: "name", .. })
        ));
        let mut large = Headers::new();
        large.append("a", Some(Bytes::from(vec![0; HEADERS_BYTES_MAX])));
        assert!(matches!(
            large.encode(&mut bytes),
            Err(HeadersError::TooLarge { field: "bytes", .. })
        ));
        let many: Headers =
            (0..=HEADERS_MAX).map(|_| Header { name: "".into(), value: None }).collect();
        assert!(matches!(
            many.encode(&mut bytes),
            Err(HeadersError::TooLarge { field: "count", .. })
        ));
        assert!(bytes.is_empty());
    }

    proptest! {
        #[test]
        fn all_headers_come_back(headers in any_headers()) {
            let bytes = encoded(&headers);
            prop_assert_eq!(bytes.len(), headers.encoded_len());
            prop_assert_eq!(RawHeaders::new(&bytes).decode(), Ok(headers));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in vec(any::<u8>(), 0..64)) {
            if let Ok(headers) = Headers::decode(&bytes) {
                prop_assert_eq!(Headers::decode(&encoded(&headers)), Ok(headers));
            }
        }

        #[test]
        fn a_cut_encoding_is_refused(headers in any_headers(), cut in any::<prop::sample::Index>()) {
            let bytes = encoded(&headers);
            let len = cut.index(bytes.len());
            prop_assert!(Headers::decode(&bytes[..len]).is_err());
        }
    }
}

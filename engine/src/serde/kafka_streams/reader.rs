//! Reads big-endian numbers and byte strings with an `i32` length, as Java's `ByteBuffer` has them.

use crate::serde::SerdeError;

pub(super) struct Reader<'a> {
    format: &'static str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(format: &'static str, bytes: &'a [u8]) -> Self {
        Self { format, bytes, at: 0 }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub(super) fn end(&self) -> Result<(), SerdeError> {
        if self.is_at_end() { Ok(()) } else { Err(self.malformed("bytes behind the end")) }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], SerdeError> {
        let slice = self.slice(N)?;
        Ok(slice.try_into().expect("a slice of N bytes was asked for"))
    }

    /// A byte string whose length was read already.
    pub(super) fn slice_of(&mut self, len: i32) -> Result<&'a [u8], SerdeError> {
        let len = usize::try_from(len).map_err(|_| self.malformed("a negative length"))?;
        self.slice(len)
    }

    /// Everything that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at = self.bytes.len();
        rest
    }

    /// A text after its length.
    pub(super) fn text(&mut self) -> Result<&'a str, SerdeError> {
        let len = i32::from_be_bytes(self.array()?);
        let text = std::str::from_utf8(self.slice_of(len)?);
        text.map_err(|_| self.malformed("a text that is not UTF-8"))
    }

    pub(super) fn malformed(&self, problem: &'static str) -> SerdeError {
        SerdeError::Malformed { format: self.format, position: self.at, problem }
    }

    fn slice(&mut self, len: usize) -> Result<&'a [u8], SerdeError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let slice = rest.get(..len).ok_or(self.malformed("too short"))?;
        self.at += len;
        Ok(slice)
    }
}

/// A length as Java writes it.
pub(super) fn length(what: &'static str, len: usize) -> Result<[u8; 4], SerdeError> {
    let limit = usize::try_from(i32::MAX).expect("positive");
    let error = SerdeError::Limit { what, found: len, limit };
    i32::try_from(len).map(i32::to_be_bytes).map_err(|_| error)
}

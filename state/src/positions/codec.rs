//! The bytes of our own small rows: a version, then fields in a fixed order.
//!
//! Integers are big-endian, strings have a `u32` length in front, an option a byte. Must not know
//! which fields there are.

use std::collections::BTreeMap;

use crate::error::{Result, StateError};

pub(crate) struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new(version: u8) -> Self {
        Self { bytes: vec![version] }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn len(&mut self, len: usize) {
        self.u32(u32::try_from(len).expect("positions have few and short fields"));
    }

    pub(crate) fn optional_i64(&mut self, value: Option<i64>) {
        self.bytes.push(u8::from(value.is_some()));
        if let Some(value) = value {
            self.i64(value);
        }
    }

    pub(crate) fn string(&mut self, value: &str) {
        self.len(value.len());
        self.bytes.extend_from_slice(value.as_bytes());
    }

    pub(crate) fn optional_string(&mut self, value: Option<&str>) {
        self.bytes.push(u8::from(value.is_some()));
        if let Some(value) = value {
            self.string(value);
        }
    }

    pub(crate) fn times(&mut self, times: &BTreeMap<String, i64>) {
        self.len(times.len());
        for (name, time) in times {
            self.string(name);
            self.i64(*time);
        }
    }
}

pub(crate) struct Decoder<'b> {
    rest: &'b [u8],
    place: &'b dyn Fn() -> String,
}

impl<'b> Decoder<'b> {
    /// Reads the version byte; `place` names the row in errors.
    pub(crate) fn new(
        bytes: &'b [u8],
        supported: u8,
        place: &'b dyn Fn() -> String,
    ) -> Result<Self> {
        let mut decoder = Self { rest: bytes, place };
        match decoder.array::<1>()? {
            [found] if found > supported => Err(StateError::NewerFormat {
                what: place(),
                found: u32::from(found),
                supported: u32::from(supported),
            }),
            [0] => Err(decoder.damaged("has format 0")),
            _ => Ok(decoder),
        }
    }

    fn damaged(&self, what: &str) -> StateError {
        StateError::corrupt((self.place)(), what)
    }

    fn take(&mut self, len: usize) -> Result<&'b [u8]> {
        let (taken, rest) =
            self.rest.split_at_checked(len).ok_or_else(|| self.damaged("is cut short"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("take gives the length asked for"))
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    fn present(&mut self) -> Result<bool> {
        match self.array::<1>()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(self.damaged("has an option that is neither present nor absent")),
        }
    }

    pub(crate) fn optional_i64(&mut self) -> Result<Option<i64>> {
        if self.present()? { self.i64().map(Some) } else { Ok(None) }
    }

    pub(crate) fn string(&mut self) -> Result<String> {
        let len = usize::try_from(self.u32()?).map_err(|_| self.damaged("is cut short"))?;
        let bytes = self.take(len)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| self.damaged("has a name that is not UTF-8"))
    }

    pub(crate) fn optional_string(&mut self) -> Result<Option<String>> {
        if self.present()? { self.string().map(Some) } else { Ok(None) }
    }

    pub(crate) fn times(&mut self) -> Result<BTreeMap<String, i64>> {
        let count = self.u32()?;
        (0..count).map(|_| Ok((self.string()?, self.i64()?))).collect()
    }

    pub(crate) fn finish(self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.damaged("has bytes too many")) }
    }
}

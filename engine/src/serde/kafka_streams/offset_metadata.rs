//! What Kafka Streams commits beside an offset: the partition's time and, by name, the clocks of
//! operators. Source: `TopicPartitionMetadata` (version 2) and `ProcessorMetadata`. Must not know
//! which operators there are, nor the broker's limit on its length.
//!
//! The text is the base64 form of
//!
//! ```text
//! version u8 | partition time i64 | entries i32 | ( length i32 | name | value i64 ) *
//! ```
//!
//! without anything after the partition time if there are no entries. Version 1 has none.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::reader::{Reader, length};
use crate::serde::SerdeError;
use crate::time::NO_TIMESTAMP;

const FORMAT: &str = "offset metadata";
const VERSION: u8 = 2;

/// The metadata of one partition's committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetMetadata {
    /// Largest timestamp read from the partition in milliseconds, or [`NO_TIMESTAMP`].
    pub partition_time: i64,
    /// Clocks by name. When a task has several inputs, the largest value of a name counts.
    pub processors: BTreeMap<String, i64>,
}

impl Default for OffsetMetadata {
    fn default() -> Self {
        Self { partition_time: NO_TIMESTAMP, processors: BTreeMap::new() }
    }
}

impl OffsetMetadata {
    /// The text to commit.
    ///
    /// # Errors
    /// More entries or a longer name than 31 bits can count.
    pub fn encode(&self) -> Result<String, SerdeError> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.partition_time.to_be_bytes());
        if !self.processors.is_empty() {
            bytes.extend_from_slice(&length("entries", self.processors.len())?);
        }
        for (name, value) in &self.processors {
            bytes.extend_from_slice(&length("name", name.len())?);
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(&value.to_be_bytes());
        }
        Ok(STANDARD.encode(bytes))
    }

    /// Reads a committed text; an empty one is what a plain consumer commits and holds nothing.
    ///
    /// # Errors
    /// The text is no such metadata. Kafka Streams then goes on with an unknown time and a warning.
    pub fn decode(text: &str) -> Result<Self, SerdeError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let bytes = STANDARD.decode(text).map_err(|_| SerdeError::Malformed {
            format: FORMAT,
            position: 0,
            problem: "not base64",
        })?;
        let mut reader = Reader::new(FORMAT, &bytes);
        let version = u8::from_be_bytes(reader.array()?);
        if !(1..=VERSION).contains(&version) {
            return Err(reader.malformed("a version this build does not read"));
        }
        let partition_time = i64::from_be_bytes(reader.array()?);
        let mut processors = BTreeMap::new();
        if version == VERSION && !reader.is_at_end() {
            for _ in 0..i32::from_be_bytes(reader.array()?) {
                let name = reader.text()?.to_owned();
                processors.insert(name, i64::from_be_bytes(reader.array()?));
            }
        }
        Ok(Self { partition_time, processors })
    }
}

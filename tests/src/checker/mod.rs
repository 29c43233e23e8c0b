//! Independent recomputation of what the platform's topologies should have produced.
//!
//! It owns its own reading of the formats: which values count, which bucket and which window they
//! fall into, which records are late. It must not use the engine, the schemas or the topologies:
//! a mistake made there must show as a difference here. It trusts the order of records in each
//! partition, and nothing else.

pub mod buckets;
pub mod http;
pub mod joined;
pub mod metric;
pub mod rollup;
pub mod told;

use std::fmt;

/// One record as it lies in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Its partition.
    pub partition: u32,
    /// Its offset there.
    pub offset: i64,
    /// Its timestamp, in ms.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Its headers, in order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl LogRecord {
    /// The last header of a name, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().rfind(|(header, _)| header == name)?;
        std::str::from_utf8(value).ok()
    }
}

/// Differences found, the first of them in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    told: Vec<String>,
    count: usize,
}

impl Findings {
    /// Most differences told in words.
    pub const TOLD_MAX: usize = 20;

    /// Notes one difference.
    pub fn note(&mut self, difference: impl FnOnce() -> String) {
        self.count += 1;
        if self.told.len() < Self::TOLD_MAX {
            self.told.push(difference());
        }
    }

    /// Number of differences.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds those of `other`.
    pub fn extend(&mut self, other: Self) {
        self.count += other.count;
        let room = Self::TOLD_MAX - self.told.len();
        self.told.extend(other.told.into_iter().take(room));
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for difference in &self.told {
            writeln!(f, "{difference}")?;
        }
        match self.count - self.told.len() {
            0 => Ok(()),
            more => writeln!(f, "and {more} more"),
        }
    }
}

#[cfg(test)]
#[path = "checker_tests.rs"]
mod tests;

//! What is wrong with an event, by JSON path.
//!
//! Owns the error of every parser here. It must not know where the bytes came from: topic,
//! partition and offset are added by whoever read the record.

use std::fmt;

/// Most violations one report keeps; a hostile document cannot make an error of its own size.
pub const VIOLATIONS_MAX: usize = 32;

/// Why bytes are not the event they claim to be.
///
/// The caller sends the record to the dead letters with this text, and goes on; repeating the
/// parse gives the same answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// The value is larger than any event may be.
    #[error(
        "event of {bytes} bytes, at most {max} are allowed: store the payload elsewhere and send a reference"
    )]
    TooLarge {
        /// Size of the value.
        bytes: usize,
        /// The limit, [`crate::envelope::EVENT_BYTES_MAX`].
        max: usize,
    },
    /// The value is not JSON; numbers outside the range of a double are refused here too.
    #[error("malformed json at line {line} column {column}: {reason}")]
    Malformed {
        /// Line of the first offending byte, from 1.
        line: usize,
        /// Column of the first offending byte.
        column: usize,
        /// What the parser expected.
        reason: String,
    },
    /// The value is JSON, but not of the shape its contract asks for.
    #[error("invalid event: {0}")]
    Invalid(Violations),
}

/// One offending place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// JSON path, such as `$.metadata.timestamp`.
    pub path: String,
    /// What is wrong there, and what is expected.
    pub reason: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path, self.reason)
    }
}

/// Every offending place of one event, in the order of the contract's fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violations {
    found: Vec<Violation>,
    omitted: usize,
}

impl Violations {
    /// The violations, at most [`VIOLATIONS_MAX`].
    pub fn iter(&self) -> impl Iterator<Item = &Violation> {
        self.found.iter()
    }

    /// Their paths, in the same order.
    pub fn paths(&self) -> Vec<&str> {
        self.found.iter().map(|violation| violation.path.as_str()).collect()
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// How many there are, those left out included.
    pub(crate) fn len(&self) -> usize {
        self.found.len() + self.omitted
    }

    pub(crate) fn push(&mut self, path: String, reason: String) {
        if self.found.len() < VIOLATIONS_MAX {
            self.found.push(Violation { path, reason });
        } else {
            self.omitted += 1;
        }
    }

    /// What was reported since there were `since` is about `to`, where `from` was named.
    pub(crate) fn rebase(&mut self, since: usize, from: &str, to: &str) {
        for violation in self.found.iter_mut().skip(since) {
            if let Some(rest) = violation.path.strip_prefix(from) {
                violation.path = format!("{to}{rest}");
            }
        }
    }

    /// The finished parse: `value` when nothing was reported.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, EventError> {
        match value {
            Some(value) if self.is_empty() => Ok(value),
            _ => {
                debug_assert!(!self.is_empty(), "a missing part is always reported");
                Err(EventError::Invalid(self))
            }
        }
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, violation) in self.found.iter().enumerate() {
            let separator = if position == 0 { "" } else { "; " };
            write!(f, "{separator}{violation}")?;
        }
        if self.omitted > 0 {
            write!(f, "; and {} more", self.omitted)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_many_violations_stays_small_and_says_how_many_it_left_out() {
        let mut violations = Violations::default();
        for position in 0..100 {
            violations.push(format!("$.field{position}"), "is missing".to_owned());
        }
        assert_eq!(violations.iter().count(), VIOLATIONS_MAX);
        assert!(violations.to_string().ends_with("; and 68 more"));
    }
}

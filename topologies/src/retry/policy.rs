//! Which failures are tried again, how often and how soon.
//!
//! Owns the numbers and the marks of a passing failure. It must not know a record.

use std::fmt;

/// How often a record is tried again, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Retries at most; then the record is a dead letter.
    pub retries_max: u32,
    /// Wait before the first retry, in milliseconds; each further one waits twice as long.
    pub first_delay_ms: i64,
    /// The longest wait, in milliseconds.
    pub delay_max_ms: i64,
}

impl Default for Policy {
    fn default() -> Self {
        Self { retries_max: 5, first_delay_ms: 1_000, delay_max_ms: 60_000 }
    }
}

impl Policy {
    /// How long a record waits that was retried so often, in milliseconds: doubled each time, up to
    /// the longest wait. Never negative.
    pub fn delay_ms(&self, retries: u32) -> i64 {
        let doubled = 1i64.checked_shl(retries).filter(|factor| *factor > 0).unwrap_or(i64::MAX);
        self.first_delay_ms.max(0).saturating_mul(doubled).clamp(0, self.delay_max_ms.max(0))
    }
}

/// What a passing failure's name or message contains: Kafka's names of failures that may pass.
pub const RETRYABLE: [&str; 4] =
    ["NETWORK_EXCEPTION", "REQUEST_TIMEOUT", "RETRIABLE_EXCEPTION", "UNKNOWN_SERVER_ERROR"];

/// Why a handler could not do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerError {
    name: String,
    message: String,
}

impl HandlerError {
    /// A failure of this name.
    pub fn new(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self { name: name.into(), message: message.into() }
    }

    /// A failure that may pass.
    pub fn passing(message: impl Into<String>) -> Self {
        Self::new("RETRIABLE_EXCEPTION", message)
    }

    /// Another try may help: its name or message says so.
    pub fn is_retryable(&self) -> bool {
        RETRYABLE.iter().any(|mark| self.name.contains(mark) || self.message.contains(mark))
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.message)
    }
}

impl std::error::Error for HandlerError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_a_second_to_a_minute() {
        let policy = Policy::default();
        let waits: Vec<i64> = (0..8).map(|retries| policy.delay_ms(retries)).collect();
        assert_eq!(waits, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
    }

    #[test]
    fn no_number_of_retries_overflows_a_wait() {
        for retries in [62, 63, 64, 65, u32::MAX] {
            assert_eq!(Policy::default().delay_ms(retries), 60_000, "{retries}");
        }
        let hostile = Policy { first_delay_ms: i64::MIN, delay_max_ms: -1, ..Policy::default() };
        assert_eq!(hostile.delay_ms(3), 0);
    }

    #[test]
    fn a_failure_passes_if_its_name_or_its_message_has_a_mark() {
        for mark in RETRYABLE {
            assert!(HandlerError::new(mark, "no").is_retryable(), "{mark}");
            assert!(HandlerError::new("E", format!("got {mark} from it")).is_retryable(), "{mark}");
        }
        assert!(!HandlerError::new("VALIDATION", "no such field").is_retryable());
        assert!(HandlerError::passing("busy").is_retryable());
    }
}

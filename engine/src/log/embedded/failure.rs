//! Failures of the database in the log's words.

use headwater_state::{ErrorClass as StateClass, StateError};

use crate::error::ErrorClass;
use crate::log::LogError;

/// What a failed operation on the database means to the log's caller.
pub(super) fn from_state(operation: &'static str, error: &StateError) -> LogError {
    let class = match error.class() {
        StateClass::Retry => ErrorClass::Retry,
        StateClass::Fenced => ErrorClass::Fenced,
        StateClass::Fatal | StateClass::Damaged => ErrorClass::Fatal,
    };
    LogError::new(class, operation, error.to_string())
}

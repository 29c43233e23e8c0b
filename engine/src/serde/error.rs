//! Why bytes are no value, or a value has no bytes. Must not know where the record came from: the
//! topic, partition and offset are added by who read it.

use thiserror::Error;

/// Why a serde refused a value or its bytes. Retrying does not help: the same input fails again, so
/// the record goes the way of a failing record.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SerdeError {
    /// Null came where the type has no value for it. Wrap the serde in
    /// [`serdes::optional`](super::serdes::optional) to accept it.
    #[error("null is no value of {type_name}")]
    Null {
        /// The Rust type that refused it.
        type_name: &'static str,
    },
    /// A format of fixed length has another length.
    #[error("expected {expected} bytes, found {found}")]
    Length {
        /// Bytes the format has.
        expected: usize,
        /// Bytes that came.
        found: usize,
    },
    /// A text is not UTF-8.
    #[error("text is not UTF-8 at byte {position}")]
    Text {
        /// The first byte that cannot be read.
        position: usize,
    },
    /// A JSON document cannot be read as, or made of, the type.
    #[error("json at {path}: {message}")]
    Json {
        /// The field, as in `order.lines[2].price`; `.` is the document.
        path: String,
        /// What was wrong there, with line and column where there are any.
        message: String,
    },
    /// A limit is passed.
    #[error("{what} is {found}, more than the limit of {limit}")]
    Limit {
        /// What is limited.
        what: &'static str,
        /// What was found.
        found: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The bytes are not in the format.
    #[error("{format} at byte {position}: {problem}")]
    Malformed {
        /// The format that was expected.
        format: &'static str,
        /// Where the problem lies.
        position: usize,
        /// What it is.
        problem: &'static str,
    },
    /// What a serde outside this crate has to say.
    #[error("{0}")]
    Other(String),
}

impl SerdeError {
    /// A format of fixed length has another length.
    pub fn length(expected: usize, found: usize) -> Self {
        Self::Length { expected, found }
    }

    /// An error of a serde outside this crate: lowercase, says what was found where.
    pub fn other(message: impl Into<String>) -> Self {
        Self::Other(message.into())
    }
}

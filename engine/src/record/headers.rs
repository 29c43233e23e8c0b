//! Placeholder: headers.

/// Headers of a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {}

//! Analytics rollups: agents' performance metrics in five-minute windows.

mod bytes;
pub mod load;
pub mod rollup;
pub mod sketch;

pub use bytes::DecodeError;

/// Length of a window.
pub const WINDOW_MS: i64 = 5 * 60 * 1_000;

/// How long after its end a window accepts records, in stream time.
pub const GRACE_MS: i64 = 60 * 1_000;

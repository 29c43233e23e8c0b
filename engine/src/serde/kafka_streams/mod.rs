//! The bytes that Kafka Streams writes around keys and values: what lies in a Kafka topic or in a
//! committed offset is read and written by either. Must not know which store or topic they are for,
//! nor any format of our own disk.
//!
//! Every format here is compared with captures of Kafka Streams itself (`tests/jvm`).
//!
//! What lies in a changelog, by store:
//! - key-value: the key and the plain value; the value's timestamp is the record's own timestamp.
//! - window: a [`WindowStoreKey`] and the plain value; the timestamp as above.
//! - session: a [`SessionKey`] and the plain value.
//! - window of a join: a [`WindowStoreKey`] that counts its sequence number up, and the plain value.
//! - records of a join that have met no other: a [`JoinSideKey`] and a list of values.
//! - suppress buffer: the plain key (windowed, if the table is) and a [`BufferValue`], no timestamp.
//! - versioned: as key-value; versions that come late are written when they come.
//! - subscriptions of a foreign-key join: a [`CombinedKey`] and a [`Subscription`].

mod buffer_value;
mod change;
mod foreign_key;
mod join_side;
mod murmur3;
mod offset_metadata;
mod partitioner;
mod reader;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod topic_tests;
mod value_and_timestamp;
mod window_keys;
mod windowed;

pub use buffer_value::{BUFFER_VERSION_HEADER, BufferValue};
pub use change::{ChangeBytes, decode_change, encode_change};
pub use foreign_key::{CombinedKey, Instruction, Subscription, SubscriptionResponse};
pub use join_side::{JoinSide, JoinSideKey, decode_join_side_values, encode_join_side_values};
pub use murmur3::murmur3_128;
pub use offset_metadata::OffsetMetadata;
pub use partitioner::{murmur2, partition_for};
pub use value_and_timestamp::{decode_value_and_timestamp, encode_value_and_timestamp};
pub use window_keys::{SessionKey, WindowStoreKey};
pub use windowed::{session_windowed, time_windowed};

use super::SerdeError;

/// Cuts a big-endian number off the end.
fn split_last_i64<'a>(
    format: &'static str,
    bytes: &'a [u8],
) -> Result<(&'a [u8], i64), SerdeError> {
    let problem = SerdeError::Malformed { format, position: bytes.len(), problem: "too short" };
    let (rest, last) = bytes.split_last_chunk().ok_or(problem)?;
    Ok((rest, i64::from_be_bytes(*last)))
}

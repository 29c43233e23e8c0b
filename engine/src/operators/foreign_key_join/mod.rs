//! `KTable::foreign_key_join` and `foreign_key_left_join`: each left row with the right row whose key
//! it names. The sides are partitioned differently, so they talk through two internal topics: the
//! left side subscribes its row at the right row's partition, the right side answers with its row,
//! at once and whenever it changes, and the left side resolves the answer with its row of then.
//!
//! Source: KIP-213, KIP-962; package `foreignkeyjoin`.
//!
//! An answer carries the hash of the left row it was asked for: it is dropped as stale if the row
//! has changed meanwhile. The hash is of the row's bytes, so equal rows must have equal bytes.

mod messages;
mod resolve;
mod respond;
mod subscribe;

pub(crate) use messages::{Answer, Asked, MessageSerde};
pub(crate) use resolve::{ForeignJoiner, Resolve};
pub(crate) use respond::{AnswerChange, AnswerSubscription};
pub(crate) use subscribe::{ForeignKey, Subscribe};

use messages::RowHash;

use crate::processor::NodeError;
use crate::serde::SharedSerde;
use crate::serde::kafka_streams::murmur3_128;
use crate::store::TimestampedKeyValueStore;

/// Who subscribed: foreign key and primary key, by their bytes, to what was asked last.
pub(crate) type SubscriptionStore = TimestampedKeyValueStore<Vec<u8>, Asked>;

/// The hash of a left row.
fn hash_of<V: 'static>(serde: &SharedSerde<V>, row: &V) -> Result<Option<RowHash>, NodeError> {
    Ok(serde.to_bytes(row)?.map(|bytes| murmur3_128(&bytes)))
}

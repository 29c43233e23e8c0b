//! What the two sides say to each other, typed; the bytes are `serde::kafka_streams`'s. Knows no
//! node.

use crate::serde::kafka_streams::{Instruction, Subscription, SubscriptionResponse};
use crate::serde::{Serde, SerdeError};

/// The hash of a left row's bytes.
pub(crate) type RowHash = [u8; 16];

/// A left row asks for its right row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) instruction: Instruction,
    /// Of the left row; none if it was deleted.
    pub(crate) hash: Option<RowHash>,
    /// The left row's key, encoded.
    pub(crate) primary_key: Vec<u8>,
    /// The left row's partition, where the answer goes.
    pub(crate) primary_partition: Option<i32>,
}

/// The right side's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The hash of who asked.
    pub(crate) hash: Option<RowHash>,
    /// The right row, encoded.
    pub(crate) foreign_value: Option<Vec<u8>>,
    /// Where the answer goes. It is not written.
    pub(crate) primary_partition: Option<i32>,
}

/// Reads and writes both.
pub(crate) struct MessageSerde;

impl Serde<Asked> for MessageSerde {
    fn serialize(&self, value: &Asked, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        let Asked { instruction, hash, ref primary_key, primary_partition } = *value;
        Subscription { instruction, hash, primary_key, primary_partition }.encode(into);
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<Asked, SerdeError> {
        let Subscription { instruction, hash, primary_key, primary_partition } =
            Subscription::decode(bytes)?;
        Ok(Asked { instruction, hash, primary_key: primary_key.to_vec(), primary_partition })
    }
}

impl Serde<Answer> for MessageSerde {
    fn serialize(&self, value: &Answer, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        let foreign_value = value.foreign_value.as_deref();
        SubscriptionResponse { hash: value.hash, foreign_value }.encode(into);
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<Answer, SerdeError> {
        let SubscriptionResponse { hash, foreign_value } = SubscriptionResponse::decode(bytes)?;
        let foreign_value = foreign_value.map(<[u8]>::to_vec);
        Ok(Answer { hash, foreign_value, primary_partition: None })
    }
}

//! What a foreign-key join sends to the other table and back, and how the other table keeps who
//! asked. Source: `SubscriptionWrapperSerde`, `SubscriptionResponseWrapperSerde` and
//! `CombinedKeySchema`, version 1. Must not know the serdes of keys and values.
//!
//! ```text
//! subscription:  version u8 | instruction u8 | hash, 16 bytes | primary key | partition i32
//! response:      version u8 | hash, 16 bytes | foreign value
//! combined key:  length of the foreign key i32 | foreign key | primary key
//! ```
//!
//! The highest bit of a version says that there is no hash: the left value is null. A subscription
//! of version 0 ends with its key. In a response nothing after the hash stands for null, so an
//! empty foreign value comes back as null, as in Kafka Streams.
//!
//! In the registration topic the record's key is the foreign key, in the response topic the primary
//! key. The subscription store's changelog has combined keys and subscriptions.

use super::reader::{Reader, length};
use crate::serde::SerdeError;

const NO_HASH: u8 = 0x80;
const HASH_BYTES: usize = 16;
const SUBSCRIPTION_VERSION: u8 = 1;
const RESPONSE_VERSION: u8 = 0;

/// What the other table is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Forget the subscription and answer nothing.
    DeleteKeyNoPropagate,
    /// Forget the subscription and answer null.
    DeleteKeyAndPropagate,
    /// Subscribe, and answer null if there is no such row.
    PropagateNullIfNoForeignValue,
    /// Subscribe, and answer only if there is such a row.
    PropagateOnlyIfForeignValue,
}

impl Instruction {
    const ALL: [Self; 4] = [
        Self::DeleteKeyNoPropagate,
        Self::DeleteKeyAndPropagate,
        Self::PropagateNullIfNoForeignValue,
        Self::PropagateOnlyIfForeignValue,
    ];

    fn byte(self) -> u8 {
        match self {
            Self::DeleteKeyNoPropagate => 0,
            Self::DeleteKeyAndPropagate => 1,
            Self::PropagateNullIfNoForeignValue => 2,
            Self::PropagateOnlyIfForeignValue => 3,
        }
    }
}

/// A row of the left table asks for a row of the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription<'a> {
    /// What the other table is to do.
    pub instruction: Instruction,
    /// [`murmur3_128`](super::murmur3_128) of the left value's bytes; `None` for a null value.
    pub hash: Option<[u8; HASH_BYTES]>,
    /// The left row's key.
    pub primary_key: &'a [u8],
    /// The left row's partition, to which the answer goes; `None` was written by versions before
    /// 3.5, whose answers are partitioned by key.
    pub primary_partition: Option<i32>,
}

impl<'a> Subscription<'a> {
    /// Appends the bytes.
    pub fn encode(&self, into: &mut Vec<u8>) {
        let version = if self.primary_partition.is_some() { SUBSCRIPTION_VERSION } else { 0 };
        write_version(version, self.hash.is_none(), into);
        into.push(self.instruction.byte());
        into.extend(self.hash.iter().flatten());
        into.extend_from_slice(self.primary_key);
        into.extend(self.primary_partition.iter().flat_map(|partition| partition.to_be_bytes()));
    }

    /// Reads the bytes.
    ///
    /// # Errors
    /// The bytes are no such subscription; the error has the position.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, SerdeError> {
        let mut reader = Reader::new("subscription", bytes);
        let (version, has_hash) = read_version(&mut reader)?;
        let [code] = reader.array()?;
        let instruction = Instruction::ALL.into_iter().find(|i| i.byte() == code);
        let instruction = instruction.ok_or(reader.malformed("an unknown instruction"))?;
        let hash = if has_hash { Some(reader.array()?) } else { None };
        let rest = reader.rest();
        let (primary_key, primary_partition) = match version {
            0 => (rest, None),
            SUBSCRIPTION_VERSION => {
                let (key, partition) =
                    rest.split_last_chunk().ok_or(reader.malformed("no partition"))?;
                (key, Some(i32::from_be_bytes(*partition)))
            }
            _ => return Err(reader.malformed("a version this build does not read")),
        };
        Ok(Self { instruction, hash, primary_key, primary_partition })
    }
}

/// The right table's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionResponse<'a> {
    /// The hash of the question; an answer to a question that is no longer asked is dropped.
    pub hash: Option<[u8; HASH_BYTES]>,
    /// The right row's value, if there is one.
    pub foreign_value: Option<&'a [u8]>,
}

impl<'a> SubscriptionResponse<'a> {
    /// Appends the bytes.
    pub fn encode(&self, into: &mut Vec<u8>) {
        write_version(RESPONSE_VERSION, self.hash.is_none(), into);
        into.extend(self.hash.iter().flatten());
        into.extend_from_slice(self.foreign_value.unwrap_or_default());
    }

    /// Reads the bytes.
    ///
    /// # Errors
    /// The bytes are no such answer; the error has the position.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, SerdeError> {
        let mut reader = Reader::new("subscription response", bytes);
        let (_, has_hash) = read_version(&mut reader)?;
        let hash = if has_hash { Some(reader.array()?) } else { None };
        let value = reader.rest();
        Ok(Self { hash, foreign_value: (!value.is_empty()).then_some(value) })
    }
}

/// A key of the store of subscriptions: all that ask for one row stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CombinedKey<'a> {
    /// The right row's key.
    pub foreign_key: &'a [u8],
    /// The left row's key.
    pub primary_key: &'a [u8],
}

impl<'a> CombinedKey<'a> {
    /// Appends the bytes. With an empty primary key they are the prefix of all that ask for the
    /// foreign key.
    ///
    /// # Errors
    /// The foreign key is 2 GiB or longer.
    pub fn encode(&self, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        into.extend_from_slice(&length("foreign key", self.foreign_key.len())?);
        into.extend_from_slice(self.foreign_key);
        into.extend_from_slice(self.primary_key);
        Ok(())
    }

    /// Reads the bytes.
    ///
    /// # Errors
    /// The bytes are no such key; the error has the position.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, SerdeError> {
        let mut reader = Reader::new("combined key", bytes);
        let len = i32::from_be_bytes(reader.array()?);
        Ok(Self { foreign_key: reader.slice_of(len)?, primary_key: reader.rest() })
    }
}

fn write_version(version: u8, without_hash: bool, into: &mut Vec<u8>) {
    into.push(if without_hash { version | NO_HASH } else { version });
}

/// The version, and whether there is a hash.
fn read_version(reader: &mut Reader<'_>) -> Result<(u8, bool), SerdeError> {
    let [byte] = reader.array()?;
    Ok((byte & !NO_HASH, byte & NO_HASH == 0))
}

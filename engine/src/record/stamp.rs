//! The audit stamp: a header that says which transaction of which task wrote a record, and as the
//! how many-th of it. Owns its bytes; knows neither who stamps nor who judges.
//!
//! The value, version 1; `varint` is `record/varint.rs`, signed numbers in zigzag:
//!
//! ```text
//! version u8 = 1
//! application u32, big-endian    murmur2 of the application id
//! subtopology varint, partition varint
//! epoch signed varint            wall-clock milliseconds at which this life of the task began
//! sequence varint                the task's transactions that wrote something, from 1
//! index varint                   the task's records in this transaction, from 0
//! previous varint                how many records the transaction before this one has
//! ```

use bytes::Bytes;

use super::{TaskId, varint};

/// The name of the header.
pub const STAMP_HEADER: &str = "headwater.audit";
/// The most that a stamp adds to an encoded record: name, value and their lengths.
pub const STAMP_BYTES_MAX: usize = 96;

const VERSION: u8 = 1;

/// What a stamp says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// A hash of the application id, to tell applications apart that write to one topic.
    pub application: u32,
    /// The task that wrote the record.
    pub task: TaskId,
    /// The life of the task: a restart, a move and a rewind each begin a new one.
    pub epoch: i64,
    /// The transaction, counted by task; those in which the task wrote nothing do not count.
    pub sequence: u64,
    /// The record's number in its task's part of the transaction.
    pub index: u64,
    /// How many records the task's transaction before this one has.
    pub previous: u64,
}

impl Stamp {
    /// The header's value.
    pub fn encode(&self) -> Bytes {
        let mut bytes = vec![VERSION];
        bytes.extend(self.application.to_be_bytes());
        for number in [
            u64::from(self.task.subtopology),
            u64::from(self.task.partition),
            varint::zigzag(self.epoch),
            self.sequence,
            self.index,
            self.previous,
        ] {
            varint::write(number, &mut bytes);
        }
        bytes.into()
    }

    /// Reads a header's value; `None` if it is no stamp of this version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (fixed, rest) = bytes.split_first_chunk::<5>()?;
        let [VERSION, application @ ..] = fixed else { return None };
        let mut at = 0;
        let mut next = || varint::read(rest, &mut at);
        let (subtopology, partition) = (next()?, next()?);
        let task = TaskId {
            subtopology: u32::try_from(subtopology).ok()?,
            partition: u32::try_from(partition).ok()?,
        };
        let (epoch, sequence, index, previous) =
            (varint::unzigzag(next()?), next()?, next()?, next()?);
        let application = u32::from_be_bytes(*application);
        let stamp = Self { application, task, epoch, sequence, index, previous };
        (at == rest.len()).then_some(stamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        application: 0xDEAD_BEEF,
        task: TaskId { subtopology: 1, partition: 300 },
        epoch: 1_795_268_000_000,
        sequence: 70_000,
        index: 5,
        previous: 128,
    };

    #[test]
    fn a_stamp_comes_back_and_its_bytes_are_known() {
        let bytes = STAMP.encode();
        assert_eq!(Stamp::decode(&bytes), Some(STAMP));
        assert_eq!(bytes[..8], [1, 0xDE, 0xAD, 0xBE, 0xEF, 1, 0xAC, 2]);
        assert!(STAMP_HEADER.len() + bytes.len() < STAMP_BYTES_MAX);
        let most = Stamp {
            application: u32::MAX,
            task: TaskId { subtopology: u32::MAX, partition: u32::MAX },
            epoch: i64::MIN,
            sequence: u64::MAX,
            index: u64::MAX,
            previous: u64::MAX,
        };
        assert!(STAMP_HEADER.len() + most.encode().len() + 5 <= STAMP_BYTES_MAX);
    }

    #[test]
    fn what_is_no_stamp_is_not_read_as_one() {
        let bytes = STAMP.encode();
        assert_eq!(Stamp::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Stamp::decode(&[&bytes[..], &[0]].concat()), None);
        assert_eq!(Stamp::decode(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(Stamp::decode(b""), None);
    }
}

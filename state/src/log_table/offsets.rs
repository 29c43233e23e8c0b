//! Committed offsets of consumer groups, beside the topics they point into: one row a group and
//! partition, deleted with its topic. Must not know what the metadata says.

use super::{LogPartition, LogTable, partition_prefix};
use crate::database::{BatchPart, BatchSink, Direction, Family, Reader, ScanRange};
use crate::error::{Result, StateError};
use crate::positions::codec::{Decoder, Encoder};

const VERSION: u8 = 1;
/// First byte of a committed offset's row, before topic id, partition and group.
pub(super) const OFFSET: u8 = 4;

/// A group's position in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOffset {
    /// The offset of the first record not processed.
    pub next_offset: i64,
    /// What travels with it, opaque here.
    pub metadata: String,
}

impl LogTable {
    /// Moves a group's position, to be written with the commit it belongs to.
    pub fn commit_offset(
        &self,
        partition: &LogPartition,
        group: &str,
        offset: &GroupOffset,
    ) -> OffsetPart {
        let mut row = Encoder::new(VERSION);
        row.i64(offset.next_offset);
        row.string(&offset.metadata);
        let key = offset_key(partition, group);
        OffsetPart { topics: self.topics.clone(), key, row: row.bytes().to_vec() }
    }

    /// A group's position; `None` if it never committed one.
    ///
    /// # Errors
    /// The reader's own; `Corruption`, `NewerFormat`.
    pub fn committed_offset(
        &self,
        reader: &dyn Reader,
        partition: &LogPartition,
        group: &str,
    ) -> Result<Option<GroupOffset>> {
        let row = reader.get(&self.topics, &offset_key(partition, group))?;
        row.map(|row| decode_offset(&row, partition, group)).transpose()
    }

    /// Every group that committed a position in the partition, by name.
    ///
    /// # Errors
    /// As [`LogTable::committed_offset`].
    pub fn committed_groups(
        &self,
        reader: &dyn Reader,
        partition: &LogPartition,
    ) -> Result<Vec<(String, GroupOffset)>> {
        let prefix = offset_key(partition, "");
        let range = ScanRange::prefix(&prefix);
        let mut cursor = reader.scan(&self.topics, range, Direction::Forward)?;
        let mut groups = Vec::new();
        while let Some((key, row)) = cursor.next()? {
            let name = String::from_utf8_lossy(&key[prefix.len()..]).into_owned();
            let offset = decode_offset(row, partition, &name)?;
            groups.push((name, offset));
        }
        Ok(groups)
    }
}

/// Moves a group's position.
#[derive(Debug)]
pub struct OffsetPart {
    topics: Family,
    key: Vec<u8>,
    row: Vec<u8>,
}

impl BatchPart for OffsetPart {
    fn replay(&self, sink: &mut dyn BatchSink) {
        sink.put(&self.topics, &self.key, &self.row);
    }
}

fn offset_key(partition: &LogPartition, group: &str) -> Vec<u8> {
    [&[OFFSET][..], &partition_prefix(partition), group.as_bytes()].concat()
}

fn decode_offset(row: &[u8], partition: &LogPartition, group: &str) -> Result<GroupOffset> {
    let place = || format!("committed offset of group {group} in {partition}");
    let mut decoder = Decoder::new(row, VERSION, &place)?;
    let offset = GroupOffset { next_offset: decoder.i64()?, metadata: decoder.string()? };
    decoder.finish()?;
    if offset.next_offset < 0 {
        return Err(StateError::corrupt(place(), "the offset is negative"));
    }
    Ok(offset)
}

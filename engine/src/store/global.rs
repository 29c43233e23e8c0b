//! The rows of a global table: one copy in a process, read by every task, written by whoever follows
//! the table's topic. Owns how they lie in their family; knows no log and no join.
//!
//! Rows of all the topic's partitions lie under partition 0 of the family, for a lookup does not know
//! which partition a key came from. The positions are those of the topic's partitions.

use std::sync::Arc;

use bytes::Bytes;
use headwater_state::StateError;
use headwater_state::database::{BatchPart, BatchSink, Database, Family, FamilyKind};
use headwater_state::layout::{data_key, data_prefix, successor, timestamped};
use headwater_state::positions::{FamilyFormat, StorePositions};
use headwater_state::store::{Committed, Rows};

use super::error::NodeError;

/// Where all rows lie.
const ROWS: u32 = 0;

/// One global table's rows. Clones are the same.
#[derive(Debug, Clone)]
pub struct GlobalRows {
    database: Arc<dyn Database>,
    family: Family,
}

impl GlobalRows {
    /// Opens the rows in the family of this name, created if need be.
    ///
    /// # Errors
    /// `NewerFormat`, `Corruption`, or the database's own.
    pub fn open(database: Arc<dyn Database>, family: &str) -> Result<Self, StateError> {
        let family = database.family(family, FamilyKind::State)?;
        FamilyFormat::read(&*database, &family)?;
        Ok(Self { database, family })
    }

    /// The database they are in.
    pub fn database(&self) -> &Arc<dyn Database> {
        &self.database
    }

    /// Their family there.
    pub fn family(&self) -> &Family {
        &self.family
    }

    /// The rows, to be read.
    pub fn committed(&self) -> Committed<'_> {
        Committed { reader: &*self.database, family: &self.family, partition: ROWS }
    }

    /// The value of a key's row.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, NodeError> {
        let rows = self.committed();
        let Some(row) = rows.get(key)? else { return Ok(None) };
        let row = row.into_bytes();
        let without_time = timestamped::TIMESTAMP_BYTES..;
        if row.len() < timestamped::TIMESTAMP_BYTES {
            let family = self.family.name();
            let damaged = format!("a row of the global table in `{family}` has no timestamp");
            return Err(NodeError::message(damaged));
        }
        Ok(Some(row.slice(without_time)))
    }

    /// The next offset of a partition of the topic; `None` before the first.
    ///
    /// # Errors
    /// `NewerFormat`, `Corruption`, or the database's own.
    pub fn next_offset(&self, partition: u32) -> Result<Option<i64>, StateError> {
        Ok(StorePositions::read(&*self.database, &self.family, partition)?.changelog)
    }

    /// Applies the records of one partition up to `next_offset`, in one batch: key, value (`None`
    /// deletes), timestamp.
    ///
    /// # Errors
    /// The database's own; nothing was written.
    pub fn apply<'r>(
        &self,
        partition: u32,
        records: impl IntoIterator<Item = (&'r [u8], Option<&'r [u8]>, i64)>,
        next_offset: i64,
    ) -> Result<(), StateError> {
        let row = |(key, value, timestamp): (&[u8], Option<&[u8]>, i64)| {
            let row = value.map(|value| {
                let mut row = Vec::new();
                timestamped::encode(timestamp, value, &mut row);
                row
            });
            (data_key(ROWS, key), row)
        };
        let batch = Batch {
            family: &self.family,
            rows: records.into_iter().map(row).collect(),
            partition,
            next_offset,
        };
        self.database.write(&[&batch])
    }

    /// Forgets every row and the positions of so many partitions.
    ///
    /// # Errors
    /// The database's own; nothing was written.
    pub fn clear(&self, partitions: u32) -> Result<(), StateError> {
        self.database.write(&[&Clear { family: &self.family, partitions }])
    }
}

struct Batch<'f> {
    family: &'f Family,
    rows: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    partition: u32,
    next_offset: i64,
}

impl BatchPart for Batch<'_> {
    fn replay(&self, sink: &mut dyn BatchSink) {
        for (key, row) in &self.rows {
            match row {
                Some(row) => sink.put(self.family, key, row),
                None => sink.delete(self.family, key),
            }
        }
        let positions = StorePositions { changelog: Some(self.next_offset), observed_ms: None };
        positions.put(self.family, self.partition, sink);
    }
}

struct Clear<'f> {
    family: &'f Family,
    partitions: u32,
}

impl BatchPart for Clear<'_> {
    fn replay(&self, sink: &mut dyn BatchSink) {
        if let Some(end) = successor(&data_prefix(ROWS)) {
            sink.delete_range(self.family, &data_key(ROWS, &[]), &end);
        }
        let none = StorePositions { changelog: None, observed_ms: None };
        (0..self.partitions).for_each(|partition| none.put(self.family, partition, sink));
    }
}

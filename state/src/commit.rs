//! The unit of commit: everything of a task's progress that is written at once.
//!
//! Owns [`StateBatch`], which carries the frozen overlays of store-partitions with their positions
//! and the positions of tasks, and its one way to a database: under the leases of its stores, after
//! the check that no position goes back, in one atomic batch, together with whatever else its caller
//! must write atomically with it (the embedded log's own rows). Must not know when to commit.

use std::sync::Arc;

use crate::database::{BatchPart, BatchSink, Database, Family};
use crate::error::Result;
use crate::layout::{data_key, with_data_key};
use crate::lease::{Lease, Leases};
use crate::overlay::FrozenOverlay;
use crate::positions::{StorePositions, TaskPositions};

/// One store-partition's share of a commit. Made by [`crate::store::StorePartition::commit`].
#[derive(Debug, Clone)]
pub struct StoreCommit {
    /// The right to write it.
    pub lease: Lease,
    /// The store's family.
    pub family: Family,
    /// The store's partition.
    pub partition: u32,
    /// The rows; `None` when only positions move.
    pub rows: Option<Arc<FrozenOverlay>>,
    /// How far the store-partition has come with them.
    pub positions: StorePositions,
    /// Every row before this store key is expired and goes with the batch.
    pub expired_before: Option<Vec<u8>>,
}

impl BatchPart for StoreCommit {
    fn replay(&self, sink: &mut dyn BatchSink) {
        if let Some(rows) = &self.rows {
            for (from, to) in rows.ranges() {
                let (from, to) = (data_key(self.partition, from), data_key(self.partition, to));
                sink.delete_range(&self.family, &from, &to);
            }
            for (key, value) in rows.in_key_order() {
                with_data_key(self.partition, key, |full| match value {
                    Some(value) => sink.put(&self.family, full, value),
                    None => sink.delete(&self.family, full),
                });
            }
        }
        if let Some(end) = &self.expired_before {
            let (from, to) = (data_key(self.partition, &[]), data_key(self.partition, end));
            sink.delete_range(&self.family, &from, &to);
        }
        self.positions.put(&self.family, self.partition, sink);
    }
}

impl StoreCommit {
    /// Writes the commit by [`Database::ingest`], under its lease: for many rows at once, such as
    /// those of a restore. Rows and positions are in one file, so that a crash leaves both or
    /// neither. Expired rows go with the next commit.
    ///
    /// # Errors
    /// As [`StateBatch::write`].
    pub fn ingest(&self, leases: &Leases, database: &dyn Database) -> Result<()> {
        leases.guarded([&self.lease], || {
            let on_disk = StorePositions::read(database, &self.family, self.partition)?;
            on_disk.check_successor(&self.positions, self.family.name(), self.partition)?;
            database.ingest(&self.family, &Sorted(self))
        })
    }
}

/// A commit in key order: positions lie before every row.
struct Sorted<'c>(&'c StoreCommit);

impl BatchPart for Sorted<'_> {
    fn replay(&self, sink: &mut dyn BatchSink) {
        let StoreCommit { family, partition, rows, positions, .. } = self.0;
        positions.put(family, *partition, sink);
        let Some(rows) = rows else { return };
        for (from, to) in rows.ranges() {
            sink.delete_range(family, &data_key(*partition, from), &data_key(*partition, to));
        }
        for (key, value) in rows.in_key_order() {
            with_data_key(*partition, key, |full| match value {
                Some(value) => sink.put(family, full, value),
                None => sink.delete(family, full),
            });
        }
    }
}

/// One task's share of a commit.
#[derive(Debug, Clone)]
pub struct TaskCommit {
    /// The application's task family.
    pub family: Family,
    /// The task.
    pub task: String,
    /// How far it has come.
    pub positions: TaskPositions,
}

impl BatchPart for TaskCommit {
    fn replay(&self, sink: &mut dyn BatchSink) {
        self.positions.put(&self.family, &self.task, sink);
    }
}

/// Everything of one commit that goes into one database.
#[derive(Debug, Clone, Default)]
pub struct StateBatch {
    /// Store-partitions, each at most once.
    pub stores: Vec<StoreCommit>,
    /// Tasks, each at most once.
    pub tasks: Vec<TaskCommit>,
}

impl StateBatch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.stores.is_empty() && self.tasks.is_empty()
    }

    /// Writes the batch and `others` in one atomic write, under the leases of its stores. Not
    /// synced: see [`Database::sync`].
    ///
    /// # Errors
    /// Nothing is written on any of them: `StaleLease` (discard and rewind), `PositionWentBack`
    /// (stop: the writer has lost track), or the database's own (`Full` and `Io` may be retried).
    pub fn write(
        &self,
        leases: &Leases,
        database: &dyn Database,
        others: &[&dyn BatchPart],
    ) -> Result<()> {
        leases.guarded(self.stores.iter().map(|store| &store.lease), || {
            self.check_positions(database)?;
            let parts: Vec<&dyn BatchPart> =
                std::iter::once::<&dyn BatchPart>(self).chain(others.iter().copied()).collect();
            database.write(&parts)
        })
    }

    fn check_positions(&self, database: &dyn Database) -> Result<()> {
        for store in &self.stores {
            let (family, partition) = (&store.family, store.partition);
            let on_disk = StorePositions::read(database, family, partition)?;
            on_disk.check_successor(&store.positions, family.name(), partition)?;
        }
        for task in &self.tasks {
            if let Some(on_disk) = TaskPositions::read(database, &task.family, &task.task)? {
                on_disk.check_successor(&task.positions, &task.task)?;
            }
        }
        Ok(())
    }
}

impl BatchPart for StateBatch {
    fn replay(&self, sink: &mut dyn BatchSink) {
        for store in &self.stores {
            store.replay(sink);
        }
        for task in &self.tasks {
            task.replay(sink);
        }
    }
}

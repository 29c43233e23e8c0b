//! The memory that all databases of a process share, and how it is held to its size.
//!
//! RocksDB's write-buffer manager counts over all databases but flushes only the one being written,
//! and lets writers run ahead of flushes. With a database per task most memtables are in databases
//! that are not being written at the moment. So the manager is told three quarters of the budget,
//! and a writer that finds all of it in use flushes the database that holds most before it goes on.

use std::fmt;
use std::sync::{Arc, Mutex, Weak};

use rocksdb::{Cache, WriteBufferManager};

use super::Inner;

/// How much memory the storage engine may use, all databases of the process together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryBudget {
    /// For blocks read from disk, in bytes.
    pub block_cache_bytes: usize,
    /// For writes not yet in table files, in bytes.
    pub memtable_bytes: usize,
}

/// The memory all databases of a process share. Clones share it too.
#[derive(Clone)]
pub struct SharedMemory {
    pub(super) budget: MemoryBudget,
    pub(super) cache: Cache,
    pub(super) write_buffers: WriteBufferManager,
    databases: Arc<Mutex<Vec<Weak<Inner>>>>,
}

impl SharedMemory {
    /// Sets the memory aside.
    pub fn new(budget: MemoryBudget) -> Self {
        Self {
            budget,
            cache: Cache::new_lru_cache(budget.block_cache_bytes),
            // Never stalls by itself: it would wait for databases that nobody is writing.
            write_buffers: WriteBufferManager::new_write_buffer_manager(
                budget.memtable_bytes / 4 * 3,
                false,
            ),
            databases: Arc::default(),
        }
    }

    /// What was asked for.
    pub fn budget(&self) -> MemoryBudget {
        self.budget
    }

    /// Bytes in use in the block cache and in memtables.
    pub fn used(&self) -> (usize, usize) {
        (self.cache.get_usage(), self.write_buffers.get_usage())
    }

    pub(super) fn register(&self, database: &Arc<Inner>) {
        let mut databases = self.databases.lock().expect("no panic happens under the lock");
        databases.retain(|known| known.strong_count() > 0);
        databases.push(Arc::downgrade(database));
    }

    /// Makes the caller, who has just written, wait while memtables take more than their budget.
    pub(super) fn hold(&self) {
        if self.write_buffers.get_usage() <= self.budget.memtable_bytes {
            return;
        }
        // One at a time: whoever waits here finds the memory freed.
        let databases = self.databases.lock().expect("no panic happens under the lock");
        if self.write_buffers.get_usage() <= self.budget.memtable_bytes {
            return;
        }
        let open = databases.iter().filter_map(Weak::upgrade);
        let Some(largest) = open.max_by_key(|database| database.memtable_bytes()) else { return };
        if let Err(error) = largest.flush() {
            // The next write to that database gets the same error, and its caller deals with it.
            tracing::warn!(%error, "memtables stay over their budget");
        }
    }
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMemory").field("budget", &self.budget).finish_non_exhaustive()
    }
}

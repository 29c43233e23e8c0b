//! Who may write a store-partition.
//!
//! A task that moves between threads, is rewound or handed to a restorer may leave a writer behind
//! whose batch is still on its way. Every writer therefore holds a [`Lease`]; granting a new one
//! makes the old one stale, and a batch with a stale lease is refused whole. The check and the write
//! happen under one lock: once [`Leases::grant`] returned, no older writer's batch can land.
//!
//! Also asserts that positions only grow. Must not know tasks or threads.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use crate::error::{Result, StateError};

/// The right to write one store-partition, until another one is granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    store: Arc<str>,
    partition: u32,
    generation: u64,
}

impl Lease {
    /// The store, by the name its family has.
    pub fn store(&self) -> &str {
        &self.store
    }

    /// The store's partition.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// Grows with every grant of this store-partition.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

type Generations = BTreeMap<(Arc<str>, u32), u64>;

/// The leases of one process. Clones share one table.
#[derive(Debug, Clone, Default)]
pub struct Leases {
    generations: Arc<RwLock<Generations>>,
}

impl Leases {
    /// A table without leases.
    pub fn new() -> Self {
        Self::default()
    }

    /// Grants the store-partition to a new writer and makes every earlier lease stale. Waits for
    /// batches that are being written.
    pub fn grant(&self, store: &str, partition: u32) -> Lease {
        let store: Arc<str> = Arc::from(store);
        let mut generations = self.generations.write().expect("no writer panics under the lock");
        let generation = generations.entry((Arc::clone(&store), partition)).or_default();
        *generation += 1;
        Lease { store, partition, generation: *generation }
    }

    /// Runs `write` if every lease is current, with no grant between the check and its end.
    ///
    /// # Errors
    /// `StaleLease` for the first stale one, and `write` does not run; else what `write` returns.
    pub fn guarded<'l, R>(
        &self,
        leases: impl IntoIterator<Item = &'l Lease>,
        write: impl FnOnce() -> Result<R>,
    ) -> Result<R> {
        let generations = self.generations.read().expect("no writer panics under the lock");
        for lease in leases {
            let key = (Arc::clone(&lease.store), lease.partition);
            let current = generations.get(&key).copied().unwrap_or_default();
            if current != lease.generation {
                return Err(StateError::StaleLease {
                    store: lease.store.to_string(),
                    partition: lease.partition,
                    held: lease.generation,
                    current,
                });
            }
        }
        write()
    }

    /// Whether a lease is still the current one. Only a hint: see [`Leases::guarded`].
    pub fn is_current(&self, lease: &Lease) -> bool {
        self.guarded([lease], || Ok(())).is_ok()
    }
}

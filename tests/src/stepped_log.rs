//! An embedded log whose actors are stepped by hand under a virtual clock, on a disk that tests can
//! crash, fill or damage. Knows nothing of what is written.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use headwater::actor::{Next, Poll, Ticket};
use headwater::log::Log;
use headwater::log::embedded::{EmbeddedLog, EmbeddedSettings, LogActors};
use headwater::time::{Clock, VirtualClock};
use headwater_state::database::Database;
use headwater_state::database::memory::MemoryDisk;
#[cfg(feature = "rocksdb")]
use headwater_state::database::rocks::{MemoryBudget, RocksDatabase, SharedMemory};
use headwater_state::lease::Leases;
use headwater_state::store::StorePartition;

use crate::log_contract::LogUnderTest;

/// The virtual wall clock's first reading, in milliseconds.
pub const START_MS: i64 = 1_700_000_000_000;

/// A log, stepped.
#[expect(missing_debug_implementations, reason = "actors have no text form")]
pub struct SteppedLog {
    /// The log.
    pub log: Arc<EmbeddedLog>,
    /// The database it lies in.
    pub database: Arc<dyn Database>,
    /// The leases its commits are written under.
    pub leases: Leases,
    /// The time; it moves only when told to.
    pub clock: VirtualClock,
    actors: RefCell<LogActors>,
    _directory: Option<tempfile::TempDir>,
}

impl SteppedLog {
    /// The log of a database.
    ///
    /// # Panics
    /// When it does not open.
    pub fn open(database: Arc<dyn Database>, settings: EmbeddedSettings) -> Self {
        let leases = Leases::new();
        let (log, actors) = EmbeddedLog::open(Arc::clone(&database), leases.clone(), settings)
            .expect("the log opens");
        let (clock, actors) = (VirtualClock::new(START_MS), RefCell::new(actors));
        Self { log, database, leases, clock, actors, _directory: None }
    }

    /// A new log on a memory disk of its own.
    pub fn in_memory() -> Self {
        Self::on_disk(&MemoryDisk::new())
    }

    /// The log on a memory disk.
    ///
    /// # Panics
    /// When the disk is in use.
    pub fn on_disk(disk: &MemoryDisk) -> Self {
        Self::open(disk.open("data").expect("the disk is free"), EmbeddedSettings::default())
    }

    /// A new log in RocksDB files, which go with it.
    ///
    /// # Panics
    /// When there is no room for scratch files.
    #[cfg(feature = "rocksdb")]
    pub fn on_rocksdb() -> Self {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let database = rocksdb_at(directory.path());
        let log = Self::open(database, EmbeddedSettings::default());
        Self { _directory: Some(directory), ..log }
    }

    /// Partition 0 of a store, under a new lease.
    ///
    /// # Panics
    /// When it does not open.
    pub fn store(&self, name: &str) -> StorePartition {
        let lease = self.leases.grant(name, 0);
        StorePartition::open(Arc::clone(&self.database), lease).expect("the store opens")
    }

    /// Moves the clock and runs what is due.
    pub fn pass(&self, time: Duration) {
        self.clock.advance(time);
        self.run();
    }

    /// Runs until the answer is there.
    ///
    /// # Panics
    /// When it does not come.
    pub fn answer<T>(&self, ticket: &Ticket<T>) -> T {
        for _ in 0..100 {
            match ticket.poll() {
                Poll::Done(answer) => return answer,
                Poll::Pending => self.run(),
                Poll::Abandoned => panic!("nobody will answer"),
            }
        }
        panic!("no answer although all actors are idle");
    }

    /// Steps every actor once, in order; false when all are done.
    pub fn step(&self) -> bool {
        let now = self.clock.now();
        let mut actors = self.actors.borrow_mut();
        actors.retain_mut(|actor| actor.step(now) != Next::Done);
        !actors.is_empty()
    }
}

impl LogUnderTest for SteppedLog {
    fn log(&self) -> Arc<dyn Log> {
        Arc::clone(&self.log) as Arc<dyn Log>
    }

    fn run(&self) {
        let now = self.clock.now();
        // A pass without work ends it: an actor may have made work for one before it.
        for _ in 0..10_000 {
            let mut idle = true;
            self.actors.borrow_mut().retain_mut(|actor| {
                let next = actor.step(now);
                idle &= next != Next::Again;
                next != Next::Done
            });
            if idle {
                return;
            }
        }
        panic!("the log's actors do not come to rest");
    }
}

/// RocksDB in a directory, with little memory.
///
/// # Panics
/// When it does not open.
#[cfg(feature = "rocksdb")]
pub fn rocksdb_at(directory: &std::path::Path) -> Arc<dyn Database> {
    let budget = MemoryBudget { block_cache_bytes: 8 << 20, memtable_bytes: 32 << 20 };
    RocksDatabase::open(directory, &SharedMemory::new(budget)).expect("the database opens")
}

//! The embedded log, on the memory engine and on RocksDB.

use std::cell::RefCell;
use std::sync::Arc;

use headwater::actor::{Actor, Next};
use headwater::log::Log;
use headwater::log::embedded::{EmbeddedLog, EmbeddedSettings};
use headwater::time::{Clock, VirtualClock};
use headwater_state::database::Database;
use headwater_state::database::memory::MemoryDisk;
use headwater_state::lease::Leases;
use headwater_tests::log_contract::LogUnderTest;

/// A log whose actors are stepped by hand under a virtual clock.
struct Stepped {
    log: Arc<EmbeddedLog>,
    actors: RefCell<Vec<Box<dyn Actor>>>,
    clock: VirtualClock,
    _disk: Disk,
}

/// What keeps the database's files.
enum Disk {
    Memory,
}

impl Stepped {
    fn open(database: Arc<dyn Database>, disk: Disk) -> Self {
        let (log, actors) =
            EmbeddedLog::open(database, Leases::new(), EmbeddedSettings::default()).expect("opens");
        let clock = VirtualClock::new(1_700_000_000_000);
        Self { log, actors: RefCell::new(actors), clock, _disk: disk }
    }
}

impl LogUnderTest for Stepped {
    fn log(&self) -> Arc<dyn Log> {
        Arc::clone(&self.log) as Arc<dyn Log>
    }

    fn run(&self) {
        for actor in self.actors.borrow_mut().iter_mut() {
            while actor.step(self.clock.now()) == Next::Again {}
        }
    }
}

mod on_the_memory_engine {
    use super::*;

    fn fresh() -> Stepped {
        Stepped::open(MemoryDisk::new().open("data").expect("a new disk"), Disk::Memory)
    }

    headwater_tests::log_contract!(fresh);
}

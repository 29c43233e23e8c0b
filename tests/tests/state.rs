//! The contract of `headwater-state`, run over every storage engine.
//!
//! A test takes its databases from an [`Engine`] and knows nothing else about it. What only one
//! engine can show (a crash to any prefix, a cut write-ahead log, a damaged file) is in `crash.rs`.

#[path = "state/commit.rs"]
mod commit;
#[path = "state/crash.rs"]
mod crash;
#[path = "state/database.rs"]
mod database;
#[path = "state/directory.rs"]
mod directory;
#[path = "state/ingest.rs"]
mod ingest;
#[path = "state/key_value.rs"]
mod key_value;
#[path = "state/log.rs"]
mod log;
#[cfg(feature = "rocksdb")]
#[path = "state/memory.rs"]
mod memory;
#[path = "state/timers.rs"]
mod timers;
#[path = "state/window.rs"]
mod window;

use std::path::PathBuf;
use std::sync::Arc;

use headwater_state::database::memory::MemoryDisk;
use headwater_state::database::{
    BatchPart, BatchSink, Cursor, Database, Direction, Family, FamilyKind, ScanRange,
};
use headwater_state::directory::Storage;

/// A place that databases are opened in, closed and opened again.
trait Engine {
    fn open(&self, name: &str) -> Arc<dyn Database>;
    fn storage(&self) -> Storage;
    /// Where a checkpoint of this name goes, so that it can be opened by it.
    fn path(&self, name: &str) -> PathBuf;
    /// The death of the process that has the databases open, where the engine can show it.
    fn kill(&self) {}
}

struct Memory(MemoryDisk);

impl Engine for Memory {
    fn open(&self, name: &str) -> Arc<dyn Database> {
        self.0.open(name).expect("a memory database opens")
    }

    fn storage(&self) -> Storage {
        Storage::Memory(self.0.clone())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(name)
    }

    fn kill(&self) {
        self.0.crash(usize::MAX);
    }
}

#[cfg(feature = "rocksdb")]
struct Rocks(tempfile::TempDir);

#[cfg(feature = "rocksdb")]
impl Engine for Rocks {
    fn open(&self, name: &str) -> Arc<dyn Database> {
        let path = self.0.path().join(name);
        headwater_state::database::rocks::RocksDatabase::open(&path, &shared_memory())
            .expect("a fresh RocksDB opens")
    }

    fn storage(&self) -> Storage {
        Storage::Files { path: self.0.path().to_owned(), memory: shared_memory() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

#[cfg(feature = "rocksdb")]
fn shared_memory() -> headwater_state::database::rocks::SharedMemory {
    use headwater_state::database::rocks::{MemoryBudget, SharedMemory};
    SharedMemory::new(MemoryBudget { block_cache_bytes: 8 << 20, memtable_bytes: 8 << 20 })
}

/// Runs a test once on every engine.
fn on_every_engine(test: impl Fn(&dyn Engine)) {
    test(&Memory(MemoryDisk::new()));
    #[cfg(feature = "rocksdb")]
    test(&Rocks(tempfile::tempdir().expect("a temporary directory")));
}

/// A batch written as a list.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Op {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    DeleteRange(Vec<u8>, Vec<u8>),
}

fn put(key: &str, value: &str) -> Op {
    Op::Put(key.into(), value.into())
}

fn delete(key: &str) -> Op {
    Op::Delete(key.into())
}

fn delete_range(from: &str, to: &str) -> Op {
    Op::DeleteRange(from.into(), to.into())
}

struct Ops<'o>(&'o Family, &'o [Op]);

impl BatchPart for Ops<'_> {
    fn replay(&self, sink: &mut dyn BatchSink) {
        for op in self.1 {
            match op {
                Op::Put(key, value) => sink.put(self.0, key, value),
                Op::Delete(key) => sink.delete(self.0, key),
                Op::DeleteRange(from, to) => sink.delete_range(self.0, from, to),
            }
        }
    }
}

fn write(database: &dyn Database, family: &Family, ops: &[Op]) {
    database.write(&[&Ops(family, ops)]).expect("a healthy database takes a batch");
}

fn state_family(database: &dyn Database) -> Family {
    database.family("f", FamilyKind::State).expect("a family is made")
}

/// What is left of a cursor, as text.
fn rest(mut cursor: Box<dyn Cursor + '_>) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    while let Some((key, value)) = cursor.next().expect("a healthy database is read") {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        rows.push((text(key), text(value)));
    }
    rows
}

fn rows(database: &dyn Database, family: &Family) -> Vec<(String, String)> {
    let cursor = database.scan(family, ScanRange::all(), Direction::Forward);
    rest(cursor.expect("a healthy database is scanned"))
}

fn pairs(rows: &[(&str, &str)]) -> Vec<(String, String)> {
    rows.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

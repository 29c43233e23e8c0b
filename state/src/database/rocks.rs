//! The durable storage engine: one RocksDB per database, on memory shared by all of the process.
//!
//! Owns how RocksDB is used: the write-ahead log is always on and recovers to a point in time, its
//! total size is bounded, families are tuned by kind, and block cache and memtables of every
//! database come from one [`SharedMemory`]. Turns RocksDB's messages into [`StateError`]s that say
//! what to do. Must not know what rows mean.
//!
//! On disk a family's name carries its kind (`s:`, `l:`, `m:`), so that reopening tunes it alike.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use rocksdb::{
    BoundColumnFamily, ColumnFamilyDescriptor, DBWithThreadMode, FlushOptions, MultiThreaded,
    WriteBatch, properties,
};

use super::{
    BatchPart, BatchSink, Cursor, Database, Direction, Family, FamilyKind, Reader, ScanRange, Usage,
};
use crate::error::{Result, StateError};

mod cursor;
mod errors;
mod health;
mod ingest;
mod memory;
mod salvage;
mod tuning;
mod view;

use cursor::{RocksCursor, read_options};
use errors::Place;
use health::Health;
use view::RocksView;

pub use memory::{MemoryBudget, SharedMemory};
pub use salvage::{LostRange, SalvagedFamily, salvage_database};

type Db = DBWithThreadMode<MultiThreaded>;
type Handle<'d> = Arc<BoundColumnFamily<'d>>;

/// An open database. Dropping the last handle and the last view closes it.
pub struct RocksDatabase {
    inner: Arc<Inner>,
    memory: SharedMemory,
}

struct Entry {
    family: Family,
    disk_name: String,
}

struct Inner {
    db: Db,
    path: PathBuf,
    families: RwLock<BTreeMap<String, Entry>>,
    next_family: AtomicU32,
    health: Health,
}

impl fmt::Debug for RocksDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RocksDatabase({})", self.inner.path.display())
    }
}

impl RocksDatabase {
    /// Opens a database, creating it and the directories above it when they are not there.
    ///
    /// # Errors
    /// `Corruption` names the damaged file; `Locked` while another handle or process has it open;
    /// `Full` or `Io`.
    pub fn open(path: &Path, memory: &SharedMemory) -> Result<Arc<Self>> {
        let opening = || format!("opening database {}", path.display());
        std::fs::create_dir_all(path).map_err(|error| StateError::io(opening(), &error))?;
        ingest::sweep(path)?;
        let place = Place::database(path);
        let options = tuning::database_options(memory);
        let existing = if path.join("CURRENT").exists() {
            Db::list_cf(&options, path).map_err(|error| place.error(error, "listing families"))?
        } else {
            // RocksDB insists on a family of its own, and would give it large memtables.
            vec![rocksdb::DEFAULT_COLUMN_FAMILY_NAME.to_owned()]
        };
        let mut families = BTreeMap::new();
        let mut descriptors = Vec::new();
        for disk_name in existing {
            let parsed = tuning::parse_name(&disk_name);
            let kind = parsed.map_or(FamilyKind::Meta, |(kind, _)| kind);
            if let Some((_, name)) = parsed {
                let id = u32::try_from(families.len()).expect("families are few");
                let entry = Entry { family: Family::new(name, id), disk_name: disk_name.clone() };
                families.insert(name.to_owned(), entry);
            }
            let options = tuning::family_options(kind, memory);
            descriptors.push(ColumnFamilyDescriptor::new(disk_name, options));
        }
        let db = Db::open_cf_descriptors(&options, path, descriptors)
            .map_err(|error| place.error(error, "opening it"))?;
        let next_family = u32::try_from(families.len()).expect("families are few");
        let inner = Arc::new(Inner {
            db,
            path: path.to_owned(),
            families: RwLock::new(families),
            next_family: AtomicU32::new(next_family),
            health: Health::default(),
        });
        memory.register(&inner);
        Ok(Arc::new(Self { inner, memory: memory.clone() }))
    }

    /// The directory it lives in.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Moves everything in memory into table files, so that the next start replays no log.
    ///
    /// # Errors
    /// `Full` or `Io`.
    pub fn flush(&self) -> Result<()> {
        self.inner.flush()
    }
}

impl Inner {
    fn place(&self) -> Place<'_> {
        Place::database(&self.path)
    }

    fn disk_names(&self) -> Vec<String> {
        let families = self.families.read().expect("no panic happens under the lock");
        families.values().map(|entry| entry.disk_name.clone()).collect()
    }

    fn flush(&self) -> Result<()> {
        let names = self.disk_names();
        let handles: Vec<_> = names.iter().filter_map(|name| self.db.cf_handle(name)).collect();
        let handles: Vec<_> = handles.iter().collect();
        let flushed = self.db.flush_cfs_opt(&handles, &FlushOptions::default());
        flushed.map_err(|error| self.place().error(error, "flushing"))
    }

    fn memtable_bytes(&self) -> u64 {
        let names = self.disk_names();
        names.iter().map(|name| self.property(name, properties::CUR_SIZE_ALL_MEM_TABLES)).sum()
    }

    fn find(&self, name: &str) -> Option<Family> {
        let families = self.families.read().expect("no panic happens under the lock");
        families.get(name).map(|entry| entry.family.clone())
    }

    fn kind(&self, family: &Family) -> FamilyKind {
        let families = self.families.read().expect("no panic happens under the lock");
        let entry = families.get(family.name());
        entry
            .and_then(|entry| tuning::parse_name(&entry.disk_name))
            .map_or(FamilyKind::State, |(kind, _)| kind)
    }

    fn handle(&self, family: &Family) -> Result<Handle<'_>> {
        let families = self.families.read().expect("no panic happens under the lock");
        let known = families.get(family.name());
        known
            .filter(|entry| entry.family.id() == family.id())
            .and_then(|entry| self.db.cf_handle(&entry.disk_name))
            .ok_or_else(|| StateError::NoFamily {
                family: family.name().to_owned(),
                database: self.path.display().to_string(),
            })
    }

    fn property(&self, family: &str, name: &properties::PropName) -> u64 {
        let handle = self.db.cf_handle(family);
        let value = handle.and_then(|cf| self.db.property_int_value_cf(&cf, name).ok().flatten());
        value.unwrap_or_default()
    }
}

impl Reader for RocksDatabase {
    fn get(&self, family: &Family, key: &[u8]) -> Result<Option<Bytes>> {
        let handle = self.inner.handle(family)?;
        match self.inner.db.get_pinned_cf(&handle, key) {
            Ok(found) => Ok(found.map(|value| Bytes::copy_from_slice(&value))),
            Err(error) => Err(self.inner.place().family(family).error(error, "reading a row")),
        }
    }

    fn scan<'a>(
        &'a self,
        family: &Family,
        range: ScanRange,
        direction: Direction,
    ) -> Result<Box<dyn Cursor + 'a>> {
        let handle = self.inner.handle(family)?;
        let options = read_options(&range, self.inner.kind(family));
        let rows = self.inner.db.raw_iterator_cf_opt(&handle, options);
        let place = self.inner.place().family(family);
        Ok(Box::new(RocksCursor::new(rows, &range, direction, place)))
    }

    fn find_family(&self, name: &str) -> Option<Family> {
        self.inner.find(name)
    }
}

impl Database for RocksDatabase {
    fn family(&self, name: &str, kind: FamilyKind) -> Result<Family> {
        let mut families = self.inner.families.write().expect("no panic happens under the lock");
        if let Some(entry) = families.get(name) {
            return Ok(entry.family.clone());
        }
        let options = tuning::family_options(kind, &self.memory);
        let disk_name = tuning::disk_name(name, kind);
        let created = self.inner.db.create_cf(&disk_name, &options);
        created.map_err(|error| self.inner.place().error(error, "creating a family"))?;
        let family = Family::new(name, self.inner.next_family.fetch_add(1, Ordering::Relaxed));
        families.insert(name.to_owned(), Entry { family: family.clone(), disk_name });
        Ok(family)
    }

    fn families(&self) -> Vec<String> {
        let families = self.inner.families.read().expect("no panic happens under the lock");
        families.keys().cloned().collect()
    }

    fn drop_family(&self, family: &Family) -> Result<()> {
        drop(self.inner.handle(family)?);
        let mut families = self.inner.families.write().expect("no panic happens under the lock");
        let Some(entry) = families.remove(family.name()) else { return Ok(()) };
        let dropped = self.inner.db.drop_cf(&entry.disk_name);
        dropped.map_err(|error| self.inner.place().family(family).error(error, "dropping it"))
    }

    fn write(&self, parts: &[&dyn BatchPart]) -> Result<()> {
        let fill = || {
            let mut sink = RocksBatch::new(&self.inner);
            for part in parts {
                part.replay(&mut sink);
            }
            sink.error.map_or(Ok(sink.batch), Err)
        };
        self.inner.write(&fill)?;
        self.memory.hold();
        Ok(())
    }

    fn ingest(&self, family: &Family, rows: &dyn BatchPart) -> Result<()> {
        self.inner.ingest(family, rows, &self.memory)
    }

    fn sync(&self) -> Result<()> {
        self.inner.sync()
    }

    fn view(&self) -> Result<Arc<dyn Reader>> {
        Ok(Arc::new(RocksView::of(&self.inner)))
    }

    fn approximate_rows(&self, family: &Family) -> u64 {
        let Ok(handle) = self.inner.handle(family) else { return 0 };
        let rows = self.inner.db.property_int_value_cf(&handle, properties::ESTIMATE_NUM_KEYS);
        rows.ok().flatten().unwrap_or_default()
    }

    fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for name in self.inner.disk_names() {
            let property = |property| self.inner.property(&name, property);
            usage.memtable_bytes += property(properties::CUR_SIZE_ALL_MEM_TABLES);
            usage.table_reader_bytes += property(properties::ESTIMATE_TABLE_READERS_MEM);
            usage.disk_bytes += property(properties::LIVE_SST_FILES_SIZE);
        }
        usage
    }

    fn checkpoint(&self, path: &Path) -> Result<()> {
        if path.exists() {
            return Err(StateError::Invalid {
                what: format!("checkpoint {} exists; name a new directory", path.display()),
            });
        }
        let made = rocksdb::checkpoint::Checkpoint::new(&self.inner.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(path));
        made.map_err(|error| self.inner.place().error(error, "making a checkpoint"))
    }
}

/// RocksDB's batch, filled directly by the parts.
struct RocksBatch<'d> {
    inner: &'d Inner,
    batch: WriteBatch,
    handles: BTreeMap<u32, Handle<'d>>,
    last: Option<(u32, Handle<'d>)>,
    error: Option<StateError>,
}

impl<'d> RocksBatch<'d> {
    fn new(inner: &'d Inner) -> Self {
        let batch = WriteBatch::default();
        Self { inner, batch, handles: BTreeMap::new(), last: None, error: None }
    }

    /// Makes `last` the family's handle; `false` when there is none.
    fn select(&mut self, family: &Family) -> bool {
        if self.last.as_ref().is_some_and(|(id, _)| *id == family.id()) {
            return true;
        }
        if !self.handles.contains_key(&family.id()) {
            match self.inner.handle(family) {
                Ok(handle) => {
                    self.handles.insert(family.id(), handle);
                }
                Err(error) => {
                    self.error.get_or_insert(error);
                    return false;
                }
            }
        }
        self.last = Some((family.id(), Arc::clone(&self.handles[&family.id()])));
        true
    }
}

impl BatchSink for RocksBatch<'_> {
    fn put(&mut self, family: &Family, key: &[u8], value: &[u8]) {
        if self.select(family)
            && let Some((_, handle)) = &self.last
        {
            self.batch.put_cf(handle, key, value);
        }
    }

    fn delete(&mut self, family: &Family, key: &[u8]) {
        if self.select(family)
            && let Some((_, handle)) = &self.last
        {
            self.batch.delete_cf(handle, key);
        }
    }

    fn delete_range(&mut self, family: &Family, from: &[u8], to: &[u8]) {
        if from < to
            && self.select(family)
            && let Some((_, handle)) = &self.last
        {
            self.batch.delete_range_cf(handle, from, to);
        }
    }
}

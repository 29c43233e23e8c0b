//! A storage engine in memory whose disk survives a crash of the process.
//!
//! Owns a [`MemoryDisk`] of named databases that knows every unsynced batch, so a test can crash it
//! to any prefix of them: no real disk can be asked for that. Reads, scans, views and batches mean
//! what they mean in RocksDB. Nothing here draws randomness or asks the time, so a run is as
//! deterministic as its caller. Must not know what rows mean.
//!
//! Rows are versioned: a batch is a number, a view is a number, a row keeps the versions some view
//! or the last sync may still need. Taking a view costs a counter.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use super::{
    BatchPart, BatchSink, Cursor, Database, Direction, Family, FamilyKind, Reader, ScanRange, Usage,
};
use crate::error::{Result, StateError};

mod faults;
mod tables;

pub use faults::{Fault, Faults};
use tables::{Change, Tables};

/// Rows a scan copies at a time.
const SCAN_ROWS: usize = 64;

/// What a crash leaves behind: databases, identity file, and the order in which batches were
/// written to them. Clones are the same disk.
#[derive(Clone)]
pub struct MemoryDisk {
    shared: Arc<Shared>,
}

struct Shared {
    inner: Mutex<Inner>,
    faults: Faults,
    /// Orders batches over all databases of the disk.
    batches: AtomicU64,
}

#[derive(Default)]
struct Inner {
    databases: BTreeMap<String, Arc<RwLock<Tables>>>,
    open: BTreeSet<String>,
    identity: Option<Vec<u8>>,
    locked: bool,
}

impl fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDisk").field("databases", &self.databases()).finish()
    }
}

impl Default for MemoryDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                inner: Mutex::default(),
                faults: Faults::default(),
                batches: AtomicU64::new(0),
            }),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner.lock().expect("no panic happens while the disk is locked")
    }

    /// Opens a database, creating it when it is not there.
    ///
    /// # Errors
    /// `Locked` while another handle has it open.
    pub fn open(&self, name: &str) -> Result<Arc<MemoryDatabase>> {
        let mut inner = self.inner();
        if !inner.open.insert(name.to_owned()) {
            return Err(StateError::Locked {
                path: name.into(),
                holder: "another handle of this process".into(),
            });
        }
        let tables = inner.databases.entry(name.to_owned()).or_default();
        Ok(Arc::new(MemoryDatabase {
            name: Arc::from(name),
            tables: Arc::clone(tables),
            disk: self.clone(),
        }))
    }

    /// Names of the databases on this disk, sorted.
    pub fn databases(&self) -> Vec<String> {
        self.inner().databases.keys().cloned().collect()
    }

    /// Takes a database off the disk under another name. It must be closed.
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<()> {
        let mut inner = self.inner();
        if inner.open.contains(from) {
            return Err(StateError::Locked {
                path: from.into(),
                holder: "another handle of this process".into(),
            });
        }
        if let Some(tables) = inner.databases.remove(from) {
            inner.databases.insert(to.to_owned(), tables);
        }
        Ok(())
    }

    /// Removes a database with everything in it.
    pub(crate) fn remove(&self, name: &str) {
        let mut inner = self.inner();
        inner.open.remove(name);
        if let Some(tables) = inner.databases.remove(name) {
            lock_write(&tables).crashed = true;
        }
    }

    /// How many batches a power loss could still take, over all databases.
    pub fn unsynced(&self) -> usize {
        let inner = self.inner();
        inner.databases.values().map(|tables| lock_read(tables).unsynced().count()).sum()
    }

    /// Loses power: every database keeps what was synced and, of the batches that were not, the
    /// first `keep_unsynced` in the order they were written to the disk. `usize::MAX` is the death
    /// of the process alone. Handles and views from before the crash are closed; locks are free.
    pub fn crash(&self, keep_unsynced: usize) {
        let mut written: Vec<u64> = {
            let inner = self.inner();
            inner
                .databases
                .values()
                .flat_map(|tables| lock_read(tables).unsynced().collect::<Vec<_>>())
                .collect()
        };
        written.sort_unstable();
        let cut = written.get(keep_unsynced).copied().unwrap_or(u64::MAX);
        self.crash_each(|_, unsynced| unsynced.iter().take_while(|batch| **batch < cut).count());
    }

    /// Loses power with each database cut on its own: `keep` is given its name and its unsynced
    /// batches, as numbers in the order of the whole disk, and says how many of them survive.
    pub fn crash_each(&self, mut keep: impl FnMut(&str, &[u64]) -> usize) {
        let mut inner = self.inner();
        for (name, tables) in &mut inner.databases {
            let survivor = {
                let mut tables = lock_write(tables);
                let unsynced: Vec<u64> = tables.unsynced().collect();
                tables.crash(keep(name, &unsynced))
            };
            *tables = Arc::new(RwLock::new(survivor));
        }
        inner.open.clear();
        inner.locked = false;
    }

    /// The switchboard of injected failures of this disk.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    pub(crate) fn identity(&self) -> Option<Vec<u8>> {
        self.inner().identity.clone()
    }

    pub(crate) fn set_identity(&self, identity: Vec<u8>) {
        self.inner().identity = Some(identity);
    }

    /// Takes the directory lock; `false` when it is held.
    pub(crate) fn lock(&self) -> bool {
        !std::mem::replace(&mut self.inner().locked, true)
    }

    pub(crate) fn unlock(&self) {
        self.inner().locked = false;
    }
}

fn lock_read(tables: &RwLock<Tables>) -> RwLockReadGuard<'_, Tables> {
    tables.read().expect("no panic happens while tables are locked")
}

fn lock_write(tables: &RwLock<Tables>) -> RwLockWriteGuard<'_, Tables> {
    tables.write().expect("no panic happens while tables are locked")
}

/// A database on a [`MemoryDisk`]. Dropping it closes it and keeps everything written.
pub struct MemoryDatabase {
    name: Arc<str>,
    tables: Arc<RwLock<Tables>>,
    disk: MemoryDisk,
}

impl fmt::Debug for MemoryDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryDatabase({})", self.name)
    }
}

impl Drop for MemoryDatabase {
    fn drop(&mut self) {
        // After a crash the name may already belong to the next incarnation.
        if !lock_read(&self.tables).crashed {
            self.disk.inner().open.remove(&*self.name);
        }
    }
}

impl MemoryDatabase {
    fn read(&self) -> Result<RwLockReadGuard<'_, Tables>> {
        open_tables(&self.tables, &self.name)
    }

    fn write_locked(&self) -> Result<RwLockWriteGuard<'_, Tables>> {
        let tables = lock_write(&self.tables);
        if tables.crashed { Err(closed(&self.name)) } else { Ok(tables) }
    }

    fn faults(&self) -> &Faults {
        &self.disk.shared.faults
    }

    fn view_now(&self) -> Result<MemoryView> {
        let mut tables = self.write_locked()?;
        let sequence = tables.sequence;
        tables.pin(sequence);
        drop(tables);
        Ok(MemoryView {
            name: Arc::clone(&self.name),
            tables: Arc::clone(&self.tables),
            faults: self.faults().clone(),
            sequence,
        })
    }
}

fn closed(name: &str) -> StateError {
    StateError::Closed { database: name.to_owned() }
}

fn open_tables<'t>(tables: &'t RwLock<Tables>, name: &str) -> Result<RwLockReadGuard<'t, Tables>> {
    let tables = lock_read(tables);
    if tables.crashed { Err(closed(name)) } else { Ok(tables) }
}

fn no_family(database: &str, family: &str) -> StateError {
    StateError::NoFamily { family: family.to_owned(), database: database.to_owned() }
}

impl Reader for MemoryDatabase {
    fn get(&self, family: &Family, key: &[u8]) -> Result<Option<Bytes>> {
        self.faults().check_read(family.name())?;
        let tables = self.read()?;
        let rows = tables.family(family).ok_or_else(|| no_family(&self.name, family.name()))?;
        Ok(rows.get(key, u64::MAX))
    }

    fn scan<'a>(
        &'a self,
        family: &Family,
        range: ScanRange,
        direction: Direction,
    ) -> Result<Box<dyn Cursor + 'a>> {
        let view = self.view_now()?;
        Ok(Box::new(MemoryCursor::new(view, family, range, direction)?))
    }

    fn find_family(&self, name: &str) -> Option<Family> {
        self.read().ok()?.find(name)
    }
}

impl Database for MemoryDatabase {
    fn family(&self, name: &str, _kind: FamilyKind) -> Result<Family> {
        let mut tables = self.write_locked()?;
        match tables.find(name) {
            Some(family) => Ok(family),
            None => {
                self.faults().check_write("creating a family")?;
                Ok(tables.create(name))
            }
        }
    }

    fn families(&self) -> Vec<String> {
        lock_read(&self.tables).names()
    }

    fn drop_family(&self, family: &Family) -> Result<()> {
        let mut tables = self.write_locked()?;
        if tables.drop_family(family) { Ok(()) } else { Err(no_family(&self.name, family.name())) }
    }

    fn write(&self, parts: &[&dyn BatchPart]) -> Result<()> {
        let mut batch = MemoryBatch::default();
        for part in parts {
            part.replay(&mut batch);
        }
        let mut tables = self.write_locked()?;
        self.faults().check_write("writing a batch")?;
        if let Some(missing) = batch.families.iter().find(|family| tables.family(family).is_none())
        {
            return Err(no_family(&self.name, missing.name()));
        }
        let order = self.disk.shared.batches.fetch_add(1, Ordering::Relaxed);
        tables.apply(order, batch.changes);
        Ok(())
    }

    fn ingest(&self, family: &Family, rows: &dyn BatchPart) -> Result<()> {
        let mut batch = MemoryBatch::default();
        rows.replay(&mut batch);
        let mut last: Option<&[u8]> = None;
        for (_, change) in &batch.changes {
            let Change::Row { key, .. } = change else { continue };
            if last.is_some_and(|last| last >= &key[..]) {
                return Err(StateError::Invalid {
                    what: format!("rows for family {} are not in order", family.name()),
                });
            }
            last = Some(&key[..]);
        }
        self.write(&[rows])
    }

    fn sync(&self) -> Result<()> {
        let mut tables = self.write_locked()?;
        self.faults().check_sync()?;
        tables.sync();
        Ok(())
    }

    fn view(&self) -> Result<Arc<dyn Reader>> {
        Ok(Arc::new(self.view_now()?))
    }

    fn approximate_rows(&self, family: &Family) -> u64 {
        let tables = lock_read(&self.tables);
        tables.family(family).map_or(0, |rows| u64::try_from(rows.len()).unwrap_or(u64::MAX))
    }

    fn usage(&self) -> Usage {
        Usage { memtable_bytes: lock_read(&self.tables).bytes(), ..Usage::default() }
    }

    fn checkpoint(&self, path: &Path) -> Result<()> {
        let name = path.to_string_lossy().into_owned();
        let copy = {
            let tables = self.read()?;
            self.faults().check_write("writing a checkpoint")?;
            tables.copy()
        };
        let mut inner = self.disk.inner();
        if inner.databases.contains_key(&name) {
            return Err(StateError::Invalid {
                what: format!("checkpoint {name} exists; name a new directory"),
            });
        }
        inner.databases.insert(name, Arc::new(RwLock::new(copy)));
        Ok(())
    }
}

/// Operations of one batch, with each family once.
#[derive(Default)]
struct MemoryBatch {
    families: Vec<Family>,
    changes: Vec<(u32, Change)>,
}

impl MemoryBatch {
    fn push(&mut self, family: &Family, change: Change) {
        let last = self.changes.last().map(|(id, _)| *id);
        if last != Some(family.id()) && !self.families.iter().any(|known| known.id() == family.id())
        {
            self.families.push(family.clone());
        }
        self.changes.push((family.id(), change));
    }
}

impl BatchSink for MemoryBatch {
    fn put(&mut self, family: &Family, key: &[u8], value: &[u8]) {
        let value = Some(Bytes::copy_from_slice(value));
        self.push(family, Change::Row { key: Bytes::copy_from_slice(key), value });
    }

    fn delete(&mut self, family: &Family, key: &[u8]) {
        self.push(family, Change::Row { key: Bytes::copy_from_slice(key), value: None });
    }

    fn delete_range(&mut self, family: &Family, from: &[u8], to: &[u8]) {
        self.push(family, Change::Range { from: from.to_vec(), to: to.to_vec() });
    }
}

/// The database as it was at one batch.
struct MemoryView {
    name: Arc<str>,
    tables: Arc<RwLock<Tables>>,
    faults: Faults,
    sequence: u64,
}

impl fmt::Debug for MemoryView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryView({} at batch {})", self.name, self.sequence)
    }
}

impl Drop for MemoryView {
    fn drop(&mut self) {
        lock_write(&self.tables).unpin(self.sequence);
    }
}

impl MemoryView {
    fn rows(&self, family: &Family, range: &ScanRange, backward: bool) -> Result<Vec<Row>> {
        let tables = open_tables(&self.tables, &self.name)?;
        let rows = tables.family(family).ok_or_else(|| no_family(&self.name, family.name()))?;
        Ok(rows.range(range, self.sequence, backward, SCAN_ROWS))
    }
}

impl Reader for MemoryView {
    fn get(&self, family: &Family, key: &[u8]) -> Result<Option<Bytes>> {
        self.faults.check_read(family.name())?;
        let tables = open_tables(&self.tables, &self.name)?;
        let rows = tables.family(family).ok_or_else(|| no_family(&self.name, family.name()))?;
        Ok(rows.get(key, self.sequence))
    }

    fn scan<'a>(
        &'a self,
        family: &Family,
        range: ScanRange,
        direction: Direction,
    ) -> Result<Box<dyn Cursor + 'a>> {
        lock_write(&self.tables).pin(self.sequence);
        let view = Self {
            name: Arc::clone(&self.name),
            tables: Arc::clone(&self.tables),
            faults: self.faults.clone(),
            sequence: self.sequence,
        };
        Ok(Box::new(MemoryCursor::new(view, family, range, direction)?))
    }

    fn find_family(&self, name: &str) -> Option<Family> {
        open_tables(&self.tables, &self.name).ok()?.find(name)
    }
}

type Row = (Bytes, Bytes);

/// A scan that copies a page of rows at a time, so that it holds no lock between steps.
struct MemoryCursor {
    view: MemoryView,
    family: Family,
    range: ScanRange,
    backward: bool,
    page: Vec<Row>,
    /// Index after the current row.
    next: usize,
    exhausted: bool,
}

impl MemoryCursor {
    fn new(
        view: MemoryView,
        family: &Family,
        range: ScanRange,
        direction: Direction,
    ) -> Result<Self> {
        view.faults.check_read(family.name())?;
        let backward = direction == Direction::Backward;
        let mut cursor = Self {
            view,
            family: family.clone(),
            range,
            backward,
            page: Vec::new(),
            next: 0,
            exhausted: false,
        };
        cursor.fill()?;
        Ok(cursor)
    }

    fn fill(&mut self) -> Result<()> {
        if let Some((last, _)) = self.page.last() {
            if self.backward {
                self.range.to = Some(last.to_vec());
            } else {
                self.range.from = last.to_vec();
                self.range.from.push(0);
            }
        }
        self.page = self.view.rows(&self.family, &self.range, self.backward)?;
        self.exhausted = self.page.len() < SCAN_ROWS;
        self.next = 0;
        Ok(())
    }
}

impl Cursor for MemoryCursor {
    fn advance(&mut self) -> Result<bool> {
        if self.next == self.page.len() && !self.exhausted {
            self.fill()?;
        }
        if self.next == self.page.len() {
            return Ok(false);
        }
        self.next += 1;
        Ok(true)
    }

    fn key(&self) -> &[u8] {
        &self.page[self.next - 1].0
    }

    fn value(&self) -> &[u8] {
        &self.page[self.next - 1].1
    }
}

//! Reads a damaged database as far as it goes and writes what it finds into a fresh one. Knows how
//! RocksDB fails: an iterator stops at a block that cannot be read, and goes on behind it when it is
//! placed there; a catalogue that cannot be read is rebuilt from the tables, on a copy.

use std::fs;
use std::path::Path;

use rocksdb::{ColumnFamilyDescriptor, ReadOptions};

use super::{Db, Place, RocksDatabase, SharedMemory, tuning};
use crate::database::{BatchPart, BatchSink, Database, Family, FamilyKind};
use crate::error::{Result, StateError};

/// Rows of one write.
const BATCH: usize = 1_000;

/// What was found of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SalvagedFamily {
    /// Its name.
    pub name: String,
    /// Rows copied.
    pub rows: u64,
    /// Stretches that cannot be read.
    pub lost: Vec<LostRange>,
}

/// A stretch of keys that cannot be read. How many rows it had is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostRange {
    /// The last key that was read before it.
    pub after: Option<Vec<u8>>,
    /// The first that was read behind it; `None` if nothing was.
    pub before: Option<Vec<u8>>,
    /// What the storage engine says.
    pub why: String,
}

/// Key and value.
type Row = (Box<[u8]>, Box<[u8]>);

struct Rows<'f> {
    family: &'f Family,
    rows: Vec<Row>,
}

impl BatchPart for Rows<'_> {
    fn replay(&self, sink: &mut dyn BatchSink) {
        for (key, value) in &self.rows {
            sink.put(self.family, key, value);
        }
    }
}

/// Copies what is readable of the database `from` into a new one, `to`. `scratch` is for a copy. True
/// if it could not be opened as it is.
///
/// # Errors
/// Nothing of it can be read; `to` cannot be written.
pub fn salvage_database(
    from: &Path,
    to: &Path,
    scratch: &Path,
    memory: &SharedMemory,
) -> Result<(bool, Vec<SalvagedFamily>)> {
    let (rebuilt, names, source) = match open(from, memory) {
        Ok((names, source)) => (false, names, source),
        Err(error) => {
            tracing::warn!(%error, "the database does not open; its tables are read one by one");
            rebuild(from, scratch, memory)?;
            let (names, source) = open(scratch, memory)?;
            (true, names, source)
        }
    };
    let target = RocksDatabase::open(to, memory)?;
    let boundaries = boundaries(&source);
    let mut families = Vec::new();
    for disk_name in &names {
        let Some((kind, name)) = tuning::parse_name(disk_name) else { continue };
        families.push(copy_family(&source, disk_name, (kind, name), &boundaries, &target)?);
    }
    target.sync()?;
    target.flush()?;
    Ok((rebuilt, families))
}

fn open(path: &Path, memory: &SharedMemory) -> Result<(Vec<String>, Db)> {
    let place = Place::database(path);
    let options = tuning::database_options(memory);
    let names =
        Db::list_cf(&options, path).map_err(|error| place.error(error, "listing families"))?;
    let descriptor = |name: &String| {
        let kind = tuning::parse_name(name).map_or(FamilyKind::Meta, |(kind, _)| kind);
        ColumnFamilyDescriptor::new(name, tuning::family_options(kind, memory))
    };
    let source = Db::open_cf_descriptors_read_only(
        &options,
        path,
        names.iter().map(descriptor).collect::<Vec<_>>(),
        false,
    );
    Ok((names, source.map_err(|error| place.error(error, "opening it"))?))
}

/// Copies the files and has a catalogue made of the tables that can be read.
fn rebuild(from: &Path, scratch: &Path, memory: &SharedMemory) -> Result<()> {
    let io = |error: std::io::Error| StateError::io(format!("copying {}", from.display()), &error);
    fs::create_dir_all(scratch).map_err(io)?;
    for entry in fs::read_dir(from).map_err(io)? {
        let entry = entry.map_err(io)?;
        if entry.file_name() != "LOCK" && entry.file_type().map_err(io)?.is_file() {
            fs::copy(entry.path(), scratch.join(entry.file_name())).map_err(io)?;
        }
    }
    let options = tuning::database_options(memory);
    Db::repair(&options, scratch)
        .map_err(|error| Place::database(from).error(error, "rebuilding its catalogue"))
}

/// Where tables begin, by family's name: behind what cannot be read, the next table may be whole.
fn boundaries(source: &Db) -> Vec<(String, Vec<u8>)> {
    let files = source.live_files().unwrap_or_default().into_iter();
    let both = files.flat_map(|file| {
        let name = file.column_family_name;
        [file.start_key, file.end_key].into_iter().flatten().map(move |key| (name.clone(), key))
    });
    let mut all: Vec<_> = both.collect();
    all.sort_unstable();
    all
}

fn copy_family(
    source: &Db,
    disk_name: &str,
    (kind, name): (FamilyKind, &str),
    boundaries: &[(String, Vec<u8>)],
    target: &RocksDatabase,
) -> Result<SalvagedFamily> {
    let mut found = SalvagedFamily { name: name.to_owned(), rows: 0, lost: Vec::new() };
    let Some(handle) = source.cf_handle(disk_name) else { return Ok(found) };
    let family = target.family(name, kind)?;
    let mut options = ReadOptions::default();
    options.set_verify_checksums(true);
    options.fill_cache(false);
    let mut rows = source.raw_iterator_cf_opt(&handle, options);
    let mut batch = Rows { family: &family, rows: Vec::new() };
    let mut last: Option<Vec<u8>> = None;
    rows.seek_to_first();
    loop {
        while let Some((key, value)) = rows.item() {
            if let Some(lost) = found.lost.last_mut().filter(|lost| lost.before.is_none()) {
                lost.before = Some(key.to_vec());
            }
            batch.rows.push((key.into(), value.into()));
            found.rows += 1;
            last = Some(key.to_vec());
            if batch.rows.len() == BATCH {
                target.write(&[&batch])?;
                batch.rows.clear();
            }
            rows.next();
        }
        let Err(error) = rows.status() else { break };
        let why = error.to_string();
        // Behind the last row, and behind the place that was tried last.
        let tried = found.lost.last().and_then(|lost| lost.before.clone());
        let behind = last.clone().max(tried);
        let next = boundaries.iter().find(|(family, key)| {
            family == disk_name && behind.as_ref().is_none_or(|behind| key > behind)
        });
        found.lost.push(LostRange { after: last.clone(), before: None, why });
        let Some((_, key)) = next else { break };
        if !seek_behind(&mut rows, boundaries, disk_name, key) {
            break;
        }
    }
    target.write(&[&batch])?;
    Ok(found)
}

/// Places the iterator at the first boundary from `key` on where it can read.
fn seek_behind(
    rows: &mut rocksdb::DBRawIteratorWithThreadMode<'_, Db>,
    boundaries: &[(String, Vec<u8>)],
    disk_name: &str,
    key: &[u8],
) -> bool {
    let behind = boundaries.iter().filter(|(family, at)| family == disk_name && &at[..] >= key);
    for (_, at) in behind {
        rows.seek(at);
        if rows.valid() {
            return true;
        }
    }
    false
}

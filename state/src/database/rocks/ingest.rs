//! Adds sorted rows as one table file, past the write-ahead log and the memtable.
//!
//! The file is written beside the database, synced, and linked into it by one edit of the manifest:
//! killed before that edit, the database has none of its rows, after it all of them. RocksDB first
//! flushes whatever the family holds in memory in the file's range, and every file begins with the
//! family's position, so what was written before stays older. What a kill leaves in the folder is
//! deleted when the database is opened.

use std::fs;
use std::path::{Path, PathBuf};

use rocksdb::{IngestExternalFileOptions, SstFileWriter};

use super::{Inner, SharedMemory, tuning};
use crate::database::{BatchPart, BatchSink, Family};
use crate::error::{Result, StateError};

const FOLDER: &str = "ingest";
const FILE: &str = "rows.sst";

/// Deletes what a killed process left.
pub(super) fn sweep(database: &Path) -> Result<()> {
    let folder = database.join(FOLDER);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StateError::io(format!("deleting {}", folder.display()), &error))
        }
        _ => Ok(()),
    }
}

impl Inner {
    pub(super) fn ingest(
        &self,
        family: &Family,
        rows: &dyn BatchPart,
        memory: &SharedMemory,
    ) -> Result<()> {
        let place = || self.place().family(family);
        let handle = self.handle(family)?;
        // Files of level 0 pile up as those of flushes do, but nothing else would wait for them.
        self.wait_while_stopped()?;
        // One writer of a family at a time is what its lease is for.
        let folder = self.path.join(FOLDER).join(family.id().to_string());
        let made = fs::create_dir_all(&folder);
        made.map_err(|error| StateError::io(format!("making {}", folder.display()), &error))?;
        let path = folder.join(FILE);
        let written = self.write_file(family, rows, memory, &path).and_then(|()| {
            let mut options = IngestExternalFileOptions::default();
            options.set_move_files(true);
            let done = self.db.ingest_external_file_cf_opts(&handle, &options, vec![&path]);
            done.map_err(|error| place().error(error, "adding sorted rows"))
        });
        if written.is_err() && path.exists() {
            // The first error tells what is wrong; the next start deletes the file too.
            drop(fs::remove_file(&path));
        }
        written
    }

    fn write_file(
        &self,
        family: &Family,
        rows: &dyn BatchPart,
        memory: &SharedMemory,
        path: &PathBuf,
    ) -> Result<()> {
        let place = || self.place().family(family);
        let options = tuning::family_options(self.kind(family), memory);
        let writer = SstFileWriter::create(&options);
        writer.open(path).map_err(|error| place().error(error, "making a table file"))?;
        let mut sink = FileSink { family, writer, error: None };
        rows.replay(&mut sink);
        let FileSink { mut writer, error, .. } = sink;
        let written = error.map_or_else(|| writer.finish(), Err);
        written.map_err(|error| place().error(error, "writing a table file"))
    }
}

/// Takes rows until one fails.
struct FileSink<'f> {
    family: &'f Family,
    writer: SstFileWriter<'f>,
    error: Option<rocksdb::Error>,
}

impl FileSink<'_> {
    fn keep(&mut self, family: &Family, done: std::result::Result<(), rocksdb::Error>) {
        debug_assert_eq!(family.id(), self.family.id(), "a file is one family's");
        if let Err(error) = done {
            self.error.get_or_insert(error);
        }
    }
}

impl BatchSink for FileSink<'_> {
    fn put(&mut self, family: &Family, key: &[u8], value: &[u8]) {
        let done = self.writer.put(key, value);
        self.keep(family, done);
    }

    fn delete(&mut self, family: &Family, key: &[u8]) {
        let done = self.writer.delete(key);
        self.keep(family, done);
    }

    fn delete_range(&mut self, family: &Family, from: &[u8], to: &[u8]) {
        let done = self.writer.delete_range(from, to);
        self.keep(family, done);
    }
}

//! Writes and syncs of a RocksDB whose disk may be full.
//!
//! Left alone, RocksDB recovers from a full disk: within seconds of space being freed it flushes
//! what it holds to files and starts a new log. Two things must not happen until then, and this file
//! owns that they do not: a write that waits inside RocksDB for as long as the disk is full, which no
//! shutdown could interrupt, and a sync of the broken log, after which RocksDB gives up for good.
//! Must not know what is written.

use std::fs::{self, File};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rocksdb::{ErrorKind, WriteBatch, WriteOptions, properties};

use super::Inner;
use crate::error::{Result, StateError};

/// How long writes may be stopped with nothing under way to free them.
const STUCK: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// A table file needs about this much; less free space is a full disk.
const PROBE_BYTES: usize = 4 << 20;
const PROBE_FILE: &str = "space.probe";

#[derive(Debug, Default)]
pub(super) struct Health {
    /// The last write or sync failed.
    failed: AtomicBool,
}

impl Inner {
    /// Writes the batch that `fill` makes, which is made again when RocksDB stops writes meanwhile.
    pub(super) fn write(&self, fill: &dyn Fn() -> Result<WriteBatch>) -> Result<()> {
        const DOING: &str = "writing a batch";
        let mut no_wait = WriteOptions::default();
        no_wait.set_no_slowdown(true);
        loop {
            match self.db.write_opt(fill()?, &no_wait) {
                Err(error) if error.kind() == ErrorKind::Incomplete => {}
                done => return self.checked(done, DOING),
            }
            if !self.is_stopped() {
                // Slowed down, not stopped: waiting inside RocksDB is what paces the writer.
                return self.checked(self.db.write(fill()?), DOING);
            }
            self.wait_while_stopped()?;
        }
    }

    /// Makes what was written durable.
    pub(super) fn sync(&self) -> Result<()> {
        // An empty batch tells whether RocksDB has recovered.
        if self.health.failed.load(Ordering::Acquire) {
            self.write(&|| Ok(WriteBatch::default()))?;
        }
        self.checked(self.db.flush_wal(true), "syncing the write-ahead log")
    }

    fn checked(&self, done: std::result::Result<(), rocksdb::Error>, doing: &str) -> Result<()> {
        let failed = done.is_err();
        if failed != self.health.failed.load(Ordering::Relaxed) {
            self.health.failed.store(failed, Ordering::Release);
        }
        done.map_err(|error| self.place().error(error, doing))
    }

    /// Waits for flushes and compactions to free the writers. Wall time only bounds the wait.
    pub(super) fn wait_while_stopped(&self) -> Result<()> {
        let mut moving = Instant::now();
        while self.is_stopped() {
            if self.is_moving() {
                moving = Instant::now();
            } else if moving.elapsed() > STUCK {
                self.health.failed.store(true, Ordering::Release);
                let error = self.why_stuck();
                tracing::warn!(%error, "writes are refused");
                return Err(error);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        self.number(properties::IS_WRITE_STOPPED) != 0
    }

    fn is_moving(&self) -> bool {
        let running = [properties::NUM_RUNNING_FLUSHES, properties::NUM_RUNNING_COMPACTIONS];
        running.into_iter().any(|property| self.number(property) != 0)
    }

    fn number(&self, property: &properties::PropName) -> u64 {
        self.db.property_int_value(property).ok().flatten().unwrap_or_default()
    }

    /// Tells a full disk from other trouble by writing to it.
    fn why_stuck(&self) -> StateError {
        let doing = format!("writing table files of database {}", self.path.display());
        let probe = self.path.join(PROBE_FILE);
        let written = File::create(&probe).and_then(|mut file| file.write_all(&[0; PROBE_BYTES]));
        let removed = fs::remove_file(&probe);
        match written.and(removed) {
            Err(error) => StateError::io(doing, &error),
            Ok(()) => {
                let message = "writes are stopped and nothing is under way to free them".to_owned();
                StateError::Io { doing, message }
            }
        }
    }
}

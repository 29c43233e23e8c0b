//! A power loss leaves a prefix of whole commits that holds everything acknowledged. On the memory
//! engine every prefix of what was not synced is tried; of RocksDB's files the newest write-ahead
//! log is cut at sampled bytes after the last acknowledged sync.

use std::time::Duration;

use headwater::log::{OffsetQuery, StateBatch};
use headwater_state::commit::StoreCommit;
use headwater_state::database::memory::MemoryDisk;
use headwater_state::store::StorePartition;
use headwater_tests::log_contract::scene::{Producer, Scene, batch};
use headwater_tests::stepped_log::SteppedLog;

const PARTITIONS: u32 = 3;
const SYNC_INTERVAL: Duration = Duration::from_millis(100);

/// Writes numbered commits: number n goes to every partition, as the group's offset and into a row
/// of the state.
struct Counting<'l> {
    log: &'l SteppedLog,
    scene: Scene<'l>,
    producer: Producer,
    store: StorePartition,
    written: i64,
}

impl<'l> Counting<'l> {
    fn start(log: &'l SteppedLog) -> Self {
        let scene = Scene::new(log, "numbers", PARTITIONS);
        let producer = scene.producer("p");
        let store = log.store("app/count");
        Self { log, scene, producer, store, written: 0 }
    }

    fn state(&mut self) -> StoreCommit {
        self.store.put(b"count", self.written.to_string().as_bytes()).expect("a short key");
        self.store.freeze();
        self.store.commit(None)
    }

    fn commit(&mut self) {
        self.written += 1;
        self.producer.begin().expect("begun");
        let value = self.written.to_string();
        for partition in 0..PARTITIONS {
            self.scene.send(&mut self.producer, partition, &batch(&[&value])).expect("sent");
        }
        let commit = self.state();
        let mut request = self.scene.request(&[(0, self.written, "m")]);
        request.state = StateBatch { stores: vec![commit.clone()], tasks: Vec::new() };
        let ticket = self.producer.commit(request);
        // Only the writer is needed; whether the syncer ran is up to the clock.
        self.log.answer(&ticket).expect("committed");
        self.store.committed(&commit);
    }

    fn acknowledged(&self) -> i64 {
        self.log.log.synced_end(&self.scene.partition(0)).expect("known")
    }
}

/// What a database holds after a loss: the number of commits, which records, offsets and state must
/// agree on.
fn surviving(log: &SteppedLog) -> i64 {
    let scene = Scene::existing(log, "numbers");
    let store = log.store("app/count");
    let row = headwater_state::store::Rows::get(&store, b"count").expect("readable");
    let count = row
        .map_or(0, |value| String::from_utf8_lossy(&value.into_bytes()).parse().expect("a number"));
    let committed = scene.committed("group", 0).map_or(0, |offset| offset.next_offset);
    assert_eq!(committed, count, "offsets and state are of one commit");
    let expected: Vec<String> = (1..=count).map(|n| n.to_string()).collect();
    for partition in 0..PARTITIONS {
        assert_eq!(scene.offset(partition, OffsetQuery::HighWatermark), count);
        assert_eq!(scene.values(partition), expected, "the first {count} records");
    }
    count
}

/// Commits with a sync in the middle; how many were acknowledged and written.
fn write_and_lose(disk: &MemoryDisk, keep_unsynced: usize) -> (i64, i64, usize) {
    let log = SteppedLog::on_disk(disk);
    let mut counting = Counting::start(&log);
    for _ in 0..5 {
        counting.commit();
    }
    log.pass(SYNC_INTERVAL);
    for _ in 0..7 {
        counting.commit();
    }
    let (acknowledged, written) = (counting.acknowledged(), counting.written);
    let unsynced = disk.unsynced();
    disk.crash(keep_unsynced);
    (acknowledged, written, unsynced)
}

#[test]
fn every_prefix_of_unsynced_writes_is_a_prefix_of_commits_with_all_that_was_acknowledged() {
    let (_, _, unsynced) = write_and_lose(&MemoryDisk::new(), 0);
    assert!(unsynced >= 5, "several commits are at stake, not {unsynced}");
    let mut found = Vec::new();
    for keep in 0..=unsynced {
        let disk = MemoryDisk::new();
        let (acknowledged, written, _) = write_and_lose(&disk, keep);
        assert!(acknowledged >= 5 && acknowledged < written);
        let log = SteppedLog::on_disk(&disk);
        let count = surviving(&log);
        assert!((acknowledged..=written).contains(&count), "{count} of {written} survive");
        found.push(count);
        let mut counting = Counting { written: count, ..Counting::start(&log) };
        counting.commit();
        assert_eq!(surviving(&log), count + 1, "the log goes on from there");
    }
    assert!(found.is_sorted());
    assert!(found.len() > 2 && found.first() < found.last(), "losses differ: {found:?}");
}

#[cfg(feature = "rocksdb")]
mod rocksdb {
    use std::fs;
    use std::path::{Path, PathBuf};

    use headwater::log::embedded::EmbeddedSettings;
    use headwater_tests::proof;
    use headwater_tests::stepped_log::rocksdb_at;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const CUTS: usize = 12;

    /// The newest write-ahead log and its length.
    fn newest_wal(directory: &Path) -> (PathBuf, u64) {
        let files = fs::read_dir(directory).expect("readable").map(|f| f.expect("a file").path());
        let newest = files
            .filter(|file| file.extension().is_some_and(|extension| extension == "log"))
            .max()
            .expect("there is a write-ahead log");
        let length = fs::metadata(&newest).expect("readable").len();
        (newest, length)
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).expect("a directory");
        for file in fs::read_dir(from).expect("readable") {
            let file = file.expect("a file");
            if file.file_name() != "LOCK" {
                fs::copy(file.path(), to.join(file.file_name())).expect("copied");
            }
        }
    }

    #[test]
    fn a_write_ahead_log_cut_after_the_last_sync_leaves_a_prefix_of_commits() {
        for seed in proof::seeds("power loss", 4) {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let scratch = tempfile::tempdir().expect("a scratch directory");
            let original = scratch.path().join("original");
            let log = SteppedLog::open(rocksdb_at(&original), EmbeddedSettings::default());
            let mut counting = Counting::start(&log);
            for _ in 0..random.random_range(1..30) {
                counting.commit();
            }
            log.pass(SYNC_INTERVAL);
            let acknowledged = counting.acknowledged();
            let (wal, synced) = newest_wal(&original);
            for _ in 0..random.random_range(5..30) {
                counting.commit();
            }
            assert_eq!(counting.acknowledged(), acknowledged, "nothing was synced since");
            let (same, length) = newest_wal(&original);
            assert_eq!(same, wal, "all of it is in one file");
            assert!(length > synced);
            let written = counting.written;
            let mut survivors = Vec::new();
            for cut in 0..CUTS {
                let at = match cut {
                    0 => synced,
                    1 => length,
                    _ => random.random_range(synced..=length),
                };
                let image = scratch.path().join(format!("cut-{cut}"));
                copy(&original, &image);
                let file = image.join(wal.file_name().expect("a file name"));
                let file = fs::OpenOptions::new().write(true).open(file).expect("writable");
                file.set_len(at).expect("cut");
                drop(file);
                let lost = SteppedLog::open(rocksdb_at(&image), EmbeddedSettings::default());
                let count = surviving(&lost);
                assert!(
                    (acknowledged..=written).contains(&count),
                    "seed {seed}: {count} commits at byte {at}, {acknowledged} acknowledged"
                );
                survivors.push((at, count));
            }
            survivors.sort_unstable();
            assert!(survivors.is_sorted_by_key(|(_, count)| *count), "{survivors:?}");
            assert_eq!(survivors.first().map(|s| s.1), Some(acknowledged));
            assert_eq!(survivors.last().map(|s| s.1), Some(written));
        }
    }
}

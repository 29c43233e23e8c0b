//! What a crash leaves: a prefix of the batches, with everything in it that was synced.

use std::sync::Arc;

use headwater_state::StateError;
use headwater_state::commit::StateBatch;
use headwater_state::database::memory::MemoryDisk;
use headwater_state::database::{Database, FamilyKind, Reader};
use headwater_state::lease::Leases;
use headwater_state::positions::StorePositions;
use headwater_state::store::{Rows, StorePartition};

use crate::{delete_range, on_every_engine, pairs, put, rows, state_family, write};

/// Batch `number` adds one row, overwrites `last`, and now and then deletes a range.
fn write_numbered(database: &dyn Database, number: u32) {
    let family = state_family(database);
    let mut ops = vec![put(&format!("row{number:04}"), "v"), put("last", &number.to_string())];
    if number.is_multiple_of(5) && number >= 5 {
        ops.push(delete_range(&format!("row{:04}", number - 5), &format!("row{:04}", number - 3)));
    }
    write(database, &family, &ops);
}

/// The rows after batches `0..count`.
fn expected(count: u32) -> Vec<(String, String)> {
    let disk = MemoryDisk::new();
    let database = disk.open("model").expect("opens");
    let family = state_family(&*database);
    for number in 0..count {
        write_numbered(&*database, number);
    }
    rows(&*database, &family)
}

#[test]
fn a_memory_disk_crashes_to_every_prefix_of_what_was_not_synced() {
    for kept in 0..=12 {
        let disk = MemoryDisk::new();
        let database = disk.open("d").expect("opens");
        for number in 0..8 {
            write_numbered(&*database, number);
        }
        database.sync().expect("synced");
        assert_eq!(disk.unsynced(), 0);
        for number in 8..20 {
            write_numbered(&*database, number);
        }
        assert_eq!(disk.unsynced(), 12);
        disk.crash(kept);
        let survivor = disk.open("d").expect("the lock died with the process");
        let family = state_family(&*survivor);
        let count = 8 + u32::try_from(kept).expect("small");
        assert_eq!(rows(&*survivor, &family), expected(count));
        assert_eq!(disk.unsynced(), 0, "what survived a power loss is on disk");
    }
}

#[test]
fn handles_and_views_from_before_a_crash_are_closed() {
    let disk = MemoryDisk::new();
    let database = disk.open("d").expect("opens");
    let family = state_family(&*database);
    let view = database.view().expect("a view");
    disk.crash(usize::MAX);
    let next = disk.open("d").expect("opens");
    let family_now = state_family(&*next);
    let closed = |error: StateError| matches!(error, StateError::Closed { .. });
    assert!(closed(database.get(&family, b"k").expect_err("closed")));
    assert!(closed(view.get(&family, b"k").expect_err("closed")));
    assert!(closed(database.write(&[]).expect_err("closed")), "a zombie writes nothing");
    assert!(closed(database.sync().expect_err("closed")));
    drop(database);
    disk.open("d").expect_err("dropping the zombie did not free the new handle's name");
    write(&*next, &family_now, &[put("k", "v")]);
}

#[test]
fn a_disk_with_several_databases_is_cut_in_the_order_of_all_their_batches() {
    for kept in 0..=6 {
        let disk = MemoryDisk::new();
        let (one, two) = (disk.open("one").expect("opens"), disk.open("two").expect("opens"));
        for number in 0..3 {
            write_numbered(&*one, number);
            write_numbered(&*two, number);
        }
        disk.crash(kept);
        let left = |name: &str| {
            let database = disk.open(name).expect("opens");
            rows(&*database, &state_family(&*database))
        };
        let (first, second) = (kept.div_ceil(2), kept / 2);
        assert_eq!(left("one"), expected(u32::try_from(first).expect("small")));
        assert_eq!(left("two"), expected(u32::try_from(second).expect("small")));
    }
}

#[test]
fn databases_of_one_disk_can_lose_different_tails() {
    let disk = MemoryDisk::new();
    let (one, two) = (disk.open("one").expect("opens"), disk.open("two").expect("opens"));
    for number in 0..3 {
        write_numbered(&*one, number);
        write_numbered(&*two, number);
    }
    one.sync().expect("synced");
    disk.crash_each(|name, unsynced| {
        assert_eq!(unsynced.len(), if name == "one" { 0 } else { 3 });
        1
    });
    let two = disk.open("two").expect("opens");
    assert_eq!(rows(&*two, &state_family(&*two)), expected(1));
    let one = disk.open("one").expect("opens");
    assert_eq!(rows(&*one, &state_family(&*one)), expected(3));
}

#[test]
fn a_crash_never_parts_rows_from_the_positions_they_were_committed_with() {
    for kept in 0..=10 {
        let disk = MemoryDisk::new();
        let database: Arc<dyn Database> = disk.open("d").expect("opens");
        let leases = Leases::new();
        let open = |database: &Arc<dyn Database>| {
            StorePartition::open(Arc::clone(database), leases.grant("app/s", 0)).expect("opens")
        };
        let mut store = open(&database);
        for offset in 1..=10i64 {
            store.put(b"last", &offset.to_be_bytes()).expect("put");
            store.freeze();
            let commit = store.commit(Some(offset));
            let batch = StateBatch { stores: vec![commit.clone()], tasks: Vec::new() };
            batch.write(&leases, &*database, &[]).expect("committed");
            store.committed(&commit);
        }
        disk.crash(kept);
        let database: Arc<dyn Database> = disk.open("d").expect("opens");
        let store = open(&database);
        let row = store.get(b"last").expect("read").map(|value| value.to_vec());
        let position = StorePositions::read(&*database, store.family(), 0).expect("readable");
        assert_eq!(row, position.changelog.map(|offset| offset.to_be_bytes().to_vec()));
        assert_eq!(position.changelog.unwrap_or(0), i64::try_from(kept).expect("small"));
    }
}

#[test]
fn a_family_is_there_after_a_power_loss_although_nothing_was_synced() {
    let disk = MemoryDisk::new();
    let database = disk.open("d").expect("opens");
    database.family("made", FamilyKind::Log).expect("made");
    disk.crash(0);
    assert_eq!(disk.open("d").expect("opens").families(), ["made"]);
}

#[test]
fn what_was_written_is_kept_when_the_process_alone_dies() {
    on_every_engine(|engine| {
        let database = engine.open("d");
        let family = state_family(&*database);
        write(&*database, &family, &[put("k", "v")]);
        engine.kill();
        drop(database);
        let database = engine.open("d");
        assert_eq!(rows(&*database, &state_family(&*database)), pairs(&[("k", "v")]));
    });
}

#[cfg(feature = "rocksdb")]
mod rocks {
    //! Power loss and damage, shown on the files of a RocksDB.

    use std::fs;
    use std::path::{Path, PathBuf};

    use headwater_state::database::rocks::RocksDatabase;
    use headwater_state::database::{BatchPart, Reader};
    use headwater_state::{ErrorClass, StateError};
    use tempfile::tempdir;

    use super::{Database, FamilyKind, expected, rows, state_family, write_numbered};
    use crate::{Ops, put, shared_memory};

    fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(directory).expect("readable");
        let mut files: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
        files.retain(|path| path.extension().is_some_and(|found| found == extension));
        files.sort();
        files
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).expect("made");
        for entry in fs::read_dir(from).expect("readable") {
            let entry = entry.expect("readable");
            if entry.file_name() != "LOCK" {
                fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
            }
        }
    }

    fn newest_wal(directory: &Path) -> PathBuf {
        files(directory, "log").pop().expect("a write-ahead log")
    }

    fn length(path: &Path) -> u64 {
        fs::metadata(path).expect("there").len()
    }

    /// Cuts the newest write-ahead log at sampled bytes after what was synced, and looks at what is
    /// left each time.
    fn cut_everywhere(directory: &Path, synced_bytes: u64, synced: u32, written: u32) {
        let wal = newest_wal(directory);
        let full = length(&wal);
        assert!(full > synced_bytes, "something was written after the sync");
        let mut seen = std::collections::BTreeSet::new();
        for cut in (synced_bytes..=full).step_by(13).chain([full]) {
            let scratch = tempdir().expect("a directory");
            copy(directory, scratch.path());
            let wal = scratch.path().join(wal.file_name().expect("a name"));
            let file = fs::OpenOptions::new().write(true).open(wal).expect("opened");
            file.set_len(cut).expect("cut");
            let database = RocksDatabase::open(scratch.path(), &shared_memory()).expect("recovers");
            let left = rows(&*database, &state_family(&*database));
            let last = left.iter().find(|(key, _)| key == "last").expect("synced rows are there");
            let count = last.1.parse::<u32>().expect("a number") + 1;
            assert!((synced..=written).contains(&count), "{count} batches, {synced} were synced");
            assert_eq!(left, expected(count), "cut at byte {cut} of {full}");
            seen.insert(count);
        }
        assert!(
            seen.contains(&synced) && seen.contains(&written),
            "cuts reach both ends: {seen:?}"
        );
    }

    #[test]
    fn a_write_ahead_log_cut_after_the_last_sync_leaves_a_prefix_with_all_that_was_synced() {
        let directory = tempdir().expect("a directory");
        let database = RocksDatabase::open(directory.path(), &shared_memory()).expect("opens");
        for number in 0..10 {
            write_numbered(&*database, number);
        }
        database.sync().expect("synced");
        let synced_bytes = length(&newest_wal(directory.path()));
        for number in 10..20 {
            write_numbered(&*database, number);
        }
        cut_everywhere(directory.path(), synced_bytes, 10, 20);
    }

    #[test]
    fn the_same_holds_when_families_were_flushed_at_different_times() {
        let directory = tempdir().expect("a directory");
        let database = RocksDatabase::open(directory.path(), &shared_memory()).expect("opens");
        let other = database.family("other", FamilyKind::Log).expect("made");
        for number in 0..10 {
            write_numbered(&*database, number);
        }
        let batch = [put("k", "v")];
        let both: [&dyn BatchPart; 1] = [&Ops(&other, &batch)];
        database.write(&both).expect("written");
        // The flush closes the write-ahead log and syncs it before the table counts.
        database.flush().expect("flushed");
        write_numbered(&*database, 10);
        database.sync().expect("synced");
        let synced_bytes = length(&newest_wal(directory.path()));
        for number in 11..16 {
            database.write(&both).expect("written");
            write_numbered(&*database, number);
        }
        cut_everywhere(directory.path(), synced_bytes, 11, 16);
    }

    fn flip(path: &Path, at: u64) {
        let mut bytes = fs::read(path).expect("readable");
        let at = usize::try_from(at).expect("small");
        bytes[at] ^= 0x40;
        fs::write(path, bytes).expect("writable");
    }

    /// A database of one flushed family; its directory lives as long as the first value.
    fn flushed() -> (tempfile::TempDir, PathBuf) {
        let directory = tempdir().expect("a directory");
        let path = directory.path().join("d");
        let database = RocksDatabase::open(&path, &shared_memory()).expect("opens");
        for number in 0..500 {
            write_numbered(&*database, number);
        }
        database.flush().expect("flushed");
        (directory, path)
    }

    /// What opening and reading everything says.
    fn read_all(path: &Path) -> Result<usize, StateError> {
        let database = RocksDatabase::open(path, &shared_memory())?;
        let family = database.find_family("f").expect("the family is listed");
        let all = headwater_state::database::ScanRange::all();
        let mut cursor =
            database.scan(&family, all, headwater_state::database::Direction::Forward)?;
        let mut count = 0;
        while cursor.advance()? {
            count += 1;
        }
        Ok(count)
    }

    fn assert_damage(path: &Path, file: &Path) {
        let error = read_all(path).expect_err("damage is found");
        assert_eq!(error.class(), ErrorClass::Damaged, "{error}");
        let text = error.to_string();
        let name = file.file_name().expect("a name").to_string_lossy();
        assert!(text.contains(&path.display().to_string()), "{text} names the database");
        assert!(text.contains(&*name) || text.contains("family f"), "{text} names {name}");
    }

    #[test]
    fn a_damaged_table_file_is_found_and_named() {
        for part in [0, 1, 2, 3] {
            let (_directory, path) = flushed();
            let table = files(&path, "sst").pop().expect("a table");
            flip(&table, length(&table) * part / 4 + 20);
            assert_damage(&path, &table);
        }
    }

    #[test]
    fn a_missing_table_file_is_found_and_named() {
        let (_directory, path) = flushed();
        let table = files(&path, "sst").pop().expect("a table");
        fs::remove_file(&table).expect("removed");
        assert_damage(&path, &table);
    }

    #[test]
    fn a_damaged_catalogue_is_found() {
        let (_directory, path) = flushed();
        let manifest =
            fs::read_dir(&path).expect("readable").map(|entry| entry.expect("ok").path());
        let manifest = manifest
            .filter(|path| path.to_string_lossy().contains("MANIFEST"))
            .max()
            .expect("a manifest");
        flip(&manifest, length(&manifest) / 2);
        let error = read_all(&path).expect_err("damage is found");
        assert_eq!(error.class(), ErrorClass::Damaged, "{error}");
        fs::remove_file(&manifest).expect("removed");
        let error = read_all(&path).expect_err("damage is found");
        assert_eq!(error.class(), ErrorClass::Damaged, "{error}");
    }

    #[test]
    fn a_write_ahead_log_that_was_synced_closed_and_lost_is_damage_and_no_silent_loss() {
        let directory = tempdir().expect("a directory");
        let path = directory.path().join("d");
        let database = RocksDatabase::open(&path, &shared_memory()).expect("opens");
        let family = state_family(&*database);
        let other = database.family("other", FamilyKind::State).expect("made");
        for number in 0..100 {
            write_numbered(&*database, number);
        }
        let first = newest_wal(&path);
        let large = [crate::Op::Put(b"k".to_vec(), vec![7; 3 << 20])];
        // Fill another family until its memtable is switched, and with it the log.
        while newest_wal(&path) == first {
            crate::write(&*database, &other, &large);
        }
        database.sync().expect("synced");
        let crashed = directory.path().join("crashed");
        copy(&path, &crashed);
        drop((family, database));
        let lost = crashed.join(first.file_name().expect("a name"));
        assert!(lost.exists(), "rows of the first family are only there");
        fs::remove_file(&lost).expect("removed");
        let error = read_all(&crashed).expect_err("damage is found");
        assert_eq!(error.class(), ErrorClass::Damaged, "{error}");
    }

    /// Set in the child process that has a small disk of its own.
    const SMALL_DISK: &str = "HEADWATER_SMALL_DISK";
    const FULL_DISK_TEST: &str =
        "crash::rocks::a_full_disk_refuses_batches_whole_and_takes_them_again_when_space_is_freed";

    /// Mounting a small disk takes rights that a child can give itself in namespaces of its own. On
    /// a machine that forbids them the test says that it was skipped.
    #[test]
    fn a_full_disk_refuses_batches_whole_and_takes_them_again_when_space_is_freed() {
        if let Some(disk) = std::env::var_os(SMALL_DISK) {
            return fill_and_free(Path::new(&disk));
        }
        let directory = tempdir().expect("a directory");
        let small = |command: &str| {
            let script = format!("mount -t tmpfs -o size=40m tmpfs \"$1\" && {command}");
            let mut child = std::process::Command::new("unshare");
            child.args(["--map-root-user", "--mount", "sh", "-c", &script, "sh"]);
            child.arg(directory.path()).arg(std::env::current_exe().expect("this test's binary"));
            child.env(SMALL_DISK, directory.path());
            child.output()
        };
        if !small("true").is_ok_and(|mounted| mounted.status.success()) {
            println!("SKIPPED: this machine lets nobody mount a small disk");
            return;
        }
        let run = small(&format!("exec \"$2\" --exact {FULL_DISK_TEST}")).expect("runs");
        let said = String::from_utf8_lossy(&run.stdout).into_owned();
        assert!(run.status.success() && said.contains("1 passed"), "{said}");
    }

    /// One batch of rows that do not compress.
    fn noise(number: u64) -> Vec<crate::Op> {
        let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut byte = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_be_bytes()[0]
        };
        let row = |row: u64| (number * 4 + row).to_be_bytes().to_vec();
        (0..4).map(|n| crate::Op::Put(row(n), (0..4_000).map(|_| byte()).collect())).collect()
    }

    fn fill_and_free(disk: &Path) {
        let ballast = disk.join("ballast");
        fs::write(&ballast, vec![1; 24 << 20]).expect("written");
        let path = disk.join("d");
        let database = RocksDatabase::open(&path, &shared_memory()).expect("opens");
        let family = state_family(&*database);
        let take = |number| database.write(&[&Ops(&family, &noise(number))]);
        let full = |error: &StateError| matches!(error, StateError::Full { .. });
        let mut written = 0;
        let error = loop {
            match take(written) {
                Ok(()) => written += 1,
                Err(error) => break error,
            }
            assert!(written < 10_000, "the disk never fills");
        };
        assert!(full(&error), "{error}");
        let error = database.sync().expect_err("what came before is not said to be safe");
        assert!(full(&error), "{error}");
        let row = (written * 4).to_be_bytes();
        assert_eq!(database.get(&family, &row).expect("still readable"), None, "nothing of it");
        assert!(database.get(&family, &[0; 8]).expect("still readable").is_some());
        fs::remove_file(&ballast).expect("removed");
        let (_never, pause) = std::sync::mpsc::channel::<()>();
        let mut tries = 0;
        while let Err(error) = take(written) {
            assert!(full(&error), "{error}");
            tries += 1;
            assert!(tries < 600, "it does not recover");
            pause.recv_timeout(std::time::Duration::from_millis(100)).expect_err("only a pause");
        }
        take(written + 1).expect("written");
        database.sync().expect("synced");
        let crashed = disk.join("crashed");
        copy(&path, &crashed);
        drop((family, database));
        let count = read_all(&crashed).expect("recovers");
        assert_eq!(u64::try_from(count).expect("few"), (written + 2) * 4, "all that was written");
    }

    #[test]
    fn a_second_handle_of_an_open_database_is_refused() {
        let directory = tempdir().expect("a directory");
        let _first = RocksDatabase::open(directory.path(), &shared_memory()).expect("opens");
        let error = RocksDatabase::open(directory.path(), &shared_memory()).expect_err("locked");
        assert!(matches!(error, StateError::Locked { .. }), "{error}");
    }
}

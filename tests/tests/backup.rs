//! Backups, restores and salvages of state directories: whole, of a directory in use, interrupted, and
//! of damaged ones.
#![cfg(feature = "rocksdb")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use headwater_state::database::rocks::{MemoryBudget, RocksDatabase, SharedMemory};
use headwater_state::database::{BatchPart, BatchSink, Database, Family, FamilyKind, ScanRange};
use headwater_state::database::{Direction, Reader};
use headwater_state::directory::{Identity, StateDirectory, Storage, backup, restore, salvage};
use headwater_state::error::{Mode, StateError};
use headwater_tests::child::Child;

fn memory() -> SharedMemory {
    SharedMemory::new(MemoryBudget { block_cache_bytes: 4 << 20, memtable_bytes: 4 << 20 })
}

fn open(path: &Path, mode: Mode) -> StateDirectory {
    let storage = Storage::Files { path: path.to_owned(), memory: memory() };
    let identity = Identity { mode, applications: ["app".to_owned()].into(), cluster: None };
    StateDirectory::open(storage, identity).expect("it opens")
}

/// Rows `from..to` with values of a hundred bytes.
struct Rows<'f>(&'f Family, std::ops::Range<u32>);

fn value(row: u32) -> Vec<u8> {
    format!("{row:0100}").into_bytes()
}

impl BatchPart for Rows<'_> {
    fn replay(&self, sink: &mut dyn BatchSink) {
        for row in self.1.clone() {
            sink.put(self.0, &row.to_be_bytes(), &value(row));
        }
    }
}

fn fill(database: &dyn Database, rows: std::ops::Range<u32>) {
    let family = database.family("app/counts", FamilyKind::State).expect("a family");
    database.write(&[&Rows(&family, rows)]).expect("written");
}

/// The numbers of the rows, in order; each with its value.
fn read(database: &dyn Reader) -> Vec<u32> {
    let Some(family) = database.find_family("app/counts") else { return Vec::new() };
    let mut cursor = database.scan(&family, ScanRange::all(), Direction::Forward).expect("rows");
    let mut rows = Vec::new();
    while let Some((key, found)) = cursor.next().expect("a row") {
        let row = u32::from_be_bytes(key.try_into().expect("four bytes"));
        assert_eq!(found, value(row), "row {row}");
        rows.push(row);
    }
    rows
}

fn embedded(path: &Path) -> Vec<u32> {
    let directory = open(path, Mode::Embedded);
    read(&*directory.embedded().expect("it opens"))
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

#[test]
fn a_backup_of_a_stopped_directory_restores_to_the_same_rows() {
    let folder = Folder::new();
    let state = folder.path("state");
    let directory = open(&state, Mode::Embedded);
    fill(&*directory.embedded().expect("opens"), 0..1_000);
    drop(directory);
    let made = backup(&state, &folder.path("backup")).expect("copied");
    assert!(!made.online && made.bytes() > 0);
    let restored = restore(&folder.path("backup"), &folder.path("again")).expect("restored");
    assert_eq!(made, restored);
    assert_eq!(embedded(&folder.path("again")), (0..1_000).collect::<Vec<_>>());
    assert_eq!(embedded(&state).len(), 1_000, "the directory is as it was");
}

#[test]
fn a_backup_beside_a_cluster_has_the_database_of_every_task_and_none_that_was_set_aside() {
    let folder = Folder::new();
    let state = folder.path("state");
    let directory = open(&state, Mode::Kafka);
    for (task, rows) in [("0_0", 0..10), ("0_1", 10..30)] {
        fill(&*directory.task("app", task).expect("opens"), rows);
    }
    directory.quarantine("app", "0_0").expect("set aside");
    drop(directory);
    backup(&state, &folder.path("backup")).expect("copied");
    restore(&folder.path("backup"), &folder.path("again")).expect("restored");
    let again = open(&folder.path("again"), Mode::Kafka);
    assert_eq!(again.tasks("app").expect("listed"), ["0_1"]);
    let task = again.task("app", "0_1").expect("opens");
    assert_eq!(read(&*task), (10..30).collect::<Vec<_>>());
    let refused = salvage(&state, &folder.path("saved"), &memory()).expect_err("a cluster's");
    assert!(refused.to_string().contains("restored from its changelog"), "{refused}");
}

#[test]
fn a_backup_of_a_directory_in_use_is_a_state_it_was_in() {
    let folder = Folder::new();
    let state = folder.path("state");
    let directory = open(&state, Mode::Embedded);
    let database = directory.embedded().expect("opens");
    fill(&*database, 0..100);
    let (stop, writing) = (Arc::new(AtomicBool::new(false)), Arc::clone(&database));
    let stopped = Arc::clone(&stop);
    let writer = std::thread::spawn(move || {
        let mut next = 100;
        while !stopped.load(Ordering::Acquire) && next < 200_000 {
            fill(&*writing, next..next + 100);
            next += 100;
        }
        next
    });
    let mut before = 0;
    for number in 0..5 {
        let target = folder.path(&format!("backup-{number}"));
        assert!(backup(&state, &target).expect("copied").online);
        let again = folder.path(&format!("again-{number}"));
        restore(&target, &again).expect("restored");
        let rows = embedded(&again);
        let all: Vec<u32> = (0..u32::try_from(rows.len()).expect("few")).collect();
        assert_eq!(rows, all, "every row before the last, and whole batches");
        assert!(rows.len().is_multiple_of(100) && rows.len() >= before, "{} rows", rows.len());
        before = rows.len();
    }
    stop.store(true, Ordering::Release);
    let written = writer.join().expect("it wrote");
    assert!(u32::try_from(before).expect("few") <= written);
}

#[test]
fn a_taken_target_an_incomplete_and_a_damaged_backup_are_refused() {
    let folder = Folder::new();
    let (state, made) = (folder.path("state"), folder.path("backup"));
    backup(&state, &made).expect_err("there is no state");
    fill(&*open(&state, Mode::Embedded).embedded().expect("opens"), 0..10);
    backup(&state, &made).expect("copied");
    backup(&state, &made).expect_err("the target is taken");
    restore(&made, &state).expect_err("the directory is in use");
    let table = fs::read_dir(made.join("data")).expect("a database").map(|f| f.expect("f").path());
    let log = table.into_iter().find(|p| p.extension().is_some_and(|e| e == "log")).expect("a log");
    let whole = fs::read(&log).expect("readable");
    fs::write(&log, &whole[..whole.len() - 1]).expect("writable");
    let error = restore(&made, &folder.path("again")).expect_err("damaged");
    assert!(matches!(&error, StateError::Corruption { place, .. } if place.ends_with(".log")));
    fs::remove_file(made.join("backup.json")).expect("it was there");
    let error = restore(&made, &folder.path("again")).expect_err("no manifest");
    assert!(error.to_string().contains("no complete backup"), "{error}");
    assert!(!folder.path("again").exists(), "nothing is left");
}

#[test]
fn a_backup_that_is_killed_leaves_nothing_that_restore_accepts() {
    let folder = Folder::new();
    let state = folder.path("state");
    let directory = open(&state, Mode::Embedded);
    let database = directory.embedded().expect("opens");
    for batch in 0..200 {
        fill(&*database, batch * 1_000..(batch + 1) * 1_000);
    }
    drop((database, directory));
    let (mut killed, mut complete) = (0, 0);
    for millis in (0..40).map(|step| step * 4) {
        let target = folder.path(&format!("backup-{millis}"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_crash"));
        command.arg("backup").arg(&target).arg("--state-dir").arg(&state);
        let child = Child::start("backup", &command);
        std::thread::park_timeout(Duration::from_millis(millis));
        child.kill();
        let again = folder.path(&format!("again-{millis}"));
        match restore(&target, &again) {
            Ok(_) => {
                complete += 1;
                assert_eq!(embedded(&again).len(), 200_000);
                fs::remove_dir_all(&again).expect("it was there");
            }
            Err(error) => {
                killed += 1;
                assert!(error.to_string().contains("no complete backup"), "{error}");
                let half = folder.path(&format!("backup-{millis}.partial"));
                if half.join("backup.json").exists() {
                    continue;
                }
                restore(&half, &again).expect_err("half of one");
            }
        }
        drop(fs::remove_dir_all(&target));
    }
    assert!(killed > 0, "{complete} were complete, none was killed");
    backup(&state, &folder.path("backup-0")).expect("what was left is no hindrance");
}

/// A directory with three tables in its database, and the paths of those.
fn three_tables(state: &Path) -> Vec<PathBuf> {
    let directory = open(state, Mode::Embedded);
    drop(directory);
    let database = RocksDatabase::open(&state.join("data"), &memory()).expect("opens");
    for part in 0..3 {
        fill(&*database, part * 1_000..(part + 1) * 1_000);
        database.flush().expect("flushed");
    }
    drop(database);
    let files = fs::read_dir(state.join("data")).expect("a database");
    let mut tables: Vec<_> = files.map(|file| file.expect("readable").path()).collect();
    tables.retain(|path| path.extension().is_some_and(|extension| extension == "sst"));
    tables.sort();
    assert_eq!(tables.len(), 3);
    tables
}

#[test]
fn a_salvage_of_a_sound_directory_copies_everything() {
    let folder = Folder::new();
    let state = folder.path("state");
    three_tables(&state);
    let report = salvage(&state, &folder.path("saved"), &memory()).expect("salvaged");
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(embedded(&folder.path("saved")), (0..3_000).collect::<Vec<_>>());
}

#[test]
fn a_salvage_reads_around_a_damaged_table_and_says_what_is_lost() {
    let folder = Folder::new();
    let state = folder.path("state");
    let tables = three_tables(&state);
    let mut bytes = fs::read(&tables[1]).expect("readable");
    let middle = bytes.len() / 4;
    bytes[middle..middle + 64].fill(0xa5);
    fs::write(&tables[1], bytes).expect("writable");
    let report = salvage(&state, &folder.path("saved"), &memory()).expect("salvaged");
    assert!(!report.rebuilt);
    let family = report.families.iter().find(|f| f.name == "app/counts").expect("the family");
    assert!(!family.lost.is_empty(), "{family:?}");
    let rows = embedded(&folder.path("saved"));
    assert_eq!(u64::try_from(rows.len()).expect("few"), family.rows);
    let of = |part: std::ops::Range<u32>| rows.iter().filter(|row| part.contains(row)).count();
    assert_eq!((of(0..1_000), of(2_000..3_000)), (1_000, 1_000), "the sound tables are whole");
    assert!(of(1_000..2_000) < 1_000, "the damaged one is not");
}

#[test]
fn a_salvage_of_a_database_without_its_catalogue_rebuilds_it_from_the_tables() {
    let folder = Folder::new();
    let state = folder.path("state");
    let tables = three_tables(&state);
    fs::remove_file(&tables[1]).expect("it was there");
    let report = salvage(&state, &folder.path("saved"), &memory()).expect("salvaged");
    assert!(report.rebuilt && !report.is_whole());
    let rows = embedded(&folder.path("saved"));
    let expected: Vec<u32> = (0..1_000).chain(2_000..3_000).collect();
    assert_eq!(rows, expected);
    assert!(!tables[1].exists(), "the damaged directory is only read");
}

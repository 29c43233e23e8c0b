//! Many sorted rows at once: over what was there, with their position, whole or not at all.

use std::sync::Arc;

use headwater_state::StateError;
use headwater_state::database::Database;
use headwater_state::database::memory::{Fault, MemoryDisk};
use headwater_state::lease::Leases;
use headwater_state::positions::StorePositions;
use headwater_state::store::{Rows, StorePartition};

use crate::{Ops, delete, on_every_engine, pairs, put, rows, state_family, write};

fn open(database: &Arc<dyn Database>, leases: &Leases) -> StorePartition {
    StorePartition::open(Arc::clone(database), leases.grant("app/s", 0)).expect("opens")
}

/// Puts rows and brings them into the database with this position.
fn load(store: &mut StorePartition, leases: &Leases, numbers: std::ops::Range<u32>, offset: i64) {
    for number in numbers {
        store.put(format!("row{number:05}").as_bytes(), &offset.to_be_bytes()).expect("put");
    }
    store.freeze();
    let commit = store.commit(Some(offset));
    commit.ingest(leases, &**store.database()).expect("taken");
    store.committed(&commit);
}

#[test]
fn sorted_rows_lie_over_what_was_written_and_under_what_is_written_then() {
    on_every_engine(|engine| {
        let database = engine.open("d");
        let family = state_family(&*database);
        write(&*database, &family, &[put("a", "1"), put("b", "1"), put("c", "1")]);
        let sorted = [put("a", "2"), delete("b"), put("d", "2")];
        database.ingest(&family, &Ops(&family, &sorted)).expect("taken");
        assert_eq!(rows(&*database, &family), pairs(&[("a", "2"), ("c", "1"), ("d", "2")]));
        write(&*database, &family, &[put("d", "3")]);
        let again = [put("a", "4"), put("b", "4")];
        database.ingest(&family, &Ops(&family, &again)).expect("taken");
        let expected = [("a", "4"), ("b", "4"), ("c", "1"), ("d", "3")];
        assert_eq!(rows(&*database, &family), pairs(&expected));
        drop(database);
        let database = engine.open("d");
        assert_eq!(rows(&*database, &state_family(&*database)), pairs(&expected));
    });
}

#[test]
fn rows_out_of_order_are_refused_whole() {
    on_every_engine(|engine| {
        let database = engine.open("d");
        let family = state_family(&*database);
        let backwards = [put("b", "1"), put("a", "1")];
        database.ingest(&family, &Ops(&family, &backwards)).expect_err("refused");
        assert_eq!(rows(&*database, &family), pairs(&[]));
        write(&*database, &family, &[put("a", "1")]);
    });
}

#[test]
fn a_view_from_before_does_not_show_sorted_rows() {
    on_every_engine(|engine| {
        let database = engine.open("d");
        let family = state_family(&*database);
        write(&*database, &family, &[put("a", "1")]);
        let view = database.view().expect("a view");
        let sorted = [put("a", "2"), put("b", "2")];
        database.ingest(&family, &Ops(&family, &sorted)).expect("taken");
        assert_eq!(view.get(&family, b"a").expect("read").as_deref(), Some(&b"1"[..]));
        assert_eq!(view.get(&family, b"b").expect("read"), None);
    });
}

#[test]
fn a_stale_lease_and_a_position_that_went_back_are_refused() {
    on_every_engine(|engine| {
        let database = engine.open("d");
        let leases = Leases::new();
        let mut store = open(&database, &leases);
        load(&mut store, &leases, 0..10, 10);
        store.put(b"late", b"v").expect("put");
        store.freeze();
        let back = store.commit(Some(5)).ingest(&leases, &*database);
        assert!(matches!(back, Err(StateError::PositionWentBack { .. })), "{back:?}");
        let _newer = leases.grant("app/s", 0);
        let stale = store.commit(Some(20)).ingest(&leases, &*database);
        assert!(matches!(stale, Err(StateError::StaleLease { .. })), "{stale:?}");
        assert_eq!(open(&database, &leases).positions().changelog, Some(10));
    });
}

/// How many rows there are, of those that are all there or not, and the position beside them.
fn survived(database: &Arc<dyn Database>) -> (usize, Option<i64>) {
    let store = open(database, &Leases::new());
    let count = |offset: i64| {
        let numbers =
            (u32::try_from(offset).expect("small") - 100)..u32::try_from(offset).expect("small");
        let there = numbers.filter(|n| {
            let row = store.get(format!("row{n:05}").as_bytes()).expect("read");
            row.is_some_and(|value| *value == offset.to_be_bytes())
        });
        there.count()
    };
    let all = (1..=6).map(|chunk| count(chunk * 100)).sum();
    (all, store.positions().changelog)
}

#[test]
fn a_crash_between_sorted_files_leaves_whole_files_and_their_position() {
    for kept in 0..=6 {
        let disk = MemoryDisk::new();
        let database: Arc<dyn Database> = disk.open("d").expect("opens");
        let leases = Leases::new();
        let mut store = open(&database, &leases);
        for chunk in 0..6_u32 {
            let numbers = chunk * 100..(chunk + 1) * 100;
            load(&mut store, &leases, numbers, i64::from(chunk + 1) * 100);
        }
        disk.crash(kept);
        let database: Arc<dyn Database> = disk.open("d").expect("opens");
        let position = i64::try_from(kept).expect("small") * 100;
        let expected = (kept * 100, Some(position).filter(|position| *position > 0));
        assert_eq!(survived(&database), expected);
    }
}

#[test]
fn a_full_disk_takes_nothing_of_a_file_and_the_whole_of_it_later() {
    let disk = MemoryDisk::new();
    let database: Arc<dyn Database> = disk.open("d").expect("opens");
    let leases = Leases::new();
    let mut store = open(&database, &leases);
    store.put(b"k", b"v").expect("put");
    store.freeze();
    let commit = store.commit(Some(1));
    disk.faults().fail_writes(Some(Fault::Full));
    let full = commit.ingest(&leases, &*database);
    assert!(matches!(full, Err(StateError::Full { .. })), "{full:?}");
    let positions = StorePositions::read(&*database, store.family(), 0).expect("read");
    assert_eq!(positions, StorePositions::default());
    disk.faults().heal();
    commit.ingest(&leases, &*database).expect("taken");
    assert_eq!(open(&database, &leases).positions().changelog, Some(1));
}

/// Where the process that dies keeps its database, and after how many files it dies.
#[cfg(feature = "rocksdb")]
const DIES: [&str; 2] = ["HEADWATER_DIES_IN", "HEADWATER_DIES_AFTER"];

/// The death of the process at every point between files: a process of its own, aborted there.
#[cfg(feature = "rocksdb")]
#[test]
fn killed_between_any_two_files_a_rocksdb_has_whole_files_and_their_position() {
    use headwater_state::database::rocks::RocksDatabase;

    if let [Ok(folder), Ok(files)] = DIES.map(std::env::var) {
        die_between_files(std::path::Path::new(&folder), files.parse().expect("a number"));
    }
    let memory = crate::shared_memory();
    for files in 1..=6_u32 {
        let folder = tempfile::tempdir().expect("a folder");
        let name =
            "ingest::killed_between_any_two_files_a_rocksdb_has_whole_files_and_their_position";
        let child = std::process::Command::new(std::env::current_exe().expect("this suite"))
            .args(["--exact", name])
            .env(DIES[0], folder.path())
            .env(DIES[1], files.to_string())
            .output()
            .expect("started");
        assert!(!child.status.success() && folder.path().join("ingest").exists(), "{child:?}");
        let survivor: Arc<dyn Database> =
            RocksDatabase::open(folder.path(), &memory).expect("opens");
        let rows = usize::try_from(files).expect("small") * 100;
        assert_eq!(survived(&survivor), (rows, Some(i64::from(files) * 100)));
        assert!(!folder.path().join("ingest").exists(), "the half file is gone");
    }
}

/// Brings `files` sorted files in, writes half of the next one, and is gone.
#[cfg(feature = "rocksdb")]
fn die_between_files(folder: &std::path::Path, files: u32) -> ! {
    use headwater_state::database::rocks::RocksDatabase;

    let database: Arc<dyn Database> =
        RocksDatabase::open(folder, &crate::shared_memory()).expect("opens");
    let leases = Leases::new();
    let mut store = open(&database, &leases);
    for file in 0..files {
        load(&mut store, &leases, file * 100..(file + 1) * 100, i64::from(file + 1) * 100);
    }
    let ingest = folder.join("ingest").join("0");
    std::fs::create_dir_all(&ingest).expect("made");
    std::fs::write(ingest.join("rows.sst"), b"half a file").expect("written");
    std::process::abort();
}

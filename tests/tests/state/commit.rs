//! The unit of commit: leases, positions, and that all of it is written or none.

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_state::commit::{StateBatch, StoreCommit, TaskCommit};
use headwater_state::database::memory::{Fault, MemoryDisk};
use headwater_state::database::{Database, Direction, FamilyKind};
use headwater_state::lease::Leases;
use headwater_state::positions::{
    ForgetTask, InputPosition, StorePositions, TaskPositions, tasks_family,
};
use headwater_state::store::{KeyValueReads, Rows, StorePartition};
use headwater_state::{ErrorClass, StateError};

use crate::{on_every_engine, rest};

fn open(database: &Arc<dyn Database>, leases: &Leases, store: &str) -> StorePartition {
    StorePartition::open(Arc::clone(database), leases.grant(store, 0)).expect("opens")
}

fn one(commit: StoreCommit) -> StateBatch {
    StateBatch { stores: vec![commit], tasks: Vec::new() }
}

fn task_positions() -> TaskPositions {
    let input = |next_offset, time_ms| InputPosition { next_offset, time_ms };
    TaskPositions {
        inputs: BTreeMap::from([
            (("clicks".to_owned(), 0), input(42, Some(1_000))),
            (("clicks".to_owned(), 7), input(0, None)),
        ]),
        clocks: BTreeMap::from([("rollup".to_owned(), 5_000), ("join".to_owned(), i64::MIN)]),
        schedules: BTreeMap::from([("tick".to_owned(), i64::MAX)]),
        emitted: BTreeMap::from([("final".to_owned(), 0)]),
        transaction: Some("app-1-7".to_owned()),
    }
}

#[test]
fn a_commit_writes_rows_positions_and_tasks_and_all_of_it_is_read_back_after_reopening() {
    on_every_engine(|engine| {
        let (database, leases) = (engine.open("d"), Leases::new());
        let tasks = database.family(&tasks_family("app"), FamilyKind::Meta).expect("made");
        let mut store = open(&database, &leases, "app/s");
        store.put(b"k", b"v").expect("put");
        store.freeze();
        let commit = store.commit(Some(17));
        let task = TaskCommit {
            family: tasks.clone(),
            task: "0_1".to_owned(),
            positions: task_positions(),
        };
        let batch = StateBatch { stores: vec![commit.clone()], tasks: vec![task] };
        batch.write(&leases, &*database, &[]).expect("committed");
        store.committed(&commit);
        drop((store, database));

        let database = engine.open("d");
        let store = open(&database, &leases, "app/s");
        assert_eq!(store.positions(), StorePositions { changelog: Some(17), observed_ms: None });
        assert_eq!(&*store.get(b"k").expect("read").expect("committed"), b"v");
        let tasks = database.find_family(&tasks_family("app")).expect("known");
        let read = TaskPositions::read(&*database, &tasks, "0_1").expect("readable");
        assert_eq!(read, Some(task_positions()));
        assert_eq!(TaskPositions::read(&*database, &tasks, "0_2").expect("readable"), None);
        let all = TaskPositions::read_all(&*database, &tasks).expect("readable");
        assert_eq!(all, BTreeMap::from([("0_1".to_owned(), task_positions())]));
        let forget = ForgetTask { family: tasks.clone(), task: "0_1".to_owned() };
        database.write(&[&forget]).expect("written");
        assert_eq!(TaskPositions::read(&*database, &tasks, "0_1").expect("readable"), None);
    });
}

#[test]
fn a_stale_lease_refuses_the_whole_batch_also_the_stores_whose_lease_is_good() {
    on_every_engine(|engine| {
        let (database, leases) = (engine.open("d"), Leases::new());
        let mut good = open(&database, &leases, "app/good");
        let mut stale = open(&database, &leases, "app/stale");
        good.put(b"k", b"v").expect("put");
        stale.put(b"k", b"v").expect("put");
        good.freeze();
        stale.freeze();
        let batch = StateBatch {
            stores: vec![good.commit(Some(1)), stale.commit(Some(1))],
            tasks: Vec::new(),
        };
        let successor = leases.grant("app/stale", 0);
        assert!(leases.is_current(&successor) && !leases.is_current(stale.lease()));
        let error = batch.write(&leases, &*database, &[]).expect_err("stale");
        assert_eq!(error.class(), ErrorClass::Fenced);
        let StateError::StaleLease { store, partition: 0, held: 1, current: 2 } = &error else {
            panic!("{error}");
        };
        assert_eq!(store, "app/stale");
        good.rewind().expect("rewound");
        assert!(good.get(b"k").expect("read").is_none(), "nothing was written");
        assert_eq!(good.positions(), StorePositions::default());
    });
}

#[test]
fn a_lease_of_another_store_or_partition_does_not_matter() {
    on_every_engine(|engine| {
        let (database, leases) = (engine.open("d"), Leases::new());
        let mut store = open(&database, &leases, "app/s");
        leases.grant("app/s", 1);
        leases.grant("app/t", 0);
        store.put(b"k", b"v").expect("put");
        store.freeze();
        one(store.commit(None)).write(&leases, &*database, &[]).expect("committed");
    });
}

#[test]
fn a_position_that_would_go_back_refuses_the_batch() {
    on_every_engine(|engine| {
        let (database, leases) = (engine.open("d"), Leases::new());
        let mut store = open(&database, &leases, "app/s");
        store.freeze();
        let commit = store.commit(Some(10));
        one(commit.clone()).write(&leases, &*database, &[]).expect("committed");
        store.committed(&commit);
        store.put(b"k", b"v").expect("put");
        store.freeze();
        let error = one(store.commit(Some(9))).write(&leases, &*database, &[]).expect_err("back");
        assert!(matches!(error, StateError::PositionWentBack { from: 10, to: 9, .. }), "{error}");
        store.rewind().expect("rewound");
        assert!(store.get(b"k").expect("read").is_none());
        assert_eq!(store.positions().changelog, Some(10));

        let tasks = database.family(&tasks_family("app"), FamilyKind::Meta).expect("made");
        let task = |positions| StateBatch {
            stores: Vec::new(),
            tasks: vec![TaskCommit { family: tasks.clone(), task: "0_0".to_owned(), positions }],
        };
        task(task_positions()).write(&leases, &*database, &[]).expect("committed");
        let mut back = task_positions();
        let first = back.inputs.first_entry();
        first.expect("two inputs").get_mut().next_offset = 41;
        let error = task(back).write(&leases, &*database, &[]).expect_err("back");
        let text = error.to_string();
        assert!(text.contains("task 0_0 in clicks partition 0") && text.contains("42"), "{text}");
        let mut clock_back = task_positions();
        clock_back.clocks.insert("rollup".to_owned(), 4_999);
        task(clock_back).write(&leases, &*database, &[]).expect_err("a late record stays late");
        let mut without = task_positions();
        without.inputs.clear();
        task(without).write(&leases, &*database, &[]).expect("a topology may lose an input");
    });
}

#[test]
fn a_rewound_store_is_what_the_database_has() {
    on_every_engine(|engine| {
        let (database, leases) = (engine.open("d"), Leases::new());
        let mut store = open(&database, &leases, "app/s");
        store.put(b"a", b"1").expect("put");
        store.freeze();
        let commit = store.commit(Some(1));
        one(commit.clone()).write(&leases, &*database, &[]).expect("committed");
        store.committed(&commit);
        store.put(b"b", b"2").expect("put");
        store.freeze();
        store.put(b"c", b"3").expect("put");
        store.rewind().expect("rewound");
        let all = rest(store.all(Direction::Forward).expect("a scan"));
        assert_eq!(all, crate::pairs(&[("a", "1")]));
        assert_eq!(store.overlay().bytes(), 0);
        store.put(b"d", b"4").expect("a rewound store goes on");
        store.freeze();
    });
}

#[test]
fn a_full_disk_refuses_the_commit_whole_and_the_same_commit_succeeds_after_space_is_freed() {
    let disk = MemoryDisk::new();
    let database: Arc<dyn Database> = disk.open("d").expect("opens");
    let leases = Leases::new();
    let mut store = open(&database, &leases, "app/s");
    store.put(b"k", b"v").expect("put");
    store.freeze();
    let batch = one(store.commit(Some(5)));
    disk.faults().fail_writes(Some(Fault::Full));
    let error = batch.write(&leases, &*database, &[]).expect_err("full");
    assert!(matches!(error, StateError::Full { .. }), "{error}");
    assert_eq!(error.class(), ErrorClass::Retry);
    let read = StorePositions::read(&*database, store.family(), 0).expect("readable");
    assert_eq!(read, StorePositions::default(), "nothing was written");
    assert_eq!(&*store.get(b"k").expect("read").expect("still in the overlay"), b"v");
    disk.faults().heal();
    batch.write(&leases, &*database, &[]).expect("committed");
    store.committed(&batch.stores[0]);
    assert_eq!(&*store.get(b"k").expect("read").expect("committed"), b"v");
}

#[test]
fn an_injected_error_hits_exactly_the_write_it_was_meant_for() {
    let disk = MemoryDisk::new();
    let database: Arc<dyn Database> = disk.open("d").expect("opens");
    let family = crate::state_family(&*database);
    disk.faults().fail_write_after(2, Fault::Io);
    let write = |value: &str| {
        let ops = [crate::put("k", value)];
        database.write(&[&crate::Ops(&family, &ops)])
    };
    write("1").expect("written");
    write("2").expect("written");
    let error = write("3").expect_err("injected");
    assert!(matches!(error, StateError::Io { .. }), "{error}");
    assert_eq!(crate::rows(&*database, &family), crate::pairs(&[("k", "2")]));
    write("4").expect("written");
    disk.faults().fail_syncs(Some(Fault::Io));
    database.sync().expect_err("injected");
    disk.faults().damage("f");
    let error = database.get(&family, b"k").expect_err("injected");
    assert_eq!(error.class(), ErrorClass::Damaged);
}

#[test]
fn positions_written_by_a_newer_version_are_refused_by_name() {
    on_every_engine(|engine| {
        let (database, leases) = (engine.open("d"), Leases::new());
        let family = database.family("app/s", FamilyKind::State).expect("made");
        let key = [0, b'p', 0, 0, 0, 0].to_vec();
        for (row, newer) in [(vec![99, 0, 0], true), (vec![1, 7], false), (vec![1, 0, 0, 0], false)]
        {
            crate::write(&*database, &family, &[crate::Op::Put(key.clone(), row)]);
            let lease = leases.grant("app/s", 0);
            let error = StorePartition::open(Arc::clone(&database), lease).expect_err("refused");
            assert!(error.to_string().contains("app/s"), "{error}");
            assert_eq!(matches!(error, StateError::NewerFormat { found: 99, .. }), newer);
            assert_eq!(error.class() == ErrorClass::Damaged, !newer);
        }
    });
}

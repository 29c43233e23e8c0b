//! Key-value stores: overlay and database as one.

use std::ops::Bound;
use std::sync::Arc;

use headwater_state::StateError;
use headwater_state::database::{Database, Direction};
use headwater_state::layout::KEY_BYTES_MAX;
use headwater_state::lease::Leases;
use headwater_state::store::{Committed, KeyValueReads, KeyValueStore, Rows, StorePartition};

use crate::{on_every_engine, pairs, rest};

fn open(database: &Arc<dyn Database>, leases: &Leases, partition: u32) -> KeyValueStore {
    let lease = leases.grant("app/counts", partition);
    KeyValueStore::new(StorePartition::open(Arc::clone(database), lease).expect("opens"))
}

fn commit(store: &mut KeyValueStore, leases: &Leases) {
    let state = store.state_mut();
    state.freeze();
    let commit = state.commit(None);
    let batch =
        headwater_state::commit::StateBatch { stores: vec![commit.clone()], tasks: Vec::new() };
    batch.write(leases, &**state.database(), &[]).expect("a healthy commit");
    state.committed(&commit);
}

fn all(store: &KeyValueStore, direction: Direction) -> Vec<(String, String)> {
    rest(store.state().all(direction).expect("a scan"))
}

#[test]
fn what_is_written_covers_what_is_committed_in_gets_and_in_scans_of_both_directions() {
    on_every_engine(|engine| {
        let (database, leases) = (engine.open("d"), Leases::new());
        let mut store = open(&database, &leases, 0);
        for (key, value) in [("a", "1"), ("c", "1"), ("e", "1")] {
            store.put(key.as_bytes(), value.as_bytes()).expect("put");
        }
        commit(&mut store, &leases);
        store.put(b"c", b"2").expect("put");
        store.state_mut().freeze();
        store.put(b"b", b"3").expect("put");
        store.delete(b"e").expect("deleted");
        store.put(b"f", b"3").expect("put");
        let expected = pairs(&[("a", "1"), ("b", "3"), ("c", "2"), ("f", "3")]);
        assert_eq!(all(&store, Direction::Forward), expected);
        let backward: Vec<_> = expected.into_iter().rev().collect();
        assert_eq!(all(&store, Direction::Backward), backward);
        let get = |key: &[u8]| store.get(key).expect("read").map(|value| value.to_vec());
        assert_eq!(get(b"a"), Some(b"1".to_vec()), "from the database");
        assert_eq!(get(b"c"), Some(b"2".to_vec()), "from the commit under way");
        assert_eq!(get(b"b"), Some(b"3".to_vec()), "from what is new");
        assert_eq!(get(b"e"), None, "deleted and not committed");
    });
}

#[test]
fn an_undone_record_leaves_no_trace_and_the_ones_before_it_stay() {
    on_every_engine(|engine| {
        let (database, leases) = (engine.open("d"), Leases::new());
        let mut store = open(&database, &leases, 0);
        store.put(b"a", b"1").expect("put");
        store.put(b"b", b"1").expect("put");
        store.state_mut().savepoint();
        store.put(b"a", b"2").expect("put");
        store.delete(b"b").expect("deleted");
        store.put(b"c", b"2").expect("put");
        store.state_mut().delete_range(b"a", b"z");
        store.state_mut().undo();
        assert_eq!(all(&store, Direction::Forward), pairs(&[("a", "1"), ("b", "1")]));
        let frozen = store.state_mut().freeze();
        let order: Vec<_> = frozen.in_touch_order().map(|(key, _)| key.to_vec()).collect();
        assert_eq!(order, [b"a", b"b"], "touches of the undone record are forgotten too");
    });
}

#[test]
fn a_deleted_range_hides_what_the_database_has_and_what_is_put_after_it_shows() {
    on_every_engine(|engine| {
        let (database, leases) = (engine.open("d"), Leases::new());
        let mut store = open(&database, &leases, 0);
        for key in ["a", "b", "c", "d"] {
            store.put(key.as_bytes(), b"1").expect("put");
        }
        commit(&mut store, &leases);
        store.state_mut().delete_range(b"b", b"d");
        store.put(b"c", b"2").expect("put");
        let expected = pairs(&[("a", "1"), ("c", "2"), ("d", "1")]);
        assert_eq!(all(&store, Direction::Forward), expected);
        commit(&mut store, &leases);
        assert_eq!(all(&store, Direction::Forward), expected, "the same once committed");
    });
}

#[test]
fn pages_joined_together_are_the_whole_range_in_both_directions() {
    on_every_engine(|engine| {
        let (database, leases) = (engine.open("d"), Leases::new());
        let mut store = open(&database, &leases, 0);
        for number in 0..50 {
            store.put(format!("{number:03}").as_bytes(), b"v").expect("put");
        }
        commit(&mut store, &leases);
        for number in (0..50).step_by(3) {
            store.delete(format!("{number:03}").as_bytes()).expect("deleted");
        }
        for direction in [Direction::Forward, Direction::Backward] {
            let whole = all(&store, direction);
            let mut paged = Vec::new();
            let mut last: Option<Vec<u8>> = None;
            loop {
                let after = last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
                let (from, to) = match direction {
                    Direction::Forward => (after, Bound::Unbounded),
                    Direction::Backward => (Bound::Unbounded, after),
                };
                let mut cursor = store.state().range(from, to, direction).expect("a scan");
                let mut page = 0;
                while page < 7 && cursor.advance().expect("read") {
                    last = Some(cursor.key().to_vec());
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    paged.push((text(cursor.key()), text(cursor.value())));
                    page += 1;
                }
                if page == 0 {
                    break;
                }
            }
            assert_eq!(paged, whole);
        }
    });
}

#[test]
fn partitions_of_a_store_share_a_family_and_see_nothing_of_each_other() {
    on_every_engine(|engine| {
        let (database, leases) = (engine.open("d"), Leases::new());
        let partitions = [0, 1, 255, 256, u32::MAX];
        let mut stores: Vec<_> =
            partitions.iter().map(|partition| open(&database, &leases, *partition)).collect();
        for (store, partition) in stores.iter_mut().zip(partitions) {
            store.put(b"", b"empty key").expect("put");
            store.put(&[0xff; 3], partition.to_string().as_bytes()).expect("put");
            commit(store, &leases);
        }
        for (store, partition) in stores.iter().zip(partitions) {
            for direction in [Direction::Forward, Direction::Backward] {
                assert_eq!(all(store, direction).len(), 2);
            }
            let value = store.get(&[0xff; 3]).expect("read").expect("put before");
            assert_eq!(&*value, partition.to_string().as_bytes());
        }
        assert_eq!(database.families(), ["app/counts"]);
    });
}

#[test]
fn a_committed_view_is_read_without_an_overlay_and_does_not_move() {
    on_every_engine(|engine| {
        let (database, leases) = (engine.open("d"), Leases::new());
        let mut store = open(&database, &leases, 3);
        store.put(b"k1", b"1").expect("put");
        store.put(b"k2", b"1").expect("put");
        commit(&mut store, &leases);
        let view = database.view().expect("a view");
        store.put(b"k1", b"2").expect("put");
        commit(&mut store, &leases);
        store.put(b"k3", b"3").expect("put");
        let family = view.find_family("app/counts").expect("known");
        let old = Committed { reader: &*view, family: &family, partition: 3 };
        let scan = old.prefix(b"k", Direction::Backward).expect("a scan");
        assert_eq!(rest(scan), pairs(&[("k2", "1"), ("k1", "1")]));
        let now = Committed { reader: &*database, family: &family, partition: 3 };
        assert_eq!(&*now.get(b"k1").expect("read").expect("committed"), b"2");
        assert!(now.get(b"k3").expect("read").is_none(), "what is not committed does not show");
    });
}

#[test]
fn a_key_no_store_could_hold_is_refused_and_nothing_is_written() {
    on_every_engine(|engine| {
        let (database, leases) = (engine.open("d"), Leases::new());
        let mut store = open(&database, &leases, 0);
        let key = vec![1; KEY_BYTES_MAX + 1];
        let error = store.put(&key, b"v").expect_err("too long");
        assert!(matches!(error, StateError::Invalid { .. }), "{error}");
        store.delete(&key).expect_err("too long");
        assert!(store.state().overlay().is_empty());
        store.put(&key[1..], b"v").expect("the longest key fits");
        commit(&mut store, &leases);
        assert_eq!(&*store.get(&key[1..]).expect("read").expect("put before"), b"v");
    });
}

#[test]
fn a_key_of_the_last_commit_is_read_without_asking_the_database_until_a_rewind() {
    let disk = headwater_state::database::memory::MemoryDisk::new();
    let database: Arc<dyn Database> = disk.open("d").expect("opens");
    let leases = Leases::new();
    let mut store = open(&database, &leases, 0);
    store.put(b"k", b"1").expect("put");
    commit(&mut store, &leases);
    commit(&mut store, &leases);
    disk.faults().damage("app/counts");
    assert_eq!(&*store.get(b"k").expect("settled").expect("put before"), b"1");
    assert_eq!(store.state().overlay().bytes(), 0, "what is settled is not uncommitted");
    assert!(store.state().overlay().settled_bytes() > 0);
    store.get(b"other").expect_err("the database is asked");
    disk.faults().heal();
    store.state_mut().rewind().expect("rewound");
    disk.faults().damage("app/counts");
    store.get(b"k").expect_err("the database is asked");
}

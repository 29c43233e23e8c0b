//! Window stores: order, clipping, expiry, hostile times.

use std::sync::Arc;

use headwater_state::commit::StateBatch;
use headwater_state::database::{Database, Direction, ScanRange};
use headwater_state::lease::Leases;
use headwater_state::store::{
    Committed, PutOutcome, StorePartition, WindowCursor, WindowReads, WindowRetention, WindowStore,
};

use crate::on_every_engine;

const MINUTE: i64 = 60_000;

fn open(database: &Arc<dyn Database>, leases: &Leases, retention_ms: i64) -> WindowStore {
    let lease = leases.grant("app/windows", 0);
    let state = StorePartition::open(Arc::clone(database), lease).expect("opens");
    WindowStore::new(state, retention_ms).expect("opens")
}

fn commit(store: &mut WindowStore, leases: &Leases) {
    store.state_mut().freeze();
    let commit = store.state().commit(None);
    let batch = StateBatch { stores: vec![commit.clone()], tasks: Vec::new() };
    batch.write(leases, &**store.state().database(), &[]).expect("a healthy commit");
    store.state_mut().committed(&commit);
}

fn put(store: &mut WindowStore, key: &str, start_ms: i64, value: &str) -> PutOutcome {
    store.put(key.as_bytes(), start_ms, Some(value.as_bytes())).expect("put")
}

type Windows = Vec<(String, i64, String)>;

fn windows(mut cursor: WindowCursor<'_>) -> Windows {
    let mut seen = Vec::new();
    while cursor.advance().expect("read") {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        seen.push((text(cursor.key()), cursor.start_ms(), text(cursor.value())));
    }
    seen
}

fn starts(cursor: WindowCursor<'_>) -> Vec<i64> {
    windows(cursor).into_iter().map(|(_, start_ms, _)| start_ms).collect()
}

fn range(store: &WindowStore, key: &str, direction: Direction) -> Vec<i64> {
    let reads = store.reads();
    starts(reads.fetch_range(key.as_bytes(), i64::MIN, i64::MAX, direction).expect("a scan"))
}

#[test]
fn a_keys_windows_come_by_start_over_all_segments_and_without_those_of_longer_keys() {
    on_every_engine(|engine| {
        let (database, leases) = (engine.open("d"), Leases::new());
        let mut store = open(&database, &leases, 10 * MINUTE);
        // "a" followed by eight zero bytes lies between two windows of "a".
        let between = "a\0\0\0\0\0\0\0\0";
        for (number, start_ms) in [9, 1, 5, 3, 7].into_iter().map(|m| m * MINUTE).enumerate() {
            for key in ["a", "ab", between, ""] {
                assert_eq!(put(&mut store, key, start_ms, key), PutOutcome::Stored);
            }
            if number == 2 {
                commit(&mut store, &leases);
            }
        }
        let expected: Vec<i64> = [1, 3, 5, 7, 9].iter().map(|minute| minute * MINUTE).collect();
        let reversed: Vec<i64> = expected.iter().rev().copied().collect();
        for key in ["a", "ab", between, ""] {
            assert_eq!(range(&store, key, Direction::Forward), expected);
            assert_eq!(range(&store, key, Direction::Backward), reversed);
        }
        let reads = store.reads();
        let some = reads.fetch_range(b"a", 3 * MINUTE, 7 * MINUTE - 1, Direction::Forward);
        assert_eq!(starts(some.expect("a scan")), [3 * MINUTE, 5 * MINUTE]);
        let one = store.fetch(b"a", 5 * MINUTE).expect("read").expect("put before");
        assert_eq!(&*one, b"a");
        assert!(store.fetch(b"a", 5 * MINUTE + 1).expect("read").is_none());
    });
}

#[test]
fn all_windows_come_by_segment_then_key_then_start_and_pages_join_without_a_gap() {
    on_every_engine(|engine| {
        let (database, leases) = (engine.open("d"), Leases::new());
        let mut store = open(&database, &leases, 4 * MINUTE);
        for start_ms in [0, MINUTE, 2 * MINUTE, 3 * MINUTE] {
            put(&mut store, "b", start_ms, "v");
            put(&mut store, "a", start_ms, "v");
            commit(&mut store, &leases);
        }
        let whole = |direction| {
            windows(store.reads().fetch_all(0, i64::MAX, direction, None).expect("a scan"))
        };
        // Segments are two minutes long.
        let order: Vec<(String, i64)> =
            whole(Direction::Forward).into_iter().map(|(key, start, _)| (key, start)).collect();
        let expected =
            [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("a", 2), ("a", 3), ("b", 2), ("b", 3)];
        let expected: Vec<_> =
            expected.iter().map(|(key, minute)| ((*key).to_owned(), minute * MINUTE)).collect();
        assert_eq!(order, expected);
        for direction in [Direction::Forward, Direction::Backward] {
            let mut paged = Vec::new();
            let mut after: Option<Vec<u8>> = None;
            loop {
                let reads = store.reads();
                let page = reads.fetch_all(0, i64::MAX, direction, after.as_deref());
                let mut page = page.expect("a scan");
                let mut count = 0;
                while count < 3 && page.advance().expect("read") {
                    let key = String::from_utf8_lossy(page.key()).into_owned();
                    paged.push((key, page.start_ms(), "v".to_owned()));
                    after = Some(page.store_key().to_vec());
                    count += 1;
                }
                if count == 0 {
                    break;
                }
            }
            assert_eq!(paged, whole(direction));
        }
        let middle = store.reads().fetch_all(MINUTE, 2 * MINUTE, Direction::Forward, None);
        assert_eq!(starts(middle.expect("a scan")), [MINUTE, MINUTE, 2 * MINUTE, 2 * MINUTE]);
    });
}

#[test]
fn a_window_is_unreadable_from_the_moment_it_expires_although_it_is_still_on_disk() {
    on_every_engine(|engine| {
        let (database, leases) = (engine.open("d"), Leases::new());
        let retention_ms = 10 * MINUTE;
        let mut store = open(&database, &leases, retention_ms);
        put(&mut store, "a", MINUTE, "old");
        put(&mut store, "a", 2 * MINUTE, "kept");
        commit(&mut store, &leases);
        put(&mut store, "b", MINUTE + retention_ms - 1, "clock");
        assert_eq!(range(&store, "a", Direction::Forward), [MINUTE, 2 * MINUTE]);
        put(&mut store, "b", MINUTE + retention_ms, "clock");
        assert_eq!(range(&store, "a", Direction::Forward), [2 * MINUTE]);
        assert!(store.fetch(b"a", MINUTE).expect("read").is_none());
        commit(&mut store, &leases);
        let family = store.state().family().clone();
        let raw = database.scan(&family, ScanRange::prefix(&[1]), Direction::Forward);
        assert_eq!(crate::rest(raw.expect("a scan")).len(), 4, "its segment is still alive");
        let rows = Committed { reader: &*database, family: &family, partition: 0 };
        let retention = WindowRetention::of(&*database, &family, retention_ms).expect("known");
        let reads = WindowReads::committed(&rows, retention).expect("readable");
        let all = reads.fetch_range(b"a", 0, i64::MAX, Direction::Forward).expect("a scan");
        assert_eq!(starts(all), [2 * MINUTE], "queries clip like the task");
    });
}

#[test]
fn expired_segments_leave_the_disk_with_a_commit_and_live_ones_stay() {
    on_every_engine(|engine| {
        let (database, leases) = (engine.open("d"), Leases::new());
        let mut store = open(&database, &leases, 2 * MINUTE);
        for minute in 0..10 {
            put(&mut store, "a", minute * MINUTE, "v");
            commit(&mut store, &leases);
        }
        let family = store.state().family().clone();
        let raw = database.scan(&family, ScanRange::prefix(&[1]), Direction::Forward);
        let left = crate::rest(raw.expect("a scan")).len();
        assert_eq!(left, 3, "minute 7 is expired but its segment is not wholly");
        assert_eq!(range(&store, "a", Direction::Forward), [8 * MINUTE, 9 * MINUTE]);
        put(&mut store, "a", 1_000 * MINUTE, "v");
        commit(&mut store, &leases);
        let raw = database.scan(&family, ScanRange::prefix(&[1]), Direction::Forward);
        assert_eq!(crate::rest(raw.expect("a scan")).len(), 1);
    });
}

#[test]
fn a_put_past_retention_is_refused_and_said_to_be() {
    on_every_engine(|engine| {
        let (database, leases) = (engine.open("d"), Leases::new());
        let mut store = open(&database, &leases, MINUTE);
        assert_eq!(put(&mut store, "a", 10 * MINUTE, "v"), PutOutcome::Stored);
        assert_eq!(put(&mut store, "a", 9 * MINUTE, "v"), PutOutcome::Expired);
        assert_eq!(put(&mut store, "a", 9 * MINUTE + 1, "v"), PutOutcome::Stored);
        assert_eq!(store.state().observed_ms(), Some(10 * MINUTE));
        assert_eq!(range(&store, "a", Direction::Forward), [9 * MINUTE + 1, 10 * MINUTE]);
    });
}

#[test]
fn hostile_times_neither_overflow_nor_hide_what_they_should_not() {
    on_every_engine(|engine| {
        let (database, leases) = (engine.open("d"), Leases::new());
        let mut store = open(&database, &leases, MINUTE);
        assert_eq!(put(&mut store, "a", i64::MIN, "v"), PutOutcome::Expired);
        assert_eq!(put(&mut store, "a", -1, "v"), PutOutcome::Expired);
        assert_eq!(store.state().observed_ms(), None, "a refused start moves no clock");
        assert_eq!(put(&mut store, "a", 0, "v"), PutOutcome::Stored);
        assert_eq!(range(&store, "a", Direction::Forward), [0]);
        assert_eq!(put(&mut store, "a", i64::MAX, "v"), PutOutcome::Stored);
        for direction in [Direction::Forward, Direction::Backward] {
            assert_eq!(range(&store, "a", direction), [i64::MAX]);
            let all = store.reads().fetch_all(i64::MIN, i64::MAX, direction, None);
            assert_eq!(starts(all.expect("a scan")), [i64::MAX]);
        }
        commit(&mut store, &leases);
        assert_eq!(range(&store, "a", Direction::Backward), [i64::MAX]);
        assert!(store.fetch(b"a", i64::MIN).expect("read").is_none());
    });
}

#[test]
fn a_store_that_keeps_forever_expires_nothing() {
    on_every_engine(|engine| {
        let (database, leases) = (engine.open("d"), Leases::new());
        let mut store = open(&database, &leases, i64::MAX);
        for start_ms in [1, MINUTE, i64::MAX - 1, i64::MAX] {
            assert_eq!(put(&mut store, "a", start_ms, "v"), PutOutcome::Stored);
            commit(&mut store, &leases);
        }
        assert_eq!(range(&store, "a", Direction::Forward), [1, MINUTE, i64::MAX - 1, i64::MAX]);
    });
}

#[test]
fn undo_takes_observed_stream_time_back_too() {
    on_every_engine(|engine| {
        let (database, leases) = (engine.open("d"), Leases::new());
        let mut store = open(&database, &leases, MINUTE);
        put(&mut store, "a", MINUTE, "v");
        store.state_mut().savepoint();
        put(&mut store, "a", 100 * MINUTE, "poison");
        store.state_mut().undo();
        assert_eq!(store.state().observed_ms(), Some(MINUTE));
        assert_eq!(range(&store, "a", Direction::Forward), [MINUTE]);
    });
}

#[test]
fn a_rewind_takes_observed_stream_time_back_to_the_last_commit() {
    on_every_engine(|engine| {
        let (database, leases) = (engine.open("d"), Leases::new());
        let mut store = open(&database, &leases, MINUTE);
        put(&mut store, "a", MINUTE, "v");
        commit(&mut store, &leases);
        put(&mut store, "a", 100 * MINUTE, "aborted");
        store.state_mut().freeze();
        store.state_mut().rewind().expect("rewound");
        assert_eq!(store.state().observed_ms(), Some(MINUTE));
        store.state_mut().savepoint();
        store.state_mut().undo();
        assert_eq!(range(&store, "a", Direction::Forward), [MINUTE]);
    });
}

#[test]
fn after_a_restart_a_late_window_stays_late() {
    on_every_engine(|engine| {
        let leases = Leases::new();
        let database = engine.open("d");
        let mut store = open(&database, &leases, MINUTE);
        put(&mut store, "a", 10 * MINUTE, "v");
        commit(&mut store, &leases);
        put(&mut store, "a", 20 * MINUTE, "not committed");
        drop((store, database));
        let database = engine.open("d");
        let mut store = open(&database, &leases, MINUTE);
        assert_eq!(store.state().observed_ms(), Some(10 * MINUTE));
        assert_eq!(put(&mut store, "a", 9 * MINUTE, "late"), PutOutcome::Expired);
        assert_eq!(range(&store, "a", Direction::Forward), [10 * MINUTE]);
    });
}

#[test]
fn a_store_keeps_the_segments_it_was_made_with_when_its_retention_changes() {
    on_every_engine(|engine| {
        let (database, leases) = (engine.open("d"), Leases::new());
        let mut store = open(&database, &leases, 20 * MINUTE);
        let interval_ms = store.retention().segments().interval_ms();
        for minute in 0..20 {
            put(&mut store, "a", minute * MINUTE, "v");
        }
        commit(&mut store, &leases);
        for retention_ms in [60 * MINUTE, 5 * MINUTE] {
            let store = open(&database, &leases, retention_ms);
            assert_eq!(store.retention().segments().interval_ms(), interval_ms);
            let visible = range(&store, "a", Direction::Forward);
            let expected = usize::try_from((retention_ms / MINUTE).min(20)).expect("few");
            assert_eq!(visible.len(), expected);
        }
    });
}

#[test]
fn a_changelog_key_restores_the_window_it_came_from() {
    use headwater_state::layout::window::changelog_key;
    on_every_engine(|engine| {
        let (database, leases) = (engine.open("d"), Leases::new());
        let mut store = open(&database, &leases, 10 * MINUTE);
        put(&mut store, "a", 3 * MINUTE, "v");
        put(&mut store, "b", 5 * MINUTE, "w");
        store.put(b"a", 4 * MINUTE, None).expect("deleted");
        let frozen = store.state_mut().freeze();
        let other = engine.open("other");
        let mut restored = open(&other, &leases, 10 * MINUTE);
        for (store_key, value) in frozen.in_touch_order() {
            let key = changelog_key(store_key).expect("a window key");
            restored.apply_changelog(key, value).expect("applied");
        }
        let all = |store: &WindowStore| {
            windows(store.reads().fetch_all(0, i64::MAX, Direction::Forward, None).expect("a scan"))
        };
        assert_eq!(all(&restored), all(&store));
        assert_eq!(restored.state().observed_ms(), store.state().observed_ms());
        restored.apply_changelog(b"short", None).expect_err("no window key");
    });
}

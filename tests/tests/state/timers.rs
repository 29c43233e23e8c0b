//! Timers: found by key and name, taken by time, restored from their changelog.

use std::sync::Arc;

use headwater_state::commit::StateBatch;
use headwater_state::database::Database;
use headwater_state::lease::Leases;
use headwater_state::store::{StorePartition, TimerPosition, Timers};

use crate::on_every_engine;

fn open(database: &Arc<dyn Database>, leases: &Leases) -> Timers {
    let lease = leases.grant("app/timers", 0);
    Timers::new(StorePartition::open(Arc::clone(database), lease).expect("opens"))
}

fn commit(timers: &mut Timers, leases: &Leases) {
    timers.state_mut().freeze();
    let commit = timers.state().commit(None);
    let batch = StateBatch { stores: vec![commit.clone()], tasks: Vec::new() };
    batch.write(leases, &**timers.state().database(), &[]).expect("a healthy commit");
    timers.state_mut().committed(&commit);
}

fn set(timers: &mut Timers, key: &[u8], name: &str, time_ms: i64) {
    timers.set(key, name, time_ms).expect("it is set");
}

type Seen = (i64, Vec<u8>, String);

/// Every timer due by a time, by walking on from each.
fn due(timers: &Timers, to_ms: i64) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut after: Option<TimerPosition> = None;
    while let Some(row) = timers.first_due(after.as_ref(), to_ms).expect("it is read") {
        after = Some(row.position());
        seen.push((row.time_ms, row.key, row.name));
    }
    seen
}

fn seen(rows: &[(i64, &[u8], &str)]) -> Vec<Seen> {
    rows.iter().map(|(time, key, name)| (*time, key.to_vec(), (*name).to_owned())).collect()
}

#[test]
fn due_timers_come_by_time_then_key_then_name_also_half_committed() {
    on_every_engine(|engine| {
        let (database, leases) = (engine.open("d"), Leases::new());
        let mut timers = open(&database, &leases);
        set(&mut timers, b"b", "x", 5);
        set(&mut timers, b"ab", "x", 7);
        set(&mut timers, b"a\0", "x", 7);
        commit(&mut timers, &leases);
        set(&mut timers, b"a", "z", 7);
        set(&mut timers, b"a", "y", 7);
        set(&mut timers, b"", "late", 8);
        let expected: [(i64, &[u8], &str); 5] =
            [(5, b"b", "x"), (7, b"a", "y"), (7, b"a", "z"), (7, b"a\0", "x"), (7, b"ab", "x")];
        assert_eq!(due(&timers, 7), seen(&expected));
        assert_eq!(due(&timers, 4), []);
        assert_eq!(due(&timers, i64::MAX).len(), 6);
        assert_eq!(timers.count().expect("counted"), 6);
    });
}

#[test]
fn setting_a_timer_again_moves_it_and_cancelling_takes_both_rows() {
    on_every_engine(|engine| {
        let (database, leases) = (engine.open("d"), Leases::new());
        let mut timers = open(&database, &leases);
        for time in [5, 9, 3] {
            set(&mut timers, b"k", "n", time);
            commit(&mut timers, &leases);
            assert_eq!(due(&timers, i64::MAX), seen(&[(time, b"k", "n")]));
            assert_eq!(timers.get(b"k", "n").expect("it is read"), Some(time));
        }
        timers.cancel(b"k", "n").expect("it is cancelled");
        timers.cancel(b"k", "never set").expect("nothing happens");
        commit(&mut timers, &leases);
        assert_eq!(due(&timers, i64::MAX), []);
        assert_eq!(timers.get(b"k", "n").expect("it is read"), None);
        assert_eq!(timers.count().expect("counted"), 0);
    });
}

#[test]
fn what_is_undone_or_rewound_is_as_it_was() {
    on_every_engine(|engine| {
        let (database, leases) = (engine.open("d"), Leases::new());
        let mut timers = open(&database, &leases);
        set(&mut timers, b"k", "n", 5);
        commit(&mut timers, &leases);
        timers.state_mut().savepoint();
        timers.cancel(b"k", "n").expect("it is cancelled");
        set(&mut timers, b"k", "other", 1);
        timers.state_mut().undo();
        assert_eq!(due(&timers, 9), seen(&[(5, b"k", "n")]));
        set(&mut timers, b"k", "n", 7);
        timers.state_mut().rewind().expect("it is read back");
        assert_eq!(due(&timers, 9), seen(&[(5, b"k", "n")]));
        drop(timers);
        assert_eq!(due(&open(&database, &leases), 9), seen(&[(5, b"k", "n")]));
    });
}

#[test]
fn a_changelog_brings_back_what_is_set_and_damage_in_it_is_told() {
    on_every_engine(|engine| {
        let (database, leases) = (engine.open("d"), Leases::new());
        let mut timers = open(&database, &leases);
        let timer = headwater_state::layout::timer::encode(b"k", "n");
        for time in [7i64, 4] {
            timers.apply_changelog(&timer, Some(&time.to_be_bytes())).expect("it is applied");
        }
        assert_eq!(due(&timers, 9), seen(&[(4, b"k", "n")]));
        assert!(timers.apply_changelog(&timer, Some(b"soon")).is_err());
        assert!(timers.apply_changelog(b"no end", Some(&[0; 8])).is_err());
        timers.apply_changelog(&timer, None).expect("it is applied");
        assert_eq!(due(&timers, 9), []);
    });
}

#[test]
fn hostile_times_are_refused_or_wait() {
    on_every_engine(|engine| {
        let (database, leases) = (engine.open("d"), Leases::new());
        let mut timers = open(&database, &leases);
        assert!(timers.set(b"k", "n", -1).is_err());
        set(&mut timers, b"k", "never", i64::MAX);
        assert_eq!(due(&timers, i64::MAX - 1), []);
        assert_eq!(due(&timers, i64::MAX).len(), 1);
        assert_eq!(due(&timers, -1), []);
    });
}

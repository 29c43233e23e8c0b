//! Batches, reads, scans and views.

use std::collections::BTreeMap;
use std::ops::Bound;

use headwater_state::StateError;
use headwater_state::database::{Direction, FamilyKind, ScanRange};
use proptest::prelude::*;

use crate::{
    Op, Ops, delete, delete_range, on_every_engine, pairs, put, rest, rows, state_family, write,
};

#[test]
fn the_operations_of_a_batch_act_in_their_order() {
    on_every_engine(|engine| {
        let database = engine.open("d");
        let family = state_family(&*database);
        write(&*database, &family, &[put("a", "0"), put("b", "0"), put("c", "0")]);
        write(
            &*database,
            &family,
            &[put("a", "1"), delete("a"), delete_range("b", "d"), put("c", "2"), put("d", "3")],
        );
        assert_eq!(rows(&*database, &family), pairs(&[("c", "2"), ("d", "3")]));
    });
}

#[test]
fn a_batch_goes_to_several_families_at_once_and_they_do_not_mix() {
    on_every_engine(|engine| {
        let database = engine.open("d");
        let one = database.family("one", FamilyKind::State).expect("made");
        let two = database.family("two", FamilyKind::Log).expect("made");
        let (first, second) = ([put("k", "1")], [put("k", "2"), put("l", "2")]);
        database.write(&[&Ops(&one, &first), &Ops(&two, &second)]).expect("written");
        assert_eq!(rows(&*database, &one), pairs(&[("k", "1")]));
        assert_eq!(rows(&*database, &two), pairs(&[("k", "2"), ("l", "2")]));
        assert_eq!(database.families(), ["one", "two"]);
        assert_eq!(database.find_family("two").expect("known").name(), "two");
        assert!(database.find_family("three").is_none(), "a reader makes no family");
    });
}

#[test]
fn a_view_and_a_scan_show_the_database_as_it_was_when_they_were_made() {
    on_every_engine(|engine| {
        let database = engine.open("d");
        let family = state_family(&*database);
        write(&*database, &family, &[put("a", "1"), put("b", "1"), put("c", "1")]);
        let view = database.view().expect("a view");
        let scan = database.scan(&family, ScanRange::all(), Direction::Forward).expect("a scan");
        write(&*database, &family, &[put("a", "2"), delete("b"), put("d", "2")]);
        write(&*database, &family, &[delete_range("c", "d")]);
        database.sync().expect("synced");
        let before = pairs(&[("a", "1"), ("b", "1"), ("c", "1")]);
        assert_eq!(rest(scan), before);
        let seen = view.scan(&family, ScanRange::all(), Direction::Forward).expect("a scan");
        assert_eq!(rest(seen), before);
        assert_eq!(view.get(&family, b"b").expect("read").as_deref(), Some(&b"1"[..]));
        assert_eq!(view.get(&family, b"d").expect("read"), None);
        assert_eq!(rows(&*database, &family), pairs(&[("a", "2"), ("d", "2")]));
    });
}

#[test]
fn a_view_outlives_the_handle_it_came_from() {
    on_every_engine(|engine| {
        let database = engine.open("d");
        let family = state_family(&*database);
        write(&*database, &family, &[put("a", "1")]);
        let view = database.view().expect("a view");
        drop(database);
        assert_eq!(view.get(&family, b"a").expect("read").as_deref(), Some(&b"1"[..]));
    });
}

#[test]
fn a_scan_keeps_its_bounds_in_both_directions() {
    on_every_engine(|engine| {
        let database = engine.open("d");
        let family = state_family(&*database);
        let all: Vec<Op> = ["a", "aa", "b", "ba", "c"].iter().map(|key| put(key, "v")).collect();
        write(&*database, &family, &all);
        let keys = |from: Bound<&str>, to: Bound<&str>, direction| -> Vec<String> {
            let range = ScanRange::new(from.map(str::as_bytes), to.map(str::as_bytes));
            let scan = database.scan(&family, range, direction).expect("a scan");
            rest(scan).into_iter().map(|(key, _)| key).collect()
        };
        use Bound::{Excluded, Included, Unbounded};
        use Direction::{Backward, Forward};
        assert_eq!(keys(Included("aa"), Included("b"), Forward), ["aa", "b"]);
        assert_eq!(keys(Excluded("aa"), Excluded("b"), Forward), [""; 0]);
        assert_eq!(keys(Excluded("a"), Excluded("c"), Backward), ["ba", "b", "aa"]);
        assert_eq!(keys(Unbounded, Excluded("b"), Backward), ["aa", "a"]);
        assert_eq!(keys(Included("b"), Unbounded, Forward), ["b", "ba", "c"]);
        assert_eq!(keys(Included("c"), Included("a"), Forward), [""; 0], "bounds out of order");
        assert_eq!(keys(Included("c"), Included("a"), Backward), [""; 0], "bounds out of order");
        let prefix = database.scan(&family, ScanRange::prefix(b"b"), Backward).expect("a scan");
        assert_eq!(rest(prefix), pairs(&[("ba", "v"), ("b", "v")]));
    });
}

#[test]
fn a_scan_longer_than_any_page_misses_and_doubles_nothing() {
    on_every_engine(|engine| {
        let database = engine.open("d");
        let family = state_family(&*database);
        let keys: Vec<String> = (0..1_000).map(|number| format!("{number:05}")).collect();
        let all: Vec<Op> = keys.iter().map(|key| put(key, "v")).collect();
        write(&*database, &family, &all);
        for direction in [Direction::Forward, Direction::Backward] {
            let scan = database.scan(&family, ScanRange::all(), direction).expect("a scan");
            let mut seen: Vec<String> = rest(scan).into_iter().map(|(key, _)| key).collect();
            if direction == Direction::Backward {
                seen.reverse();
            }
            assert_eq!(seen, keys);
        }
    });
}

#[test]
fn a_database_opened_again_has_its_families_and_rows() {
    on_every_engine(|engine| {
        let database = engine.open("d");
        let family = state_family(&*database);
        write(&*database, &family, &[put("a", "1")]);
        let log = database.family("log", FamilyKind::Log).expect("made");
        write(&*database, &log, &[put("b", "2")]);
        drop(database);
        let database = engine.open("d");
        assert_eq!(database.families(), ["f", "log"]);
        let family = state_family(&*database);
        assert_eq!(rows(&*database, &family), pairs(&[("a", "1")]));
        let log = database.family("log", FamilyKind::Log).expect("opened");
        assert_eq!(rows(&*database, &log), pairs(&[("b", "2")]));
    });
}

#[test]
fn a_dropped_family_is_gone_and_its_name_can_be_used_anew() {
    on_every_engine(|engine| {
        let database = engine.open("d");
        let old = state_family(&*database);
        write(&*database, &old, &[put("a", "1")]);
        database.drop_family(&old).expect("dropped");
        let batch = [put("a", "2")];
        let refused = [
            database.get(&old, b"a").expect_err("the family is gone"),
            database.write(&[&Ops(&old, &batch)]).expect_err("the family is gone"),
            database.drop_family(&old).expect_err("the family is gone"),
        ];
        for error in refused {
            assert!(matches!(error, StateError::NoFamily { ref family, .. } if family == "f"));
        }
        let new = state_family(&*database);
        assert_eq!(rows(&*database, &new), pairs(&[]));
        database.get(&old, b"a").expect_err("the old handle is not the new family's");
    });
}

#[test]
fn a_batch_with_one_unknown_family_writes_nothing_at_all() {
    on_every_engine(|engine| {
        let database = engine.open("d");
        let family = state_family(&*database);
        let dropped = database.family("dropped", FamilyKind::State).expect("made");
        database.drop_family(&dropped).expect("dropped");
        let ops = [put("a", "1")];
        database.write(&[&Ops(&family, &ops), &Ops(&dropped, &ops)]).expect_err("refused");
        assert_eq!(rows(&*database, &family), pairs(&[]));
    });
}

#[test]
fn a_checkpoint_is_a_database_of_its_own_while_writes_go_on() {
    on_every_engine(|engine| {
        let database = engine.open("d");
        let family = state_family(&*database);
        write(&*database, &family, &[put("a", "1")]);
        let path = engine.path("copy");
        database.checkpoint(&path).expect("a checkpoint");
        write(&*database, &family, &[put("a", "2")]);
        let error = database.checkpoint(&path).expect_err("it exists");
        assert!(matches!(error, StateError::Invalid { .. }), "{error}");
        let copy = engine.open("copy");
        assert_eq!(rows(&*copy, &state_family(&*copy)), pairs(&[("a", "1")]));
    });
}

fn op() -> impl Strategy<Value = Op> {
    let key = || prop::collection::vec(0..4u8, 0..3);
    prop_oneof![
        4 => (key(), prop::collection::vec(any::<u8>(), 0..3)).prop_map(|(k, v)| Op::Put(k, v)),
        2 => key().prop_map(Op::Delete),
        1 => (key(), key()).prop_map(|(from, to)| Op::DeleteRange(from, to)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_batches_leave_what_a_sorted_map_would_hold(
        batches in prop::collection::vec(prop::collection::vec(op(), 0..12), 1..12),
        viewed in 0..12usize,
    ) {
        on_every_engine(|engine| {
            let database = engine.open("d");
            let family = state_family(&*database);
            let mut model = BTreeMap::new();
            let mut view = None;
            for (number, batch) in batches.iter().enumerate() {
                if number == viewed {
                    view = Some((database.view().expect("a view"), model.clone()));
                }
                write(&*database, &family, batch);
                for op in batch {
                    match op {
                        Op::Put(key, value) => {
                            model.insert(key.clone(), value.clone());
                        }
                        Op::Delete(key) => {
                            model.remove(key);
                        }
                        Op::DeleteRange(from, to) => model.retain(|key, _| key < from || key >= to),
                    }
                }
            }
            let present = (database.view().expect("a view"), model);
            for (view, model) in std::iter::once(present).chain(view) {
                for direction in [Direction::Forward, Direction::Backward] {
                    let scan = view.scan(&family, ScanRange::all(), direction);
                    let mut scan = scan.expect("a scan");
                    let mut seen = Vec::new();
                    while let Some((key, value)) = scan.next().expect("read") {
                        seen.push((key.to_vec(), value.to_vec()));
                    }
                    if direction == Direction::Backward {
                        seen.reverse();
                    }
                    assert_eq!(seen, model.clone().into_iter().collect::<Vec<_>>());
                }
            }
        });
    }
}

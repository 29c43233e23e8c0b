//! The state directory: one process, one mode, one cluster.

use std::collections::BTreeSet;

use headwater_state::StateError;
use headwater_state::directory::{Identity, StateDirectory};
use headwater_state::error::Mode;

use crate::{Engine, on_every_engine, pairs, put, rows, state_family, write};

fn identity(mode: Mode, applications: &[&str], cluster: Option<&str>) -> Identity {
    Identity {
        mode,
        applications: applications.iter().map(|name| (*name).to_owned()).collect(),
        cluster: cluster.map(str::to_owned),
    }
}

fn embedded(applications: &[&str]) -> Identity {
    identity(Mode::Embedded, applications, None)
}

fn kafka(applications: &[&str]) -> Identity {
    identity(Mode::Kafka, applications, Some("cluster-1"))
}

fn open(engine: &dyn Engine, identity: Identity) -> Result<StateDirectory, StateError> {
    StateDirectory::open(engine.storage(), identity)
}

#[test]
fn a_second_opening_is_refused_while_the_first_lives_and_succeeds_after() {
    on_every_engine(|engine| {
        let first = open(engine, embedded(&["app"])).expect("opens");
        let error = open(engine, embedded(&["app"])).expect_err("locked");
        assert!(matches!(error, StateError::Locked { .. }), "{error}");
        #[cfg(feature = "rocksdb")]
        if let headwater_state::directory::Storage::Files { path, .. } = engine.storage() {
            let text = error.to_string();
            let holder = format!("process {}", std::process::id());
            assert!(text.contains(&holder) && text.contains(&path.display().to_string()), "{text}");
            assert!(text.contains("stop it"), "{text} says what to do");
        }
        drop(first);
        open(engine, embedded(&["app"])).expect("free again");
    });
}

#[test]
fn a_directory_of_the_other_mode_or_of_another_cluster_is_refused_with_the_way_out() {
    on_every_engine(|engine| {
        drop(open(engine, kafka(&["app"])).expect("opens"));
        let error = open(engine, embedded(&["app"])).expect_err("the other mode");
        let wrong = StateError::WrongMode {
            path: path(&error),
            found: Mode::Kafka,
            wanted: Mode::Embedded,
        };
        assert_eq!(error, wrong);
        assert!(error.to_string().contains("use another directory"), "{error}");
        let elsewhere = identity(Mode::Kafka, &["app"], Some("cluster-2"));
        let error = open(engine, elsewhere).expect_err("another cluster");
        let text = error.to_string();
        assert!(text.contains("cluster-1") && text.contains("cluster-2"), "{text}");
        assert!(text.contains("move this one away"), "{text}");
        open(engine, kafka(&["app"])).expect("its own cluster opens it, and no lock was left");
    });
}

#[test]
fn a_cluster_that_was_not_known_is_recorded_once_it_is_and_stays() {
    on_every_engine(|engine| {
        drop(open(engine, identity(Mode::Kafka, &["app"], None)).expect("opens"));
        drop(open(engine, kafka(&["app"])).expect("now it is known"));
        let silent = open(engine, identity(Mode::Kafka, &["app"], None)).expect("not told");
        assert_eq!(silent.identity().cluster.as_deref(), Some("cluster-1"));
        drop(silent);
        let elsewhere = identity(Mode::Kafka, &["app"], Some("cluster-2"));
        open(engine, elsewhere).expect_err("another cluster");
    });
}

fn path(error: &StateError) -> std::path::PathBuf {
    match error {
        StateError::WrongMode { path, .. } => path.clone(),
        other => panic!("{other}"),
    }
}

#[test]
fn applications_may_join_a_directory_but_strangers_may_not_take_it() {
    on_every_engine(|engine| {
        drop(open(engine, embedded(&["a"])).expect("opens"));
        drop(open(engine, embedded(&["a", "b"])).expect("b joins"));
        let directory = open(engine, embedded(&["b"])).expect("a may pause");
        let both: BTreeSet<String> = ["a".to_owned(), "b".to_owned()].into();
        assert_eq!(directory.identity().applications, both);
        drop(directory);
        let error = open(engine, embedded(&["c"])).expect_err("a stranger");
        assert!(error.to_string().contains("application a, b"), "{error}");
    });
}

#[test]
fn a_name_that_is_no_directory_name_is_refused() {
    on_every_engine(|engine| {
        for name in ["", "..", "a/b", ".hidden", "with space", "nul\0"] {
            let error = open(engine, kafka(&[name])).expect_err("no name");
            assert!(matches!(error, StateError::Invalid { .. }), "{error}");
        }
        let directory = open(engine, kafka(&["app"])).expect("opens");
        directory.task("app", "../other").expect_err("no name");
    });
}

#[test]
fn every_task_has_a_database_of_its_own_that_can_be_set_aside() {
    on_every_engine(|engine| {
        let directory = open(engine, kafka(&["app"])).expect("opens");
        for task in ["0_0", "0_1"] {
            let database = directory.task("app", task).expect("opens");
            let family = state_family(&*database);
            write(&*database, &family, &[put("task", task)]);
        }
        assert_eq!(directory.tasks("app").expect("listed"), ["0_0", "0_1"]);
        let moved = directory.quarantine("app", "0_0").expect("set aside");
        assert_eq!(moved, "app/0_0.damaged-1");
        assert_eq!(directory.tasks("app").expect("listed"), ["0_1"]);
        let fresh = directory.task("app", "0_0").expect("opens");
        assert_eq!(rows(&*fresh, &state_family(&*fresh)), pairs(&[]));
        drop(fresh);
        assert_eq!(directory.quarantine("app", "0_0").expect("again"), "app/0_0.damaged-2");
        let other = directory.task("app", "0_1").expect("opens");
        assert_eq!(rows(&*other, &state_family(&*other)), pairs(&[("task", "0_1")]));
        drop(other);
        directory.remove_task("app", "0_1").expect("removed");
        directory.remove_task("app", "0_1").expect("removed already");
        assert!(directory.tasks("app").expect("listed").is_empty());
    });
}

#[test]
fn the_embedded_database_is_the_same_after_the_directory_is_opened_again() {
    on_every_engine(|engine| {
        for expected in [pairs(&[]), pairs(&[("k", "v")])] {
            let directory = open(engine, embedded(&["app"])).expect("opens");
            let database = directory.embedded().expect("opens");
            let family = state_family(&*database);
            assert_eq!(rows(&*database, &family), expected);
            write(&*database, &family, &[put("k", "v")]);
        }
    });
}

#[cfg(feature = "rocksdb")]
#[test]
fn an_identity_file_of_a_newer_format_or_damaged_is_refused_and_left_as_it_is() {
    use headwater_state::ErrorClass;

    let directory = tempfile::tempdir().expect("a directory");
    let engine = crate::Rocks(directory);
    drop(open(&engine, embedded(&["app"])).expect("opens"));
    let file = engine.0.path().join("headwater.json");
    let newer = r#"{"format": 9, "something": "we cannot know"}"#;
    for (content, is_newer) in [(newer, true), ("{\"format\": 1", false), ("", false)] {
        std::fs::write(&file, content).expect("written");
        let error = open(&engine, embedded(&["app"])).expect_err("refused");
        let text = error.to_string();
        assert!(text.contains(&engine.0.path().display().to_string()), "{text} names the place");
        if is_newer {
            assert!(matches!(error, StateError::NewerFormat { found: 9, .. }), "{text}");
        } else {
            assert_eq!(error.class(), ErrorClass::Damaged, "{text}");
        }
        assert_eq!(std::fs::read_to_string(&file).expect("readable"), content);
    }
}

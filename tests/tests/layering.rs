//! The house rules of who may know whom: crates by `cargo metadata`, the engine's modules by the
//! paths their files name. It judges edges only; how the text is read is `source`'s business.

use std::collections::BTreeSet;
use std::process::Command;

use headwater_tests::source::{self, SourceFile};

/// Crates from left to right: each may depend on those to its left only.
const CRATES: [&str; 4] =
    ["headwater-state", "headwater", "headwater-schemas", "headwater-topologies"];

/// Modules that everything in the engine may name.
const BASE: [&str; 5] = ["record", "time", "error", "config", "metrics"];

/// Each module of the engine and what else it may name besides [`BASE`]. `state!` stands for the
/// crate `headwater_state`. A new edge is a decision: change this table with a record of it.
const MODULES: [(&str, &[&str]); 20] = [
    ("record", &[]),
    ("time", &[]),
    ("error", &[]),
    ("config", &[]),
    ("metrics", &[]),
    ("actor", &[]),
    ("serde", &["actor"]),
    ("store", &["actor", "serde", "state!"]),
    ("processor", &["actor", "serde", "store"]),
    ("operators", &["actor", "serde", "store", "processor"]),
    ("topology", &["actor", "serde", "store", "processor", "operators"]),
    ("dsl", &["actor", "serde", "store", "processor", "operators", "topology"]),
    ("task", &["actor", "serde", "store", "processor", "topology", "state!"]),
    ("log", &["actor", "state!"]),
    ("membership", &["actor", "log"]),
    ("audit", &["actor", "serde", "topology", "task", "log"]),
    ("query", &["actor", "serde", "store", "log", "state!"]),
    (
        "runtime",
        &[
            "actor",
            "serde",
            "store",
            "processor",
            "operators",
            "topology",
            "dsl",
            "task",
            "log",
            "membership",
            "query",
            "state!",
        ],
    ),
    (
        "testing",
        &[
            "actor",
            "serde",
            "store",
            "processor",
            "operators",
            "topology",
            "dsl",
            "task",
            "log",
            "membership",
            "query",
            "runtime",
            "state!",
        ],
    ),
    (
        "shell",
        &[
            "actor",
            "serde",
            "store",
            "processor",
            "operators",
            "topology",
            "dsl",
            "task",
            "log",
            "audit",
            "membership",
            "query",
            "runtime",
            "state!",
        ],
    ),
];

/// Where RocksDB's stopped writers are waited for, by wall time: it would block there itself.
const STOPPED_WRITERS: &str = "state/src/database/rocks/health.rs";

/// Text that only some places may hold: the text, where it may stand (path prefixes), and why.
const RESERVED: [(&str, &[&str], &str); 12] = [
    ("rdkafka", &["engine/src/log/kafka"], "Kafka's client stays behind the log seam"),
    ("rocksdb", &["state/src/", "engine/src/"], "a topology does not know where state lies"),
    ("axum", &["engine/src/query"], "HTTP types stay out of the engine and its API"),
    ("tokio", &["engine/src/query"], "no async on the record path"),
    ("thread::spawn", &["engine/src/actor/spawn.rs"], "spawn.rs alone gives actors threads"),
    ("thread::Builder", &["engine/src/actor/spawn.rs"], "spawn.rs alone gives actors threads"),
    ("thread::scope", &["engine/src/actor/spawn.rs"], "spawn.rs alone gives actors threads"),
    ("thread::sleep", &[STOPPED_WRITERS], "an actor says WakeAt instead of sleeping"),
    ("SystemTime::now", &["engine/src/time.rs"], "time comes from a Clock"),
    ("Instant::now", &["engine/src/time.rs", STOPPED_WRITERS], "time comes from a Clock"),
    ("Timestamp::now", &["engine/src/time.rs"], "time comes from a Clock"),
    ("rand::rng", &[], "randomness comes from a seed"),
];

/// The edges of one engine file that [`MODULES`] does not allow, as readable lines.
fn forbidden_edges(file: &SourceFile) -> Vec<String> {
    let Some(inner) = file.path.strip_prefix("engine/src/") else { return Vec::new() };
    let module: Vec<&str> = inner
        .trim_end_matches(".rs")
        .split('/')
        .filter(|part| !matches!(*part, "mod" | "lib"))
        .collect();
    let Some(top) = module.first().copied() else { return Vec::new() };
    if source::is_unit_test_file(&file.path) {
        return Vec::new();
    }
    let code = source::without_unit_tests(&source::code(&file.text));
    let Some((area, allowed)) = MODULES.iter().find(|(name, _)| *name == top) else {
        return vec![format!("{}: `{top}` has no place in the order of modules", file.path)];
    };
    let mut bad = Vec::new();
    for (name, line) in source::root_references(&module, &code) {
        if name == top || BASE.contains(&name.as_str()) || allowed.contains(&name.as_str()) {
            continue;
        }
        bad.push(if MODULES.iter().any(|(module, _)| *module == name) {
            format!("{}:{line}: `{area}` may not know `{name}`", file.path)
        } else {
            format!("{}:{line}: name the module of `crate::{name}`, not the root", file.path)
        });
    }
    if let Some(line) = line_of(&code, "headwater_state")
        && !allowed.contains(&"state!")
    {
        bad.push(format!("{}:{line}: `{area}` may not know the state crate", file.path));
    }
    bad
}

/// The uses of [`RESERVED`] text outside its place, as readable lines.
fn reserved_uses(file: &SourceFile) -> Vec<String> {
    if source::is_unit_test_file(&file.path) {
        return Vec::new();
    }
    let code = source::without_unit_tests(&source::code(&file.text));
    RESERVED
        .iter()
        .filter(|(_, places, _)| !places.iter().any(|place| file.path.starts_with(place)))
        .filter_map(|(text, _, why)| {
            line_of(&code, text).map(|line| format!("{}:{line}: `{text}`: {why}", file.path))
        })
        .collect()
}

/// The first line where `word` stands as a word of its own.
fn line_of(code: &str, word: &str) -> Option<usize> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.lines()
        .position(|line| {
            line.match_indices(word).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                let after = line[at + word.len()..].chars().next();
                !before.is_some_and(is_word) && !after.is_some_and(is_word)
            })
        })
        .map(|index| index + 1)
}

fn file(path: &str, text: &str) -> SourceFile {
    SourceFile { path: path.into(), text: text.into() }
}

fn metadata() -> serde_json::Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(source::root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

/// `(crate, dependency, kind)` for every dependency of every member.
fn dependencies(metadata: &serde_json::Value) -> Vec<(String, String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("normal").to_owned();
    let packages = metadata["packages"].as_array().expect("packages is a list");
    packages
        .iter()
        .flat_map(|package| {
            let dependencies = package["dependencies"].as_array().expect("a list");
            dependencies
                .iter()
                .map(|d| (text(&package["name"]), text(&d["name"]), text(&d["kind"])))
        })
        .collect()
}

/// Dependencies between members that run against the order of [`CRATES`].
fn forbidden_dependencies(dependencies: &[(String, String, String)]) -> Vec<String> {
    let place = |name: &str| CRATES.iter().position(|c| *c == name);
    dependencies
        .iter()
        .filter(|(from, to, _)| match (place(from), place(to)) {
            (Some(from), Some(to)) => to >= from,
            (Some(_), None) => {
                matches!(
                    to.as_str(),
                    "headwater-simulation" | "headwater-tests" | "headwater-benches"
                )
            }
            // Tests and benches see all; benches borrow the tests' broker.
            (None, _) => false,
        })
        .map(|(from, to, _)| format!("{from} may not depend on {to}"))
        .collect()
}

fn assert_none(bad: &[String]) {
    assert!(bad.is_empty(), "\n{}\n", bad.join("\n"));
}

#[test]
fn a_crate_looks_only_to_its_left() {
    assert_none(&forbidden_dependencies(&dependencies(&metadata())));
}

#[test]
fn a_dependency_against_the_order_is_found() {
    let edge = |from: &str, to: &str| (from.to_owned(), to.to_owned(), "normal".to_owned());
    let bad = forbidden_dependencies(&[
        edge("headwater", "headwater-state"),
        edge("headwater-state", "headwater"),
        edge("headwater", "headwater-tests"),
    ]);
    assert_eq!(
        bad,
        [
            "headwater-state may not depend on headwater",
            "headwater may not depend on headwater-tests",
        ]
    );
}

#[test]
fn the_clients_in_cpp_have_one_owner_each() {
    let mut bad = Vec::new();
    for (from, to, _) in dependencies(&metadata()) {
        let owners: &[&str] = match to.as_str() {
            "rdkafka" => &["headwater", "headwater-tests", "headwater-benches"],
            "rocksdb" => &["headwater-state", "headwater-benches"],
            _ => continue,
        };
        if !owners.contains(&from.as_str()) {
            bad.push(format!("{from} may not depend on {to}"));
        }
    }
    assert_none(&bad);
}

#[test]
fn libraries_have_only_dev_dependencies_that_change_no_feature_below_cpp() {
    let harmless = ["proptest", "tempfile"];
    let bad: Vec<String> = dependencies(&metadata())
        .into_iter()
        .filter(|(from, to, kind)| {
            CRATES.contains(&from.as_str()) && kind == "dev" && !harmless.contains(&to.as_str())
        })
        .map(|(from, to, _)| format!("{from}: test tools such as {to} belong to headwater-tests"))
        .collect();
    assert_none(&bad);
}

#[test]
fn a_module_of_the_engine_names_only_those_before_it() {
    let bad: Vec<String> =
        source::files("engine/src", ".rs").iter().flat_map(forbidden_edges).collect();
    assert_none(&bad);
}

#[test]
fn an_edge_against_the_order_is_found() {
    let bad = |path: &str, text: &str| forbidden_edges(&file(path, text));
    assert_eq!(
        bad("engine/src/store/window.rs", "//! W.\nuse crate::{record::Record, dsl::KTable};"),
        ["engine/src/store/window.rs:2: `store` may not know `dsl`"]
    );
    assert_eq!(
        bad("engine/src/operators/filter.rs", "use headwater_state::Batch;"),
        ["engine/src/operators/filter.rs:1: `operators` may not know the state crate"]
    );
    assert_eq!(
        bad("engine/src/membership.rs", "use super::task::StreamTask;"),
        ["engine/src/membership.rs:1: `membership` may not know `task`"]
    );
    assert_eq!(
        bad("engine/src/dsl/stream.rs", "use crate::KTable;"),
        ["engine/src/dsl/stream.rs:1: name the module of `crate::KTable`, not the root"]
    );
    assert_eq!(
        bad("engine/src/magic.rs", ""),
        ["engine/src/magic.rs: `magic` has no place in the order of modules"]
    );
}

#[test]
fn an_edge_along_the_order_is_accepted() {
    let good = [
        ("engine/src/dsl/stream.rs", "use crate::topology::Topology; use crate::record::Record;"),
        ("engine/src/log/embedded/append.rs", "use headwater_state::Batch; use crate::log::Log;"),
        ("engine/src/task/tests.rs", "use crate::testing::Driver;"),
        ("engine/src/actor/mod.rs", "//! [`crate::dsl`] is only spoken of.\nuse crate::time::C;"),
    ];
    for (path, text) in good {
        assert_none(&forbidden_edges(&file(path, text)));
    }
}

#[test]
fn what_is_reserved_to_one_place_stands_nowhere_else() {
    let bad: Vec<String> = ["state/src", "engine/src", "schemas/src", "topologies/src"]
        .iter()
        .flat_map(|folder| source::files(folder, ".rs"))
        .flat_map(|file| reserved_uses(&file))
        .collect();
    assert_none(&bad);
}

#[test]
fn reserved_text_out_of_its_place_is_found() {
    let text = "fn f() { std::thread::spawn(|| SystemTime::now()); }";
    assert_eq!(reserved_uses(&file("engine/src/task/mod.rs", text)).len(), 2);
    assert_eq!(reserved_uses(&file("engine/src/actor/spawn.rs", text)).len(), 1);
    assert_eq!(reserved_uses(&file("topologies/src/a.rs", "use rdkafka::Message;")).len(), 1);
    assert_none(&reserved_uses(&file("engine/src/log/kafka/consumer.rs", "use rdkafka::M;")));
    assert_none(&reserved_uses(&file("topologies/src/a.rs", "// rdkafka, Instant::now")));
}

#[test]
fn the_table_of_modules_is_in_order() {
    let mut seen: BTreeSet<&str> = BASE.into();
    for (module, allowed) in MODULES {
        for name in allowed {
            assert!(
                *name == "state!" || seen.contains(name),
                "`{module}` may know `{name}`, which stands after it"
            );
        }
        seen.insert(module);
    }
}

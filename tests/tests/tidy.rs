//! House rules that neither the compiler nor clippy checks: file heads and sizes, no skipped tests,
//! no machine's paths, reasons for dependencies, the shape of decision records, planted bugs that fit.

use std::process::Command;

use headwater_tests::source::{self, SourceFile};

/// Lines of a Rust file.
const LINES_MAX: usize = 800;

/// Dependencies that need no word of why.
const OBVIOUS: [&str; 5] = ["serde", "serde_json", "tracing", "tracing-subscriber", "uuid"];

/// The parts of every decision record, in this order.
const HEADINGS: [&str; 4] = ["## Context", "## Choice", "## Rejected", "## Consequences"];

/// What is wrong with one Rust file.
fn untidy_rust(file: &SourceFile) -> Vec<String> {
    let mut bad = Vec::new();
    let mut say = |what: &str| bad.push(format!("{}: {what}", file.path));
    if !file.text.starts_with("//!") {
        say("must begin with `//!`: what the file owns and what it must not know");
    }
    if file.text.lines().count() > LINES_MAX {
        say("is longer than 800 lines: split it by concept");
    }
    let code = source::code(&file.text);
    if code.contains("#[ignore") {
        say("skips a test with #[ignore]: delete the test or let it run");
    }
    if file.text.contains(concat!("```ign", "ore")) {
        say("has an example that is not compiled: let it run, or make it `text`");
    }
    if file.path.starts_with("tests/tests/") && code.contains("thread::sleep") {
        say("sleeps: wait for the condition with a deadline");
    }
    if code.contains("unsafe_code") && file.path != "engine/src/log/kafka/ffi.rs" {
        say("allows unsafe code");
    }
    for word in ["TODO", "FIXME", "XXX"] {
        if file.text.contains(&format!("{word}:")) || file.text.contains(&format!("{word} ")) {
            say("notes undone work: do it or file it");
            break;
        }
    }
    bad
}

/// Paths that exist on one machine only. (Written in two halves, so as not to find themselves.)
fn machine_paths(file: &SourceFile) -> Vec<String> {
    let needles = [
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/wo", "rk/"),
        concat!("/Use", "rs/"),
    ];
    let mut bad = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        if needles.iter().any(|needle| line.contains(needle)) {
            bad.push(format!("{}:{}: names a path of one machine", file.path, index + 1));
        }
    }
    bad
}

/// Dependencies of the workspace's manifest that stand without a comment line above them.
fn unexplained_dependencies(manifest: &str) -> Vec<String> {
    let mut bad = Vec::new();
    let mut inside = false;
    let mut above = "";
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line == "[workspace.dependencies]";
        } else if inside
            && let Some((name, value)) = line.split_once('=')
            && !line.starts_with(['#', ' ', '\t'])
            && !value.contains("path =")
            && !OBVIOUS.contains(&name.trim())
            && !above.starts_with('#')
        {
            bad.push(format!("Cargo.toml: `{}` needs a comment line of why", name.trim()));
        }
        above = line;
    }
    bad
}

/// Dependencies of a member that do not come from the workspace's list.
fn own_versions(file: &SourceFile) -> Vec<String> {
    let mut bad = Vec::new();
    let mut inside = false;
    for line in file.text.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
        } else if inside
            && !line.starts_with('#')
            && line.contains('=')
            && !line.contains("workspace = true")
        {
            bad.push(format!("{}: `{line}` must come from [workspace.dependencies]", file.path));
        }
    }
    bad
}

/// What a decision record lacks.
fn untidy_decision(file: &SourceFile) -> Vec<String> {
    let name = file.path.rsplit('/').next().unwrap_or_default();
    let mut bad = Vec::new();
    let numbered = name.len() > 5
        && name.as_bytes()[..4].iter().all(u8::is_ascii_digit)
        && name.as_bytes()[4] == b'-';
    if !numbered {
        bad.push(format!("{}: the name must be NNNN-title.md", file.path));
    }
    let headings: Vec<&str> = file.text.lines().filter(|line| line.starts_with("## ")).collect();
    if headings != HEADINGS {
        bad.push(format!("{}: the headings must be {}", file.path, HEADINGS.join(", ")));
    }
    bad
}

/// What git says of a patch that does not fit the tree.
fn misfit(patch: &str) -> Option<String> {
    let root = source::root();
    let mut git = Command::new("git");
    git.args(["apply", "--check", patch]).current_dir(&root);
    // The tree may be a copy inside another repository, where git would pass over the patch.
    git.env("GIT_CEILING_DIRECTORIES", root.parent().unwrap_or(&root));
    let output = git.output().expect("git runs");
    let said = String::from_utf8_lossy(&output.stderr);
    (!output.status.success()).then(|| format!("{patch}: {}", said.trim()))
}

fn project_rust() -> Vec<SourceFile> {
    ["state", "engine", "schemas", "topologies", "tests", "benches"]
        .iter()
        .flat_map(|folder| source::files(folder, ".rs"))
        .collect()
}

fn file(path: &str, text: &str) -> SourceFile {
    SourceFile { path: path.into(), text: text.into() }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(source::root().join(path)).expect(path)
}

fn assert_none(bad: &[String]) {
    assert!(bad.is_empty(), "\n{}\n", bad.join("\n"));
}

#[test]
fn every_rust_file_is_tidy() {
    let files = project_rust();
    assert!(files.len() > 6, "the sources were not found");
    assert_none(&files.iter().flat_map(untidy_rust).collect::<Vec<_>>());
}

#[test]
fn an_untidy_rust_file_is_found() {
    let headless = file("engine/src/a.rs", "use x;\n");
    assert_eq!(untidy_rust(&headless).len(), 1);
    let long = file("engine/src/a.rs", &format!("//! A.\n{}", "\n".repeat(LINES_MAX)));
    assert_eq!(untidy_rust(&long).len(), 1);
    let skipped = file("tests/tests/a.rs", concat!("//! A.\n#[test]\n#[ign", "ore]\nfn a() {}"));
    assert_eq!(untidy_rust(&skipped).len(), 1);
    let asleep = file("tests/tests/a.rs", "//! A.\nfn a() { std::thread::sleep(x) }");
    assert_eq!(untidy_rust(&asleep).len(), 1);
    assert_none(&untidy_rust(&file("engine/src/a.rs", "//! A.\nfn a() {}\n")));
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    let mut bad = Vec::new();
    for ending in [".rs", ".toml", ".md", ".sh", ".xml", ".txt", ".yaml", ".json", "Makefile"] {
        bad.extend(source::files("", ending).iter().flat_map(machine_paths));
    }
    assert_none(&bad);
}

#[test]
fn a_path_of_one_machine_is_found() {
    let text = concat!("see /ho", "me/someone/notes");
    assert_eq!(
        machine_paths(&file("README.md", text)),
        ["README.md:1: names a path of one machine"]
    );
}

#[test]
fn every_dependency_says_why_it_is_there() {
    assert_none(&unexplained_dependencies(&read("Cargo.toml")));
}

#[test]
fn a_dependency_without_a_reason_is_found() {
    let manifest = "[workspace.dependencies]\n# Why.\na = \"1\"\nb = \"1\"\nserde = \"1\"\n";
    assert_eq!(unexplained_dependencies(manifest), ["Cargo.toml: `b` needs a comment line of why"]);
}

#[test]
fn members_take_every_dependency_from_the_workspace() {
    let members =
        ["state", "engine", "schemas", "topologies", "tests", "tests/simulation", "benches"];
    let bad: Vec<String> = members
        .iter()
        .map(|member| format!("{member}/Cargo.toml"))
        .flat_map(|path| own_versions(&file(&path, &read(&path))))
        .collect();
    assert_none(&bad);
    assert_eq!(own_versions(&file("a/Cargo.toml", "[dependencies]\nserde = \"1\"")).len(), 1);
}

#[test]
fn every_decision_record_has_its_four_parts() {
    let records = source::files("docs/decisions", ".md");
    let mut bad: Vec<String> = records.iter().flat_map(untidy_decision).collect();
    for pair in records.windows(2) {
        let number = |file: &SourceFile| file.path["docs/decisions/".len()..][..4].to_owned();
        if number(&pair[0]) == number(&pair[1]) {
            bad.push(format!("{}: its number is taken", pair[1].path));
        }
    }
    assert_none(&bad);
}

#[test]
fn a_decision_record_without_its_parts_is_found() {
    let record = file("docs/decisions/0001-x.md", "# X\n## Context\n## Choice\n## Consequences\n");
    assert_eq!(untidy_decision(&record).len(), 1);
    let record = file("docs/decisions/notes.md", &HEADINGS.join("\n"));
    assert_eq!(untidy_decision(&record).len(), 1);
}

#[test]
fn every_staged_suite_exists() {
    let bad: Vec<String> = read("scripts/proofs.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter(|line| {
            let mut words = line.split_whitespace();
            let suite = words.next().unwrap_or_default();
            let numbers: Vec<Option<u32>> = words.map(|word| word.parse().ok()).collect();
            numbers.len() != 3
                || numbers.contains(&None)
                || !source::root().join(format!("tests/tests/{suite}.rs")).exists()
        })
        .map(|line| format!("scripts/proofs.txt: `{line}` names no suite or lacks a number"))
        .collect();
    assert_none(&bad);
}

#[test]
fn every_planted_bug_fits_the_tree() {
    let patches = source::files("tests/planted", ".patch");
    assert!(!patches.is_empty(), "planted bugs are there");
    assert_none(&patches.iter().filter_map(|patch| misfit(&patch.path)).collect::<Vec<_>>());
}

#[test]
fn a_patch_that_does_not_fit_is_found() {
    assert!(misfit("tests/planted/no-such-bug.patch").is_some());
}

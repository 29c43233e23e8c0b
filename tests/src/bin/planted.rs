//! `planted [NAME...]`: proves that the simulation finds the bugs under `tests/planted/`. Each patch
//! is applied to a copy of the tree; what the simulation needs is built, lightly optimised and
//! without C++; and seeds are run until one fails. A patch that no longer applies, does not build or
//! is not found is a failure.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

use headwater_tests::proof::say;

/// A planted bug that so many seeds do not find is not found.
const SEEDS_MAX: u64 = 1_000;
const PLACE: &str = "tests/planted";

fn main() -> ExitCode {
    match prove(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            say(&format!("planted: {why}"));
            ExitCode::FAILURE
        }
    }
}

fn prove(wanted: &[String]) -> Result<(), String> {
    // Asked when it runs: the copy of the tree builds this program too, into the same place.
    let root = std::env::var_os("CARGO_MANIFEST_DIR").ok_or("run it by `cargo run`")?;
    let root = Path::new(&root).parent().ok_or("the crate has no parent")?;
    let cache = cache()?;
    let tree = cache.join("planted");
    let mut patches: Vec<PathBuf> = fs::read_dir(root.join(PLACE))
        .map_err(|e| format!("{PLACE}: {e}"))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "patch"))
        .filter(|path| wanted.is_empty() || wanted.contains(&name(path)))
        .collect();
    patches.sort();
    if patches.is_empty() {
        return Err(format!("no patch of that name in {PLACE}"));
    }
    let target = cache.join("target-nocxx");
    for patch in &patches {
        copy_tree(root, &tree)?;
        apply(patch, &tree)?;
        let found = simulate(&tree, &target).map_err(|why| format!("{}: {why}", name(patch)))?;
        say(&format!("planted: {} is found: {found}", name(patch)));
    }
    say(&format!("planted: {} bugs are found", patches.len()));
    Ok(())
}

fn name(patch: &Path) -> String {
    patch.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn cache() -> Result<PathBuf, String> {
    if let Some(cache) = std::env::var_os("HEADWATER_CACHE") {
        return Ok(PathBuf::from(cache));
    }
    let home = std::env::var_os("HOME").ok_or("neither HEADWATER_CACHE nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cache/headwater"))
}

/// Makes `tree` what the working tree is now. What is the same already is left alone, so that only
/// what a patch changes is compiled again.
fn copy_tree(root: &Path, tree: &Path) -> Result<(), String> {
    let mut list = Command::new("git");
    list.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root);
    let listed = run(&mut list)?;
    if !listed.status.success() {
        return Err(format!("git ls-files: {}", text(&listed.stderr)));
    }
    for file in text(&listed.stdout).split('\0').filter(|file| !file.is_empty()) {
        let (from, to) = (root.join(file), tree.join(file));
        let Ok(bytes) = fs::read(&from) else { continue };
        if fs::read(&to).is_ok_and(|there| there == bytes) {
            continue;
        }
        let parent = to.parent().ok_or("a file has a directory")?;
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&to, bytes))
            .map_err(|e| format!("{}: {e}", to.display()))?;
    }
    Ok(())
}

fn apply(patch: &Path, tree: &Path) -> Result<(), String> {
    let mut apply = Command::new("git");
    // The copy is no repository, whatever lies above it.
    apply.arg("apply").arg(patch).current_dir(tree);
    apply.env("GIT_CEILING_DIRECTORIES", tree.parent().unwrap_or(tree));
    let applied = run(&mut apply)?;
    match applied.status.success() {
        true => Ok(()),
        false => Err(format!("{} no longer applies: {}", name(patch), text(&applied.stderr))),
    }
}

/// The line of the first seed that fails.
fn simulate(tree: &Path, target: &Path) -> Result<String, String> {
    let mut build = Command::new("cargo");
    // Both packages, so that no crate of others is compiled with other features than it was.
    build.args(["build", "--release", "-p", "headwater-tests", "-p", "headwater-simulation"]);
    build.args(["--no-default-features", "--bin", "seeds"]).current_dir(tree);
    for package in ["headwater-state", "headwater", "headwater-simulation"] {
        for setting in ["opt-level=1", "debug=false"] {
            build.arg("--config").arg(format!("profile.release.package.{package}.{setting}"));
        }
    }
    build.env("CARGO_TARGET_DIR", target);
    let built = run(&mut build)?;
    if !built.status.success() {
        return Err(format!("the patched tree does not build: {}", text(&built.stderr)));
    }
    let mut seeds = Command::new(target.join("release/seeds"));
    seeds.arg(SEEDS_MAX.to_string()).env("RUST_BACKTRACE", "0");
    let tested = run(&mut seeds)?;
    let log = text(&tested.stdout) + &text(&tested.stderr);
    let seed = log.lines().find(|line| line.starts_with("seed "));
    match (tested.status.success(), seed) {
        (true, _) => Err(format!("not found in {SEEDS_MAX} seeds")),
        (false, Some(line)) => Ok(line.to_owned()),
        (false, None) => Err(format!("the simulation ended without a seed: {log}")),
    }
}

fn run(command: &mut Command) -> Result<Output, String> {
    command.output().map_err(|e| format!("{}: {e}", command.get_program().to_string_lossy()))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

//! The whole runtime under the simulator: exactly once, whatever is killed and whenever.

use std::collections::BTreeMap;

use headwater_tests::proof::{say, seeds};
use headwater_tests::simulation::run;

/// Seeds of `make test`.
const SEEDS: u64 = 200;

#[test]
fn two_runs_of_a_seed_have_the_same_trace() {
    let seed = seeds("simulation", 1).start() + 6;
    let (first, second) = (run(seed).expect("clean"), run(seed).expect("clean"));
    assert_eq!(first, second);
    assert_ne!(first.trace, run(seed + 4).expect("clean").trace, "another seed is another run");
}

#[test]
fn outputs_and_stores_are_exactly_once_over_kills_rewinds_and_zombies() {
    let range = seeds("simulation", SEEDS);
    let count = range.clone().count();
    let mut met: BTreeMap<String, u64> = BTreeMap::new();
    let mut steps = 0;
    for seed in range {
        let summary = run(seed).unwrap_or_else(|story| panic!("{story}"));
        if count == 1 {
            say(&format!("seed {seed}: trace {:016x}", summary.trace));
        }
        steps += summary.steps;
        for (what, times) in summary.met {
            *met.entry(what).or_default() += times;
        }
    }
    say(&format!("simulation: {count} seeds clean, {steps} steps, met {met:?}"));
    if count >= 100 {
        for what in EVERYTHING {
            assert!(met.contains_key(what), "{what} was never met");
        }
    }
}

/// What a hundred seeds must have met.
const EVERYTHING: [&str; 14] = [
    "answer lost",
    "client gave up",
    "compaction",
    "coordinator moved",
    "disk full",
    "kill",
    "pause",
    "power loss",
    "rebalance",
    "request lost",
    "request refused",
    "request repeated",
    "transaction expired",
    "append",
];

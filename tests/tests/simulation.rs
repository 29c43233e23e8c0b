//! The whole runtime under the simulator: exactly once, whatever goes wrong and whenever.

use headwater::testing::simulation::SimulationReport;
use headwater_simulation::run;
use headwater_tests::proof::{say, seeds};

/// Seeds of `make test`.
const SEEDS: u64 = 200;
/// With so many seeds, a part of the soak, every fault falls on every step of a commit of every
/// topology.
const FULL: usize = 2_000;

#[test]
fn two_runs_of_a_seed_have_the_same_trace() {
    let seed = seeds("simulation", 1).start() + 6;
    let (first, second) = (run(seed).expect("clean"), run(seed).expect("clean"));
    assert_eq!(first, second);
    assert_ne!(first.trace, run(seed + 12).expect("clean").trace, "another seed is another run");
}

#[test]
fn outputs_and_stores_are_exactly_once_whatever_goes_wrong() {
    let range = seeds("simulation", SEEDS);
    let count = range.clone().count();
    let mut report = SimulationReport::default();
    for seed in range {
        let clean = run(seed).unwrap_or_else(|failure| panic!("{failure}"));
        if count == 1 {
            say(&format!("seed {seed}: trace {:016x}", clean.trace));
        }
        report.absorb(&clean);
    }
    say(&report.matrix.to_string());
    say(&format!("never met: {:?}", report.matrix.empty_cells()));
    say(&format!("{count} seeds clean, {} steps, met {:?}", report.steps, report.met));
    if count >= 100 {
        assert_eq!(report.matrix.empty_lines(), [""; 0], "never met");
    }
    if count >= FULL {
        assert_eq!(report.matrix.empty_cells(), [""; 0], "never met");
    }
}

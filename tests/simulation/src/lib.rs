//! The topologies that the simulation proves exactly-once on, each with an oracle that recomputes by
//! plain code what must have come of a run. Shares nothing with the engine but byte formats, which
//! it reads by itself. What goes wrong in a run is the business of `headwater::testing::simulation`.

mod alarms;
mod compare;
mod ledger;
mod orders;
mod ticks;

use headwater::testing::Simulation;
use headwater::testing::simulation::{SimulationFailure, SimulationReport};

/// Partitions of every topic that the applications do not own.
const PARTITIONS: u32 = 3;
/// Where the records' time begins, in milliseconds since the Unix epoch.
const START_MS: i64 = 1_700_000_000_000;

/// Every simulated topology.
pub fn simulations() -> [Simulation; 4] {
    [orders::simulation(), ledger::simulation(), ticks::simulation(), alarms::simulation()]
}

/// Runs one seed, on the topology that its number chooses.
///
/// # Errors
/// What is wrong, and how it came about.
pub fn run(seed: u64) -> Result<SimulationReport, SimulationFailure> {
    let all = simulations();
    let count = u64::try_from(all.len()).expect("a few");
    // The kind of trouble goes by the remainder of four: every topology meets every kind.
    let chosen = usize::try_from(seed / 4 % count).expect("a few");
    all[chosen].run_seed(seed)
}

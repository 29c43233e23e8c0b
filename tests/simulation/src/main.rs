//! `seeds COUNT`: runs seeds 1 to COUNT until one fails, says which and why, and ends with 1; with 0
//! and the matrix of what was met when all are clean. What the proof of planted bugs runs.

use std::io::Write;
use std::process::ExitCode;

use headwater::testing::simulation::SimulationReport;

fn main() -> ExitCode {
    let count = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(100);
    let mut report = SimulationReport::default();
    let mut out = std::io::stdout().lock();
    for seed in 1..=count {
        match headwater_simulation::run(seed) {
            Ok(clean) => report.absorb(&clean),
            Err(failure) => {
                // A closed pipe leaves nobody to tell.
                writeln!(out, "{failure}").ok();
                return ExitCode::FAILURE;
            }
        }
    }
    writeln!(out, "{}{count} seeds are clean, met {:?}", report.matrix, report.met).ok();
    ExitCode::SUCCESS
}

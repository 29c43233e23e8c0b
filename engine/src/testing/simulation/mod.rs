//! Simulated runs of a whole application on a topology of yours: two processes of two stream threads
//! each, under a simulated group coordinator, on a simulated cluster, in one thread and under a
//! virtual clock. While records arrive, processes are killed, cut off from power, paused, held up
//! and expelled, tasks move, disks fill, clocks jump, calls hang, and the network loses, repeats and
//! delays what is said. Then everything heals, and what came of it is checked. A seed that fails
//! fails again. Knows nothing of what a topology does.
//!
//! ```text
//!   inputs by seed ──> trouble ──> all faults end, everything is processed ──> check ──> stop
//!                        │ at every moment: each store is a prefix of its changelog
//! ```

mod inputs;
mod matrix;
mod outcome;
mod prefix;
mod run;
mod trouble;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

pub use self::inputs::{Input, Inputs};
pub use self::matrix::FaultMatrix;
pub use self::outcome::Outcome;
pub use self::prefix::StoreRows;
use crate::topology::Topology;

type MakeInputs = Box<dyn Fn(&mut Inputs)>;
type Check = Box<dyn Fn(&Outcome<'_>) -> Result<(), String>>;

/// Runs a topology under every fault there is, once for each seed.
///
/// ```
/// use headwater::dsl::{Consumed, Grouped, Materialized, Produced, StreamsBuilder};
/// use headwater::serde::serdes::{i64, string};
/// use headwater::testing::{TestInput, simulate};
///
/// let b = StreamsBuilder::new();
/// b.stream("clicks", Consumed::with(string(), i64()))
///     .group_by_key(Grouped::with("by-page", string(), i64()))
///     .count(Materialized::count("clicks-per-page"))
///     .to_stream()
///     .map_values(|_, n| n.unwrap_or(0))
///     .to("counts", Produced::with(string(), i64()));
///
/// let report = simulate(&b.build()?, 1..=2)
///     .inputs(|inputs| {
///         let clicks = TestInput::new("clicks", string(), i64());
///         for at in 0..40 {
///             let page = format!("page-{}", inputs.draw(0..5));
///             inputs.pipe(&clicks, &page, &1, at).expect("a page's name has bytes");
///         }
///     })
///     .run()?;
/// assert_eq!(report.seeds, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Without a [`check`](Simulation::check) of yours, outputs and stores are compared with those of a
/// run that nothing happens to: see [`Outcome::compare_with_a_faultless_run`] for which topologies
/// that suits.
pub fn simulate(topology: &Arc<Topology>, seeds: RangeInclusive<u64>) -> Simulation {
    let oracle = Arc::clone(topology);
    Simulation {
        topology: Arc::clone(topology),
        seeds,
        name: "simulated".to_owned(),
        partitions: 3,
        inputs: Box::new(|_| {}),
        check: Box::new(move |outcome| outcome.compare_with_a_faultless_run(&oracle)),
    }
}

/// Simulated runs of one topology, to be told what arrives and what must come of it.
pub struct Simulation {
    topology: Arc<Topology>,
    seeds: RangeInclusive<u64>,
    name: String,
    partitions: u32,
    inputs: MakeInputs,
    check: Check,
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Simulation");
        shown.field("name", &self.name).field("seeds", &self.seeds).finish_non_exhaustive()
    }
}

impl Simulation {
    /// What arrives in a run; everything left to chance is to be drawn from the [`Inputs`].
    #[must_use]
    pub fn inputs(mut self, make: impl Fn(&mut Inputs) + 'static) -> Self {
        self.inputs = Box::new(make);
        self
    }

    /// What must have come of a run, in place of the comparison with a faultless one.
    #[must_use]
    pub fn check(mut self, check: impl Fn(&Outcome<'_>) -> Result<(), String> + 'static) -> Self {
        self.check = Box::new(check);
        self
    }

    /// The application's id, which is also the topology's name in the report. Default: `simulated`.
    #[must_use]
    pub fn named(mut self, application_id: impl Into<String>) -> Self {
        self.name = application_id.into();
        self
    }

    /// How many partitions each topic has that the application does not own. Default: 3.
    #[must_use]
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = partitions;
        self
    }

    /// Runs every seed.
    ///
    /// # Errors
    /// The first seed that fails, and how it came about.
    pub fn run(&self) -> Result<SimulationReport, SimulationFailure> {
        let mut report =
            SimulationReport { matrix: FaultMatrix::new(&self.name), ..Default::default() };
        for seed in self.seeds.clone() {
            report.absorb(&self.run_seed(seed)?);
        }
        Ok(report)
    }

    /// Runs one seed, whatever the seeds are.
    ///
    /// # Errors
    /// What is wrong, and how it came about.
    pub fn run_seed(&self, seed: u64) -> Result<SimulationReport, SimulationFailure> {
        run::run(self, seed)
    }
}

/// What clean runs were like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SimulationReport {
    /// How many there were.
    pub seeds: u64,
    /// Steps of actors.
    pub steps: u64,
    /// The hash of everything that happened: equal for two runs of the same seeds.
    pub trace: u64,
    /// What was done to them, and the faults they met, by name.
    pub met: BTreeMap<String, u64>,
    /// Which fault fell on which step of a commit.
    pub matrix: FaultMatrix,
}

impl SimulationReport {
    /// Adds the next runs, of this topology or another one.
    pub fn absorb(&mut self, next: &Self) {
        self.seeds += next.seeds;
        self.steps += next.steps;
        self.trace = self.trace.rotate_left(21) ^ next.trace;
        for (what, times) in &next.met {
            *self.met.entry(what.clone()).or_default() += times;
        }
        self.matrix.absorb(&next.matrix);
    }
}

/// A seed that fails, and fails again when it is run again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulationFailure {
    /// The seed.
    pub seed: u64,
    /// What is wrong.
    pub message: String,
    /// The newest events before it: of the processes, of the group, of the cluster.
    pub trace: Vec<String>,
}

impl std::error::Error for SimulationFailure {}

impl fmt::Display for SimulationFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}", self.seed, self.message)?;
        self.trace.iter().try_for_each(|event| write!(f, "\n  {event}"))
    }
}

//! What simulated runs have met: how often which fault fell on which step of a commit, for which
//! topology. Owns the rows and columns of that table, and which of its cells can be met at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::runtime::committer::Phase;

/// The steps of a commit, in order.
const STEPS: [Phase; 7] = [
    Phase::Initialising,
    Phase::Idle,
    Phase::Open,
    Phase::Sealed,
    Phase::Committing,
    Phase::Writing,
    Phase::Aborting,
];
/// What the cluster sees of them: the requests of a transaction.
const REQUESTS: [Phase; 4] = [Phase::Initialising, Phase::Open, Phase::Committing, Phase::Aborting];

/// What is done to processes, and where it can fall; then what the network and the brokers do.
const FAULTS: [(&str, &[Phase]); 18] = [
    (KILL, &STEPS),
    (POWER_LOSS, &STEPS),
    (PAUSE, &STEPS),
    (STALL, &STEPS),
    (EXPELLED, &STEPS),
    (REBALANCE, &STEPS),
    (DISK_FULL, &STEPS),
    (CLOCK_JUMP, &STEPS),
    (COMPACTION, &STEPS),
    (START, &STEPS),
    ("request lost", &REQUESTS),
    ("answer lost", &REQUESTS),
    ("request repeated", &REQUESTS),
    ("client gave up", &REQUESTS),
    ("coordinator moved", &REQUESTS),
    ("call hung", &[Phase::Initialising, Phase::Committing, Phase::Aborting]),
    ("request refused", &[Phase::Open, Phase::Committing]),
    ("transaction expired", &[Phase::Open, Phase::Committing, Phase::Aborting]),
];

pub(super) const KILL: &str = "kill";
pub(super) const POWER_LOSS: &str = "power loss";
pub(super) const PAUSE: &str = "pause";
pub(super) const STALL: &str = "stall";
pub(super) const EXPELLED: &str = "expelled";
pub(super) const REBALANCE: &str = "rebalance";
pub(super) const DISK_FULL: &str = "disk full";
pub(super) const CLOCK_JUMP: &str = "clock jump";
pub(super) const COMPACTION: &str = "compaction";
pub(super) const START: &str = "start";

/// How often which fault fell on which step of a commit, by topology.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FaultMatrix {
    cells: BTreeMap<(String, &'static str, Phase), u64>,
    topologies: BTreeSet<String>,
}

impl FaultMatrix {
    pub(super) fn new(topology: &str) -> Self {
        Self { cells: BTreeMap::new(), topologies: BTreeSet::from([topology.to_owned()]) }
    }

    pub(super) fn count(&mut self, topology: &str, fault: &str, step: Phase, times: u64) {
        let row = FAULTS.iter().find(|(name, steps)| *name == fault && steps.contains(&step));
        if let Some((fault, _)) = row {
            *self.cells.entry((topology.to_owned(), fault, step)).or_default() += times;
        }
    }

    /// The step of a commit that a producer's request belongs to.
    pub(super) fn step_of(request: &str) -> Option<Phase> {
        match request {
            "initialise the producer" => Some(Phase::Initialising),
            "produce" => Some(Phase::Open),
            "add offsets to the transaction" | "commit the transaction" => Some(Phase::Committing),
            "abort the transaction" => Some(Phase::Aborting),
            _ => None,
        }
    }

    /// Adds what other runs have met.
    pub fn absorb(&mut self, other: &Self) {
        for (cell, times) in &other.cells {
            *self.cells.entry(cell.clone()).or_default() += times;
        }
        self.topologies.extend(other.topologies.iter().cloned());
    }

    /// Every cell that can be met and was not, in words.
    pub fn empty_cells(&self) -> Vec<String> {
        let mut empty = Vec::new();
        for topology in &self.topologies {
            for (fault, steps) in FAULTS {
                let missing = steps.iter().filter(|step| self.at(topology, fault, **step) == 0);
                empty.extend(missing.map(|step| format!("{topology}: {fault} x {step:?}")));
            }
        }
        empty
    }

    /// Every fault and every step of a commit that no cell of any topology has met.
    pub fn empty_lines(&self) -> Vec<String> {
        let met = |f: &dyn Fn(&str, Phase) -> bool| {
            self.cells.iter().any(|((_, fault, step), times)| *times > 0 && f(fault, *step))
        };
        let faults = FAULTS.iter().map(|(name, _)| *name);
        let faults = faults.filter(|name| !met(&|fault, _| fault == *name)).map(str::to_owned);
        let steps = STEPS.iter().filter(|step| !met(&|_, met| met == **step));
        faults.chain(steps.map(|step| format!("{step:?}"))).collect()
    }

    fn at(&self, topology: &str, fault: &'static str, step: Phase) -> u64 {
        self.cells.get(&(topology.to_owned(), fault, step)).copied().unwrap_or(0)
    }
}

/// One table for each topology; `-` is a cell that cannot be met.
impl fmt::Display for FaultMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for topology in &self.topologies {
            write!(f, "{topology:<20}")?;
            for step in STEPS {
                write!(f, " {:>12}", format!("{step:?}").to_lowercase())?;
            }
            writeln!(f)?;
            for (fault, steps) in FAULTS {
                write!(f, "  {fault:<18}")?;
                for step in STEPS {
                    match steps.contains(&step) {
                        true => write!(f, " {:>12}", self.at(topology, fault, step))?,
                        false => write!(f, " {:>12}", "-")?,
                    }
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_was_not_met_is_named_and_one_that_cannot_be_is_not() {
        let mut matrix = FaultMatrix::new("t");
        let all = matrix.empty_cells().len();
        matrix.count("t", KILL, Phase::Open, 2);
        matrix.count("t", "request refused", Phase::Aborting, 1);
        let empty = matrix.empty_cells();
        assert_eq!(empty.len(), all - 1);
        assert!(!empty.contains(&"t: kill x Open".to_owned()), "{empty:?}");
        assert!(empty.contains(&"t: kill x Writing".to_owned()), "{empty:?}");
        assert!(!empty.iter().any(|cell| cell == "t: request refused x Aborting"), "{empty:?}");
    }

    #[test]
    fn lines_are_empty_only_over_all_topologies() {
        let mut matrix = FaultMatrix::new("a");
        let mut other = FaultMatrix::new("b");
        other.count("b", KILL, Phase::Open, 1);
        matrix.absorb(&other);
        let empty = matrix.empty_lines();
        assert!(!empty.iter().any(|line| line == KILL || line == "Open"), "{empty:?}");
        assert!(empty.iter().any(|line| line == PAUSE), "{empty:?}");
    }
}

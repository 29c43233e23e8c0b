//! The test kit, for users too: run a topology without a log or a broker. May see everything; nothing
//! may depend on it.

mod driver;
mod restart;
pub mod simulation;
pub mod simulator;

pub use driver::{StoredRow, TestBytes, TestInput, TestOutput, TestRecord, TopologyTestDriver};
pub use simulation::{Input, Inputs, Outcome, Simulation, simulate};

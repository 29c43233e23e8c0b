//! The parts of the bench `peers`, which runs the engine and Kafka Streams one after the other on the
//! same broker, each as a process of its own: what they run ([`engine`]), how they are started and
//! watched ([`Contestant`]), what they read and wrote ([`traffic`]). Knows no figure's meaning.

mod contestant;
pub mod engine;
pub mod traffic;

pub use contestant::{Contestant, Kind, Sample, Setup};

use clap::ValueEnum;

/// What is run. The Java side knows them by the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Task {
    /// Every record goes from one topic to another.
    Pass,
    /// Records by key.
    Count,
    /// Records by key in windows of five minutes.
    Window,
    /// The latest value of each key, to fill a store.
    Latest,
}

impl Task {
    /// Its name on a command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Task::Pass => "pass",
            Task::Count => "count",
            Task::Window => "window",
            Task::Latest => "latest",
        }
    }
}

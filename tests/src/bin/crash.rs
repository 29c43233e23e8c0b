//! `crash run`: the rollups and the joined application in one process on the embedded log, for proofs
//! that kill it.

use std::process::ExitCode;
use std::sync::Arc;

use headwater::dsl::StreamsBuilder;
use headwater::shell::{Application, Program};
use headwater_tests::joined;
use headwater_topologies::analytics;

fn main() -> ExitCode {
    let application = |id, topology: fn(&StreamsBuilder)| Application {
        id,
        topology: Arc::new(topology),
        routes: Vec::new(),
    };
    headwater::shell::run(&Program {
        name: "crash",
        about: "Runs what the crash proofs kill",
        applications: vec![
            application("analytics", analytics::topology),
            application(joined::APPLICATION, joined::topology),
        ],
        commands: Vec::new(),
    })
}

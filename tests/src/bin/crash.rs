//! `crash run`: the rollups and the joined application in one process, for proofs that kill it.
//! `crash die`: the same, and it kills itself inside a commit: when a committer stands in the phase
//! `CRASH_PHASE` (`sealed`, `committing` or `writing`) for the `CRASH_TIMES`-th time.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use headwater::dsl::StreamsBuilder;
use headwater::error::BoxError;
use headwater::runtime::committer::Phase;
use headwater::shell::{Application, Command, Process, Program};
use headwater_tests::joined;
use headwater_topologies::analytics;

/// A commit is seen to stand in its phases if one looks this often.
const LOOK: Duration = Duration::from_micros(20);

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
        commands: vec![Command {
            name: "die",
            about: "Run, and die inside a commit: in CRASH_PHASE, the CRASH_TIMES-th time",
            run: die,
        }],
    })
}

fn die(process: &Process) -> Result<(), BoxError> {
    let phase = match std::env::var("CRASH_PHASE")?.as_str() {
        "sealed" => Phase::Sealed,
        "committing" => Phase::Committing,
        "writing" => Phase::Writing,
        other => return Err(format!("CRASH_PHASE is {other}, no phase of a commit").into()),
    };
    let times: u32 = std::env::var("CRASH_TIMES")?.parse()?;
    let (mut seen, mut before) = (0, BTreeMap::new());
    while !process.is_stopping() {
        for (application, streams) in process.view().applications.iter().enumerate() {
            for (thread, now) in streams.board().phases() {
                if before.insert((application, thread), now) != Some(now) && now == phase {
                    seen += 1;
                }
                if seen == times {
                    // No destructor runs and nothing is flushed, as with kill -9.
                    std::process::abort();
                }
            }
        }
        std::thread::park_timeout(LOOK);
    }
    Ok(())
}

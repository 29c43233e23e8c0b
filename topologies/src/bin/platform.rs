//! The whole platform as a program: `run`, `describe`, `query`; `demo`, which also sends it tasks;
//! and `topics`, which makes its topics on Kafka before anything is started.

use std::io::{self, Write};
use std::process::ExitCode;
use std::str::FromStr;

use headwater::error::BoxError;
use headwater::shell::{Command, Process, Program};
use headwater::time::SystemClock;
use headwater_topologies::platform::demo::{Demo, Pace};
use headwater_topologies::platform::{Settings, applications, create_topics};

fn main() -> ExitCode {
    let agents = Settings::read(&|name| std::env::var(name).ok())
        .and_then(|settings| Ok((settings.start_agents()?, settings.workflow, settings.retries)));
    let (agents, workflow, retries) = match agents {
        Ok(chosen) => chosen,
        Err(error) => {
            return failed(&error, 2);
        }
    };
    // A topology whose topics are missing does not start, so they are made before.
    let word = std::env::args().nth(1).unwrap_or_default();
    if word == "topics" || word == "demo" {
        if let Err(error) = create_topics() {
            return failed(&error, 1);
        }
        if word == "topics" {
            return ExitCode::SUCCESS;
        }
    }
    headwater::shell::run(&Program {
        name: "platform",
        about: "Runs agents' workflows, sessions, quality gates and analytics in one process \
                (AGENT_*, WORKFLOW_*: see docs/agents.md); `topics` makes its topics on Kafka",
        applications: applications(agents, workflow, retries),
        commands: vec![Command {
            name: "demo",
            about: "Runs while tasks come in (DEMO_SECONDS, DEMO_RATE, DEMO_SEED)",
            run: demo,
        }],
    })
}

fn failed(error: &BoxError, code: u8) -> ExitCode {
    // Nothing can be done when standard error is gone too.
    drop(writeln!(io::stderr(), "platform: {error}"));
    ExitCode::from(code)
}

fn demo(process: &Process) -> Result<(), BoxError> {
    let address = process.address().ok_or("the demonstration needs HTTP; set HTTP_ADDR")?;
    let pace = Pace {
        seed: variable("DEMO_SEED")?.unwrap_or(1),
        rate: variable("DEMO_RATE")?.unwrap_or(20),
        seconds: variable("DEMO_SECONDS")?,
    };
    let clock = SystemClock::new();
    let demo = Demo::new(&format!("http://{address}"), &clock, pace);
    Ok(demo.run(&mut io::stdout(), &|| process.is_stopping())?)
}

/// The value of an environment variable; `None` when it is unset or empty.
fn variable<T: FromStr>(name: &str) -> Result<Option<T>, BoxError> {
    match std::env::var(name).ok().filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(format!("{name}={text:?} is not a whole number").into()),
        },
    }
}

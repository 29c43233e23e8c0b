//! The analytics rollups as a program: `run`, `describe`, `query`, and `demo`, which also makes its
//! own traffic.

use std::io;
use std::process::ExitCode;
use std::str::FromStr;

use headwater::error::BoxError;
use headwater::shell::{Command, Process, Program};
use headwater::time::SystemClock;
use headwater_topologies::analytics;
use headwater_topologies::analytics::demo::{Demo, Pace};

fn main() -> ExitCode {
    headwater::shell::run(&Program {
        name: "analytics",
        about: "Rolls agents' performance metrics up in five-minute windows",
        applications: vec![analytics::application()],
        commands: vec![Command {
            name: "demo",
            about: "Runs on the embedded log under generated traffic (DEMO_SECONDS, DEMO_RATE, \
                    DEMO_SPEED, DEMO_SEED)",
            run: demo,
        }],
    })
}

fn demo(process: &Process) -> Result<(), BoxError> {
    if process.view().embedded.is_none() {
        return Err("the demonstration needs the embedded log; unset KAFKA_BROKERS".into());
    }
    let address = process.address().ok_or("the demonstration needs HTTP; set HTTP_ADDR")?;
    let pace = Pace {
        seed: variable("DEMO_SEED")?.unwrap_or(1),
        rate: variable("DEMO_RATE")?.unwrap_or(2_000),
        speed: variable("DEMO_SPEED")?.unwrap_or(60),
        seconds: variable("DEMO_SECONDS")?,
    };
    let clock = SystemClock::new();
    let demo = Demo::new(&format!("http://{address}"), &clock, pace);
    Ok(demo.run(&mut io::stdout(), &|| process.is_stopping())?)
}

/// The value of an environment variable; `None` when it is unset or empty.
fn variable<T: FromStr>(name: &str) -> Result<Option<T>, BoxError> {
    match std::env::var(name) {
        Err(_) => Ok(None),
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(format!("{name}={text:?} is not a whole number").into()),
        },
    }
}

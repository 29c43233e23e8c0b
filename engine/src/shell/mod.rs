//! The command line of every topology binary: `run` (the default), `describe`, `query`, `audit`,
//! `backup`, `restore`, `salvage`, and what a program adds. Owns options, exit codes and what is
//! printed; knows no topology of its own.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done; after a signal: everything was committed |
//! | 1 | failed while running; the last lines on standard error say why. `salvage`: something is lost |
//! | 2 | the command line or the configuration is wrong; nothing was started |
//! | 3 | `query`: what was asked for is not there |
//! | 4 | `audit`: something is wrong with what was written |
//!
//! Results go to standard output, everything else to standard error. Settings come from the
//! environment ([`config::HELP`](crate::config::HELP)); options of the same name go before it.

mod append;
mod audit;
mod keep;
mod options;
mod process;
mod query;
mod targets;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use headwater_state::StateError;

use crate::config::ConfigError;
use crate::dsl::StreamsBuilder;
use crate::error::BoxError;
use crate::query::{Route, ServerError};
use crate::runtime::HostError;
use crate::topology::{Topology, TopologyError};

use options::{Format, Parsed, Task};

pub use process::Process;
pub use targets::HostQueries;

/// Adds a topology to a builder. It may be called more than once.
pub type AddTopology = Arc<dyn Fn(&StreamsBuilder) + Send + Sync>;

/// One application of a program.
#[derive(Clone)]
pub struct Application {
    /// The application id, unless `APPLICATION_ID` names another.
    pub id: &'static str,
    /// Adds its topology to a builder.
    pub topology: AddTopology,
    /// What it answers over HTTP beside its stores.
    pub routes: Vec<Arc<dyn Route>>,
}

impl fmt::Debug for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Application({})", self.id)
    }
}

/// A command that a program adds: it is run beside the started applications, which stop when it
/// returns.
#[derive(Debug, Clone, Copy)]
pub struct Command {
    /// The word on the command line.
    pub name: &'static str,
    /// What it does, for `--help`.
    pub about: &'static str,
    /// Does it. On a signal it is to return soon: see [`Process::is_stopping`].
    pub run: fn(&Process) -> Result<(), BoxError>,
}

/// A topology binary.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use headwater::dsl::{Consumed, Produced, StreamsBuilder};
/// use headwater::serde::serdes::string;
/// use headwater::shell::{Application, Program};
///
/// fn shout(b: &StreamsBuilder) {
///     b.stream("words", Consumed::with(string(), string()))
///         .map_values(|_, word| word.to_uppercase())
///         .to("loud-words", Produced::with(string(), string()));
/// }
///
/// fn main() -> std::process::ExitCode {
///     let topology = Arc::new(shout);
///     headwater::shell::run(&Program {
///         name: "shout",
///         about: "Says every word louder",
///         applications: vec![Application { id: "shout", topology, routes: Vec::new() }],
///         commands: Vec::new(),
///     })
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Program {
    /// The binary's name.
    pub name: &'static str,
    /// What it is for, for `--help`.
    pub about: &'static str,
    /// What it runs, all in one process.
    pub applications: Vec<Application>,
    /// Commands of its own.
    pub commands: Vec<Command>,
}

/// Why a command did not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A topology is wrong.
    #[error("application {application}: {source}")]
    Topology {
        /// Which.
        application: String,
        /// All its mistakes.
        source: TopologyError,
    },
    /// The process did not start, or failed.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The HTTP server did not start.
    #[error(transparent)]
    Http(#[from] ServerError),
    /// A running instance refused a question; `status` is HTTP's.
    #[error("{detail} (status {status})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The server's words.
        detail: String,
    },
    /// An audit found something; the report says what and where.
    #[error("the audit has findings: {findings}")]
    Audit {
        /// How many.
        findings: usize,
    },
    /// A running instance could not be asked.
    #[error("{address} does not answer: {reason}; is it running there?")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
    /// The state directory, or a backup of it.
    #[error(transparent)]
    State(#[from] StateError),
    /// A salvage that could not save everything; what it could is there.
    #[error("{lost} stretches of rows could not be read; the rest is in {target}")]
    Salvaged {
        /// How many.
        lost: usize,
        /// The new state directory.
        target: String,
    },
    /// A command of the program's own failed.
    #[error(transparent)]
    Command(BoxError),
    /// Standard output is gone.
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

impl ShellError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Topology { .. } | Self::Host(HostError::Config(_)) => 2,
            Self::Http(ServerError::Exposed { .. } | ServerError::Route { .. }) => 2,
            Self::Refused { status: 404, .. } => 3,
            Self::Audit { .. } => 4,
            _ => 1,
        }
    }
}

/// Does what the command line says. The `main` of a topology binary.
pub fn run(program: &Program) -> ExitCode {
    ExitCode::from(run_with(program, std::env::args_os(), &mut io::stdout()))
}

/// As [`run`], with the arguments (the first is the binary's own name) and standard output given:
/// the exit code.
pub fn run_with(
    program: &Program,
    arguments: impl IntoIterator<Item = OsString>,
    out: &mut dyn Write,
) -> u8 {
    let parsed = match options::parse(program, arguments) {
        Ok(parsed) => parsed,
        // Help and version are no errors; clap knows where each is to be printed.
        Err(error) => {
            let printed = error.print();
            return if printed.is_err() { 1 } else { u8::from(error.use_stderr()) * 2 };
        }
    };
    let done = carry_out(program, &parsed, out);
    match done {
        Ok(()) => 0,
        Err(error) => {
            complain(program.name, &error);
            error.exit_code()
        }
    }
}

fn carry_out(program: &Program, parsed: &Parsed, out: &mut dyn Write) -> Result<(), ShellError> {
    match &parsed.task {
        Task::Describe(format) => describe(program, parsed, *format, out),
        Task::Audit(format) => audit::run(program, &parsed.environment()?, *format, out),
        Task::Query(asked) => query::ask(asked, &parsed.environment()?, out),
        Task::Keep(keeping) => keep::keep(keeping, &parsed.environment()?, out),
        Task::Run => Process::start(program, &parsed.environment()?, out)?.wait(),
        Task::Own(command) => {
            let process = Process::start(program, &parsed.environment()?, out)?;
            let done = (command.run)(&process).map_err(ShellError::Command);
            let ended = process.stop();
            done.and(ended)
        }
    }
}

/// Errors of the command line itself go to standard error as they are; the log may be filtered.
fn complain(name: &str, error: &ShellError) {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(because) = cause {
        let more = because.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = because.source();
    }
    // Nothing can be done when standard error is gone too.
    drop(writeln!(io::stderr(), "{name}: {text}"));
}

/// The checked topology of an application.
fn build(application: &Application) -> Result<Arc<Topology>, ShellError> {
    let builder = StreamsBuilder::new();
    (application.topology)(&builder);
    builder
        .build()
        .map_err(|source| ShellError::Topology { application: application.id.to_owned(), source })
}

fn describe(
    program: &Program,
    parsed: &Parsed,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), ShellError> {
    let environment = parsed.environment()?;
    for application in &program.applications {
        let topology = build(application)?;
        let id = process::application_id(program, application, &environment);
        let described = targets::describe(&topology, &id);
        match format {
            Format::Text => write!(out, "{}", described.text)?,
            Format::Mermaid => write!(out, "{}", described.mermaid)?,
            Format::Json => writeln!(out, "{}", described.json)?,
        }
    }
    Ok(())
}

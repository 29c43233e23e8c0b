//! The command line: commands, options, and how options go before the environment. Knows nothing of
//! what commands do.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgMatches, Args, FromArgMatches, Subcommand, ValueEnum};

use super::{Command, Program};
use crate::config::{ConfigError, Environment, HELP};

/// Each is a variable of the environment by another name.
#[derive(Debug, Clone, Default, Args)]
struct Options {
    /// Where state lives (STATE_DIR)
    #[arg(long, global = true, value_name = "DIR")]
    state_dir: Option<String>,
    /// Bootstrap brokers; without any it runs on the embedded log (KAFKA_BROKERS)
    #[arg(long, global = true, value_name = "HOST:PORT,..")]
    brokers: Option<String>,
    /// Application id, of a program with one application (APPLICATION_ID)
    #[arg(long, global = true, value_name = "ID")]
    application_id: Option<String>,
    /// Where the HTTP server listens; port 0 takes a free one, `off` starts none (HTTP_ADDR)
    #[arg(long, global = true, value_name = "ADDR")]
    http: Option<String>,
    /// Listen beyond loopback without a token; records cannot be written then
    #[arg(long, global = true)]
    insecure: bool,
    /// Stream threads of each application (THREADS)
    #[arg(long, global = true, value_name = "N")]
    threads: Option<String>,
    /// Milliseconds between commits (COMMIT_INTERVAL_MS)
    #[arg(long, global = true, value_name = "MS")]
    commit_interval_ms: Option<String>,
    /// All memory of caches, uncommitted state and queues, as 256MiB (MEMORY_LIMIT)
    #[arg(long, global = true, value_name = "SIZE")]
    memory_limit: Option<String>,
    /// How the log on standard error looks; RUST_LOG chooses what is in it
    #[arg(long, global = true, value_enum, default_value = "text")]
    log_format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How a topology is described.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
    /// A Mermaid flow chart.
    Mermaid,
}

/// How a report is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum ReportFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Clone, Subcommand)]
enum Word {
    /// Run until a signal comes (the default)
    Run,
    /// Print the topology; starts nothing
    Describe {
        /// The form
        #[arg(long, value_enum, default_value = "text")]
        format: Format,
    },
    /// Ask a running instance over HTTP
    Query(Asked),
    /// Copy the state directory, also one in use, to a new folder
    Backup {
        /// The folder; it must not be there, or be empty
        target: PathBuf,
    },
    /// Make the state directory of a backup; it must not be there, or be empty
    Restore {
        /// The backup
        backup: PathBuf,
    },
    /// Copy what is readable of a damaged, stopped state directory to a new one, and report
    Salvage {
        /// The new state directory; it must not be there, or be empty
        target: PathBuf,
    },
    /// Judge what was written with AUDIT=true: no transaction missing, torn or doubled
    Audit {
        /// The form
        #[arg(long, value_enum, default_value = "text")]
        format: ReportFormat,
    },
}

/// What a running instance is asked.
#[derive(Debug, Clone, Args)]
pub(super) struct Asked {
    /// Where it runs; HTTP_ADDR when absent
    #[arg(long, value_name = "http://HOST:PORT")]
    pub(super) url: Option<String>,
    /// The application, if several run there
    #[arg(long, value_name = "ID")]
    pub(super) app: Option<String>,
    /// Give and show keys and values as base64 of their bytes
    #[arg(long)]
    pub(super) base64: bool,
    #[command(subcommand)]
    pub(super) question: Question,
}

#[derive(Debug, Clone, Subcommand)]
pub(super) enum Question {
    /// The row of a key
    Key { store: String, key: String },
    /// Rows in the order of their keys
    Range {
        store: String,
        /// The first key
        #[arg(long)]
        from: Option<String>,
        /// The last key
        #[arg(long)]
        to: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// The windows of a key, by start
    Windows {
        store: String,
        key: String,
        /// The first start, in milliseconds or RFC 3339
        #[arg(long)]
        from: Option<String>,
        /// The last start
        #[arg(long)]
        to: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Whatever a path answers, e.g. /tasks
    Get { path: String },
}

#[derive(Debug, Clone, Args)]
pub(super) struct Paging {
    /// Rows of a page
    #[arg(long)]
    pub(super) limit: Option<u32>,
    /// The page's `nextCursor` of before
    #[arg(long, conflicts_with = "all")]
    pub(super) cursor: Option<String>,
    /// Every page, a row a line
    #[arg(long)]
    pub(super) all: bool,
}

/// What the command line says.
#[derive(Debug, Clone)]
pub(super) struct Parsed {
    options: Options,
    pub(super) task: Task,
}

#[derive(Debug, Clone)]
pub(super) enum Task {
    Run,
    Describe(Format),
    Query(Asked),
    Audit(ReportFormat),
    Keep(Keeping),
    Own(Command),
}

/// What is done with the state directory's files.
#[derive(Debug, Clone)]
pub(super) enum Keeping {
    Backup { target: PathBuf },
    Restore { backup: PathBuf },
    Salvage { target: PathBuf },
}

/// What the process is to be run with.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) environment: Environment,
    pub(super) log_format: LogFormat,
}

/// Reads the command line.
pub(super) fn parse(
    program: &Program,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Parsed, clap::Error> {
    let shell = clap::Command::new(program.name)
        .about(program.about)
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(format!("Environment:\n{HELP}"));
    let own = program.commands.iter().map(|c| clap::Command::new(c.name).about(c.about));
    let shell = Word::augment_subcommands(Options::augment_args(shell)).subcommands(own);
    let matches = shell.subcommand_required(false).try_get_matches_from(arguments)?;
    let options = Options::from_arg_matches(&matches)?;
    Ok(Parsed { options, task: task(program, &matches)? })
}

fn task(program: &Program, matches: &ArgMatches) -> Result<Task, clap::Error> {
    let Some(name) = matches.subcommand_name() else { return Ok(Task::Run) };
    if let Some(own) = program.commands.iter().find(|command| command.name == name) {
        return Ok(Task::Own(*own));
    }
    Ok(match Word::from_arg_matches(matches)? {
        Word::Run => Task::Run,
        Word::Describe { format } => Task::Describe(format),
        Word::Query(asked) => Task::Query(asked),
        Word::Audit { format } => Task::Audit(format),
        Word::Backup { target } => Task::Keep(Keeping::Backup { target }),
        Word::Restore { backup } => Task::Keep(Keeping::Restore { backup }),
        Word::Salvage { target } => Task::Keep(Keeping::Salvage { target }),
    })
}

impl Parsed {
    /// The environment of this process under the options.
    ///
    /// # Errors
    /// All mistakes of both at once.
    pub(super) fn environment(&self) -> Result<Settings, ConfigError> {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        });
        self.environment_over(variables)
    }

    fn environment_over(
        &self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Settings, ConfigError> {
        let mut all: BTreeMap<String, String> = variables.into_iter().collect();
        let o = &self.options;
        for (name, option) in [
            ("STATE_DIR", &o.state_dir),
            ("KAFKA_BROKERS", &o.brokers),
            ("APPLICATION_ID", &o.application_id),
            ("HTTP_ADDR", &o.http),
            ("THREADS", &o.threads),
            ("COMMIT_INTERVAL_MS", &o.commit_interval_ms),
            ("MEMORY_LIMIT", &o.memory_limit),
        ] {
            if let Some(value) = option {
                all.insert(name.to_owned(), value.clone());
            }
        }
        let mut environment = Environment::parse(all)?;
        environment.host.insecure |= self.options.insecure;
        Ok(Settings { environment, log_format: self.options.log_format })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program() -> Program {
        let demo = Command { name: "demo", about: "Shows it", run: |_| Ok(()) };
        Program { name: "p", about: "P", applications: Vec::new(), commands: vec![demo] }
    }

    fn parsed(line: &str) -> Result<Parsed, clap::Error> {
        parse(&program(), line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn without_a_command_it_runs_and_options_stand_anywhere() {
        for line in ["p --threads 3", "p run --threads 3", "p --threads 3 run"] {
            let parsed = parsed(line).expect("valid");
            assert!(matches!(parsed.task, Task::Run), "{line}");
            let settings = parsed.environment_over([]).expect("valid");
            assert_eq!(settings.environment.threads, Some(3), "{line}");
        }
    }

    #[test]
    fn options_go_before_the_environment_and_both_are_checked_together() {
        let variables = |pairs: &[(&str, &str)]| {
            let owned = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
            owned.collect::<Vec<_>>()
        };
        let wrong = parsed("p --state-dir here --memory-limit much").expect("clap takes any text");
        let both = variables(&[("STATE_DIR", "there"), ("THREADS", "none")]);
        let error = wrong.environment_over(both).expect_err("two mistakes");
        assert_eq!(error.mistakes.len(), 2, "{error}");
        let right = parsed("p --state-dir here").expect("valid");
        let settings = right.environment_over(variables(&[("STATE_DIR", "there")]));
        let host = settings.expect("valid").environment.host;
        assert_eq!(host.state_dir, PathBuf::from("here"));
    }

    #[test]
    fn a_programs_own_command_is_found_and_unknown_ones_are_refused() {
        assert!(
            matches!(parsed("p demo").expect("its own").task, Task::Own(c) if c.name == "demo")
        );
        assert!(parsed("p plan").is_err());
        assert!(parsed("p query range s --all --cursor x").is_err());
        assert!(matches!(parsed("p query key s k").expect("valid").task, Task::Query(_)));
    }
}

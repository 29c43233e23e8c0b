//! The engine's side of the contest, in a process of its own. Says on standard output when it runs
//! and what it restored, as the Java side does.
#![expect(clippy::print_stdout, reason = "its parent reads what it prints")]

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use clap::Args;
use headwater::config::{HostConfig, KafkaConfig, StreamsConfig};
use headwater::dsl::{Consumed, Grouped, Materialized, Produced, StreamsBuilder, TimeWindows};
use headwater::runtime::{Application, Board, Host};
use headwater::serde::kafka_streams::time_windowed;
use headwater::serde::serdes::{bytes, i64, optional};
use headwater::topology::Topology;

use super::Task;

const LOOK: Duration = Duration::from_millis(2);
const WINDOW: Duration = Duration::from_secs(5 * 60);
const GRACE: Duration = Duration::from_secs(60);

/// What the process runs.
#[derive(Debug, Args)]
pub struct EngineArguments {
    /// `host:port` of the broker.
    #[arg(long)]
    pub brokers: String,
    /// The application id.
    #[arg(long)]
    pub application: String,
    /// What to run.
    #[arg(long)]
    pub task: Task,
    /// Topic read.
    #[arg(long)]
    pub input: String,
    /// Topic written.
    #[arg(long)]
    pub output: String,
    /// State directory.
    #[arg(long)]
    pub state: PathBuf,
    /// Stream threads.
    #[arg(long)]
    pub threads: usize,
    /// Memory limit in MiB.
    #[arg(long, default_value_t = 256)]
    pub memory_mib: usize,
}

/// Runs until SIGTERM.
///
/// # Panics
/// When the engine cannot start; what it ran is then no result.
pub fn run(arguments: &EngineArguments) {
    let log = tracing_subscriber::fmt().with_env_filter(
        tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()),
    );
    log.with_ansi(false).with_writer(std::io::stderr).init();
    let topology = topology(arguments.task, &arguments.input, &arguments.output);
    let brokers = vec![arguments.brokers.clone()];
    let config = HostConfig {
        state_dir: arguments.state.clone(),
        kafka: Some(KafkaConfig { brokers, ..KafkaConfig::default() }),
        http: None,
        memory_limit: arguments.memory_mib << 20,
        ..HostConfig::default()
    };
    let streams =
        StreamsConfig { threads: arguments.threads, ..StreamsConfig::new(&arguments.application) };
    let application = Application { topology, config: streams };
    let host = Host::start(config, vec![application]).expect("the engine starts");
    host.listen_to_signals().expect("signals can be listened to");
    let board = host.view().applications[0].board().clone();
    watch(&host, &board);
    host.wait().expect("the engine stops");
}

/// Says what happens until everything runs, then waits for the stop.
fn watch(host: &Host, board: &Board) {
    let mut began = None;
    let mut said = false;
    while !host.is_stopping() {
        let restores: Vec<_> =
            board.tasks().values().flat_map(|task| task.restores.clone().into_values()).collect();
        if began.is_none() && !restores.is_empty() {
            began = Some(Instant::now());
        }
        if !said && board.is_ready() && !board.tasks().is_empty() {
            let records: u64 = restores.iter().map(|restore| restore.records).sum();
            let millis = began.map_or(0, |began: Instant| began.elapsed().as_millis());
            println!("restored {records} {millis}");
            println!("state RUNNING");
            said = true;
        }
        park_timeout(if said { Duration::from_millis(50) } else { LOOK });
    }
}

fn topology(task: Task, input: &str, output: &str) -> Arc<Topology> {
    let b = StreamsBuilder::new();
    let stream = b.stream(input, Consumed::with(bytes(), bytes()));
    let grouped = || stream.group_by_key(Grouped::with("by-key", bytes(), bytes()));
    match task {
        Task::Pass => stream.to(output, Produced::with(bytes(), bytes())),
        Task::Count => grouped()
            .count(Materialized::count("store"))
            .to_stream()
            .to(output, Produced::with(bytes(), optional(i64()))),
        Task::Window => {
            let size_ms = i64::try_from(WINDOW.as_millis()).expect("five minutes");
            grouped()
                .windowed_by(TimeWindows::tumbling(WINDOW, GRACE))
                .count(Materialized::count("store"))
                .to_stream()
                .to(output, Produced::with(time_windowed(bytes(), size_ms), optional(i64())));
        }
        Task::Latest => {
            grouped()
                .reduce(|_, now| now.clone(), Materialized::with("store", bytes()))
                .to_stream()
                .to(output, Produced::with(bytes(), optional(bytes())));
            // Tasks without a store, which run while the others are restored.
            let beside = b.stream("beside", Consumed::with(bytes(), bytes()));
            beside.to(&format!("{output}-beside"), Produced::with(bytes(), bytes()));
        }
    }
    b.build().expect("a sound topology")
}

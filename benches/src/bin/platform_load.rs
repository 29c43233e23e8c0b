//! The whole platform in one process on the embedded log at a steady rate of mixed input: what it
//! costs, how far it lags behind, how its memory grows, and whether anything was lost or done twice.
//! One JSON line; what it shows while it runs goes to standard error. The proof takes ten minutes on
//! two cores: `make bench BENCH=platform_load BENCH_ARGS="--seconds 600"`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its result")]

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use headwater::actor::{Bell, Poll, Ticket};
use headwater::config::{HostConfig, StreamsConfig};
use headwater::dsl::StreamsBuilder;
use headwater::log::embedded::EmbeddedLog;
use headwater::log::{Log, LogResult};
use headwater::record::{RecordBatch, RecordBatchBuilder, TopicPartition};
use headwater::runtime::{Application, Host};
use headwater_benches::platform::checker::check;
use headwater_benches::platform::gauge::{Counted, Lag, cpu_by_thread, cpu_of, resident_mib};
use headwater_benches::platform::traffic::{Mix, TOPICS, Traffic};
use headwater_topologies::agents::{Behaviour, Simulated};
use headwater_topologies::conventions;
use headwater_topologies::platform::applications;
use headwater_topologies::retry::policy::Policy;
use headwater_topologies::saga::Timing;
use headwater_topologies::workflow::WorkflowOptions;
use serde_json::json;

/// How often records are sent.
const TICK: Duration = Duration::from_millis(20);
/// How often the lag is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Appends that may wait for their sync.
const UNDER_WAY: usize = 256;
/// Nothing moves for so long: everything has come to its end.
const QUIET: Duration = Duration::from_secs(4);
/// How long that may take.
const DRAIN_MAX: Duration = Duration::from_secs(300);

const PROCESS: &str = "/proc/self/stat";
const THREAD: &str = "/proc/thread-self/stat";

/// Puts the platform under load.
#[derive(Parser)]
struct Arguments {
    /// Seconds of load.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Input events a second.
    #[arg(long, default_value_t = 10_000)]
    rate: u64,
    /// Of the traffic and of the agents.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Tasks among a thousand events.
    #[arg(long, default_value_t = 50)]
    tasks: u32,
    /// Commands to sessions among a thousand events.
    #[arg(long, default_value_t = 150)]
    commands: u32,
    /// Work items for the gates among a thousand events; the rest are metrics.
    #[arg(long, default_value_t = 100)]
    completions: u32,
    /// Where the log and the stores are kept; deleted at the end unless named here.
    #[arg(long)]
    dir: Option<PathBuf>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let scratch = tempfile::tempdir()?;
    let dir = arguments.dir.clone().unwrap_or_else(|| scratch.path().to_owned());
    let host = start(dir, arguments.seed)?;
    let log = Arc::clone(host.view().embedded.as_ref().expect("no cluster is named"));
    wait(&log.create_topics(conventions::catalogue()))?;
    while !host.view().is_ready() {
        sleep(LOOK);
    }
    let mut run = Run::new(&host, &log, &arguments);
    run.load(&arguments)?;
    run.drain()?;
    let hops = Counted::now(host.view()).by("stream_thread_process_total", "application");
    let mut line = run.report(&arguments, hops.values().sum());
    line["hops_by_application"] = json!(hops);
    eprintln!("checking");
    let verdict = check(&log, arguments.seed, &run.traffic.sent)?;
    let is_good = verdict.lost + verdict.doubled + verdict.wrong == 0;
    line["checked"] = json!(verdict);
    println!("{line}");
    drop(run);
    drop(log);
    host.stop();
    host.wait()?;
    if is_good { Ok(()) } else { Err("the checker has findings".into()) }
}

/// What the `platform` binary hosts, with simulated agents that fail now and then, never hang, and
/// refuse nothing.
fn start(dir: PathBuf, seed: u64) -> Result<Host, Box<dyn Error>> {
    let behaviour = Behaviour {
        seed,
        fastest_ms: 5,
        slowest_ms: 200,
        failures: 20,
        fatal: 2,
        hangs: 0,
        busy: 0,
        unwilling: 0,
        rejections: 30,
        poor: 10,
        ..Behaviour::default()
    };
    let saga = Timing { backoff_ms: 200, ..Timing::default() };
    let options = WorkflowOptions { saga, ..WorkflowOptions::default() };
    let (retries, mut hosted) = (Policy::default(), Vec::new());
    for application in applications(Arc::new(Simulated(behaviour)), options, retries) {
        let builder = StreamsBuilder::new();
        (application.topology)(&builder);
        let config = StreamsConfig::new(application.id);
        hosted.push(Application { topology: builder.build()?, config });
    }
    let config = HostConfig { state_dir: dir, http: None, ..HostConfig::default() };
    Ok(Host::start(config, hosted)?)
}

/// CPU used so far.
#[derive(Default)]
struct Cpu {
    of_all: Duration,
    of_load: Duration,
    of_threads: BTreeMap<String, Duration>,
}

impl Cpu {
    fn now() -> Self {
        Self { of_all: cpu_of(PROCESS), of_load: cpu_of(THREAD), of_threads: cpu_by_thread() }
    }
}

/// One run.
struct Run<'r> {
    host: &'r Host,
    log: &'r EmbeddedLog,
    traffic: Traffic,
    under_way: VecDeque<Ticket<LogResult<Vec<i64>>>>,
    lag: Lag,
    looked: Instant,
    took: Duration,
    resident: Vec<Option<u64>>,
    cores_used: f64,
    before: Cpu,
    /// When everything had come to its end.
    after: Cpu,
}

impl<'r> Run<'r> {
    fn new(host: &'r Host, log: &'r EmbeddedLog, arguments: &Arguments) -> Self {
        let Arguments { tasks, commands, completions, .. } = *arguments;
        Self {
            host,
            log,
            traffic: Traffic::new(arguments.seed, Mix { tasks, commands, completions }),
            under_way: VecDeque::new(),
            lag: Lag::default(),
            looked: Instant::now(),
            took: Duration::ZERO,
            resident: Vec::new(),
            cores_used: 0.0,
            before: Cpu::default(),
            after: Cpu::default(),
        }
    }

    fn load(&mut self, arguments: &Arguments) -> Result<(), Box<dyn Error>> {
        let total = arguments.seconds * arguments.rate;
        self.before = Cpu::now();
        let begin = Instant::now();
        let mut told = 0;
        while self.traffic.sent.events < total {
            let elapsed = begin.elapsed();
            let due = elapsed.as_micros() * u128::from(arguments.rate) / 1_000_000;
            let due = u64::try_from(due)?.min(total).saturating_sub(self.traffic.sent.events);
            // After a pause of the machine, what is due does not come all at once.
            self.send(due.min(arguments.rate / 10))?;
            self.look()?;
            let sent = self.traffic.sent.events;
            if [total / 10, total / 2, total].get(self.resident.len()).is_some_and(|n| sent >= *n) {
                self.resident.push(resident_mib());
            }
            if elapsed.as_secs() / 10 > told {
                told = elapsed.as_secs() / 10;
                let lag = self.lag.looks.last().copied().unwrap_or_default().as_millis();
                eprintln!("{} s: {sent} events, lag {lag} ms, {:?} MiB", told * 10, resident_mib());
            }
            sleep(TICK.saturating_sub(begin.elapsed() - elapsed));
        }
        self.took = begin.elapsed();
        self.cores_used = (cpu_of(PROCESS) - self.before.of_all).div_duration_f64(self.took);
        Ok(())
    }

    fn send(&mut self, events: u64) -> Result<(), Box<dyn Error>> {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
        let mut lanes: Vec<Vec<RecordBatchBuilder>> = Vec::new();
        for (_, partitions) in TOPICS {
            lanes.push((0..partitions).map(|_| RecordBatchBuilder::new()).collect());
        }
        for _ in 0..events {
            let input = self.traffic.next(now);
            let topic = TOPICS.iter().position(|(name, _)| *name == input.topic);
            let lane = &mut lanes[topic.expect("one of them")][usize::try_from(input.partition)?];
            let (key, value) = (Some(input.key.as_bytes()), Some(input.value.as_bytes()));
            lane.append(now, key, value, &input.headers)?;
        }
        let mut batches = Vec::new();
        for ((topic, _), lanes) in TOPICS.iter().zip(lanes) {
            for (partition, lane) in (0..).zip(lanes).filter(|(_, lane)| !lane.is_empty()) {
                let batch = RecordBatch::new(0, lane.finish())?;
                batches.push((TopicPartition::new(*topic, partition), batch));
            }
        }
        if !batches.is_empty() {
            self.under_way.push_back(self.log.append(&batches, Bell::new()));
        }
        while self.under_way.len() > UNDER_WAY {
            self.look()?;
            sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Takes answers of the log, and looks at the lag when it is time.
    fn look(&mut self) -> Result<(), Box<dyn Error>> {
        while let Some(ticket) = self.under_way.front() {
            match ticket.poll() {
                Poll::Pending => break,
                Poll::Done(answer) => drop(answer?),
                Poll::Abandoned => return Err("the log gave an append up".into()),
            }
            self.under_way.pop_front();
        }
        if self.looked.elapsed() >= LOOK {
            self.looked = Instant::now();
            self.lag.look(self.host.view(), self.log);
        }
        if !self.host.view().is_live() {
            let boards = self.host.view().applications.iter().map(|a| a.board().failure());
            return Err(format!("an application failed: {:?}", boards.collect::<Vec<_>>()).into());
        }
        Ok(())
    }

    /// Waits until every task has come to its end.
    fn drain(&mut self) -> Result<(), Box<dyn Error>> {
        let during_load = std::mem::take(&mut self.lag.looks);
        let worst = self.lag.worst.clone();
        let begin = Instant::now();
        let mut moved = (Instant::now(), 0);
        while !(self.under_way.is_empty() && self.lag.is_zero() && moved.0.elapsed() > QUIET) {
            if begin.elapsed() > DRAIN_MAX {
                return Err("the platform does not come to rest".into());
            }
            sleep(LOOK);
            self.look()?;
            let counted = Counted::now(self.host.view());
            let hops = counted.by("stream_thread_process_total", "application").values().sum();
            if hops != moved.1 {
                moved = (Instant::now(), hops);
                self.after = Cpu::now();
            }
        }
        (self.lag.looks, self.lag.worst) = (during_load, worst);
        Ok(())
    }

    fn report(&self, arguments: &Arguments, hops: u64) -> serde_json::Value {
        let sent = &self.traffic.sent;
        let events = sent.events as f64;
        let counted = Counted::now(self.host.view());
        let latency = "stream_thread_process_latency_seconds";
        let at_most = |q| counted.quantiles(latency, q).get("").map(|bound| bound * 1e3);
        let per_event = |before: Duration, after: Duration| {
            (after.saturating_sub(before).as_micros() as f64 / events * 10.0).round() / 10.0
        };
        let all = per_event(self.before.of_all, self.after.of_all);
        let load = per_event(self.before.of_load, self.after.of_load);
        let mut threads = BTreeMap::new();
        for (name, after) in &self.after.of_threads {
            let before = self.before.of_threads.get(name).copied().unwrap_or_default();
            threads.insert(name, per_event(before, *after));
        }
        threads.retain(|_, cpu| *cpu >= 0.5);
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        json!({
            "bench": "platform_load",
            "seconds": arguments.seconds,
            "input_events_per_s": (events / self.took.as_secs_f64()).round(),
            "mix": {
                "tasks": sent.tasks, "session_commands": sent.commands.len(),
                "work_items_for_gates": sent.completions.len(), "metrics": sent.metrics,
            },
            "hops": hops,
            "hops_per_event": (hops as f64 / events * 100.0).round() / 100.0,
            "cpu_us_per_event": {
                "platform": ((all - load) * 10.0).round() / 10.0, "load": load, "threads": threads,
            },
            "cores_used": (self.cores_used * 100.0).round() / 100.0,
            "lag_max_ms": ms(self.lag.worst.0).round(),
            "lag_max_of": self.lag.worst.1,
            "lag_p99_ms": ms(self.lag.quantile(990)).round(),
            "processing_p50_ms_at_most": at_most(0.5),
            "processing_p99_ms_at_most": at_most(0.99),
            "processing_p99_s_at_most_by_application": counted.quantiles(latency, 0.99),
            "resident_mib_at_10_50_100_percent": self.resident,
        })
    }
}

fn wait<T>(ticket: &Ticket<LogResult<T>>) -> LogResult<T> {
    loop {
        match ticket.poll() {
            Poll::Done(answer) => return answer,
            Poll::Pending => sleep(Duration::from_millis(1)),
            Poll::Abandoned => panic!("the log gave the call up"),
        }
    }
}

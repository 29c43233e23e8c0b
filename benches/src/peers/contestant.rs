//! A contestant: one of the two engines as a child process, and what the system says of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use headwater_tests::child::Child;
use headwater_tests::kafka_broker::KafkaBroker;

use super::Task;

const STOPS_WITHIN: Duration = Duration::from_secs(60);

/// Which engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// This project.
    Headwater,
    /// Kafka Streams, by this class path.
    KafkaStreams(String),
}

impl Kind {
    /// Its name in results, and in topics and groups.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Headwater => "headwater",
            Kind::KafkaStreams(_) => "kafka-streams",
        }
    }
}

/// What a contestant runs.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Which engine.
    pub kind: Kind,
    /// What it runs.
    pub task: Task,
    /// Topic read.
    pub input: String,
    /// Stream threads.
    pub threads: usize,
    /// Heap of the Java side in MiB.
    pub heap_mib: u32,
    /// Holds the state directory.
    pub folder: PathBuf,
}

impl Setup {
    /// The application id, which is also the output topic.
    #[must_use]
    pub fn application(&self) -> String {
        format!("{}-{}", self.kind.name(), self.task.name())
    }

    /// Where its state is.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.join(self.application())
    }

    fn command(&self, broker: &KafkaBroker) -> Command {
        let (threads, application) = (self.threads.to_string(), self.application());
        let brokers = broker.address();
        match &self.kind {
            Kind::Headwater => {
                let own = std::env::current_exe().expect("this program has a path");
                let mut command = Command::new(own);
                command.arg("engine").args(["--task", self.task.name(), "--threads", &threads]);
                command.args(["--brokers", &brokers, "--application", &application]);
                command.args(["--input", &self.input, "--output", &application, "--state"]);
                command.arg(self.state());
                command
            }
            Kind::KafkaStreams(class_path) => {
                let mut command = Command::new("java");
                command.arg(format!("-Xmx{}m", self.heap_mib));
                command.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn");
                command.args(["-cp", class_path, "Peer", &brokers, &application]);
                command.args([self.task.name(), &self.input, &application]);
                command.arg(self.state()).arg(&threads);
                command
            }
        }
    }
}

/// What the system says of a process at one time.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Since the process was started.
    pub wall: Duration,
    /// Processor time so far.
    pub processor: Duration,
    /// Resident memory in MiB, and the most there was.
    pub resident_mib: (u64, u64),
}

/// A running contestant.
#[derive(Debug)]
pub struct Contestant {
    child: Child,
    started: Instant,
}

impl Contestant {
    /// Starts the process.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(setup: &Setup, broker: &KafkaBroker) -> Self {
        let started = Instant::now();
        Self { child: Child::start(setup.kind.name(), &setup.command(broker)), started }
    }

    /// What the system says of it now.
    ///
    /// # Panics
    /// When it is gone.
    #[must_use]
    pub fn sample(&self) -> Sample {
        let of = |file: &str| {
            let path = Path::new("/proc").join(self.child.pid().to_string()).join(file);
            fs::read_to_string(path).unwrap_or_else(|_| {
                panic!("the contestant ended; its log ends:\n{}", self.child.log_tail())
            })
        };
        let status = of("status");
        let mib = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name));
            let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
            kib.unwrap_or(0) / 1024
        };
        // Hundredths of a second in user and system mode, counted after the name in brackets.
        let stat = of("stat");
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ');
        let ticks: u64 = fields.skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
        Sample {
            wall: self.started.elapsed(),
            processor: Duration::from_millis(ticks * 10),
            resident_mib: (mib("VmRSS"), mib("VmHWM")),
        }
    }

    /// Waits until it runs; gives the records that it restored before, and in what time.
    ///
    /// # Panics
    /// When it ends or takes longer.
    pub fn restored(&mut self, within: Duration) -> (u64, Duration) {
        let mut last = (0, 0);
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let wanted = |line: &str| line.starts_with("restored ") || line == "state RUNNING";
            let line = self.child.wait_for_line(left, wanted);
            if line == "state RUNNING" {
                return (last.0, Duration::from_millis(last.1));
            }
            let mut numbers = line.split(' ').skip(1).filter_map(|n| n.parse::<u64>().ok());
            last = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        }
    }

    /// kill -9.
    pub fn kill(self) {
        self.child.kill();
    }

    /// SIGTERM, and waits.
    ///
    /// # Panics
    /// When it does not stop.
    pub fn stop(self) {
        let _status = self.child.terminate(STOPS_WITHIN);
    }
}

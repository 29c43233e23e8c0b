//! What a loaded process is measured by: its lag, its memory, its CPU, its engine's own figures.
//!
//! Owns the measuring. It must not know the platform: applications and topics are what the host
//! says they are.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::time::{Duration, Instant};

use headwater::log::embedded::EmbeddedLog;
use headwater::record::TopicPartition;
use headwater::runtime::HostView;

/// CPU of this process or of this thread, from the kernel's clock of 10 ms.
pub fn cpu_of(path: &str) -> Duration {
    let text = fs::read_to_string(path).unwrap_or_default();
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// CPU of all threads that run now, by name.
pub fn cpu_by_thread() -> BTreeMap<String, Duration> {
    let mut threads = BTreeMap::new();
    for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let stat = task.path().join("stat");
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let cpu = cpu_of(&stat.to_string_lossy());
        *threads.entry(name.trim().to_owned()).or_insert(Duration::ZERO) += cpu;
    }
    threads
}

/// Resident memory of this process.
pub fn resident_mib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}

/// How long records wait until whoever reads them has committed, internal hops included: for each
/// application and input partition, the age of the oldest end of the partition that it has not
/// committed yet.
#[derive(Debug, Default)]
pub struct Lag {
    flows: BTreeMap<(usize, TopicPartition), VecDeque<(Instant, i64)>>,
    /// The largest lag of each look.
    pub looks: Vec<Duration>,
    /// The largest of all, and whose it was.
    pub worst: (Duration, String),
}

impl Lag {
    /// Looks once.
    pub fn look(&mut self, view: &HostView, log: &EmbeddedLog) {
        let now = Instant::now();
        let mut largest = Duration::ZERO;
        for (index, application) in view.applications.iter().enumerate() {
            let tasks = application.board().tasks();
            for (partition, committed) in tasks.into_values().flat_map(|task| task.committed) {
                let Ok(end) = log.synced_end(&partition) else { continue };
                let seen = self.flows.entry((index, partition.clone())).or_default();
                if seen.back().is_none_or(|(_, last)| *last < end) {
                    seen.push_back((now, end));
                }
                while seen.front().is_some_and(|(_, end)| *end <= committed) {
                    seen.pop_front();
                }
                let lag = seen.front().map_or(Duration::ZERO, |(since, _)| now - *since);
                if lag > self.worst.0 {
                    self.worst = (lag, format!("{} of {partition}", application.application()));
                }
                largest = largest.max(lag);
            }
        }
        self.looks.push(largest);
    }

    /// Nothing waits.
    pub fn is_zero(&self) -> bool {
        self.flows.values().all(VecDeque::is_empty)
    }

    /// What `thousandths` of all looks stayed below.
    pub fn quantile(&self, thousandths: usize) -> Duration {
        let mut sorted = self.looks.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * thousandths / 1_000).min(sorted.len().saturating_sub(1));
        sorted.get(at).copied().unwrap_or_default()
    }
}

/// The engine's metrics at one moment, as its text form says them.
#[derive(Debug)]
pub struct Counted(String);

impl Counted {
    /// Now.
    pub fn now(view: &HostView) -> Self {
        Self(view.metrics.text())
    }

    /// The sum of a family's counters by the value of a label.
    pub fn by(&self, family: &str, label: &str) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for (labels, value) in self.lines(family) {
            let Some(name) = value_of(labels, label) else { continue };
            *sums.entry(name.to_owned()).or_default() += value;
        }
        sums
    }

    /// The bounds of a histogram's buckets that hold a quantile, by application; those of all
    /// together under no name.
    pub fn quantiles(&self, family: &str, q: f64) -> BTreeMap<String, f64> {
        let mut buckets: BTreeMap<String, BTreeMap<u64, u64>> = BTreeMap::new();
        for (labels, value) in self.lines(&format!("{family}_bucket")) {
            let Some(bound) = value_of(labels, "le") else { continue };
            let bound = bound.parse().unwrap_or(f64::INFINITY).to_bits();
            for name in [value_of(labels, "application").unwrap_or_default(), ""] {
                *buckets.entry(name.to_owned()).or_default().entry(bound).or_default() += value;
            }
        }
        let mut found = BTreeMap::new();
        for (name, counts) in buckets {
            // The bits of positive doubles sort as the doubles do.
            let total = counts.values().max().copied().unwrap_or(0) as f64;
            let bound = counts.iter().find(|(_, count)| **count as f64 >= total * q);
            found.insert(name, f64::from_bits(*bound.map_or(&0, |(bound, _)| bound)));
        }
        found
    }

    fn lines<'c>(&'c self, family: &str) -> impl Iterator<Item = (&'c str, u64)> {
        let head = format!("{family}{{");
        self.0.lines().filter_map(move |line| {
            let (labels, value) = line.strip_prefix(&head)?.rsplit_once("} ")?;
            Some((labels, value.parse().ok()?))
        })
    }
}

fn value_of<'l>(labels: &'l str, label: &str) -> Option<&'l str> {
    labels.split(',').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (name == label).then(|| value.trim_matches('"'))
    })
}

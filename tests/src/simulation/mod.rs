//! Simulated runs of the whole runtime: two processes of two stream threads each under a simulated
//! group coordinator, on a simulated cluster, with kills, power losses, zombies, rebalances and a
//! rough network drawn from the seed. What must come of it is recomputed by [`oracle`].
//!
//! The phases of a run: fill the table; then orders arrive while everything goes wrong; then all
//! faults end and the input is drained; then everything is compared; then both processes stop.

pub mod oracle;
mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use headwater::actor::Actor;
use headwater::config::StreamsConfig;
use headwater::log::OffsetQuery;
use headwater::log::sim::{Process, SimCluster, SimConfig, SimFaults};
use headwater::log::{Cleanup, TopicSpec};
use headwater::membership::Membership;
use headwater::membership::sim::{SimGroup, SimGroupConfig};
use headwater::metrics::Metrics;
use headwater::record::TopicPartition;
use headwater::runtime::{StateHome, Streams, StreamsParts, StreamsState};
use headwater::testing::simulator::{SimulationError, Simulator};
use headwater::time::Clock;
use headwater_state::database::memory::{Fault, MemoryDisk};
use headwater_state::directory::{Identity, StateDirectory, Storage};
use headwater_state::error::Mode;
use headwater_state::lease::Leases;

use self::workload::{HOMES, ORDERS, PARTITIONS, REPARTITION, TOTALS_CHANGELOG, Workload};

/// The application id.
pub const APPLICATION: &str = "sim";
const INSTANCES: [&str; 2] = ["a", "b"];
const START_MS: i64 = 1_700_000_000_000;
/// Steps after which a run that makes no end is a failure.
const STEPS_MAX: u64 = 3_000_000;
/// The only failure that a rough cluster may cause: it fenced one id too often.
const TAKEN_OVER: &str = "was taken over";

/// What a clean run was like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// The hash of everything that happened.
    pub trace: u64,
    /// Steps of actors.
    pub steps: u64,
    /// What was done to it, and the faults it met, by name.
    pub met: BTreeMap<String, u64>,
}

/// Runs one seed.
///
/// # Errors
/// What is wrong, with the seed and the newest events.
pub fn run(seed: u64) -> Result<Summary, String> {
    let mut run = Run::new(seed);
    let outcome = catch_unwind(AssertUnwindSafe(|| run.all()));
    let error = match outcome {
        Ok(Ok(())) => return Ok(run.summary()),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?");
            format!("seed {seed}: panicked: {text}")
        }
    };
    let mut story: Vec<String> = vec![error];
    let cluster = run.cluster.trace();
    let group = run.group.trace();
    for (name, events) in [
        ("processes", run.simulator.recent().collect::<Vec<_>>()),
        ("group", group.recent().collect()),
        ("cluster", cluster.recent().collect()),
    ] {
        let newest = events.len().saturating_sub(60);
        story.extend(events[newest..].iter().map(|event| format!("  {name}: {event}")));
    }
    Err(story.join("\n"))
}

type Handles = Arc<Mutex<BTreeMap<String, Streams>>>;

struct Run {
    simulator: Simulator,
    cluster: SimCluster,
    group: SimGroup,
    handles: Handles,
    workload: Workload,
    faults: SimFaults,
    met: BTreeMap<String, u64>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut simulator = Simulator::new(seed, START_MS);
        let faults = match seed % 4 {
            0 => SimFaults::default(),
            1 => SimFaults { delay_ms: (0, 30), short_fetch: 200, ..SimFaults::default() },
            _ => SimFaults { expire: 1, ..SimFaults::rough() },
        };
        let cluster = SimCluster::new(SimConfig {
            faults,
            transaction_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_millis(300),
            ..SimConfig::calm(seed)
        });
        for topic in workload::topics() {
            let cleanup = Cleanup::Delete { retention: None };
            cluster.create_topic(TopicSpec { name: topic.into(), partitions: PARTITIONS, cleanup });
        }
        let config = SimGroupConfig {
            seed,
            session_timeout: Duration::from_secs(1),
            rebalance_ms: (!seed.is_multiple_of(3)).then_some((200, 3_000)),
        };
        let group = SimGroup::new(APPLICATION, cluster.clone(), config);
        simulator.add(Box::new(cluster.clone()));
        simulator.add(Box::new(group.clone()));
        let workload = Workload::new(seed, START_MS);
        let (handles, met) = (Handles::default(), BTreeMap::new());
        Self { simulator, cluster, group, handles, workload, faults, met }
    }

    fn all(&mut self) -> Result<(), SimulationError> {
        for (partition, records) in self.workload.homes() {
            self.cluster.append(&partition, &records);
        }
        INSTANCES.iter().for_each(|name| self.start(name));
        self.until("the table is read", |run| run.is_drained(&[HOMES]))?;
        self.trouble()?;
        self.heal();
        self.until("everything is drained", |run| run.is_drained(&[HOMES, ORDERS, REPARTITION]))?;
        self.rest(Duration::from_secs(1))?;
        self.until("every task runs", Self::is_running)?;
        let stores = self.stores();
        let wrong = oracle::compare(&self.workload.orders, &self.cluster, &stores);
        if let Some(first) = wrong.first() {
            let message = format!("{} differences, first: {first}", wrong.len());
            return Err(self.simulator.error(&message));
        }
        self.stop()
    }

    fn summary(&self) -> Summary {
        let mut met = self.met.clone();
        met.extend(self.cluster.faults_met().into_iter().map(|(f, n)| (f.to_owned(), n)));
        let hashes =
            [self.simulator.trace_hash(), self.cluster.trace().hash(), self.group.trace().hash()];
        let trace = hashes.iter().fold(0, |all: u64, hash| all.rotate_left(21) ^ hash);
        Summary { trace, steps: self.simulator.steps(), met }
    }

    // ---- processes -----------------------------------------------------------------------------

    fn start(&mut self, name: &str) {
        let (cluster, group) = (self.cluster.clone(), self.group.clone());
        let handles = Arc::clone(&self.handles);
        // An operator frees the disk before he starts the process again.
        if self.handles.lock().expect("one thread").contains_key(name) {
            self.simulator.disk(name).faults().heal();
        }
        self.simulator.start(name, |process, disk| {
            let (streams, actors) = boot(process, disk, &cluster, &group);
            let mut handles = handles.lock().expect("one thread");
            handles.insert(process.name().to_string(), streams);
            actors
        });
    }

    /// A process that gave up because the cluster fenced it too often is killed, to be started
    /// again as an operator would; any other failure fails the run.
    fn look_after_failures(&mut self) -> Result<(), SimulationError> {
        for name in INSTANCES {
            if !self.simulator.is_alive(name) {
                continue;
            }
            let failure = self.handles.lock().expect("one thread")[name].board().failure();
            let Some(why) = failure else { continue };
            if !why.contains(TAKEN_OVER) {
                return Err(self.simulator.error(&format!("{name} failed: {why}")));
            }
            self.did("gave up");
            self.simulator.kill(name);
            self.start(name);
        }
        Ok(())
    }

    fn did(&mut self, what: &str) {
        *self.met.entry(what.to_owned()).or_default() += 1;
    }

    // ---- trouble -------------------------------------------------------------------------------

    /// Orders arrive, and between any two steps something goes wrong.
    fn trouble(&mut self) -> Result<(), SimulationError> {
        let mut more = self.simulator.draw(10..25);
        while more > 0 || self.workload.has_more() {
            for _ in 0..self.simulator.draw(1..1_500) {
                if !INSTANCES.iter().any(|name| self.simulator.is_running(name)) {
                    break;
                }
                self.simulator.step()?;
            }
            self.look_after_failures()?;
            more = more.saturating_sub(1);
            let name = INSTANCES[if self.simulator.draw(0..2) == 0 { 0 } else { 1 }];
            match self.simulator.draw(0..14) {
                0..=4 => self.append(),
                5 | 6 if self.simulator.is_alive(name) => {
                    self.did("kill");
                    self.simulator.kill(name);
                }
                7 if self.simulator.is_alive(name) => {
                    self.did("power loss");
                    self.simulator.lose_power(name);
                }
                5..=7 => self.start(name),
                8 if self.simulator.is_running(name) => {
                    self.did("pause");
                    self.simulator.pause(name);
                }
                8 | 9 if self.simulator.is_alive(name) => self.simulator.resume(name),
                8 | 9 => self.start(name),
                10 => {
                    self.did("rebalance");
                    self.group.rebalance();
                }
                11 => self.compact(),
                12 => {
                    self.did("disk full");
                    self.simulator.disk(name).faults().fail_writes(Some(Fault::Full));
                }
                _ => self.simulator.disk(name).faults().heal(),
            }
        }
        Ok(())
    }

    fn append(&mut self) {
        if let Some((partition, records)) = self.workload.next_orders() {
            self.did("append");
            self.cluster.append(&partition, &records);
        }
    }

    fn compact(&mut self) {
        let exists = |t: &TopicSpec| *t.name == *TOTALS_CHANGELOG;
        if self.cluster.topics().iter().any(exists) {
            self.did("compaction");
            self.cluster.compact(TOTALS_CHANGELOG);
        }
    }

    fn heal(&mut self) {
        self.simulator.note(format_args!("all faults end"));
        self.cluster
            .set_faults(SimFaults { delay_ms: self.faults.delay_ms, ..SimFaults::default() });
        self.group.calm_down();
        for name in INSTANCES {
            self.simulator.disk(name).faults().heal();
            match self.simulator.is_alive(name) {
                true => self.simulator.resume(name),
                false => self.start(name),
            }
        }
    }

    // ---- the end -------------------------------------------------------------------------------

    fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) -> Result<(), SimulationError> {
        let last = self.simulator.steps() + STEPS_MAX;
        while self.simulator.steps() < last {
            if done(self) {
                return Ok(());
            }
            for _ in 0..200 {
                match self.simulator.step() {
                    Ok(()) => {}
                    // Everybody may have ended in between.
                    Err(_) if done(self) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            self.look_after_failures()?;
        }
        Err(self.simulator.error(&format!("not so after {STEPS_MAX} more steps: {what}")))
    }

    fn rest(&mut self, time: Duration) -> Result<(), SimulationError> {
        let until = self.simulator.clock().now().monotonic + time;
        self.until("time passes", |run| run.simulator.clock().now().monotonic >= until)
    }

    /// Every committed record of these topics is behind the group's committed offset.
    fn is_drained(&self, topics: &[&str]) -> bool {
        let exist: BTreeSet<_> = self.cluster.topics().into_iter().map(|t| t.name).collect();
        let drained = |topic: &str| {
            let records = self.cluster.committed_records(topic);
            (0..PARTITIONS).zip(records).all(|(partition, records)| {
                let of = TopicPartition::new(topic, partition);
                let committed = self.cluster.committed_offset(APPLICATION, &of);
                let committed = committed.map_or(0, |offset| offset.next_offset);
                records.last().is_none_or(|record| record.offset < committed)
            })
        };
        self.cluster.is_settled() && topics.iter().all(|t| exist.contains(*t) && drained(t))
    }

    /// Every task of the group runs on exactly one process.
    fn is_running(&self) -> bool {
        let handles = self.handles.lock().expect("one thread");
        let tasks: usize = handles.values().map(|streams| streams.board().tasks().len()).sum();
        let all: usize = self.group.assignment().values().map(BTreeSet::len).sum();
        tasks == all && handles.values().all(|streams| streams.board().is_ready())
    }

    /// The rows of every store, by store and partition, from whoever owns it now.
    fn stores(&self) -> oracle::Stores {
        let mut stores = oracle::Stores::default();
        for streams in self.handles.lock().expect("one thread").values() {
            for name in streams.board().stores() {
                for handle in streams.board().store(&name) {
                    let rows = oracle::rows(&*handle.database, &handle.family, handle.partition);
                    stores.entry((name.to_string(), handle.partition)).or_default().push(rows);
                }
            }
        }
        stores
    }

    fn stop(&mut self) -> Result<(), SimulationError> {
        let ends = |run: &Self| {
            let of = |topic| (0..PARTITIONS).map(move |p| TopicPartition::new(topic, p));
            let ends = workload::topics().into_iter().flat_map(of);
            let records = ends.map(|p| run.cluster.offset(&p, OffsetQuery::LastStable));
            records.collect::<Vec<_>>()
        };
        let before = ends(self);
        self.handles.lock().expect("one thread").values().for_each(Streams::stop);
        self.until("both have stopped", |run| {
            INSTANCES.iter().all(|name| run.simulator.has_ended(name))
        })?;
        let states: Vec<_> =
            self.handles.lock().expect("one thread").values().map(Streams::state).collect();
        if states.iter().any(|state| *state != StreamsState::NotRunning) || ends(self) != before {
            let message = format!("stopping: {states:?}, or something was written after the end");
            return Err(self.simulator.error(&message));
        }
        Ok(())
    }
}

/// One process: the application on its disk.
fn boot(
    process: &Process,
    disk: &MemoryDisk,
    cluster: &SimCluster,
    group: &SimGroup,
) -> (Streams, Vec<Box<dyn Actor>>) {
    let config = StreamsConfig {
        threads: 2,
        commit_interval: Duration::from_millis(30),
        records_per_turn: 3,
        ..StreamsConfig::new(APPLICATION)
    };
    let identity = Identity {
        mode: Mode::Kafka,
        applications: BTreeSet::from([APPLICATION.to_owned()]),
        cluster: None,
    };
    let directory = StateDirectory::open(Storage::Memory(disk.clone()), identity);
    let directory = Arc::new(directory.expect("the lock died with the process before"));
    let (member, of) = (group.clone(), process.clone());
    Streams::build(StreamsParts {
        topology: workload::topology(),
        config,
        instance: process.name().to_string(),
        log: Arc::new(cluster.connect(process)),
        home: StateHome::PerTask(directory),
        leases: Leases::new(),
        join: Box::new(move |space| Ok(Box::new(member.member(&of, space)) as Box<dyn Membership>)),
        metrics: Metrics::new(),
        overlay_bytes: 1 << 20,
        queue_bytes: 1 << 20,
        create_topics: None,
    })
    .expect("the configuration is valid")
}

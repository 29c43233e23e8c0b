//! One simulated run, from the start of both processes to their end. Owns the processes, what they
//! run on and what has arrived; what goes wrong is `trouble`'s.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use headwater_state::database::memory::MemoryDisk;
use headwater_state::directory::{Identity, StateDirectory, Storage};
use headwater_state::error::Mode;
use headwater_state::lease::Leases;

use super::inputs::{Input, Inputs, batches};
use super::matrix::{FaultMatrix, START};
use super::outcome::Outcome;
use super::prefix::{self, Prefixes, StoreRows};
use super::{Simulation, SimulationFailure, SimulationReport};
use crate::actor::Actor;
use crate::config::StreamsConfig;
use crate::log::sim::{Process, SimCluster, SimConfig, SimFaults};
use crate::log::{Cleanup, OffsetQuery, TopicSpec};
use crate::membership::Membership;
use crate::membership::sim::{SimGroup, SimGroupConfig};
use crate::metrics::Metrics;
use crate::record::TopicPartition;
use crate::runtime::committer::Phase;
use crate::runtime::{StateHome, Streams, StreamsParts, StreamsState, external_topics};
use crate::testing::simulator::{SimulationError, Simulator};
use crate::time::Clock;

pub(super) const INSTANCES: [&str; 2] = ["a", "b"];
const START_MS: i64 = 1_700_000_000_000;
/// Steps after which a run that makes no end is a failure.
const STEPS_MAX: u64 = 3_000_000;
/// The only failure that a rough cluster may cause: it fenced one id too often.
const TAKEN_OVER: &str = "was taken over";
/// Of each trace, how many events a failure shows.
const EVENTS_SHOWN: usize = 60;

pub(super) type Outcomes = Result<(), SimulationError>;

/// Runs one seed.
pub(super) fn run(setup: &Simulation, seed: u64) -> Result<SimulationReport, SimulationFailure> {
    let mut run = Run::new(setup, seed);
    let message = match catch_unwind(AssertUnwindSafe(|| run.all())) {
        Ok(Ok(())) => return Ok(run.report()),
        Ok(Err(error)) => format!("step {}: {}", error.step, error.message),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?");
            format!("panicked: {text}")
        }
    };
    Err(SimulationFailure { seed, message, trace: run.story() })
}

type Handles = Arc<Mutex<BTreeMap<String, Streams>>>;

pub(super) struct Run<'s> {
    pub(super) setup: &'s Simulation,
    pub(super) seed: u64,
    pub(super) simulator: Simulator,
    pub(super) cluster: SimCluster,
    pub(super) group: SimGroup,
    handles: Handles,
    stages: VecDeque<VecDeque<Input>>,
    arrived: Vec<Input>,
    pub(super) prefixes: Prefixes,
    pub(super) faults: SimFaults,
    pub(super) wall: Wall,
    pub(super) met: BTreeMap<String, u64>,
    pub(super) matrix: FaultMatrix,
}

/// How far the wall clock is from where it would be undisturbed, in milliseconds.
#[derive(Default)]
pub(super) struct Wall {
    ahead: i64,
    furthest: i64,
}

impl Wall {
    pub(super) fn jumps(&mut self, by: i64) {
        self.ahead += by;
        self.furthest = self.furthest.max(self.ahead);
    }

    /// The jump to the latest time that it has ever shown: what was due soon then is due soon now,
    /// and not while the run ends.
    fn catch_up(&mut self) -> i64 {
        let by = self.furthest - self.ahead;
        self.jumps(by);
        by
    }
}

impl<'s> Run<'s> {
    fn new(setup: &'s Simulation, seed: u64) -> Self {
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
            call_deadline: Duration::from_secs(4),
            ..SimConfig::calm(seed)
        });
        for name in external_topics(&setup.topology, &setup.name).all() {
            let cleanup = Cleanup::Delete { retention: None };
            cluster.create_topic(TopicSpec { name, partitions: setup.partitions, cleanup });
        }
        let config = SimGroupConfig {
            seed,
            session_timeout: Duration::from_secs(1),
            rebalance_ms: (!seed.is_multiple_of(3)).then_some((200, 3_000)),
        };
        let group = SimGroup::new(setup.name.as_str(), cluster.clone(), config);
        simulator.add(Box::new(cluster.clone()));
        simulator.add(Box::new(group.clone()));
        let mut inputs = Inputs::new(seed, setup.partitions);
        (setup.inputs)(&mut inputs);
        let stages = inputs.stages().into_iter().map(VecDeque::from).collect();
        Self {
            setup,
            seed,
            simulator,
            cluster,
            group,
            handles: Handles::default(),
            stages,
            arrived: Vec::new(),
            prefixes: Prefixes::default(),
            faults,
            wall: Wall::default(),
            met: BTreeMap::new(),
            matrix: FaultMatrix::new(&setup.name),
        }
    }

    fn all(&mut self) -> Outcomes {
        INSTANCES.iter().for_each(|name| self.start(name));
        while let Some(stage) = self.stages.front() {
            // Only the last stage meets trouble: those before it prepare it.
            if self.stages.len() > 1 {
                let most = stage.len();
                self.append(most);
            } else {
                self.trouble()?;
                self.heal();
            }
            self.stages.pop_front();
            self.until("everything is processed", Self::is_drained)?;
        }
        self.rest(Duration::from_secs(1))?;
        self.until("every task runs", Self::is_running)?;
        self.until_quiet()?;
        self.check()?;
        self.stop()
    }

    fn report(&self) -> SimulationReport {
        let (mut met, mut matrix) = (self.met.clone(), self.matrix.clone());
        for ((fault, request), times) in self.cluster.faults_met() {
            *met.entry(fault.to_owned()).or_default() += times;
            if let Some(step) = FaultMatrix::step_of(request) {
                matrix.count(&self.setup.name, fault, step, times);
            }
        }
        let hashes =
            [self.simulator.trace_hash(), self.cluster.trace().hash(), self.group.trace().hash()];
        let trace = hashes.iter().fold(0, |all: u64, hash| all.rotate_left(21) ^ hash);
        SimulationReport { seeds: 1, steps: self.simulator.steps(), trace, met, matrix }
    }

    /// The newest events.
    fn story(&self) -> Vec<String> {
        let (cluster, group) = (self.cluster.trace(), self.group.trace());
        let traces: [(&str, Vec<&str>); 3] = [
            ("processes", self.simulator.recent().collect()),
            ("group", group.recent().collect()),
            ("cluster", cluster.recent().collect()),
        ];
        let newest = |(name, events): &(&str, Vec<&str>)| {
            let from = events.len().saturating_sub(EVENTS_SHOWN);
            events[from..].iter().map(|event| format!("{name}: {event}")).collect::<Vec<_>>()
        };
        traces.iter().flat_map(newest).collect()
    }

    // ---- processes -----------------------------------------------------------------------------

    fn handles(&self) -> MutexGuard<'_, BTreeMap<String, Streams>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn start(&mut self, name: &str) {
        // An operator frees the disk before he starts the process again.
        let again = self.handles().contains_key(name);
        if again {
            self.did(START, INSTANCES.iter().find(|other| **other != name).copied());
            self.simulator.disk(name).faults().heal();
        }
        let (setup, seed) = (self.setup, self.seed);
        let (cluster, group) = (self.cluster.clone(), self.group.clone());
        let handles = Arc::clone(&self.handles);
        self.simulator.start(name, |process, disk| {
            let (streams, actors) = boot(setup, seed, process, disk, &cluster, &group);
            let mut handles = handles.lock().unwrap_or_else(PoisonError::into_inner);
            handles.insert(process.name().to_string(), streams);
            actors
        });
    }

    /// A process that gave up because the cluster fenced it too often is killed, to be started
    /// again as an operator would; any other failure fails the run. At every moment its stores are
    /// prefixes of their changelogs.
    pub(super) fn look_after(&mut self) -> Outcomes {
        for name in INSTANCES {
            if !self.simulator.is_alive(name) {
                continue;
            }
            let board = self.handles()[name].board().clone();
            let checked = self.prefixes.check(name, &self.setup.name, &board, &self.cluster);
            checked.map_err(|wrong| self.simulator.error(&wrong))?;
            let Some(why) = board.failure() else { continue };
            if !why.contains(TAKEN_OVER) {
                return Err(self.simulator.error(&format!("{name} failed: {why}")));
            }
            self.did("gave up", None);
            self.simulator.kill(name);
            self.start(name);
        }
        Ok(())
    }

    /// One step. Where none is possible, the failure of a process says why.
    pub(super) fn step(&mut self) -> Outcomes {
        let stepped = self.simulator.step();
        if stepped.is_err() {
            self.look_after()?;
        }
        stepped
    }

    /// Counts what is done to a process, on the steps of a commit that its threads are at.
    pub(super) fn did(&mut self, what: &str, to: Option<&str>) {
        *self.met.entry(what.to_owned()).or_default() += 1;
        for step in to.map(|name| self.phases(name)).unwrap_or_default() {
            self.matrix.count(&self.setup.name, what, step, 1);
        }
    }

    /// Where the committers of a process stand; none if it is dead.
    pub(super) fn phases(&self, name: &str) -> Vec<Phase> {
        let alive = self.simulator.is_alive(name);
        let handles = self.handles();
        let streams = handles.get(name).filter(|_| alive);
        streams.map(|s| s.board().phases().into_values().collect()).unwrap_or_default()
    }

    // ---- what arrives --------------------------------------------------------------------------

    pub(super) fn has_more(&self) -> bool {
        self.stages.front().is_some_and(|stage| !stage.is_empty())
    }

    /// The next few records arrive.
    pub(super) fn append(&mut self, most: usize) {
        let Some(stage) = self.stages.front_mut() else { return };
        let some: Vec<Input> = stage.drain(..most.min(stage.len())).collect();
        for (to, batch) in batches(&some) {
            self.cluster.append(&to, &batch);
        }
        self.arrived.extend(some);
    }

    // ---- the end -------------------------------------------------------------------------------

    fn heal(&mut self) {
        self.simulator.note(format_args!("all faults end"));
        self.cluster
            .set_faults(SimFaults { delay_ms: self.faults.delay_ms, ..SimFaults::default() });
        self.group.calm_down();
        self.simulator.clock().jump_wall(self.wall.catch_up());
        for name in INSTANCES {
            self.simulator.disk(name).faults().heal();
            match self.simulator.is_alive(name) {
                true => self.simulator.resume(name),
                false => self.start(name),
            }
        }
    }

    fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) -> Outcomes {
        let last = self.simulator.steps() + STEPS_MAX;
        while self.simulator.steps() < last {
            if done(self) {
                return Ok(());
            }
            for _ in 0..200 {
                match self.step() {
                    Ok(()) => {}
                    // Everybody may have ended in between.
                    Err(_) if done(self) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            self.look_after()?;
        }
        Err(self.simulator.error(&format!("not so after {STEPS_MAX} more steps: {what}")))
    }

    fn rest(&mut self, time: Duration) -> Outcomes {
        let until = self.simulator.clock().now().monotonic + time;
        self.until("time passes", |run| run.simulator.clock().now().monotonic >= until)
    }

    /// Nothing is on its way: what is committed is in the stores.
    fn until_quiet(&mut self) -> Outcomes {
        let quiet = |run: &Self| {
            let calm = |phase: &Phase| matches!(phase, Phase::Idle | Phase::Open);
            run.is_drained()
                && run.is_running()
                && INSTANCES.iter().all(|name| run.phases(name).iter().all(calm))
        };
        for _ in 0..STEPS_MAX {
            if quiet(self) {
                return Ok(());
            }
            self.step()?;
        }
        Err(self.simulator.error("it never becomes quiet"))
    }

    /// Every committed record of every input is behind the group's committed offset.
    fn is_drained(&self) -> bool {
        let (topology, name) = (&self.setup.topology, &self.setup.name);
        let exist: BTreeSet<_> = self.cluster.topics().into_iter().map(|t| t.name).collect();
        let own = topology.repartition_topics(name).into_iter().map(|r| r.topic);
        let mut inputs = external_topics(topology, name).inputs.into_iter().chain(own);
        let drained = |topic: &str| {
            let records = self.cluster.committed_records(topic);
            (0..).zip(records).all(|(partition, records)| {
                let of = TopicPartition::new(topic, partition);
                let committed = self.cluster.committed_offset(name, &of);
                let committed = committed.map_or(0, |offset| offset.next_offset);
                records.last().is_none_or(|record| record.offset < committed)
            })
        };
        self.cluster.is_settled() && inputs.all(|t| exist.contains(&t) && drained(&t))
    }

    /// Every task of the group runs on exactly one process.
    fn is_running(&self) -> bool {
        let handles = self.handles();
        let tasks: usize = handles.values().map(|streams| streams.board().tasks().len()).sum();
        let all: usize = self.group.assignment().values().map(BTreeSet::len).sum();
        tasks == all && handles.values().all(|streams| streams.board().is_ready())
    }

    fn check(&mut self) -> Outcomes {
        let outcome = Outcome {
            seed: self.seed,
            application: &self.setup.name,
            partitions: self.setup.partitions,
            inputs: &self.arrived,
            cluster: &self.cluster,
            stores: self.stores()?,
        };
        (self.setup.check)(&outcome).map_err(|wrong| self.simulator.error(&wrong))
    }

    /// The rows of every store, by store and partition, from the one process that owns it.
    fn stores(&self) -> Result<BTreeMap<(String, u32), StoreRows>, SimulationError> {
        let mut stores = BTreeMap::new();
        for streams in self.handles().values() {
            for name in streams.board().stores() {
                for handle in streams.board().store(&name) {
                    let partition = handle.partition;
                    let rows = prefix::rows(&*handle.database, &handle.family, partition);
                    if stores.insert((name.to_string(), partition), rows).is_some() {
                        let message = format!("{name}-{partition} has two owners");
                        return Err(self.simulator.error(&message));
                    }
                }
            }
        }
        Ok(stores)
    }

    /// Both processes end, and if nothing was going on, nothing more is written.
    fn stop(&mut self) -> Outcomes {
        let before = self.ends();
        self.rest(Duration::from_secs(1))?;
        let quiet = before == self.ends();
        self.handles().values().for_each(Streams::stop);
        self.until("both have stopped", |run| {
            INSTANCES.iter().all(|name| run.simulator.has_ended(name))
        })?;
        let states: Vec<_> = self.handles().values().map(Streams::state).collect();
        if states.iter().any(|state| *state != StreamsState::NotRunning) {
            return Err(self.simulator.error(&format!("they stopped as {states:?}")));
        }
        if quiet && before != self.ends() {
            return Err(self.simulator.error("something was written after the end"));
        }
        Ok(())
    }

    fn ends(&self) -> Vec<i64> {
        let topics = external_topics(&self.setup.topology, &self.setup.name).all().into_iter();
        let of =
            |t| (0..self.setup.partitions).map(move |p| TopicPartition::new(Arc::clone(&t), p));
        topics.flat_map(of).map(|p| self.cluster.offset(&p, OffsetQuery::LastStable)).collect()
    }
}

/// One process: the application on its disk.
fn boot(
    setup: &Simulation,
    seed: u64,
    process: &Process,
    disk: &MemoryDisk,
    cluster: &SimCluster,
    group: &SimGroup,
) -> (Streams, Vec<Box<dyn Actor>>) {
    let config = StreamsConfig {
        threads: 2,
        // Long transactions meet more of what goes wrong, short ones are committed more often.
        commit_interval: Duration::from_millis(if (seed / 2).is_multiple_of(2) { 30 } else { 250 }),
        records_per_turn: 3,
        ..StreamsConfig::new(setup.name.as_str())
    };
    let identity = Identity {
        mode: Mode::Kafka,
        applications: BTreeSet::from([setup.name.clone()]),
        cluster: None,
    };
    let directory = StateDirectory::open(Storage::Memory(disk.clone()), identity);
    let directory = Arc::new(directory.expect("the lock died with the process before"));
    let (member, of) = (group.clone(), process.clone());
    Streams::build(StreamsParts {
        topology: Arc::clone(&setup.topology),
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

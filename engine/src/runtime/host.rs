//! The host: one process with its state directory, log, memory and any number of applications.
//! Owns start, signals, the graceful stop and the threads of all actors; knows no record. The
//! simulator builds its processes from the same [`Streams::build`] and steps them itself.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use headwater_state::StateError;
use headwater_state::directory::{Identity, StateDirectory, Storage};
use headwater_state::error::Mode;
use headwater_state::lease::Leases;
use uuid::Uuid;

use super::lifecycle::StreamsState;
use super::memory::MemoryShares;
use super::restorer::StateHome;
use super::streams::{Join, Streams, StreamsParts};
use crate::actor::spawn::{Running, spawn};
use crate::actor::{Actor, Bell};
use crate::config::{ConfigError, GroupConfig, HostConfig, MembershipKind, StreamsConfig};
use crate::log::embedded::{EmbeddedLog, EmbeddedSettings};
use crate::log::{GroupRequest, Log, LogError, LogResources};
use crate::membership::consumer_group::ConsumerGroup;
use crate::membership::single::Single;
use crate::membership::{Membership, TaskSpace};
use crate::metrics::Metrics;
use crate::time::{Clock, Now, SystemClock};
use crate::topology::Topology;

/// How often the host looks for signals and for actors that have ended.
const WATCH: Duration = Duration::from_millis(50);
/// Partitions of an external topic that the embedded log creates because nobody else can, and that
/// the topology does not declare.
const EMBEDDED_PARTITIONS: u32 = 4;
/// With membership of one, every process of an application has the same transactional ids: the
/// second fences the first, which stops.
const SINGLE_INSTANCE: &str = "0";

/// Why a process cannot start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The settings are wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The state directory refuses.
    #[error(transparent)]
    State(#[from] StateError),
    /// The log refuses.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The operating system gave no thread or took no signal handler.
    #[error("the operating system refuses: {0}")]
    System(#[from] io::Error),
    /// An application failed; the others were stopped.
    #[error("application {application} failed: {why}")]
    Failed {
        /// Which.
        application: Arc<str>,
        /// Why.
        why: String,
    },
    /// The stop took longer than it may; what was not committed will be processed again.
    #[error("stopping took longer than {waited:?}: {}", .left.join(", "))]
    StopTimeout {
        /// How long.
        waited: Duration,
        /// The applications that still run, with their states.
        left: Vec<String>,
    },
}

/// One application to run.
#[derive(Debug, Clone)]
pub struct Application {
    /// What it runs.
    pub topology: Arc<Topology>,
    /// Its settings.
    pub config: StreamsConfig,
}

/// What may be read of a running process: by the HTTP server, by tests. Clones are the same.
#[derive(Clone)]
pub struct HostView {
    /// The applications.
    pub applications: Vec<Streams>,
    /// The metrics of all of them.
    pub metrics: Metrics,
    /// The log.
    pub log: Arc<dyn Log>,
    /// The same log, if it is the embedded one: for appends and for reads of what is synced.
    pub embedded: Option<Arc<EmbeddedLog>>,
    /// How the memory is cut.
    pub memory: MemoryShares,
    /// The settings of the process.
    pub config: HostConfig,
}

impl fmt::Debug for HostView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.applications.iter().map(Streams::application).collect();
        f.debug_struct("HostView").field("applications", &names).finish_non_exhaustive()
    }
}

impl HostView {
    /// The application of this id.
    pub fn application(&self, id: &str) -> Option<&Streams> {
        self.applications.iter().find(|streams| **streams.application() == *id)
    }

    /// No application has failed.
    pub fn is_live(&self) -> bool {
        let failed = [StreamsState::PendingError, StreamsState::Error];
        self.applications.iter().all(|streams| !failed.contains(&streams.state()))
    }

    /// Every task of every application runs.
    pub fn is_ready(&self) -> bool {
        self.applications.iter().all(|streams| streams.board().is_ready())
    }
}

/// A running process.
#[derive(Debug)]
pub struct Host {
    view: HostView,
    running: Vec<Running>,
    clock: Arc<dyn Clock>,
    /// Set by SIGTERM and SIGINT.
    signalled: Arc<AtomicBool>,
    bell: Bell,
    /// Holds the directory's lock.
    _directory: Arc<StateDirectory>,
}

impl Host {
    /// Starts the applications.
    ///
    /// # Errors
    /// Nothing runs: wrong settings, all at once; a state directory of another process, mode,
    /// cluster, format or application; a log that cannot be opened.
    pub fn start(config: HostConfig, applications: Vec<Application>) -> Result<Self, HostError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        check(&config, &applications)?;
        let memory = MemoryShares::of(config.memory_limit);
        tracing::info!(%memory, "memory");
        let names = applications.iter().map(|a| a.config.application_id.clone()).collect();
        let opened = Opened::open(&config, &memory, names)?;
        let Opened { directory, log, embedded, home, leases, instance, mut actors } = opened;
        let grouped = config.kafka.as_ref().map(|kafka| kafka.group.clone());
        let metrics = Metrics::new();
        let threads: usize = applications.iter().map(|a| a.config.threads).sum();
        let mut running = Vec::new();
        let count = applications.len().max(1);
        for Application { topology, config } in applications {
            let group: Arc<str> = config.application_id.as_str().into();
            let (streams, more) = Streams::build(StreamsParts {
                topology,
                config,
                instance: instance.clone().unwrap_or_else(|| SINGLE_INSTANCE.to_owned()),
                log: Arc::clone(&log),
                home: home.clone(),
                leases: leases.clone(),
                join: join(group, Arc::clone(&log), grouped.clone().zip(instance.clone())),
                metrics: metrics.clone(),
                overlay_bytes: memory.overlay_of_thread(threads),
                queue_bytes: memory.queues / count,
                create_topics: embedded.is_some().then_some(EMBEDDED_PARTITIONS),
            })?;
            running.push(streams);
            actors.extend(more);
        }
        let view = HostView { applications: running, metrics, log, embedded, memory, config };
        let signalled = Arc::new(AtomicBool::new(false));
        tracing::info!(
            applications = count,
            stream_threads = threads,
            threads = actors.len(),
            uncommitted_bytes_of_thread = memory.overlay_of_thread(threads),
            "threads start"
        );
        let spawned = actors.into_iter().map(|actor| spawn(actor, Arc::clone(&clock)));
        let running = spawned.collect::<io::Result<_>>()?;
        let bell = Bell::new();
        Ok(Self { view, running, clock, signalled, bell, _directory: directory })
    }

    /// What may be read of it.
    pub fn view(&self) -> &HostView {
        &self.view
    }

    /// Stops gracefully on SIGTERM and SIGINT from now on; a second signal ends the process at once.
    ///
    /// # Errors
    /// The operating system takes no handler.
    pub fn listen_to_signals(&self) -> Result<(), HostError> {
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            let flag = Arc::clone(&self.signalled);
            signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&flag))?;
            signal_hook::flag::register(signal, flag)?;
        }
        Ok(())
    }

    /// A signal came, an application failed or ends, or a thread is lost: whoever works beside the
    /// host is to finish and call [`stop`](Self::stop).
    pub fn is_stopping(&self) -> bool {
        self.must_stop()
    }

    /// Asks every application to commit everything and end. Answers at once.
    pub fn stop(&self) {
        self.view.applications.iter().for_each(Streams::stop);
    }

    /// Waits until every application has ended, by a signal, by [`stop`](Self::stop) or by a
    /// failure, then closes the log and ends all threads.
    ///
    /// # Errors
    /// `Failed` names the first application that failed; `StopTimeout` when the stop takes too long.
    pub fn wait(self) -> Result<(), HostError> {
        let mut stopping_since = None;
        let mut told = false;
        loop {
            if !told && self.view.is_ready() {
                told = true;
                let LogResources { clients, threads, queue_bytes } = self.view.log.resources();
                let actors = self.running.len();
                tracing::info!(actors, clients, client_threads = threads, queue_bytes, "all runs");
            }
            let ended = |streams: &Streams| streams.state().is_final();
            if self.view.applications.iter().all(ended) {
                break;
            }
            let now = self.clock.now();
            if stopping_since.is_none() && self.must_stop() {
                self.stop();
                stopping_since = Some(now);
            }
            if let Some(since) = stopping_since {
                self.check_timeout(since, now)?;
            }
            self.bell.wait(Some(WATCH));
        }
        if let Some(log) = &self.view.embedded {
            log.close();
        }
        for running in self.running {
            running.join();
        }
        failure(&self.view.applications).map_or(Ok(()), Err)
    }

    /// A signal came, an application failed, or an actor ended that should run.
    fn must_stop(&self) -> bool {
        let stopping = |s: &Streams| s.state() >= StreamsState::PendingShutdown;
        if self.signalled.load(Ordering::SeqCst) || self.view.applications.iter().any(stopping) {
            return true;
        }
        let dead = self.running.iter().find(|running| running.is_finished());
        if let Some(dead) = dead {
            tracing::error!(actor = dead.name(), "an actor has ended; the process stops");
            for streams in &self.view.applications {
                streams.board().fail(&format!("its process lost the actor {}", dead.name()));
            }
        }
        dead.is_some()
    }

    fn check_timeout(&self, since: Now, now: Now) -> Result<(), HostError> {
        let waited = now.monotonic.saturating_sub(since.monotonic);
        if waited < self.view.config.stop_timeout {
            return Ok(());
        }
        if let Some(failed) = failure(&self.view.applications) {
            return Err(failed);
        }
        let running = self.view.applications.iter().filter(|s| !s.state().is_final());
        let left = running.map(|s| {
            let phases = s.board().phases();
            let threads: Vec<_> =
                phases.iter().map(|(thread, phase)| format!("{thread} {phase:?}")).collect();
            let (application, state) = (s.application(), s.state());
            format!("{application} is {state} (committers of its threads: {})", threads.join(", "))
        });
        let left = left.collect();
        Err(HostError::StopTimeout { waited, left })
    }
}

fn check(config: &HostConfig, applications: &[Application]) -> Result<(), ConfigError> {
    let mut mistakes = Vec::new();
    let mut add = |result: Result<(), ConfigError>| {
        if let Err(error) = result {
            mistakes.extend(error.mistakes);
        }
    };
    add(config.validate());
    for application in applications {
        add(application.config.validate());
        if let Some(kafka) = &config.kafka {
            add(kafka.check_guarantee(&application.config));
        }
    }
    let mut ids = BTreeSet::new();
    for application in applications {
        let id = &application.config.application_id;
        if !ids.insert(id) {
            mistakes.push(format!("application id '{id}' is used twice in this process"));
        }
    }
    if applications.is_empty() {
        mistakes.push("there is no application to run".to_owned());
    }
    if mistakes.is_empty() { Ok(()) } else { Err(ConfigError { mistakes }) }
}

/// How an application finds out which tasks are its own: alone, or as a member of a group.
fn join(group: Arc<str>, log: Arc<dyn Log>, grouped: Option<(GroupConfig, String)>) -> Join {
    Box::new(move |space: TaskSpace| {
        let Some((config, instance)) = grouped else {
            return Ok(Box::new(Single::new(group, space)) as Box<dyn Membership>);
        };
        let topics: BTreeSet<Arc<str>> = space.inputs.iter().flatten().cloned().collect();
        let request = GroupRequest {
            group: Arc::clone(&group),
            topics: topics.into_iter().collect(),
            instance: instance.into(),
            protocol: config.protocol,
            session_timeout: config.session_timeout,
            rebalance_timeout: config.rebalance_timeout,
        };
        let member = log.join(request, Bell::new())?;
        Ok(Box::new(ConsumerGroup::new(group, space, member)) as Box<dyn Membership>)
    })
}

/// The first application that failed.
fn failure(applications: &[Streams]) -> Option<HostError> {
    applications.iter().find_map(|streams| {
        let why = streams.board().failure()?;
        Some(HostError::Failed { application: Arc::clone(streams.application()), why })
    })
}

/// What is open before any application.
pub(super) struct Opened {
    pub(super) directory: Arc<StateDirectory>,
    pub(super) log: Arc<dyn Log>,
    pub(super) embedded: Option<Arc<EmbeddedLog>>,
    home: StateHome,
    leases: Leases,
    /// Names this process in its groups; `None` where it is in none.
    instance: Option<String>,
    pub(super) actors: Vec<Box<dyn Actor>>,
}

impl Opened {
    pub(super) fn open(
        config: &HostConfig,
        memory: &MemoryShares,
        applications: BTreeSet<String>,
    ) -> Result<Self, HostError> {
        let storage = storage(config, memory);
        let leases = Leases::new();
        if let Some(kafka) = &config.kafka {
            let (log, cluster) = connect(config, memory)?;
            let identity = Identity { mode: Mode::Kafka, applications, cluster };
            let mut directory = StateDirectory::open(storage, identity)?;
            let instance = match (kafka.group.membership, &kafka.group.instance_id) {
                (MembershipKind::Single, _) => None,
                (MembershipKind::ConsumerGroup, Some(given)) => Some(given.clone()),
                (MembershipKind::ConsumerGroup, None) => {
                    Some(directory.process(|| Uuid::new_v4().simple().to_string())?)
                }
            };
            let directory = Arc::new(directory);
            let home = StateHome::PerTask(Arc::clone(&directory));
            let (embedded, actors) = (None, Vec::new());
            return Ok(Self { directory, log, embedded, home, leases, instance, actors });
        }
        let identity = Identity { mode: Mode::Embedded, applications, cluster: None };
        let directory = Arc::new(StateDirectory::open(storage, identity)?);
        let database = directory.embedded()?;
        let settings = EmbeddedSettings::default();
        let (log, actors) = EmbeddedLog::open(Arc::clone(&database), leases.clone(), settings)?;
        let home = StateHome::Shared(database);
        let embedded = Some(Arc::clone(&log));
        Ok(Self { directory, log, embedded, home, leases, instance: None, actors })
    }
}

#[cfg(feature = "rocksdb")]
fn storage(config: &HostConfig, memory: &MemoryShares) -> Storage {
    use headwater_state::database::rocks::{MemoryBudget, SharedMemory};
    let budget =
        MemoryBudget { block_cache_bytes: memory.block_cache, memtable_bytes: memory.memtables };
    Storage::Files { path: config.state_dir.clone(), memory: SharedMemory::new(budget) }
}

#[cfg(not(feature = "rocksdb"))]
fn storage(_: &HostConfig, _: &MemoryShares) -> Storage {
    tracing::warn!("built without RocksDB: state lives in memory and ends with the process");
    Storage::Memory(headwater_state::database::memory::MemoryDisk::new())
}

/// A cluster's log, and the cluster's id if its brokers tell one.
pub(super) type Connected = (Arc<dyn Log>, Option<String>);

#[cfg(feature = "kafka")]
pub(super) fn connect(config: &HostConfig, memory: &MemoryShares) -> Result<Connected, LogError> {
    use crate::log::kafka::{KafkaLog, KafkaSettings};
    let kafka = config.kafka.as_ref().expect("called when a cluster is named");
    // A quarter each for records that one consumer holds back (input, restoring) and that the
    // producers do; the rest is for everything else.
    let share = (memory.rest / 4).max(1 << 20);
    let settings = KafkaSettings {
        queue_bytes: share,
        producer_queue_bytes: share,
        ..KafkaSettings::default()
    };
    let log = KafkaLog::connect(kafka, settings)?;
    let cluster = log.cluster_id().map(str::to_owned);
    Ok((Arc::new(log), cluster))
}

#[cfg(not(feature = "kafka"))]
pub(super) fn connect(_: &HostConfig, _: &MemoryShares) -> Result<Connected, LogError> {
    Err(LogError::new(
        crate::error::ErrorClass::Fatal,
        "connect to Kafka",
        "this build has no Kafka client; unset KAFKA_BROKERS to run embedded",
    ))
}

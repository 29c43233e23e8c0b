//! One application in this process, put together: its threads, supervisor, restorer and state writer,
//! and the handle by which others see it. Owns what each of them is made of; runs nothing itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use headwater_state::lease::Leases;

use super::board::Board;
use super::committer::Committer;
use super::global::{GlobalFollower, GlobalParts, GlobalTables};
use super::lifecycle::StreamsState;
use super::messages::{FromThread, RestoreRequest};
use super::plan::Plan;
use super::restorer::{LONG_RESTORE_BYTES, Restorer, RestorerParts, StateHome};
use super::setup::TopicSetup;
use super::supervisor::{Link, Supervisor, SupervisorParts};
use super::thread::{Limits, StreamThread, ThreadParts};
use super::writer::{StateWriter, WriteJob};
use crate::actor::{Actor, Address, Bell, mailbox};
use crate::config::{ConfigError, StreamsConfig};
use crate::log::{Log, LogResult};
use crate::membership::{Membership, TaskSpace};
use crate::metrics::Metrics;
use crate::record::TaskId;
use crate::task::TaskSettings;
use crate::topology::Topology;

const MAILBOX: usize = 1024;
/// Room for a few batches.
const QUEUE_BYTES_MIN: usize = 64 << 10;
/// More would only be older.
const QUEUE_BYTES_MAX: usize = 4 << 20;

/// Joins the group once the number of tasks is known.
pub type Join = Box<dyn FnOnce(TaskSpace) -> LogResult<Box<dyn Membership>> + Send>;

/// What an application is made of.
pub struct StreamsParts {
    /// What it runs.
    pub topology: Arc<Topology>,
    /// Its settings.
    pub config: StreamsConfig,
    /// Names this process among those of the application; stable over restarts.
    pub instance: String,
    /// The log.
    pub log: Arc<dyn Log>,
    /// Where its stores are.
    pub home: StateHome,
    /// Who may write them. On a log that holds the state, the log's own.
    pub leases: Leases,
    /// Joins its group.
    pub join: Join,
    /// Where it counts.
    pub metrics: Metrics,
    /// Uncommitted bytes of one thread, unless the configuration says otherwise.
    pub overlay_bytes: usize,
    /// Bytes that wait in all input queues together, unless the configuration says how many in one.
    pub queue_bytes: usize,
    /// Creates missing external topics, those that the topology does not declare with so many
    /// partitions; `None` refuses to start.
    pub create_topics: Option<u32>,
}

impl std::fmt::Debug for StreamsParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamsParts")
            .field("config", &self.config)
            .field("instance", &self.instance)
            .field("log", &self.log.kind())
            .finish_non_exhaustive()
    }
}

/// A handle on an application. Clones are the same.
#[derive(Debug, Clone)]
pub struct Streams {
    application: Arc<str>,
    topology: Arc<Topology>,
    board: Board,
    stop: Arc<AtomicBool>,
    bell: Bell,
}

impl Streams {
    /// Makes an application's handle and actors. Nothing runs until they are stepped: the host gives
    /// each a thread, the simulator steps them all on one.
    ///
    /// # Errors
    /// All mistakes of the configuration at once.
    pub fn build(parts: StreamsParts) -> Result<(Self, Vec<Box<dyn Actor>>), ConfigError> {
        parts.config.validate()?;
        let application: Arc<str> = parts.config.application_id.as_str().into();
        let (board, bell) = (Board::new(), Bell::new());
        let (stop, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (reports, mail) = mailbox(MAILBOX, bell.clone());
        let (writer, jobs) =
            StateWriter::new(&application, parts.leases.clone(), Arc::clone(&ended));
        let (restorer, requests) = Restorer::new(RestorerParts {
            application: Arc::clone(&application),
            log: Arc::clone(&parts.log),
            home: parts.home.clone(),
            leases: parts.leases.clone(),
            board: board.clone(),
            metrics: parts.metrics.clone(),
            bulk_bytes: parts.overlay_bytes,
            long_restore_bytes: LONG_RESTORE_BYTES,
            ended: Arc::clone(&ended),
        });
        let plan = Arc::new(OnceLock::new());
        let globals = match parts.topology.globals().is_empty() {
            true => GlobalTables::none(),
            false => GlobalTables::default(),
        };
        let settings = settings(&parts, Arc::clone(&plan), globals.clone());
        let shared = Shared { settings, board, reports };
        let mut threads = Vec::new();
        let mut actors: Vec<Box<dyn Actor>> = Vec::new();
        for number in 0..parts.config.threads {
            let (thread, link) = thread(&parts, number, &shared, &jobs, &requests);
            actors.push(Box::new(thread));
            threads.push(link);
        }
        let board = shared.board.clone();
        let streams = Self {
            application: Arc::clone(&application),
            topology: Arc::clone(&parts.topology),
            board: board.clone(),
            stop: Arc::clone(&stop),
            bell: bell.clone(),
        };
        let mut bells = vec![writer.bell(), restorer.bell()];
        if !globals.is_ready() {
            let follower = follower(&parts, &shared, &plan, &globals, (&bell, &ended));
            bells.push(follower.bell());
            actors.push(Box::new(follower));
        }
        let metrics = parts.metrics.application(&application);
        let StreamsParts { topology, config, log, join, create_topics, .. } = parts;
        let supervisor = Supervisor::new(SupervisorParts {
            application,
            topics: TopicSetup::new(log, topology, config, create_topics),
            join,
            plan,
            threads,
            reports: mail,
            bell,
            board,
            metrics,
            stop,
            ended,
            bells,
            globals,
        });
        actors.insert(0, Box::new(supervisor));
        actors.push(Box::new(restorer));
        actors.push(Box::new(writer));
        Ok((streams, actors))
    }

    /// The application id.
    pub fn application(&self) -> &Arc<str> {
        &self.application
    }

    /// What it runs.
    pub fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    /// Its tasks, stores and state, to be read.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Its lifecycle state.
    pub fn state(&self) -> StreamsState {
        self.board.state()
    }

    /// Asks it to commit everything, close and end. Answers at once; see [`Streams::state`].
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.bell.ring();
    }
}

/// What keeps the global tables.
fn follower(
    parts: &StreamsParts,
    shared: &Shared,
    plan: &Arc<OnceLock<Arc<Plan>>>,
    tables: &GlobalTables,
    (waiting, ended): (&Bell, &Arc<AtomicBool>),
) -> GlobalFollower {
    GlobalFollower::new(GlobalParts {
        application: parts.config.application_id.as_str().into(),
        topology: Arc::clone(&parts.topology),
        log: Arc::clone(&parts.log),
        home: parts.home.clone(),
        plan: Arc::clone(plan),
        tables: tables.clone(),
        board: shared.board.clone(),
        metrics: parts.metrics.clone(),
        reports: shared.reports.clone(),
        waiting: waiting.clone(),
        ended: Arc::clone(ended),
    })
}

/// What all threads of an application share.
struct Shared {
    settings: SettingsOf,
    board: Board,
    reports: Address<FromThread>,
}

fn thread(
    parts: &StreamsParts,
    number: usize,
    shared: &Shared,
    jobs: &Address<WriteJob>,
    requests: &Address<RestoreRequest>,
) -> (StreamThread, Link) {
    // Also the transactional id: stable, so that a restart ends at once what was left open.
    let name = format!("{}-{}-{number}", parts.config.application_id, parts.instance);
    let bell = Bell::new();
    let (address, commands) = mailbox(MAILBOX, bell.clone());
    let log = Arc::clone(&parts.log);
    let committer = Committer::new(log, name.as_str(), bell.clone(), jobs.clone())
        .with_guarantee(parts.config.processing_guarantee);
    let thread = StreamThread::new(ThreadParts {
        number,
        name,
        application: parts.config.application_id.as_str().into(),
        topology: Arc::clone(&parts.topology),
        limits: limits(parts),
        settings: Arc::clone(&shared.settings),
        log: Arc::clone(&parts.log),
        committer,
        bell,
        commands,
        reports: shared.reports.clone(),
        restorer: requests.clone(),
        board: shared.board.clone(),
        metrics: parts.metrics.clone(),
    });
    (thread, Link::new(address))
}

fn limits(parts: &StreamsParts) -> Limits {
    Limits {
        commit_interval: parts.config.commit_interval,
        overlay_bytes: parts.config.overlay_limit.unwrap_or(parts.overlay_bytes),
        records_per_turn: parts.config.records_per_turn,
        purge_interval: parts.config.purge_interval,
    }
}

type SettingsOf = Arc<dyn Fn(TaskId) -> TaskSettings + Send + Sync>;

fn settings(
    parts: &StreamsParts,
    plan: Arc<OnceLock<Arc<Plan>>>,
    globals: GlobalTables,
) -> SettingsOf {
    let config = parts.config.clone();
    let application: Arc<str> = config.application_id.as_str().into();
    let (metrics, queue_bytes) = (parts.metrics.clone(), parts.queue_bytes);
    let record_bytes_max = parts.log.record_bytes_max();
    let dead_letter_topic: Option<Arc<str>> = config.dead_letter_topic.map(Into::into);
    Arc::new(move |task| TaskSettings {
        application_id: Arc::clone(&application),
        on_error: config.on_error,
        dead_letter_topic: dead_letter_topic.clone(),
        partition_counts: plan.get().map(|plan| Arc::clone(&plan.counts)).unwrap_or_default(),
        queue_bytes: config.queue_bytes.unwrap_or_else(|| {
            let inputs = plan.get().map_or(1, |plan| plan.input_partitions());
            (queue_bytes / inputs.max(1)).clamp(QUEUE_BYTES_MIN, QUEUE_BYTES_MAX)
        }),
        record_bytes_max: Some(record_bytes_max),
        audit: config.audit,
        tasks_family: None,
        whole_topology: false,
        globals: globals.rows(),
        metrics: metrics.task(&application, &task.to_string()),
    })
}

//! Tasks that move between two instances of an application while records flow: a revocation is a
//! barrier over all threads, what was processed is committed before the acknowledgement, and the
//! next owner goes on exactly there, from the changelog.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use headwater::actor::{Actor, Bell, Next, Poll};
use headwater::config::StreamsConfig;
use headwater::log::embedded::{EmbeddedLog, EmbeddedSettings};
use headwater::log::{Identity, LogError};
use headwater::membership::{MemberId, Membership, MembershipEvent};
use headwater::metrics::Metrics;
use headwater::record::TaskId;
use headwater::runtime::{StateHome, Streams, StreamsParts, StreamsState};
use headwater::time::{Clock as _, Now, VirtualClock};
use headwater_state::database::memory::MemoryDisk;
use headwater_state::directory::{Identity as DirectoryIdentity, StateDirectory, Storage};
use headwater_state::error::Mode;
use headwater_state::lease::Leases;

use super::embedded::word_count;
use super::unheld::Unheld;
use super::world::{append_to, outputs_of};

#[derive(Debug, Default)]
struct Script {
    events: VecDeque<MembershipEvent>,
    acknowledged: usize,
    epoch: i32,
    left: bool,
}

/// A membership that says what the test tells it to.
#[derive(Debug, Clone, Default)]
struct Scripted(Arc<Mutex<Script>>);

impl Scripted {
    fn with<R>(&self, f: impl FnOnce(&mut Script) -> R) -> R {
        f(&mut self.0.lock().expect("no test panics under the lock"))
    }
}

impl Membership for Scripted {
    fn poll(&mut self, _now: Now) -> Result<Option<MembershipEvent>, LogError> {
        Ok(self.with(|script| script.events.pop_front()))
    }

    fn acknowledge(&mut self) {
        self.with(|script| script.acknowledged += 1);
    }

    fn identity(&self, _task: TaskId) -> Option<Identity> {
        let epoch = self.with(|script| script.epoch);
        Some(Identity { group: "wc".into(), member: "m".into(), epoch })
    }

    fn leave(&mut self) {
        self.with(|script| script.left = true);
    }

    fn listen(&mut self, bell: Bell) {
        bell.ring();
    }
}

struct Instance {
    streams: Streams,
    actors: Vec<Option<Box<dyn Actor>>>,
    membership: Scripted,
    tasks: BTreeSet<TaskId>,
    acknowledged: usize,
}

impl Instance {
    fn new(name: &str, log: &Arc<EmbeddedLog>) -> Self {
        let applications = BTreeSet::from(["wc".to_owned()]);
        let identity = DirectoryIdentity { mode: Mode::Kafka, applications, cluster: None };
        let storage = Storage::Memory(MemoryDisk::new());
        let directory = StateDirectory::open(storage, identity).expect("a fresh directory");
        let membership = Scripted::default();
        let joined = membership.clone();
        let (streams, actors) = Streams::build(StreamsParts {
            topology: word_count(),
            config: StreamsConfig { threads: 2, ..StreamsConfig::new("wc") },
            instance: name.to_owned(),
            log: Arc::new(Unheld(Arc::clone(log))),
            home: StateHome::PerTask(Arc::new(directory)),
            leases: Leases::new(),
            join: Box::new(move |_| Ok(Box::new(joined))),
            metrics: Metrics::new(),
            overlay_bytes: 1 << 20,
            queue_bytes: 1 << 20,
            create_topics: Some(2),
        })
        .expect("a valid configuration");
        let actors = actors.into_iter().map(Some).collect();
        Self { streams, actors, membership, tasks: BTreeSet::new(), acknowledged: 0 }
    }

    fn assign(&mut self, task: TaskId) {
        self.tasks.insert(task);
        self.membership.with(|script| {
            script.epoch += 1;
            let (member, epoch) = (MemberId::from("m"), script.epoch);
            let tasks = vec![task];
            script.events.push_back(MembershipEvent::Assigned { tasks, member, epoch });
        });
    }

    fn revoke(&mut self, task: TaskId) {
        self.tasks.remove(&task);
        let event = MembershipEvent::Revoked { tasks: vec![task], member: MemberId::from("m") };
        self.membership.with(|script| script.events.push_back(event));
    }

    /// The last revocation is acknowledged; answers once.
    fn has_acknowledged(&mut self) -> bool {
        let acknowledged = self.membership.with(|script| script.acknowledged);
        let news = acknowledged > self.acknowledged;
        self.acknowledged = acknowledged;
        news
    }
}

struct Pair {
    clock: VirtualClock,
    log: Arc<EmbeddedLog>,
    log_actors: Vec<Box<dyn Actor>>,
    instances: Vec<Instance>,
}

impl Pair {
    fn new() -> Self {
        let database = MemoryDisk::new().open("data").expect("a fresh disk");
        let settings = EmbeddedSettings::default();
        let opened = EmbeddedLog::open(database, Leases::new(), settings);
        let (log, log_actors) = opened.expect("the log opens");
        let instances = ["a", "b"].map(|name| Instance::new(name, &log)).into();
        Self { clock: VirtualClock::new(1_700_000_000_000), log, log_actors, instances }
    }

    fn round(&mut self) {
        let now = self.clock.now();
        for actor in &mut self.log_actors {
            actor.step(now);
        }
        for slot in self.instances.iter_mut().flat_map(|i| &mut i.actors) {
            if let Some(actor) = slot
                && actor.step(now) == Next::Done
            {
                *slot = None;
            }
        }
        self.clock.advance(std::time::Duration::from_millis(1));
    }

    fn until(&mut self, what: &str, mut so: impl FnMut(&mut Self) -> bool) {
        for _ in 0..20_000 {
            if so(self) {
                return;
            }
            self.round();
        }
        let states: Vec<_> = self.instances.iter().map(|i| i.streams.board().tasks()).collect();
        panic!("not so after 20,000 rounds: {what}; {states:?}");
    }

    /// Moves a task to the other instance, as a coordinator does: revoked, acknowledged, assigned.
    fn hand_over(&mut self, task: TaskId) {
        let from = usize::from(!self.instances[0].tasks.contains(&task));
        self.instances[from].revoke(task);
        self.until("acknowledged", |pair| pair.instances[from].has_acknowledged());
        let closed = self.instances[from].streams.board().tasks();
        assert!(!closed.contains_key(&task), "what is acknowledged is closed");
        self.instances[1 - from].assign(task);
    }
}

fn tasks() -> Vec<TaskId> {
    let ids = [(0, 0), (0, 1), (1, 0), (1, 1)];
    ids.map(|(subtopology, partition)| TaskId { subtopology, partition }).to_vec()
}

#[test]
fn tasks_that_move_between_instances_lose_and_double_nothing() {
    let mut pair = Pair::new();
    pair.until("topics exist", |pair| pair.log.topics().iter().any(|t| &*t.name == "lines"));
    for task in tasks() {
        pair.instances[0].assign(task);
    }
    let mut expected: BTreeMap<String, i64> = BTreeMap::new();
    for number in 0..40_usize {
        let line = format!("w{} v{}", number % 7, number % 3);
        let partition = u32::try_from(number % 2).expect("small");
        let appended = append_to(&pair.log, "lines", partition, &[("k", &line, 1)]);
        pair.until("appended", |_| matches!(appended.poll(), Poll::Done(Ok(_))));
        for word in line.split(' ') {
            *expected.entry(word.to_owned()).or_default() += 1;
        }
        for _ in 0..number % 13 {
            pair.round();
        }
        pair.hand_over(tasks()[number % 4]);
    }
    let total: i64 = expected.values().sum();
    let total = usize::try_from(total).expect("small");
    pair.until("counted", |pair| outputs_of(&pair.log, "word-counts").len() >= total);
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for (word, count, _) in outputs_of(&pair.log, "word-counts") {
        let next = counts.entry(word).or_default();
        *next += 1;
        assert_eq!(count, Some(*next));
    }
    assert_eq!(counts, expected);
}

#[test]
fn a_stopped_instance_leaves_its_group_after_closing_its_tasks() {
    let mut pair = Pair::new();
    for task in tasks() {
        pair.instances[0].assign(task);
    }
    let running = |pair: &mut Pair| pair.instances[0].streams.board().is_ready();
    pair.until("running", running);
    pair.instances[0].streams.stop();
    let stopped = |pair: &mut Pair| pair.instances[0].streams.state() == StreamsState::NotRunning;
    pair.until("stopped", stopped);
    assert!(pair.instances[0].membership.with(|script| script.left));
    assert!(pair.instances[0].streams.board().tasks().is_empty());
}

#[test]
fn tasks_given_back_before_they_were_closed_run_again() {
    let mut pair = Pair::new();
    for task in tasks() {
        pair.instances[0].assign(task);
    }
    pair.until("running", |pair| pair.instances[0].streams.board().is_ready());
    let lost = MembershipEvent::Lost { tasks: tasks(), member: MemberId::from("m") };
    pair.instances[0].membership.with(|script| script.events.push_back(lost));
    for task in tasks() {
        pair.instances[0].assign(task);
    }
    for _ in 0..5 {
        pair.round();
    }
    pair.until("running again", |pair| {
        let board = pair.instances[0].streams.board();
        board.is_ready() && board.tasks().len() == 4
    });
}

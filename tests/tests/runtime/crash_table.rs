//! The crash table at the head of `runtime/committer.rs`, row by row and by the rows' names, on the
//! simulated log: what the log and the database hold after the kill, and what the next process of
//! the same transactional id finds and does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use headwater::actor::{Actor, Address, Bell, Poll};
use headwater::error::ErrorClass;
use headwater::log::sim::{Process, SimCluster, SimConfig, SimFaults, SimLog};
use headwater::log::{Cleanup, CommittedOffset, Identity, Log, OffsetQuery, StateBatch, TopicSpec};
use headwater::record::batch::{RecordBatch, RecordBatchBuilder};
use headwater::record::{Headers, TaskId, TopicPartition};
use headwater::runtime::committer::{Committer, Event, Phase, TaskOffsets, TaskShare};
use headwater::runtime::writer::{StateWriter, WriteJob};
use headwater::task::TaskCommit;
use headwater::time::{Clock as _, VirtualClock};
use headwater_state::database::memory::MemoryDisk;
use headwater_state::lease::Leases;
use headwater_state::store::{Committed, Rows, StorePartition};

const TASK: TaskId = TaskId { subtopology: 0, partition: 0 };

fn place(topic: &str) -> TopicPartition {
    TopicPartition::new(topic, 0)
}

fn changelog() -> TopicPartition {
    place("app-counts-changelog")
}

fn batch(value: &[u8]) -> RecordBatch {
    let mut builder = RecordBatchBuilder::new();
    builder.append(1, Some(b"k"), Some(value), Headers::empty()).expect("small");
    RecordBatch::new(0, builder.finish()).expect("well-formed")
}

fn at(next_offset: i64, metadata: &str) -> CommittedOffset {
    CommittedOffset { next_offset, metadata: metadata.to_owned() }
}

fn member(epoch: i32) -> Identity {
    Identity { group: "app".into(), member: "m".into(), epoch }
}

/// The cluster and the time, which outlive processes.
struct World {
    cluster: SimCluster,
    clock: VirtualClock,
}

impl World {
    fn new() -> Self {
        let faults = SimFaults { delay_ms: (1, 3), ..SimFaults::default() };
        let cluster = SimCluster::new(SimConfig { faults, ..SimConfig::calm(1) });
        for topic in ["orders", "out", "app-counts-changelog"] {
            let cleanup = Cleanup::Delete { retention: None };
            cluster.create_topic(TopicSpec { name: topic.into(), partitions: 1, cleanup });
        }
        Self { cluster, clock: VirtualClock::new(1_700_000_000_000) }
    }

    /// A process with this transactional id, ready for a transaction.
    fn process(&self, id: &str, disk: &MemoryDisk) -> Member<'_> {
        let process = Process::new(id);
        let leases = Leases::new();
        let database = disk.open("data").expect("the disk is free");
        let store = StorePartition::open(database, leases.grant("app/counts", 0)).expect("opens");
        let (writer, jobs) =
            StateWriter::new("app", leases.clone(), Arc::new(AtomicBool::new(false)));
        let log = self.cluster.connect(&process);
        let committer = committer(&log, id, &jobs);
        let mut member = Member { world: self, process, leases, store, log, committer, writer };
        member.until("ready", |member| member.committer.is_idle());
        member
    }

    fn step(&self) {
        self.cluster.clone().step(self.clock.now());
        self.clock.advance(Duration::from_millis(1));
    }

    /// The stable committed offset of the input, as a new owner reads it.
    fn committed(&self) -> Option<CommittedOffset> {
        let log = self.cluster.connect(&Process::new("asks"));
        let ticket = log.committed("app", vec![place("orders")]);
        for _ in 0..20_000 {
            match ticket.poll() {
                Poll::Done(answer) => return answer.expect("it answers").remove(0),
                _ => self.step(),
            }
        }
        panic!("committed offsets are never stable");
    }

    fn records(&self, topic: &str) -> usize {
        self.cluster.committed_records(topic)[0].len()
    }

    fn arrived(&self, topic: &str) -> bool {
        self.cluster.offset(&place(topic), OffsetQuery::HighWatermark) > 0
    }

    fn has_happened(&self, what: &str) -> bool {
        self.cluster.trace().recent().any(|line| line.contains(what))
    }

    /// What the log has is the unit before: nothing.
    fn has_the_unit_before(&self) {
        assert_eq!(self.committed(), None);
        assert_eq!((self.records("out"), self.records("app-counts-changelog")), (0, 0));
    }

    /// What the log has is the unit.
    fn has_the_unit(&self) {
        assert_eq!(self.committed(), Some(at(1, "clock")));
        assert_eq!((self.records("out"), self.records("app-counts-changelog")), (1, 1));
    }
}

fn committer(log: &SimLog, id: &str, jobs: &Address<WriteJob>) -> Committer {
    Committer::new(Arc::new(log.clone()), id, Bell::new(), jobs.clone())
}

/// One process: a committer with its writer, and one task with one store.
struct Member<'w> {
    world: &'w World,
    process: Process,
    leases: Leases,
    store: StorePartition,
    log: SimLog,
    committer: Committer,
    writer: StateWriter,
}

impl Member<'_> {
    fn round(&mut self) -> Option<Event> {
        self.world.step();
        let now = self.world.clock.now();
        let (event, _) = self.committer.step(now);
        self.writer.step(now);
        event
    }

    fn until(&mut self, what: &str, so: impl Fn(&Self) -> bool) {
        for _ in 0..20_000 {
            if so(self) {
                return;
            }
            let event = self.round();
            assert!(event.is_none(), "on the way to {what}: {event:?}");
        }
        panic!("never {what}, but {:?}", self.committer.phase());
    }

    fn event(&mut self) -> Event {
        for _ in 0..20_000 {
            if let Some(event) = self.round() {
                return event;
            }
        }
        panic!("no transaction ended in {:?}", self.committer.phase());
    }

    /// One record is processed: an output, a row, and everything is ready to be committed.
    fn begin(&mut self, epoch: i32) {
        let now = self.world.clock.now();
        let event = self.committer.begin(member(epoch), BTreeSet::from([TASK]), now);
        assert!(event.is_none());
        self.store.put(b"k", b"1").expect("fits");
        self.committer.send([(place("out"), batch(b"1"))]);
    }

    fn commit(&mut self, offsets: TaskOffsets) {
        let rows = self.store.freeze();
        let records = if rows.is_empty() { vec![] } else { vec![(changelog(), batch(b"1"))] };
        let state = StateBatch { stores: vec![self.store.commit(None)], tasks: vec![] };
        let commit = TaskCommit { offsets, records, state };
        let database = Arc::clone(self.store.database());
        self.committer.commit(vec![TaskShare { task: TASK, commit, database }]);
    }

    fn seal(&mut self, epoch: i32) {
        self.begin(epoch);
        self.commit(vec![(place("orders"), at(1, "clock"))]);
    }

    fn row(&self) -> Option<Vec<u8>> {
        let (family, partition) = (self.store.family(), self.store.partition());
        let committed = Committed { reader: &**self.store.database(), family, partition };
        committed.get(b"k").expect("reads").map(|value| value.to_vec())
    }

    /// kill -9.
    fn kill(self) {
        self.process.kill();
    }
}

/// Kills a process at the first moment when it is so, and gives what the next one finds on disk.
fn killed_when(world: &World, what: &str, so: impl Fn(&Member<'_>) -> bool) -> Option<Vec<u8>> {
    let disk = MemoryDisk::new();
    let mut first = world.process("app-0-0", &disk);
    first.seal(1);
    first.until(what, so);
    first.kill();
    disk.crash(usize::MAX);
    let next = world.process("app-0-0", &disk);
    assert!(world.cluster.is_settled(), "initialising ended what was open");
    next.row()
}

#[test]
fn before_begin() {
    let world = World::new();
    let disk = MemoryDisk::new();
    world.process("app-0-0", &disk).kill();
    disk.crash(usize::MAX);
    let next = world.process("app-0-0", &disk);
    world.has_the_unit_before();
    assert_eq!(next.row(), None);
}

#[test]
fn mid_produce() {
    let world = World::new();
    let row = killed_when(&world, "an output has arrived", |m| m.world.arrived("out"));
    assert!(world.arrived("out"), "it is in the log, and stays invisible");
    world.has_the_unit_before();
    assert_eq!(row, None);
}

#[test]
fn after_flush() {
    let world = World::new();
    let row = killed_when(&world, "all records have arrived", |m| {
        m.world.arrived("out") && m.world.arrived("app-counts-changelog")
    });
    assert!(!world.has_happened("app-0-0: add offsets"), "no offset was sent");
    world.has_the_unit_before();
    assert_eq!(row, None);
}

#[test]
fn during_offsets() {
    let world = World::new();
    let row = killed_when(&world, "offsets have arrived", |m| {
        m.world.has_happened("app-0-0: add offsets")
    });
    assert!(!world.has_happened("app-0-0: commit"), "no commit was sent");
    world.has_the_unit_before();
    assert_eq!(row, None);
}

#[test]
fn during_commit() {
    let world = World::new();
    let row = killed_when(&world, "the commit has arrived", |m| {
        m.world.has_happened("app-0-0: commit") && m.committer.phase() == Phase::Committing
    });
    world.has_the_unit();
    assert_eq!(row, None, "the changelog has it");
}

#[test]
fn after_commit_before_the_batch() {
    let world = World::new();
    let disk = MemoryDisk::new();
    let mut first = world.process("app-0-0", &disk);
    // The disk takes nothing while the writer tries.
    disk.faults().fail_writes(Some(headwater_state::database::memory::Fault::Full));
    first.seal(1);
    first.until("committed", |member| member.committer.phase() == Phase::Writing);
    first.kill();
    disk.faults().heal();
    disk.crash(usize::MAX);
    let next = world.process("app-0-0", &disk);
    world.has_the_unit();
    assert_eq!(next.row(), None, "the changelog has it");
}

#[test]
fn after_the_batch() {
    let world = World::new();
    let disk = MemoryDisk::new();
    let mut first = world.process("app-0-0", &disk);
    first.seal(1);
    assert!(matches!(first.event(), Event::Committed { .. }));
    first.kill();
    disk.crash(usize::MAX);
    let next = world.process("app-0-0", &disk);
    world.has_the_unit();
    assert_eq!(next.row(), Some(b"1".to_vec()));
}

#[test]
fn zombie_with_an_old_epoch() {
    let world = World::new();
    let mut zombie = world.process("app-0-0", &MemoryDisk::new());
    zombie.seal(1);
    let next = world.process("app-0-0", &MemoryDisk::new());
    assert!(matches!(zombie.event(), Event::Lost(error) if error.class == ErrorClass::Fenced));
    world.has_the_unit_before();
    assert_eq!((zombie.row(), next.row()), (None, None));

    // And one whose store was taken over inside its process.
    let world = World::new();
    let mut zombie = world.process("app-0-0", &MemoryDisk::new());
    zombie.seal(1);
    zombie.leases.grant("app/counts", 0);
    assert!(matches!(zombie.event(), Event::Lost(error) if error.class == ErrorClass::Fenced));
    assert_eq!(zombie.row(), None);
}

#[test]
fn rebalance_between_any_two() {
    let (mut committed, mut refused) = (0, 0);
    for rounds in 0..40 {
        let world = World::new();
        let members = |epoch| [("m".into(), epoch)].into();
        world.cluster.set_members(&"app".into(), members(1));
        let mut one = world.process("app-0-0", &MemoryDisk::new());
        one.seal(1);
        let mut event = None;
        for _ in 0..rounds {
            event = event.or_else(|| one.round());
        }
        world.cluster.set_members(&"app".into(), members(2));
        match event.unwrap_or_else(|| one.event()) {
            Event::Committed { .. } => {
                committed += 1;
                world.has_the_unit();
            }
            Event::Lost(error) => {
                refused += 1;
                assert_eq!(error.class, ErrorClass::Abort, "an ordinary rewind");
                one.until("aborted", |member| member.committer.is_idle());
                world.has_the_unit_before();
                assert_eq!(one.row(), None);
            }
            other => panic!("after {rounds} rounds: {other:?}"),
        }
    }
    assert!(committed > 0 && refused > 0, "{committed} committed, {refused} refused");
}

#[test]
fn no_input_offsets_moved() {
    let world = World::new();
    let mut one = world.process("app-0-0", &MemoryDisk::new());
    one.seal(1);
    assert!(matches!(one.event(), Event::Committed { .. }));
    one.store.rewind().expect("its rows are in the database");
    let now = world.clock.now();
    assert!(one.committer.begin(member(1), BTreeSet::from([TASK]), now).is_none());
    one.committer.send([(place("out"), batch(b"2"))]);
    one.commit(vec![(place("orders"), at(1, "later"))]);
    assert!(matches!(one.event(), Event::Committed { .. }));
    assert_eq!(world.committed(), Some(at(1, "later")));
}

#[test]
fn a_task_moves_away_while_unknown() {
    let world = World::new();
    let mut one = world.process("app-0-0", &MemoryDisk::new());
    one.seal(1);
    one.until("offsets have arrived", |m| m.world.has_happened("app-0-0: add offsets"));
    let silent = SimFaults { lose_answer: 1_000, give_up: 1_000, ..SimFaults::default() };
    world.cluster.set_faults(silent);
    assert!(matches!(one.event(), Event::Lost(_)), "nobody answers");
    assert!(one.committer.members().is_empty(), "nothing of the task stays here");
    world.cluster.set_faults(SimFaults::default());
    // The next owner has another transactional id; it waits until the offsets are decided.
    let next = world.process("app-1-0", &MemoryDisk::new());
    let whole = world.committed().is_some();
    let found = (world.records("out"), world.records("app-counts-changelog"));
    assert_eq!(found, if whole { (1, 1) } else { (0, 0) });
    assert_eq!((one.row(), next.row()), (None, None));
}

#[test]
fn abort_while_another_thread_commits() {
    let world = World::new();
    let (mut one, disk) = (world.process("app-0-0", &MemoryDisk::new()), MemoryDisk::new());
    let mut other = world.process("app-0-1", &disk);
    one.seal(1);
    one.until("committing", |member| member.committer.phase() == Phase::Committing);
    other.begin(1);
    other.until("its output has arrived", |m| {
        m.world.cluster.offset(&place("out"), OffsetQuery::HighWatermark) > 1
    });
    other.committer.abandon();
    other.until("aborted", |member| member.committer.is_idle());
    assert!(matches!(one.event(), Event::Committed { .. }));
    world.has_the_unit();
    assert_eq!((one.row(), other.row()), (Some(b"1".to_vec()), None));
    assert!(other.log.producer("app-0-2", Bell::new()).is_ok(), "its log goes on");
}

//! Restores from the simulated log, where changelogs have open and aborted transactions, markers at
//! their ends, compacted gaps and deleted starts.

mod kinds;

use headwater_state::database::memory::MemoryDisk;
use headwater_state::directory::{Identity, Storage};
use headwater_state::error::Mode;
use headwater_state::positions::StorePositions;
use headwater_state::store::Rows;

use super::*;
use crate::actor::{Poll, Ticket, ticket};
use crate::log::sim::{Process, SimCluster, SimConfig, SimLog};
use crate::log::{
    Cleanup, CommitRequest, Identity as Member, LogResult, StateBatch, TopicSpec,
    TransactionalProducer,
};
use crate::record::{Headers, RecordBatch, RecordBatchBuilder, TopicPartition};
use crate::runtime::board::TaskState;
use crate::serde::serdes::string;
use crate::store::{StoreKind, StoreSpec};
use crate::time::{Clock, VirtualClock};

const TASK: TaskId = TaskId { subtopology: 0, partition: 0 };
/// Here a restore is long.
const MANY: u32 = 10_000;
/// What so many records need is long.
const LONG: u64 = 1 << 20;
const CHANGELOG: &str = "app-s-changelog";

/// A cluster with one changelog, a disk, and a restorer over both.
struct Scene {
    cluster: SimCluster,
    log: SimLog,
    clock: VirtualClock,
    disk: MemoryDisk,
    board: Board,
    restorer: Restorer,
    requests: Address<RestoreRequest>,
    kind: StoreKind,
}

type Opened = Ticket<Result<OpenedTask, RestoreError>>;

impl Scene {
    fn new() -> Self {
        let cluster = SimCluster::new(SimConfig::calm(1));
        let cleanup = Cleanup::Compact;
        cluster.create_topic(TopicSpec { name: CHANGELOG.into(), partitions: 1, cleanup });
        Self::over(cluster, MemoryDisk::new(), VirtualClock::new(0))
    }

    fn over(cluster: SimCluster, disk: MemoryDisk, clock: VirtualClock) -> Self {
        Self::with(cluster, disk, clock, LONG)
    }

    fn with(cluster: SimCluster, disk: MemoryDisk, clock: VirtualClock, long: u64) -> Self {
        let log = cluster.connect(&Process::new("a"));
        let wanted = Identity {
            mode: Mode::Kafka,
            applications: ["app".to_owned()].into(),
            cluster: Some("c".to_owned()),
        };
        let directory = StateDirectory::open(Storage::Memory(disk.clone()), wanted);
        let board = Board::new();
        let (restorer, requests) = Restorer::new(RestorerParts {
            application: "app".into(),
            log: Arc::new(log.clone()),
            home: StateHome::PerTask(Arc::new(directory.expect("a fresh directory"))),
            leases: Leases::new(),
            board: board.clone(),
            metrics: Metrics::new(),
            bulk_bytes: 1 << 20,
            long_restore_bytes: long,
            ended: Arc::default(),
        });
        let kind = StoreKind::KeyValue;
        Self { cluster, log, clock, disk, board, restorer, requests, kind }
    }

    /// The next process, after this one died with so many unsynced batches on its disk.
    fn killed(self, kept: usize) -> Self {
        let Self { cluster, disk, clock, .. } = self;
        disk.crash(kept);
        Self::over(cluster, disk, clock)
    }

    fn round(&mut self) {
        let cluster = self.cluster.step(self.clock.now());
        let restorer = self.restorer.step(self.clock.now());
        if cluster != Next::Again && restorer != Next::Again {
            self.clock.advance(Duration::from_millis(1));
        }
    }

    fn answer<T>(&mut self, ticket: &Ticket<T>) -> T {
        for _ in 0..100_000 {
            match ticket.poll() {
                Poll::Done(answer) => return answer,
                Poll::Pending => self.round(),
                Poll::Abandoned => panic!("nobody answers"),
            }
        }
        panic!("no answer comes")
    }

    fn well<T>(&mut self, ticket: &Ticket<LogResult<T>>) -> T {
        self.answer(ticket).expect("the log answers")
    }

    /// Asks for the task, as its thread does.
    fn open(&mut self) -> Opened {
        self.board.task(TASK, 0, TaskState::Opening);
        let changelog = Some(TopicPartition::new(CHANGELOG, 0));
        let spec = StoreSpec::new("s", self.kind, string(), string());
        let store = StoreBlueprint { index: 0, spec, family: "app/s".to_owned(), changelog };
        let task = Blueprint {
            task: TASK,
            inputs: Vec::new(),
            stores: vec![store],
            purged: std::collections::BTreeSet::new(),
        };
        let (promise, ticket) = ticket(Bell::new());
        let request = RestoreRequest::Open { task: Arc::new(task), promise };
        self.requests.send(request).expect("there is room");
        ticket
    }

    fn restored(&mut self) -> StorePartition {
        let opened = self.open();
        let opened = self.answer(&opened).expect("restored");
        opened.stores.into_iter().next().expect("one store")
    }

    fn progress(&self) -> RestoreProgress {
        self.board.tasks()[&TASK].restores["s"].clone()
    }

    fn append(&self, rows: &[(&str, Option<&str>)]) -> i64 {
        self.cluster.append(&TopicPartition::new(CHANGELOG, 0), &batch(rows))
    }

    fn producer(&mut self, id: &str) -> Box<dyn TransactionalProducer> {
        let mut producer = self.log.producer(id, Bell::new()).expect("a producer");
        let ticket = producer.initialise();
        self.well(&ticket);
        producer.begin().expect("begun");
        producer
    }

    fn send(&mut self, to: &mut dyn TransactionalProducer, rows: &[(&str, Option<&str>)]) {
        let end = self.watermark();
        to.send(&TopicPartition::new(CHANGELOG, 0), &batch(rows)).expect("sent");
        while self.watermark() == end {
            self.round();
        }
    }

    fn commit(&mut self, producer: &mut dyn TransactionalProducer) {
        let identity = Member { group: "app".into(), member: "".into(), epoch: -1 };
        let request = CommitRequest { offsets: Vec::new(), identity, state: StateBatch::default() };
        let ticket = producer.commit(request);
        self.well(&ticket);
        while !self.cluster.is_settled() {
            self.round();
        }
    }

    fn abort(&mut self, producer: &mut dyn TransactionalProducer) {
        let ticket = producer.abort();
        self.well(&ticket);
        while !self.cluster.is_settled() {
            self.round();
        }
    }

    fn watermark(&self) -> i64 {
        let changelog = TopicPartition::new(CHANGELOG, 0);
        self.cluster.offset(&changelog, crate::log::OffsetQuery::HighWatermark)
    }
}

fn batch(rows: &[(&str, Option<&str>)]) -> RecordBatch {
    let mut builder = RecordBatchBuilder::new();
    for (key, value) in rows {
        let value = value.map(str::as_bytes);
        builder.append(0, Some(key.as_bytes()), value, Headers::empty()).expect("small");
    }
    RecordBatch::new(0, builder.finish()).expect("just built")
}

fn value(store: &StorePartition, key: &str) -> Option<String> {
    let value = store.get(key.as_bytes()).expect("read")?;
    Some(String::from_utf8_lossy(&value).into_owned())
}

#[test]
fn an_aborted_tail_and_the_markers_at_the_end_do_not_hold_a_restore_up() {
    let mut scene = Scene::new();
    let mut producer = scene.producer("t");
    scene.send(&mut *producer, &[("a", Some("1")), ("b", Some("1"))]);
    scene.commit(&mut *producer);
    producer.begin().expect("begun");
    scene.send(&mut *producer, &[("a", Some("lost")), ("c", Some("lost"))]);
    scene.abort(&mut *producer);
    let store = scene.restored();
    assert_eq!(value(&store, "a").as_deref(), Some("1"));
    assert_eq!(value(&store, "c"), None, "aborted");
    // Two records, a marker, two aborted records, a marker: no record lies at the end.
    assert_eq!((scene.watermark(), store.positions().changelog), (6, Some(6)));
    assert_eq!(scene.progress().records, 2);
    assert_eq!(scene.progress().remaining(), 0);
}

#[test]
fn an_open_transaction_before_the_target_is_waited_for_and_restored_once_committed() {
    let mut scene = Scene::new();
    scene.append(&[("a", Some("1"))]);
    let mut producer = scene.producer("t");
    scene.send(&mut *producer, &[("a", Some("2"))]);
    let opened = scene.open();
    for _ in 0..500 {
        scene.round();
    }
    assert!(matches!(opened.poll(), Poll::Pending), "the last stable offset is not the end");
    assert_eq!(scene.board.tasks()[&TASK].state, TaskState::Restoring);
    assert_eq!(scene.progress().remaining(), 1);
    scene.commit(&mut *producer);
    let opened = scene.answer(&opened).expect("restored");
    assert_eq!(value(&opened.stores[0], "a").as_deref(), Some("2"));
}

#[test]
fn the_target_is_the_watermark_after_the_request_and_does_not_move() {
    let mut scene = Scene::new();
    scene.append(&[("a", Some("1"))]);
    let opened = scene.open();
    while !scene.board.tasks()[&TASK].restores.contains_key("s") {
        scene.round();
    }
    scene.append(&[("b", Some("later"))]);
    let _opened = scene.answer(&opened).expect("restored");
    assert_eq!(scene.progress().end, 1, "what comes after it is its own doing");
}

#[test]
fn gaps_of_a_compacted_changelog_are_passed_over() {
    let mut scene = Scene::new();
    scene.append(&[("a", Some("1"))]);
    scene.append(&[("b", Some("1"))]);
    scene.append(&[("a", Some("2"))]);
    scene.append(&[("b", None)]);
    scene.cluster.compact(CHANGELOG);
    let store = scene.restored();
    assert_eq!(value(&store, "a").as_deref(), Some("2"));
    assert_eq!(value(&store, "b"), None);
    assert_eq!((store.positions().changelog, scene.progress().records), (Some(4), 2));
}

#[test]
fn a_restore_goes_on_at_the_stores_own_position() {
    let mut scene = Scene::new();
    scene.append(&[("a", Some("1")), ("b", Some("1"))]);
    drop(scene.restored());
    scene.append(&[("c", Some("1"))]);
    let mut scene = scene.killed(usize::MAX);
    let store = scene.restored();
    assert_eq!(value(&store, "b").as_deref(), Some("1"));
    assert_eq!((scene.progress().from, scene.progress().records), (2, 1));
    assert_eq!(scene.progress().why, "the store's position");
}

#[test]
fn a_store_that_the_changelogs_start_has_passed_is_rebuilt_and_a_copy_of_it_is_kept() {
    let mut scene = Scene::new();
    scene.append(&[("gone", Some("1"))]);
    drop(scene.restored());
    scene.append(&[("missed", Some("1"))]);
    let end = scene.append(&[("kept", Some("1"))]);
    let changelog = TopicPartition::new(CHANGELOG, 0);
    let cut = scene.log.delete_records(vec![(changelog, end - 1)]);
    scene.well(&cut);
    let mut scene = scene.killed(usize::MAX);
    let store = scene.restored();
    assert_eq!(value(&store, "gone"), None);
    assert_eq!(value(&store, "kept").as_deref(), Some("1"));
    assert_eq!(scene.progress().why, "the changelog no longer has the store's position");
    assert_eq!(scene.progress().from, 2);
    let aside: Vec<_> =
        scene.disk.databases().into_iter().filter(|name| name != "app/0_0").collect();
    assert_eq!(aside.len(), 1, "{aside:?}");
    let copy: Arc<dyn Database> = scene.disk.open(&aside[0]).expect("it opens");
    let copy = StorePartition::open(copy, Leases::new().grant("app/s", 0)).expect("opens");
    assert_eq!(value(&copy, "gone").as_deref(), Some("1"));
}

#[test]
fn a_changelog_that_ends_before_the_stores_position_rebuilds_the_store() {
    let mut scene = Scene::new();
    scene.append(&[("a", Some("1")), ("b", Some("1"))]);
    drop(scene.restored());
    // The topic was deleted and made anew.
    let cluster = SimCluster::new(SimConfig::calm(2));
    cluster.create_topic(TopicSpec {
        name: CHANGELOG.into(),
        partitions: 1,
        cleanup: Cleanup::Compact,
    });
    scene.disk.crash(usize::MAX);
    let Scene { disk, clock, .. } = scene;
    let mut scene = Scene::over(cluster, disk, clock);
    scene.append(&[("a", Some("new"))]);
    let store = scene.restored();
    assert_eq!(value(&store, "a").as_deref(), Some("new"));
    assert_eq!(value(&store, "b"), None);
    assert_eq!(scene.progress().why, "the changelog ends before the store's position");
}

/// Enough records that they are sorted and added as files: twice each key, and some deleted.
fn fill(scene: &Scene) -> u32 {
    let keys = MANY;
    let long = "x".repeat(100);
    for turn in 0..2 {
        for first in (0..keys).step_by(500) {
            let names: Vec<_> = (first..first + 500).map(|key| format!("key{key:06}")).collect();
            let text = format!("{turn}{long}");
            let rows: Vec<_> = names
                .iter()
                .zip(first..)
                .map(|(name, key)| {
                    let gone = turn == 1 && key.is_multiple_of(10);
                    (name.as_str(), (!gone).then_some(text.as_str()))
                })
                .collect();
            scene.append(&rows);
        }
    }
    keys
}

/// Compares a store with the first `position` records that `fill` wrote.
fn check_filled(store: &StorePartition, keys: u32, position: i64) {
    let position = u32::try_from(position).expect("small");
    for key in (0..keys).step_by(7) {
        let second = keys + key < position;
        let expected = match (key < position, second) {
            (false, _) => None,
            (true, false) => Some('0'),
            (true, true) if key.is_multiple_of(10) => None,
            (true, true) => Some('1'),
        };
        let found = value(store, &format!("key{key:06}"));
        let found = found.as_deref().and_then(|text| text.chars().next());
        assert_eq!(found, expected, "key {key} at position {position}");
    }
}

#[test]
fn many_records_come_in_sorted_files_and_the_last_value_of_each_key_wins() {
    let mut scene = Scene::new();
    let keys = fill(&scene);
    let store = scene.restored();
    check_filled(&store, keys, i64::from(keys) * 2);
    assert_eq!(scene.progress().records, u64::from(keys) * 2);
    let batches = scene.disk.unsynced();
    assert!((3..20).contains(&batches), "{batches} files rather than a batch each turn");
}

#[test]
fn killed_after_any_file_the_store_is_a_prefix_and_the_restore_goes_on_there() {
    for kept in 0..9 {
        let mut scene = Scene::new();
        let keys = fill(&scene);
        drop(scene.restored());
        let mut scene = scene.killed(kept);
        let database: Arc<dyn Database> = scene.disk.open("app/0_0").expect("it opens");
        let store = StorePartition::open(Arc::clone(&database), Leases::new().grant("app/s", 0));
        let store = store.expect("opens");
        let position = store.positions().changelog.unwrap_or(0);
        check_filled(&store, keys, position);
        drop((store, database));
        let store = scene.restored();
        assert_eq!(scene.progress().from, position);
        check_filled(&store, keys, i64::from(keys) * 2);
    }
}

#[test]
fn a_full_disk_is_waited_for_and_nothing_is_lost() {
    let mut scene = Scene::new();
    let keys = fill(&scene);
    let opened = scene.open();
    while scene.board.tasks()[&TASK].restores.is_empty() {
        scene.round();
    }
    use headwater_state::database::memory::Fault;
    scene.disk.faults().fail_writes(Some(Fault::Full));
    for _ in 0..200 {
        scene.round();
    }
    assert!(matches!(opened.poll(), Poll::Pending));
    scene.disk.faults().heal();
    let opened = scene.answer(&opened).expect("restored");
    check_filled(&opened.stores[0], keys, i64::from(keys) * 2);
}

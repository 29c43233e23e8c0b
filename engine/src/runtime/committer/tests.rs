//! Every row of the committer's crash table, on a scripted producer: what was asked of the log in
//! which order, what is in the database at that point, and what a restart asks for first.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use headwater_state::database::memory::MemoryDisk;
use headwater_state::lease::Leases;
use headwater_state::positions::StorePositions;
use headwater_state::store::{Committed, Rows, StorePartition};

use super::*;
use crate::actor::{Actor, Promise};
use crate::log::{
    Committed as LogCommitted, Isolation, OffsetQuery, PartitionReader, Purpose, TopicSpec,
};
use crate::record::Headers;
use crate::record::batch::RecordBatchBuilder;
use crate::runtime::writer::StateWriter;

/// What the scripted log answers next to a call; without a script it says yes.
#[derive(Debug, Clone)]
enum Answer {
    /// Keeps the caller waiting until [`Script::resolve`].
    Later,
    /// Nobody will ever answer.
    Never,
    Refuse(ErrorClass),
}

#[derive(Debug, Default)]
struct Script {
    calls: Vec<String>,
    answers: VecDeque<(&'static str, Answer)>,
    waiting: Vec<Promise<LogResult<LogCommitted>>>,
    holds_state: bool,
    identities: Vec<Identity>,
    offsets: Vec<Vec<(TopicPartition, CommittedOffset)>>,
    stores_committed: usize,
    sent: i64,
}

#[derive(Debug, Clone, Default)]
struct ScriptedLog(Arc<Mutex<Script>>);

impl ScriptedLog {
    fn with<R>(&self, f: impl FnOnce(&mut Script) -> R) -> R {
        f(&mut self.0.lock().expect("no test panics under the lock"))
    }

    fn call(&self, name: &'static str) -> Option<Answer> {
        self.with(|script| {
            script.calls.push(name.to_owned());
            match script.answers.front() {
                Some((next, _)) if *next == name => script.answers.pop_front().map(|(_, a)| a),
                _ => None,
            }
        })
    }

    fn answer(&self, call: &'static str, answer: Answer) {
        self.with(|script| script.answers.push_back((call, answer)));
    }

    fn calls(&self) -> Vec<String> {
        self.with(|script| std::mem::take(&mut script.calls))
    }

    /// The log gets round to the commit that waits.
    fn resolve(&self) {
        let ends = self.ends();
        let promise = self.with(|script| script.waiting.pop()).expect("a commit waits");
        promise.fulfil(Ok(LogCommitted { state: None, ends }));
    }

    fn ends(&self) -> Vec<(TopicPartition, i64)> {
        vec![(changelog(), self.with(|script| script.sent))]
    }

    fn started(&self, name: &'static str, bell: &Bell) -> Ticket<LogResult<()>> {
        match self.call(name) {
            None => Ticket::done(Ok(())),
            Some(Answer::Refuse(class)) => Ticket::done(Err(refused(name, class))),
            Some(Answer::Later | Answer::Never) => ticket(bell.clone()).1,
        }
    }
}

fn refused(name: &'static str, class: ErrorClass) -> LogError {
    LogError::new(class, name, "scripted")
}

struct ScriptedProducer {
    log: ScriptedLog,
    bell: Bell,
}

impl TransactionalProducer for ScriptedProducer {
    fn initialise(&mut self) -> Ticket<LogResult<()>> {
        self.log.started("initialise", &self.bell)
    }

    fn begin(&mut self) -> LogResult<()> {
        match self.log.call("begin") {
            Some(Answer::Refuse(class)) => Err(refused("begin", class)),
            _ => Ok(()),
        }
    }

    fn send(&mut self, _to: &TopicPartition, records: &RecordBatch) -> LogResult<()> {
        match self.log.call("send") {
            Some(Answer::Refuse(class)) => Err(refused("send", class)),
            _ => {
                self.log.with(|script| script.sent += i64::from(records.count()));
                Ok(())
            }
        }
    }

    fn commit(&mut self, request: CommitRequest) -> Ticket<LogResult<LogCommitted>> {
        self.log.with(|script| {
            script.identities.push(request.identity.clone());
            script.offsets.push(request.offsets.clone());
            script.stores_committed += request.state.stores.len();
        });
        match self.log.call("commit") {
            None => Ticket::done(Ok(LogCommitted { state: None, ends: self.log.ends() })),
            Some(Answer::Refuse(class)) => Ticket::done(Err(refused("commit", class))),
            Some(Answer::Never) => ticket(self.bell.clone()).1,
            Some(Answer::Later) => {
                let (promise, ticket) = ticket(self.bell.clone());
                self.log.with(|script| script.waiting.push(promise));
                ticket
            }
        }
    }

    fn abort(&mut self) -> Ticket<LogResult<()>> {
        self.log.started("abort", &self.bell)
    }
}

impl Log for ScriptedLog {
    fn kind(&self) -> &'static str {
        "scripted"
    }
    fn holds_state(&self) -> bool {
        self.with(|script| script.holds_state)
    }
    fn describe_topics(&self, _: Vec<Arc<str>>) -> Ticket<LogResult<Vec<TopicSpec>>> {
        Ticket::done(Ok(Vec::new()))
    }
    fn create_topics(&self, _: Vec<TopicSpec>) -> Ticket<LogResult<()>> {
        Ticket::done(Ok(()))
    }
    fn delete_records(&self, _: Vec<(TopicPartition, i64)>) -> Ticket<LogResult<()>> {
        Ticket::done(Ok(()))
    }
    fn offsets(&self, _: Vec<TopicPartition>, _: OffsetQuery) -> Ticket<LogResult<Vec<i64>>> {
        Ticket::done(Ok(Vec::new()))
    }
    fn committed(
        &self,
        _: &str,
        _: Vec<TopicPartition>,
    ) -> Ticket<LogResult<Vec<Option<CommittedOffset>>>> {
        Ticket::done(Ok(Vec::new()))
    }
    fn reader(
        &self,
        _: &TopicPartition,
        _: i64,
        _: Isolation,
        _: Purpose,
        _: Bell,
    ) -> LogResult<Box<dyn PartitionReader>> {
        Err(refused("reader", ErrorClass::Fatal))
    }
    fn producer(&self, id: &str, bell: Bell) -> LogResult<Box<dyn TransactionalProducer>> {
        self.with(|script| script.calls.push(format!("producer {id}")));
        Ok(Box::new(ScriptedProducer { log: self.clone(), bell }))
    }
}

const TASK: TaskId = TaskId { subtopology: 0, partition: 0 };

fn input() -> TopicPartition {
    TopicPartition::new("orders", 0)
}

fn changelog() -> TopicPartition {
    TopicPartition::new("app-counts-changelog", 0)
}

fn batch() -> RecordBatch {
    let mut builder = RecordBatchBuilder::new();
    builder.append(1, Some(b"k"), Some(b"v"), Headers::empty()).expect("small");
    RecordBatch::new(0, builder.finish()).expect("well-formed")
}

fn now(ms: u64) -> Now {
    Now { monotonic: Duration::from_millis(ms), wall_ms: 0 }
}

/// A committer with its writer, a database, and one task with one store.
struct Bench {
    log: ScriptedLog,
    disk: MemoryDisk,
    leases: Leases,
    store: StorePartition,
    committer: Committer,
    writer: StateWriter,
    now_ms: u64,
}

impl Bench {
    fn new(log: &ScriptedLog, disk: &MemoryDisk) -> Self {
        let leases = Leases::new();
        let lease = leases.grant("app/counts", 0);
        let database = disk.open("data").expect("memory opens");
        let store = StorePartition::open(database, lease).expect("opens");
        let (writer, jobs) =
            StateWriter::new("app", leases.clone(), Arc::new(AtomicBool::new(false)));
        let committer = Committer::new(Arc::new(log.clone()), "app-0-0", Bell::new(), jobs);
        Self { log: log.clone(), disk: disk.clone(), leases, store, committer, writer, now_ms: 0 }
    }

    /// A bench whose committer is idle, as after start.
    fn idle() -> Self {
        let mut bench = Self::new(&ScriptedLog::default(), &MemoryDisk::new());
        bench.until(Phase::Idle);
        assert_eq!(bench.log.calls(), ["producer app-0-0", "initialise"]);
        bench
    }

    /// The process dies and starts again on the same disk and log.
    fn restart(self) -> Self {
        let Self { log, disk, committer, store, writer, .. } = self;
        drop((committer, store, writer));
        log.calls();
        disk.crash(0);
        Self::new(&log, &disk)
    }

    fn step(&mut self) -> Option<Event> {
        self.now_ms += 1;
        self.committer.step(now(self.now_ms)).0
    }

    fn until(&mut self, phase: Phase) {
        for _ in 0..20 {
            if self.committer.phase() == phase {
                return;
            }
            assert!(self.step().is_none(), "no transaction ends on the way to {phase:?}");
        }
        panic!("{phase:?} was not reached, but {:?}", self.committer.phase());
    }

    /// Steps committer and writer until a transaction ends.
    fn event(&mut self) -> Event {
        for _ in 0..40 {
            if let Some(event) = self.step() {
                return event;
            }
            self.writer.step(now(self.now_ms));
        }
        panic!("no transaction ended in {:?}", self.committer.phase());
    }

    fn begin(&mut self, epoch: i32) {
        let identity = Identity { group: "app".into(), member: "m".into(), epoch };
        let event = self.committer.begin(identity, BTreeSet::from([TASK]), now(self.now_ms));
        assert!(event.is_none());
    }

    /// Begins as a process without a group.
    fn begin_alone(&mut self) {
        let identity = Identity { group: "app".into(), member: "".into(), epoch: -1 };
        let event = self.committer.begin(identity, BTreeSet::from([TASK]), now(self.now_ms));
        assert!(event.is_none());
    }

    /// One record is processed: an output, and a row in the store.
    fn process(&mut self, value: &[u8]) {
        self.store.put(b"k", value).expect("fits");
        self.committer.send([(TopicPartition::new("out", 0), batch())]);
    }

    fn share(&mut self, offsets: TaskOffsets) -> TaskShare {
        let rows = self.store.freeze();
        let records = if rows.is_empty() { vec![] } else { vec![(changelog(), batch())] };
        let state = StateBatch { stores: vec![self.store.commit(None)], tasks: vec![] };
        let commit = TaskCommit { offsets, records, state };
        TaskShare { task: TASK, commit, database: Arc::clone(self.store.database()) }
    }

    /// Begins, processes a record and asks for the commit.
    fn seal(&mut self) {
        self.begin(1);
        self.process(b"1");
        let share = self.share(vec![(input(), at(1, ""))]);
        self.committer.commit(vec![share]);
    }

    fn committed(&self) -> Committed<'_> {
        let store = &self.store;
        let (family, partition) = (store.family(), store.partition());
        Committed { reader: &**store.database(), family, partition }
    }

    fn row(&self) -> Option<Vec<u8>> {
        self.committed().get(b"k").expect("reads").map(|v| v.into_bytes().to_vec())
    }

    fn positions(&self) -> StorePositions {
        self.committed().positions().expect("reads")
    }
}

fn at(next_offset: i64, metadata: &str) -> CommittedOffset {
    CommittedOffset { next_offset, metadata: metadata.to_owned() }
}

/// After a crash here, the first thing asked of the log is to fence and resolve, and the state on
/// disk is the unit before.
fn a_restart_resolves_first_and_finds_the_unit_before(bench: Bench) {
    let mut bench = bench.restart();
    bench.until(Phase::Idle);
    assert_eq!(bench.log.calls(), ["producer app-0-0", "initialise"]);
    assert_eq!(bench.row(), None);
    assert_eq!(bench.positions().changelog, None);
}

#[test]
fn killed_before_begin_nothing_was_asked_of_the_log() {
    let bench = Bench::idle();
    assert!(bench.log.calls().is_empty());
    a_restart_resolves_first_and_finds_the_unit_before(bench);
}

#[test]
fn killed_mid_produce_the_open_transaction_is_ended_by_the_next_start() {
    let mut bench = Bench::idle();
    bench.begin(1);
    bench.process(b"1");
    bench.step();
    assert_eq!(bench.log.calls(), ["begin", "send"]);
    a_restart_resolves_first_and_finds_the_unit_before(bench);
}

#[test]
fn killed_after_the_flush_no_commit_was_asked() {
    let mut bench = Bench::idle();
    bench.log.answer("send", Answer::Refuse(ErrorClass::Retry));
    bench.seal();
    bench.step();
    assert_eq!(bench.committer.phase(), Phase::Sealed);
    assert!(!bench.log.calls().contains(&"commit".to_owned()));
    a_restart_resolves_first_and_finds_the_unit_before(bench);
}

#[test]
fn killed_during_offsets_or_commit_the_database_has_nothing_of_it() {
    let mut bench = Bench::idle();
    bench.log.answer("commit", Answer::Later);
    bench.seal();
    bench.until(Phase::Committing);
    assert_eq!(bench.log.calls(), ["begin", "send", "send", "commit"]);
    bench.step();
    bench.writer.step(now(50));
    assert_eq!(bench.row(), None);
    a_restart_resolves_first_and_finds_the_unit_before(bench);
}

#[test]
fn killed_after_the_commit_before_the_batch_the_changelog_has_what_the_database_lacks() {
    let mut bench = Bench::idle();
    bench.seal();
    bench.until(Phase::Writing);
    a_restart_resolves_first_and_finds_the_unit_before(bench);
}

#[test]
fn after_the_batch_the_database_has_the_unit_with_its_changelog_position() {
    let mut bench = Bench::idle();
    bench.seal();
    let Event::Committed { tasks, ends } = bench.event() else { panic!("it commits") };
    assert_eq!(bench.row(), Some(b"1".to_vec()));
    assert_eq!(bench.positions().changelog, Some(2));
    assert_eq!(tasks, [(TASK, vec![(input(), at(1, ""))])]);
    assert_eq!(ends, [(changelog(), 2)]);
    assert!(bench.committer.is_idle());
}

#[test]
fn a_log_that_holds_the_state_gets_it_with_the_commit_and_nothing_is_written_here() {
    let mut bench = Bench::idle();
    bench.log.with(|script| script.holds_state = true);
    bench.seal();
    assert!(matches!(bench.event(), Event::Committed { .. }));
    assert_eq!(bench.log.with(|script| script.stores_committed), 1);
    assert_eq!(bench.row(), None, "the scripted log writes none");
}

#[test]
fn a_zombie_with_an_old_epoch_is_refused_and_rewinds() {
    let mut bench = Bench::idle();
    bench.log.answer("commit", Answer::Refuse(ErrorClass::Abort));
    bench.seal();
    assert!(matches!(bench.event(), Event::Lost(error) if error.class == ErrorClass::Abort));
    bench.until(Phase::Idle);
    assert_eq!(bench.log.calls(), ["begin", "send", "send", "commit", "abort"]);
    assert_eq!(bench.row(), None);
}

#[test]
fn a_zombie_whose_lease_was_taken_over_writes_nothing_though_its_commit_went_through() {
    let mut bench = Bench::idle();
    bench.seal();
    bench.until(Phase::Writing);
    bench.leases.grant("app/counts", 0);
    assert!(matches!(bench.event(), Event::Lost(error) if error.class == ErrorClass::Fenced));
    assert_eq!(bench.row(), None);
    assert!(bench.committer.is_idle(), "the transaction itself is over");
}

#[test]
fn the_identity_is_the_one_of_the_begin_whatever_a_rebalance_brings_later() {
    let mut bench = Bench::idle();
    bench.begin(7);
    bench.process(b"1");
    let share = bench.share(vec![(input(), at(1, ""))]);
    bench.committer.commit(vec![share]);
    assert!(matches!(bench.event(), Event::Committed { .. }));
    assert_eq!(bench.log.with(|script| script.identities[0].epoch), 7);
}

#[test]
#[should_panic(expected = "task 0_9 was not assigned when the transaction began")]
fn a_task_that_came_after_the_begin_is_not_in_the_transaction() {
    let mut bench = Bench::idle();
    bench.begin(1);
    let mut share = bench.share(vec![]);
    share.task = TaskId { subtopology: 0, partition: 9 };
    bench.committer.commit(vec![share]);
}

#[test]
fn a_transaction_that_moved_no_offset_commits_the_old_one_with_new_clocks() {
    let mut bench = Bench::idle();
    bench.begin(1);
    bench.committer.send([(TopicPartition::new("out", 0), batch())]);
    let share = bench.share(vec![(input(), at(5, "clock=9"))]);
    bench.committer.commit(vec![share]);
    assert!(matches!(bench.event(), Event::Committed { .. }));
    assert_eq!(bench.log.with(|script| script.offsets[0].clone()), [(input(), at(5, "clock=9"))]);
}

#[test]
fn an_unknown_result_is_resolved_by_a_new_producer_and_never_written() {
    let mut bench = Bench::idle();
    bench.log.answer("commit", Answer::Never);
    bench.seal();
    assert!(matches!(bench.event(), Event::Lost(_)));
    assert!(!bench.committer.is_idle(), "offsets must not be read before it is resolved");
    bench.until(Phase::Idle);
    assert_eq!(
        bench.log.calls(),
        ["begin", "send", "send", "commit", "producer app-0-0", "initialise"]
    );
    bench.writer.step(now(99));
    assert_eq!(bench.row(), None);
}

#[test]
fn a_task_that_moves_away_while_the_result_is_unknown_leaves_no_member_behind() {
    let mut bench = Bench::idle();
    bench.log.answer("commit", Answer::Never);
    bench.seal();
    bench.log.answer("initialise", Answer::Refuse(ErrorClass::Retry));
    assert!(matches!(bench.event(), Event::Lost(_)));
    assert!(bench.committer.members().is_empty());
    bench.step();
    bench.step();
    assert_eq!(bench.committer.phase(), Phase::Absent, "it backs off and tries again");
    bench.now_ms += 200;
    bench.until(Phase::Idle);
}

#[test]
fn an_abort_leaves_the_commit_of_another_thread_alone() {
    let (log, disk) = (ScriptedLog::default(), MemoryDisk::new());
    let mut one = Bench::new(&log, &disk);
    let mut other = Bench::new(&log, &MemoryDisk::new());
    one.until(Phase::Idle);
    other.until(Phase::Idle);
    one.log.answer("commit", Answer::Later);
    one.seal();
    one.until(Phase::Committing);
    other.begin(1);
    other.process(b"2");
    other.committer.abandon();
    other.until(Phase::Idle);
    one.log.resolve();
    assert!(matches!(one.event(), Event::Committed { .. }));
    assert_eq!((one.row(), other.row()), (Some(b"1".to_vec()), None));
}

#[test]
fn a_full_disk_is_waited_for_and_the_state_is_written_then() {
    let mut bench = Bench::idle();
    bench.seal();
    bench.until(Phase::Writing);
    bench.disk.faults().fail_writes(Some(headwater_state::database::memory::Fault::Full));
    bench.writer.step(now(100));
    assert!(bench.step().is_none());
    bench.disk.faults().heal();
    bench.writer.step(now(10_000));
    assert!(matches!(bench.event(), Event::Committed { .. }));
    assert_eq!(bench.row(), Some(b"1".to_vec()));
}

/// The next begin finds that another producer has the id.
fn fenced_at_begin(bench: &mut Bench, member: &str) -> Event {
    bench.log.answer("begin", Answer::Refuse(ErrorClass::Fenced));
    let identity = Identity { group: "app".into(), member: member.into(), epoch: -1 };
    let event = bench.committer.begin(identity, BTreeSet::from([TASK]), now(bench.now_ms));
    event.expect("a fence is an event")
}

#[test]
fn the_producer_of_a_member_that_is_fenced_is_replaced_but_not_for_ever() {
    let mut bench = Bench::idle();
    for _ in 1..FENCE_LIMIT {
        assert!(matches!(fenced_at_begin(&mut bench, "m"), Event::Lost(_)));
        bench.until(Phase::Idle);
    }
    assert!(matches!(fenced_at_begin(&mut bench, "m"), Event::Fatal(_)));
    assert_eq!(bench.committer.phase(), Phase::Dead);
}

#[test]
fn a_process_without_a_group_that_is_fenced_stops_at_once_and_says_what_to_do() {
    let mut bench = Bench::idle();
    let Event::Fatal(error) = fenced_at_begin(&mut bench, "") else { panic!("it stops") };
    let text = error.to_string();
    for part in ["application app", "id app-0-0", "stop the other one", "members of a group"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(bench.committer.phase(), Phase::Dead);
}

#[test]
fn a_process_without_a_group_is_fenced_by_its_own_transaction_that_took_too_long() {
    let mut bench = Bench::idle();
    bench.begin_alone();
    bench.process(b"1");
    let share = bench.share(vec![(input(), at(1, ""))]);
    bench.committer.commit(vec![share]);
    bench.log.answer("commit", Answer::Refuse(ErrorClass::Fenced));
    bench.until(Phase::Committing);
    bench.now_ms += 10_000;
    assert!(matches!(bench.event(), Event::Lost(_)));
    bench.until(Phase::Idle);
}

#[test]
fn an_initialisation_that_nobody_answered_may_fence_its_successor_once() {
    let mut bench = Bench::new(&ScriptedLog::default(), &MemoryDisk::new());
    bench.log.answer("initialise", Answer::Refuse(ErrorClass::Retry));
    bench.step();
    bench.step();
    assert_eq!(bench.committer.phase(), Phase::Absent, "it backs off and tries again");
    bench.now_ms += 200;
    bench.until(Phase::Idle);
    assert!(matches!(fenced_at_begin(&mut bench, ""), Event::Lost(_)));
    bench.until(Phase::Idle);
    assert!(matches!(fenced_at_begin(&mut bench, ""), Event::Fatal(_)));
}

#[test]
fn a_process_without_a_group_that_finds_itself_fenced_at_an_abort_stops() {
    let mut bench = Bench::idle();
    bench.begin_alone();
    bench.log.answer("abort", Answer::Refuse(ErrorClass::Fenced));
    bench.committer.abandon();
    assert!(matches!(bench.event(), Event::Fatal(_)));
}

#[test]
fn records_that_find_no_room_are_sent_later_in_the_same_order() {
    let mut bench = Bench::idle();
    bench.log.answer("send", Answer::Refuse(ErrorClass::Retry));
    bench.seal();
    bench.step();
    assert_eq!(bench.committer.backlog(), 2);
    assert!(matches!(bench.event(), Event::Committed { .. }));
    assert_eq!(bench.log.calls(), ["begin", "send", "send", "send", "commit"]);
}

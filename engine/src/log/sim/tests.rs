//! What the simulated cluster promises beyond the contract of every log: what is between the steps of
//! a transaction, and its faults.

use super::*;
use crate::actor::Poll;
use crate::log::{Cleanup, CommitRequest, Identity, StateBatch};
use crate::record::{Headers, RecordBatchBuilder};
use crate::time::{Clock, VirtualClock};

struct Scene {
    cluster: SimCluster,
    clock: VirtualClock,
    process: Process,
    log: SimLog,
}

type Producer = Box<dyn TransactionalProducer>;

impl Scene {
    fn new(config: SimConfig) -> Self {
        let cluster = SimCluster::new(config);
        let cleanup = Cleanup::Delete { retention: None };
        cluster.create_topic(TopicSpec { name: "t".into(), partitions: 2, cleanup });
        let process = Process::new("a");
        let log = cluster.connect(&process);
        Self { cluster, clock: VirtualClock::new(0), process, log }
    }

    fn calm() -> Self {
        Self::new(SimConfig::calm(1))
    }

    /// Each message takes ten milliseconds.
    fn slow() -> Self {
        let faults = SimFaults { delay_ms: (10, 10), ..SimFaults::default() };
        Self::new(SimConfig { faults, ..SimConfig::calm(1) })
    }

    fn step(&mut self) -> Next {
        self.cluster.step(self.clock.now())
    }

    /// Lets so much time pass.
    fn pass(&mut self, time: Duration) {
        let until = self.clock.now().monotonic + time;
        loop {
            let now = self.clock.now().monotonic;
            match self.step() {
                Next::Again => {}
                Next::WakeAt(at) if at <= until => self.clock.advance(at.saturating_sub(now)),
                _ => {
                    self.clock.advance(until.saturating_sub(now));
                    return;
                }
            }
        }
    }

    fn settle(&mut self) {
        self.pass(Duration::from_secs(2));
    }

    fn answer<T: std::fmt::Debug>(&mut self, ticket: &Ticket<T>) -> Poll<T> {
        self.settle();
        ticket.poll()
    }

    fn done<T: std::fmt::Debug>(&mut self, ticket: &Ticket<LogResult<T>>) -> LogResult<T> {
        match self.answer(ticket) {
            Poll::Done(result) => result,
            other => panic!("answered, not {other:?}"),
        }
    }

    fn producer(&mut self, id: &str) -> Producer {
        let mut producer = self.log.producer(id, Bell::new()).expect("a producer");
        let ticket = producer.initialise();
        self.done(&ticket).expect("initialised");
        producer
    }

    fn values(&self, isolation: Isolation) -> Vec<String> {
        let mut reader = self
            .log
            .reader(&partition(0), 0, isolation, Purpose::Input, Bell::new())
            .expect("a reader");
        let fetched = reader.take(usize::MAX).expect("records");
        let records = fetched.batches.iter().flat_map(RecordBatch::records);
        records
            .map(|r| String::from_utf8_lossy(r.expect("whole").value.expect("set")).into_owned())
            .collect()
    }

    fn offset(&self, query: OffsetQuery) -> i64 {
        self.cluster.offset(&partition(0), query)
    }
}

fn partition(number: u32) -> TopicPartition {
    TopicPartition::new("t", number)
}

fn batch(values: &[&str]) -> RecordBatch {
    let mut builder = RecordBatchBuilder::new();
    for value in values {
        builder.append(0, Some(b"k"), Some(value.as_bytes()), Headers::empty()).expect("small");
    }
    RecordBatch::new(0, builder.finish()).expect("just built")
}

fn request(next_offset: Option<i64>, member: &str, epoch: i32) -> CommitRequest {
    let offset =
        |next_offset| (partition(1), CommittedOffset { next_offset, metadata: "clock".to_owned() });
    CommitRequest {
        offsets: next_offset.map(offset).into_iter().collect(),
        identity: Identity { group: "g".into(), member: member.into(), epoch },
        state: StateBatch::default(),
    }
}

fn plain() -> CommitRequest {
    request(None, "", -1)
}

#[test]
fn an_aborted_transaction_is_never_read_committed_but_takes_offsets() {
    let mut scene = Scene::calm();
    let mut producer = scene.producer("p");
    producer.begin().expect("begun");
    producer.send(&partition(0), &batch(&["a", "b"])).expect("sent");
    scene.settle();
    let ticket = producer.abort();
    scene.done(&ticket).expect("aborted");
    assert_eq!(scene.values(Isolation::ReadCommitted), [""; 0]);
    assert_eq!(scene.values(Isolation::ReadUncommitted), ["a", "b"]);
    // Two records and a marker.
    assert_eq!(scene.offset(OffsetQuery::LastStable), 3);
}

#[test]
fn readers_stop_at_an_open_transaction_even_before_committed_ones() {
    let mut scene = Scene::calm();
    let (mut open, mut other) = (scene.producer("p"), scene.producer("q"));
    open.begin().expect("begun");
    open.send(&partition(0), &batch(&["open"])).expect("sent");
    scene.settle();
    other.begin().expect("begun");
    other.send(&partition(0), &batch(&["committed"])).expect("sent");
    let ticket = other.commit(plain());
    let committed = scene.done(&ticket).expect("committed");
    assert_eq!(committed.ends, [(partition(0), 2)], "the offset after the last record");
    assert_eq!(scene.values(Isolation::ReadCommitted), [""; 0]);
    assert_eq!(scene.offset(OffsetQuery::LastStable), 0);
    assert_eq!(scene.offset(OffsetQuery::HighWatermark), 3);
    let ticket = open.commit(plain());
    scene.done(&ticket).expect("committed");
    assert_eq!(scene.values(Isolation::ReadCommitted), ["open", "committed"]);
}

#[test]
fn a_fenced_producer_cannot_commit() {
    let mut scene = Scene::calm();
    let mut zombie = scene.producer("p");
    zombie.begin().expect("begun");
    zombie.send(&partition(0), &batch(&["zombie"])).expect("sent");
    scene.settle();
    let _successor = scene.producer("p");
    let ticket = zombie.commit(request(Some(7), "", -1));
    assert_eq!(scene.done(&ticket).expect_err("fenced").class, ErrorClass::Fenced);
    assert_eq!(scene.values(Isolation::ReadCommitted), [""; 0]);
    assert_eq!(scene.cluster.committed_offset("g", &partition(1)), None);
}

#[test]
fn a_commit_killed_between_any_two_steps_is_whole_or_nothing() {
    let mut outcomes = BTreeMap::new();
    for steps in 0..40 {
        let mut scene = Scene::slow();
        let mut producer = scene.producer("p");
        producer.begin().expect("begun");
        producer.send(&partition(0), &batch(&["a"])).expect("sent");
        producer.send(&partition(1), &batch(&["b"])).expect("sent");
        drop(producer.commit(request(Some(7), "", -1)));
        for _ in 0..steps {
            if let Next::WakeAt(at) = scene.step() {
                let now = scene.clock.now().monotonic;
                scene.clock.advance(at.saturating_sub(now));
            }
        }
        scene.process.kill();
        drop(producer);
        scene.settle();
        scene.process = Process::new("a");
        scene.log = scene.cluster.connect(&scene.process);
        let _successor = scene.producer("p");
        let records = scene.cluster.committed_records("t");
        let offset = scene.cluster.committed_offset("g", &partition(1));
        let committed = offset.is_some();
        assert!(records.iter().all(|p| p.len() == usize::from(committed)), "after {steps} steps");
        *outcomes.entry(committed).or_insert(0) += 1;
    }
    assert_eq!(outcomes.len(), 2, "some kills come before the point of no return, some after");
}

#[test]
fn committed_offsets_wait_for_the_transaction_that_holds_them() {
    let mut scene = Scene::slow();
    let mut producer = scene.producer("p");
    producer.begin().expect("begun");
    let commit = producer.commit(request(Some(7), "", -1));
    // The offsets have arrived, the end of the transaction has not.
    scene.pass(Duration::from_millis(45));
    let committed = scene.log.committed("g", vec![partition(1)]);
    scene.pass(Duration::from_millis(10));
    assert!(matches!(committed.poll(), Poll::Pending));
    scene.settle();
    assert!(matches!(commit.poll(), Poll::Done(Ok(_))));
    let Poll::Done(Ok(offsets)) = committed.poll() else { panic!("decided by now") };
    assert_eq!(offsets[0].as_ref().map(|offset| offset.next_offset), Some(7));
}

#[test]
fn a_stale_epoch_or_a_stranger_cannot_commit_offsets_and_may_go_on() {
    let mut scene = Scene::calm();
    let mut producer = scene.producer("p");
    scene.cluster.set_members(&"g".into(), BTreeMap::from([("m".into(), 3)]));
    for (member, epoch) in [("m", 2), ("stranger", 3)] {
        producer.begin().expect("begun");
        producer.send(&partition(0), &batch(&["refused"])).expect("sent");
        let ticket = producer.commit(request(Some(7), member, epoch));
        assert_eq!(scene.done(&ticket).expect_err("refused").class, ErrorClass::Abort);
        let ticket = producer.abort();
        scene.done(&ticket).expect("aborted");
    }
    producer.begin().expect("begun");
    producer.send(&partition(0), &batch(&["kept"])).expect("sent");
    let ticket = producer.commit(request(Some(8), "m", 3));
    scene.done(&ticket).expect("committed");
    assert_eq!(scene.values(Isolation::ReadCommitted), ["kept"]);
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() {
    let mut scene = Scene::calm();
    let mut producer = scene.producer("p");
    producer.begin().expect("begun");
    producer.send(&partition(0), &batch(&["slow"])).expect("sent");
    scene.pass(TRANSACTION_TIMEOUT + Duration::from_secs(1));
    assert!(scene.cluster.is_settled());
    assert_eq!(scene.offset(OffsetQuery::LastStable), 2, "nobody waits for it any more");
    let ticket = producer.commit(plain());
    assert_eq!(scene.done(&ticket).expect_err("fenced").class, ErrorClass::Fenced);
}

#[test]
fn a_client_that_gives_up_on_a_commit_does_not_know_whether_it_happened() {
    let faults = SimFaults { lose_answer: 1000, give_up: 1000, ..SimFaults::default() };
    let mut scene = Scene::calm();
    let mut producer = scene.producer("p");
    producer.begin().expect("begun");
    producer.send(&partition(0), &batch(&["a"])).expect("sent");
    scene.settle();
    scene.cluster.set_faults(faults);
    let ticket = producer.commit(plain());
    assert!(matches!(scene.answer(&ticket), Poll::Abandoned));
    scene.cluster.set_faults(SimFaults::default());
    let _successor = scene.producer("p");
    assert_eq!(scene.values(Isolation::ReadCommitted), ["a"], "this time it did");
}

#[test]
fn a_moving_coordinator_asks_to_call_again_and_the_commit_can_be_called_again() {
    let mut scene = Scene::calm();
    let mut producer = scene.producer("p");
    producer.begin().expect("begun");
    producer.send(&partition(0), &batch(&["a"])).expect("sent");
    scene.settle();
    scene.cluster.set_faults(SimFaults { move_coordinator: 1000, ..SimFaults::default() });
    let ticket = producer.commit(request(Some(7), "", -1));
    assert_eq!(scene.done(&ticket).expect_err("moving").class, ErrorClass::Retry);
    scene.cluster.set_faults(SimFaults::default());
    let ticket = producer.commit(request(Some(7), "", -1));
    scene.done(&ticket).expect("committed");
    assert_eq!(scene.values(Isolation::ReadCommitted), ["a"]);
}

#[test]
fn a_paused_process_hears_answers_only_when_it_goes_on() {
    let mut scene = Scene::slow();
    let mut producer = scene.producer("p");
    producer.begin().expect("begun");
    let commit = producer.commit(request(Some(7), "", -1));
    scene.pass(Duration::from_millis(15));
    scene.process.pause();
    scene.settle();
    assert!(matches!(commit.poll(), Poll::Pending));
    scene.process.resume();
    scene.settle();
    assert!(matches!(commit.poll(), Poll::Done(Ok(_))));
}

#[test]
fn compaction_keeps_the_last_record_of_a_key_at_its_offset() {
    let mut scene = Scene::calm();
    let mut producer = scene.producer("p");
    for value in ["a", "b"] {
        producer.begin().expect("begun");
        producer.send(&partition(0), &batch(&[value])).expect("sent");
        let ticket = producer.commit(plain());
        scene.done(&ticket).expect("committed");
    }
    scene.cluster.compact("t");
    let records = scene.cluster.committed_records("t").remove(0);
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].offset, records[0].value.as_deref()), (2, Some(&b"b"[..])));
}

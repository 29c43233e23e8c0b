//! Real threads: several producers commit at once while readers follow.

use std::sync::Arc;
use std::thread;

use headwater::actor::spawn::spawn;
use headwater::actor::{Bell, Poll, Ticket};
use headwater::log::embedded::{EmbeddedLog, EmbeddedSettings};
use headwater::log::{
    Cleanup, CommitRequest, Identity, Isolation, Log, Purpose, StateBatch, TopicSpec,
};
use headwater::record::TopicPartition;
use headwater::time::SystemClock;
use headwater_state::database::memory::MemoryDisk;
use headwater_state::lease::Leases;
use headwater_tests::log_contract::scene::{EVERYTHING, batch, values};

const PRODUCERS: u32 = 4;
const COMMITS: u32 = 200;

fn wait<T>(ticket: &Ticket<T>) -> T {
    loop {
        match ticket.poll() {
            Poll::Done(answer) => return answer,
            Poll::Pending => thread::yield_now(),
            Poll::Abandoned => panic!("nobody will answer"),
        }
    }
}

fn produce(log: &EmbeddedLog, number: u32) {
    let mut producer = log.producer(&format!("p{number}"), Bell::new()).expect("a producer");
    wait(&producer.initialise()).expect("initialised");
    for commit in 0..COMMITS {
        producer.begin().expect("begun");
        let value = format!("{number}/{commit}");
        for partition in 0..2 {
            let to = TopicPartition::new("t", partition);
            producer.send(&to, &batch(&[&value])).expect("sent");
        }
        let identity = Identity { group: "g".into(), member: "".into(), epoch: -1 };
        let state = StateBatch::default();
        let request = CommitRequest { offsets: Vec::new(), identity, state };
        wait(&producer.commit(request)).expect("committed");
    }
}

fn follow(log: &EmbeddedLog, partition: u32) -> Vec<String> {
    let all = usize::try_from(PRODUCERS * COMMITS).expect("a small number");
    let from = TopicPartition::new("t", partition);
    let mut reader = log
        .reader(&from, 0, Isolation::ReadCommitted, Purpose::Input, Bell::new())
        .expect("a reader");
    let mut seen = Vec::new();
    while seen.len() < all {
        let fetched = reader.take(EVERYTHING).expect("readable");
        let next = i64::try_from(seen.len()).expect("small");
        assert!(fetched.batches.first().is_none_or(|batch| batch.base_offset() == next));
        seen.extend(values(&fetched.batches));
        thread::yield_now();
    }
    seen
}

#[test]
fn producers_on_several_threads_keep_their_order_and_both_partitions_agree() {
    let database = MemoryDisk::new().open("data").expect("a new disk");
    let (log, actors) =
        EmbeddedLog::open(database, Leases::new(), EmbeddedSettings::default()).expect("opens");
    let clock = Arc::new(SystemClock::new());
    let running: Vec<_> = actors
        .into_iter()
        .map(|actor| spawn(actor, Arc::clone(&clock) as Arc<_>).expect("a thread"))
        .collect();
    let cleanup = Cleanup::Delete { retention: None };
    let spec = TopicSpec { name: "t".into(), partitions: 2, cleanup };
    wait(&log.create_topics(vec![spec])).expect("created");
    let (first, second) = thread::scope(|scope| {
        for number in 0..PRODUCERS {
            let log = &log;
            scope.spawn(move || produce(log, number));
        }
        let first = scope.spawn(|| follow(&log, 0));
        let second = scope.spawn(|| follow(&log, 1));
        (first.join().expect("a reader"), second.join().expect("a reader"))
    });
    assert_eq!(first, second, "whole commits are in one order");
    for number in 0..PRODUCERS {
        let own: Vec<&String> =
            first.iter().filter(|value| value.starts_with(&format!("{number}/"))).collect();
        let expected: Vec<String> = (0..COMMITS).map(|c| format!("{number}/{c}")).collect();
        assert!(own.into_iter().eq(expected.iter()), "producer {number} keeps its order");
    }
    log.close();
    for actor in running {
        assert!(actor.join(), "no actor panicked");
    }
}

//! A commit is one write, under the leases of its state.

use headwater::actor::{Bell, Poll};
use headwater::error::ErrorClass;
use headwater::log::{Log, OffsetQuery, StateBatch};
use headwater_state::store::StorePartition;
use headwater_tests::log_contract::LogUnderTest;
use headwater_tests::log_contract::scene::{Scene, batch};
use headwater_tests::stepped_log::SteppedLog;

/// A state batch that sets one row of a store.
fn state(store: &mut StorePartition, value: &[u8]) -> StateBatch {
    store.put(b"row", value).expect("a short key");
    store.freeze();
    let commit = store.commit(None);
    store.committed(&commit);
    StateBatch { stores: vec![commit], tasks: Vec::new() }
}

fn row(log: &SteppedLog) -> Option<Vec<u8>> {
    let family = log.database.find_family("app/counts")?;
    let key = [&[1u8, 0, 0, 0, 0][..], b"row"].concat();
    log.database.get(&family, &key).expect("readable").map(|value| value.to_vec())
}

#[test]
fn the_state_is_written_with_the_commit_and_not_before() {
    let log = SteppedLog::in_memory();
    let scene = Scene::new(&log, "out", 1);
    let mut store = log.store("app/counts");
    let mut producer = scene.producer("p");
    producer.begin().expect("begun");
    scene.send(&mut producer, 0, &batch(&["a"])).expect("sent");
    let mut request = scene.request(&[(0, 1, "m")]);
    request.state = state(&mut store, b"1");
    let commit = producer.commit(request);
    assert!(matches!(commit.poll(), Poll::Pending), "the stream thread does not write");
    assert_eq!(row(&log), None);
    let committed = log.answer(&commit).expect("committed");
    assert!(committed.state.is_none(), "nothing is left for the committer to write");
    assert_eq!(committed.ends, [(scene.partition(0), 1)]);
    assert_eq!(row(&log), Some(b"1".to_vec()));
}

#[test]
fn a_stale_lease_refuses_records_offsets_and_state() {
    let log = SteppedLog::in_memory();
    let scene = Scene::new(&log, "out", 1);
    let mut store = log.store("app/counts");
    let mut producer = scene.producer("p");
    producer.begin().expect("begun");
    scene.send(&mut producer, 0, &batch(&["a"])).expect("sent");
    let mut request = scene.request(&[(0, 1, "m")]);
    request.state = state(&mut store, b"1");
    let commit = producer.commit(request);
    log.leases.grant("app/counts", 0);
    let error = log.answer(&commit).expect_err("the lease is stale");
    assert_eq!(error.class, ErrorClass::Fenced, "{error}");
    assert_eq!(scene.offset(0, OffsetQuery::HighWatermark), 0);
    assert_eq!(scene.committed(&scene.group, 0), None);
    assert_eq!(row(&log), None);
}

#[test]
fn a_refused_commit_does_not_harm_what_waits_with_it() {
    let log = SteppedLog::in_memory();
    let scene = Scene::new(&log, "out", 1);
    let mut store = log.store("app/counts");
    let (mut one, mut two) = (scene.producer("p1"), scene.producer("p2"));
    one.begin().expect("begun");
    scene.send(&mut one, 0, &batch(&["one"])).expect("sent");
    two.begin().expect("begun");
    scene.send(&mut two, 0, &batch(&["two"])).expect("sent");
    let first = one.commit(scene.request(&[]));
    let mut request = scene.request(&[]);
    request.state = state(&mut store, b"1");
    let second = two.commit(request);
    let appended = log.log.append(&[(scene.partition(0), batch(&["three"]))], Bell::new());
    log.leases.grant("app/counts", 0);
    log.run();
    assert!(matches!(first.poll(), Poll::Done(Ok(_))));
    assert!(matches!(second.poll(), Poll::Done(Err(e)) if e.class == ErrorClass::Fenced));
    assert_eq!(log.answer(&appended).expect("appended"), [1]);
    assert_eq!(scene.values(0), ["one", "three"]);
}

#[test]
fn commits_that_wait_together_get_offsets_in_their_order() {
    let log = SteppedLog::in_memory();
    let scene = Scene::new(&log, "out", 2);
    let mut producers: Vec<_> = (0..5).map(|n| scene.producer(&format!("p{n}"))).collect();
    let mut tickets = Vec::new();
    for (n, producer) in producers.iter_mut().enumerate() {
        producer.begin().expect("begun");
        let value = n.to_string();
        scene.send(producer, 0, &batch(&[&value, &value])).expect("sent");
        scene.send(producer, 1, &batch(&[&value])).expect("sent");
        scene.send(producer, 0, &batch(&[&value])).expect("sent");
        tickets.push(producer.commit(scene.request(&[])));
    }
    for (n, ticket) in (1..).zip(tickets) {
        let committed = log.answer(&ticket).expect("committed");
        assert_eq!(committed.ends, [(scene.partition(0), 3 * n), (scene.partition(1), n)]);
    }
    assert_eq!(scene.values(0).concat(), "000111222333444");
    assert_eq!(scene.values(1).concat(), "01234");
}

#[test]
fn a_closed_log_writes_what_is_queued_and_refuses_the_rest() {
    let log = SteppedLog::in_memory();
    let scene = Scene::new(&log, "out", 1);
    let mut producer = scene.producer("p");
    producer.begin().expect("begun");
    scene.send(&mut producer, 0, &batch(&["a"])).expect("sent");
    let commit = producer.commit(scene.request(&[]));
    log.log.close();
    while log.step() {}
    assert!(matches!(commit.poll(), Poll::Done(Ok(_))));
    assert_eq!(log.log.synced_end(&scene.partition(0)).expect("known"), 1);
    let error = match log.log.committed("g", vec![scene.partition(0)]).poll() {
        Poll::Done(Err(error)) => error,
        other => panic!("not refused: {other:?}"),
    };
    assert_eq!(error.class, ErrorClass::Fatal, "{error}");
    assert!(producer.begin().is_ok());
    assert!(matches!(producer.commit(scene.request(&[])).poll(), Poll::Done(Err(_))));
}

#[test]
fn a_large_batch_is_stored_in_pieces_and_a_too_large_record_is_refused_by_its_place() {
    let log = SteppedLog::in_memory();
    let scene = Scene::new(&log, "out", 1);
    let mut producer = scene.producer("p");
    producer.begin().expect("begun");
    let huge = "x".repeat(2 << 20);
    let error =
        scene.send(&mut producer, 0, &batch(&["a", &huge])).expect_err("2 MiB are too many");
    assert_eq!(error.class, ErrorClass::User);
    assert!(error.to_string().contains("record 1 of the batch"), "{error}");
    scene.send(&mut producer, 0, &batch(&["b"])).expect("the transaction goes on");
    scene.commit(&mut producer, &[]);
    assert_eq!(scene.values(0), ["b"]);
}

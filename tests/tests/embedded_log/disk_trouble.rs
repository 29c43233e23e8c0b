//! Full disks, failing disks, damaged rows: nothing is half written, and what is hit is named.

use std::sync::Arc;
use std::time::Duration;

use headwater::actor::{Bell, Poll};
use headwater::error::ErrorClass;
use headwater::log::embedded::{EmbeddedLog, EmbeddedSettings};
use headwater::log::{LogError, OffsetQuery, StateBatch};
use headwater_state::database::memory::{Fault, MemoryDisk};
use headwater_state::database::{BatchPart, BatchSink, Database, Direction, Family, ScanRange};
use headwater_state::lease::Leases;
use headwater_tests::log_contract::LogUnderTest;
use headwater_tests::log_contract::scene::{EVERYTHING, Scene, batch};
use headwater_tests::stepped_log::SteppedLog;

const A_WHILE: Duration = Duration::from_secs(1);

fn refusal<T: std::fmt::Debug>(poll: Poll<Result<T, LogError>>) -> LogError {
    match poll {
        Poll::Done(Err(error)) => error,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn on_a_full_disk_commits_wait_whole_and_go_on_when_there_is_space() {
    let disk = MemoryDisk::new();
    let log = SteppedLog::on_disk(&disk);
    let scene = Scene::new(&log, "t", 1);
    let (mut one, mut two) = (scene.producer("p1"), scene.producer("p2"));
    disk.faults().fail_writes(Some(Fault::Full));
    let mut commits = Vec::new();
    for (producer, value) in [(&mut one, "one"), (&mut two, "two")] {
        producer.begin().expect("begun");
        scene.send(producer, 0, &batch(&[value])).expect("sent");
        commits.push(producer.commit(scene.request(&[(0, 1, "")])));
    }
    log.pass(A_WHILE);
    assert!(commits.iter().all(|commit| matches!(commit.poll(), Poll::Pending)));
    assert!(log.log.waiting_for().expect("it waits").contains("no space left"));
    assert_eq!(scene.offset(0, OffsetQuery::HighWatermark), 0);

    let append = log.log.append(&[(scene.partition(0), batch(&["three"]))], Bell::new());
    log.run();
    assert_eq!(refusal(append.poll()).class, ErrorClass::Retry);

    disk.faults().heal();
    log.pass(A_WHILE);
    assert!(commits.iter().all(|commit| matches!(commit.poll(), Poll::Done(Ok(_)))));
    assert_eq!(log.log.waiting_for(), None);
    assert_eq!(scene.values(0), ["one", "two"]);
}

#[test]
fn a_commit_that_waits_for_space_is_fenced_if_its_lease_goes_stale_meanwhile() {
    let disk = MemoryDisk::new();
    let log = SteppedLog::on_disk(&disk);
    let scene = Scene::new(&log, "t", 1);
    let mut producer = scene.producer("p");
    let mut store = log.store("app/counts");
    producer.begin().expect("begun");
    scene.send(&mut producer, 0, &batch(&["a"])).expect("sent");
    store.put(b"row", b"1").expect("a short key");
    store.freeze();
    let mut request = scene.request(&[]);
    request.state = StateBatch { stores: vec![store.commit(None)], tasks: Vec::new() };
    disk.faults().fail_writes(Some(Fault::Full));
    let commit = producer.commit(request);
    log.pass(A_WHILE);
    assert!(matches!(commit.poll(), Poll::Pending));
    log.leases.grant("app/counts", 0);
    disk.faults().heal();
    log.pass(A_WHILE);
    assert_eq!(refusal(commit.poll()).class, ErrorClass::Fenced);
    assert_eq!(scene.offset(0, OffsetQuery::HighWatermark), 0);
    assert_eq!(log.log.waiting_for(), None);
}

#[test]
fn a_write_that_fails_loses_the_transaction_and_nothing_else() {
    let disk = MemoryDisk::new();
    let log = SteppedLog::on_disk(&disk);
    let scene = Scene::new(&log, "t", 1);
    let mut producer = scene.producer("p");
    producer.begin().expect("begun");
    scene.send(&mut producer, 0, &batch(&["lost"])).expect("sent");
    disk.faults().fail_write_after(0, Fault::Io);
    let error = scene.try_commit(&mut producer, &[(0, 1, "")]).expect_err("the write failed");
    assert_eq!(error.class, ErrorClass::Abort, "{error}");
    assert_eq!(scene.committed(&scene.group, 0), None);
    scene.write(&mut producer, 0, &["again"]);
    assert_eq!(scene.values(0), ["again"]);
}

#[test]
fn a_sync_that_fails_stops_the_log_because_nobody_knows_what_is_safe() {
    let disk = MemoryDisk::new();
    let log = SteppedLog::on_disk(&disk);
    let scene = Scene::new(&log, "t", 1);
    let mut producer = scene.producer("p");
    log.pass(A_WHILE);
    disk.faults().fail_syncs(Some(Fault::Io));
    let append = log.log.append(&[(scene.partition(0), batch(&["a"]))], Bell::new());
    log.run();
    assert_eq!(refusal(append.poll()).class, ErrorClass::Fatal);
    disk.faults().heal();
    producer.begin().expect("begun");
    let error = scene.try_commit(&mut producer, &[]).expect_err("the log has stopped");
    assert_eq!(error.class, ErrorClass::Fatal, "{error}");
    assert!(log.log.waiting_for().is_some());
    assert_eq!(log.log.synced_end(&scene.partition(0)).expect("known"), 0);
    let append = log.log.append(&[(scene.partition(0), batch(&["b"]))], Bell::new());
    log.run();
    assert_eq!(refusal(append.poll()).class, ErrorClass::Fatal);
}

#[test]
fn a_sync_on_a_full_disk_is_tried_again_before_anything_is_acknowledged() {
    let disk = MemoryDisk::new();
    let log = SteppedLog::on_disk(&disk);
    let scene = Scene::new(&log, "t", 1);
    log.pass(A_WHILE);
    disk.faults().fail_syncs(Some(Fault::Full));
    let append = log.log.append(&[(scene.partition(0), batch(&["a"]))], Bell::new());
    log.pass(A_WHILE);
    assert!(matches!(append.poll(), Poll::Pending));
    assert_eq!(log.log.synced_end(&scene.partition(0)).expect("known"), 0);
    disk.faults().heal();
    log.pass(A_WHILE);
    assert!(matches!(append.poll(), Poll::Done(Ok(offsets)) if offsets == [0]));
}

/// Overwrites one row.
struct Overwrite(Family, Vec<u8>, Vec<u8>);

impl BatchPart for Overwrite {
    fn replay(&self, sink: &mut dyn BatchSink) {
        sink.put(&self.0, &self.1, &self.2);
    }
}

/// Removes one row.
struct Remove(Family, Vec<u8>);

impl BatchPart for Remove {
    fn replay(&self, sink: &mut dyn BatchSink) {
        sink.delete(&self.0, &self.1);
    }
}

/// Flips a bit in the last byte of a stored batch, counted from 0.
fn damage(database: &dyn Database, batch: usize) {
    let family = database.find_family("@log").expect("there is a log");
    let (key, mut value) = {
        let mut rows =
            database.scan(&family, ScanRange::all(), Direction::Forward).expect("readable");
        for _ in 0..=batch {
            assert!(rows.advance().expect("readable"), "there are so many batches");
        }
        (rows.key().to_vec(), rows.value().to_vec())
    };
    *value.last_mut().expect("not empty") ^= 1;
    database.write(&[&Overwrite(family, key, value)]).expect("written");
}

#[test]
fn a_damaged_batch_is_named_by_topic_partition_and_offset_after_what_comes_before_it() {
    let log = SteppedLog::in_memory();
    let scene = Scene::new(&log, "orders", 1);
    let mut producer = scene.producer("p");
    scene.write(&mut producer, 0, &["a", "b"]);
    scene.write(&mut producer, 0, &["c"]);
    scene.write(&mut producer, 0, &["d"]);
    damage(&*log.database, 1);
    let mut reader = scene.reader(0, 0);
    let fetched = reader.take(EVERYTHING).expect("the first batch is whole");
    assert_eq!((fetched.position, fetched.at_end), (2, false));
    for _ in 0..2 {
        let error = reader.take(EVERYTHING).expect_err("the second is damaged");
        assert_eq!(error.class, ErrorClass::Fatal);
        let message = error.to_string();
        assert!(message.contains("orders-0") && message.contains("offset 2"), "{message}");
    }
    reader.seek(3);
    assert_eq!(reader.take(EVERYTHING).expect("the third is whole").position, 4);
}

#[test]
fn a_batch_that_is_gone_is_missed_and_not_stepped_over() {
    let log = SteppedLog::in_memory();
    let scene = Scene::new(&log, "orders", 1);
    let mut producer = scene.producer("p");
    for value in ["a", "b", "c"] {
        scene.write(&mut producer, 0, &[value]);
    }
    let family = log.database.find_family("@log").expect("there is a log");
    let keys: Vec<Vec<u8>> = {
        let scan = log.database.scan(&family, ScanRange::all(), Direction::Forward);
        let mut rows = scan.expect("readable");
        std::iter::from_fn(|| rows.advance().expect("readable").then(|| rows.key().to_vec()))
            .collect()
    };
    log.database.write(&[&Remove(family, keys[1].clone())]).expect("written");
    let mut reader = scene.reader(0, 0);
    assert_eq!(reader.take(EVERYTHING).expect("the first is there").position, 1);
    let error = reader.take(EVERYTHING).expect_err("the second is not");
    assert_eq!(error.class, ErrorClass::Fatal);
    assert!(error.to_string().contains("no batch holds offset 1"), "{error}");
}

#[test]
fn a_log_whose_last_batch_is_damaged_does_not_open_and_says_which() {
    let log = SteppedLog::in_memory();
    let scene = Scene::new(&log, "orders", 1);
    let mut producer = scene.producer("p");
    scene.write(&mut producer, 0, &["a", "b"]);
    scene.write(&mut producer, 0, &["c"]);
    damage(&*log.database, 1);
    let opened =
        EmbeddedLog::open(Arc::clone(&log.database), Leases::new(), EmbeddedSettings::default());
    let error = opened.err().expect("it does not open");
    assert_eq!(error.class, ErrorClass::Fatal);
    let message = error.to_string();
    assert!(message.contains("orders") && message.contains("offset 2"), "{message}");
}

//! What queries may see: only what a power loss cannot take back.

use std::time::Duration;

use headwater::actor::{Bell, Poll};
use headwater::error::ErrorClass;
use headwater::log::OffsetQuery;
use headwater_tests::log_contract::LogUnderTest;
use headwater_tests::log_contract::scene::{EVERYTHING, Scene, batch, values};
use headwater_tests::stepped_log::SteppedLog;

const INTERVAL: Duration = Duration::from_millis(100);

/// A log whose first sync is over, so that the next one is due an interval later.
fn synced<'l>(log: &'l SteppedLog, topic: &str) -> Scene<'l> {
    let scene = Scene::new(log, topic, 1);
    log.pass(INTERVAL);
    let mut producer = scene.producer("first");
    scene.write(&mut producer, 0, &["first"]);
    log.run();
    scene
}

#[test]
fn a_commit_is_read_at_once_and_published_by_the_next_sync() {
    let log = SteppedLog::in_memory();
    let scene = synced(&log, "t");
    let before = log.log.synced_end(&scene.partition(0)).expect("known");
    let mut producer = scene.producer("p");
    scene.write(&mut producer, 0, &["a"]);
    assert_eq!(scene.offset(0, OffsetQuery::HighWatermark), 2);
    assert_eq!(scene.values(0), ["first", "a"]);
    let mut published =
        log.log.synced_reader(&scene.partition(0), before, Bell::new()).expect("it");
    assert_eq!(log.log.synced_end(&scene.partition(0)).expect("known"), before);
    assert!(published.take(EVERYTHING).expect("readable").batches.is_empty());
    log.pass(INTERVAL);
    assert_eq!(log.log.synced_end(&scene.partition(0)).expect("known"), 2);
    let fetched = published.take(EVERYTHING).expect("readable");
    assert_eq!(values(&fetched.batches).last().map(String::as_str), Some("a"));
}

#[test]
fn a_reader_of_what_is_synced_is_rung_by_the_sync_and_not_by_the_write() {
    let log = SteppedLog::in_memory();
    let scene = synced(&log, "t");
    log.pass(INTERVAL);
    let bell = Bell::new();
    let end = log.log.synced_end(&scene.partition(0)).expect("known");
    let mut reader = log.log.synced_reader(&scene.partition(0), end, bell.clone()).expect("it");
    assert!(reader.take(EVERYTHING).expect("readable").at_end);
    let mut producer = scene.producer("p");
    // The first write after a quiet time is synced at once; the second waits for the interval.
    scene.write(&mut producer, 0, &["a"]);
    log.run();
    assert!(bell.take());
    reader.take(EVERYTHING).expect("readable");
    assert!(reader.take(EVERYTHING).expect("readable").at_end);
    scene.write(&mut producer, 0, &["b"]);
    log.run();
    assert!(!bell.take());
    log.pass(INTERVAL);
    assert!(bell.take());
    assert_eq!(values(&reader.take(EVERYTHING).expect("readable").batches), ["b"]);
}

#[test]
fn an_append_is_answered_after_its_sync_with_its_first_offset() {
    let log = SteppedLog::in_memory();
    let scene = synced(&log, "t");
    let batches = [(scene.partition(0), batch(&["a", "b"])), (scene.partition(0), batch(&["c"]))];
    let ticket = log.log.append(&batches, Bell::new());
    assert!(matches!(ticket.poll(), Poll::Pending));
    assert_eq!(log.answer(&ticket).expect("appended"), [1, 3]);
    assert_eq!(log.log.synced_end(&scene.partition(0)).expect("known"), 4);
    assert_eq!(scene.values(0), ["first", "a", "b", "c"]);
}

#[test]
fn appends_beyond_the_queue_are_answered_retry_and_change_nothing() {
    let log = SteppedLog::in_memory();
    let scene = Scene::new(&log, "t", 1);
    let value = "x".repeat(1_000_000);
    let append = || log.log.append(&[(scene.partition(0), batch(&[&value]))], Bell::new());
    let tickets: Vec<_> = (0..40).map(|_| append()).collect();
    let refused = tickets
        .iter()
        .filter(|t| matches!(t.poll(), Poll::Done(Err(e)) if e.class == ErrorClass::Retry));
    assert_eq!(refused.count(), 40 - 33, "32 MiB hold 33 batches of a million bytes");
    log.run();
    assert_eq!(scene.offset(0, OffsetQuery::HighWatermark), 33);
    assert_eq!(log.answer(&append()).expect("there is room again"), [33]);
}

#[test]
fn an_append_to_an_unknown_topic_or_without_a_needed_key_is_refused_at_once() {
    let log = SteppedLog::in_memory();
    let mut scene = Scene::new(&log, "t", 1);
    scene.topic = "missing".into();
    let ticket = log.log.append(&[(scene.partition(0), batch(&["a"]))], Bell::new());
    assert!(matches!(ticket.poll(), Poll::Done(Err(e)) if e.to_string().contains("missing")));
}

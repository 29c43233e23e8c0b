//! Old records go, whole batches at a time, and nobody is misled about it.

use std::time::Duration;

use headwater::actor::Bell;
use headwater::error::ErrorClass;
use headwater::log::embedded::EmbeddedSettings;
use headwater::log::{Cleanup, OffsetQuery};
use headwater::record::{Headers, RecordBatch, RecordBatchBuilder};
use headwater_state::database::memory::MemoryDisk;
use headwater_tests::log_contract::scene::{EVERYTHING, Scene, values};
use headwater_tests::stepped_log::{START_MS, SteppedLog};

const HOUR: Duration = Duration::from_secs(3_600);
const HOUR_MS: i64 = 3_600_000;

fn scene<'l>(log: &'l SteppedLog, retention: Option<Duration>) -> Scene<'l> {
    let scene = Scene::existing(log, "t");
    let cleanup = Cleanup::Delete { retention };
    scene.create_with(1, cleanup).expect("created");
    scene
}

fn at(timestamp: i64, value: &str) -> RecordBatch {
    let mut builder = RecordBatchBuilder::new();
    builder.append(timestamp, None, Some(value.as_bytes()), Headers::empty()).expect("small");
    RecordBatch::new(0, builder.finish()).expect("just built")
}

fn write(scene: &Scene<'_>, timestamp: i64, value: &str) {
    let mut producer = scene.producer("p");
    producer.begin().expect("begun");
    scene.send(&mut producer, 0, &at(timestamp, value)).expect("sent");
    scene.commit(&mut producer, &[]);
}

#[test]
fn records_go_when_they_are_older_than_the_retention() {
    let log = SteppedLog::in_memory();
    let scene = scene(&log, Some(HOUR));
    write(&scene, START_MS - HOUR_MS / 2, "old");
    write(&scene, START_MS, "new");
    log.pass(HOUR / 3);
    assert_eq!(scene.values(0), ["old", "new"]);
    log.pass(HOUR / 3);
    assert_eq!(scene.values(0), ["new"]);
    assert_eq!(scene.offset(0, OffsetQuery::Earliest), 1);
    log.pass(HOUR);
    assert_eq!(scene.values(0), [""; 0]);
    assert_eq!(scene.offset(0, OffsetQuery::Earliest), 2);
    write(&scene, START_MS + 2 * HOUR_MS, "next");
    assert_eq!(scene.offset(0, OffsetQuery::HighWatermark), 3);
}

#[test]
fn a_topic_without_retention_keeps_everything() {
    let log = SteppedLog::in_memory();
    let scene = scene(&log, None);
    write(&scene, 0, "from 1970");
    log.pass(1_000 * HOUR);
    assert_eq!(scene.values(0), ["from 1970"]);
}

#[test]
fn a_record_from_the_future_is_kept_no_longer_than_one_from_its_append() {
    let log = SteppedLog::in_memory();
    let scene = scene(&log, Some(HOUR));
    write(&scene, i64::MAX, "hostile");
    write(&scene, START_MS, "honest");
    log.pass(HOUR + HOUR / 2);
    assert_eq!(scene.values(0), [""; 0]);
}

#[test]
fn a_new_record_keeps_older_ones_behind_it() {
    let log = SteppedLog::in_memory();
    let scene = scene(&log, Some(HOUR));
    write(&scene, START_MS, "new");
    write(&scene, 0, "late");
    log.pass(HOUR / 2);
    assert_eq!(scene.values(0), ["new", "late"]);
}

#[test]
fn many_old_batches_go_in_bounded_steps_until_all_are_gone() {
    let log = SteppedLog::in_memory();
    let scene = scene(&log, Some(HOUR));
    for _ in 0..300 {
        write(&scene, START_MS - HOUR_MS / 2, "old");
    }
    write(&scene, START_MS + HOUR_MS, "new");
    log.pass(HOUR);
    assert_eq!(scene.values(0), ["new"]);
    assert_eq!(scene.offset(0, OffsetQuery::Earliest), 300);
}

#[test]
fn a_reader_and_a_group_that_fell_behind_are_told_and_hold_nothing_up() {
    let log = SteppedLog::in_memory();
    let scene = scene(&log, Some(HOUR));
    write(&scene, START_MS - HOUR_MS / 2, "old");
    let mut reader = scene.reader(0, 0);
    assert_eq!(values(&reader.take(EVERYTHING).expect("there").batches), ["old"]);
    reader.seek(0);
    let mut producer = scene.producer("p");
    producer.begin().expect("begun");
    scene.commit(&mut producer, &[(0, 0, "")]);
    write(&scene, START_MS + HOUR_MS, "new");
    log.pass(HOUR);
    let error = reader.take(EVERYTHING).expect_err("offset 0 is gone");
    assert_eq!(error.class, ErrorClass::Fatal);
    let message = error.to_string();
    assert!(message.contains("starts at 1 and ends at 2"), "{message}");
    let behind = log.log.overtaken_groups().expect("readable");
    assert_eq!(behind.len(), 1);
    assert_eq!((behind[0].group.as_str(), behind[0].committed, behind[0].start), ("group", 0, 1));
}

#[test]
fn the_start_is_kept_over_a_restart() {
    let disk = MemoryDisk::new();
    let first = SteppedLog::on_disk(&disk);
    let before = scene(&first, Some(HOUR));
    write(&before, START_MS - HOUR_MS, "old");
    first.pass(HOUR / 2);
    assert_eq!(before.offset(0, OffsetQuery::Earliest), 1);
    disk.crash(usize::MAX);
    let second =
        SteppedLog::open(disk.open("data").expect("the disk is free"), EmbeddedSettings::default());
    let after = Scene::existing(&second, "t");
    assert_eq!(after.offset(0, OffsetQuery::Earliest), 1);
    assert_eq!(after.offset(0, OffsetQuery::HighWatermark), 1);
    let mut reader = second.log.synced_reader(&after.partition(0), 1, Bell::new()).expect("it");
    assert!(reader.take(EVERYTHING).expect("readable").at_end);
}

//! A compacted topic keeps the last record of each key, under every reader's feet.

use std::collections::BTreeMap;
use std::time::Duration;

use headwater::log::{Cleanup, OffsetQuery};
use headwater::record::{Headers, RecordBatch, RecordBatchBuilder};
use headwater_state::database::memory::MemoryDisk;
use headwater_tests::log_contract::scene::{EVERYTHING, Scene};
use headwater_tests::stepped_log::{START_MS, SteppedLog};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const ROUND: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// A key with its value; no value deletes it.
type Row<'r> = (&'r str, Option<&'r str>);

fn scene<'l>(log: &'l SteppedLog, cleanup: Cleanup) -> Scene<'l> {
    let scene = Scene::existing(log, "table");
    scene.create_with(1, cleanup).expect("created");
    scene
}

fn write(scene: &Scene<'_>, rows: &[Row<'_>]) {
    let mut builder = RecordBatchBuilder::new();
    for (key, value) in rows {
        builder
            .append(START_MS, Some(key.as_bytes()), value.map(str::as_bytes), Headers::empty())
            .expect("small");
    }
    let batch = RecordBatch::new(0, builder.finish()).expect("just built");
    let mut producer = scene.producer("p");
    producer.begin().expect("begun");
    scene.send(&mut producer, 0, &batch).expect("sent");
    scene.commit(&mut producer, &[]);
}

/// All records from an offset on: offset, key, value.
fn read_from(scene: &Scene<'_>, offset: i64) -> Vec<(i64, String, Option<String>)> {
    let batches = scene.drain(&mut scene.reader(0, offset), EVERYTHING);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let mut records = Vec::new();
    for record in batches.iter().flat_map(RecordBatch::records) {
        let record = record.expect("well formed");
        records.push((record.offset, text(record.key.expect("a key")), record.value.map(text)));
    }
    records
}

fn shown(records: &[(i64, String, Option<String>)]) -> Vec<String> {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "null".to_owned());
    records.iter().map(|(offset, key, v)| format!("{offset}:{key}={}", value(v))).collect()
}

#[test]
fn the_last_record_of_each_key_stays_at_its_offset() {
    let log = SteppedLog::in_memory();
    let scene = scene(&log, Cleanup::Compact);
    write(&scene, &[("a", Some("1")), ("b", Some("1"))]);
    write(&scene, &[("a", Some("2"))]);
    write(&scene, &[("c", Some("1")), ("a", Some("3"))]);
    write(&scene, &[("d", Some("1"))]);
    log.pass(ROUND);
    assert_eq!(shown(&read_from(&scene, 0)), ["1:b=1", "3:c=1", "4:a=3", "5:d=1"]);
    assert_eq!(shown(&read_from(&scene, 2)), ["3:c=1", "4:a=3", "5:d=1"]);
    assert_eq!(scene.offset(0, OffsetQuery::Earliest), 0);
    assert_eq!(scene.offset(0, OffsetQuery::HighWatermark), 6);
}

#[test]
fn the_last_batch_is_left_alone_so_that_the_end_is_known_after_a_restart() {
    let disk = MemoryDisk::new();
    let first = SteppedLog::on_disk(&disk);
    let before = scene(&first, Cleanup::Compact);
    write(&before, &[("a", Some("1"))]);
    write(&before, &[("a", Some("2")), ("a", Some("3"))]);
    first.pass(ROUND);
    first.pass(ROUND);
    assert_eq!(shown(&read_from(&before, 0)), ["0:a=1", "1:a=2", "2:a=3"]);
    disk.crash(usize::MAX);
    let second = SteppedLog::on_disk(&disk);
    let after = Scene::existing(&second, "table");
    assert_eq!(after.offset(0, OffsetQuery::HighWatermark), 3);
}

#[test]
fn a_deletion_is_kept_for_its_delay_and_then_forgotten() {
    let log = SteppedLog::in_memory();
    let scene = scene(&log, Cleanup::Compact);
    write(&scene, &[("a", Some("1")), ("b", Some("1"))]);
    write(&scene, &[("a", None)]);
    write(&scene, &[("c", Some("1"))]);
    log.pass(ROUND);
    assert_eq!(shown(&read_from(&scene, 0)), ["1:b=1", "2:a=null", "3:c=1"]);
    log.pass(DAY);
    write(&scene, &[("d", Some("1")), ("e", Some("1")), ("f", Some("1"))]);
    write(&scene, &[("g", Some("1"))]);
    log.pass(ROUND);
    assert_eq!(shown(&read_from(&scene, 0)).join(" "), "1:b=1 3:c=1 4:d=1 5:e=1 6:f=1 7:g=1");
}

#[test]
fn a_table_read_while_it_is_compacted_is_the_table() {
    for seed in 1..=20 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let log = SteppedLog::in_memory();
        let scene = scene(&log, Cleanup::Compact);
        let mut expected = BTreeMap::new();
        let mut reader = scene.reader(0, 0);
        let mut seen: BTreeMap<String, Option<String>> = BTreeMap::new();
        for round in 0..60 {
            let rows: Vec<(String, Option<String>)> = (0..random.random_range(1..20))
                .map(|_| {
                    let key = format!("k{}", random.random_range(0..30));
                    let value = random.random_bool(0.8).then(|| format!("{round}"));
                    (key, value)
                })
                .collect();
            let lent: Vec<Row<'_>> = rows.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect();
            write(&scene, &lent);
            expected.extend(rows);
            match random.random_range(0..3) {
                0 => log.pass(ROUND),
                1 => {
                    // Stop in the middle of a run, and read a little.
                    log.clock.advance(ROUND);
                    for _ in 0..random.random_range(1..8) {
                        log.step();
                    }
                }
                _ => {}
            }
            for batch in reader.take(200).expect("nothing is missing").batches {
                for record in batch.records() {
                    let record = record.expect("well formed");
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
                    seen.insert(text(record.key.expect("a key")), record.value.map(text));
                }
            }
        }
        for (_, key, value) in read_from(&scene, reader.take(1).expect("readable").position) {
            seen.insert(key, value);
        }
        log.pass(ROUND);
        let all: BTreeMap<String, Option<String>> =
            read_from(&scene, 0).into_iter().map(|(_, key, value)| (key, value)).collect();
        assert_eq!(all, expected, "seed {seed}: a reader from the start sees the table");
        assert_eq!(seen, expected, "seed {seed}: a reader under way saw the table");
    }
}

#[test]
fn a_topic_can_be_compacted_and_limited_in_time() {
    let log = SteppedLog::in_memory();
    let scene = scene(&log, Cleanup::CompactAndDelete { retention: DAY });
    write(&scene, &[("a", Some("1"))]);
    write(&scene, &[("a", Some("2")), ("b", Some("1"))]);
    write(&scene, &[("c", Some("1"))]);
    log.pass(ROUND);
    assert_eq!(shown(&read_from(&scene, 0)), ["1:a=2", "2:b=1", "3:c=1"]);
    log.pass(DAY);
    assert_eq!(scene.offset(0, OffsetQuery::Earliest), 4);
}

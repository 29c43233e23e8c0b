//! The embedded log's tables: append, read, end, truncation, compaction, damage.

use std::sync::Arc;

use headwater_state::database::{Database, Reader};
use headwater_state::log_table::{LogBatch, LogPartition, LogTable};
use headwater_state::{ErrorClass, StateError};

use crate::on_every_engine;

fn open(database: &Arc<dyn Database>) -> LogTable {
    LogTable::open(Arc::clone(database)).expect("opens")
}

fn append(log: &LogTable, partition: &LogPartition, base_offset: i64, offsets: u32) {
    let payload = format!("{base_offset}+{offsets}");
    let batch =
        LogBatch { offsets, max_timestamp_ms: base_offset * 10, payload: payload.as_bytes() };
    log.database().write(&[&log.append(partition, base_offset, batch)]).expect("appended");
}

fn read(log: &LogTable, partition: &LogPartition, offset: i64) -> Vec<(i64, String)> {
    let reader: &dyn Reader = &**log.database();
    let mut cursor = log.read(reader, partition, offset).expect("a cursor");
    let mut seen = Vec::new();
    while let Some(batch) = cursor.next().expect("whole") {
        assert_eq!(batch.max_timestamp_ms, batch.base_offset * 10);
        seen.push((batch.base_offset, String::from_utf8_lossy(batch.payload).into_owned()));
    }
    seen
}

fn bounds(log: &LogTable, partition: &LogPartition) -> (i64, i64) {
    let reader: &dyn Reader = &**log.database();
    let start = log.start_offset(reader, partition).expect("readable");
    (start, log.end_offset(reader, partition).expect("readable"))
}

fn owned(expected: &[(i64, &str)]) -> Vec<(i64, String)> {
    expected.iter().map(|(offset, payload)| (*offset, (*payload).to_owned())).collect()
}

#[test]
fn a_batch_is_found_by_any_offset_it_contains_and_partitions_do_not_mix() {
    on_every_engine(|engine| {
        let log = open(&engine.open("d"));
        let topic = log.create_topic("clicks", 3, "{}").expect("made");
        for partition in 0..3 {
            assert_eq!(bounds(&log, &topic.partition(partition)), (0, 0));
        }
        let one = topic.partition(1);
        append(&log, &one, 0, 3);
        append(&log, &one, 3, 1);
        append(&log, &one, 4, 6);
        append(&log, &topic.partition(0), 0, 100);
        append(&log, &topic.partition(2), 0, 100);
        let all = [(0, "0+3"), (3, "3+1"), (4, "4+6")];
        for (offset, first) in [(0, 0), (2, 0), (3, 1), (4, 2), (9, 2), (10, 3), (99, 3)] {
            assert_eq!(read(&log, &one, offset), owned(&all[first..]), "from {offset}");
        }
        assert_eq!(bounds(&log, &one), (0, 10));
    });
}

#[test]
fn the_end_of_a_partition_is_found_again_after_reopening() {
    on_every_engine(|engine| {
        let database = engine.open("d");
        let log = open(&database);
        let partition = log.create_topic("clicks", 1, "{}").expect("made").partition(0);
        append(&log, &partition, 0, 7);
        append(&log, &partition, 7, 5);
        drop((log, database));
        let log = open(&engine.open("d"));
        let topic = log.topic(&**log.database(), "clicks").expect("readable").expect("there");
        assert_eq!(topic.partition(0), partition);
        assert_eq!(bounds(&log, &partition), (0, 12));
    });
}

#[test]
fn a_truncated_partition_starts_where_it_was_told_and_never_ends_before() {
    on_every_engine(|engine| {
        let log = open(&engine.open("d"));
        let partition = log.create_topic("clicks", 1, "{}").expect("made").partition(0);
        for base_offset in [0, 10, 20] {
            append(&log, &partition, base_offset, 10);
        }
        let truncate = |offset| {
            let part = log.truncate(&partition, offset).expect("within the partition");
            log.database().write(&[&part]).expect("truncated");
        };
        truncate(15);
        assert_eq!(bounds(&log, &partition), (15, 30));
        assert_eq!(read(&log, &partition, 0), owned(&[(10, "10+10"), (20, "20+10")]));
        truncate(3);
        assert_eq!(bounds(&log, &partition), (15, 30), "a start does not go back");
        truncate(30);
        assert_eq!(bounds(&log, &partition), (30, 30), "an emptied partition keeps its end");
        assert_eq!(read(&log, &partition, 0), []);
        append(&log, &partition, 30, 1);
        assert_eq!(bounds(&log, &partition), (30, 31));
        let error = log.truncate(&partition, 32).expect_err("beyond the end");
        assert!(matches!(error, StateError::Invalid { .. }), "{error}");
        assert!(error.to_string().contains("topic clicks partition 0"), "{error}");
    });
}

#[test]
fn compaction_replaces_and_removes_batches_and_offsets_stay() {
    on_every_engine(|engine| {
        let log = open(&engine.open("d"));
        let partition = log.create_topic("clicks", 1, "{}").expect("made").partition(0);
        for base_offset in [0, 10, 20] {
            append(&log, &partition, base_offset, 10);
        }
        let less = LogBatch { offsets: 10, max_timestamp_ms: 0, payload: b"less" };
        log.database()
            .write(&[&log.replace(&partition, 0, less), &log.remove(&partition, 10)])
            .expect("compacted");
        assert_eq!(read(&log, &partition, 5), owned(&[(0, "less"), (20, "20+10")]));
        assert_eq!(read(&log, &partition, 12), owned(&[(20, "20+10")]), "the gap is skipped");
        assert_eq!(bounds(&log, &partition), (0, 30));
    });
}

#[test]
fn a_flipped_bit_anywhere_in_a_batch_is_damage_that_names_topic_partition_and_offset() {
    on_every_engine(|engine| {
        let log = open(&engine.open("d"));
        let database = log.database();
        let partition = log.create_topic("clicks", 8, "{}").expect("made").partition(7);
        append(&log, &partition, 4_000, 5);
        let family = database.find_family("@log").expect("known");
        let all = headwater_state::database::ScanRange::all();
        let forward = headwater_state::database::Direction::Forward;
        let (key, value) = {
            let mut rows = database.scan(&family, all, forward).expect("a scan");
            let (key, value) = rows.next().expect("read").expect("one batch");
            (key.to_vec(), value.to_vec())
        };
        for byte in 0..value.len() {
            let mut damaged = value.clone();
            damaged[byte] ^= 0x80;
            crate::write(&**database, &family, &[crate::Op::Put(key.clone(), damaged)]);
            let error = log.end_offset(&**database, &partition).expect_err("damaged");
            let text = error.to_string();
            assert!(text.contains("topic clicks partition 7 offset 4000"), "{text}");
            if byte > 0 {
                assert_eq!(error.class(), ErrorClass::Damaged, "{text}");
            }
        }
        for len in 0..value.len() {
            let cut = value[..len].to_vec();
            crate::write(&**database, &family, &[crate::Op::Put(key.clone(), cut)]);
            log.end_offset(&**database, &partition).expect_err("cut short");
        }
        let mut elsewhere = key.clone();
        elsewhere[15] += 1;
        crate::write(&**database, &family, &[crate::Op::Put(elsewhere, value)]);
        log.end_offset(&**database, &partition).expect_err("a whole batch in the wrong place");
    });
}

#[test]
fn a_topic_made_anew_is_empty_and_has_another_id() {
    on_every_engine(|engine| {
        let log = open(&engine.open("d"));
        let reader: &dyn Reader = &**log.database();
        let old = log.create_topic("clicks", 2, r#"{"a":1}"#).expect("made");
        let error = log.create_topic("clicks", 1, "{}").expect_err("it exists");
        assert!(error.to_string().contains("topic clicks"), "{error}");
        let other = log.create_topic("orders", 1, "{}").expect("made");
        append(&log, &old.partition(0), 0, 5);
        append(&log, &other.partition(0), 0, 5);
        let part = log.truncate(&old.partition(0), 5).expect("within the partition");
        log.database().write(&[&part]).expect("truncated");
        log.delete_topic(&old).expect("deleted");
        assert_eq!(log.topic(reader, "clicks").expect("readable"), None);
        let new = log.create_topic("clicks", 1, "{}").expect("made");
        assert!(![old.id, other.id].contains(&new.id));
        assert_eq!(bounds(&log, &new.partition(0)), (0, 0));
        assert_eq!(bounds(&log, &other.partition(0)), (0, 5));
        assert_eq!(log.topics(reader).expect("readable"), [new.clone(), other]);

        let grown = headwater_state::log_table::Topic { partitions: 4, ..new.clone() };
        log.alter_topic(&grown).expect("grown");
        assert_eq!(log.topic(reader, "clicks").expect("readable"), Some(grown));
        log.alter_topic(&new).expect_err("a topic loses no partitions");
    });
}

//! What every log must do, as claims that run on any of them: the embedded one, the simulated one,
//! Kafka. Knows the log seam and nothing behind it; offsets may have gaps (a log may keep markers
//! between records), so claims speak of values, order and positions.
//!
//! [`log_contract!`](macro@crate::log_contract) makes each claim a test of one log.

pub mod scene;

use std::sync::Arc;

use headwater::actor::Bell;
use headwater::error::ErrorClass;
use headwater::log::{CommittedOffset, Log, OffsetQuery};
use headwater::record::{Header, Headers, RecordBatch, RecordBatchBuilder};

use self::scene::{EVERYTHING, PATIENCE, Scene, batch, values};

/// A log that stands alone, with the means to run what is behind it.
pub trait LogUnderTest {
    /// The log.
    fn log(&self) -> Arc<dyn Log>;
    /// Lets whatever answers tickets and moves records do so: steps actors until they are idle, or
    /// waits a little for another process.
    fn run(&self);
    /// A name for a topic, group or transactional id that no other test uses.
    fn unique(&self, name: &str) -> String {
        name.to_owned()
    }
}

/// Turns every claim into a test of the log that the given function makes; with `if`, of the one it
/// may make, where what is behind a log may be missing.
///
/// ```text
/// headwater_tests::log_contract!(fresh_log);
/// headwater_tests::log_contract!(if log_on_a_broker);
/// ```
#[macro_export]
macro_rules! log_contract {
    (if $make:path) => {
        $crate::log_contract!(@all $make());
    };
    ($make:path) => {
        $crate::log_contract!(@all Some($make()));
    };
    (@all $log:expr) => {
        $crate::log_contract!(@each $log;
            records_come_back_in_order_with_all_they_have,
            a_reader_goes_on_where_another_stopped,
            a_reader_at_the_end_says_so_and_is_rung_when_records_arrive,
            two_readers_of_one_partition_see_the_same,
            small_takes_get_everything_in_the_end,
            seeking_goes_back_and_forward,
            an_open_transaction_is_seen_by_nobody_until_it_commits,
            an_aborted_transaction_is_never_seen,
            outputs_of_several_partitions_and_offsets_commit_together,
            a_transaction_without_records_moves_offsets,
            an_aborted_transaction_moves_no_offset,
            a_group_that_never_committed_has_no_offsets,
            groups_do_not_see_each_others_offsets,
            an_earlier_producer_of_the_same_id_is_fenced,
            a_new_producer_ends_what_an_earlier_one_left_open,
            producers_of_different_ids_do_not_disturb_each_other,
            a_producer_that_is_misused_says_so,
            deleted_records_move_the_start_and_reading_there_names_both_ends,
            deleting_everything_keeps_the_end,
            an_empty_batch_adds_nothing,
            a_big_batch_and_a_big_record_come_back_whole,
            many_partitions_keep_their_own_order,
            an_unknown_topic_is_a_clear_error,
            a_topic_that_exists_is_left_as_it_is,
            a_new_topic_is_empty,
        );
    };
    (@each $log:expr; $($claim:ident,)*) => {
        $(
            #[test]
            fn $claim() {
                if let Some(log) = $log {
                    $crate::log_contract::$claim(&log);
                }
            }
        )*
    };
}

/// Keys, values (null and empty ones too), timestamps and headers are what was sent.
pub fn records_come_back_in_order_with_all_they_have(log: &dyn LogUnderTest) {
    let scene = Scene::new(log, "orders", 1);
    let mut headers = Headers::new();
    headers.append("trace", Some("abc".into()));
    headers.append("null", None);
    type Sent<'s> = (i64, Option<&'s [u8]>, Option<&'s [u8]>, &'s Headers);
    let sent: [Sent<'_>; 4] = [
        (1_000, Some(b"a"), Some(b"1"), Headers::empty()),
        (999, Some(b"b"), None, &headers),
        (1, None, Some(b""), Headers::empty()),
        (1_700_000_000_000, Some(b""), Some(b"4"), &headers),
    ];
    let mut builder = RecordBatchBuilder::new();
    for (timestamp, key, value, headers) in sent {
        builder.append(timestamp, key, value, headers).expect("small headers");
    }
    let records = RecordBatch::new(0, builder.finish()).expect("just built");
    let mut producer = scene.producer("p");
    producer.begin().expect("begun");
    scene.send(&mut producer, 0, &records).expect("sent");
    scene.commit(&mut producer, &[]);

    let start = scene.offset(0, OffsetQuery::Earliest);
    let read = scene.drain(&mut scene.reader(0, start), EVERYTHING);
    let read: Vec<_> = read.iter().flat_map(RecordBatch::records).collect();
    assert_eq!(read.len(), sent.len());
    for (record, (timestamp, key, value, headers)) in read.into_iter().zip(sent) {
        let record = record.expect("well formed");
        assert_eq!((record.timestamp, record.key, record.value), (timestamp, key, value));
        let read: Vec<Header> = record.headers.decode().expect("headers").iter().cloned().collect();
        assert_eq!(read, headers.iter().cloned().collect::<Vec<_>>());
    }
}

/// A position is all that a reader hands over.
pub fn a_reader_goes_on_where_another_stopped(log: &dyn LogUnderTest) {
    let scene = Scene::new(log, "orders", 1);
    let mut producer = scene.producer("p");
    scene.write(&mut producer, 0, &["a", "b"]);
    let mut first = scene.reader(0, scene.offset(0, OffsetQuery::Earliest));
    assert_eq!(values(&scene.drain(&mut first, EVERYTHING)), ["a", "b"]);
    let position = first.take(EVERYTHING).expect("nothing more").position;
    drop(first);
    scene.write(&mut producer, 0, &["c"]);
    assert_eq!(values(&scene.drain(&mut scene.reader(0, position), EVERYTHING)), ["c"]);
}

/// No polling is needed to follow a partition.
pub fn a_reader_at_the_end_says_so_and_is_rung_when_records_arrive(log: &dyn LogUnderTest) {
    let scene = Scene::new(log, "orders", 1);
    let mut producer = scene.producer("p");
    let bell = Bell::new();
    let start = scene.offset(0, OffsetQuery::Earliest);
    let mut reader = scene.reader_with(0, start, bell.clone()).expect("a reader");
    for round in ["a", "b", "c"] {
        let waited = (0..PATIENCE).any(|_| {
            let fetched = reader.take(EVERYTHING).expect("nothing");
            assert!(fetched.batches.is_empty(), "nothing was written");
            scene.under_test.run();
            fetched.at_end
        });
        assert!(waited, "the reader is at the end");
        bell.take();
        scene.write(&mut producer, 0, &[round]);
        let rung = (0..PATIENCE).any(|_| {
            scene.under_test.run();
            bell.take()
        });
        assert!(rung, "the bell rings for {round}");
        assert_eq!(values(&scene.drain(&mut reader, EVERYTHING)), [round]);
    }
}

/// Readers have positions of their own.
pub fn two_readers_of_one_partition_see_the_same(log: &dyn LogUnderTest) {
    let scene = Scene::new(log, "orders", 1);
    let start = scene.offset(0, OffsetQuery::Earliest);
    let (mut one, mut two) = (scene.reader(0, start), scene.reader(0, start));
    let mut producer = scene.producer("p");
    scene.write(&mut producer, 0, &["a"]);
    assert_eq!(values(&scene.drain(&mut one, EVERYTHING)), ["a"]);
    scene.write(&mut producer, 0, &["b"]);
    assert_eq!(values(&scene.drain(&mut two, EVERYTHING)), ["a", "b"]);
    assert_eq!(values(&scene.drain(&mut one, EVERYTHING)), ["b"]);
}

/// A limit in bytes makes takes small and loses nothing.
pub fn small_takes_get_everything_in_the_end(log: &dyn LogUnderTest) {
    let scene = Scene::new(log, "orders", 1);
    let mut producer = scene.producer("p");
    let written: Vec<String> = (0..50).map(|n| format!("{n:0100}")).collect();
    for values in written.chunks(5) {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        scene.write(&mut producer, 0, &values);
    }
    let start = scene.offset(0, OffsetQuery::Earliest);
    for max_bytes in [1, 600, 2_000] {
        let mut reader = scene.reader(0, start);
        assert_eq!(values(&scene.drain(&mut reader, max_bytes)), written);
    }
}

/// Also to an offset inside a batch.
pub fn seeking_goes_back_and_forward(log: &dyn LogUnderTest) {
    let scene = Scene::new(log, "orders", 1);
    let mut producer = scene.producer("p");
    scene.write(&mut producer, 0, &["a", "b", "c"]);
    scene.write(&mut producer, 0, &["d"]);
    let mut reader = scene.reader(0, scene.offset(0, OffsetQuery::Earliest));
    let batches = scene.drain(&mut reader, EVERYTHING);
    let records = batches.iter().flat_map(RecordBatch::records);
    let offsets: Vec<i64> = records.map(|r| r.expect("well formed").offset).collect();
    reader.seek(offsets[1]);
    assert_eq!(values(&scene.drain(&mut reader, EVERYTHING)), ["b", "c", "d"]);
    reader.seek(offsets[3]);
    assert_eq!(values(&scene.drain(&mut reader, EVERYTHING)), ["d"]);
    reader.seek(offsets[0]);
    assert_eq!(values(&scene.drain(&mut reader, EVERYTHING)), ["a", "b", "c", "d"]);
}

/// Read-committed readers see whole transactions.
pub fn an_open_transaction_is_seen_by_nobody_until_it_commits(log: &dyn LogUnderTest) {
    let scene = Scene::new(log, "orders", 1);
    let mut producer = scene.producer("p");
    producer.begin().expect("begun");
    scene.send(&mut producer, 0, &batch(&["a"])).expect("sent");
    scene.send(&mut producer, 0, &batch(&["b"])).expect("sent");
    scene.under_test.run();
    assert_eq!(scene.values(0), [""; 0]);
    scene.commit(&mut producer, &[]);
    assert_eq!(scene.values(0), ["a", "b"]);
}

/// And what comes after it is.
pub fn an_aborted_transaction_is_never_seen(log: &dyn LogUnderTest) {
    let scene = Scene::new(log, "orders", 1);
    let mut producer = scene.producer("p");
    scene.write(&mut producer, 0, &["before"]);
    producer.begin().expect("begun");
    scene.send(&mut producer, 0, &batch(&["aborted"])).expect("sent");
    scene.answer(producer.abort()).expect("aborted");
    scene.write(&mut producer, 0, &["after"]);
    assert_eq!(scene.values(0), ["before", "after"]);
}

/// A commit is one thing.
pub fn outputs_of_several_partitions_and_offsets_commit_together(log: &dyn LogUnderTest) {
    let scene = Scene::new(log, "orders", 3);
    let mut producer = scene.producer("p");
    producer.begin().expect("begun");
    for partition in 0..3 {
        scene.send(&mut producer, partition, &batch(&["x", "y"])).expect("sent");
    }
    scene.commit(&mut producer, &[(0, 7, "clock of 0"), (2, 9, "")]);
    for partition in 0..3 {
        assert_eq!(scene.values(partition), ["x", "y"]);
    }
    let offset = |next_offset, metadata: &str| {
        Some(CommittedOffset { next_offset, metadata: metadata.to_owned() })
    };
    assert_eq!(scene.committed(&scene.group, 0), offset(7, "clock of 0"));
    assert_eq!(scene.committed(&scene.group, 1), None);
    assert_eq!(scene.committed(&scene.group, 2), offset(9, ""));
}

/// A task may have consumed without producing.
pub fn a_transaction_without_records_moves_offsets(log: &dyn LogUnderTest) {
    let scene = Scene::new(log, "orders", 1);
    let mut producer = scene.producer("p");
    for next_offset in [3, 4, 4] {
        producer.begin().expect("begun");
        scene.commit(&mut producer, &[(0, next_offset, "m")]);
        let committed = scene.committed(&scene.group, 0).expect("just committed");
        assert_eq!(committed.next_offset, next_offset);
    }
    assert_eq!(scene.values(0), [""; 0]);
}

/// Outputs and offsets share their fate.
pub fn an_aborted_transaction_moves_no_offset(log: &dyn LogUnderTest) {
    let scene = Scene::new(log, "orders", 1);
    let mut producer = scene.producer("p");
    producer.begin().expect("begun");
    scene.commit(&mut producer, &[(0, 3, "kept")]);
    producer.begin().expect("begun");
    scene.send(&mut producer, 0, &batch(&["aborted"])).expect("sent");
    scene.answer(producer.abort()).expect("aborted");
    let kept = CommittedOffset { next_offset: 3, metadata: "kept".to_owned() };
    assert_eq!(scene.committed(&scene.group, 0), Some(kept));
}

/// Nothing is not offset 0.
pub fn a_group_that_never_committed_has_no_offsets(log: &dyn LogUnderTest) {
    let scene = Scene::new(log, "orders", 2);
    let stranger = log.unique("stranger");
    assert_eq!(scene.committed(&stranger, 0), None);
    assert_eq!(scene.committed(&stranger, 1), None);
}

/// Offsets belong to a group.
pub fn groups_do_not_see_each_others_offsets(log: &dyn LogUnderTest) {
    let mut scene = Scene::new(log, "orders", 1);
    let mut producer = scene.producer("p");
    producer.begin().expect("begun");
    scene.commit(&mut producer, &[(0, 5, "")]);
    let first = std::mem::replace(&mut scene.group, log.unique("group-2"));
    producer.begin().expect("begun");
    scene.commit(&mut producer, &[(0, 8, "")]);
    assert_eq!(scene.committed(&first, 0).map(|offset| offset.next_offset), Some(5));
    assert_eq!(scene.committed(&scene.group, 0).map(|offset| offset.next_offset), Some(8));
}

/// A zombie changes nothing.
pub fn an_earlier_producer_of_the_same_id_is_fenced(log: &dyn LogUnderTest) {
    let scene = Scene::new(log, "orders", 1);
    let mut zombie = scene.producer("p");
    scene.write(&mut zombie, 0, &["before"]);
    zombie.begin().expect("begun");
    scene.send(&mut zombie, 0, &batch(&["zombie"])).expect("sent");
    let mut successor = scene.producer("p");
    scene.write(&mut successor, 0, &["after"]);
    let error = scene.try_commit(&mut zombie, &[(0, 99, "zombie")]).expect_err("it is fenced");
    assert_eq!(error.class, ErrorClass::Fenced, "{error}");
    assert_eq!(scene.values(0), ["before", "after"]);
    assert_eq!(scene.committed(&scene.group, 0), None);
    scene.write(&mut successor, 0, &["and on"]);
    assert_eq!(scene.values(0), ["before", "after", "and on"]);
}

/// Nobody waits for a transaction whose producer is gone.
pub fn a_new_producer_ends_what_an_earlier_one_left_open(log: &dyn LogUnderTest) {
    let scene = Scene::new(log, "orders", 1);
    let mut lost = scene.producer("p");
    lost.begin().expect("begun");
    scene.send(&mut lost, 0, &batch(&["lost"])).expect("sent");
    scene.under_test.run();
    drop(lost);
    let mut successor = scene.producer("p");
    scene.write(&mut successor, 0, &["after"]);
    assert_eq!(scene.values(0), ["after"]);
}

/// Only the same id fences.
pub fn producers_of_different_ids_do_not_disturb_each_other(log: &dyn LogUnderTest) {
    let scene = Scene::new(log, "orders", 2);
    let (mut one, mut two) = (scene.producer("p1"), scene.producer("p2"));
    one.begin().expect("begun");
    two.begin().expect("begun");
    scene.send(&mut one, 0, &batch(&["one"])).expect("sent");
    scene.send(&mut two, 1, &batch(&["two"])).expect("sent");
    scene.answer(two.abort()).expect("aborted");
    scene.commit(&mut one, &[(0, 1, "")]);
    scene.write(&mut two, 1, &["two again"]);
    assert_eq!(scene.values(0), ["one"]);
    assert_eq!(scene.values(1), ["two again"]);
}

/// Before anything is lost.
pub fn a_producer_that_is_misused_says_so(log: &dyn LogUnderTest) {
    let scene = Scene::new(log, "orders", 1);
    let id = log.unique("p");
    let mut fresh = scene.log.producer(&id, Bell::new()).expect("a producer");
    let error = fresh.begin().expect_err("it is not initialised");
    assert_eq!(error.class, ErrorClass::Fatal, "{error}");
    drop(fresh);
    let mut producer = scene.producer("p");
    producer.begin().expect("begun");
    let error = producer.begin().expect_err("one is open");
    assert_eq!(error.class, ErrorClass::Fatal, "{error}");
}

/// A position that was deleted is not silently moved.
pub fn deleted_records_move_the_start_and_reading_there_names_both_ends(log: &dyn LogUnderTest) {
    let scene = Scene::new(log, "orders", 1);
    let mut producer = scene.producer("p");
    scene.write(&mut producer, 0, &["a", "b"]);
    scene.write(&mut producer, 0, &["c", "d"]);
    let before = scene.offset(0, OffsetQuery::Earliest);
    let batches = scene.drain(&mut scene.reader(0, before), EVERYTHING);
    let records = batches.iter().flat_map(RecordBatch::records);
    let third = records.map(|r| r.expect("well formed").offset).nth(2).expect("four records");
    let start = third + 1;
    let deletion = scene.log.delete_records(vec![(scene.partition(0), start)]);
    scene.answer(deletion).expect("deleted");
    assert_eq!(scene.offset(0, OffsetQuery::Earliest), start);
    assert_eq!(scene.values(0), ["d"]);

    let error = scene.read_error(&mut scene.reader(0, third));
    assert_eq!(error.class, ErrorClass::Fatal, "{error}");
    let end = scene.offset(0, OffsetQuery::HighWatermark);
    let message = error.to_string();
    assert!(message.contains(&start.to_string()), "the start is named: {message}");
    assert!(message.contains(&end.to_string()), "the end is named: {message}");
}

/// Offsets are never given out twice.
pub fn deleting_everything_keeps_the_end(log: &dyn LogUnderTest) {
    let scene = Scene::new(log, "orders", 1);
    let mut producer = scene.producer("p");
    scene.write(&mut producer, 0, &["a", "b"]);
    let end = scene.offset(0, OffsetQuery::HighWatermark);
    scene.answer(scene.log.delete_records(vec![(scene.partition(0), end)])).expect("deleted");
    assert_eq!(scene.offset(0, OffsetQuery::Earliest), end);
    assert_eq!(scene.offset(0, OffsetQuery::HighWatermark), end);
    scene.write(&mut producer, 0, &["c"]);
    assert!(scene.offset(0, OffsetQuery::HighWatermark) > end);
    assert_eq!(scene.values(0), ["c"]);
}

/// And does not fail.
pub fn an_empty_batch_adds_nothing(log: &dyn LogUnderTest) {
    let scene = Scene::new(log, "orders", 1);
    let mut producer = scene.producer("p");
    scene.write(&mut producer, 0, &[]);
    producer.begin().expect("begun");
    scene.send(&mut producer, 0, &batch(&[])).expect("sent");
    scene.send(&mut producer, 0, &batch(&["a"])).expect("sent");
    scene.send(&mut producer, 0, &batch(&[])).expect("sent");
    scene.commit(&mut producer, &[]);
    assert_eq!(scene.values(0), ["a"]);
}

/// Sizes are the log's business.
pub fn a_big_batch_and_a_big_record_come_back_whole(log: &dyn LogUnderTest) {
    let scene = Scene::new(log, "orders", 1);
    let mut producer = scene.producer("p");
    let mut written: Vec<String> = (0..20_000).map(|n| format!("{n:0100}")).collect();
    written.push("x".repeat(900_000));
    let records: Vec<&str> = written.iter().map(String::as_str).collect();
    scene.write(&mut producer, 0, &records);
    assert!(scene.values(0) == written, "20,001 values come back");
}

/// Order is kept per partition.
pub fn many_partitions_keep_their_own_order(log: &dyn LogUnderTest) {
    const PARTITIONS: u32 = 24;
    let scene = Scene::new(log, "orders", PARTITIONS);
    let mut producer = scene.producer("p");
    for round in 0..5 {
        producer.begin().expect("begun");
        for partition in 0..PARTITIONS {
            let value = format!("{partition}/{round}");
            scene.send(&mut producer, partition, &batch(&[&value])).expect("sent");
        }
        scene.commit(&mut producer, &[]);
    }
    for partition in 0..PARTITIONS {
        let expected: Vec<String> = (0..5).map(|round| format!("{partition}/{round}")).collect();
        assert_eq!(scene.values(partition), expected);
    }
}

/// By its name.
pub fn an_unknown_topic_is_a_clear_error(log: &dyn LogUnderTest) {
    let mut scene = Scene::new(log, "orders", 1);
    let known = Arc::clone(&scene.topic);
    let reader = scene.reader_with(1, 0, Bell::new());
    let error = reader.err().expect("there is no partition 1");
    assert_eq!(error.class, ErrorClass::Fatal, "{error}");
    scene.topic = Arc::from(log.unique("missing"));
    let error = scene.reader_with(0, 0, Bell::new()).err().expect("there is no such topic");
    assert_eq!(error.class, ErrorClass::Fatal, "{error}");
    assert!(error.to_string().contains(&*scene.topic), "the topic is named: {error}");
    let names = vec![Arc::clone(&known), Arc::clone(&scene.topic)];
    let described = scene.answer(scene.log.describe_topics(names)).expect("described");
    let described: Vec<_> = described.iter().map(|spec| (&spec.name, spec.partitions)).collect();
    assert_eq!(described, [(&known, 1)]);
}

/// Whatever its shape.
pub fn a_topic_that_exists_is_left_as_it_is(log: &dyn LogUnderTest) {
    let scene = Scene::new(log, "orders", 2);
    let mut producer = scene.producer("p");
    scene.write(&mut producer, 1, &["kept"]);
    scene.create(5).expect("existing topics are no error");
    let names = vec![Arc::clone(&scene.topic)];
    let described = scene.answer(scene.log.describe_topics(names)).expect("described");
    assert_eq!(described.len(), 1);
    assert_eq!(described[0].partitions, 2);
    assert_eq!(scene.values(1), ["kept"]);
}

/// Both ends are 0.
pub fn a_new_topic_is_empty(log: &dyn LogUnderTest) {
    let scene = Scene::new(log, "orders", 2);
    for query in [OffsetQuery::Earliest, OffsetQuery::LastStable, OffsetQuery::HighWatermark] {
        assert_eq!(scene.offset(1, query), 0);
    }
    assert_eq!(scene.values(0), [""; 0]);
}

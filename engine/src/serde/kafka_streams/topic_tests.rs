//! What Kafka Streams wrote into the internal topics of a small topology, read by our codecs.

use bytes::Bytes;
use serde::Deserialize;

use super::tests::{Hex, bytes_of, captured};
use super::*;
use crate::record::Headers;

#[derive(Deserialize)]
struct TopicRow {
    topic: String,
    /// Null only where a join asks for no row.
    key: Option<Hex>,
    value: Option<Hex>,
    timestamp: Option<i64>,
}

impl TopicRow {
    fn key(&self) -> &[u8] {
        self.key.as_ref().map_or(&[], |key| &key.0)
    }

    fn value(&self) -> Option<&[u8]> {
        self.value.as_ref().map(|value| &value.0[..])
    }
}

/// The last row whose key begins with these bytes.
fn last_of<'r>(rows: &'r [TopicRow], key: &[u8]) -> &'r TopicRow {
    rows.iter().rfind(|row| row.key().starts_with(key)).expect("there is such a row")
}

fn captured_topic(name: &str) -> Vec<TopicRow> {
    let rows: Vec<TopicRow> =
        captured("topics").into_iter().filter(|row: &TopicRow| row.topic == name).collect();
    assert!(!rows.is_empty(), "no captures of {name}");
    rows
}

#[test]
fn a_window_changelog_holds_window_store_keys_and_plain_values() {
    let rows = captured_topic("app-windows-changelog");
    let last = last_of(&rows, b"a");
    let key = WindowStoreKey { key: b"a", start: 60_000, seqnum: 0 };
    assert_eq!(WindowStoreKey::decode(last.key()), Ok(key));
    assert_eq!(last.value, Some(Hex(1_i64.to_be_bytes().to_vec())));
    assert_eq!(last.timestamp, Some(70_000));
}

#[test]
fn a_session_changelog_holds_session_keys_and_deletes_merged_sessions() {
    let rows = captured_topic("app-sessions-changelog");
    let keys: Vec<_> = rows.iter().map(|row| SessionKey::decode(row.key())).collect();
    let merged = SessionKey { key: b"a", start: 1_000, end: 50_000 };
    assert_eq!(keys[3], Ok(merged));
    assert_eq!((&keys[4], &rows[4].value), (&Ok(merged), &None));
    assert_eq!(keys[5], Ok(SessionKey { key: b"a", start: 1_000, end: 70_000 }));
}

#[test]
fn a_key_value_changelog_holds_plain_values_with_the_time_on_the_record() {
    let rows = captured_topic("app-counts-changelog");
    let last = last_of(&rows, b"a");
    assert_eq!(last.timestamp, Some(70_000));
    assert_eq!(last.value, Some(Hex(3_i64.to_be_bytes().to_vec())));
}

#[test]
fn a_tables_repartition_topic_holds_changes() {
    let rows = captured_topic("app-by-value-repartition");
    let changes: Vec<_> = rows
        .iter()
        .map(|row| decode_change(&row.value.as_ref().expect("not null").0).expect("a change"))
        .map(|change| (change.old, change.new))
        .collect();
    let (x, y) = (Some(&b"x"[..]), Some(&b"y"[..]));
    assert_eq!(changes, [(None, x), (x, y), (y, None)]);
}

#[test]
fn a_suppress_buffers_changelog_holds_buffer_values() {
    let rows = captured_topic("app-closing-store-changelog");
    let mut values = 0;
    for bytes in rows.iter().filter_map(|row| row.value.as_ref()) {
        let value = BufferValue::decode(&bytes.0).expect("a buffer value");
        assert_eq!(bytes_of(|into| value.encode(into).expect("small")), bytes.0);
        values += 1;
    }
    assert_eq!(values, 5);
    let third = BufferValue::decode(&rows[2].value.as_ref().expect("not null").0);
    let [zero, one, two] = [0_i64, 1, 2].map(i64::to_be_bytes);
    let expected = BufferValue {
        timestamp: 50_000,
        offset: 2,
        topic: "in",
        partition: 0,
        headers: Headers::new(),
        prior: Some(&zero),
        old: Some(&one),
        new: Some(&two),
        buffer_time: 60_000,
    };
    assert_eq!(third, Ok(expected));
}

#[test]
fn a_suppressed_rows_headers_and_its_value_before_are_in_the_buffer() {
    let rows = captured_topic("app-closing-store-changelog");
    let value = BufferValue::decode(last_of(&rows, b"d").value().expect("not null"));
    let value = value.expect("a buffer value");
    let headers: Vec<_> =
        value.headers.iter().map(|header| (&*header.name, header.value.clone())).collect();
    assert_eq!(headers, [("trace", Some(Bytes::from_static(b"t"))), ("none", None)]);
    assert_eq!((value.prior, value.old), (Some(&[0; 8][..]), Some(&[0; 8][..])));
}

#[test]
fn a_suppress_buffer_of_sessions_has_session_keys() {
    let rows = captured_topic("app-closing-sessions-store-changelog");
    let first = SessionKey { key: b"a", start: 1_000, end: 1_000 };
    assert_eq!(SessionKey::decode(rows[0].key()), Ok(first));
    assert_eq!(rows[0].timestamp, None);
    let closed = rows.iter().filter(|row| row.value.is_none()).count();
    assert_eq!(closed, 3);
}

#[test]
fn a_join_window_counts_its_records_and_keeps_their_headers() {
    let rows = captured_topic("app-join-outer-this-join-store-changelog");
    let keys: Vec<_> = rows.iter().map(|row| WindowStoreKey::decode(row.key())).collect();
    assert_eq!(keys[0], Ok(WindowStoreKey { key: b"a", start: 1_000, seqnum: 1 }));
    assert_eq!(keys[4], Ok(WindowStoreKey { key: b"d", start: 74_000, seqnum: 5 }));
    assert_eq!((rows[4].value(), rows[4].timestamp), (Some(&b"6"[..]), Some(74_000)));
}

#[test]
fn records_that_met_no_other_wait_in_lists_by_time_and_side() {
    let rows = captured_topic("app-join-outer-shared-join-store-changelog");
    let read = |row: &TopicRow| {
        let values = row.value().map(|value| decode_join_side_values(value).expect("a list"));
        let values = values.map(|values| values.iter().map(|(s, v)| (*s, v.to_vec())).collect());
        (JoinSideKey::decode(row.key()).expect("a key").side, values)
    };
    let key = JoinSideKey { timestamp: 1_000, side: JoinSide::Left, key: b"a" };
    assert_eq!(JoinSideKey::decode(rows[0].key()), Ok(key));
    let (left, right) = (JoinSide::Left, JoinSide::Right);
    assert_eq!(read(&rows[0]), (left, Some(vec![(left, b"1".to_vec())])));
    assert_eq!(read(&rows[2]), (left, None));
    let other: Vec<_> = rows.iter().map(read).filter(|(side, _)| *side == right).collect();
    assert_eq!(other[0], (right, Some(vec![(right, b"5".to_vec())])));
}

#[test]
fn a_foreign_key_join_registers_hashed_rows_and_is_answered() {
    let registered = captured_topic("app-foreign-subscription-registration-topic");
    let first = Subscription {
        instruction: Instruction::PropagateNullIfNoForeignValue,
        hash: Some(murmur3_128(b"a1")),
        primary_key: b"1",
        primary_partition: Some(0),
    };
    assert_eq!(registered[0].key(), b"a");
    assert_eq!(Subscription::decode(registered[0].value().expect("not null")), Ok(first));
    // A row that is gone asks once more under a null key, to be told that it is gone.
    let gone = registered.last().expect("not empty");
    assert!(gone.key.is_none());
    assert_eq!(Subscription::decode(gone.value().expect("not null")).map(|s| s.hash), Ok(None));
    let answers = captured_topic("app-foreign-subscription-response-topic");
    let answer = SubscriptionResponse { hash: first.hash, foreign_value: Some(b"A") };
    assert_eq!(answers[1].key(), b"1");
    assert_eq!(SubscriptionResponse::decode(answers[1].value().expect("not null")), Ok(answer));
}

#[test]
fn a_foreign_key_joins_store_has_combined_keys_and_subscriptions() {
    let rows = captured_topic("app-foreign-subscription-store-changelog");
    let key = CombinedKey { foreign_key: b"a", primary_key: b"1" };
    assert_eq!(CombinedKey::decode(rows[0].key()), Ok(key));
    assert_eq!(bytes_of(|into| key.encode(into).expect("small")), rows[0].key());
    let kept = Subscription::decode(rows[0].value().expect("not null")).expect("a subscription");
    assert_eq!(kept.primary_key, b"1");
    assert_eq!(rows[1].value, None);
}

#[test]
fn a_versioned_changelog_holds_each_version_with_its_time_as_it_came() {
    let rows = captured_topic("app-versions-changelog");
    let versions: Vec<_> = rows.iter().map(|row| (row.value(), row.timestamp)).collect();
    let expected = [
        (Some(&b"new"[..]), Some(90_000)),
        (Some(&b"old"[..]), Some(80_000)),
        (None, Some(95_000)),
    ];
    assert_eq!(versions, expected);
}

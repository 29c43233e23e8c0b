//! Our bytes against those of Kafka Streams, and round trips.
//!
//! The captures were written by Kafka Streams itself; `tests/jvm/README.md` says how.

use std::collections::BTreeMap;

use proptest::{collection::btree_map, option, prelude::*};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::*;
use crate::record::{Headers, Window, Windowed};
use crate::serde::{Serde, SharedSerde, serdes};

const CAPTURES: &str = include_str!("../../../../tests/jvm/captures/kafka-streams-4.3.1.json");

/// Bytes, written in hexadecimal.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "String")]
struct Hex(Vec<u8>);

impl TryFrom<String> for Hex {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digit = |at: usize| text.get(at..at + 2).ok_or("odd length".to_owned());
        let byte = |at| u8::from_str_radix(digit(at)?, 16).map_err(|error| error.to_string());
        (0..text.len()).step_by(2).map(byte).collect::<Result<_, _>>().map(Self)
    }
}

/// The captured rows of one section; there are always some.
fn captured<T: DeserializeOwned>(section: &str) -> Vec<T> {
    let mut all: Value = serde_json::from_str(CAPTURES).expect("captures are JSON");
    let rows: Vec<T> = serde_json::from_value(all[section].take()).expect("rows of this form");
    assert!(!rows.is_empty(), "no captures of {section}");
    rows
}

fn bytes_of(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes);
    bytes
}

#[test]
fn keys_hash_to_kafkas_partitions() {
    #[derive(Deserialize)]
    struct Row {
        key: Hex,
        murmur2: i32,
        of_7: u32,
    }
    for row in captured::<Row>("partition") {
        assert_eq!(murmur2(&row.key.0), row.murmur2.cast_unsigned(), "{:?}", row.key);
        assert_eq!(partition_for(&row.key.0, 7), row.of_7, "{:?}", row.key);
    }
}

#[test]
fn time_windowed_keys_have_kafkas_bytes_and_partition() {
    #[derive(Deserialize)]
    struct Row {
        key: Hex,
        start: i64,
        size: i64,
        bytes: Hex,
        of_7: u32,
    }
    for Row { key, start, size, bytes, of_7 } in captured("time_windowed_key") {
        let serde = time_windowed(serdes::byte_vec(), size);
        let windowed = Windowed { key: key.0, window: Window { start, end: start + size } };
        assert_eq!(serde.to_bytes(&windowed), Ok(Some(bytes.0.clone())));
        assert_eq!(serde.decode(Some(&bytes.0)), Ok(windowed));
        assert_eq!(partition_for(serde.partition_key(&bytes.0), 7), of_7);
    }
}

#[test]
fn window_store_keys_have_kafkas_bytes() {
    #[derive(Deserialize)]
    struct Row {
        key: Hex,
        start: i64,
        seqnum: u32,
        bytes: Hex,
    }
    for Row { key, start, seqnum, bytes } in captured("window_store_key") {
        let store_key = WindowStoreKey { key: &key.0, start, seqnum };
        assert_eq!(bytes_of(|into| store_key.encode(into)), bytes.0);
        assert_eq!(WindowStoreKey::decode(&bytes.0), Ok(store_key));
    }
}

#[test]
fn session_keys_have_kafkas_bytes_in_topics_and_stores() {
    #[derive(Deserialize)]
    struct Row {
        key: Hex,
        start: i64,
        end: i64,
        bytes: Hex,
    }
    let serde = session_windowed(serdes::byte_vec());
    for Row { key, start, end, bytes } in captured("session_key") {
        let session = SessionKey { key: &key.0, start, end };
        assert_eq!(bytes_of(|into| session.encode(into)), bytes.0);
        assert_eq!(SessionKey::decode(&bytes.0), Ok(session));
        assert_eq!(serde.partition_key(&bytes.0), key.0);
        let windowed = Windowed { key: key.0, window: Window { start, end } };
        assert_eq!(serde.to_bytes(&windowed), Ok(Some(bytes.0.clone())));
        assert_eq!(serde.decode(Some(&bytes.0)), Ok(windowed));
    }
}

#[test]
fn values_and_timestamps_have_kafkas_bytes() {
    #[derive(Deserialize)]
    struct Row {
        value: Hex,
        timestamp: i64,
        bytes: Hex,
    }
    for Row { value, timestamp, bytes } in captured("value_and_timestamp") {
        let ours = bytes_of(|into| encode_value_and_timestamp(&value.0, timestamp, into));
        assert_eq!(ours, bytes.0);
        assert_eq!(decode_value_and_timestamp(&bytes.0), Ok((&value.0[..], timestamp)));
    }
}

#[test]
fn changes_have_kafkas_bytes() {
    #[derive(Deserialize)]
    struct Row {
        old: Option<Hex>,
        new: Option<Hex>,
        bytes: Hex,
    }
    for Row { old, new, bytes } in captured("change") {
        let (old, new) = (old.as_ref().map(|hex| &hex.0[..]), new.as_ref().map(|hex| &hex.0[..]));
        let ours = bytes_of(|into| encode_change(old, new, into).expect("a change"));
        assert_eq!(ours, bytes.0);
        assert_eq!(decode_change(&bytes.0), Ok(ChangeBytes { old, new, is_latest: true }));
    }
}

#[test]
fn offset_metadata_is_kafkas_text() {
    #[derive(Deserialize)]
    struct Row {
        partition_time: i64,
        processors: BTreeMap<String, i64>,
        text: String,
    }
    for Row { partition_time, processors, text } in captured("offset_metadata") {
        let metadata = OffsetMetadata { partition_time, processors };
        assert_eq!(metadata.encode().as_ref(), Ok(&text));
        assert_eq!(OffsetMetadata::decode(&text), Ok(metadata));
    }
}

#[derive(Deserialize)]
struct TopicRow {
    topic: String,
    key: Hex,
    value: Option<Hex>,
    timestamp: Option<i64>,
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
    let last = rows.last().expect("not empty");
    let key = WindowStoreKey { key: b"a", start: 60_000, seqnum: 0 };
    assert_eq!(WindowStoreKey::decode(&last.key.0), Ok(key));
    assert_eq!(last.value, Some(Hex(1_i64.to_be_bytes().to_vec())));
    assert_eq!(last.timestamp, Some(70_000));
}

#[test]
fn a_session_changelog_holds_session_keys_and_deletes_merged_sessions() {
    let rows = captured_topic("app-sessions-changelog");
    let keys: Vec<_> = rows.iter().map(|row| SessionKey::decode(&row.key.0)).collect();
    let merged = SessionKey { key: b"a", start: 1_000, end: 50_000 };
    assert_eq!(keys[3], Ok(merged));
    assert_eq!((&keys[4], &rows[4].value), (&Ok(merged), &None));
    assert_eq!(keys[5], Ok(SessionKey { key: b"a", start: 1_000, end: 70_000 }));
}

#[test]
fn a_key_value_changelog_holds_plain_values_with_the_time_on_the_record() {
    let rows = captured_topic("app-counts-changelog");
    let last = rows.last().expect("not empty");
    assert_eq!((&last.key.0[..], last.timestamp), (&b"a"[..], Some(70_000)));
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
    assert_eq!(values, 4);
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
fn the_older_flags_of_a_change_are_read() {
    let decoded = |bytes| decode_change(bytes).expect("a change");
    let change = |old, new, is_latest| ChangeBytes { old, new, is_latest };
    assert_eq!(decoded(b"o\x00\x03"), change(Some(&b"o"[..]), None, false));
    assert_eq!(decoded(b"n\x01\x04"), change(None, Some(&b"n"[..]), true));
    assert_eq!(decoded(b"\x02no\x00\x05"), change(Some(&b"o"[..]), Some(&b"n"[..]), false));
    assert!(decode_change(b"x\x02\x05").is_err());
    assert!(decode_change(b"x\x06").is_err());
    assert!(decode_change(b"").is_err());
}

#[test]
fn a_change_of_nothing_to_nothing_is_refused() {
    assert!(encode_change(None, None, &mut Vec::new()).is_err());
}

#[test]
fn offset_metadata_of_others_is_refused_and_none_is_empty() {
    assert_eq!(OffsetMetadata::decode(""), Ok(OffsetMetadata::default()));
    // Version 1, partition time 7, and nothing more.
    let version_one = OffsetMetadata { partition_time: 7, ..OffsetMetadata::default() };
    assert_eq!(OffsetMetadata::decode("AQAAAAAAAAAH"), Ok(version_one));
    assert!(OffsetMetadata::decode("a note of someone").is_err());
    assert!(OffsetMetadata::decode("CQAAAAAAAAAH").is_err());
}

#[test]
fn a_window_that_would_end_after_all_time_ends_with_it() {
    let serde = time_windowed(serdes::string(), i64::MAX);
    let key = [&b"a"[..], &5_i64.to_be_bytes()].concat();
    let window = Window { start: 5, end: i64::MAX };
    assert_eq!(serde.decode(Some(&key)), Ok(Windowed { key: "a".to_owned(), window }));
}

#[test]
fn a_null_key_has_no_windowed_bytes() {
    let serde = session_windowed(serdes::optional(serdes::string()));
    let windowed = Windowed { key: None, window: Window { start: 0, end: 0 } };
    assert!(matches!(serde.to_bytes(&windowed), Err(SerdeError::Null { .. })));
}

#[test]
fn a_windowed_key_is_shown_with_its_window() {
    let serde: SharedSerde<_> = time_windowed(serdes::string(), 10);
    let windowed = Windowed { key: "a".to_owned(), window: Window { start: 5, end: 15 } };
    let shown = serde_json::json!({"key": "a", "start": 5, "end": 15});
    assert_eq!(serde.to_json(&windowed), Some(shown));
}

proptest! {
    #[test]
    fn every_key_comes_back(key: Vec<u8>, start: i64, end: i64, seqnum: u32) {
        let window = WindowStoreKey { key: &key, start, seqnum };
        let bytes = bytes_of(|into| window.encode(into));
        prop_assert_eq!(WindowStoreKey::decode(&bytes), Ok(window));
        let session = SessionKey { key: &key, start, end };
        let bytes = bytes_of(|into| session.encode(into));
        prop_assert_eq!(SessionKey::decode(&bytes), Ok(session));
        let bytes = bytes_of(|into| encode_value_and_timestamp(&key, start, into));
        prop_assert_eq!(decode_value_and_timestamp(&bytes), Ok((&key[..], start)));
    }

    #[test]
    fn every_change_comes_back(old in option::of(any::<Vec<u8>>()), new: Vec<u8>) {
        let (old, new) = (old.as_deref(), Some(&new[..]));
        let bytes = bytes_of(|into| encode_change(old, new, into).expect("a change"));
        prop_assert_eq!(decode_change(&bytes), Ok(ChangeBytes { old, new, is_latest: true }));
    }

    #[test]
    fn all_offset_metadata_comes_back(
        partition_time: i64, processors in btree_map(any::<String>(), any::<i64>(), 0..5),
    ) {
        let metadata = OffsetMetadata { partition_time, processors };
        let text = metadata.encode().expect("small");
        prop_assert_eq!(OffsetMetadata::decode(&text), Ok(metadata));
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes: Vec<u8>, text: String) {
        // Each ends with a value or an error; that it returns at all is the claim.
        drop(decode_change(&bytes));
        drop(WindowStoreKey::decode(&bytes));
        drop(SessionKey::decode(&bytes));
        drop(BufferValue::decode(&bytes));
        drop(decode_value_and_timestamp(&bytes));
        drop(OffsetMetadata::decode(&text));
        let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &bytes);
        drop(OffsetMetadata::decode(&encoded));
        prop_assert!(partition_for(&bytes, 3) < 3);
    }
}

//! Our bytes against those of Kafka Streams, and round trips.
//!
//! The captures were written by Kafka Streams itself; `tests/jvm/README.md` says how.

use std::collections::BTreeMap;

use proptest::{collection::btree_map, option, prelude::*};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::*;
use crate::record::{Window, Windowed};
use crate::serde::{Serde, SharedSerde, serdes};

/// What Kafka Streams wrote.
const CAPTURES: &str = include_str!("../../../../tests/jvm/captures/kafka-streams-4.3.1.json");

/// Bytes, written in hexadecimal.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Hex(pub(super) Vec<u8>);

impl TryFrom<String> for Hex {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digit = |at: usize| text.get(at..at + 2).ok_or("odd length".to_owned());
        let byte = |at| u8::from_str_radix(digit(at)?, 16).map_err(|error| error.to_string());
        (0..text.len()).step_by(2).map(byte).collect::<Result<_, _>>().map(Self)
    }
}

/// The captured rows of one section; there are always some.
pub(super) fn captured<T: DeserializeOwned>(section: &str) -> Vec<T> {
    let mut all: Value = serde_json::from_str(CAPTURES).expect("captures are JSON");
    let rows: Vec<T> = serde_json::from_value(all[section].take()).expect("rows of this form");
    assert!(!rows.is_empty(), "no captures of {section}");
    rows
}

pub(super) fn bytes_of(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
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

#[test]
fn values_hash_as_in_kafka_streams() {
    #[derive(Deserialize)]
    struct Row {
        bytes: Hex,
        hash: Hex,
    }
    for Row { bytes, hash } in captured("murmur3") {
        assert_eq!(murmur3_128(&bytes.0).to_vec(), hash.0, "{bytes:?}");
    }
}

fn hash_of(hash: Option<Hex>) -> Option<[u8; 16]> {
    hash.map(|hash| hash.0.try_into().expect("16 bytes"))
}

#[test]
fn subscriptions_have_kafkas_bytes() {
    #[derive(Deserialize)]
    struct Row {
        instruction: usize,
        hash: Option<Hex>,
        key: Hex,
        partition: i32,
        bytes: Hex,
    }
    use Instruction::*;
    let instructions = [
        DeleteKeyNoPropagate,
        DeleteKeyAndPropagate,
        PropagateNullIfNoForeignValue,
        PropagateOnlyIfForeignValue,
    ];
    for Row { instruction, hash, key, partition, bytes } in captured("subscription") {
        let subscription = Subscription {
            instruction: instructions[instruction],
            hash: hash_of(hash),
            primary_key: &key.0,
            primary_partition: Some(partition),
        };
        assert_eq!(bytes_of(|into| subscription.encode(into)), bytes.0);
        assert_eq!(Subscription::decode(&bytes.0), Ok(subscription));
    }
}

#[test]
fn answers_to_subscriptions_have_kafkas_bytes() {
    #[derive(Deserialize)]
    struct Row {
        hash: Option<Hex>,
        foreign: Option<Hex>,
        bytes: Hex,
    }
    for Row { hash, foreign, bytes } in captured("subscription_response") {
        let foreign_value = foreign.as_ref().map(|hex| &hex.0[..]);
        let response = SubscriptionResponse { hash: hash_of(hash), foreign_value };
        assert_eq!(bytes_of(|into| response.encode(into)), bytes.0);
        assert_eq!(SubscriptionResponse::decode(&bytes.0), Ok(response));
    }
}

#[test]
fn a_subscription_of_version_zero_ends_with_its_key() {
    let subscription = Subscription {
        instruction: Instruction::DeleteKeyAndPropagate,
        hash: None,
        primary_key: b"key",
        primary_partition: None,
    };
    assert_eq!(Subscription::decode(b"\x80\x01key"), Ok(subscription));
    assert_eq!(bytes_of(|into| subscription.encode(into)), b"\x80\x01key");
    assert!(Subscription::decode(b"\x82\x01key\0\0\0\0").is_err(), "an unknown version");
    assert!(Subscription::decode(b"\x81\x04key\0\0\0\0").is_err(), "an unknown instruction");
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
    fn what_joins_keep_comes_back(
        timestamp: i64, key: Vec<u8>, foreign_key: Vec<u8>, values: Vec<Vec<u8>>, left: bool,
    ) {
        let side = if left { JoinSide::Left } else { JoinSide::Right };
        let side_key = JoinSideKey { timestamp, side, key: &key };
        let bytes = bytes_of(|into| side_key.encode(into));
        prop_assert_eq!(JoinSideKey::decode(&bytes), Ok(side_key));
        let values: Vec<_> = values.iter().map(|value| &value[..]).collect();
        let bytes = bytes_of(|into| encode_join_side_values(side, &values, into).expect("few"));
        let expected: Vec<_> = values.iter().map(|value| (side, *value)).collect();
        prop_assert_eq!(decode_join_side_values(&bytes), Ok(expected));
        let combined = CombinedKey { foreign_key: &foreign_key, primary_key: &key };
        let bytes = bytes_of(|into| combined.encode(into).expect("small"));
        prop_assert_eq!(CombinedKey::decode(&bytes), Ok(combined));
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
        drop(Subscription::decode(&bytes));
        drop(SubscriptionResponse::decode(&bytes));
        drop(CombinedKey::decode(&bytes));
        drop(JoinSideKey::decode(&bytes));
        drop(decode_join_side_values(&bytes));
        drop(decode_value_and_timestamp(&bytes));
        drop(OffsetMetadata::decode(&text));
        let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &bytes);
        drop(OffsetMetadata::decode(&encoded));
        prop_assert!(partition_for(&bytes, 3) < 3);
    }
}

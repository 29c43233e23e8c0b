//! What every built-in serde keeps, and what it refuses.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::*;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: String,
    lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Line {
    price: u32,
}

fn comes_back<T: PartialEq + std::fmt::Debug + 'static>(serde: &SharedSerde<T>, value: &T) {
    let bytes = serde.to_bytes(value).expect("has bytes");
    assert_eq!(serde.decode(bytes.as_deref()).as_ref(), Ok(value));
}

#[test]
fn the_bytes_are_those_of_kafkas_serializers() {
    let bytes = |b: Result<Option<Vec<u8>>, SerdeError>| b.expect("has bytes").expect("not null");
    assert_eq!(bytes(serdes::string().to_bytes(&"h\u{e9}".into())), [b'h', 0xc3, 0xa9]);
    assert_eq!(bytes(serdes::i64().to_bytes(&-2)), [255, 255, 255, 255, 255, 255, 255, 254]);
    assert_eq!(bytes(serdes::i32().to_bytes(&258)), [0, 0, 1, 2]);
    assert_eq!(bytes(serdes::f64().to_bytes(&1.0)), [0x3f, 0xf0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes(serdes::bool().to_bytes(&true)), [1]);
    let uuid = Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
    assert_eq!(
        bytes(serdes::uuid().to_bytes(&uuid)),
        b"01020304-0506-0708-090a-0b0c0d0e0f10".to_vec()
    );
}

#[test]
fn a_plain_type_refuses_null_and_an_option_accepts_it() {
    assert_eq!(serdes::i64().decode(None), Err(SerdeError::Null { type_name: "i64" }));
    let optional = Option::<i64>::default_serde();
    assert_eq!(optional.decode(None), Ok(None));
    assert_eq!(optional.to_bytes(&None), Ok(None));
    assert_eq!(optional.decode(Some(&[0; 8])), Ok(Some(0)));
}

#[test]
fn unit_is_always_null() {
    let unit = serdes::unit();
    assert_eq!(unit.to_bytes(&()), Ok(None));
    assert_eq!(unit.decode(None), Ok(()));
    assert!(unit.decode(Some(b"x")).is_err());
}

#[test]
fn an_empty_text_is_not_null() {
    assert_eq!(serdes::string().to_bytes(&String::new()), Ok(Some(Vec::new())));
    assert_eq!(serdes::string().decode(Some(b"")), Ok(String::new()));
}

#[test]
fn wrong_lengths_and_wrong_text_are_named() {
    assert_eq!(serdes::i64().decode(Some(b"abc")), Err(SerdeError::length(8, 3)));
    assert_eq!(serdes::string().decode(Some(b"ab\xff")), Err(SerdeError::Text { position: 2 }));
    assert_eq!(serdes::bool().decode(Some(&[])), Err(SerdeError::length(1, 0)));
    assert!(serdes::bool().decode(Some(&[2])).is_err());
    assert!(serdes::uuid().decode(Some(&[b'x'; 36])).is_err());
    assert_eq!(serdes::uuid().decode(Some(&[0xff])), Err(SerdeError::length(36, 1)));
}

#[test]
fn a_json_error_names_the_field() {
    let bytes = br#"{"id": "a", "lines": [{"price": 1}, {"price": -1}]}"#;
    let Err(SerdeError::Json { path, message }) = serdes::json::<Order>().decode(Some(bytes))
    else {
        panic!("must be refused");
    };
    assert_eq!(path, "lines[1].price");
    assert!(message.contains("line 1 column"), "{message}");
}

#[test]
fn text_behind_a_json_document_is_refused() {
    let Err(SerdeError::Json { message, .. }) = serdes::json::<u32>().decode(Some(b"1 2")) else {
        panic!("must be refused");
    };
    assert!(message.contains("trailing"), "{message}");
}

#[test]
fn json_that_is_too_deep_or_too_large_is_refused() {
    let deep = "[".repeat(200);
    assert!(matches!(
        serdes::json::<serde_json::Value>().decode(Some(deep.as_bytes())),
        Err(SerdeError::Json { .. })
    ));
    let large = vec![b' '; serdes::JSON_BYTES_MAX + 1];
    assert!(matches!(
        serdes::json::<serde_json::Value>().decode(Some(&large)),
        Err(SerdeError::Limit { what: "json document", .. })
    ));
}

#[test]
fn a_value_without_json_leaves_no_bytes_behind() {
    let serde = serdes::json::<BTreeMap<Vec<u8>, u8>>();
    let mut into = b"before".to_vec();
    let value = BTreeMap::from([(vec![1], 1)]);
    assert!(matches!(serde.encode(&value, &mut into), Err(SerdeError::Json { .. })));
    assert_eq!(into, b"before");
}

#[test]
fn encode_appends_and_returns_what_it_appended() {
    let mut into = b"before".to_vec();
    let appended = serdes::string().encode(&"x".to_owned(), &mut into).expect("has bytes");
    assert_eq!(appended, Some(&b"x"[..]));
    assert_eq!(into, b"beforex");
}

#[test]
fn values_have_a_json_form_and_keys_a_text_form() {
    assert_eq!(serdes::i64().to_json(&-1), Some(json!(-1)));
    assert_eq!(serdes::i64().from_text("-1"), Some(-1));
    assert_eq!(serdes::i64().from_text("x"), None);
    assert_eq!(serdes::string().from_text("x"), Some("x".to_owned()));
    assert_eq!(serdes::bytes().to_json(&Bytes::new()), None);
    let optional = serdes::optional(serdes::bool());
    assert_eq!(optional.to_json(&None), Some(json!(null)));
    assert_eq!(optional.from_text("true"), Some(Some(true)));
    let order = Order { id: "a".into(), lines: Vec::new() };
    assert_eq!(serdes::json::<Order>().to_json(&order), Some(json!({"id": "a", "lines": []})));
    assert_eq!(serdes::json::<String>().from_text("plain"), Some("plain".to_owned()));
    assert_eq!(serdes::json::<Line>().from_text(r#"{"price":3}"#), Some(Line { price: 3 }));
}

#[test]
fn a_range_over_zero_is_read_as_two_pieces() {
    let piece = |from: i32, to: i32| KeyRange {
        from: Some(from.to_be_bytes().to_vec()),
        to: Some(to.to_be_bytes().to_vec()),
    };
    let ranges = |from: Option<&i32>, to: Option<&i32>| serdes::i32().key_ranges(from, to);
    assert_eq!(ranges(Some(&-5), Some(&5)), Ok(vec![piece(-5, -1), piece(0, 5)]));
    assert_eq!(ranges(Some(&1), Some(&5)), Ok(vec![piece(1, 5)]));
    assert_eq!(ranges(Some(&-5), Some(&-1)), Ok(vec![piece(-5, -1)]));
    assert_eq!(ranges(None, None), Ok(vec![piece(i32::MIN, -1), piece(0, i32::MAX)]));
    assert_eq!(ranges(Some(&5), Some(&-5)), Ok(vec![]));
}

#[test]
fn a_range_of_texts_is_one_piece_and_empty_if_backwards() {
    let (a, b) = ("a".to_owned(), "b".to_owned());
    let serde = serdes::string();
    let all = KeyRange { from: None, to: None };
    assert_eq!(serde.key_ranges(None, None), Ok(vec![all]));
    assert_eq!(serde.key_ranges(Some(&b), Some(&a)), Ok(vec![]));
    let one = KeyRange { from: Some(b"a".to_vec()), to: Some(b"b".to_vec()) };
    assert_eq!(serde.key_ranges(Some(&a), Some(&b)), Ok(vec![one]));
}

proptest! {
    #[test]
    fn every_value_comes_back(
        text: String, long: i64, int: i32, unsigned: u64, float in any::<f64>(), flag: bool,
        raw: Vec<u8>, id: u128, prices: Vec<u32>,
    ) {
        comes_back(&serdes::string(), &text);
        comes_back(&serdes::i64(), &long);
        comes_back(&serdes::i32(), &int);
        comes_back(&serdes::u64(), &unsigned);
        comes_back(&serdes::f64(), &float);
        comes_back(&serdes::bool(), &flag);
        comes_back(&serdes::bytes(), &Bytes::from(raw.clone()));
        comes_back(&serdes::byte_vec(), &raw);
        comes_back(&serdes::uuid(), &Uuid::from_u128(id));
        comes_back(&serdes::optional(serdes::string()), &Some(text.clone()));
        let lines = prices.into_iter().map(|price| Line { price }).collect();
        comes_back(&serdes::json(), &Order { id: text, lines });
    }

    #[test]
    fn reading_the_pieces_in_turn_is_reading_by_value(
        mut keys: Vec<i64>, small in -9_i64..9, from: Option<i64>, to: Option<i64>,
    ) {
        keys.push(small);
        let mut by_bytes: Vec<_> = keys.iter().map(|key| key.to_be_bytes().to_vec()).collect();
        by_bytes.sort();
        let pieces = serdes::i64().key_ranges(from.as_ref(), to.as_ref()).expect("has bytes");
        let mut read = Vec::new();
        for KeyRange { from, to } in pieces {
            let inside = |key: &&Vec<u8>| {
                from.as_ref().is_none_or(|from| *key >= from) && to.as_ref().is_none_or(|to| *key <= to)
            };
            read.extend(by_bytes.iter().filter(inside).cloned());
        }
        let inside = |key: &i64| from.is_none_or(|from| *key >= from) && to.is_none_or(|to| *key <= to);
        keys.retain(inside);
        keys.sort_unstable();
        let by_value: Vec<_> = keys.iter().map(|key| key.to_be_bytes().to_vec()).collect();
        prop_assert_eq!(read, by_value);
    }

    #[test]
    fn no_bytes_make_a_serde_panic(bytes: Vec<u8>) {
        // Each ends with a value or an error; that it returns at all is the claim.
        let bytes = Some(&bytes[..]);
        drop(serdes::string().decode(bytes));
        drop(serdes::i64().decode(bytes));
        drop(serdes::bool().decode(bytes));
        drop(serdes::uuid().decode(bytes));
        drop(serdes::json::<Order>().decode(bytes));
        drop(serdes::json::<serde_json::Value>().decode(bytes));
    }
}

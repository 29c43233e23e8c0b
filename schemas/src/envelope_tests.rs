//! The canonical envelope: what it accepts, what it refuses and how it says so.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const ID: &str = "4b7a1c9e-2f43-4c56-9a0e-5a3b8b1f0d11";

fn valid() -> Value {
    json!({
        "eventId": ID,
        "eventType": "TaskAssigned",
        "aggregateId": "task-1",
        "aggregateType": "Task",
        "eventData": {"taskId": "task-1"},
        "metadata": {
            "timestamp": "2026-01-05T10:00:00.123Z",
            "version": "1.0",
            "correlationId": ID,
            "causationId": ID,
            "userId": "user-1",
            "sessionId": "session-1",
            "sequence": 7,
        },
    })
}

fn parse(document: &Value) -> Result<DomainEvent, EventError> {
    DomainEvent::parse(&serde_json::to_vec(document).expect("json"))
}

fn paths(document: &Value) -> Vec<String> {
    match parse(document) {
        Err(EventError::Invalid(violations)) => {
            violations.paths().into_iter().map(str::to_owned).collect()
        }
        other => panic!("expected violations, got {other:?}"),
    }
}

#[test]
fn a_complete_event_is_read_and_written_back_unchanged() {
    let event = parse(&valid()).expect("valid");
    assert_eq!(event.metadata.timestamp.as_millis(), 1_767_607_200_123);
    assert_eq!(event.metadata.sequence, Some(7));
    assert_eq!(event.record_key(), "session-1");
    let written: Value = serde_json::from_slice(&event.to_json()).expect("json");
    assert_eq!(written, valid());
}

#[test]
fn absent_and_null_optional_fields_are_the_same_and_extra_fields_are_ignored() {
    let mut document = valid();
    document["metadata"] = json!({
        "timestamp": 1_767_607_200_123_i64, "version": "1.0", "correlationId": ID,
        "userId": null, "newer": [1, 2],
    });
    document["newer"] = json!({"field": 1});
    let event = parse(&document).expect("valid");
    assert_eq!(event.metadata.user_id, None);
    assert_eq!(event.metadata.timestamp.to_string(), "2026-01-05T10:00:00.123Z");
    assert_eq!(event.record_key(), "task-1");
}

#[test]
fn every_offending_path_is_named_at_once() {
    let document = json!({
        "eventId": "not-a-uuid",
        "eventType": "",
        "aggregateId": 5,
        "eventData": [],
        "metadata": {"timestamp": "yesterday", "version": "1.0", "sequence": 0},
    });
    assert_eq!(
        paths(&document),
        [
            "$.eventId",
            "$.eventType",
            "$.aggregateId",
            "$.aggregateType",
            "$.eventData",
            "$.metadata.timestamp",
            "$.metadata.correlationId",
            "$.metadata.sequence",
        ]
    );
}

#[test]
fn a_reason_says_what_was_expected_and_what_was_found() {
    let mut document = valid();
    document["aggregateId"] = json!(5);
    let error = parse(&document).expect_err("a number is no id");
    assert_eq!(error.to_string(), "invalid event: $.aggregateId must be a string, found 5");
}

#[test]
fn a_document_that_is_no_object_is_refused_at_the_root() {
    for document in [json!(null), json!(1), json!([valid()]), json!("text")] {
        assert_eq!(paths(&document), ["$"]);
    }
}

#[test]
fn malformed_json_is_refused_with_its_position() {
    let error = DomainEvent::parse(b"{\"eventId\": \n nope}").expect_err("malformed");
    assert!(matches!(error, EventError::Malformed { line: 2, .. }), "{error:?}");
    for value in [&b""[..], b"{", b"{\"a\":NaN}", b"{\"a\":1e999}", b"\xff\xfe", b"{} {}"] {
        assert!(matches!(DomainEvent::parse(value), Err(EventError::Malformed { .. })));
    }
}

#[test]
fn hostile_times_are_refused_by_path() {
    for hostile in [
        json!(-1),
        json!(i64::MIN),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(1.5),
        json!("1969-12-31T23:59:59.999Z"),
        json!("10000-01-01T00:00:00.000Z"),
        json!("+999999-01-01T00:00:00.000Z"),
        json!("2026-13-01T00:00:00.000Z"),
        json!("2026-01-05"),
        json!(true),
    ] {
        let mut document = valid();
        document["metadata"]["timestamp"] = hostile.clone();
        assert_eq!(paths(&document), ["$.metadata.timestamp"], "{hostile}");
    }
}

#[test]
fn the_first_and_the_last_representable_time_are_accepted() {
    assert_eq!(EventTime::from_millis(0).expect("1970").to_string(), "1970-01-01T00:00:00.000Z");
    assert_eq!(EventTime::parse("9999-12-30T22:00:00.000Z"), Some(EventTime::MAX));
    assert_eq!(EventTime::MAX.to_string(), "9999-12-30T22:00:00.000Z");
}

#[test]
fn an_event_above_one_mebibyte_is_refused_before_it_is_parsed() {
    let value = vec![b' '; EVENT_BYTES_MAX + 1];
    assert_eq!(
        DomainEvent::parse(&value),
        Err(EventError::TooLarge { bytes: EVENT_BYTES_MAX + 1, max: EVENT_BYTES_MAX })
    );
}

#[test]
fn deep_nesting_is_refused_instead_of_exhausting_the_stack() {
    let value = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    assert!(matches!(DomainEvent::parse(&value), Err(EventError::Malformed { .. })));
}

#[test]
fn an_identifier_is_bounded_and_a_hostile_one_is_not_quoted_in_full() {
    let mut document = valid();
    document["eventId"] = json!("x".repeat(200));
    document["aggregateId"] = json!("y".repeat(100_000));
    let text = parse(&document).expect_err("too long").to_string();
    assert!(text.len() < 300, "{text}");
    assert!(text.contains("$.aggregateId has 100000 bytes, at most 256 are allowed"), "{text}");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-zA-Z]{1,8}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_event() -> impl Strategy<Value = DomainEvent> {
    let ids = (any::<u128>(), any::<u128>(), any::<Option<u128>>());
    let texts = (".{1,40}", ".{1,40}", ".{1,40}", prop::option::of(".{1,40}"));
    let payload = prop::collection::btree_map(".{0,8}", any_json(), 0..5);
    (ids, texts, payload, 0..=EventTime::MAX.as_millis(), prop::option::of(1..=i64::MAX)).prop_map(
        |((id, correlation, causation), (kind, aggregate, user, session), data, time, sequence)| {
            DomainEvent {
                event_id: Uuid::from_u128(id),
                event_type: kind,
                aggregate_id: aggregate,
                aggregate_type: "Task".to_owned(),
                event_data: data.into_iter().collect(),
                metadata: Metadata {
                    timestamp: EventTime::from_millis(time).expect("in range"),
                    version: VERSION.to_owned(),
                    correlation_id: Uuid::from_u128(correlation),
                    causation_id: causation.map(Uuid::from_u128),
                    user_id: Some(user),
                    session_id: session,
                    sequence,
                },
            }
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_equal(event in any_event()) {
        prop_assert_eq!(DomainEvent::parse(&event.to_json()), Ok(event));
    }

    #[test]
    fn arbitrary_bytes_give_an_event_or_a_short_error(
        bytes in prop::collection::vec(any::<u8>(), 0..512),
    ) {
        if let Err(error) = DomainEvent::parse(&bytes) {
            prop_assert!(error.to_string().len() < 4_096);
        }
    }

    #[test]
    fn a_valid_event_with_one_field_replaced_gives_an_event_or_a_short_error(
        field in 0_usize..13, replacement in any_json(),
    ) {
        let mut document = valid();
        let top = ["eventId", "eventType", "aggregateId", "aggregateType", "eventData", "metadata"];
        let nested = [
            "timestamp", "version", "correlationId", "causationId", "userId", "sessionId",
            "sequence",
        ];
        match top.get(field) {
            Some(name) => document[*name] = replacement,
            None => document["metadata"][nested[field - top.len()]] = replacement,
        }
        if let Err(error) = parse(&document) {
            prop_assert!(error.to_string().len() < 4_096);
        }
    }
}

//! Each rule of the table in `validate.rs`, and that a report names every place.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn reasons(schema: Value, value: Value) -> Vec<String> {
    let schema = Schema::parse(&schema).expect("the test's schema");
    let object = value.as_object().expect("an object").clone();
    let mut violations = Violations::default();
    check(&object, &schema, "$", &mut violations);
    violations.iter().map(ToString::to_string).collect()
}

fn field(schema: Value, value: Value) -> Vec<String> {
    reasons(
        json!({"type": "record", "name": "R", "fields": [{"name": "f", "type": schema}]}),
        json!({"f": value}),
    )
}

#[test]
fn every_offending_path_is_named_and_the_good_ones_are_not() {
    let schema = json!({"type": "record", "name": "R", "fields": [
        {"name": "id", "type": "string"},
        {"name": "count", "type": "int"},
        {"name": "items", "type": {"type": "array", "items": {
            "type": "record", "name": "Item", "fields": [
                {"name": "name", "type": "string"},
                {"name": "price", "type": "double"}]}}},
        {"name": "labels", "type": {"type": "map", "values": "boolean"}},
        {"name": "note", "type": ["null", "string"], "default": null}]});
    let value = json!({
        "count": 2_147_483_648_i64,
        "items": [{"name": "a", "price": 1}, {"name": 7, "price": "x"}, 3],
        "labels": {"ok": true, "bad": "yes"},
        "note": 4,
        "unknown": {}});
    assert_eq!(
        reasons(schema, value),
        [
            "$.id is missing",
            "$.count must be a whole number of 32 bits, found 2147483648",
            "$.items[1].name must be a string, found 7",
            "$.items[1].price must be a finite number, found \"x\"",
            "$.items[2] must be an object, found 3",
            "$.labels.bad must be true or false, found \"yes\"",
            "$.note must be a string, found 4",
        ]
    );
}

#[test]
fn null_and_absence_are_accepted_by_a_union_that_holds_null_and_by_nothing_else() {
    assert!(field(json!(["null", "int"]), Value::Null).is_empty());
    assert!(field(json!(["int", "null"]), Value::Null).is_empty());
    assert_eq!(
        field(json!("int"), Value::Null),
        ["$.f must be a whole number of 32 bits, found null"]
    );
    let absent = |schema: Value| {
        reasons(
            json!({"type": "record", "name": "R", "fields": [{"name": "f", "type": schema}]}),
            json!({}),
        )
    };
    assert!(absent(json!(["null", "int"])).is_empty());
    assert_eq!(absent(json!("int")), ["$.f is missing"]);
}

#[test]
fn a_field_with_a_default_may_be_absent_but_not_wrong() {
    let schema = json!({"type": "record", "name": "R", "fields": [
        {"name": "tags", "type": {"type": "array", "items": "string"}, "default": []}]});
    assert!(reasons(schema.clone(), json!({})).is_empty());
    assert_eq!(reasons(schema, json!({"tags": null})), ["$.tags must be an array, found null"]);
}

#[test]
fn a_union_takes_whatever_one_of_its_branches_takes() {
    let union = json!(["null", "string", {"type": "map", "values": "string"}]);
    assert!(field(union.clone(), json!("a street")).is_empty());
    assert!(field(union.clone(), json!({"street": "a"})).is_empty());
    assert_eq!(field(union, json!(5)), ["$.f must be a string or an object, found 5"]);
}

#[test]
fn a_whole_number_has_no_fraction_and_must_fit() {
    assert!(!field(json!("long"), json!(3.0)).is_empty());
    assert!(field(json!("int"), json!(-2_147_483_648_i64)).is_empty());
    assert!(!field(json!("int"), json!(3.5)).is_empty());
    assert!(!field(json!("long"), json!(u64::MAX)).is_empty());
}

#[test]
fn a_time_is_iso_text_or_milliseconds() {
    let time = json!({"type": "long", "logicalType": "timestamp-millis"});
    assert!(field(time.clone(), json!("2026-01-05T10:00:00.000Z")).is_empty());
    assert!(field(time.clone(), json!(1_767_607_200_000_i64)).is_empty());
    assert!(!field(time.clone(), json!("yesterday")).is_empty());
    assert!(!field(time, json!(-1)).is_empty());
}

#[test]
fn enums_fixed_bytes_and_uuids_follow_avros_json_forms() {
    let suit = json!({"type": "enum", "name": "E", "symbols": ["a", "b"]});
    assert!(field(suit.clone(), json!("b")).is_empty());
    assert_eq!(field(suit, json!("c")), ["$.f must be one of a, b, found \"c\""]);
    let four = json!({"type": "fixed", "name": "F", "size": 2});
    assert!(field(four.clone(), json!("\u{ff}a")).is_empty());
    assert!(!field(four, json!("abc")).is_empty());
    assert!(!field(json!("bytes"), json!("\u{100}")).is_empty());
    let id = json!({"type": "string", "logicalType": "uuid"});
    assert!(field(id.clone(), json!("4b7a1c9e-2f43-4c56-9a0e-5a3b8b1f0d11")).is_empty());
    assert!(!field(id, json!("4b7a")).is_empty());
}

#[test]
fn a_named_schema_used_twice_is_checked_in_both_places() {
    let schema = json!({"type": "record", "name": "R", "fields": [
        {"name": "a", "type": {"type": "record", "name": "P", "fields": [
            {"name": "x", "type": "int"}]}},
        {"name": "b", "type": "P"}]});
    assert_eq!(
        reasons(schema, json!({"a": {"x": 1}, "b": {"x": "1"}})),
        ["$.b.x must be a whole number of 32 bits, found \"1\""]
    );
}

proptest! {
    #[test]
    fn no_document_makes_the_check_fail_or_grow_without_bound(text in ".{0,200}", number in any::<f64>()) {
        for schema in crate::catalogue::schemas() {
            let object = Map::from_iter([
                (text.clone(), json!(number)),
                ("taskId".to_owned(), json!([text.clone(), text.clone()])),
                ("items".to_owned(), json!([{"price": number}])),
            ]);
            let mut violations = Violations::default();
            check(&object, schema, "$", &mut violations);
            prop_assert!(violations.to_string().len() < 16_384);
        }
    }
}

//! Records in and out of the embedded log.

use headwater::serde::kafka_streams::partition_for;
use serde_json::{Value as Json, json};

use crate::world::{PARTITIONS, Setup, World, request};

const PATH: &str = "/topics/orders/records";

fn all(world: &World, query: &str) -> Vec<Json> {
    let mut found = Vec::new();
    for partition in 0..PARTITIONS {
        let page = world.get(&format!("{PATH}?partition={partition}{query}"));
        found.extend(page.items());
    }
    found
}

#[test]
fn one_record_is_appended_and_read_back_as_it_was() {
    let world = World::new();
    let record = json!({ "key": "ada", "value": { "sum": 12.50 }, "timestamp": 1_000,
                         "headers": [{ "name": "trace", "value": "t1" }, { "name": "none" }] });
    let partition = partition_for(b"ada", PARTITIONS);
    let placed = world.post(PATH, record.to_string()).items();
    assert_eq!(placed, [json!({ "partition": partition, "offset": 0 })]);
    let page = world.get(&format!("{PATH}?partition={partition}")).ok();
    assert_eq!(
        page,
        json!({ "items": [{ "partition": partition, "offset": 0, "timestamp": 1_000,
                            "key": "ada", "value": { "sum": 12.50 },
                            "headers": [{ "name": "trace", "value": "t1" },
                                        { "name": "none", "value": null }] }],
                "nextOffset": 1, "endOffset": 1 })
    );
}

#[test]
fn a_value_keeps_every_digit_and_the_order_of_its_fields() {
    let world = World::new();
    let value = r#"{"z":1.10,"a":123456789012345678901234567890,"z":1e400}"#;
    world.post(PATH, format!(r#"{{"key":"k","value":{value}}}"#)).ok();
    let partition = partition_for(b"k", PARTITIONS);
    let reply = world.get(&format!("{PATH}?partition={partition}"));
    assert!(reply.text().contains(value), "{}", reply.text());
}

#[test]
fn values_are_json_text_bytes_or_null() {
    let world = World::new();
    let records = json!([
        { "partition": 0, "value": "plain text" },
        { "partition": 0, "value": "7" },
        { "partition": 0, "valueBase64": "/w==", "keyBase64": "AP8=" },
        { "partition": 0, "value": null, "key": "gone" },
        { "partition": 0, "value": [1, "\u{e9}"] },
        { "partition": 0, "value": "" },
    ]);
    assert_eq!(world.post(PATH, records.to_string()).items().len(), 6);
    let read = world.get(PATH).items();
    assert_eq!(read[0]["value"], "plain text");
    assert_eq!(read[0]["key"], Json::Null);
    assert_eq!(read[1]["value"], 7, "text that is JSON is shown as such");
    assert_eq!((&read[2]["valueBase64"], &read[2]["keyBase64"]), (&json!("/w=="), &json!("AP8=")));
    assert_eq!((read[2].get("value"), read[2].get("key")), (None, None));
    assert_eq!((&read[3]["value"], &read[3]["key"]), (&Json::Null, &json!("gone")));
    assert_eq!(read[4]["value"], json!([1, "\u{e9}"]));
    assert_eq!(read[5]["value"], "");
    let raw = world.get(&format!("{PATH}?encoding=base64&limit=1")).items();
    assert_eq!(raw[0]["valueBase64"], "cGxhaW4gdGV4dA==");
}

#[test]
fn many_records_are_placed_by_key_in_order() {
    let world = World::new();
    let records: Vec<Json> =
        (0..500).map(|n| json!({ "key": format!("k{}", n % 7), "value": n })).collect();
    let placed = world.post(PATH, json!(records).to_string()).items();
    for (n, place) in placed.iter().enumerate() {
        let key = format!("k{}", n % 7);
        assert_eq!(place["partition"], partition_for(key.as_bytes(), PARTITIONS));
        let (partition, offset) = (&place["partition"], &place["offset"]);
        let path = format!("{PATH}?partition={partition}&offset={offset}&limit=1");
        if n % 50 == 0 {
            assert_eq!(world.get(&path).items()[0]["value"], n);
        }
    }
    assert_eq!(all(&world, "&limit=1000").len(), 500);
}

#[test]
fn records_without_a_key_are_spread_over_the_partitions() {
    let world = World::new();
    let records: Vec<Json> = (0..6).map(|n| json!({ "value": n })).collect();
    let placed = world.post(PATH, json!(records).to_string()).items();
    for partition in 0..PARTITIONS {
        assert_eq!(placed.iter().filter(|place| place["partition"] == partition).count(), 2);
    }
}

#[test]
fn reading_goes_on_page_by_page_from_the_next_offset() {
    let world = World::new();
    for n in 0..25 {
        world.post(PATH, json!({ "partition": 1, "value": n }).to_string()).ok();
    }
    let (mut offset, mut read) = (json!(0), Vec::new());
    loop {
        let page = world.get(&format!("{PATH}?partition=1&offset={offset}&limit=4")).ok();
        read.extend(page["items"].as_array().expect("a listing").clone());
        offset = page["nextOffset"].clone();
        if offset == page["endOffset"] {
            break;
        }
    }
    let values: Vec<i64> = read.iter().map(|r| r["value"].as_i64().expect("a number")).collect();
    assert_eq!(values, (0..25).collect::<Vec<_>>());
}

#[test]
fn the_topics_are_listed_with_their_ends() {
    let world = World::new();
    world.post(PATH, r#"{"partition":2,"value":1}"#).ok();
    assert_eq!(
        world.get("/topics").items(),
        [
            json!({ "name": "orders", "partitions": 3, "endOffsets": [0, 0, 1] }),
            json!({ "name": "prices", "partitions": 3, "endOffsets": [0, 0, 0] }),
        ]
    );
}

#[test]
fn an_unknown_topic_or_partition_is_named() {
    let world = World::new();
    let detail = world.get("/topics/odors/records").problem(404, "unknown-topic");
    assert!(detail.contains("`odors`"), "{detail}");
    world.post("/topics/odors/records", r#"{"value":1}"#).problem(404, "unknown-topic");
    let detail = world.get(&format!("{PATH}?partition=3")).problem(404, "unknown-topic");
    assert!(detail.contains("partition 3") && detail.contains("it has 3"), "{detail}");
    world.get(&format!("{PATH}?partition=4294967296")).problem(404, "unknown-topic");
    world.get(&format!("{PATH}?partition=-1")).problem(400, "invalid-parameter");
    world.post(PATH, r#"{"value":1,"partition":3}"#).problem(404, "unknown-topic");
}

#[test]
fn an_offset_that_is_not_there_is_refused_with_the_ones_that_are() {
    let world = World::new();
    world.post(PATH, r#"{"partition":0,"value":1}"#).ok();
    assert_eq!(world.get(&format!("{PATH}?offset=1")).items(), [] as [Json; 0]);
    for offset in ["2", "9223372036854775807"] {
        let reply = world.get(&format!("{PATH}?offset={offset}"));
        let detail = reply.problem(400, "offset-out-of-range");
        assert!(detail.contains("from 0 to 1"), "{detail}");
    }
    world.get(&format!("{PATH}?offset=-1")).problem(400, "invalid-parameter");
}

#[test]
fn a_malformed_body_is_refused_with_its_place_and_appends_nothing() {
    let world = World::new();
    for (body, what) in [
        ("", "EOF"),
        ("{", "EOF"),
        ("nonsense", "line 1 column 2"),
        ("7", "expected struct"),
        (r#"{"value":1} {"value":2}"#, "follows"),
        (r#"{"value":1}]"#, "follows"),
        ("[]", "empty"),
        (r#"[{"value":1},{"value":1,"timestamp":"now"}]"#, "[1].timestamp"),
        (r#"[{"value":1},{"vale":1}]"#, "vale"),
        (r#"[{"value":1},{}]"#, "record 1"),
        (r#"{"key":5,"value":1}"#, "key"),
        (r#"{"value":1,"valueBase64":"AA=="}"#, "not both"),
        (r#"{"valueBase64":"A*"}"#, "base64"),
        (r#"{"keyBase64":"=","value":1}"#, "base64"),
        (r#"{"key":"a","keyBase64":"AA==","value":1}"#, "give one"),
        (r#"{"value":1,"partition":-1}"#, "partition"),
        (r#"{"value":1,"headers":{"a":"b"}}"#, "headers"),
        (r#"{"value":1,"headers":[{"value":"b"}]}"#, "name"),
        (r#"{"value":"\ud800"}"#, "value"),
    ] {
        let detail = world.post(PATH, body).problem(400, "invalid-body");
        assert!(detail.contains(what), "{body}: {detail}");
    }
    let detail = world.post(PATH, b"{\"value\":\"\xff\"}").problem(400, "invalid-body");
    assert!(detail.contains("byte 10"), "{detail}");
    assert_eq!(all(&world, ""), [] as [Json; 0]);
}

#[test]
fn hostile_timestamps_are_refused_and_missing_ones_are_now() {
    let world = World::new();
    for timestamp in ["-1", "-9223372036854775808", "9223372036854775807"] {
        let body = format!(r#"{{"value":1,"timestamp":{timestamp}}}"#);
        let detail = world.post(PATH, body).problem(400, "invalid-body");
        assert!(detail.contains(timestamp), "{detail}");
    }
    world.post(PATH, r#"{"value":1,"timestamp":9223372036854775808}"#).problem(400, "invalid-body");
    world.post(PATH, r#"{"value":1,"partition":0}"#).ok();
    let now = world.get(PATH).items()[0]["timestamp"].as_i64().expect("a time");
    assert!(now > 1_700_000_000_000, "{now}");
}

#[test]
fn deep_nesting_and_long_lists_do_no_harm() {
    let world = World::new();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    world.post(PATH, format!(r#"{{"partition":0,"value":{deep}}}"#)).ok();
    assert_eq!(world.get(PATH).status, 200);
    let many = format!("[{}]", vec![r#"{"value":1}"#; 10_001].join(","));
    let detail = world.post(PATH, many).problem(400, "invalid-body");
    assert!(detail.contains("10000"), "{detail}");
}

#[test]
fn a_record_the_log_refuses_takes_the_whole_request_with_it() {
    let world = World::new();
    let path = "/topics/prices/records";
    let body = r#"[{"key":"a","value":1},{"value":2}]"#;
    world.post(path, body).problem(422, "record-refused");
    let huge = "x".repeat(2 << 20);
    let body = json!([{ "key": "a", "value": 1 }, { "key": "b", "value": huge }]);
    world.post(path, body.to_string()).problem(422, "record-refused");
    for topic in world.get("/topics").items() {
        assert_eq!(topic["endOffsets"], json!([0, 0, 0]));
    }
}

#[test]
fn a_full_disk_asks_to_try_again_and_loses_nothing() {
    let world = World::new();
    world.post(PATH, r#"{"partition":0,"value":1}"#).ok();
    let faults = world.target.disk.faults();
    faults.fail_writes(Some(headwater_state::database::memory::Fault::Full));
    world.post(PATH, r#"{"partition":0,"value":2}"#).problem(503, "unavailable");
    assert_eq!(world.get(PATH).items().len(), 1, "reads go on");
    faults.heal();
    world.post(PATH, r#"{"partition":0,"value":3}"#).ok();
    let values: Vec<Json> = world.get(PATH).items().iter().map(|r| r["value"].clone()).collect();
    assert_eq!(values, [1, 3]);
}

#[test]
fn a_body_that_is_not_said_to_be_json_is_refused() {
    let world = World::new();
    let line = format!("POST {PATH} HTTP/1.1");
    for header in ["X: y", "Content-Type: text/plain", "Content-Type: application/jsonp"] {
        let reply = request(world.address(), &line, &[header], br#"{"value":1}"#);
        reply.problem(415, "unsupported-media-type");
    }
    let header = ["Content-Type: Application/JSON; charset=utf-8"];
    request(world.address(), &line, &header, br#"{"value":1}"#).ok();
}

#[test]
fn on_kafka_the_records_routes_say_to_use_a_kafka_client() {
    let world = World::with(Setup { with_log: false, ..Setup::default() });
    for path in ["/topics", PATH] {
        let detail = world.get(path).problem(404, "no-embedded-log");
        assert!(detail.contains("Kafka client"), "{detail}");
    }
    world.post(PATH, r#"{"value":1}"#).problem(404, "no-embedded-log");
}

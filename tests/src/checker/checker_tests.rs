//! The checker against the code it checks: both judge alike, and the checker sees planted mistakes.

use std::collections::BTreeMap;

use headwater_schemas::adapter::parse_any;
use headwater_schemas::envelope::EventTime;
use headwater_schemas::events::{AgentPerformanceMetric, Event, canonical_type};
use headwater_topologies::analytics::load::{Load, Profile};
use headwater_topologies::analytics::rollup::Rollup;
use headwater_topologies::analytics::sketch::Sketch;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::buckets::Distribution;
use super::metric::{Judged, judge};
use super::rollup::compare_output;
use super::*;

const START: i64 = 1_767_607_200_000;

/// Traffic of `count` records, one every 40 ms, each in the partition of its key's length and sum.
fn traffic(seed: u64, count: usize) -> Vec<LogRecord> {
    let mut now = START;
    let clock = move || {
        now += 40;
        now
    };
    let mut offsets = BTreeMap::new();
    Load::new(seed, Profile::MIXED, clock)
        .take(count)
        .map(|record| {
            let key = record.key.as_deref().unwrap_or_default();
            let partition = key.iter().map(|byte| u32::from(*byte)).sum::<u32>() % 3;
            let offset = offsets.entry(partition).or_insert(-1);
            *offset += 1;
            LogRecord {
                partition,
                offset: *offset,
                timestamp: record.timestamp,
                key: record.key,
                value: record.value,
                headers: record.headers,
            }
        })
        .collect()
}

/// The output a faithful topology writes for `input`: one record per counted metric. Windows and
/// lateness are the checker's own; the rollups are the topology's.
fn output(input: &[LogRecord]) -> Vec<LogRecord> {
    let mut expected = rollup::Rollups::default();
    let mut states: BTreeMap<(String, i64), Rollup> = BTreeMap::new();
    let mut output = Vec::new();
    for record in input {
        let Some((key, start)) = expected.apply(record) else { continue };
        let value = record.value.as_deref().expect("a counted record has a value");
        let time = |millis| EventTime::from_millis(millis).expect("in range");
        let event =
            parse_any(value, EventTime::from_millis(record.timestamp)).expect("an event").event;
        let Ok(Event::AgentPerformanceMetric(metric)) = Event::of(&event) else {
            panic!("a counted record is a metric")
        };
        let state = states.entry((key.clone(), start)).or_default();
        state.apply(&metric, event.metadata.timestamp).expect("countable");
        let told = state.event(&key, time(start), time(start + 300_000));
        let told = told.expect("not empty");
        output.push(LogRecord {
            partition: 0,
            offset: i64::try_from(output.len()).expect("small"),
            timestamp: 0,
            key: Some(told.record_key().into_bytes()),
            value: Some(serde_json::to_vec(&told).expect("json")),
            headers: Vec::new(),
        });
    }
    output
}

#[test]
fn a_faithful_output_has_no_findings() {
    let input = traffic(1, 20_000);
    let (rollups, findings) = compare_output(&input, &output(&input));
    assert!(findings.is_empty(), "{findings}");
    assert!(rollups.counted > 15_000 && rollups.window_count() > 300);
    assert!(rollups.late.len() > 20 && rollups.refused.len() > 50 && rollups.others > 200);
}

#[test]
fn a_lost_a_doubled_and_a_changed_output_are_each_found() {
    let input = traffic(2, 3_000);
    let faithful = output(&input);
    let position_of_last = |key: &[u8]| {
        faithful.iter().rposition(|record| record.key.as_deref() == Some(key)).expect("told")
    };
    let last = position_of_last(faithful[0].key.as_deref().expect("keyed"));

    let mut lost = faithful.clone();
    lost.remove(last);
    let mut doubled = faithful.clone();
    doubled.push(faithful[last].clone());
    let mut changed = faithful.clone();
    let mut value: Value =
        serde_json::from_slice(changed[last].value.as_deref().expect("told")).expect("json");
    value["errorCount"] = json!(value["errorCount"].as_u64().expect("a number") + 1);
    changed[last].value = Some(value.to_string().into_bytes());
    // A changed last update is wrong as an update and as the window's final state.
    for (wrong, count) in [(lost, 1), (doubled, 1), (changed, 2)] {
        let (_, findings) = compare_output(&input, &wrong);
        assert_eq!(findings.count(), count, "{findings}");
    }
}

#[test]
fn an_input_record_counted_twice_or_not_at_all_is_found() {
    let input = traffic(3, 2_000);
    let mut all = rollup::Rollups::default();
    let counts = input.iter().position(|record| all.apply(record).is_some()).expect("one counts");
    let mut doubled = input.clone();
    doubled.insert(counts, input[counts].clone());
    let mut missed = input.clone();
    missed.remove(counts);
    for wrong in [doubled, missed] {
        let (_, findings) = compare_output(&input, &output(&wrong));
        assert!(!findings.is_empty());
    }
}

#[test]
fn the_stores_view_is_compared_window_by_window() {
    let record = &traffic(4, 1)[0];
    let mut rollups = rollup::Rollups::default();
    let (key, start) = rollups.apply(record).expect("the first record counts");
    let event = parse_any(record.value.as_deref().expect("a value"), None).expect("event").event;
    let Ok(Event::AgentPerformanceMetric(metric)) = Event::of(&event) else { panic!("a metric") };
    let mut state = Rollup::default();
    state.apply(&metric, event.metadata.timestamp).expect("countable");
    let view = serde_json::to_value(&state).expect("json");
    assert!(rollups.compare_windows(&key, &[(start, view.clone())]).is_empty());
    assert!(!rollups.compare_windows(&key, &[]).is_empty());
    assert!(!rollups.compare_windows("nobody", &[(start, view.clone())]).is_empty());
    let mut wrong = view;
    wrong["metrics"][metric.metric.name()]["sketch"]["zero"] = json!(9);
    assert!(!rollups.compare_windows(&key, &[(start, wrong)]).is_empty());
}

#[test]
fn every_refused_record_needs_exactly_one_dead_letter() {
    let mut rollups = rollup::Rollups::default();
    for record in traffic(5, 3_000) {
        rollups.apply(&record);
    }
    let letter = |(partition, offset): &rollup::Place| LogRecord {
        partition: 0,
        offset: 0,
        timestamp: 0,
        key: None,
        value: None,
        headers: vec![
            ("__streams.errors.partition".to_owned(), partition.to_string().into_bytes()),
            ("__streams.errors.offset".to_owned(), offset.to_string().into_bytes()),
        ],
    };
    let mut letters: Vec<LogRecord> = rollups.refused.iter().map(letter).collect();
    assert!(letters.len() > 5);
    assert!(rollups.compare_dead_letters(&letters).is_empty());
    letters.push(letters[0].clone());
    letters.push(letter(&(7, 7)));
    letters.remove(1);
    assert_eq!(rollups.compare_dead_letters(&letters).count(), 3);
}

/// What the schemas make of a value.
fn parsed(value: &[u8], record_time: i64) -> Judged {
    let Ok(adapted) = parse_any(value, None) else { return Judged::Bad };
    if adapted.event.metadata.timestamp.as_millis() > record_time.saturating_add(3_600_000) {
        return Judged::Bad;
    }
    if canonical_type(&adapted.event.event_type) != AgentPerformanceMetric::EVENT_TYPE {
        return Judged::Other;
    }
    match Event::of(&adapted.event) {
        Err(_) => Judged::Bad,
        Ok(Event::AgentPerformanceMetric(metric)) => Judged::Metric(metric::Measured {
            time: adapted.event.metadata.timestamp.as_millis(),
            metric: metric.metric.name().to_owned(),
            value: metric.value,
            failed: metric.success == Some(false),
        }),
        Ok(other) => panic!("a metric is not {other:?}"),
    }
}

#[test]
fn checker_and_schemas_judge_generated_traffic_alike() {
    for record in traffic(6, 20_000) {
        let Some(value) = record.value else { continue };
        let far = i64::MAX;
        assert_eq!(judge(&value, far), parsed(&value, far), "{}", String::from_utf8_lossy(&value));
    }
}

/// Values that are right somewhere and wrong elsewhere.
fn field_value() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!("4b7a1c9e-2f43-4c56-9a0e-5a3b8b1f0d11"),
        json!("2026-01-05T10:00:00.1239+02:00"),
        json!("1969-12-31T23:59:59.9999Z"),
        json!("AgentPerformanceMetric"),
        json!("worker"),
        json!("tokens"),
        json!("x".repeat(257)),
        json!("x".repeat(129)),
        json!(""),
        json!(1),
        json!(0.5),
        json!(-1),
        json!(true),
        json!(null),
        json!([]),
        json!({"sessionId": "s"}),
        json!({"agentType": "worker", "metric": "tokens", "value": 5, "sessionId": "s"}),
        json!({"correlationId": "4b7a1c9e-2f43-4c56-9a0e-5a3b8b1f0d11", "sessionId": "s"}),
        json!({"timestamp": 5, "version": "1.0", "sessionId": null,
               "correlationId": "4b7a1c9e-2f43-4c56-9a0e-5a3b8b1f0d11"}),
    ])
}

const NAMES: [&str; 24] = [
    "id",
    "eventId",
    "type",
    "eventType",
    "data",
    "eventData",
    "metadata",
    "aggregateId",
    "aggregateType",
    "version",
    "sequence",
    "timestamp",
    "source",
    "correlationId",
    "causationId",
    "sessionId",
    "taskId",
    "agentType",
    "agentId",
    "metric",
    "value",
    "success",
    "userId",
    "other",
];

/// Documents of each envelope that are valid as they stand.
fn valid_documents() -> Vec<Value> {
    let id = "4b7a1c9e-2f43-4c56-9a0e-5a3b8b1f0d11";
    let metric = json!({"agentType": "worker", "metric": "tokens", "value": 5, "sessionId": "s"});
    let name = "AgentPerformanceMetric";
    vec![
        json!({"eventId": id, "eventType": name, "aggregateId": "s", "aggregateType": "Session",
               "eventData": metric,
               "metadata": {"timestamp": 5, "version": "1.0", "correlationId": id}}),
        json!({"id": id, "type": name, "timestamp": 5, "source": "here", "data": metric}),
        json!({"id": id, "type": name, "sequence": 1, "timestamp": 5, "data": metric}),
        json!({"id": id, "type": name, "aggregateId": "s", "aggregateType": "Session",
               "version": 1, "timestamp": 5, "data": metric, "metadata": {"userId": "u"}}),
        json!({"eventType": name, "aggregateId": "s", "data": metric, "timestamp": 5}),
        json!({"eventId": id, "eventType": name, "timestamp": 5, "version": "1.0",
               "correlationId": id, "agentType": "worker", "metric": "tokens", "value": 5,
               "sessionId": "s"}),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn checker_and_schemas_judge_documents_with_replaced_fields_alike(
        base in prop::sample::select(valid_documents()),
        replaced in prop::collection::vec(
            (prop::sample::select(&NAMES[..]), prop::option::of(field_value()), 0_usize..3), 0..3,
        ),
        record_time in prop::sample::select(vec![-1, 0, 5, i64::MAX / 2]),
    ) {
        let mut document = base;
        for (name, value, place) in replaced {
            let target = match place {
                0 => Some(&mut document),
                1 => document.get_mut("eventData"),
                _ => document.get_mut("metadata"),
            };
            let Some(Value::Object(fields)) = target else { continue };
            match value {
                Some(value) => fields.insert(name.to_owned(), value),
                None => fields.remove(name),
            };
        }
        let value = document.to_string().into_bytes();
        let (judged, parsed) = (judge(&value, record_time), parsed(&value, record_time));
        prop_assert_eq!(judged, parsed, "{}", document);
    }

    #[test]
    fn checker_and_sketch_find_the_same_buckets(
        values in prop::collection::vec(
            prop_oneof![(-10.0..17.7_f64).prop_map(|e| 10_f64.powf(e)), Just(0.0), -9.0..9.0_f64],
            1..300,
        ),
        thousandths in 0_u32..=1_000,
    ) {
        let (mut sketch, mut distribution) = (Sketch::default(), Distribution::default());
        for value in values {
            sketch.insert(value).expect("countable");
            distribution.add(value);
        }
        prop_assert_eq!(serde_json::to_value(&sketch).expect("json"), distribution.to_json());
        let quantile = sketch.quantile(thousandths).expect("counted");
        prop_assert_eq!(quantile, distribution.quantile(u64::from(thousandths)));
    }
}

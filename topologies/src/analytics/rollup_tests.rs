//! The accumulator: exact counts, sums in record order, percentiles, encodings.

use headwater_schemas::events::agent_performance_metric::AgentType;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn metric(metric: Metric, value: f64, success: Option<bool>) -> AgentPerformanceMetric {
    AgentPerformanceMetric {
        agent_type: AgentType::Worker,
        agent_id: None,
        session_id: "s-1".to_owned(),
        task_id: None,
        metric,
        value,
        success,
    }
}

fn at(millis: i64) -> EventTime {
    EventTime::from_millis(millis).expect("in range")
}

fn rollup(events: &[(Metric, f64, Option<bool>, i64)]) -> Rollup {
    let mut rollup = Rollup::default();
    for (name, value, success, time) in events {
        rollup.apply(&metric(*name, *value, *success), at(*time)).expect("countable");
    }
    rollup
}

fn events() -> impl Strategy<Value = Vec<(Metric, f64, Option<bool>, i64)>> {
    let event =
        (prop::sample::select(&Metric::ALL[..]), 0.0..1.0_f64, any::<Option<bool>>(), 0..9_999_i64);
    prop::collection::vec(event, 0..60)
}

#[test]
fn one_window_is_told_as_the_documented_event() {
    let rollup = rollup(&[
        (Metric::ExecutionTimeMs, 100.0, Some(true), 5),
        (Metric::ExecutionTimeMs, 300.0, Some(false), 9),
        (Metric::Tokens, 7.0, None, 2),
    ]);
    let event = rollup.event("s-1", at(0), at(300_000)).expect("not empty");
    assert_eq!(event.record_key(), "s-1@0");
    let one = json!({"count": 1, "sum": 7.0, "min": 7.0, "max": 7.0, "mean": 7.0, "p50": 7.0,
                     "p95": 7.0, "p99": 7.0});
    let shown = serde_json::to_value(&event).expect("json");
    assert_eq!(serde_json::from_value::<AnalyticsRollup>(shown.clone()).expect("read back"), event);
    assert_eq!(shown["metrics"]["tokens"], one);
    assert_eq!(shown["metrics"]["execution_time_ms"]["mean"], json!(200.0));
    assert_eq!(
        (&shown["windowStart"], &shown["windowEnd"], &shown["updatedAt"]),
        (
            &json!("1970-01-01T00:00:00.000Z"),
            &json!("1970-01-01T00:05:00.000Z"),
            &json!("1970-01-01T00:00:00.009Z")
        )
    );
    assert_eq!((&shown["count"], &shown["errorCount"]), (&json!(3), &json!(1)));
}

#[test]
fn the_stores_view_adds_the_sketch() {
    let view = serde_json::to_value(rollup(&[(Metric::Tokens, 1.0, None, 2)])).expect("json");
    assert_eq!(
        view["metrics"]["tokens"]["sketch"],
        json!({"zero": 0, "positive": [[0, 1]], "negative": []})
    );
    assert_eq!(view["updatedAt"], json!("1970-01-01T00:00:00.002Z"));
}

#[test]
fn an_empty_rollup_tells_nothing() {
    assert_eq!(Rollup::default().event("s-1", at(0), at(300_000)), None);
}

#[test]
fn sums_are_those_of_the_record_order() {
    let values = [0.1, 0.7, 0.3, 0.000_1, 0.9];
    let events: Vec<_> =
        values.iter().map(|value| (Metric::QualityScore, *value, None, 0)).collect();
    let mut expected = values[0];
    for value in &values[1..] {
        expected += value;
    }
    let sum = rollup(&events).metrics[&Metric::QualityScore].sum;
    assert_eq!(sum.to_bits(), expected.to_bits());
}

#[test]
fn a_value_no_sketch_counts_leaves_the_rollup_as_it_was() {
    let mut rollup = rollup(&[(Metric::Tokens, 1.0, Some(false), 2)]);
    let before = rollup.clone();
    for name in [Metric::Tokens, Metric::CostUsd] {
        let refused = rollup.apply(&metric(name, f64::NAN, Some(false)), at(3));
        assert!(refused.is_err());
    }
    assert_eq!(rollup, before);
}

#[test]
fn a_stored_rollup_of_a_newer_format_or_a_damaged_one_is_refused() {
    let bytes = rollup(&[(Metric::Tokens, 1.0, None, 2)]).to_bytes();
    assert!(Rollup::from_bytes(&[]).is_err());
    assert!(Rollup::from_bytes(&[&[2], &bytes[1..]].concat()).is_err());
    assert!(Rollup::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
    for length in 0..bytes.len() {
        assert!(Rollup::from_bytes(&bytes[..length]).is_err(), "cut to {length}");
    }
}

proptest! {
    #[test]
    fn a_stored_rollup_is_read_back_exactly(events in events()) {
        let rollup = rollup(&events);
        prop_assert_eq!(Rollup::from_bytes(&rollup.to_bytes()), Ok(rollup));
    }

    #[test]
    fn arbitrary_bytes_are_a_rollup_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let bytes = [&[FORMAT], &bytes[..]].concat();
        if let Ok(rollup) = Rollup::from_bytes(&bytes) {
            prop_assert!(serde_json::to_vec(&rollup).is_ok());
        }
    }

    #[test]
    fn percentiles_lie_between_the_extremes_and_ascend(events in events()) {
        for all in rollup(&events).metrics.values() {
            let told = MetricSummary::from(all);
            let ascending = [told.min, told.p50, told.p95, told.p99, told.max];
            prop_assert!(ascending.is_sorted(), "{ascending:?}");
        }
    }

    #[test]
    fn merged_windows_count_and_distribute_like_one(left in events(), right in events()) {
        let mut merged = rollup(&left);
        merged.merge(&rollup(&right));
        let whole = rollup(&[left, right].concat());
        prop_assert_eq!(merged.count, whole.count);
        prop_assert_eq!(merged.error_count, whole.error_count);
        prop_assert_eq!(merged.updated_at, whole.updated_at);
        for (metric, all) in &whole.metrics {
            let mine = &merged.metrics[metric];
            prop_assert_eq!(&mine.sketch, &all.sketch);
            prop_assert_eq!((mine.count, mine.min, mine.max), (all.count, all.min, all.max));
            prop_assert!((mine.sum - all.sum).abs() <= 1e-9);
        }
    }
}

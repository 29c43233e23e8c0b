//! Generated traffic: reproducible, valid where it says so, wrong where it says so.

use std::collections::BTreeMap;

use headwater_schemas::adapter::parse_any;
use headwater_schemas::events::Event;

use super::*;

const START: i64 = 1_767_607_200_000;

/// A minute of traffic at one record a millisecond.
fn minute(seed: u64, profile: Profile) -> Vec<LoadRecord> {
    let mut now = START;
    let clock = move || {
        now += 1;
        now
    };
    Load::new(seed, profile, clock).take(60_000).collect()
}

fn parse(record: &LoadRecord) -> Option<(DomainEvent, Event)> {
    let event = parse_any(record.value.as_deref()?, None).ok()?.event;
    let typed = Event::of(&event).ok()?;
    Some((event, typed))
}

#[test]
fn one_seed_gives_one_stream_and_another_seed_another() {
    let first = minute(7, Profile::MIXED);
    assert!(first == minute(7, Profile::MIXED));
    assert!(first != minute(8, Profile::MIXED));
}

#[test]
fn clean_traffic_is_metrics_keyed_by_their_session_at_the_clocks_time() {
    for (position, record) in (1..).zip(minute(1, Profile::CLEAN)) {
        let (event, typed) = parse(&record).expect("a valid event");
        let Event::AgentPerformanceMetric(metric) = typed else { panic!("a metric") };
        assert_eq!(record.key.as_deref(), Some(metric.session_id.as_bytes()));
        assert_eq!(record.timestamp, START + position);
        assert_eq!(event.metadata.timestamp.as_millis(), record.timestamp);
    }
}

#[test]
fn every_kind_comes_at_its_share_and_is_what_it_says() {
    let mut counts = BTreeMap::new();
    for (position, record) in (1..).zip(minute(2, Profile::MIXED)) {
        *counts.entry(record.kind).or_insert(0_u32) += 1;
        let behind = START + position - record.timestamp;
        let parsed = parse(&record);
        match record.kind {
            Kind::Metric => assert_eq!(behind, 0),
            Kind::OutOfOrder => assert!((1..=GRACE_MS).contains(&behind)),
            Kind::Late => assert!(behind > WINDOW_MS + GRACE_MS),
            Kind::Malformed => assert_eq!(parsed, None),
            Kind::UnknownType => {
                assert!(matches!(parsed, Some((_, Event::Unknown { .. }))));
            }
            Kind::Hostile => {}
        }
        if matches!(record.kind, Kind::Metric | Kind::OutOfOrder | Kind::Late) {
            let metric = parse(&record);
            assert!(matches!(metric, Some((_, Event::AgentPerformanceMetric(_)))));
        }
    }
    for (kind, expected) in [
        (Kind::OutOfOrder, 3_000),
        (Kind::Late, 300),
        (Kind::Malformed, 180),
        (Kind::UnknownType, 1_200),
        (Kind::Hostile, 120),
    ] {
        let count = counts[&kind];
        assert!((expected * 7 / 10..=expected * 13 / 10).contains(&count), "{kind:?}: {count}");
    }
}

#[test]
fn values_have_the_tail_of_latencies() {
    let mut values: Vec<f64> = minute(3, Profile::CLEAN)
        .iter()
        .filter_map(|record| match parse(record) {
            Some((_, Event::AgentPerformanceMetric(metric)))
                if metric.metric == Metric::ExecutionTimeMs =>
            {
                Some(metric.value)
            }
            _ => None,
        })
        .collect();
    values.sort_by(f64::total_cmp);
    let (median, tail) = (values[values.len() / 2], values[values.len() * 99 / 100]);
    assert!(tail > 10.0 * median, "median {median}, p99 {tail}");
}

#[test]
fn a_clock_at_the_end_of_time_makes_no_trouble() {
    for now in [i64::MIN, -1, 0, i64::MAX] {
        assert_eq!(Load::new(1, Profile::MIXED, || now).take(2_000).count(), 2_000);
    }
}

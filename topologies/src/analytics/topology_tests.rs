//! The topology on the test driver: what is told, what is late, what goes to the dead letters.

use headwater::testing::{TestRecord, TopologyTestDriver};
use headwater_schemas::events::agent_performance_metric::Metric;
use serde_json::{Value, json};

use super::*;

const ID: &str = "4b7a1c9e-2f43-4c56-9a0e-5a3b8b1f0d11";
const MINUTE: i64 = 60_000;

type Raw = TestRecord<Option<Vec<u8>>, Option<Vec<u8>>>;

/// The topology under test.
struct Bench(TopologyTestDriver);

impl Bench {
    fn new() -> Self {
        Self::with(Options::default())
    }

    fn with(options: Options) -> Self {
        let builder = StreamsBuilder::new();
        topology_with(&builder, options);
        let topology = builder.build().expect("the topology has no mistakes");
        Self(TopologyTestDriver::new(&topology).expect("it starts"))
    }

    /// A record as it lies in the input topic.
    fn raw(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, record_time: i64) {
        let topic = &topics::MONITORING_EVENTS.name;
        let piped = self.0.pipe(topic, key, value, record_time, Headers::empty());
        piped.expect("a bad record does not stop the topology");
    }

    /// A metric at `time`, in a record of that time.
    fn metric(&mut self, key: &str, value: f64, time: i64) {
        let document = event("AgentPerformanceMetric", metric(value), time);
        self.raw(Some(key.as_bytes()), Some(document.to_string().as_bytes()), time);
    }

    fn told(&mut self) -> Vec<AnalyticsRollup> {
        let records = self.0.take(&topics::ANALYTICS_AGGREGATED.name);
        records
            .iter()
            .map(|record| {
                let value = record.value.as_deref().expect("a rollup is never null");
                let told: AnalyticsRollup = serde_json::from_slice(value).expect("a rollup");
                assert_eq!(record.key.as_deref(), Some(told.record_key().as_bytes()));
                told
            })
            .collect()
    }

    fn letters(&mut self) -> Vec<Raw> {
        self.0.take(&topics::MONITORING_EVENTS.dead_letters().name)
    }
}

fn metric(value: f64) -> Value {
    json!({"agentType": "worker", "sessionId": "s", "metric": "tokens", "value": value})
}

fn event(event_type: &str, data: Value, time: i64) -> Value {
    json!({
        "eventId": ID, "eventType": event_type, "aggregateId": "s", "aggregateType": "Session",
        "eventData": data, "metadata": {"timestamp": time, "version": "1.0", "correlationId": ID},
    })
}

fn header(record: &Raw, name: &str) -> String {
    let header = record.headers.last(name).expect("the header is there");
    String::from_utf8(header.value.as_deref().unwrap_or_default().to_vec()).expect("text")
}

#[test]
fn each_window_of_each_key_is_told_with_its_numbers_so_far() {
    let mut bench = Bench::new();
    bench.metric("a", 1.0, 0);
    bench.metric("a", 3.0, 5 * MINUTE - 1);
    bench.metric("a", 5.0, 5 * MINUTE);
    bench.metric("b", 7.0, 5 * MINUTE);
    let told: Vec<_> = bench
        .told()
        .into_iter()
        .map(|told| (told.record_key(), told.count, told.metrics[&Metric::Tokens].sum))
        .collect();
    let expected = [("a@0", 1, 1.0), ("a@0", 2, 4.0), ("a@300000", 1, 5.0), ("b@300000", 1, 7.0)];
    assert_eq!(told, expected.map(|(key, count, sum)| (key.to_owned(), count, sum)));
}

#[test]
fn a_rollup_carries_the_platforms_headers_and_the_latest_event_time() {
    let mut bench = Bench::new();
    bench.metric("a", 1.0, 2_000);
    bench.metric("a", 1.0, 1_000);
    let records = bench.0.take(&topics::ANALYTICS_AGGREGATED.name);
    assert_eq!(header(&records[1], headers::EVENT_TYPE), "AnalyticsRollup");
    assert_eq!(records[1].timestamp, 2_000);
    let told: Value =
        serde_json::from_slice(records[1].value.as_deref().expect("told")).expect("json");
    assert_eq!(told["updatedAt"], json!("1970-01-01T00:00:02.000Z"));
}

#[test]
fn a_window_takes_records_until_its_grace_is_over() {
    let mut bench = Bench::new();
    bench.metric("a", 1.0, 0);
    bench.metric("b", 1.0, 6 * MINUTE - 1);
    bench.metric("a", 1.0, 5 * MINUTE - 1);
    bench.metric("b", 1.0, 6 * MINUTE);
    bench.metric("a", 1.0, 5 * MINUTE - 1);
    let told: Vec<_> =
        bench.told().into_iter().map(|told| (told.record_key(), told.count)).collect();
    // The last record of `a` comes when its window has just closed.
    let expected = [("a@0", 1), ("b@300000", 1), ("a@0", 2), ("b@300000", 2)];
    assert_eq!(told, expected.map(|(key, count)| (key.to_owned(), count)));
    assert_eq!(bench.letters(), [], "late records are counted only");
}

#[test]
fn a_late_record_is_dead_lettered_when_asked_for() {
    let mut bench = Bench::with(Options { late: OnDropped::DeadLetter });
    bench.metric("a", 1.0, 6 * MINUTE);
    bench.metric("a", 2.0, 0);
    let letters = bench.letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(header(&letters[0], "headwater.reason"), "late");
    assert_eq!(header(&letters[0], "__streams.errors.offset"), "1");
}

#[test]
fn a_bad_value_is_dead_lettered_with_its_paths_and_the_rest_goes_on() {
    let mut bench = Bench::new();
    let document = event("AgentPerformanceMetric", json!({"metric": "mood", "value": -1}), 0);
    let bytes = document.to_string().into_bytes();
    bench.raw(Some(b"a"), Some(&bytes), 0);
    bench.metric("a", 1.0, 0);
    let letters = bench.letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].value.as_deref(), Some(&bytes[..]), "the value is unchanged");
    let message = header(&letters[0], "__streams.errors.message");
    for path in ["$.eventData.agentType", "$.eventData.sessionId", "$.eventData.metric"] {
        assert!(message.contains(path), "{message}");
    }
    assert_eq!(header(&letters[0], "__streams.errors.topic"), "monitoring.events");
    assert_eq!(header(&letters[0], headers::ORIGINAL_TOPIC), "monitoring.events");
    assert_eq!(header(&letters[0], headers::ERROR_MESSAGE), message);
    assert_eq!(header(&letters[0], headers::FINAL_RETRY_COUNT), "0");
    assert!(header(&letters[0], headers::DLQ_TIMESTAMP).parse::<i64>().is_ok());
    assert_eq!(bench.told().len(), 1);
}

#[test]
fn hostile_records_are_dead_lettered_one_by_one() {
    let good = event("AgentPerformanceMetric", metric(1.0), 0).to_string().into_bytes();
    let huge = vec![b' '; headwater_schemas::envelope::EVENT_BYTES_MAX + 1];
    let deep = vec![b'['; 100_000];
    let long_key = [b'k'; 10_000];
    type Case<'a> = (Option<&'a [u8]>, Option<&'a [u8]>, i64);
    let cases: [Case<'_>; 9] = [
        (None, Some(&good), 0),
        (Some(b"a"), None, 0),
        (Some(b""), Some(&good), 0),
        (Some(&[0xff, 0xfe]), Some(&good), 0),
        (Some(&long_key), Some(&good), 0),
        (Some(b"a"), Some(&huge), 0),
        (Some(b"a"), Some(&deep), 0),
        (Some(b"a"), Some(b"{\"value\": NaN}"), 0),
        (Some(b"a"), Some(&good), i64::MIN),
    ];
    let mut bench = Bench::new();
    for (key, value, time) in cases {
        bench.raw(key, value, time);
        assert_eq!(bench.letters().len(), 1, "{key:?} at {time}");
    }
    assert_eq!(bench.told(), []);
}

#[test]
fn an_event_from_the_future_is_refused_and_closes_no_window() {
    let mut bench = Bench::new();
    let at = |time: i64| event("AgentPerformanceMetric", metric(1.0), time).to_string();
    let hour = 60 * MINUTE;
    bench.raw(Some(b"a"), Some(at(hour + 1).as_bytes()), 0);
    bench.raw(Some(b"a"), Some(at(253_402_207_200_000).as_bytes()), 0);
    assert_eq!(bench.letters().len(), 2);
    bench.metric("a", 1.0, 0);
    bench.raw(Some(b"a"), Some(at(hour).as_bytes()), 0);
    assert_eq!(bench.told().len(), 2);
}

#[test]
fn event_time_counts_and_not_the_records() {
    let mut bench = Bench::new();
    let document = event("AgentPerformanceMetric", metric(1.0), 1_000).to_string();
    for record_time in [1_000, 10 * MINUTE, i64::MAX] {
        bench.raw(Some(b"a"), Some(document.as_bytes()), record_time);
    }
    let counts: Vec<_> = bench.told().iter().map(|told| (told.record_key(), told.count)).collect();
    assert_eq!(counts, [1, 2, 3].map(|count| ("a@0".to_owned(), count)));
}

#[test]
fn events_of_other_types_are_passed_over_and_move_no_clock() {
    let mut bench = Bench::new();
    bench.metric("a", 1.0, 0);
    let other = event("SessionArchived", json!({}), 30 * MINUTE).to_string();
    bench.raw(Some(b"a"), Some(other.as_bytes()), 30 * MINUTE);
    bench.metric("a", 1.0, 1);
    assert_eq!(bench.told().last().map(|told| told.count), Some(2));
    assert_eq!(bench.letters(), []);
}

#[test]
fn the_store_holds_what_was_told_and_shows_it_with_the_sketch() {
    let mut bench = Bench::new();
    bench.metric("a", 1.0, 0);
    bench.metric("a", 1.0, 6 * MINUTE);
    let rows = bench.0.rows(STORE);
    let starts: Vec<_> = rows.iter().filter_map(|row| row.window).map(|w| w.start).collect();
    assert_eq!(starts, [0, 5 * MINUTE]);
    let rollup = rollups().decode(Some(&rows[0].value)).expect("a rollup");
    let shown = RollupSerde.to_json(&rollup).expect("json");
    assert_eq!(shown["metrics"]["tokens"]["sketch"]["positive"], json!([[0, 1]]));
    assert_eq!((&shown["count"], &shown["errorCount"]), (&json!(1), &json!(0)));
}

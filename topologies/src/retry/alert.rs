//! Alerts: too many failures of a topic, too many dead letters in a queue.
//!
//! Owns when an alert is due and how it looks. It must not know who counts.

use std::collections::VecDeque;

use headwater_schemas::envelope::{DomainEvent, EventTime, Metadata};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// How far back failures count, in milliseconds.
pub const WINDOW_MS: i64 = 5 * 60_000;
/// An alert of one kind and topic is told at most once in this time, in milliseconds.
pub const REPEAT_MS: i64 = 5 * 60_000;
/// Records that a rate needs to mean something.
pub const RECORDS_MIN: u64 = 20;
/// Failures per hundred records beyond which a topic is in trouble.
pub const PERCENT_MAX: u64 = 10;
/// Dead letters beyond which a queue is too long.
pub const LETTERS_MAX: u64 = 100;

const BUCKET_MS: i64 = 10_000;

/// The event type of a topic in trouble.
pub const ERROR_RATE: &str = "ErrorRateExceeded";
/// The event type of a queue that is too long.
pub const QUEUE_SIZE: &str = "DlqSizeWarning";

/// When an alert was told last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told(Option<i64>);

impl Told {
    /// True if it may be told now, which is noted.
    pub fn again(&mut self, now_ms: i64) -> bool {
        // A clock that was set back does not silence it.
        let due =
            self.0.is_none_or(|last| !(last..last.saturating_add(REPEAT_MS)).contains(&now_ms));
        if due {
            self.0 = Some(now_ms);
        }
        due
    }
}

/// How many records failed lately.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorRate {
    buckets: VecDeque<Bucket>,
    told: Told,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Bucket {
    since_ms: i64,
    records: u64,
    failed: u64,
}

impl ErrorRate {
    /// Notes so many records, of which so many failed. The percentage of failures in the window,
    /// rounded, if that is too much and to be told.
    pub fn note(&mut self, records: u64, failed: u64, now_ms: i64) -> Option<u64> {
        let since_ms = now_ms - now_ms.rem_euclid(BUCKET_MS);
        let oldest = now_ms.saturating_sub(WINDOW_MS);
        self.buckets.retain(|bucket| bucket.since_ms > oldest && bucket.since_ms <= since_ms);
        if self.buckets.back().is_none_or(|bucket| bucket.since_ms != since_ms) {
            self.buckets.push_back(Bucket { since_ms, records: 0, failed: 0 });
        }
        let newest = self.buckets.back_mut().expect("there is one of now");
        newest.records += records;
        newest.failed += failed;
        let records: u64 = self.buckets.iter().map(|bucket| bucket.records).sum();
        let failures: u64 = self.buckets.iter().map(|bucket| bucket.failed).sum();
        let too_many = records >= RECORDS_MIN && failures * 100 > records * PERCENT_MAX;
        (failed > 0 && too_many && self.told.again(now_ms))
            .then(|| (failures * 100 + records / 2) / records)
    }
}

/// An alert as an event of a topic.
pub(super) fn event(kind: &str, topic: &str, now_ms: i64, data: Value) -> DomainEvent {
    let id =
        Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{kind}/{topic}/{now_ms}/{data}").as_bytes());
    let event_data: Map<String, Value> = match data {
        Value::Object(fields) => fields,
        other => Map::from_iter([("detail".to_owned(), other)]),
    };
    DomainEvent {
        event_id: id,
        event_type: kind.to_owned(),
        aggregate_id: topic.to_owned(),
        aggregate_type: "Topic".to_owned(),
        event_data,
        metadata: Metadata {
            timestamp: EventTime::from_millis(now_ms.max(0)).unwrap_or(EventTime::MAX),
            version: "1.0".to_owned(),
            correlation_id: id,
            causation_id: None,
            user_id: None,
            session_id: None,
            sequence: None,
        },
    }
}

/// The alert of a topic in trouble, with the failure that made it so.
pub(super) fn error_rate(topic: &str, percent: u64, now_ms: i64, context: Value) -> DomainEvent {
    let message = format!("error rate of topic {topic} is {percent}%");
    let data = json!({"severity": "HIGH", "topic": topic, "percentage": percent,
        "message": message, "context": context});
    event(ERROR_RATE, topic, now_ms, data)
}

/// The warning of a queue that is too long.
pub(super) fn queue_size(queue: &str, count: u64, now_ms: i64) -> DomainEvent {
    let data = json!({"severity": "WARNING", "title": "DLQ Size Warning", "queue": queue,
        "count": count, "message": format!("{queue} has {count} dead letters")});
    event(QUEUE_SIZE, queue, now_ms, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_a_tenth_of_twenty_records_is_told_once_in_five_minutes() {
        let mut rate = ErrorRate::default();
        let noted: Vec<_> = (0..19).map(|n| rate.note(1, (n + 1) % 2, 1_000)).collect();
        assert!(noted.iter().all(Option::is_none), "too few to say");
        assert_eq!(rate.note(1, 1, 1_000), Some(55));
        assert_eq!(rate.note(1, 1, 2_000), None, "told already");
        assert_eq!(rate.note(1, 1, 1_000 + REPEAT_MS - 1), None, "told already");
        assert_eq!(rate.note(1, 0, 1_000 + REPEAT_MS), None, "a record that went well");
    }

    #[test]
    fn a_tenth_is_not_too_much_and_old_failures_do_not_count() {
        let mut rate = ErrorRate::default();
        for n in 0..100 {
            assert_eq!(rate.note(1, u64::from(n % 10 == 9), 0), None, "{n}");
        }
        assert_eq!(rate.note(1, 1, 0), Some(11));
        let mut rate = ErrorRate::default();
        rate.note(19, 19, 0);
        rate.note(30, 0, WINDOW_MS + BUCKET_MS);
        assert_eq!(rate.note(1, 1, WINDOW_MS + BUCKET_MS), None, "1 of 31");
    }

    #[test]
    fn a_clock_that_jumps_neither_panics_nor_silences_alerts() {
        let mut rate = ErrorRate::default();
        for now in [i64::MAX, 0, i64::MIN + BUCKET_MS, 5_000] {
            rate.note(RECORDS_MIN, RECORDS_MIN, now);
        }
        let mut told = Told::default();
        assert!(told.again(1_000_000) && !told.again(1_000_001));
        assert!(told.again(5), "the clock went back");
    }

    #[test]
    fn an_alert_names_topic_and_percentage_and_is_told_under_one_id() {
        let event = error_rate("orders", 12, 7, json!({"partition": 3}));
        assert_eq!(event.event_data["severity"], "HIGH");
        assert_eq!(event.event_data["message"], "error rate of topic orders is 12%");
        assert_eq!(event.event_data["context"]["partition"], 3);
        assert_eq!(event, error_rate("orders", 12, 7, json!({"partition": 3})));
        let warning = queue_size("orders", 101, 7);
        assert_eq!(warning.event_data["title"], "DLQ Size Warning");
        assert_eq!(
            (&warning.event_data["queue"], &warning.event_data["count"]),
            (&json!("orders"), &json!(101))
        );
    }
}

//! Analytics rollups, recomputed record by record: five-minute windows, one minute of grace, one
//! clock per partition that only metrics with a key move.
//!
//! It must not know how windows are stored; it reads what the queries and the output topic show.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::buckets::Distribution;
use super::metric::{Judged, Measured, judge};
use super::told::Told;
use super::{Findings, LogRecord};

const WINDOW_MS: i64 = 300_000;
const GRACE_MS: i64 = 60_000;
const KEY_BYTES_MAX: usize = 256;

/// One metric of one window.
#[derive(Clone, Debug, PartialEq)]
struct Values {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    distribution: Distribution,
}

/// One window of one key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    count: u64,
    errors: u64,
    updated_at: i64,
    metrics: BTreeMap<String, Values>,
}

/// A partition and an offset.
pub type Place = (u32, i64);

/// What all records so far should have led to.
#[derive(Clone, Debug, Default)]
pub struct Rollups {
    /// By key, then by window start.
    windows: BTreeMap<String, BTreeMap<i64, Window>>,
    clocks: BTreeMap<u32, i64>,
    homes: BTreeMap<String, u32>,
    /// Metrics that counted.
    pub counted: u64,
    /// Metrics that came too late.
    pub late: BTreeSet<Place>,
    /// Records that belong into the dead letters.
    pub refused: BTreeSet<Place>,
    /// Events of other types.
    pub others: u64,
    /// What contradicts the assumptions of this recomputation.
    pub findings: Findings,
}

impl Rollups {
    /// Takes the next record of its partition; the window it counted in, if any: key and start.
    pub fn apply(&mut self, record: &LogRecord) -> Option<(String, i64)> {
        let place = (record.partition, record.offset);
        let (Some(key), Some(value)) = (&record.key, &record.value) else {
            self.refused.insert(place);
            return None;
        };
        let key =
            std::str::from_utf8(key).ok().filter(|key| (1..=KEY_BYTES_MAX).contains(&key.len()));
        match (key, judge(value, record.timestamp)) {
            (None, _) | (_, Judged::Bad) => {
                self.refused.insert(place);
                None
            }
            (Some(_), Judged::Other) => {
                self.others += 1;
                None
            }
            (Some(key), Judged::Metric(measured)) => self.count(place, key, &measured),
        }
    }

    fn count(&mut self, place: Place, key: &str, measured: &Measured) -> Option<(String, i64)> {
        let clock = self.clocks.entry(place.0).or_insert(measured.time);
        *clock = measured.time.max(*clock);
        let start = measured.time - measured.time % WINDOW_MS;
        if start + WINDOW_MS <= *clock - GRACE_MS {
            self.late.insert(place);
            return None;
        }
        let home = *self.homes.entry(key.to_owned()).or_insert(place.0);
        if home != place.0 {
            self.findings.note(|| format!("key {key} is in partitions {home} and {}", place.0));
        }
        self.counted += 1;
        self.windows.entry(key.to_owned()).or_default().entry(start).or_default().add(measured);
        Some((key.to_owned(), start))
    }

    /// Number of windows.
    pub fn window_count(&self) -> usize {
        self.windows.values().map(BTreeMap::len).sum()
    }

    /// Every key that has a window.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.windows.keys().map(String::as_str)
    }

    /// Compares the windows of `key` as the store shows them: start and rollup, ascending.
    pub fn compare_windows(&self, key: &str, shown: &[(i64, Value)]) -> Findings {
        let mut findings = Findings::default();
        let none = BTreeMap::new();
        let expected = self.windows.get(key).unwrap_or(&none);
        let starts: Vec<i64> = shown.iter().map(|(start, _)| *start).collect();
        let expected_starts: Vec<i64> = expected.keys().copied().collect();
        if starts != expected_starts {
            findings.note(|| {
                format!("windows of {key}: shown {starts:?}, expected {expected_starts:?}")
            });
        }
        for (start, view) in shown {
            let Some(window) = expected.get(start) else { continue };
            let expected = window.view();
            if *view != expected {
                findings
                    .note(|| format!("window {key}@{start}: shown {view}, expected {expected}"));
            }
        }
        findings
    }

    /// Compares the places that dead letters name: each refused record exactly once, no other.
    pub fn compare_dead_letters(&self, letters: &[LogRecord]) -> Findings {
        let mut findings = Findings::default();
        let mut told = BTreeSet::new();
        for letter in letters {
            let number = |name: &str| letter.header(name)?.parse().ok();
            let place = number("__streams.errors.partition").zip(number("__streams.errors.offset"));
            let place = place
                .and_then(|(partition, offset)| Some((u32::try_from(partition).ok()?, offset)));
            let Some(place) = place else {
                findings.note(|| format!("dead letter at {} names no place", letter.offset));
                continue;
            };
            if !told.insert(place) {
                findings.note(|| format!("record {place:?} has two dead letters"));
            }
        }
        for place in self.refused.symmetric_difference(&told) {
            let wrong = if told.contains(place) { "should have no" } else { "has no" };
            findings.note(|| format!("record {place:?} {wrong} dead letter"));
        }
        findings
    }
}

/// Recomputes `input` (in the order of offsets in each partition) and compares each record of the
/// output topic with the state it should have told: every one must be a state the window had, each
/// later one of a key must have counted more, and the last must be the final state.
pub fn compare_output(input: &[LogRecord], output: &[LogRecord]) -> (Rollups, Findings) {
    let mut told = Told::read(output);
    let mut rollups = Rollups::default();
    for record in input {
        let Some((key, start)) = rollups.apply(record) else { continue };
        let window = &rollups.windows[&key][&start];
        told.state(&format!("{key}@{start}"), window.count, || window.event(&key, start));
    }
    told.nothing_else();
    for (key, windows) in &rollups.windows {
        for (start, window) in windows {
            told.last(&format!("{key}@{start}"), &window.event(key, *start));
        }
    }
    let mut findings = told.finish();
    findings.extend(rollups.findings.clone());
    (rollups, findings)
}

impl Window {
    fn add(&mut self, measured: &Measured) {
        let value = measured.value;
        self.count += 1;
        self.errors += u64::from(measured.failed);
        self.updated_at = self.updated_at.max(measured.time);
        let values = self.metrics.entry(measured.metric.clone()).or_insert_with(|| Values {
            count: 0,
            sum: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            distribution: Distribution::default(),
        });
        values.count += 1;
        values.sum += value;
        values.min = values.min.min(value);
        values.max = values.max.max(value);
        values.distribution.add(value);
    }

    fn metrics(&self, with_sketch: bool) -> Value {
        let mut all = Map::new();
        for (name, values) in &self.metrics {
            let percentile = |thousandths| {
                values.distribution.quantile(thousandths).max(values.min).min(values.max)
            };
            #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
            let mean = values.sum / values.count as f64;
            let mut shown = json!({
                "count": values.count, "sum": values.sum, "min": values.min, "max": values.max,
                "mean": mean, "p50": percentile(500), "p95": percentile(950), "p99": percentile(990),
            });
            if with_sketch {
                shown["sketch"] = values.distribution.to_json();
            }
            all.insert(name.clone(), shown);
        }
        Value::Object(all)
    }

    /// As the store's queries show it.
    fn view(&self) -> Value {
        json!({
            "count": self.count, "errorCount": self.errors, "updatedAt": iso(self.updated_at),
            "metrics": self.metrics(true),
        })
    }

    /// As the output topic tells it.
    fn event(&self, key: &str, start: i64) -> Value {
        json!({
            "key": key, "windowStart": iso(start), "windowEnd": iso(start + WINDOW_MS),
            "count": self.count, "errorCount": self.errors, "metrics": self.metrics(false),
            "updatedAt": iso(self.updated_at),
        })
    }
}

fn iso(millis: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(millis).expect("event times are bounded");
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

//! What a window knows of its metrics.
//!
//! Owns the accumulator, its arithmetic, its stored form and its summary for `analytics.aggregated`.
//! It must not know windows, nor how records arrive.
//!
//! Sums are added in the order of the records, as doubles; an independent program that adds in the
//! same order gets the same bits. Percentiles come from the [`Sketch`], clamped to the exact
//! minimum and maximum.

use std::collections::BTreeMap;

use headwater_schemas::envelope::EventTime;
use headwater_schemas::events::agent_performance_metric::Metric;
use headwater_schemas::events::analytics_rollup::MetricSummary;
use headwater_schemas::events::{AgentPerformanceMetric, AnalyticsRollup};
use serde::{Serialize, Serializer};

use super::bytes::{DecodeError, Reader, write_double, write_number};
use super::sketch::{NotCountable, Sketch};

/// First byte of the stored form.
const FORMAT: u8 = 1;

/// Everything counted so far: of one key in one window, or of several merged.
///
/// As JSON it is what the store's queries show: like [`AnalyticsRollup`], and the sketches.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollup {
    /// Metric events counted.
    pub count: u64,
    /// Those among them with `success: false`.
    pub error_count: u64,
    /// The latest event time counted.
    pub updated_at: Option<EventTime>,
    /// By metric, in the order of [`Metric`].
    pub metrics: BTreeMap<Metric, Measurements>,
}

/// All measurements of one metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurements {
    /// Number of values; at least 1.
    pub count: u64,
    /// Their sum, added in record order.
    pub sum: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// Their distribution.
    pub sketch: Sketch,
}

impl Rollup {
    /// Counts `metric`, which happened at `time`.
    ///
    /// # Errors
    /// [`NotCountable`] when the value is beyond what a sketch counts, which a parsed metric never
    /// is; the rollup is unchanged then.
    pub fn apply(
        &mut self,
        metric: &AgentPerformanceMetric,
        time: EventTime,
    ) -> Result<(), NotCountable> {
        match self.metrics.get_mut(&metric.metric) {
            Some(measurements) => measurements.add(metric.value)?,
            None => {
                self.metrics.insert(metric.metric, Measurements::first(metric.value)?);
            }
        }
        self.count += 1;
        self.error_count += u64::from(metric.success == Some(false));
        self.updated_at = self.updated_at.max(Some(time));
        Ok(())
    }

    /// Adds all of `other`, which comes after: counts and sketches exactly, sums as `self + other`.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.error_count += other.error_count;
        self.updated_at = self.updated_at.max(other.updated_at);
        for (metric, measurements) in &other.metrics {
            match self.metrics.get_mut(metric) {
                Some(mine) => mine.merge(measurements),
                None => {
                    self.metrics.insert(*metric, measurements.clone());
                }
            }
        }
    }

    /// Each metric without its sketch.
    pub fn summaries(&self) -> BTreeMap<Metric, MetricSummary> {
        self.metrics.iter().map(|(metric, all)| (*metric, all.into())).collect()
    }

    /// The event of this rollup in the window `[start, end)`; `None` when nothing was counted.
    pub fn event(&self, key: &str, start: EventTime, end: EventTime) -> Option<AnalyticsRollup> {
        Some(AnalyticsRollup {
            key: key.to_owned(),
            window_start: start,
            window_end: end,
            count: self.count,
            error_count: self.error_count,
            metrics: self.summaries(),
            updated_at: self.updated_at?,
        })
    }

    /// The stored form: a format byte, then compact numbers.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        write_number(self.count, &mut out);
        write_number(self.error_count, &mut out);
        let updated_at = self.updated_at.map_or(0, |time| time.as_millis() + 1);
        write_number(u64::try_from(updated_at).expect("event times are not negative"), &mut out);
        for metric in Metric::ALL {
            match self.metrics.get(&metric) {
                Some(measurements) => measurements.encode(&mut out),
                None => write_number(0, &mut out),
            }
        }
        out
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are damaged or of a newer format.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.byte()? != FORMAT {
            return Err(reader.error("the format is unknown: a newer version wrote it"));
        }
        let count = reader.number()?;
        let error_count = reader.number()?;
        let updated_at = match reader.number()?.checked_sub(1) {
            None => None,
            Some(millis) => {
                let time = i64::try_from(millis).ok().and_then(EventTime::from_millis);
                Some(time.ok_or(reader.error("the time does not exist"))?)
            }
        };
        let mut metrics = BTreeMap::new();
        for metric in Metric::ALL {
            if let Some(measurements) = Measurements::decode(&mut reader)? {
                metrics.insert(metric, measurements);
            }
        }
        reader.end()?;
        Ok(Self { count, error_count, updated_at, metrics })
    }
}

impl Measurements {
    fn first(value: f64) -> Result<Self, NotCountable> {
        let mut sketch = Sketch::default();
        sketch.insert(value)?;
        Ok(Self { count: 1, sum: value, min: value, max: value, sketch })
    }

    fn add(&mut self, value: f64) -> Result<(), NotCountable> {
        self.sketch.insert(value)?;
        self.count += 1;
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        Ok(())
    }

    fn merge(&mut self, other: &Self) {
        self.sketch.merge(&other.sketch);
        self.count += other.count;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Sum divided by count.
    pub fn mean(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
        let count = self.count as f64;
        self.sum / count
    }

    /// The value `thousandths` of the way through, within 1 % and between minimum and maximum.
    pub fn quantile(&self, thousandths: u32) -> f64 {
        let quantile = self.sketch.quantile(thousandths).expect("there is at least one value");
        quantile.clamp(self.min, self.max)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        write_number(self.count, out);
        write_double(self.sum, out);
        write_double(self.min, out);
        write_double(self.max, out);
        self.sketch.encode(out);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        let count = reader.number()?;
        if count == 0 {
            return Ok(None);
        }
        let (sum, min, max) = (reader.double()?, reader.double()?, reader.double()?);
        let sketch = Sketch::decode(reader)?;
        if sketch.count() != count || min > max {
            return Err(reader.error("the measurements contradict each other"));
        }
        Ok(Some(Self { count, sum, min, max, sketch }))
    }
}

/// The JSON form: the summary's fields and the sketch.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    summary: MetricSummary,
    sketch: &'a Sketch,
}

impl Serialize for Measurements {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Shown { summary: MetricSummary::from(self), sketch: &self.sketch }.serialize(serializer)
    }
}

impl From<&Measurements> for MetricSummary {
    fn from(measurements: &Measurements) -> Self {
        Self {
            count: measurements.count,
            sum: measurements.sum,
            min: measurements.min,
            max: measurements.max,
            mean: measurements.mean(),
            p50: measurements.quantile(500),
            p95: measurements.quantile(950),
            p99: measurements.quantile(990),
        }
    }
}

#[cfg(test)]
#[path = "rollup_tests.rs"]
mod tests;

//! The event of `analytics.aggregated`: one key's metrics in one window, so far.
//!
//! Owns its fields and the key of its record. It must not know how the numbers come about.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::agent_performance_metric::Metric;
use crate::envelope::EventTime;

/// What one window of one key says. A later event of the same window replaces it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AnalyticsRollup {
    /// The rolled-up key.
    pub key: String,
    /// First time of the window.
    pub window_start: EventTime,
    /// First time after the window.
    pub window_end: EventTime,
    /// Metric events counted.
    pub count: u64,
    /// Those among them that failed.
    pub error_count: u64,
    /// By metric.
    pub metrics: BTreeMap<Metric, MetricSummary>,
    /// The latest event time counted.
    pub updated_at: EventTime,
}

/// One metric of an [`AnalyticsRollup`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricSummary {
    /// Number of values.
    pub count: u64,
    /// Their sum, added in record order.
    pub sum: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// Sum divided by count.
    pub mean: f64,
    /// Median, within 1 %.
    pub p50: f64,
    /// 95th percentile, within 1 %.
    pub p95: f64,
    /// 99th percentile, within 1 %.
    pub p99: f64,
}

impl AnalyticsRollup {
    /// The event type these events travel under.
    pub const EVENT_TYPE: &'static str = "AnalyticsRollup";

    /// The key of the event's record: `<key>@<window start in ms>`.
    pub fn record_key(&self) -> String {
        format!("{}@{}", self.key, self.window_start.as_millis())
    }
}

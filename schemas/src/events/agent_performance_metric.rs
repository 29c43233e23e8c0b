//! `AgentPerformanceMetric`: what one agent call took, cost or reached.
//!
//! Owns the payload's fields and bounds. It must not know how metrics are rolled up.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::envelope::DomainEvent;
use crate::fields::{Fields, ID_BYTES_MAX};
use crate::violation::{EventError, Violations};

/// Largest value of any metric. Sums of as many values as a counter can count stay finite.
pub const VALUE_MAX: f64 = 1e15;

const _: () = assert!(VALUE_MAX * 1e20 < f64::INFINITY, "a full counter has a finite sum");

/// The payload of an `AgentPerformanceMetric` event.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentPerformanceMetric {
    /// Which kind of agent was measured.
    pub agent_type: AgentType,
    /// Which agent, when there are several of the kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// The session it worked in.
    pub session_id: String,
    /// The task it worked on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// What was measured.
    pub metric: Metric,
    /// The measurement, in the metric's unit: finite, at least 0, at most [`Metric::value_max`].
    pub value: f64,
    /// Whether the call succeeded, when it can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success: Option<bool>,
}

/// The kinds of agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentType {
    /// Analyses tasks and reviews results.
    Manager,
    /// Executes work items.
    Worker,
}

/// What can be measured. The set is closed, so that a rollup's size is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Duration of one agent call, in milliseconds.
    ExecutionTimeMs,
    /// Time a task waited for an agent, in milliseconds.
    QueueTimeMs,
    /// Model tokens used by one call.
    Tokens,
    /// Price of one call, in US dollars.
    CostUsd,
    /// Judgement of one result, from 0 to 1.
    QualityScore,
}

impl Metric {
    /// Every metric, in the order of [`Ord`].
    pub const ALL: [Self; 5] =
        [Self::ExecutionTimeMs, Self::QueueTimeMs, Self::Tokens, Self::CostUsd, Self::QualityScore];

    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::ExecutionTimeMs => "execution_time_ms",
            Self::QueueTimeMs => "queue_time_ms",
            Self::Tokens => "tokens",
            Self::CostUsd => "cost_usd",
            Self::QualityScore => "quality_score",
        }
    }

    /// The metric of a JSON name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }

    /// The largest value that can be true.
    pub fn value_max(self) -> f64 {
        match self {
            Self::QualityScore => 1.0,
            Self::ExecutionTimeMs | Self::QueueTimeMs | Self::Tokens | Self::CostUsd => VALUE_MAX,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl AgentPerformanceMetric {
    /// The event type these payloads travel under.
    pub const EVENT_TYPE: &'static str = "AgentPerformanceMetric";

    /// Reads the payload of `event`. A `sessionId` absent from the payload is taken from the
    /// metadata.
    ///
    /// # Errors
    /// [`EventError::Invalid`] with every offending path.
    pub fn of(event: &DomainEvent) -> Result<Self, EventError> {
        let mut violations = Violations::default();
        let mut fields = Fields::new(&event.event_data, "$.eventData", &mut violations);
        let payload = Self::read(&mut fields, event.metadata.session_id.as_deref());
        violations.finish(payload)
    }

    fn read(fields: &mut Fields<'_, '_>, session_id: Option<&str>) -> Option<Self> {
        let agent_type = match fields.text("agentType", ID_BYTES_MAX) {
            Some("manager") => Some(AgentType::Manager),
            Some("worker") => Some(AgentType::Worker),
            Some(other) => {
                fields.refuse("agentType", format!("must be manager or worker, found {other:.40?}"))
            }
            None => None,
        };
        let agent_id = fields.optional_id("agentId");
        let session_id = match (fields.get("sessionId"), session_id) {
            (None, Some(session_id)) => Some(session_id.to_owned()),
            _ => fields.id("sessionId"),
        };
        let task_id = fields.optional_id("taskId");
        let metric = match fields.text("metric", ID_BYTES_MAX) {
            Some(name) => Metric::from_name(name).or_else(|| {
                let known = Metric::ALL.map(Metric::name).join(", ");
                fields.refuse("metric", format!("must be one of {known}, found {name:.40?}"))
            }),
            None => None,
        };
        let value = fields.number("value");
        let value = match (metric, value) {
            (Some(metric), Some(value)) if !(0.0..=metric.value_max()).contains(&value) => {
                let max = metric.value_max();
                fields.refuse(
                    "value",
                    format!("must be from 0 to {max} for {metric}, found {value:e}"),
                )
            }
            (_, value) => value,
        };
        let success = fields.optional_bool("success");
        Some(Self {
            agent_type: agent_type?,
            agent_id,
            session_id: session_id?,
            task_id,
            metric: metric?,
            value: value?,
            success,
        })
    }

    /// The payload as the `eventData` of an envelope.
    pub fn to_event_data(&self) -> serde_json::Map<String, Value> {
        match serde_json::to_value(self).expect("text keys and finite numbers only") {
            Value::Object(object) => object,
            _ => unreachable!("a struct becomes an object"),
        }
    }
}

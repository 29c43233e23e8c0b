//! The event catalogue: which payload an event type carries.
//!
//! Owns the step from an envelope to a typed event. It must not know topics or keys. A type this
//! catalogue does not know is an answer, not an error: topics carry several types, and a reader
//! takes what it understands.

pub mod agent_performance_metric;
pub mod analytics_rollup;

use crate::envelope::DomainEvent;
use crate::violation::EventError;
pub use agent_performance_metric::AgentPerformanceMetric;
pub use analytics_rollup::AnalyticsRollup;

/// The typed payload of an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// What an agent took, cost or reached.
    AgentPerformanceMetric(AgentPerformanceMetric),
    /// A type this catalogue does not know.
    Unknown {
        /// The type's name as it came.
        event_type: String,
    },
}

impl Event {
    /// Reads the payload of `event` as its type asks for.
    ///
    /// # Errors
    /// [`EventError::Invalid`] with every offending path, when the type is known and its payload
    /// is not of its shape. Send the record to the dead letters.
    pub fn of(event: &DomainEvent) -> Result<Self, EventError> {
        match canonical_type(&event.event_type) {
            AgentPerformanceMetric::EVENT_TYPE => {
                AgentPerformanceMetric::of(event).map(Self::AgentPerformanceMetric)
            }
            _ => Ok(Self::Unknown { event_type: event.event_type.clone() }),
        }
    }
}

/// The catalogue's name of a type: producers may append `Event` to it.
pub fn canonical_type(event_type: &str) -> &str {
    match event_type.strip_suffix("Event") {
        Some(name) if !name.is_empty() => name,
        _ => event_type,
    }
}

#[cfg(test)]
#[path = "../event_tests.rs"]
mod tests;

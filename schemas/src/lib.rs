//! Contracts of the agent platform: the event envelope, the events, the topics and the headers.
//!
//! This crate owns what a record *means*: which JSON is a valid event, how older envelopes are
//! normalised, which topic carries what. It must not know how events are processed, stored or
//! moved: there is no topology, no store and no client in it.
//!
//! ```
//! use headwater_schemas::envelope::DomainEvent;
//! use headwater_schemas::events::Event;
//!
//! let value = br#"{
//!   "eventId": "4b7a1c9e-2f43-4c56-9a0e-5a3b8b1f0d11",
//!   "eventType": "AgentPerformanceMetric",
//!   "aggregateId": "session-1",
//!   "aggregateType": "Session",
//!   "eventData": {"agentType": "worker", "sessionId": "session-1",
//!                 "metric": "execution_time_ms", "value": 41.5, "success": true},
//!   "metadata": {"timestamp": "2026-01-05T10:00:00.000Z", "version": "1.0",
//!                "correlationId": "4b7a1c9e-2f43-4c56-9a0e-5a3b8b1f0d11"}
//! }"#;
//! let event = DomainEvent::parse(value)?;
//! let Event::AgentPerformanceMetric(metric) = Event::of(&event)? else { panic!("a metric") };
//! assert_eq!(metric.value, 41.5);
//! # Ok::<(), headwater_schemas::violation::EventError>(())
//! ```

pub mod adapter;
pub mod avro;
pub mod catalogue;
pub mod commands;
pub mod envelope;
pub mod events;
pub mod evolution;
mod fields;
pub mod headers;
pub mod registry;
pub mod routing;
pub mod topics;
pub mod upcast;
pub mod validate;
pub mod violation;

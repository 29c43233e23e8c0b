//! The agent platform's topologies, as library modules.
//!
//! Owns what happens to the platform's events. It must not know which log or which store runs
//! underneath.

pub mod agents;
pub mod aggregate;
pub mod analytics;
pub mod client;
pub mod conventions;
pub mod coordinator;
pub mod correlation;
pub mod examples;
pub mod idempotency;
pub mod orders;
pub mod outgoing;
pub mod platform;
pub mod platform_event;
pub mod quality;
pub mod retry;
pub mod saga;
pub mod session;
pub mod workflow;

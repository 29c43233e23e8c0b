//! Headwater: a stream-processing engine of the Kafka Streams kind.
//!
//! Owns records, serdes, the typed DSL, topologies, processors, tasks, the runtime, the log and
//! membership seams, queries and the test kit. Knows no domain event.

pub mod actor;
pub mod audit;
pub mod config;
pub mod dsl;
pub mod error;
pub mod log;
pub mod membership;
pub mod metrics;
mod operators;
pub mod processor;
pub mod query;
pub mod record;
pub mod runtime;
pub mod serde;
pub mod shell;
pub mod store;
pub mod task;
pub mod testing;
pub mod time;
pub mod topology;

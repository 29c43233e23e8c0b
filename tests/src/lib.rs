//! Test support, shared by every suite under `tests/tests/`: the project's own sources as text,
//! repeated proofs and their seeds, child processes to crash, a real Kafka broker and schema
//! registry, and the checker that recomputes results independently. Apart from the checker it knows
//! no topology and judges nothing; the suites do.

pub mod checker;
pub mod child;
pub mod conformance;
pub mod counted;
pub mod joined;
#[cfg(feature = "kafka")]
pub mod kafka_broker;
pub mod log_contract;
pub mod proof;
pub mod schema_registry;
pub mod slice;
pub mod source;
pub mod stepped_log;

/// The topology of the README compiles and does what it says.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[derive(Debug)]
pub struct Readme;

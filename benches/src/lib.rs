//! What the benches share: costs, the bare loops on Kafka, the engine on Kafka, the contest with
//! Kafka Streams, and the platform's load with its checker.

pub mod kafka;
pub mod peers;
pub mod platform;

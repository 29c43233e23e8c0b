//! What the benches share: costs, the bare loops on Kafka, the engine on Kafka, and the contest with
//! Kafka Streams.

pub mod kafka;
pub mod peers;

//! What the benches share: costs, the bare loops on Kafka, the engine on Kafka.

pub mod kafka;

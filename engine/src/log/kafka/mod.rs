//! The log on Apache Kafka, by librdkafka.

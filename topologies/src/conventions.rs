//! What the platform's topologies have in common towards the log: topics as the catalogue has them,
//! and dead letters with the platform's headers. Knows no topology.

use bytes::Bytes;
use headwater::dsl::StreamsBuilder;
use headwater::processor::drops::DeadLetter;
use headwater::record::{self, Headers, TopicSpec};
use headwater_schemas::headers;
use headwater_schemas::topics::{CATALOGUE, Cleanup, Topic};

/// Declares topics of the catalogue with their dead letter topics, and adds the platform's headers to
/// dead letters.
pub fn follow(b: &StreamsBuilder, topics: &[&Topic]) {
    for topic in topics {
        b.declare_topic(spec(topic));
        b.declare_topic(spec(&topic.dead_letters()));
    }
    b.dead_letter_headers(dead_letter_headers);
}

/// A topic of the catalogue, as the engine takes it.
pub(crate) fn spec(topic: &Topic) -> TopicSpec {
    let cleanup = match (topic.cleanup, topic.retention) {
        (Cleanup::Delete, retention) => record::Cleanup::Delete { retention },
        (Cleanup::Compact, _) | (Cleanup::CompactAndDelete, None) => record::Cleanup::Compact,
        (Cleanup::CompactAndDelete, Some(retention)) => {
            record::Cleanup::CompactAndDelete { retention }
        }
    };
    TopicSpec { name: (&*topic.name).into(), partitions: topic.partitions, cleanup }
}

/// `original-topic`, `error-message`, `final-retry-count`, `dlq-timestamp`.
fn dead_letter_headers(letter: &DeadLetter<'_>, headers: &mut Headers) {
    let retries = letter.headers.last(headers::RETRY_COUNT).and_then(|h| h.value.clone());
    let topic = letter.place.partition.topic.to_string();
    let time = letter.wall_ms.to_string();
    for (name, value) in [
        (headers::ORIGINAL_TOPIC, Bytes::from(topic)),
        (headers::ERROR_MESSAGE, Bytes::from(letter.message.to_owned())),
        (headers::FINAL_RETRY_COUNT, retries.unwrap_or_else(|| Bytes::from_static(b"0"))),
        (headers::DLQ_TIMESTAMP, Bytes::from(time)),
    ] {
        headers.append(name, Some(value));
    }
}

/// Every topic of the catalogue with its dead letter topic, for whoever creates them.
pub fn catalogue() -> Vec<TopicSpec> {
    CATALOGUE.iter().flat_map(|topic| [spec(topic), spec(&topic.dead_letters())]).collect()
}

//! What a topology of the platform sends: events and commands as bytes, each with the topic it goes
//! to and its headers.
//!
//! Owns the step from an event to a record. It must not know why anything is sent.

use headwater::dsl::{KStream, Produced};
use headwater::record::Headers;
use headwater::serde::{Serde, SerdeError};
use headwater_schemas::commands::{Command, Request};
use headwater_schemas::envelope::DomainEvent;
use headwater_schemas::headers;
use headwater_schemas::topics::Topic;

use crate::platform_event::event_keys;

/// One record to be sent; its key is that of the record it is forwarded with.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// Where to.
    pub topic: &'static str,
    /// The document.
    pub value: Vec<u8>,
    /// The platform's headers.
    pub headers: Headers,
}

impl Outgoing {
    /// An event of the service `source`, to this topic.
    pub fn event(event: &DomainEvent, topic: &'static Topic, source: &str) -> Self {
        Self { topic: &topic.name, value: event.to_json(), headers: event_headers(event, source) }
    }

    /// A command of the service `source`, to this topic.
    pub fn command<R: Request>(command: &Command<R>, topic: &'static Topic, source: &str) -> Self {
        let correlation_id = command.correlation_id.to_string();
        let mut sent = Headers::new();
        for (name, value) in [
            (headers::CORRELATION_ID, correlation_id.as_str()),
            (headers::EVENT_SOURCE, source),
            (headers::AGGREGATE_ID, &command.aggregate_id),
            (headers::CONTENT_TYPE, headers::CONTENT_TYPE_JSON),
        ] {
            sent.append(name, Some(value.to_owned().into()));
        }
        Self { topic: &topic.name, value: command.to_json(), headers: sent }
    }
}

/// The full header set of an event that the service `source` sends.
pub fn event_headers(event: &DomainEvent, source: &str) -> Headers {
    let mut sent = Headers::new();
    for (name, value) in headers::of(event, source) {
        sent.append(name, Some(value.into()));
    }
    sent
}

/// Sends what comes by `stream` to the topics it names, which are some of `topics`; another one fails
/// the record.
pub fn send(stream: KStream<'_, String, Outgoing>, topics: &[&'static Topic]) {
    let names: Vec<&str> = topics.iter().map(|topic| &*topic.name).collect();
    let produced = Produced::with(event_keys(), OutgoingSerde.shared());
    stream.to_chosen(&names, |_, outgoing| outgoing.topic, produced);
}

struct OutgoingSerde;

impl Serde<Outgoing> for OutgoingSerde {
    fn serialize(&self, value: &Outgoing, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        into.extend_from_slice(&value.value);
        Ok(())
    }

    fn deserialize(&self, _: &[u8]) -> Result<Outgoing, SerdeError> {
        Err(SerdeError::other("what is sent is read back by its readers' own serdes"))
    }
}

//! Dead letters: records set aside in a topic of their own, unchanged but for headers that say why
//! and where. Owns names and headers; knows no log.
//!
//! Source: KIP-1034 for `__streams.errors.*`; `headwater.*` are ours.

use std::sync::Arc;

use bytes::Bytes;

use super::{StreamTask, TaskError, damaged};
use crate::processor::drops::{DeadLetter, Dropped};
use crate::record::{Headers, Place, TaskId};

/// What is said of a dead letter.
#[derive(Debug, Clone)]
pub(super) struct Why<'a> {
    pub(super) reason: &'a str,
    pub(super) node: &'a str,
    pub(super) message: &'a str,
}

/// The most that is kept of a message.
const MESSAGE_BYTES_MAX: usize = 1024;

/// How the names of internal topics end.
const INTERNAL: [&str; 4] = [
    "-repartition",
    "-changelog",
    "-subscription-registration-topic",
    "-subscription-response-topic",
];

/// The dead letter topic of records read from `topic`.
pub fn dead_letter_topic(topic: &str, application_id: &str, configured: Option<&str>) -> Arc<str> {
    let internal =
        topic.starts_with(application_id) && INTERNAL.iter().any(|suffix| topic.ends_with(suffix));
    match configured {
        Some(configured) => configured.into(),
        None if internal => format!("{application_id}.dlq").into(),
        None => format!("{topic}.dlq").into(),
    }
}

/// As much of a message as a header takes.
fn shortened(message: &str) -> &str {
    let mut cut = message.len().min(MESSAGE_BYTES_MAX);
    while !message.is_char_boundary(cut) {
        cut -= 1;
    }
    &message[..cut]
}

/// The record's headers and what is to be said.
pub(super) fn headers(original: &Headers, place: &Place, task: TaskId, why: &Why<'_>) -> Headers {
    let mut headers = original.clone();
    let mut add = |name: &str, value: String| headers.append(name, Some(Bytes::from(value)));
    add("__streams.errors.exception", why.reason.to_owned());
    add("__streams.errors.message", shortened(why.message).to_owned());
    add("__streams.errors.topic", place.partition.topic.to_string());
    add("__streams.errors.partition", place.partition.partition.to_string());
    add("__streams.errors.offset", place.offset.to_string());
    add("headwater.reason", why.reason.to_owned());
    add("headwater.node", why.node.to_owned());
    add("headwater.task", task.to_string());
    headers
}

impl StreamTask {
    /// What the topology says besides.
    pub(super) fn add_headers(
        &self,
        original: &Headers,
        place: &Place,
        why: &Why<'_>,
        headers: &mut Headers,
    ) {
        if let Some(add) = self.topology.dead_letter_headers() {
            let Why { reason, node, message } = *why;
            let message = shortened(message);
            let wall_ms = self.state.wall_ms;
            add(&DeadLetter { place, headers: original, reason, node, message, wall_ms }, headers);
        }
    }

    /// Puts the record that is being processed on its dead letter topic.
    pub(super) fn dead_letter(&mut self, input: usize, drop: &Dropped) -> Result<(), TaskError> {
        let queue = &self.queues[input];
        let raw = queue.peek().map_err(|e| damaged(self.id, queue, &e))?.expect("the head stays");
        let place = self.state.place.as_ref().expect("a record is being processed");
        let why = Why { reason: drop.reason.as_str(), node: &drop.node, message: &drop.detail };
        let original = raw.headers.decode().unwrap_or_default();
        let mut all = headers(&original, place, self.id, &why);
        self.add_headers(&original, place, &why, &mut all);
        let topic = dead_letter_topic(
            &place.partition.topic,
            &self.settings.application_id,
            self.settings.dead_letter_topic.as_deref(),
        );
        let partitions = self.settings.partition_counts.get(&topic).copied().unwrap_or(1);
        let lane = self.state.outbox.topic(&topic);
        let partition = self.id.partition % partitions;
        // Headers that are full already cannot take ours: the letter goes without the original's.
        let mut ours = headers(Headers::empty(), place, self.id, &why);
        self.add_headers(&original, place, &why, &mut ours);
        let outbox = &mut self.state.outbox;
        let time = raw.timestamp.max(0);
        let whole = outbox.append(lane, partition, time, raw.key, raw.value, &all);
        let written =
            whole.or_else(|_| outbox.append(lane, partition, time, raw.key, raw.value, &ours));
        // Nor can a record that is as large as the log takes: its place says where it lies whole.
        let written = written.or_else(|_| {
            let bytes = raw.value.map_or(0, <[u8]>::len).to_string();
            ours.append("headwater.value-bytes", Some(bytes.into()));
            outbox.append(lane, partition, time, None, None, &ours)
        });
        written.map_err(|e| TaskError::User {
            task: self.id,
            place: self.state.place.clone(),
            message: format!("dead letter cannot be written to {topic}: {e}"),
        })?;
        self.settings.metrics.dead_letter(drop.reason.as_str(), 1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_topics_share_the_applications_dead_letter_topic() {
        assert_eq!(&*dead_letter_topic("orders", "app", None), "orders.dlq");
        assert_eq!(&*dead_letter_topic("app-by-user-repartition", "app", None), "app.dlq");
        assert_eq!(&*dead_letter_topic("orders", "app", Some("bin")), "bin");
    }
}

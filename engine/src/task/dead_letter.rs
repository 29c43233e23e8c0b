//! Dead letters: records set aside in a topic of their own, unchanged but for headers that say why
//! and where. Owns names and headers; knows no log.
//!
//! Source: KIP-1034 for `__streams.errors.*`; `headwater.*` are ours.

use std::sync::Arc;

use bytes::Bytes;

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

/// The dead letter topic of records read from `topic`.
pub fn dead_letter_topic(topic: &str, application_id: &str, configured: Option<&str>) -> Arc<str> {
    let internal = topic.starts_with(application_id)
        && (topic.ends_with("-repartition") || topic.ends_with("-changelog"));
    match configured {
        Some(configured) => configured.into(),
        None if internal => format!("{application_id}.dlq").into(),
        None => format!("{topic}.dlq").into(),
    }
}

/// The record's headers and what is to be said.
pub(super) fn headers(original: &Headers, place: &Place, task: TaskId, why: &Why<'_>) -> Headers {
    let mut headers = original.clone();
    let mut message = why.message.to_owned();
    if message.len() > MESSAGE_BYTES_MAX {
        let mut cut = MESSAGE_BYTES_MAX;
        while !message.is_char_boundary(cut) {
            cut -= 1;
        }
        message.truncate(cut);
    }
    let mut add = |name: &str, value: String| headers.append(name, Some(Bytes::from(value)));
    add("__streams.errors.exception", why.reason.to_owned());
    add("__streams.errors.message", message);
    add("__streams.errors.topic", place.partition.topic.to_string());
    add("__streams.errors.partition", place.partition.partition.to_string());
    add("__streams.errors.offset", place.offset.to_string());
    add("headwater.reason", why.reason.to_owned());
    add("headwater.node", why.node.to_owned());
    add("headwater.task", task.to_string());
    headers
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

//! Topics that refused a batch for its size. librdkafka cuts batches by its own limit, not by a
//! topic's, and does not cut a refused one in two; every record of it is refused. So the transaction
//! is lost and, when it is done again, no more bytes are in flight to a partition of that topic than
//! one batch may have: a record that is refused then is too large by itself. Knows no client.
//!
//! Source: `max.message.bytes`; Kafka's Java client splits such a batch (KIP-126).

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::record::RawRecord;

/// What a batch and each of its records have besides keys, values and headers, at most.
const BATCH_OVERHEAD: usize = 80;
const RECORD_OVERHEAD: usize = 40;

/// The topics, with the bytes of one batch: 0 until the topic's limit has been asked for, which
/// sends record by record. Shared by all producers of a log.
#[derive(Debug, Default)]
pub(super) struct Sizes(Mutex<BTreeMap<Arc<str>, usize>>);

impl Sizes {
    fn topics(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that may be in flight to one partition of the topic; `None` if it refused none.
    pub(super) fn limit(&self, topic: &str) -> Option<usize> {
        self.topics().get(topic).copied()
    }

    /// A batch for the topic was refused for its size.
    pub(super) fn refused(&self, topic: &Arc<str>) {
        self.topics().insert(Arc::clone(topic), 0);
    }

    /// The topic takes batches of this size.
    pub(super) fn learn(&self, topic: &Arc<str>, batch_bytes: usize) {
        self.topics().insert(Arc::clone(topic), batch_bytes.saturating_sub(BATCH_OVERHEAD));
    }

    /// The topics whose limit is not known.
    pub(super) fn unknown(&self) -> Vec<Arc<str>> {
        let topics = self.topics();
        topics
            .iter()
            .filter(|(_, limit)| **limit == 0)
            .map(|(topic, _)| Arc::clone(topic))
            .collect()
    }
}

/// The sizes of the records in flight to one partition, oldest first.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    records: VecDeque<usize>,
    bytes: usize,
}

impl InFlight {
    /// A record of this size may follow.
    pub(super) fn has_room(&self, bytes: usize, limit: usize) -> bool {
        self.records.is_empty() || self.bytes + bytes <= limit
    }

    /// A record of this size follows.
    pub(super) fn push(&mut self, bytes: usize) {
        self.records.push_back(bytes);
        self.bytes += bytes;
    }

    /// The oldest is delivered, or will never be.
    pub(super) fn pop(&mut self) {
        self.bytes -= self.records.pop_front().unwrap_or(0);
    }

    /// The newest did not go.
    pub(super) fn pop_newest(&mut self) {
        self.bytes -= self.records.pop_back().unwrap_or(0);
    }

    /// No other record can have been in the oldest one's batch.
    pub(super) fn is_alone(&self) -> bool {
        self.records.len() == 1
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The most that a record takes in a batch.
pub(super) fn record_bytes(record: &RawRecord<'_>) -> usize {
    let field = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
    RECORD_OVERHEAD + field(record.key) + field(record.value) + record.headers.as_bytes().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_refused_a_batch_is_sent_record_by_record_until_its_limit_is_known() {
        let (sizes, out): (_, Arc<str>) = (Sizes::default(), "out".into());
        assert_eq!(sizes.limit("out"), None);
        sizes.refused(&out);
        assert_eq!((sizes.limit("out"), sizes.unknown()), (Some(0), vec![Arc::clone(&out)]));
        sizes.learn(&out, 1_000);
        assert_eq!((sizes.limit("out"), sizes.unknown()), (Some(1_000 - BATCH_OVERHEAD), vec![]));
    }

    #[test]
    fn a_record_larger_than_the_limit_goes_alone() {
        let mut flight = InFlight::default();
        assert!(flight.has_room(5_000, 100));
        flight.push(5_000);
        assert!(flight.is_alone() && !flight.has_room(1, 100));
        flight.pop();
        flight.push(60);
        assert!(flight.has_room(40, 100) && !flight.has_room(41, 100));
    }
}

//! Records that the log refused. The transaction that held one is lost; its input is processed again,
//! and this memory makes the record fail where it is written, so that the failure is its cause's.
//! Bounded; knows no log and no handler.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::record::RecordPrint;

/// So many records are remembered; the oldest is forgotten for a new one. One that is forgotten and
/// comes again costs another transaction, nothing more.
const REMEMBERED: usize = 1_024;
/// The most that is kept of the log's words.
const WHY_BYTES: usize = 256;

/// The partition does not count: a record without a key may come to another.
type Place = (Arc<str>, RecordPrint);

/// The memory of one task.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// Why each was refused.
    records: BTreeMap<Place, Arc<str>>,
    order: VecDeque<Place>,
}

impl Refusals {
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Remembers a record. False if it was known: to be refused again it must have slipped by.
    pub(crate) fn remember(&mut self, topic: &Arc<str>, print: RecordPrint, why: &str) -> bool {
        let place = (Arc::clone(topic), print);
        let mut end = why.len().min(WHY_BYTES);
        while !why.is_char_boundary(end) {
            end -= 1;
        }
        if self.records.insert(place.clone(), why[..end].into()).is_some() {
            return false;
        }
        self.order.push_back(place);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.records.remove(&oldest);
        }
        true
    }

    /// Why the log refused this record.
    pub(crate) fn why(&self, topic: &Arc<str>, print: RecordPrint) -> Option<&Arc<str>> {
        self.records.get(&(Arc::clone(topic), print))
    }

    /// Records for this topic were refused.
    pub(crate) fn concern(&self, topic: &Arc<str>) -> bool {
        self.records.keys().any(|(refused, _)| refused == topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(number: usize) -> RecordPrint {
        RecordPrint::of(Some(number.to_string().as_bytes()), None)
    }

    #[test]
    fn a_record_is_known_by_topic_and_content() {
        let (mut refusals, out): (_, Arc<str>) = (Refusals::default(), "out".into());
        assert!(refusals.remember(&out, print(7), "too large"));
        assert!(!refusals.remember(&out, print(7), "too large"), "known");
        assert_eq!(refusals.why(&out, print(7)).map(|why| &**why), Some("too large"));
        assert_eq!(refusals.why(&out, print(8)), None);
        assert!(refusals.concern(&out) && !refusals.concern(&"other".into()));
    }

    #[test]
    fn the_memory_is_bounded_and_forgets_the_oldest() {
        let (mut refusals, out): (_, Arc<str>) = (Refusals::default(), "out".into());
        for number in 0..=REMEMBERED {
            refusals.remember(&out, print(number), "too large");
        }
        assert_eq!(refusals.records.len(), REMEMBERED);
        assert!(refusals.why(&out, print(0)).is_none());
        assert!(refusals.why(&out, print(REMEMBERED)).is_some());
    }
}

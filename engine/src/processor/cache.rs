//! What a cached table holds back until a flush: which keys were touched, in which order, and what
//! they were before. Rows themselves are in the store's overlay. Knows no operator.
//!
//! Source: Kafka Streams' record cache (`CachingKeyValueStore`, KIP-63) as seen at a flush: one
//! change per touched key, from the value at the last flush to the value now, by last touch.

use std::collections::BTreeMap;

use super::error::NodeError;
use crate::record::Headers;

/// One touched key.
#[derive(Debug, Clone)]
pub(crate) struct Touched {
    touch: u64,
    /// The row as it was at the last flush, as the node encoded it.
    pub(crate) before: Option<Box<[u8]>>,
    /// The time of the last record that touched it.
    pub(crate) timestamp: i64,
    /// That record's headers.
    pub(crate) headers: Headers,
}

impl Touched {
    /// What a flush tells of the key: its old row, if that is sent, its new row, and the time. `None`
    /// if it was not there and is not there.
    pub(crate) fn change<V>(
        &self,
        now: Option<(V, i64)>,
        sends_old: bool,
        decode_row: impl FnOnce(&[u8]) -> Result<(V, i64), NodeError>,
    ) -> Result<Option<FlushedChange<V>>, NodeError> {
        let before = self.before.as_deref().map(decode_row).transpose()?;
        if now.is_none() && before.is_none() {
            return Ok(None);
        }
        let (new, timestamp) = match now {
            Some((value, timestamp)) => (Some(value), timestamp),
            None => (None, self.timestamp),
        };
        let old = before.filter(|_| sends_old).map(|(value, _)| value);
        Ok(Some((old, new, timestamp)))
    }
}

/// Old row, new row, timestamp.
pub(crate) type FlushedChange<V> = (Option<V>, Option<V>, i64);

/// The touched keys of one node, since its last flush.
#[derive(Debug, Default)]
pub(crate) struct CacheLane {
    keys: BTreeMap<Box<[u8]>, Touched>,
    touches: u64,
    undo: Vec<(Box<[u8]>, Option<Touched>)>,
}

impl CacheLane {
    /// The key has been touched since the last flush.
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.keys.contains_key(key)
    }

    /// Touches a key. `before` counts at the first touch only.
    pub(crate) fn touch(
        &mut self,
        key: &[u8],
        before: Option<Box<[u8]>>,
        timestamp: i64,
        headers: &Headers,
    ) {
        self.touches += 1;
        let earlier = self.keys.get(key).cloned();
        let before = match &earlier {
            Some(earlier) => earlier.before.clone(),
            None => before,
        };
        let headers = headers.clone();
        let touched = Touched { touch: self.touches, before, timestamp, headers };
        self.keys.insert(key.into(), touched);
        self.undo.push((key.into(), earlier));
    }

    pub(crate) fn savepoint(&mut self) {
        self.undo.clear();
    }

    pub(crate) fn undo(&mut self) {
        for (key, earlier) in self.undo.drain(..).rev() {
            match earlier {
                Some(earlier) => self.keys.insert(key, earlier),
                None => self.keys.remove(&key),
            };
        }
    }

    /// Takes every touched key, by last touch.
    pub(crate) fn take(&mut self) -> Vec<(Box<[u8]>, Touched)> {
        self.undo.clear();
        let mut taken: Vec<_> = std::mem::take(&mut self.keys).into_iter().collect();
        taken.sort_by_key(|(_, touched)| touched.touch);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_leave_by_last_touch_with_what_they_were_at_first() {
        let mut lane = CacheLane::default();
        lane.touch(b"a", Some(b"1".as_slice().into()), 1, Headers::empty());
        lane.touch(b"b", None, 2, Headers::empty());
        lane.touch(b"a", Some(b"2".as_slice().into()), 3, Headers::empty());
        let taken = lane.take();
        let seen: Vec<_> =
            taken.iter().map(|(k, t)| (&**k, t.before.as_deref(), t.timestamp)).collect();
        assert_eq!(seen, [(&b"b"[..], None, 2), (b"a", Some(&b"1"[..]), 3)]);
    }

    #[test]
    fn an_undone_touch_leaves_no_trace() {
        let mut lane = CacheLane::default();
        lane.touch(b"a", None, 1, Headers::empty());
        lane.savepoint();
        lane.touch(b"a", None, 5, Headers::empty());
        lane.touch(b"b", None, 5, Headers::empty());
        lane.undo();
        let taken = lane.take();
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].1.timestamp, 1);
    }
}

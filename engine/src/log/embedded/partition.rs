//! What is known in memory of a partition: where it starts, how far it can be read, how far it is
//! safe from a power loss, and whom to wake when that moves. Must not know how offsets are given out
//! or where rows lie.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use headwater_state::log_table::LogPartition;

use crate::actor::Bell;
use crate::record::TopicPartition;

/// How far a reader may look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Horizon {
    /// Everything written.
    Written,
    /// What a power loss cannot take back.
    Synced,
}

/// One partition of the log.
#[derive(Debug)]
pub(super) struct Partition {
    /// Its name.
    pub(super) name: TopicPartition,
    /// Its rows.
    pub(super) rows: LogPartition,
    /// Its records are found by key, so each must have one.
    pub(super) keyed: bool,
    state: Mutex<State>,
}

/// The offsets of a partition: `start <= synced <= end`, except that a start moved by
/// `delete_records` may pass `synced` until the next sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// The first offset that can be read.
    pub(super) start: i64,
    /// The offset after the last record written.
    pub(super) end: i64,
    /// The offset after the last record synced.
    pub(super) synced: i64,
}

impl Bounds {
    /// Where reading ends.
    pub(super) fn end_within(&self, horizon: Horizon) -> i64 {
        match horizon {
            Horizon::Written => self.end,
            Horizon::Synced => self.synced,
        }
    }
}

#[derive(Debug)]
struct State {
    bounds: Bounds,
    written: Waiting,
    synced: Waiting,
}

/// Readers that found nothing, by their number.
type Waiting = Vec<(u64, Bell)>;

impl Partition {
    /// A partition as it was found on disk, all of it synced.
    pub(super) fn new(rows: LogPartition, keyed: bool, start: i64, end: i64) -> Self {
        let name = TopicPartition::new(Arc::clone(&rows.topic), rows.partition);
        let bounds = Bounds { start, end, synced: end };
        let state = State { bounds, written: Waiting::new(), synced: Waiting::new() };
        Self { name, rows, keyed, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it starts and ends now.
    pub(super) fn bounds(&self) -> Bounds {
        self.state().bounds
    }

    /// Where it starts and ends now; if nothing lies at or after `position`, the reader's bell will
    /// ring when something does.
    pub(super) fn look(&self, position: i64, horizon: Horizon, reader: u64, bell: &Bell) -> Bounds {
        let mut state = self.state();
        let bounds = state.bounds;
        if position >= bounds.end_within(horizon) {
            let waiting = match horizon {
                Horizon::Written => &mut state.written,
                Horizon::Synced => &mut state.synced,
            };
            if waiting.iter().all(|(known, _)| *known != reader) {
                waiting.push((reader, bell.clone()));
            }
        }
        bounds
    }

    /// A reader is gone.
    pub(super) fn forget(&self, reader: u64) {
        let mut state = self.state();
        state.written.retain(|(known, _)| *known != reader);
        state.synced.retain(|(known, _)| *known != reader);
    }

    /// Records up to `end` are written. The caller rings the bells, holding no lock.
    #[must_use]
    pub(super) fn publish_written(&self, end: i64) -> Waiting {
        let mut state = self.state();
        assert!(end >= state.bounds.end, "the end of {} went back to {end}", self.name);
        state.bounds.end = end;
        std::mem::take(&mut state.written)
    }

    /// Records up to `end` are synced. The caller rings the bells, holding no lock.
    #[must_use]
    pub(super) fn publish_synced(&self, end: i64) -> Waiting {
        let mut state = self.state();
        assert!(end <= state.bounds.end, "{} was synced past its end to {end}", self.name);
        state.bounds.synced = state.bounds.synced.max(end);
        std::mem::take(&mut state.synced)
    }

    /// The records before `start` are deleted.
    pub(super) fn publish_start(&self, start: i64) {
        let mut state = self.state();
        state.bounds.start = state.bounds.start.max(start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> Partition {
        Partition::new(
            LogPartition { topic: Arc::from("t"), topic_id: 1, partition: 0 },
            false,
            0,
            5,
        )
    }

    #[test]
    fn a_reader_at_the_end_waits_once_however_often_it_looks() {
        let partition = partition();
        let bell = Bell::new();
        for _ in 0..3 {
            let bounds = partition.look(5, Horizon::Written, 1, &bell);
            assert_eq!(bounds, Bounds { start: 0, end: 5, synced: 5 });
        }
        assert!(partition.publish_synced(5).is_empty());
        assert_eq!(partition.publish_written(6).len(), 1);
        assert!(partition.publish_written(7).is_empty());
    }

    #[test]
    fn a_reader_of_what_is_synced_waits_for_the_sync() {
        let partition = partition();
        let bell = Bell::new();
        partition.look(5, Horizon::Synced, 1, &bell);
        assert!(partition.publish_written(6).is_empty());
        assert_eq!(partition.bounds().end_within(Horizon::Synced), 5);
        assert_eq!(partition.publish_synced(6).len(), 1);
        assert_eq!(partition.bounds().end_within(Horizon::Synced), 6);
    }

    #[test]
    fn a_reader_that_is_gone_is_not_woken() {
        let partition = partition();
        partition.look(5, Horizon::Written, 1, &Bell::new());
        partition.forget(1);
        assert!(partition.publish_written(6).is_empty());
    }
}

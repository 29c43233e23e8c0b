//! Timers: for each key and name one time at which its processor is called back. Own (de)serialising
//! of keys and how soon the next one can be due; know nothing of what happens then.
//!
//! A row is `key, name -> time` with a second one in the order of time beside it (see
//! [`headwater_state::store::Timers`]); the changelog record is key and name, and the time.

use std::fmt;

use headwater_state::StateError;
use headwater_state::store::{StorePartition, TimerPosition, TimerRow, Timers};

use super::changelog::RestoreTarget;
use super::error::NodeError;
use super::typed::{Keys, Opening};
use super::{StateStore, StoreHandle};

/// Which clock the times of a timer store are of.
///
/// Source: the word is Apache Beam's (`TimeDomain`); as there, it is part of a timer's declaration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimeDomain {
    /// The task's stream time: the largest timestamp it has processed. Stands still without records.
    StreamTime,
    /// The wall clock.
    WallClockTime,
}

/// The handle of a timer store.
pub type TimerHandle<K> = StoreHandle<TimerStore<K>>;

/// The timers of one partition: for each key and name one time in milliseconds. Like everything in
/// a store, a timer that is set or cancelled is so with the record's transaction, or not at all.
///
/// See [`Processor::on_timer`](crate::processor::Processor::on_timer) for when one fires.
///
/// Source: Flink's `TimerService` on the keyed process function; names and replacement are Beam's
/// (`TimerMap`), because a timer that is found by its name can be moved and cancelled without its
/// time being kept elsewhere. Kafka Streams has punctuation only, whose schedules are not by key.
pub struct TimerStore<K> {
    bytes: Timers,
    keys: Keys<K>,
    domain: TimeDomain,
    /// No timer is set for a time before this. Never too late; too early until it is asked for.
    earliest: i64,
}

/// A timer that is due.
#[derive(Debug)]
pub(crate) struct DueTimer<K> {
    pub(crate) key: K,
    pub(crate) row: TimerRow,
}

impl<K: 'static> TimerStore<K> {
    /// Its values are times, which need no serde.
    pub(super) fn new<V>(opening: Opening<K, V>, domain: TimeDomain) -> Self {
        let Opening { name, state, key, .. } = opening;
        Self { bytes: Timers::new(state), keys: Keys::new(name, key), domain, earliest: 0 }
    }

    /// Sets the key's timer of this name to a time in milliseconds. If it is set already it moves
    /// there, also if that is later. A time that is over makes it due at once.
    ///
    /// # Errors
    /// The time is negative, the key cannot be serialised, or the state failed. Pass it on with `?`.
    pub fn set(&mut self, key: &K, name: &str, time_ms: i64) -> Result<(), NodeError> {
        if time_ms < 0 {
            let store = self.keys.store();
            return Err(NodeError::message(format!(
                "timer `{name}` of store `{store}` cannot be set to {time_ms} ms: times are not \
                 negative"
            )));
        }
        self.bytes.set(self.keys.encode(key)?, name, time_ms)?;
        self.earliest = self.earliest.min(time_ms);
        Ok(())
    }

    /// Takes the key's timer of this name back, if it is set.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn cancel(&mut self, key: &K, name: &str) -> Result<(), NodeError> {
        Ok(self.bytes.cancel(self.keys.encode(key)?, name)?)
    }

    /// When the key's timer of this name is due; `None` if it is not set.
    ///
    /// # Errors
    /// The key cannot be serialised, or the state failed. Pass it on with `?`.
    pub fn get(&mut self, key: &K, name: &str) -> Result<Option<i64>, NodeError> {
        Ok(self.bytes.get(self.keys.encode(key)?, name)?)
    }

    /// How many timers are set in this partition.
    ///
    /// # Errors
    /// The state failed. Pass it on with `?`.
    pub fn count(&self) -> Result<u64, NodeError> {
        Ok(self.bytes.count()?)
    }

    /// Which clock the times are of.
    pub fn domain(&self) -> TimeDomain {
        self.domain
    }

    /// Forgets how soon a timer can be due: the state is not what it was.
    pub(crate) fn forget_earliest(&mut self) {
        self.earliest = 0;
    }

    /// Takes the first timer out that is due by `to_ms` and behind a place; else looks when the
    /// next one is due, wherever that is.
    pub(crate) fn take_due(
        &mut self,
        after: Option<&TimerPosition>,
        to_ms: i64,
    ) -> Result<Option<DueTimer<K>>, NodeError> {
        let Some(row) = self.bytes.first_due(after, to_ms)? else {
            let first = self.bytes.first_due(None, i64::MAX)?;
            self.earliest = first.map_or(i64::MAX, |row| row.time_ms);
            return Ok(None);
        };
        self.bytes.cancel(&row.key, &row.name)?;
        Ok(Some(DueTimer { key: self.keys.decode(&row.key)?, row }))
    }
}

impl<K> fmt::Debug for TimerStore<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimerStore({})", self.keys.store())
    }
}

impl<K: 'static> StateStore for TimerStore<K> {
    fn name(&self) -> &str {
        self.keys.store()
    }

    fn state(&self) -> &StorePartition {
        self.bytes.state()
    }

    fn state_mut(&mut self) -> &mut StorePartition {
        self.bytes.state_mut()
    }

    fn no_timer_before(&self) -> Option<i64> {
        Some(self.earliest)
    }
}

impl RestoreTarget for Timers {
    fn state(&self) -> &StorePartition {
        self.state()
    }

    fn state_mut(&mut self) -> &mut StorePartition {
        self.state_mut()
    }

    fn apply(&mut self, key: &[u8], value: Option<&[u8]>, _: i64) -> Result<(), StateError> {
        self.apply_changelog(key, value)
    }
}

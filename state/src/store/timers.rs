//! Timers over bytes: one time for each key and name, found by both and taken out by time.
//!
//! A [`Buffer`] whose rows are named by key and name (see [`timer`](crate::layout::timer)) and hold
//! nothing but their time. So those that are due are a prefix range, and to replace or cancel one is
//! a look-up. Must not know which clock the times are of, nor what happens when one is due.

use super::{Buffer, StorePartition};
use crate::error::{Result, StateError};
use crate::layout::timer;

/// The timers of one partition.
#[derive(Debug)]
pub struct Timers {
    buffer: Buffer,
}

/// One timer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimerRow {
    /// When it is due, in milliseconds.
    pub time_ms: i64,
    /// Its key.
    pub key: Vec<u8>,
    /// Its name, of its own among the key's timers.
    pub name: String,
}

/// A place in the order of timers: by time, then key, then name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimerPosition {
    time_ms: i64,
    timer: Vec<u8>,
}

impl TimerRow {
    /// Where it stands in the order of timers.
    pub fn position(&self) -> TimerPosition {
        TimerPosition { time_ms: self.time_ms, timer: timer::encode(&self.key, &self.name) }
    }
}

impl Timers {
    /// Timers over this partition.
    pub fn new(state: StorePartition) -> Self {
        Self { buffer: Buffer::new(state) }
    }

    /// The partition below: savepoints, commit, positions.
    pub fn state(&self) -> &StorePartition {
        self.buffer.state()
    }

    /// The partition below, to be changed.
    pub fn state_mut(&mut self) -> &mut StorePartition {
        self.buffer.state_mut()
    }

    /// When the key's timer of this name is due; `None` if it is not set.
    ///
    /// # Errors
    /// `Corruption`, or the database's own.
    pub fn get(&self, key: &[u8], name: &str) -> Result<Option<i64>> {
        Ok(self.buffer.get(&timer::encode(key, name))?.map(|(time, _)| time))
    }

    /// Sets the key's timer of this name; one that is set already moves.
    ///
    /// # Errors
    /// `Invalid` when key and name are too long or the time negative; else as [`get`](Self::get).
    pub fn set(&mut self, key: &[u8], name: &str, time_ms: i64) -> Result<()> {
        self.buffer.put(&timer::encode(key, name), time_ms, &[])
    }

    /// Takes the key's timer of this name out, if it is set.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn cancel(&mut self, key: &[u8], name: &str) -> Result<()> {
        self.buffer.remove(&timer::encode(key, name))
    }

    /// The first timer behind a place, or of all, that is due by `to_ms`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn first_due(&self, after: Option<&TimerPosition>, to_ms: i64) -> Result<Option<TimerRow>> {
        let after = after.map(|place| (place.time_ms, &*place.timer));
        let Some(held) = self.buffer.first_after(after, to_ms)? else { return Ok(None) };
        let (key, name) = timer::decode(&held.key)?;
        Ok(Some(TimerRow { time_ms: held.time_ms, key, name: name.to_owned() }))
    }

    /// How many timers are set.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn count(&self) -> Result<u64> {
        Ok(self.buffer.totals()?.rows)
    }

    /// Applies a changelog record: a timer and its time (i64 BE), or none.
    ///
    /// # Errors
    /// `Corruption` when it is none of a timer's; else as [`get`](Self::get).
    pub fn apply_changelog(&mut self, timer: &[u8], time: Option<&[u8]>) -> Result<()> {
        let Some(time) = time else { return self.buffer.remove(timer) };
        timer::decode(timer)?;
        let time = <[u8; 8]>::try_from(time).map_err(|_| {
            let what = format!("{} bytes are no time", time.len());
            StateError::corrupt("the changelog of timers", what)
        })?;
        self.buffer.put(timer, i64::from_be_bytes(time), &[])
    }
}

//! A buffer over bytes: a value by key, each with a time, found by key and taken out by time.
//!
//! What waits (suppressed changes, timers) lies here. Rows: `0x00 | key -> time (i64 BE) | value`, a
//! derived row `time | key` for each (see [`time_first`](crate::layout::time_first)), and under
//! `0x01` how many rows there are and their bytes, so that a bound needs no scan. Owns nothing but
//! bytes: every write goes through the overlay. Must not know what is held.

use super::{Rows, StorePartition};
use crate::database::Direction;
use crate::error::{Result, StateError};
use crate::layout::{check_key, time_first};

const ROW: u8 = 0x00;
const TOTALS: &[u8] = &[0x01];
const TIME_BYTES: usize = 8;

/// How much a buffer holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BufferTotals {
    /// Rows.
    pub rows: u64,
    /// Bytes of their keys, times and values.
    pub bytes: u64,
}

/// One row of a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its time in milliseconds.
    pub time_ms: i64,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// A buffer of one partition.
#[derive(Debug)]
pub struct Buffer {
    state: StorePartition,
}

impl Buffer {
    /// A buffer over this partition.
    pub fn new(state: StorePartition) -> Self {
        Self { state }
    }

    /// The partition below: savepoints, commit, positions.
    pub fn state(&self) -> &StorePartition {
        &self.state
    }

    /// The partition below, to be changed.
    pub fn state_mut(&mut self) -> &mut StorePartition {
        &mut self.state
    }

    /// The time and value of a key.
    ///
    /// # Errors
    /// `Corruption`, or the database's own.
    pub fn get(&self, key: &[u8]) -> Result<Option<(i64, Vec<u8>)>> {
        let Some(stored) = self.state.get(&row_key(key))? else { return Ok(None) };
        let (time, value) = decode_row(&stored)?;
        Ok(Some((time, value.to_vec())))
    }

    /// Sets a key's time and value.
    ///
    /// # Errors
    /// `Invalid` when the key is too long or the time negative; else as [`get`](Self::get).
    pub fn put(&mut self, key: &[u8], time_ms: i64, value: &[u8]) -> Result<()> {
        check_key(key)?;
        if time_ms < 0 {
            return Err(StateError::Invalid {
                what: format!("a time of {time_ms} ms in a buffer is negative"),
            });
        }
        let mut totals = self.totals()?;
        if let Some((earlier, old)) = self.get(key)? {
            totals.rows -= 1;
            totals.bytes -= row_bytes(key, &old);
            if earlier != time_ms {
                self.state.delete(&time_first::key(earlier, key))?;
            }
        }
        totals.rows += 1;
        totals.bytes += row_bytes(key, value);
        self.state.put(&row_key(key), &[&time_ms.to_be_bytes(), value].concat())?;
        self.state.put(&time_first::key(time_ms, key), &[])?;
        self.put_totals(totals)
    }

    /// Takes a key out.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn remove(&mut self, key: &[u8]) -> Result<()> {
        let Some((time, value)) = self.get(key)? else { return Ok(()) };
        let mut totals = self.totals()?;
        totals.rows -= 1;
        totals.bytes -= row_bytes(key, &value);
        self.state.delete(&row_key(key))?;
        self.state.delete(&time_first::key(time, key))?;
        self.put_totals(totals)
    }

    /// The row of the least time, then key, if that time is not after `to_ms`.
    ///
    /// # Errors
    /// `Corruption`, or the database's own.
    pub fn first_up_to(&self, to_ms: i64) -> Result<Option<Held>> {
        self.first_after(None, to_ms)
    }

    /// As [`first_up_to`](Self::first_up_to), of the rows behind this time and key.
    ///
    /// # Errors
    /// As [`first_up_to`](Self::first_up_to).
    pub fn first_after(&self, after: Option<(i64, &[u8])>, to_ms: i64) -> Result<Option<Held>> {
        let mut due = match after {
            None => self.state.derived_up_to(to_ms)?,
            // An empty range would be no range to the database.
            Some((time, _)) if time > to_ms => return Ok(None),
            Some((time, key)) => {
                let range = time_first::after_up_to(time, key, to_ms);
                self.state.scan(range, Direction::Forward)?
            }
        };
        if !due.advance()? {
            return Ok(None);
        }
        let (time_ms, key) = time_first::decode(due.key())?;
        let (_, value) = self.get(key)?.ok_or_else(|| {
            StateError::corrupt("a buffer", "a row by time has no row by key".to_owned())
        })?;
        Ok(Some(Held { time_ms, key: key.to_vec(), value }))
    }

    /// How much there is.
    ///
    /// # Errors
    /// `Corruption`, or the database's own.
    pub fn totals(&self) -> Result<BufferTotals> {
        let Some(stored) = self.state.get(TOTALS)? else { return Ok(BufferTotals::default()) };
        let (words, rest) = stored.as_chunks::<8>();
        match (words, rest) {
            ([rows, bytes], []) => Ok(BufferTotals {
                rows: u64::from_be_bytes(*rows),
                bytes: u64::from_be_bytes(*bytes),
            }),
            _ => Err(StateError::corrupt("a buffer's totals", "they are not two numbers")),
        }
    }

    fn put_totals(&mut self, totals: BufferTotals) -> Result<()> {
        let row = [totals.rows.to_be_bytes(), totals.bytes.to_be_bytes()].concat();
        self.state.put(TOTALS, &row)
    }
}

/// The key of a row, if a store key is one: not what is derived or counted.
pub fn decode_row_key(store_key: &[u8]) -> Option<&[u8]> {
    store_key.strip_prefix(&[ROW])
}

/// The time and value of a stored row.
///
/// # Errors
/// `Corruption` when it is too short.
pub fn decode_row(stored: &[u8]) -> Result<(i64, &[u8])> {
    let (time, value) = stored
        .split_first_chunk::<TIME_BYTES>()
        .ok_or_else(|| StateError::corrupt("a row of a buffer", "it has no time"))?;
    Ok((i64::from_be_bytes(*time), value))
}

fn row_key(key: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(1 + key.len());
    row.push(ROW);
    row.extend_from_slice(key);
    row
}

fn row_bytes(key: &[u8], value: &[u8]) -> u64 {
    u64::try_from(TIME_BYTES + key.len() + value.len()).expect("a length fits 64 bits")
}

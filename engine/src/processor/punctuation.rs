//! Punctuation: schedules of processors on stream time or wall-clock time. Owns when one is due and
//! when it is next due; knows nothing of what it does.
//!
//! A schedule has a next time: 0 for stream time and now + interval for the wall clock, or its
//! `start`. When the clock has reached it the punctuation runs **once**, with the *current* clock as
//! its time, and the next time becomes the first `next + k * interval` greater than the clock: missed
//! ticks collapse into one and later ticks stay on the grid (Kafka Streams' `PunctuationQueue`).
//! All arithmetic saturates: a hostile timestamp can neither overflow nor stall
//! (compare CVE-2026-111496).

use crate::time::NO_TIMESTAMP;

/// Which clock a punctuation follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PunctuationType {
    /// The task's stream time: the largest timestamp it has processed. Stands still without records.
    StreamTime,
    /// The wall clock.
    WallClockTime,
}

/// One schedule of one processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PunctuationId(pub(crate) usize);

/// A punctuation that is due.
#[derive(Debug, Clone, Copy)]
pub struct Punctuation<'p> {
    /// Which schedule.
    pub id: PunctuationId,
    /// The clock it follows, now: milliseconds.
    pub time: i64,
    /// Where the last call stopped, if it answered [`Punctuated::More`].
    pub cursor: Option<&'p [u8]>,
}

/// How a punctuation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Punctuated {
    /// Finished until it is next due.
    Done,
    /// There is more to do: call again with this cursor. A commit may fall between; after a rewind
    /// or restart the punctuation starts anew.
    More(Vec<u8>),
}

/// One schedule's state.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    pub(crate) node: usize,
    pub(crate) name: String,
    pub(crate) kind: PunctuationType,
    pub(crate) interval: i64,
    pub(crate) next: i64,
    pub(crate) cancelled: bool,
    pub(crate) cursor: Option<Vec<u8>>,
}

impl Schedule {
    pub(crate) fn first(kind: PunctuationType, interval: i64, start: Option<i64>, now: i64) -> i64 {
        match (kind, start) {
            (PunctuationType::StreamTime, start) => start.unwrap_or(0),
            (PunctuationType::WallClockTime, None) => now.saturating_add(interval),
            (PunctuationType::WallClockTime, Some(start)) if start > now => start,
            (PunctuationType::WallClockTime, Some(start)) => next_after(start, interval, now),
        }
    }

    pub(crate) fn is_due(&self, kind: PunctuationType, clock: i64) -> bool {
        self.kind == kind && !self.cancelled && clock != NO_TIMESTAMP && self.next <= clock
    }

    pub(crate) fn advance(&mut self, clock: i64) {
        self.next = next_after(self.next, self.interval, clock);
    }
}

/// The first `next + k * interval`, k >= 1, greater than `clock`; `i64::MAX` if there is none.
fn next_after(next: i64, interval: i64, clock: i64) -> i64 {
    let (next, interval, clock) = (i128::from(next), i128::from(interval), i128::from(clock));
    let missed = ((clock - next).max(0) / interval) + 1;
    i64::try_from(next + missed * interval).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missed_ticks_collapse_into_one_and_stay_on_the_grid() {
        assert_eq!(next_after(0, 10, 0), 10);
        assert_eq!(next_after(10, 10, 47), 50);
        assert_eq!(next_after(5, 10, 25), 35);
    }

    #[test]
    fn the_largest_timestamp_neither_overflows_nor_stalls() {
        assert_eq!(next_after(0, 1, i64::MAX), i64::MAX);
        assert_eq!(next_after(i64::MAX - 1, 10, i64::MAX), i64::MAX);
    }

    #[test]
    fn a_wall_clock_start_in_the_past_moves_to_its_grid() {
        assert_eq!(Schedule::first(PunctuationType::WallClockTime, 10, Some(3), 25), 33);
        assert_eq!(Schedule::first(PunctuationType::WallClockTime, 10, Some(30), 25), 30);
        assert_eq!(Schedule::first(PunctuationType::WallClockTime, 10, None, 25), 35);
    }
}

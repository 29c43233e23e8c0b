//! Processing latency: from a record's entry into its task's queue to the end of its operators,
//! waits included. Measured by fetched piece, not by record: every record of a piece counts as
//! finished when the last of it is, so the figure errs upwards.

use std::collections::VecDeque;
use std::time::Duration;

use prometheus::Histogram;

use crate::log::Fetched;
use crate::time::Now;

#[derive(Debug)]
struct Piece {
    /// The offset after its last record.
    end: i64,
    records: u32,
    entered: Duration,
}

/// The pieces that wait in one partition queue.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    pieces: VecDeque<Piece>,
}

impl Latency {
    /// Fetched records enter the queue.
    pub(crate) fn enter(&mut self, fetched: &Fetched, now: Now) {
        for batch in &fetched.batches {
            self.pieces.push_back(Piece {
                end: batch.next_offset(),
                records: batch.count(),
                entered: now.monotonic,
            });
        }
    }

    /// Every record before `position` has left its operators.
    pub(crate) fn leave(&mut self, position: i64, now: Now, seconds: &Histogram) {
        while let Some(piece) = self.pieces.front().filter(|piece| piece.end <= position) {
            let latency = now.monotonic.saturating_sub(piece.entered).as_secs_f64();
            for _ in 0..piece.records {
                seconds.observe(latency);
            }
            self.pieces.pop_front();
        }
    }

    /// The queue was dropped.
    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
    }
}

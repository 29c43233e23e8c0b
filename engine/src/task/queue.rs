//! One input partition of a task: fetched batches wait here, undecoded, until the task takes their
//! records. Owns positions and the head's timestamp; knows no serde and no reader.

use std::collections::VecDeque;
use std::time::Duration;

use crate::record::TopicPartition;
use crate::record::batch::{BatchCursor, BatchError, RawRecord};
use crate::record::fetched::Fetched;
use crate::time::NO_TIMESTAMP;

#[derive(Debug)]
pub(super) struct PartitionQueue {
    partition: TopicPartition,
    /// The source node that reads this topic.
    pub(super) node: usize,
    batches: VecDeque<Waiting>,
    bytes: usize,
    /// Where the reader stands.
    position: i64,
    /// The offset after the last processed record.
    processed: i64,
    /// The reader found nothing more.
    at_end: bool,
    /// The greatest timestamp processed.
    pub(super) partition_time: i64,
    /// The head's timestamp, once it was asked for; an error is handled when the head is taken.
    pub(super) head_time: Option<Result<i64, String>>,
    /// When the queue became non-empty or was last taken from, as a count.
    pub(super) turn: u64,
}

#[derive(Debug)]
struct Waiting {
    cursor: BatchCursor,
    since: Duration,
}

impl PartitionQueue {
    pub(super) fn new(partition: TopicPartition, node: usize) -> Self {
        Self {
            partition,
            node,
            batches: VecDeque::new(),
            bytes: 0,
            position: 0,
            processed: 0,
            at_end: false,
            partition_time: NO_TIMESTAMP,
            head_time: None,
            turn: 0,
        }
    }

    pub(super) fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// Begins anew at an offset.
    pub(super) fn reset(&mut self, offset: i64, partition_time: i64) {
        self.batches.clear();
        self.bytes = 0;
        self.position = offset;
        self.processed = offset;
        self.at_end = false;
        self.partition_time = partition_time;
        self.head_time = None;
    }

    pub(super) fn push(&mut self, fetched: Fetched, now: Duration, turn: u64) {
        let was_empty = self.is_empty();
        for batch in fetched.batches {
            debug_assert!(batch.base_offset() >= self.position, "offsets never go back");
            self.bytes += batch.bytes().len();
            if batch.count() > 0 {
                self.batches.push_back(Waiting { cursor: batch.into_cursor(), since: now });
            }
        }
        debug_assert!(fetched.position >= self.position, "positions never go back");
        self.position = fetched.position;
        self.at_end = fetched.at_end;
        if was_empty && !self.is_empty() {
            self.turn = turn;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Empty, but the log may have more that has not been fetched.
    pub(super) fn is_waiting_for_fetch(&self) -> bool {
        self.is_empty() && !self.at_end
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The head, not taken.
    pub(super) fn peek(&self) -> Result<Option<RawRecord<'_>>, BatchError> {
        match self.batches.front() {
            Some(waiting) => waiting.cursor.peek(),
            None => Ok(None),
        }
    }

    /// Since when the head has waited here.
    pub(super) fn head_since(&self) -> Option<Duration> {
        self.batches.front().map(|waiting| waiting.since)
    }

    /// The head was processed.
    pub(super) fn advance(&mut self, offset: i64) -> Result<(), BatchError> {
        debug_assert!(offset >= self.processed, "offsets never go back");
        if let Some(front) = self.batches.front_mut() {
            front.cursor.next()?;
            if front.cursor.remaining() == 0 {
                self.bytes -= front.cursor.batch().bytes().len();
                self.batches.pop_front();
            }
        }
        self.processed = offset + 1;
        self.head_time = None;
        Ok(())
    }

    /// The next offset to read after a restart: behind the last processed record, and behind what
    /// the reader skipped if nothing waits.
    pub(super) fn next_offset(&self) -> i64 {
        if self.is_empty() { self.position.max(self.processed) } else { self.processed }
    }
}

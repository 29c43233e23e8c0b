//! Reads one partition for one task from a shared consumer: takes what waits in the partition's
//! queue and encodes it into one batch. Owns the position; knows nothing of other partitions.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message};

use super::Shared;
use super::classify;
use super::context::Voice;
use super::fetcher::{Fetcher, Signals};
use crate::actor::{Bell, Poll, Ticket};
use crate::error::ErrorClass;
use crate::log::{Fetched, LogError, LogResult, PartitionReader};
use crate::record::batch::{RecordBatch, RecordBatchBuilder};
use crate::record::{Headers, TopicPartition};
use crate::time::NO_TIMESTAMP;

/// The answer to where a partition begins and ends.
pub(super) type Ends = Ticket<LogResult<(i64, i64)>>;

/// See the [module](self).
pub(super) struct KafkaReader {
    partition: TopicPartition,
    /// There until it is dropped.
    queue: Option<PartitionQueue<Voice>>,
    fetcher: Arc<Fetcher>,
    signals: Arc<Signals>,
    shared: Arc<Shared>,
    bell: Bell,
    position: i64,
    at_end: bool,
    /// The consumer has not gone to `position` yet.
    seeking: bool,
    /// The position is not in the log; the ends are asked for, to name them.
    outside: Option<Ends>,
}

impl KafkaReader {
    /// Assigns the partition.
    ///
    /// # Errors
    /// `Fatal`: it cannot be assigned.
    pub(super) fn open(
        shared: Arc<Shared>,
        fetcher: Arc<Fetcher>,
        partition: &TopicPartition,
        offset: i64,
        bell: Bell,
    ) -> LogResult<Self> {
        let (queue, signals) = fetcher.assign(partition, offset, &bell)?;
        Ok(Self {
            partition: partition.clone(),
            queue: Some(queue),
            fetcher,
            signals,
            shared,
            bell,
            position: offset,
            at_end: false,
            seeking: false,
            outside: None,
        })
    }

    fn try_seek(&mut self) {
        self.seeking = !self.fetcher.seek(&self.partition, self.position);
    }

    /// The error of a position outside the log, once both ends are known.
    fn judge_outside(&mut self) -> LogResult<()> {
        let Some(ends) = &self.outside else { return Ok(()) };
        let known = match ends.poll() {
            Poll::Pending => return Ok(()),
            Poll::Done(Ok((first, end))) => format!("the log holds offsets {first} to {end}"),
            Poll::Done(Err(error)) => format!("its ends are not known ({error})"),
            Poll::Abandoned => "its ends are not known".to_owned(),
        };
        let outside = classify::from_code("read", RDKafkaErrorCode::OffsetOutOfRange);
        let message = format!("position {}, but {known}: {}", self.position, outside.message);
        Err(LogError { message, ..outside }.on(&self.partition))
    }

    fn fail(&mut self, error: &KafkaError) -> LogResult<()> {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                self.outside = Some(self.shared.ends(&self.partition, self.bell.clone()));
                Ok(())
            }
            _ => {
                let error = classify::from_kafka("read", error).on(&self.partition);
                if error.class == ErrorClass::Retry {
                    // The client tries again by itself.
                    tracing::debug!(%error, "fetching goes on");
                    return Ok(());
                }
                // Nobody can pass over what cannot be read, whoever is to blame for it.
                Err(LogError { class: ErrorClass::Fatal, ..error })
            }
        }
    }
}

/// One batch in the making.
struct Taken {
    builder: RecordBatchBuilder,
    base: Option<i64>,
}

impl PartitionReader for KafkaReader {
    fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    fn take(&mut self, max_bytes: usize) -> LogResult<Fetched> {
        self.judge_outside()?;
        if self.signals.astray.swap(false, Ordering::AcqRel) {
            self.seeking = true;
        }
        if self.seeking {
            self.try_seek();
            if self.seeking {
                return Ok(Fetched { batches: Vec::new(), position: self.position, at_end: false });
            }
        }
        let queue = self.queue.take().expect("taken only while records are, and when dropped");
        let before = self.position;
        let batches = self.drain(&queue, max_bytes).and_then(|taken| self.encode(taken));
        self.queue = Some(queue);
        if batches.is_err() {
            // What was taken along with the error is not given out, so it is read again.
            self.position = before;
            self.seeking = true;
        }
        let batches = batches?;
        self.judge_outside()?;
        Ok(Fetched { batches, position: self.position, at_end: self.at_end })
    }

    fn seek(&mut self, offset: i64) {
        self.position = offset;
        self.at_end = false;
        self.outside = None;
        self.try_seek();
    }
}

impl KafkaReader {
    /// Takes records until `max_bytes` are encoded or the queue is empty.
    fn drain(&mut self, queue: &PartitionQueue<Voice>, max_bytes: usize) -> LogResult<Taken> {
        let mut taken = Taken { builder: RecordBatchBuilder::new(), base: None };
        while taken.builder.is_empty() || taken.builder.len() < max_bytes {
            match queue.poll(Duration::ZERO) {
                None => break,
                Some(Ok(message)) => self.add(&message, &mut taken)?,
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    self.at_end = true;
                    // Control records and aborted ones moved the consumer, but gave no record.
                    if let Some(position) = self.fetcher.position(&self.partition) {
                        self.position = self.position.max(position);
                    }
                }
                Some(Err(error)) => self.fail(&error)?,
            }
        }
        Ok(taken)
    }

    fn add(&mut self, message: &BorrowedMessage<'_>, taken: &mut Taken) -> LogResult<()> {
        let offset = message.offset();
        if offset < self.position {
            return Ok(());
        }
        let base = *taken.base.get_or_insert(offset);
        let delta = u64::try_from(offset - base).expect("offsets of a partition grow");
        let timestamp = message.timestamp().to_millis().unwrap_or(NO_TIMESTAMP);
        let headers = self.headers(message);
        let headers = headers.as_ref().unwrap_or(Headers::empty());
        taken
            .builder
            .append_at(delta, timestamp, message.key(), message.payload(), headers)
            .map_err(|error| self.damaged(&format!("offset {offset}: {error}")))?;
        self.position = offset + 1;
        self.at_end = false;
        Ok(())
    }

    fn encode(&self, taken: Taken) -> LogResult<Vec<RecordBatch>> {
        let Some(base) = taken.base else { return Ok(Vec::new()) };
        let batch = RecordBatch::new(base, taken.builder.finish());
        Ok(vec![batch.map_err(|error| self.damaged(&error.to_string()))?])
    }

    fn headers(&self, message: &BorrowedMessage<'_>) -> Option<Headers> {
        let native = message.headers().filter(|native| native.count() > 0)?;
        let mut headers = Headers::new();
        for index in 0..native.count() {
            // rdkafka panics on a name that is no text; such a header is told apart, not fatal.
            match catch_unwind(AssertUnwindSafe(|| native.get(index))) {
                Ok(header) => {
                    headers.append(header.key, header.value.map(Bytes::copy_from_slice));
                }
                Err(_panic) => {
                    let (partition, offset) = (&self.partition, message.offset());
                    tracing::warn!(%partition, offset, index, "header name is not UTF-8");
                    headers.append("\u{fffd}", None);
                }
            }
        }
        Some(headers)
    }

    fn damaged(&self, why: &str) -> LogError {
        LogError::new(ErrorClass::Fatal, "read", why).on(&self.partition)
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        self.fetcher.unassign(&self.partition);
        drop(self.queue.take());
    }
}

//! Reads one partition for one task from a shared consumer: takes what waits in the partition's
//! queue and encodes it into one batch. Owns the position; knows nothing of other partitions.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rdkafka::error::RDKafkaErrorCode;

use super::Shared;
use super::classify;
use super::fetcher::{Fetcher, PartitionInput, Signals};
use super::ffi::{Fetch, Message};
use crate::actor::{Bell, Poll, Ticket};
use crate::error::ErrorClass;
use crate::log::{Fetched, LogError, LogResult, PartitionReader};
use crate::record::batch::{BatchError, RecordBatch, RecordBatchBuilder};
use crate::record::{Headers, RawHeaders, TopicPartition};
use crate::time::NO_TIMESTAMP;

/// The answer to where a partition begins and ends.
pub(super) type Ends = Ticket<LogResult<(i64, i64)>>;

/// See the [module](self).
pub(super) struct KafkaReader {
    partition: TopicPartition,
    input: PartitionInput,
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
    /// How large the last batch became, which the next one may become too.
    usual_bytes: usize,
    /// Where a record's headers are encoded.
    headers: Vec<u8>,
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
        let (input, signals) = fetcher.assign(partition, offset, &bell)?;
        Ok(Self {
            partition: partition.clone(),
            input,
            fetcher,
            signals,
            shared,
            bell,
            position: offset,
            at_end: false,
            seeking: false,
            outside: None,
            usual_bytes: 0,
            headers: Vec::new(),
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

    fn fail(&mut self, code: RDKafkaErrorCode) -> LogResult<()> {
        match code {
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
                self.outside = Some(self.shared.ends(&self.partition, self.bell.clone()));
                Ok(())
            }
            _ => {
                let error = classify::from_code("read", code).on(&self.partition);
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
struct Taken<'r> {
    /// There with the first record.
    builder: Option<RecordBatchBuilder>,
    base: i64,
    position: i64,
    at_end: bool,
    usual_bytes: usize,
    headers: &'r mut Vec<u8>,
}

/// Why a batch ends before it is full.
enum Stop {
    /// Fetching failed.
    Failed(RDKafkaErrorCode),
    /// A record of this offset cannot be encoded.
    Damaged(i64, BatchError),
    /// The headers of this offset cannot be read.
    Headers(i64, RDKafkaErrorCode),
}

impl Taken<'_> {
    fn bytes(&self) -> usize {
        self.builder.as_ref().map_or(0, RecordBatchBuilder::len)
    }

    fn add(&mut self, message: &Message<'_>) -> Result<(), Stop> {
        let offset = message.offset();
        if offset < self.position {
            return Ok(());
        }
        self.headers.clear();
        let headers = message.headers().map_err(|code| Stop::Headers(offset, code))?;
        if headers.len() > 0 {
            let text = headers.map(|(name, value)| (name.to_str().unwrap_or("\u{fffd}"), value));
            Headers::encode_borrowed(text, self.headers)
                .map_err(|error| Stop::Damaged(offset, error.into()))?;
        }
        if self.builder.is_none() {
            self.base = offset;
        }
        let usual = self.usual_bytes;
        let builder = self.builder.get_or_insert_with(|| RecordBatchBuilder::with_capacity(usual));
        let delta = u64::try_from(offset - self.base).expect("offsets of a partition grow");
        let timestamp = message.timestamp().unwrap_or(NO_TIMESTAMP);
        let headers = RawHeaders::new(self.headers);
        builder
            .append_raw_at(delta, timestamp, message.key(), message.value(), headers)
            .map_err(|error| Stop::Damaged(offset, error))?;
        self.position = offset + 1;
        self.at_end = false;
        Ok(())
    }
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
        let before = self.position;
        let batch = self.drain(max_bytes);
        if batch.is_err() {
            // What was taken along with the error is not given out, so it is read again.
            self.position = before;
            self.seeking = true;
        }
        let batches = batch?.into_iter().collect();
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
    fn drain(&mut self, max_bytes: usize) -> LogResult<Option<RecordBatch>> {
        let mut headers = std::mem::take(&mut self.headers);
        let mut taken = Taken {
            builder: None,
            base: 0,
            position: self.position,
            at_end: self.at_end,
            usual_bytes: self.usual_bytes.min(max_bytes),
            headers: &mut headers,
        };
        let drained = self.fill(&mut taken, max_bytes);
        let Taken { builder, base, .. } = taken;
        self.headers = headers;
        drained?;
        let Some(builder) = builder else { return Ok(None) };
        // The last record may pass the limit by its own size.
        self.usual_bytes = builder.len() + builder.len() / 8;
        let batch = RecordBatch::new(base, builder.finish());
        batch.map(Some).map_err(|error| self.damaged(&error.to_string()))
    }

    fn fill(&mut self, taken: &mut Taken<'_>, max_bytes: usize) -> LogResult<()> {
        loop {
            let mut stopped = None;
            let count = self.input.take(|fetch| {
                let added = match fetch {
                    Fetch::Record(message) => taken.add(&message),
                    Fetch::End(offset) => {
                        // Control records and aborted ones moved the end, but gave no record.
                        taken.position = taken.position.max(offset);
                        taken.at_end = true;
                        Ok(())
                    }
                    Fetch::Failed(code) => Err(Stop::Failed(code)),
                };
                match added {
                    Ok(()) if taken.bytes() < max_bytes.max(1) => ControlFlow::Continue(()),
                    Ok(()) => ControlFlow::Break(()),
                    Err(stop) => {
                        stopped = Some(stop);
                        ControlFlow::Break(())
                    }
                }
            });
            let count =
                count.map_err(|code| classify::from_code("read", code).on(&self.partition))?;
            (self.position, self.at_end) = (taken.position, taken.at_end);
            match stopped {
                None if count == 0 || taken.bytes() >= max_bytes.max(1) => return Ok(()),
                None => {}
                Some(Stop::Failed(code)) => self.fail(code)?,
                Some(Stop::Damaged(offset, error)) => {
                    return Err(self.damaged(&format!("offset {offset}: {error}")));
                }
                Some(Stop::Headers(offset, code)) => {
                    return Err(self.damaged(&format!("headers of offset {offset}: {code}")));
                }
            }
        }
    }

    fn damaged(&self, why: &str) -> LogError {
        LogError::new(ErrorClass::Fatal, "read", why).on(&self.partition)
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        self.fetcher.unassign(&self.partition);
    }
}

//! The transactional producer as the stream thread holds it: `begin` and `send` hand records to
//! librdkafka's queue without blocking; what blocks goes to the companion thread. Owns the records
//! that found no room; knows nothing of consumers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, Producer};

use super::Shared;
use super::classify::{self, Failed};
use super::companion::Command;
use super::deliveries::Deliveries;
use super::fetcher::number;
use super::ffi::{self, Outgoing, OutgoingHeaders, Topic};
use super::sizes::record_bytes;
use crate::actor::{Bell, Promise, Ticket, ticket};
use crate::error::ErrorClass;
use crate::log::{CommitRequest, Committed, LogError, LogResult, TransactionalProducer};
use crate::record::batch::{BatchCursor, BatchError, RawRecord, RecordBatch};
use crate::record::{Headers, RecordPrint, TopicPartition};

/// librdkafka's producer with our delivery reports.
pub(super) type Client = BaseProducer<Deliveries>;
/// Its events, which the companion serves.
pub(super) type Events = ffi::Events<Deliveries>;

/// A partition that this producer has written to.
struct Output {
    to: TopicPartition,
    topic: Topic<Client>,
    number: i32,
    /// What its records carry, to be known by in their delivery reports.
    index: usize,
}

/// The rest of a batch that librdkafka's queue had no room for.
pub(super) struct Unsent {
    output: Arc<Output>,
    records: BatchCursor,
    /// Bytes that may be in flight to this partition, where its topic is known to refuse more.
    limit: Option<usize>,
}

/// A batch is taken whole or not at all, but librdkafka takes records one by one; what is left of a
/// batch waits here and goes first.
pub(super) type Backlog = VecDeque<Unsent>;

/// See the [module](self).
pub(super) struct KafkaProducer {
    events: Arc<Events>,
    commands: Sender<Command>,
    shared: Arc<Shared>,
    bell: Bell,
    outputs: BTreeMap<TopicPartition, Arc<Output>>,
    backlog: Backlog,
    name: Arc<str>,
    transactional: bool,
}

impl KafkaProducer {
    pub(super) fn new(
        events: Arc<Events>,
        commands: Sender<Command>,
        shared: Arc<Shared>,
        bell: Bell,
        name: &str,
        transactional: bool,
    ) -> Self {
        let (name, outputs, backlog) = (name.into(), BTreeMap::new(), Backlog::new());
        Self { events, commands, shared, bell, outputs, backlog, name, transactional }
    }

    fn output(&mut self, to: &TopicPartition) -> LogResult<Arc<Output>> {
        if let Some(output) = self.outputs.get(to) {
            return Ok(Arc::clone(output));
        }
        let client = self.events.client();
        let topic = Topic::open(client, &to.topic)
            .map_err(|code| classify::from_code("send records", code).on(to))?;
        let index = client.context().add_partition(to);
        let output = Arc::new(Output { to: to.clone(), topic, number: number(to), index });
        self.outputs.insert(to.clone(), Arc::clone(&output));
        Ok(output)
    }

    /// Starts a call on the companion. If the companion is gone, the ticket is abandoned at once.
    fn start<T: Send + 'static>(
        &self,
        operation: &'static str,
        command: impl FnOnce(super::deadlines::Guarded<T>) -> Command,
    ) -> Ticket<T> {
        let (promise, ticket): (Promise<T>, Ticket<T>) = ticket(self.bell.clone());
        let guarded = self.shared.deadlines.guard(promise, self.shared.call_deadline(), operation);
        if self.commands.send(command(guarded)).is_err() {
            tracing::error!(operation, producer = &*self.name, "the producer's thread is gone");
        }
        self.events.wake();
        ticket
    }
}

impl TransactionalProducer for KafkaProducer {
    fn initialise(&mut self) -> Ticket<LogResult<()>> {
        self.start("initialise transactions", Command::Initialise)
    }

    fn begin(&mut self) -> LogResult<()> {
        let operation = "begin a transaction";
        self.backlog.clear();
        let client = self.events.client();
        client.context().begin();
        if !self.transactional {
            return Ok(());
        }
        client.begin_transaction().map_err(|error| {
            match classify::from_transaction(operation, &error) {
                Failed::Known(error) => error,
                // Nothing was begun, and this client can do nothing more.
                Failed::Unknown(why) => LogError::new(ErrorClass::Fenced, operation, why),
            }
        })
    }

    fn send(&mut self, to: &TopicPartition, records: &RecordBatch) -> LogResult<()> {
        let output = self.output(to)?;
        let client = self.events.client();
        let deliveries = client.context();
        deliveries.check()?;
        if !push(client, &mut self.backlog)? {
            // A delivery before the flag was set would be missed, so the queue is tried once more.
            deliveries.ring_when_room();
            if !push(client, &mut self.backlog)? {
                return Err(classify::from_code("send records", RDKafkaErrorCode::QueueFull).on(to));
            }
        }
        let records = records.clone().into_cursor();
        let limit = self.shared.sizes.limit(&to.topic);
        self.backlog.push_back(Unsent { output, records, limit });
        push(client, &mut self.backlog)?;
        Ok(())
    }

    fn commit(&mut self, request: CommitRequest) -> Ticket<LogResult<Committed>> {
        let backlog = std::mem::take(&mut self.backlog);
        self.start("commit a transaction", |promise| Command::Commit { request, backlog, promise })
    }

    fn abort(&mut self) -> Ticket<LogResult<()>> {
        self.backlog.clear();
        self.start("abort a transaction", Command::Abort)
    }
}

impl Drop for KafkaProducer {
    fn drop(&mut self) {
        self.shared.producers.fetch_sub(1, Ordering::Relaxed);
        // Dropping a client may take long or hang: the companion does it, once it alone has it.
        if self.commands.send(Command::Close).is_err() {
            tracing::debug!("the producer's thread has ended before the producer");
        }
        self.events.wake();
    }
}

/// Hands the backlog to librdkafka. True if all of it is taken, false if its queue is full.
///
/// # Errors
/// `User` for a record that cannot be sent, named by partition, key and size; else as the table of
/// [`classify`] says.
pub(super) fn push(client: &Client, backlog: &mut Backlog) -> LogResult<bool> {
    let deliveries = client.context();
    while let Some(Unsent { output, records, limit }) = backlog.front_mut() {
        let damaged = |error: BatchError| {
            LogError::new(ErrorClass::Fatal, "send records", error.to_string()).on(&output.to)
        };
        while let Some((record, next)) = records.peek_next().map_err(damaged)? {
            if let Some(limit) = *limit
                && !deliveries.enter(output.index, record_bytes(&record), limit)
            {
                return Ok(false);
            }
            if !push_one(client, output, &record)? {
                if limit.is_some() {
                    deliveries.leave(output.index);
                }
                return Ok(false);
            }
            records.go_to(next);
        }
        backlog.pop_front();
    }
    Ok(true)
}

fn push_one(client: &Client, output: &Output, record: &RawRecord<'_>) -> LogResult<bool> {
    let to = &output.to;
    let headers = if record.headers.is_empty() {
        None
    } else {
        let headers = record.headers.decode().map_err(|error| refused(to, record, &error))?;
        Some(native_headers(&headers).map_err(|error| refused(to, record, &error))?)
    };
    let outgoing = Outgoing {
        key: record.key,
        value: record.value,
        // librdkafka takes 0 for "now" (rd_kafka_producev), which would differ from run to run. The
        // first millisecond after it is as near as it can be told.
        timestamp: record.timestamp.max(1),
        headers,
        tag: output.index,
    };
    let code = match output.topic.produce(output.number, outgoing) {
        Ok(()) => return Ok(true),
        Err(RDKafkaErrorCode::QueueFull) => return Ok(false),
        Err(code) => code,
    };
    client.context().check()?;
    // With a fatal error the code says only that there was one, of which it says nothing.
    let cause = client.client().fatal_error().map_or(code, |(cause, _)| cause);
    let known = classify::from_code("send records", cause).on(to);
    Err(match (known.class, code) {
        (ErrorClass::User, _) => refused(to, record, &known.message),
        // No transaction takes records now: it has failed already and must be aborted.
        (_, RDKafkaErrorCode::State) | (ErrorClass::Retry, _) => {
            LogError { class: ErrorClass::Abort, ..known }
        }
        _ => known,
    })
}

fn refused(to: &TopicPartition, record: &RawRecord<'_>, why: &dyn std::fmt::Display) -> LogError {
    let key = record.key.map_or_else(|| "null".into(), |key| key.escape_ascii().to_string());
    let bytes = record.value.map_or(0, <[u8]>::len);
    let message = format!("the record with key {key} and {bytes} bytes: {why}");
    let print = RecordPrint::of(record.key, record.value);
    LogError::refusal("send records", to, print, message)
}

fn native_headers(headers: &Headers) -> Result<OutgoingHeaders, String> {
    let mut native = OutgoingHeaders::with_capacity(headers.len());
    for header in headers {
        if header.name.contains('\0') {
            return Err(
                "a header's name holds a zero byte, which Kafka's C client cannot read".into()
            );
        }
        native.add(&header.name, header.value.as_deref()).map_err(|code| code.to_string())?;
    }
    Ok(native)
}

//! The transactional producer as the stream thread holds it: `begin` and `send` hand records to
//! librdkafka's queue without blocking; what blocks goes to the companion thread. Owns the records
//! that found no room; knows nothing of consumers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use bytes::Bytes;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::Shared;
use super::classify::{self, Failed};
use super::companion::Command;
use super::deliveries::Deliveries;
use super::sizes::record_bytes;
use crate::actor::{Bell, Promise, Ticket, ticket};
use crate::error::ErrorClass;
use crate::log::{CommitRequest, Committed, LogError, LogResult, TransactionalProducer};
use crate::record::batch::{BatchCursor, RawRecord, RecordBatch};
use crate::record::{Headers, RecordPrint, TopicPartition};

/// librdkafka's producer with our delivery reports.
pub(super) type Client = BaseProducer<Deliveries>;

/// The rest of a batch that librdkafka's queue had no room for.
pub(super) struct Unsent {
    to: TopicPartition,
    index: usize,
    records: BatchCursor,
    /// Bytes that may be in flight to this partition, where its topic is known to refuse more.
    limit: Option<usize>,
}

/// A batch is taken whole or not at all, but librdkafka takes records one by one; what is left of a
/// batch waits here and goes first.
pub(super) type Backlog = VecDeque<Unsent>;

/// See the [module](self).
pub(super) struct KafkaProducer {
    /// There until it is dropped.
    client: Option<Arc<Client>>,
    commands: Sender<Command>,
    shared: Arc<Shared>,
    bell: Bell,
    backlog: Backlog,
    transactional_id: Arc<str>,
}

impl KafkaProducer {
    pub(super) fn new(
        client: Arc<Client>,
        commands: Sender<Command>,
        shared: Arc<Shared>,
        bell: Bell,
        transactional_id: &str,
    ) -> Self {
        let transactional_id = transactional_id.into();
        let backlog = Backlog::new();
        Self { client: Some(client), commands, shared, bell, backlog, transactional_id }
    }

    fn client(&self) -> Arc<Client> {
        Arc::clone(self.client.as_ref().expect("taken only when the producer is dropped"))
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
            tracing::error!(operation, "the producer's thread is gone");
        }
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
        let client = self.client();
        client.context().begin();
        client.begin_transaction().map_err(|error| {
            match classify::from_transaction(operation, &error) {
                Failed::Known(error) => error,
                // Nothing was begun, and this client can do nothing more.
                Failed::Unknown(why) => LogError::new(ErrorClass::Fenced, operation, why),
            }
        })
    }

    fn send(&mut self, to: &TopicPartition, records: &RecordBatch) -> LogResult<()> {
        let client = self.client();
        let deliveries = client.context();
        deliveries.check()?;
        if !push(&client, &mut self.backlog)? {
            // A delivery before the flag was set would be missed, so the queue is tried once more.
            deliveries.ring_when_room();
            if !push(&client, &mut self.backlog)? {
                return Err(classify::from_code("send records", RDKafkaErrorCode::QueueFull).on(to));
            }
        }
        let index = deliveries.index_of(to);
        let records = records.clone().into_cursor();
        let limit = self.shared.sizes.limit(&to.topic);
        self.backlog.push_back(Unsent { to: to.clone(), index, records, limit });
        push(&client, &mut self.backlog)?;
        if deliveries.wake() && self.commands.send(Command::Sent).is_err() {
            return Err(LogError::new(
                ErrorClass::Fenced,
                "send records",
                format!("the thread of producer {} is gone", self.transactional_id),
            ));
        }
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
        // Dropping a client may take long or hang: the companion does it, with this share of it.
        let Some(client) = self.client.take() else { return };
        if self.commands.send(Command::Close(client)).is_err() {
            tracing::debug!("the producer's thread has ended before the producer");
        }
    }
}

/// Hands the backlog to librdkafka. True if all of it is taken, false if its queue is full.
///
/// # Errors
/// `User` for a record that cannot be sent, named by partition, key and size; else as the table of
/// [`classify`] says.
pub(super) fn push(client: &Client, backlog: &mut Backlog) -> LogResult<bool> {
    while let Some(unsent) = backlog.front_mut() {
        loop {
            let record = unsent.records.peek().map_err(|error| {
                LogError::new(ErrorClass::Fatal, "send records", error.to_string()).on(&unsent.to)
            })?;
            let Some(record) = record else { break };
            if let Some(limit) = unsent.limit
                && !client.context().enter(unsent.index, record_bytes(&record), limit)
            {
                return Ok(false);
            }
            if !push_one(client, &unsent.to, unsent.index, &record)? {
                client.context().leave(unsent.index);
                return Ok(false);
            }
            unsent.records.next().expect("it was just looked at");
        }
        backlog.pop_front();
    }
    Ok(true)
}

fn push_one(
    client: &Client,
    to: &TopicPartition,
    index: usize,
    record: &RawRecord<'_>,
) -> LogResult<bool> {
    let partition = i32::try_from(to.partition).expect("Kafka counts partitions in 31 bits");
    let mut base: BaseRecord<'_, [u8], [u8], usize> =
        BaseRecord::with_opaque_to(&to.topic, index).partition(partition);
    // librdkafka takes 0 for "now" (rd_kafka_producev), which would differ from run to run. The
    // first millisecond after it is as near as it can be told.
    base = base.timestamp(record.timestamp.max(1));
    base.key = record.key;
    base.payload = record.value;
    if !record.headers.is_empty() {
        let headers = record.headers.decode().map_err(|error| refused(to, record, &error))?;
        base = base.headers(native_headers(&headers).map_err(|error| refused(to, record, &error))?);
    }
    match client.send(base) {
        Ok(()) => Ok(true),
        Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Ok(false),
        Err((error, _)) => {
            client.context().check()?;
            let known = match client.client().fatal_error() {
                // Refused because of what went wrong before, of which this error says nothing.
                Some((code, _)) => classify::from_code("send records", code).on(to),
                None => classify::from_kafka("send records", &error).on(to),
            };
            Err(match (known.class, error.rdkafka_error_code()) {
                (ErrorClass::User, _) => refused(to, record, &known.message),
                // No transaction takes records now: it has failed already and must be aborted.
                (_, Some(RDKafkaErrorCode::State)) | (ErrorClass::Retry, _) => {
                    LogError { class: ErrorClass::Abort, ..known }
                }
                _ => known,
            })
        }
    }
}

fn refused(to: &TopicPartition, record: &RawRecord<'_>, why: &dyn std::fmt::Display) -> LogError {
    let key = record.key.map_or_else(|| "null".into(), |key| key.escape_ascii().to_string());
    let bytes = record.value.map_or(0, <[u8]>::len);
    let message = format!("the record with key {key} and {bytes} bytes: {why}");
    let print = RecordPrint::of(record.key, record.value);
    LogError::refusal("send records", to, print, message)
}

fn native_headers(headers: &Headers) -> Result<OwnedHeaders, String> {
    let mut native = OwnedHeaders::new_with_capacity(headers.len());
    for header in headers {
        if header.name.contains('\0') {
            return Err(
                "a header's name holds a zero byte, which Kafka's C client cannot send".into()
            );
        }
        let value: Option<&Bytes> = header.value.as_ref();
        native = native.insert(Header { key: &header.name, value: value.map(|v| &v[..]) });
    }
    Ok(native)
}

//! The companion thread of a transactional producer: it makes the calls that block, serves delivery
//! reports, and drops the client. It owns nothing that another thread waits for except its tickets,
//! which are abandoned when a call does not return in time.
//!
//! Traps of librdkafka 2.12 and rdkafka 0.39 that it walks around:
//! - `BaseProducer::poll` stays for its whole timeout, so its `flush` and `commit_transaction` take
//!   steps of 100 ms: events are served by a call of our own, which returns with each, and
//!   everything is delivered before the commit.
//! - A record waits for its batch (`linger.ms`) also when the commit is waiting for the record:
//!   librdkafka's own flush, which ends that, is called for a moment before each wait.
//! - An abort with undelivered records waits for delivery reports that nobody serves: everything is
//!   delivered or purged, and served, before the abort.
//! - An abort while the first records are in flight can reach a coordinator that has not begun the
//!   transaction (librdkafka #4849): delivery is awaited here too.
//! - A batch that the broker refused leaves a gap in the sequence numbers that shows in the next
//!   transaction ("skipped sequence numbers"): after such an abort the producer is given up.
//! - `send_offsets_to_transaction` can ignore its timeout (librdkafka #5456), and waits for a group
//!   coordinator that has left the cluster (#5511): the ticket has a deadline of its own, and this
//!   thread stays behind with its client until the call returns.
//! - Dropping a client can hang (rust-rdkafka #509): only this thread does it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{Producer, PurgeConfig};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::Shared;
use super::classify::{self, Failed};
use super::deadlines::Guarded;
use super::deliveries::Deliveries;
use super::ffi::Event;
use super::ffi::group::{GroupMetadata, send_offsets};
use super::producer::{Backlog, Client, Events, push};
use crate::error::ErrorClass;
use crate::log::{CommitRequest, Committed, CommittedOffset, Identity, LogError, LogResult};
use crate::record::TopicPartition;

/// How long one wait for a delivery report is, while a call waits for all of them.
const POLL: Duration = Duration::from_millis(1);
/// Events are waited for this long; commands end the wait.
const IDLE: Duration = Duration::from_millis(500);
/// How long an abort waits for records in flight before it purges them.
const SETTLE: Duration = Duration::from_secs(5);

/// A call that is this much over its own time does not return.
const GRACE: Duration = Duration::from_secs(2);
/// A call that takes longer is told of.
const SLOW: Duration = Duration::from_secs(2);

/// What the stream thread asks for.
pub(super) enum Command {
    /// Fence and resolve.
    Initialise(Guarded<LogResult<()>>),
    /// Deliver, add the offsets, commit.
    Commit { request: CommitRequest, backlog: Backlog, promise: Guarded<LogResult<Committed>> },
    /// Abort.
    Abort(Guarded<LogResult<()>>),
    /// Drop the client as soon as nobody else has a share of it.
    Close,
}

impl Command {
    fn name(&self) -> &'static str {
        match self {
            Self::Initialise(_) => "initialise",
            Self::Commit { .. } => "commit",
            Self::Abort(_) => "abort",
            Self::Close => "close",
        }
    }
}

pub(super) struct Companion {
    events: Arc<Events>,
    shared: Arc<Shared>,
    /// It promises exactly once.
    transactional: bool,
}

impl Companion {
    pub(super) fn new(events: Arc<Events>, shared: Arc<Shared>, transactional: bool) -> Self {
        Self { events, shared, transactional }
    }

    /// Serves commands until the producer is dropped.
    pub(super) fn run(self, commands: &Receiver<Command>) {
        while let Some(command) = self.next(commands) {
            let (began, what) = (self.now(), command.name());
            match command {
                Command::Initialise(promise) => answer(promise, self.initialise()),
                Command::Commit { request, backlog, mut promise } => {
                    let result = self.commit(request, backlog, &mut promise);
                    answer(promise, result);
                }
                Command::Abort(promise) => answer(promise, self.abort()),
                Command::Close => break,
            }
            let took = self.now().saturating_sub(began);
            if took > SLOW {
                let client = self.deliveries().voice().client();
                tracing::info!(client, what, ?took, "a call to Kafka took long");
            }
        }
        // The producer's shares go right after its last command.
        while Arc::strong_count(&self.events) + Arc::strong_count(self.events.client()) > 2 {
            self.serve(POLL);
        }
    }

    /// The next command; serves events until there is one.
    fn next(&self, commands: &Receiver<Command>) -> Option<Command> {
        loop {
            match commands.try_recv() {
                Ok(command) => return Some(command),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => {
                    self.serve(IDLE);
                }
            }
        }
    }

    /// Serves one event; false if none came within this time.
    fn serve(&self, within: Duration) -> bool {
        let context = self.client().context();
        self.events.next(within, |event| match event {
            Event::Deliveries(reports) => context.settle(reports),
            Event::Log(level, facility, line) => context.log(level, facility, line),
            Event::Error(code, reason) => context.error(KafkaError::Global(code), reason),
        })
    }

    fn client(&self) -> &Client {
        self.events.client()
    }

    fn deliveries(&self) -> &Deliveries {
        self.client().context()
    }

    fn initialise(&self) -> Result<(), Failed> {
        if !self.transactional {
            return Ok(());
        }
        let operation = "initialise transactions";
        let within = self.shared.settings.request_timeout;
        self.client().init_transactions(within).map_err(|error| {
            match classify::from_transaction(operation, &error) {
                Failed::Known(mut known) => {
                    // The reason often lies in a connection, of which the call knows nothing.
                    if let Some(last) = self.deliveries().voice().last_error() {
                        known.message =
                            format!("{} (last error of the client: {last})", known.message);
                    }
                    Failed::Known(known)
                }
                unknown @ Failed::Unknown(_) => unknown,
            }
        })
    }

    fn commit(
        &self,
        request: CommitRequest,
        mut backlog: Backlog,
        promise: &mut Guarded<LogResult<Committed>>,
    ) -> Result<Committed, Failed> {
        let deadline = self.now() + self.shared.settings.transaction_timeout;
        promise.give_until(deadline + GRACE);
        self.deliver(&mut backlog, deadline).map_err(Failed::Known)?;
        let CommitRequest { offsets, identity, state } = request;
        if !self.transactional {
            self.commit_offsets(&offsets, &identity).map_err(Failed::Known)?;
            return Ok(Committed { state: Some(state), ends: self.deliveries().ends() });
        }
        if !offsets.is_empty() {
            let sent = self.send_offsets(&offsets, &identity, deadline);
            sent.map_err(|failed| self.name_topics(failed))?;
        }
        let within = self.shared.settings.request_timeout;
        promise.give_until(self.now() + within + GRACE);
        let committed = self.client().commit_transaction(within);
        committed.map_err(|error| self.name_topics(judge_commit(&error)))?;
        Ok(Committed { state: Some(state), ends: self.deliveries().ends() })
    }

    /// Waits until every record is acknowledged.
    ///
    /// # Errors
    /// The first refusal; `Abort` when the time is over.
    fn deliver(&self, backlog: &mut Backlog, deadline: Duration) -> LogResult<()> {
        let deliveries = self.deliveries();
        loop {
            while self.serve(Duration::ZERO) {}
            let all_taken = push(self.client(), backlog)?;
            deliveries.check()?;
            if all_taken && self.client().in_flight_count() == 0 {
                // The last report may have been a refusal.
                return deliveries.check();
            }
            if self.now() > deadline {
                let waiting = self.client().in_flight_count();
                return Err(LogError::new(
                    ErrorClass::Abort,
                    "deliver records",
                    format!(
                        "{waiting} records were not acknowledged within the transaction timeout"
                    ),
                ));
            }
            // Each time: a partition that is new to the transaction cannot be sent to at first.
            self.events.flush(POLL);
        }
    }

    fn send_offsets(
        &self,
        offsets: &[(TopicPartition, CommittedOffset)],
        identity: &Identity,
        deadline: Duration,
    ) -> Result<(), Failed> {
        let operation = "commit offsets";
        let list = offset_list(offsets).map_err(Failed::Known)?;
        let Identity { group, member, epoch } = identity;
        // Without a member the transactional id alone fences.
        let metadata = GroupMetadata::new(group, *epoch, member, None).ok_or_else(|| {
            let why = format!("'{member}' of group '{group}' is no name of a member");
            Failed::Known(LogError::new(ErrorClass::Fatal, operation, why))
        })?;
        let within = deadline.saturating_sub(self.now()).max(Duration::from_secs(1));
        send_offsets(self.client(), &list, &metadata, within).map_err(|error| {
            match classify::from_flags(operation, &error) {
                // The transaction has not been ended, so nothing of it is committed.
                Failed::Known(known) if known.class == ErrorClass::Retry => {
                    Failed::Known(LogError { class: ErrorClass::Abort, ..known })
                }
                other => other,
            }
        })
    }

    /// librdkafka does not say which topic may not be written to.
    fn name_topics(&self, failed: Failed) -> Failed {
        match failed {
            Failed::Known(mut known) if known.class == ErrorClass::Fatal => {
                let topics = self.deliveries().topics();
                known.message = format!("{} (this producer writes to {topics})", known.message);
                Failed::Known(known)
            }
            other => other,
        }
    }

    /// Commits offsets by themselves, once everything is delivered.
    fn commit_offsets(
        &self,
        offsets: &[(TopicPartition, CommittedOffset)],
        identity: &Identity,
    ) -> LogResult<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        if !identity.member.is_empty() {
            let why = "at least once runs without a group so far: set KAFKA_MEMBERSHIP=single";
            return Err(LogError::new(ErrorClass::Fatal, "commit offsets", why));
        }
        let (list, consumer) = (offset_list(offsets)?, self.shared.group(&identity.group)?);
        let committed = consumer.client().commit(&list, CommitMode::Sync);
        committed.map_err(|error| classify::from_kafka("commit offsets", &error))
    }

    fn abort(&self) -> Result<(), Failed> {
        self.settle(SETTLE);
        if self.client().in_flight_count() > 0 {
            if !self.transactional {
                self.client().purge(PurgeConfig::default().queue().inflight());
                return self.give_up(true);
            }
            // The first call purges what is queued and cannot wait for it; its reports are served
            // here, and the next call goes on where it stopped.
            if let Err(error) = self.client().abort_transaction(POLL * 50) {
                tracing::debug!(%error, "abort goes on once its records are purged");
            }
            self.settle(self.shared.settings.transaction_timeout);
        }
        let refused = self.deliveries().refused_by_broker();
        self.shared.learn_sizes();
        if !self.transactional {
            return self.give_up(refused);
        }
        let within = self.shared.settings.request_timeout;
        self.client().abort_transaction(within).map_err(
            |error| match classify::from_transaction("abort a transaction", &error) {
                Failed::Known(known)
                    if matches!(known.class, ErrorClass::Fenced | ErrorClass::Fatal) =>
                {
                    Failed::Known(known)
                }
                Failed::Known(known) => Failed::Unknown(known.to_string()),
                unknown @ Failed::Unknown(_) => unknown,
            },
        )?;
        if refused {
            let why = "aborted, but a refused record left a gap in the sequence numbers";
            return Err(Failed::Unknown(why.to_owned()));
        }
        Ok(())
    }

    /// What is delivered stays; the next transaction must not meet what is not.
    fn give_up(&self, refused: bool) -> Result<(), Failed> {
        if refused || self.client().in_flight_count() > 0 {
            return Err(Failed::Unknown("records are given up with their producer".to_owned()));
        }
        Ok(())
    }

    /// Serves reports until no record is in flight, or the time is over.
    fn settle(&self, within: Duration) {
        let deadline = self.now() + within;
        while self.client().in_flight_count() > 0 && self.now() < deadline {
            self.serve(POLL);
        }
    }

    fn now(&self) -> Duration {
        self.shared.clock.now().monotonic
    }
}

/// What a failed commit means. The log has refused it only where librdkafka says so; in every other
/// case it may have happened.
fn judge_commit(error: &KafkaError) -> Failed {
    let operation = "commit a transaction";
    let refused = match error {
        KafkaError::Transaction(flags) => flags.txn_requires_abort(),
        // All records were delivered before; this cannot be.
        _ => false,
    };
    match classify::from_transaction(operation, error) {
        Failed::Known(known) if refused || known.class == ErrorClass::Fenced => {
            Failed::Known(known)
        }
        Failed::Known(known) => Failed::Unknown(known.to_string()),
        unknown @ Failed::Unknown(_) => unknown,
    }
}

/// An unknown result breaks its promise, which abandons the ticket.
fn answer<T>(promise: Guarded<LogResult<T>>, result: Result<T, Failed>) {
    match result {
        Ok(value) => promise.fulfil(Ok(value)),
        Err(Failed::Known(error)) => promise.fulfil(Err(error)),
        Err(Failed::Unknown(why)) => {
            tracing::warn!(why, "a call to Kafka ended in doubt; its producer is given up");
            drop(promise);
        }
    }
}

fn offset_list(offsets: &[(TopicPartition, CommittedOffset)]) -> LogResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for (place, committed) in offsets {
        let partition = i32::try_from(place.partition).expect("Kafka counts partitions in 31 bits");
        let mut element = list.add_partition(&place.topic, partition);
        element
            .set_offset(Offset::Offset(committed.next_offset))
            .map_err(|error| classify::from_kafka("commit offsets", &error).on(place))?;
        if !committed.metadata.is_empty() {
            element.set_metadata(&committed.metadata);
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests;

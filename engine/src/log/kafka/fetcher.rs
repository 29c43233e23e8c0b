//! A consumer that readers share: each takes from its partition's own queue; a companion thread
//! polls the consumer for everything else (log lines, errors). Owns which partitions are assigned;
//! knows nothing of records.
//!
//! A partition's queue is split off *before* the partition is assigned: librdkafka keeps a queue
//! that the application has forwarded (`RD_KAFKA_Q_F_FWD_APP`), so no record can slip into the
//! consumer's queue. Should one appear there all the same, its reader is told to seek.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::classify;
use super::context::Voice;
use super::ffi::{Fetch, Topic};
use crate::actor::Bell;
use crate::actor::spawn::spawn_blocking;
use crate::error::ErrorClass;
use crate::log::{Isolation, LogError, LogResult, Purpose};
use crate::record::TopicPartition;

/// librdkafka's consumer with our context.
pub(super) type Client = BaseConsumer<Voice>;

const POLL: Duration = Duration::from_millis(100);

/// What a reader is told by the companion thread.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// A record of this partition went astray: seek to the position again.
    pub astray: AtomicBool,
}

/// The queue of a partition that is split off from its consumer.
pub(super) struct PartitionInput {
    topic: Topic<Client>,
    number: i32,
    /// Keeps the partition split off and rings the reader's bell.
    _queue: PartitionQueue<Voice>,
}

impl PartitionInput {
    /// As [`Topic::take`].
    pub(super) fn take(
        &self,
        each: impl FnMut(Fetch<'_>) -> ControlFlow<()>,
    ) -> Result<usize, RDKafkaErrorCode> {
        self.topic.take(self.number, each)
    }
}

struct Assigned {
    signals: Arc<Signals>,
    bell: Bell,
}

#[derive(Default)]
struct State {
    stopped: AtomicBool,
    assigned: Mutex<BTreeMap<TopicPartition, Assigned>>,
}

impl State {
    fn assigned(&self) -> MutexGuard<'_, BTreeMap<TopicPartition, Assigned>> {
        self.assigned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the [module](self).
pub(super) struct Fetcher {
    /// There until it is dropped; the companion thread drops the last share.
    client: Option<Arc<Client>>,
    state: Arc<State>,
    pub group: Arc<str>,
    pub isolation: Isolation,
    pub purpose: Purpose,
}

impl Fetcher {
    /// Opens a consumer and its companion thread.
    ///
    /// # Errors
    /// `Fatal`: the configuration is refused, or the system gave no thread.
    pub(super) fn open(
        config: &ClientConfig,
        group: &str,
        isolation: Isolation,
        purpose: Purpose,
    ) -> LogResult<Self> {
        let operation = "open a consumer";
        let voice = Voice::new(&format!("consumer of {group}"));
        let client = Client::from_config_and_context(config, voice)
            .map_err(|error| classify::from_kafka(operation, &error))?;
        let client = Arc::new(client);
        let state = Arc::new(State::default());
        let (own, seen) = (Arc::clone(&client), Arc::clone(&state));
        spawn_blocking("kafka-consumer", move || poll_events(own, &seen)).map_err(|error| {
            LogError::new(ErrorClass::Fatal, operation, format!("no thread: {error}"))
        })?;
        Ok(Self { client: Some(client), state, group: group.into(), isolation, purpose })
    }

    pub(super) fn client(&self) -> &Arc<Client> {
        self.client.as_ref().expect("taken only when the fetcher is dropped")
    }

    /// Nobody reads this partition here.
    pub(super) fn is_free(&self, partition: &TopicPartition) -> bool {
        !self.state.assigned().contains_key(partition)
    }

    /// Assigns a partition from this offset on, and gives its queue, which rings `bell`.
    ///
    /// # Errors
    /// `Fatal`: librdkafka refuses the assignment.
    pub(super) fn assign(
        &self,
        partition: &TopicPartition,
        offset: i64,
        bell: &Bell,
    ) -> LogResult<(PartitionInput, Arc<Signals>)> {
        let number = number(partition);
        let topic = Topic::open(self.client(), &partition.topic)
            .map_err(|code| classify::from_code("assign a partition", code).on(partition))?;
        let mut queue =
            self.client().split_partition_queue(&partition.topic, number).ok_or_else(|| {
                LogError::new(ErrorClass::Fatal, "assign a partition", "it has no queue")
                    .on(partition)
            })?;
        let rings = bell.clone();
        queue.set_nonempty_callback(move || rings.ring());
        let signals = Arc::new(Signals::default());
        let entry = Assigned { signals: Arc::clone(&signals), bell: bell.clone() };
        self.state.assigned().insert(partition.clone(), entry);
        let mut list = TopicPartitionList::new();
        let assigned = list
            .add_partition_offset(&partition.topic, number, Offset::Offset(offset))
            .and_then(|()| self.client().incremental_assign(&list));
        if let Err(error) = assigned {
            self.state.assigned().remove(partition);
            return Err(classify::from_kafka("assign a partition", &error).on(partition));
        }
        Ok((PartitionInput { topic, number, _queue: queue }, signals))
    }

    /// Ends the assignment of a partition.
    pub(super) fn unassign(&self, partition: &TopicPartition) {
        let mut list = TopicPartitionList::new();
        list.add_partition(&partition.topic, number(partition));
        if let Err(error) = self.client().incremental_unassign(&list) {
            tracing::warn!(%partition, %error, "partition could not be unassigned");
        }
        self.state.assigned().remove(partition);
    }

    /// Goes on at this offset. False if the partition is not being fetched yet; then nothing was
    /// done, and it is to be tried again.
    pub(super) fn seek(&self, partition: &TopicPartition, offset: i64) -> bool {
        // The version barrier is raised before this returns: what was fetched before is never
        // handed out (rd_kafka_toppar_op_seek). The timeout only bounds the wait for the verdict.
        self.client()
            .seek(
                &partition.topic,
                number(partition),
                Offset::Offset(offset),
                Duration::from_secs(1),
            )
            .inspect_err(|error| tracing::debug!(%partition, offset, %error, "seek is tried again"))
            .is_ok()
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        drop(self.client.take());
        self.state.stopped.store(true, Ordering::Release);
    }
}

/// Kafka's number of a partition.
pub(super) fn number(partition: &TopicPartition) -> i32 {
    i32::try_from(partition.partition).expect("Kafka counts partitions in 31 bits")
}

/// The companion thread.
fn poll_events(client: Arc<Client>, state: &State) {
    loop {
        match client.poll(POLL) {
            Some(Ok(message)) => put_back(&message, state),
            Some(Err(error)) => {
                tracing::debug!(%error, "event of a consumer");
                // A coordinator that refuses says so here alone; calls just time out.
                if let KafkaError::MessageConsumption(_) = &error {
                    client.context().hear(&error, "");
                }
            }
            None => {}
        }
        // Queues of readers hold shares too; the last one must be dropped here, for it may hang.
        if state.stopped.load(Ordering::Acquire) && Arc::strong_count(&client) == 1 {
            return;
        }
    }
}

fn put_back(message: &BorrowedMessage<'_>, state: &State) {
    let Ok(partition) = u32::try_from(message.partition()) else { return };
    let partition = TopicPartition::new(message.topic(), partition);
    tracing::warn!(%partition, offset = message.offset(), "record outside its queue; reader seeks");
    if let Some(assigned) = state.assigned().get(&partition) {
        assigned.signals.astray.store(true, Ordering::Release);
        assigned.bell.ring();
    }
}

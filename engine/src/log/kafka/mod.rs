//! The log on Apache Kafka, by librdkafka. Owns every client and its companion thread, and what
//! librdkafka's errors mean; knows nothing of tasks, stores or membership.
//!
//! ```text
//!  stream threads                        companion threads               librdkafka
//!    KafkaReader  ── takes from ───────────────────────────────────────> partition queue
//!    KafkaProducer ── begin, send ─────────────────────────────────────> producer queue
//!         └── commit, abort, initialise ──> Companion (one a producer) ──> blocking calls
//!    KafkaLog ── topics, offsets ──> Admin (one) ────────────────────────> blocking calls
//!                                    Fetcher (one a consumer) ──────────> events
//!    membership <── GroupEvent ───── KafkaMember (one a group) ─────────> rebalances
//!                                    Deadlines (one) abandons what hangs
//! ```
//!
//! Input is read by one consumer that all tasks share, restoring by another; a second consumer is
//! opened only if a partition is read twice at once. Partitions are assigned by hand; a member of a
//! group is a consumer of its own, which fetches nothing. Back-pressure is not taking: a full
//! partition queue stops the fetching of that partition, and nothing is ever paused, which would
//! throw the queue away. `ffi` holds the calls that librdkafka's safe layer lacks.

mod admin;
mod classify;
mod companion;
mod context;
mod deadlines;
mod deliveries;
mod fetcher;
mod ffi;
mod group;
mod probe;
mod producer;
mod reader;
mod settings;
mod sizes;
mod topics;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::error::RDKafkaErrorCode;

pub use settings::KafkaSettings;

use self::admin::Admin;
use self::companion::Companion;
use self::context::Voice;
use self::deadlines::Deadlines;
use self::deliveries::Deliveries;
use self::fetcher::Fetcher;
use self::group::KafkaMember;
use self::producer::KafkaProducer;
use self::reader::{Ends, KafkaReader};
use self::sizes::Sizes;
use super::{
    CommittedOffset, GroupMember, GroupRequest, Isolation, Log, LogError, LogResources, LogResult,
    OffsetQuery, PartitionReader, Purpose, TopicSpec, TransactionalProducer,
};
use crate::actor::spawn::spawn_blocking;
use crate::actor::{Bell, Poll, Ticket, ticket};
use crate::config::KafkaConfig;
use crate::error::ErrorClass;
use crate::record::TopicPartition;
use crate::time::{Clock, SystemClock};

/// What readers, producers and the log share.
struct Shared {
    common: ClientConfig,
    settings: KafkaSettings,
    clock: Arc<dyn Clock>,
    deadlines: Deadlines,
    admin: Admin,
    fetchers: Mutex<Vec<Arc<Fetcher>>>,
    /// Partitions of the topics that were asked about or created here.
    known: Known,
    /// Topics that refused a batch.
    sizes: Arc<Sizes>,
    /// Producers that are open.
    producers: AtomicUsize,
    cluster: OnceLock<String>,
}

type Known = Arc<Mutex<BTreeMap<Arc<str>, u32>>>;

fn learn(known: &Known, topics: &[TopicSpec]) {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    known.extend(topics.iter().map(|topic| (Arc::clone(&topic.name), topic.partitions)));
}

impl Shared {
    /// The partition exists. Waits for the cluster only if the topic was never asked about.
    ///
    /// # Errors
    /// `Fatal`: it does not.
    fn check_exists(&self, partition: &TopicPartition) -> LogResult<()> {
        let operation = "open a reader";
        let number = partition.partition;
        let known = || {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(&partition.topic).copied()
        };
        if known().is_some_and(|count| number < count) {
            return Ok(());
        }
        let names = vec![Arc::clone(&partition.topic)];
        let bell = Bell::new();
        let answer = wait(&self.describe(names, bell.clone()), &bell, operation)?;
        let why = match answer.first() {
            Some(topic) if number < topic.partitions => return Ok(()),
            Some(topic) => format!("the topic has {} partitions", topic.partitions),
            None => "there is no such topic".to_owned(),
        };
        let code = RDKafkaErrorCode::UnknownTopicOrPartition;
        let unknown = classify::from_code(operation, code);
        Err(LogError { message: format!("{why}: {}", unknown.message), ..unknown }.on(partition))
    }

    fn describe(&self, names: Vec<Arc<str>>, bell: Bell) -> Ticket<LogResult<Vec<TopicSpec>>> {
        let known = Arc::clone(&self.known);
        self.admin.ask(bell, move |clients| {
            let topics = clients.describe(&names)?;
            learn(&known, &topics);
            Ok(topics)
        })
    }

    /// After so long a call is not going to return: all its own timeouts are over.
    fn call_deadline(&self) -> Duration {
        self.settings.transaction_timeout + 2 * self.settings.request_timeout
    }

    /// Where a partition begins and ends.
    fn ends(&self, partition: &TopicPartition, bell: Bell) -> Ends {
        let partition = [partition.clone()];
        self.admin.ask(bell, move |clients| {
            let first = clients.offsets(&partition, OffsetQuery::Earliest)?;
            let end = clients.offsets(&partition, OffsetQuery::HighWatermark)?;
            Ok((first[0], end[0]))
        })
    }

    /// Asks what the topics that refused a batch take. Blocks.
    fn learn_sizes(&self) {
        for topic in self.sizes.unknown() {
            let (bell, asked) = (Bell::new(), Arc::clone(&topic));
            let answer = self.admin.ask(bell.clone(), move |c| c.max_message_bytes(&asked));
            match wait(&answer, &bell, "describe topics") {
                Ok(bytes) => {
                    tracing::warn!(topic = &*topic, bytes, "topic takes smaller batches only");
                    self.sizes.learn(&topic, bytes);
                }
                Err(error) => {
                    tracing::warn!(%error, "topic is written record by record, its limit is unknown");
                }
            }
        }
    }

    /// Bytes of one partition's queue, in a consumer that is opened now.
    fn queue_bytes(&self) -> usize {
        // Nobody knows yet which of the known partitions it will read: at worst all.
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let partitions: u32 = known.values().fold(0, |sum, &count| sum.saturating_add(count));
        drop(known);
        self.settings.queue_bytes_of(partitions as usize)
    }

    /// The consumer that stands for a group; it reads input too.
    fn group(&self, group: &str) -> LogResult<Arc<Fetcher>> {
        let wanted = (Isolation::ReadCommitted, Purpose::Input);
        self.fetcher(group, wanted, |fetcher| &*fetcher.group == group)
    }

    /// A consumer of this kind that pleases, opened if there is none.
    fn fetcher(
        &self,
        group: &str,
        (isolation, purpose): (Isolation, Purpose),
        pleases: impl Fn(&Fetcher) -> bool,
    ) -> LogResult<Arc<Fetcher>> {
        let mut fetchers = self.fetchers.lock().unwrap_or_else(PoisonError::into_inner);
        let found = fetchers
            .iter()
            .find(|f| f.isolation == isolation && f.purpose == purpose && pleases(f));
        if let Some(found) = found {
            return Ok(Arc::clone(found));
        }
        let queue_bytes = self.queue_bytes();
        let config = settings::consumer(&self.common, Some(group), isolation, queue_bytes);
        let fetcher = Arc::new(Fetcher::open(&config, group, isolation, purpose)?);
        fetchers.push(Arc::clone(&fetcher));
        tracing::info!(
            group,
            ?isolation,
            ?purpose,
            consumers = fetchers.len(),
            partition_queue_bytes = queue_bytes,
            "opened a Kafka consumer"
        );
        Ok(fetcher)
    }
}

/// A Kafka cluster as a log. Clones are the same log.
#[derive(Clone)]
pub struct KafkaLog {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let brokers = self.shared.common.get("bootstrap.servers");
        f.debug_struct("KafkaLog").field("brokers", &brokers).finish_non_exhaustive()
    }
}

impl KafkaLog {
    /// Opens the log and waits until a broker answers, no longer than the settings allow. A
    /// property `transaction.timeout.ms` goes before the settings' own.
    ///
    /// # Errors
    /// `Fatal`: no broker answers, none lets this user in, one is too old, or a property is refused;
    /// the message says which and what to do.
    pub fn connect(config: &KafkaConfig, settings: KafkaSettings) -> LogResult<Self> {
        let log = Self::unchecked(config, settings)?;
        let shared = &log.shared;
        let bell = Bell::new();
        let check = shared.admin.ask(bell.clone(), admin::Clients::check);
        let cluster = wait(&check, &bell, "connect to Kafka")?;
        tracing::info!(
            brokers = config.brokers.join(","),
            cluster,
            consumer_queue_bytes = shared.settings.queue_bytes,
            producer_queue_bytes = shared.settings.producer_queue_bytes,
            "connected to Kafka"
        );
        if let Some(cluster) = cluster {
            shared.cluster.set(cluster).expect("it is connected once");
        }
        Ok(log)
    }

    /// As [`connect`](Self::connect), and asks no broker.
    fn unchecked(config: &KafkaConfig, settings: KafkaSettings) -> LogResult<Self> {
        let common = settings::common(config, &settings)?;
        let settings = settings.of(config)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let deadlines = Deadlines::start(Arc::clone(&clock))?;
        let admin = Admin::start(&common, &settings, Arc::clone(&clock))?;
        let shared = Shared {
            common,
            settings,
            clock,
            deadlines,
            admin,
            fetchers: Mutex::default(),
            known: Known::default(),
            sizes: Arc::default(),
            producers: AtomicUsize::new(0),
            cluster: OnceLock::new(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The cluster's id, if its brokers tell one: state that was built from another cluster is not
    /// this one's.
    pub fn cluster_id(&self) -> Option<&str> {
        self.shared.cluster.get().map(String::as_str)
    }
}

/// Waits for an answer, on a thread that may.
fn wait<T>(ticket: &Ticket<LogResult<T>>, bell: &Bell, operation: &'static str) -> LogResult<T> {
    loop {
        match ticket.poll() {
            Poll::Pending => bell.wait(None),
            Poll::Done(answer) => return answer,
            Poll::Abandoned => {
                let why = "the thread that asks Kafka has ended; its log says why";
                return Err(LogError::new(ErrorClass::Fatal, operation, why));
            }
        }
    }
}

impl Log for KafkaLog {
    fn kind(&self) -> &'static str {
        "kafka"
    }

    fn holds_state(&self) -> bool {
        false
    }

    /// The administrator's clients are an observer of each isolation and one that changes things, of
    /// which some are never opened.
    fn resources(&self) -> LogResources {
        let consumers = self.shared.fetchers.lock().unwrap_or_else(PoisonError::into_inner).len();
        let producers = self.shared.producers.load(Ordering::Relaxed);
        let (administrators, own_threads) = (3, 2);
        LogResources {
            clients: consumers + producers + administrators,
            threads: consumers + producers + own_threads,
            queue_bytes: self.shared.queue_bytes(),
        }
    }

    fn transaction_timeout(&self) -> Duration {
        self.shared.settings.transaction_timeout
    }

    fn describe_topics(&self, names: Vec<Arc<str>>) -> Ticket<LogResult<Vec<TopicSpec>>> {
        self.shared.describe(names, Bell::new())
    }

    fn create_topics(&self, topics: Vec<TopicSpec>) -> Ticket<LogResult<()>> {
        self.shared.admin.ask(Bell::new(), move |clients| clients.create(&topics))
    }

    fn delete_records(&self, before: Vec<(TopicPartition, i64)>) -> Ticket<LogResult<()>> {
        self.shared.admin.ask(Bell::new(), move |clients| clients.delete_records(&before))
    }

    fn offsets(
        &self,
        partitions: Vec<TopicPartition>,
        query: OffsetQuery,
    ) -> Ticket<LogResult<Vec<i64>>> {
        self.shared.admin.ask(Bell::new(), move |clients| clients.offsets(&partitions, query))
    }

    /// Runs on a thread of its own, because it may wait for another's transaction to time out.
    fn committed(
        &self,
        group: &str,
        partitions: Vec<TopicPartition>,
    ) -> Ticket<LogResult<Vec<Option<CommittedOffset>>>> {
        let fetcher = match self.shared.group(group) {
            Ok(fetcher) => fetcher,
            Err(error) => return Ticket::done(Err(error)),
        };
        let (promise, ticket) = ticket(Bell::new());
        let shared = Arc::clone(&self.shared);
        let started = spawn_blocking("kafka-committed", move || {
            let (settings, clock) = (&shared.settings, &*shared.clock);
            promise.fulfil(admin::committed(fetcher.client(), &partitions, settings, clock));
        });
        if let Err(error) = started {
            tracing::error!(%error, "no thread to read committed offsets");
        }
        ticket
    }

    /// Blocks only where it is a topic's first mention, to tell an unknown one from an empty one.
    fn reader(
        &self,
        partition: &TopicPartition,
        offset: i64,
        isolation: Isolation,
        purpose: Purpose,
        bell: Bell,
    ) -> LogResult<Box<dyn PartitionReader>> {
        self.shared.check_exists(partition)?;
        let group = &self.shared.settings.client_id;
        let fetcher = self.shared.fetcher(group, (isolation, purpose), |f| f.is_free(partition))?;
        let shared = Arc::clone(&self.shared);
        Ok(Box::new(KafkaReader::open(shared, fetcher, partition, offset, bell)?))
    }

    fn producer(
        &self,
        transactional_id: &str,
        bell: Bell,
    ) -> LogResult<Box<dyn TransactionalProducer>> {
        let (common, settings) = (&self.shared.common, &self.shared.settings);
        let config = settings::producer(common, settings, transactional_id);
        self.open_producer(&config, transactional_id, true, bell)
    }

    fn join(&self, request: GroupRequest, bell: Bell) -> LogResult<Box<dyn GroupMember>> {
        Ok(Box::new(KafkaMember::join(&self.shared, request, bell)?))
    }

    fn plain_producer(&self, name: &str, bell: Bell) -> LogResult<Box<dyn TransactionalProducer>> {
        let config = settings::plain_producer(&self.shared.common, &self.shared.settings);
        self.open_producer(&config, name, false, bell)
    }
}

impl KafkaLog {
    fn open_producer(
        &self,
        config: &ClientConfig,
        name: &str,
        transactional: bool,
        bell: Bell,
    ) -> LogResult<Box<dyn TransactionalProducer>> {
        let operation = "open a producer";
        let shared = &self.shared;
        let voice = Voice::new(&format!("producer {name}"));
        let deliveries = Deliveries::new(voice, bell.clone(), Arc::clone(&shared.sizes));
        let client = producer::Client::from_config_and_context(config, deliveries)
            .map_err(|error| classify::from_kafka(operation, &error))?;
        let events = Arc::new(producer::Events::of(&Arc::new(client)));
        let (commands, queue) = channel();
        let companion = Companion::new(Arc::clone(&events), Arc::clone(shared), transactional);
        spawn_blocking("kafka-producer", move || companion.run(&queue)).map_err(|error| {
            LogError::new(ErrorClass::Fatal, operation, format!("no thread: {error}"))
        })?;
        shared.producers.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(shared);
        Ok(Box::new(KafkaProducer::new(events, commands, shared, bell, name, transactional)))
    }
}

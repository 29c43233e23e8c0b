//! Questions to the cluster and orders about topics, one after the other on a thread of their own.
//! Owns the clients that ask; knows nothing of readers and producers.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::classify::{self, Trouble};
use super::context::Voice;
use super::fetcher::{self, number};
use super::probe;
use super::settings::{self, KafkaSettings};
use super::topics;
use crate::actor::Ticket;
use crate::actor::spawn::spawn_blocking;
use crate::actor::{Bell, ticket};
use crate::error::ErrorClass;
use crate::log::{CommittedOffset, Isolation, LogError, LogResult, OffsetQuery, TopicSpec};
use crate::record::TopicPartition;
use crate::time::Clock;

/// Clients are looked after this often when nobody asks anything.
const IDLE: Duration = Duration::from_secs(1);
/// Pause before a question that had no good answer yet is asked again.
const PAUSE: Duration = Duration::from_millis(25);
/// A group's coordinator is given up on after this time and asked again.
const COORDINATOR: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce(&mut Clients) + Send>;

/// The way to the thread. It ends when this is dropped.
pub(super) struct Admin {
    jobs: Sender<Job>,
}

impl Admin {
    /// Starts the thread; clients are opened when first needed.
    ///
    /// # Errors
    /// `Fatal`: the operating system gave no thread.
    pub(super) fn start(
        common: &ClientConfig,
        settings: &KafkaSettings,
        clock: Arc<dyn Clock>,
    ) -> LogResult<Self> {
        let (jobs, queue) = channel();
        let mut clients = Clients {
            common: common.clone(),
            settings: settings.clone(),
            clock,
            committed: None,
            uncommitted: None,
            admin: None,
        };
        spawn_blocking("kafka-admin", move || serve(&mut clients, &queue)).map_err(|error| {
            LogError::new(ErrorClass::Fatal, "start a thread", error.to_string())
        })?;
        Ok(Self { jobs })
    }

    /// Asks; the answer rings `bell`.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        bell: Bell,
        job: impl FnOnce(&mut Clients) -> LogResult<T> + Send + 'static,
    ) -> Ticket<LogResult<T>> {
        let (promise, ticket) = ticket(bell);
        let job: Job = Box::new(move |clients| promise.fulfil(job(clients)));
        if self.jobs.send(job).is_err() {
            tracing::error!("the thread for questions to Kafka is gone");
        }
        ticket
    }
}

fn serve(clients: &mut Clients, jobs: &Receiver<Job>) {
    loop {
        match jobs.recv_timeout(IDLE) {
            Ok(job) => job(clients),
            Err(RecvTimeoutError::Timeout) => clients.look_after(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// A topic's partitions.
struct Partitions {
    count: u32,
    /// Each has a leader.
    led: bool,
    /// Some broker is the only one that holds one of them.
    alone: bool,
}

/// The clients that ask.
pub(super) struct Clients {
    common: ClientConfig,
    settings: KafkaSettings,
    clock: Arc<dyn Clock>,
    committed: Option<fetcher::Client>,
    uncommitted: Option<fetcher::Client>,
    admin: Option<AdminClient<Voice>>,
}

impl Clients {
    /// Serves log lines and errors, which would pile up otherwise.
    fn look_after(&self) {
        for observer in [&self.committed, &self.uncommitted].into_iter().flatten() {
            drop(observer.poll(Duration::ZERO));
        }
    }

    fn observer(&mut self, isolation: Isolation) -> LogResult<&fetcher::Client> {
        let slot = match isolation {
            Isolation::ReadCommitted => &mut self.committed,
            Isolation::ReadUncommitted => &mut self.uncommitted,
        };
        if slot.is_none() {
            // It reads nothing.
            let config = settings::consumer(&self.common, None, isolation, 0);
            let client = BaseConsumer::from_config_and_context(&config, Voice::new("observer"))
                .map_err(|error| classify::from_kafka("open a client", &error))?;
            *slot = Some(client);
        }
        Ok(slot.as_ref().expect("it was just opened"))
    }

    fn admin(&mut self) -> LogResult<&AdminClient<Voice>> {
        if self.admin.is_none() {
            let client = AdminClient::from_config_and_context(&self.common, Voice::new("admin"))
                .map_err(|error| classify::from_kafka("open a client", &error))?;
            self.admin = Some(client);
        }
        Ok(self.admin.as_ref().expect("it was just opened"))
    }

    fn options(&self) -> AdminOptions {
        let timeout = Some(self.settings.request_timeout);
        AdminOptions::new().request_timeout(timeout).operation_timeout(timeout)
    }

    /// Waits for any broker to answer; gives the cluster's id.
    ///
    /// # Errors
    /// `Fatal`, as [`probe::first_word`].
    pub(super) fn check(&mut self) -> LogResult<Option<String>> {
        probe::first_word(&self.common, &self.settings, &*self.clock)
    }

    /// What the cluster knows of a topic's partitions; `None` if there is none.
    fn partitions(&mut self, name: &str) -> LogResult<Option<Partitions>> {
        let operation = "describe topics";
        let within = self.settings.request_timeout;
        let metadata = self
            .observer(Isolation::ReadUncommitted)?
            .fetch_metadata(Some(name), within)
            .map_err(|error| about(classify::from_kafka(operation, &error), name))?;
        let Some(topic) = metadata.topics().first() else { return Ok(None) };
        match topic.error().map(RDKafkaErrorCode::from) {
            None => {}
            Some(
                RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::InvalidTopic,
            ) => return Ok(None),
            Some(code) => return Err(about(classify::from_code(operation, code), name)),
        }
        let led = topic.partitions().iter().all(|p| p.leader() >= 0 && p.error().is_none());
        let alone = topic.partitions().iter().any(|p| p.replicas().len() == 1);
        let count = u32::try_from(topic.partitions().len()).unwrap_or(u32::MAX);
        Ok((count > 0).then_some(Partitions { count, led, alone }))
    }

    pub(super) fn describe(&mut self, names: &[Arc<str>]) -> LogResult<Vec<TopicSpec>> {
        self.patiently(names, |clients| clients.describe_now(names))
    }

    fn describe_now(&mut self, names: &[Arc<str>]) -> LogResult<Vec<TopicSpec>> {
        let mut found = Vec::new();
        for name in names {
            if let Some(Partitions { count, .. }) = self.partitions(name)? {
                found.push((Arc::clone(name), count));
            }
        }
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<&str> = found.iter().map(|(name, _)| &**name).collect();
        let settings = self.settings_of(&names)?;
        let spec = |((name, partitions), settings): ((Arc<str>, u32), BTreeMap<_, _>)| TopicSpec {
            name,
            partitions,
            cleanup: topics::cleanup(&settings),
        };
        Ok(found.into_iter().zip(settings).map(spec).collect())
    }

    /// The settings of each topic, in the order asked.
    fn settings_of(&mut self, names: &[&str]) -> LogResult<Vec<BTreeMap<String, String>>> {
        let operation = "describe topics";
        let resources: Vec<_> = names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
        let options = self.options();
        let answers = block_on(self.admin()?.describe_configs(&resources, &options))
            .map_err(|error| classify::from_kafka(operation, &error))?;
        let read = |(name, answer): (&&str, Result<ConfigResource, RDKafkaErrorCode>)| {
            let resource =
                answer.map_err(|code| about(classify::from_code(operation, code), name))?;
            let entries = resource.entries.into_iter();
            Ok(entries.filter_map(|entry| Some((entry.name, entry.value?))).collect())
        };
        names.iter().zip(answers).map(read).collect()
    }

    /// Looks for settings of existing topics that would change the engine's records.
    fn check_settings(&mut self, existing: &[&str]) -> LogResult<()> {
        if existing.is_empty() {
            return Ok(());
        }
        let settings = self.settings_of(existing)?;
        let wrong: Vec<_> = existing
            .iter()
            .zip(&settings)
            .flat_map(|(name, settings)| topics::harmful(name, settings))
            .collect();
        if wrong.is_empty() {
            return Ok(());
        }
        Err(LogError::new(ErrorClass::Fatal, "create topics", wrong.join("; ")))
    }

    /// The largest batch that a topic takes, `max.message.bytes`.
    ///
    /// # Errors
    /// The brokers do not tell.
    pub(super) fn max_message_bytes(&mut self, topic: &str) -> LogResult<usize> {
        let operation = "describe topics";
        let options = self.options();
        let resources = [ResourceSpecifier::Topic(topic)];
        let answers = block_on(self.admin()?.describe_configs(&resources, &options))
            .map_err(|error| about(classify::from_kafka(operation, &error), topic))?;
        let entries = answers.into_iter().filter_map(Result::ok).flat_map(|found| found.entries);
        let mut values = entries.filter(|entry| entry.name == "max.message.bytes");
        let bytes = values.find_map(|entry| entry.value?.parse().ok());
        bytes.ok_or_else(|| {
            let code = RDKafkaErrorCode::ResourceNotFound;
            about(classify::from_code(operation, code), topic)
        })
    }

    /// Creates what does not exist and waits until it is led.
    pub(super) fn create(&mut self, specs: &[TopicSpec]) -> LogResult<()> {
        let alone = self.patiently(&[], |clients| clients.create_now(specs))?;
        // When it comes back it may leave transactions open in them (KAFKA-20734).
        if !alone.is_empty() {
            tracing::warn!(
                topics = alone.join(","),
                "one broker alone holds these topics: while it is away nothing goes on, and Kafka 4.2 \
                 and 4.3 may then leave transactions undecided (KAFKA-20734); give them and \
                 __consumer_offsets three replicas where exactly-once matters"
            );
        }
        Ok(())
    }
    /// Asks for the missing ones alone: who may not create topics may still run with those that
    /// somebody else has created. Gives those that one broker alone holds.
    fn create_now<'s>(&mut self, specs: &'s [TopicSpec]) -> LogResult<Vec<&'s str>> {
        let (mut missing, mut existing, mut alone) = (Vec::new(), Vec::new(), Vec::new());
        for spec in specs {
            match self.partitions(&spec.name)? {
                None => missing.push(spec),
                Some(found) => {
                    existing.push(&*spec.name);
                    alone.extend(found.alone.then_some(&*spec.name));
                }
            }
        }
        self.check_settings(&existing)?;
        if !missing.is_empty() {
            self.ask_for(&missing)?;
        }
        let deadline = self.clock.now().monotonic + self.settings.request_timeout;
        for spec in missing {
            let found = loop {
                match self.partitions(&spec.name) {
                    Ok(Some(found)) if found.led => break found,
                    _ if self.clock.now().monotonic > deadline => {
                        let code = RDKafkaErrorCode::LeaderNotAvailable;
                        return Err(about(classify::from_code("create topics", code), &spec.name));
                    }
                    _ => std::thread::park_timeout(PAUSE),
                }
            };
            alone.extend(found.alone.then_some(&*spec.name));
        }
        Ok(alone)
    }

    fn ask_for(&mut self, missing: &[&TopicSpec]) -> LogResult<()> {
        let operation = "create topics";
        let settings: Vec<_> = missing.iter().map(|spec| topics::settings(spec)).collect();
        let replicas = self.settings.replication_factor.map_or(-1, i32::from);
        let mut new = Vec::new();
        for (spec, settings) in missing.iter().zip(&settings) {
            let partitions = i32::try_from(spec.partitions).map_err(|_| {
                about(
                    classify::from_code(operation, RDKafkaErrorCode::InvalidPartitions),
                    &spec.name,
                )
            })?;
            let topic = NewTopic::new(&spec.name, partitions, TopicReplication::Fixed(replicas));
            new.push(settings.iter().fold(topic, |topic, (name, value)| topic.set(name, value)));
        }
        let options = self.options();
        let answers = block_on(self.admin()?.create_topics(&new, &options))
            .map_err(|error| classify::from_kafka(operation, &error))?;
        for answer in answers {
            match answer {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => {
                    return Err(about(classify::from_code(operation, code), &name));
                }
            }
        }
        Ok(())
    }

    pub(super) fn delete_records(&mut self, before: &[(TopicPartition, i64)]) -> LogResult<()> {
        self.patiently(&[], |clients| clients.delete_records_now(before))
    }

    fn delete_records_now(&mut self, before: &[(TopicPartition, i64)]) -> LogResult<()> {
        let operation = "delete records";
        if before.is_empty() {
            return Ok(());
        }
        let mut list = TopicPartitionList::with_capacity(before.len());
        for (place, offset) in before {
            list.add_partition_offset(&place.topic, number(place), Offset::Offset(*offset))
                .map_err(|error| classify::from_kafka(operation, &error).on(place))?;
        }
        let options = self.options();
        let answers = block_on(self.admin()?.delete_records(&list, &options))
            .map_err(|error| classify::from_kafka(operation, &error))?;
        first_error(operation, &answers)
    }

    /// Repeats a question while a broker is away, and lets the clients learn who leads by now.
    fn patiently<T>(
        &mut self,
        topics: &[Arc<str>],
        mut ask: impl FnMut(&mut Self) -> LogResult<T>,
    ) -> LogResult<T> {
        let deadline = self.clock.now().monotonic + self.settings.request_timeout;
        loop {
            match ask(self) {
                Err(error)
                    if error.class == ErrorClass::Retry
                        && self.clock.now().monotonic < deadline =>
                {
                    tracing::debug!(%error, "asked again");
                    std::thread::park_timeout(PAUSE);
                    for observer in [&self.committed, &self.uncommitted].into_iter().flatten() {
                        for topic in topics {
                            drop(
                                observer.fetch_metadata(Some(topic), self.settings.request_timeout),
                            );
                        }
                    }
                }
                answer => return answer,
            }
        }
    }

    pub(super) fn offsets(
        &mut self,
        partitions: &[TopicPartition],
        query: OffsetQuery,
    ) -> LogResult<Vec<i64>> {
        let topics: BTreeSet<_> = partitions.iter().map(|p| Arc::clone(&p.topic)).collect();
        let topics: Vec<_> = topics.into_iter().collect();
        self.patiently(&topics, |clients| clients.offsets_now(partitions, query))
    }

    fn offsets_now(
        &mut self,
        partitions: &[TopicPartition],
        query: OffsetQuery,
    ) -> LogResult<Vec<i64>> {
        let operation = "read offsets";
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let (isolation, end) = match query {
            OffsetQuery::Earliest => (Isolation::ReadUncommitted, Offset::Beginning),
            OffsetQuery::LastStable => (Isolation::ReadCommitted, Offset::End),
            OffsetQuery::HighWatermark => (Isolation::ReadUncommitted, Offset::End),
        };
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for place in partitions {
            list.add_partition_offset(&place.topic, number(place), end)
                .map_err(|error| classify::from_kafka(operation, &error).on(place))?;
        }
        let within = self.settings.request_timeout;
        // A "time" of -1 or -2 asks for an end (KIP-79), all partitions in one request a broker,
        // under the client's isolation level.
        let answers = self
            .observer(isolation)?
            .offsets_for_times(list, within)
            .map_err(|error| classify::from_kafka(operation, &error))?;
        first_error(operation, &answers)?;
        let read = |place: &TopicPartition| match answers
            .find_partition(&place.topic, number(place))
            .map(|found| found.offset())
        {
            Some(Offset::Offset(offset)) => Ok(offset),
            other => Err(LogError::new(
                ErrorClass::Retry,
                operation,
                format!("the broker answered {other:?}"),
            )
            .on(place)),
        };
        partitions.iter().map(read).collect()
    }
}

/// Reads committed offsets by the group's client; asks again while a transaction on one is open.
pub(super) fn committed(
    group: &fetcher::Client,
    partitions: &[TopicPartition],
    settings: &KafkaSettings,
    clock: &dyn Clock,
) -> LogResult<Vec<Option<CommittedOffset>>> {
    let operation = "read committed offsets";
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    // A transaction that was left open ends after its timeout and a round of the broker's scan.
    let patience = settings.transaction_timeout + settings.request_timeout;
    let deadline = clock.now().monotonic + patience;
    loop {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for place in partitions {
            list.add_partition(&place.topic, number(place));
        }
        let answer = group
            .committed_offsets(list, settings.request_timeout.min(COORDINATOR))
            .map_err(|error| classify::from_kafka(operation, &error))
            .and_then(|answers| {
                first_error(operation, &answers)?;
                partitions.iter().map(|place| read_committed(&answers, place)).collect()
            });
        match answer {
            Err(error) if error.class == ErrorClass::Retry && clock.now().monotonic < deadline => {
                // Where the coordinator may not be asked, the call merely takes too long.
                if let Some(Trouble::Right(code)) = group.context().trouble() {
                    return Err(classify::from_code(operation, code));
                }
                tracing::debug!(%error, "committed offsets are not stable yet");
                std::thread::park_timeout(PAUSE);
            }
            answer => return answer,
        }
    }
}

fn read_committed(
    answers: &TopicPartitionList,
    place: &TopicPartition,
) -> LogResult<Option<CommittedOffset>> {
    let Some(found) = answers.find_partition(&place.topic, number(place)) else { return Ok(None) };
    let Offset::Offset(next_offset) = found.offset() else { return Ok(None) };
    // rdkafka panics on metadata that is no text; another program may have written it.
    let metadata = catch_unwind(AssertUnwindSafe(|| found.metadata().to_owned()));
    let metadata = metadata.map_err(|_panic| {
        LogError::new(
            ErrorClass::Fatal,
            "read committed offsets",
            "the offset's metadata is not text: another program commits for this group; give the \
             application an id of its own",
        )
        .on(place)
    })?;
    Ok(Some(CommittedOffset { next_offset, metadata }))
}

fn first_error(operation: &'static str, answers: &TopicPartitionList) -> LogResult<()> {
    for element in answers.elements() {
        if let Err(error) = element.error() {
            let partition = u32::try_from(element.partition()).unwrap_or(u32::MAX);
            let place = TopicPartition::new(element.topic(), partition);
            return Err(classify::from_kafka(operation, &error).on(&place));
        }
    }
    Ok(())
}

/// The error, naming a topic.
fn about(mut error: LogError, topic: &str) -> LogError {
    error.message = format!("topic {topic}: {}", error.message);
    error
}

/// Wakes the thread that waits for a future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits on this thread for a future that the client's own thread completes, within its timeout.
fn block_on<T>(future: impl Future<Output = Result<T, KafkaError>>) -> Result<T, KafkaError> {
    let mut future = std::pin::pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

//! The simulated log: a Kafka-like cluster in memory, under a virtual clock, with faults drawn from
//! a seed. Owns topics, transactions, groups' offsets, clients and the network between them; knows
//! nothing of tasks and topologies.
//!
//! ```text
//!  process a              network (delay, loss, repetition)          cluster
//!  SimLog ── SimProducer ── client ── request ──────────────> broker ── markers, timeouts
//!    │                        ^                                  │
//!    │                        └──────── answer ──────────────────┘
//!    └── SimReader ── reads the partitions at once, sometimes less than there is
//! ```
//!
//! [`SimCluster`] is an [`Actor`]: each step carries one event out, so that a kill, a rebalance or a
//! fault may fall between any two steps of a commit. What it keeps of Kafka: markers take offsets,
//! read-committed readers stop at the last stable offset and skip aborted records, a producer's
//! epoch fences older ones, an ending transaction is answered before its markers are written,
//! committed offsets are stable ones. What it leaves out: replicas, and connections that
//! reorder (a second delivery never ends or begins another transaction).

mod broker;
mod client;
mod network;
mod partition;
mod process;
mod producer;
mod reader;
mod trace;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use network::SimFaults;
pub use process::Process;
pub use trace::Trace;

use self::broker::{Broker, Chore, Refusal, Reply, TRANSACTION_TIMEOUT};
use self::client::{Call, Client, Kind};
use self::network::Network;
use self::partition::PartitionLog;
use self::producer::SimProducer;
use self::reader::SimReader;
use super::{
    CommittedOffset, Isolation, Log, LogError, LogResult, OffsetQuery, PartitionReader, Purpose,
    TopicSpec, TransactionalProducer,
};
use crate::actor::{Actor, Bell, Next, Promise, Ticket, ticket};
use crate::error::ErrorClass;
use crate::record::{BatchError, RawRecord, RecordBatch, TopicPartition};
use crate::time::Now;

/// How long a client waits before it sends again what was refused for a while.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// What a cluster is like.
#[derive(Debug, Clone)]
pub struct SimConfig {
    /// Everything that is left to chance follows from it.
    pub seed: u64,
    /// How it misbehaves.
    pub faults: SimFaults,
    /// An open transaction is aborted after this time.
    pub transaction_timeout: Duration,
    /// A client that has no answer after this time asks again.
    pub request_timeout: Duration,
    /// A call that hangs is given up after this time.
    pub call_deadline: Duration,
    /// Bytes that a producer queues before it asks its owner to wait.
    pub queue_bytes: usize,
    /// The largest key and value together.
    pub max_record_bytes: usize,
}

impl SimConfig {
    /// A cluster without faults.
    pub fn calm(seed: u64) -> Self {
        Self {
            seed,
            faults: SimFaults::default(),
            transaction_timeout: TRANSACTION_TIMEOUT,
            request_timeout: Duration::from_secs(1),
            call_deadline: Duration::from_secs(15),
            queue_bytes: 16 << 20,
            max_record_bytes: 1 << 20,
        }
    }
}

/// Something that is going to happen.
#[derive(Debug)]
enum Event {
    Arrive(Call),
    Answer(Call, Result<Reply, Refusal>),
    /// The answer did not come in time.
    Missed(Call),
    Resend(Call),
    /// The answer never came.
    GiveUp(Call),
    Ask(Question),
    /// Nobody will answer.
    Forget(Question),
    Do(Chore),
    Ring(Bell),
}

/// A call that is no producer's.
#[derive(Debug)]
enum Question {
    Describe(Vec<Arc<str>>, Promise<LogResult<Vec<TopicSpec>>>),
    Create(Vec<TopicSpec>, Promise<LogResult<()>>),
    Delete(Vec<(TopicPartition, i64)>, Promise<LogResult<()>>),
    Offsets(Vec<TopicPartition>, OffsetQuery, Promise<LogResult<Vec<i64>>>),
    Committed(Arc<str>, Vec<TopicPartition>, Promise<LogResult<Vec<Option<CommittedOffset>>>>),
}

#[derive(Debug)]
struct Cluster {
    config: SimConfig,
    broker: Broker,
    network: Network<Event>,
    clients: BTreeMap<u64, Client>,
    calls: u64,
    /// Said by clients since the last step; they travel from the next one on.
    outgoing: Vec<Event>,
    /// For processes that are paused.
    held: Vec<Event>,
    /// Questions for committed offsets that are undecided.
    parked: Vec<Question>,
    trace: Trace,
    faults_met: FaultsMet,
}

/// How often each fault was met, by its name and the request it hit.
pub type FaultsMet = BTreeMap<(&'static str, &'static str), u64>;

/// The cluster. Clones are the same one; as an [`Actor`] it is stepped once.
#[derive(Debug, Clone)]
pub struct SimCluster {
    cluster: Arc<Mutex<Cluster>>,
    bell: Bell,
}

/// A committed record, as a checker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimRecord {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, in milliseconds.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
}

/// A record of a batch that a builder built.
fn seen(record: Result<RawRecord<'_>, BatchError>) -> SimRecord {
    let record = record.expect("the batch was built by a builder");
    SimRecord {
        offset: record.offset,
        timestamp: record.timestamp,
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
    }
}

impl SimCluster {
    /// An empty cluster.
    pub fn new(config: SimConfig) -> Self {
        let cluster = Cluster {
            network: Network::new(config.seed, config.faults),
            config,
            broker: Broker::default(),
            clients: BTreeMap::new(),
            calls: 0,
            outgoing: Vec::new(),
            held: Vec::new(),
            parked: Vec::new(),
            trace: Trace::default(),
            faults_met: BTreeMap::new(),
        };
        Self { cluster: Arc::new(Mutex::new(cluster)), bell: Bell::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection of this process.
    pub fn connect(&self, process: &Process) -> SimLog {
        SimLog { cluster: self.clone(), process: process.clone() }
    }

    /// Creates a topic at once, unless it exists.
    pub fn create_topic(&self, spec: TopicSpec) {
        self.lock().broker.create(spec);
    }

    /// The topics that exist, by name.
    pub fn topics(&self) -> Vec<TopicSpec> {
        self.lock().broker.topics().cloned().collect()
    }

    /// Appends records at once, outside every transaction. Returns the offset after them.
    ///
    /// # Panics
    /// If there is no such partition.
    pub fn append(&self, to: &TopicPartition, records: &RecordBatch) -> i64 {
        let mut cluster = self.lock();
        let partition = cluster.broker.partition_mut(to).expect("the partition exists");
        partition.append_plain(records)
    }

    /// A topic takes no records from now on whose key and value have more bytes than this, as after a
    /// change of `max.message.bytes`.
    ///
    /// # Panics
    /// If there is no such topic.
    pub fn limit_records(&self, topic: &str, bytes: usize) {
        self.lock().broker.limit_records(topic, bytes);
    }

    /// Keeps only the last stable record of each key of a topic.
    ///
    /// # Panics
    /// If there is no such topic.
    pub fn compact(&self, topic: &str) {
        let mut cluster = self.lock();
        let count = cluster.broker.spec(topic).expect("the topic exists").partitions;
        for partition in 0..count {
            let of = TopicPartition::new(topic, partition);
            cluster.broker.partition_mut(&of).expect("below the topic's count").compact();
        }
    }

    /// Every committed record, deleted ones too, by partition, in offset order.
    ///
    /// # Panics
    /// If there is no such topic.
    pub fn committed_records(&self, topic: &str) -> Vec<Vec<SimRecord>> {
        self.records(topic, |log| {
            log.committed().flat_map(RecordBatch::records).map(seen).collect()
        })
    }

    /// As [`SimCluster::committed_records`], with the records that a compaction has removed.
    ///
    /// # Panics
    /// If there is no such topic.
    pub fn history(&self, topic: &str) -> Vec<Vec<SimRecord>> {
        self.records(topic, |log| log.history().flat_map(RecordBatch::records).map(seen).collect())
    }

    fn records(
        &self,
        topic: &str,
        of: impl Fn(&PartitionLog) -> Vec<SimRecord>,
    ) -> Vec<Vec<SimRecord>> {
        let cluster = self.lock();
        let count = cluster.broker.spec(topic).expect("the topic exists").partitions;
        let partitions = (0..count).map(|partition| TopicPartition::new(topic, partition));
        let log = |p| of(cluster.broker.partition(&p).expect("below the topic's count"));
        partitions.map(log).collect()
    }

    /// One end of a partition, at once.
    ///
    /// # Panics
    /// If there is no such partition.
    pub fn offset(&self, of: &TopicPartition, query: OffsetQuery) -> i64 {
        self.lock().offset(of, query).expect("the partition exists")
    }

    /// A group's committed offset of one partition, at once; `None` also while it is undecided.
    pub fn committed_offset(&self, group: &str, of: &TopicPartition) -> Option<CommittedOffset> {
        self.lock().broker.committed(group, std::slice::from_ref(of))?.remove(0)
    }

    /// From now on only these members of the group commit, each with its epoch.
    pub fn set_members(&self, group: &Arc<str>, members: BTreeMap<Arc<str>, i32>) {
        self.lock().broker.set_members(group, members);
    }

    /// Changes how it misbehaves from now on.
    pub fn set_faults(&self, faults: SimFaults) {
        self.lock().network.faults = faults;
    }

    /// No transaction is open or ending.
    pub fn is_settled(&self) -> bool {
        self.lock().broker.is_settled()
    }

    /// How often each fault was met so far.
    pub fn faults_met(&self) -> FaultsMet {
        self.lock().faults_met.clone()
    }

    /// What happened so far.
    pub fn trace(&self) -> Trace {
        self.lock().trace.clone()
    }
}

impl Actor for SimCluster {
    fn name(&self) -> &str {
        "cluster"
    }

    fn bell(&self) -> Bell {
        self.bell.clone()
    }

    fn step(&mut self, now: Now) -> Next {
        self.lock().step(now.monotonic)
    }
}

impl Cluster {
    fn step(&mut self, now: Duration) -> Next {
        for event in std::mem::take(&mut self.outgoing) {
            self.network.send(now, event);
        }
        let (held, free) = std::mem::take(&mut self.held).into_iter().partition(|e| self.holds(e));
        self.held = held;
        for event in free {
            self.network.at(now, event);
        }
        if let Some(event) = self.network.take_due(now) {
            self.happen(event, now);
        }
        self.do_chores(now);
        match self.network.next_at() {
            _ if !self.outgoing.is_empty() => Next::Again,
            Some(at) if at <= now => Next::Again,
            Some(at) => Next::WakeAt(at),
            None => Next::Wait,
        }
    }

    /// The event is for a process that is paused.
    fn holds(&self, event: &Event) -> bool {
        let (Event::Answer(call, _)
        | Event::Missed(call)
        | Event::Resend(call)
        | Event::GiveUp(call)) = event
        else {
            return false;
        };
        self.clients
            .get(&call.client)
            .is_some_and(|client| !client.process.is_running() && !client.process.is_dead())
    }

    fn happen(&mut self, event: Event, now: Duration) {
        if self.holds(&event) {
            self.held.push(event);
            return;
        }
        match event {
            Event::Arrive(call) => self.arrive(call, now),
            Event::Answer(call, result) => self.answer(call, result, now),
            Event::Missed(call) => self.missed(call, now),
            Event::Resend(call) => self.resend(call, now),
            Event::GiveUp(call) => self.give_up(&call),
            Event::Ask(question) => self.ask(question, now),
            Event::Forget(question) => drop(question),
            Event::Do(chore) => self.carry_out(&chore),
            Event::Ring(bell) => bell.ring(),
        }
    }

    fn meet(&mut self, fault: &'static str, per_thousand: u32, of: &'static str) -> bool {
        let met = self.network.chance(per_thousand);
        if met {
            *self.faults_met.entry((fault, of)).or_default() += 1;
            self.trace.note(format_args!("fault: {fault}: {of}"));
        }
        met
    }

    // ---- requests of producers -----------------------------------------------------------------

    /// Puts a request on its way.
    fn depart(&mut self, call: Call, now: Duration) {
        let faults = self.network.faults;
        let coordinator = !matches!(call.request, broker::Request::Produce { .. });
        if coordinator && self.meet("call hung", faults.hang, call.request.name()) {
            self.network.at(now + self.config.call_deadline, Event::GiveUp(call));
            return;
        }
        if self.meet("request lost", faults.lose_request, call.request.name()) {
            self.network.at(now + self.config.request_timeout, Event::Missed(call));
            return;
        }
        if self.meet("request repeated", faults.duplicate, call.request.name()) {
            self.network.send(now, Event::Arrive(call.clone()));
        }
        self.network.send(now, Event::Arrive(call));
    }

    fn arrive(&mut self, call: Call, now: Duration) {
        let faults = self.network.faults;
        let (id, name) = (Arc::clone(call.request.transactional_id()), call.request.name());
        if self.meet("transaction expired", faults.expire, name) {
            self.broker.expire(&id, None);
        }
        let in_transaction = matches!(
            call.request,
            broker::Request::Produce { .. } | broker::Request::Offsets { .. }
        );
        let result = if self.meet("coordinator moved", faults.move_coordinator, name) {
            Err(Refusal::Moving)
        } else if in_transaction && self.meet("request refused", faults.refuse, name) {
            Err(Refusal::Abort("refused by injection".to_owned()))
        } else {
            self.broker.handle(call.number, &call.request)
        };
        self.trace.note(format_args!("{id}: {name}: {result:?}"));
        if self.meet("answer lost", faults.lose_answer, name) {
            self.network.at(now + self.config.request_timeout, Event::Missed(call));
        } else {
            self.network.send(now, Event::Answer(call, result));
        }
        self.unpark();
    }

    /// The client of a call, if it still waits for the answer.
    fn waiting_client(&mut self, call: &Call) -> Option<&mut Client> {
        let client = self.clients.get_mut(&call.client)?;
        (client.process.is_running() && client.awaits(call.number)).then_some(client)
    }

    fn answer(&mut self, call: Call, result: Result<Reply, Refusal>, now: Duration) {
        let coordinator = call.request.destination().is_none();
        let surfaces = coordinator && result == Err(Refusal::Moving) && self.network.chance(500);
        let Some(client) = self.waiting_client(&call) else { return };
        match result {
            Ok(reply) => client.answered(call.number, reply),
            Err(Refusal::Moving) if surfaces => client.postponed(&call.request),
            Err(Refusal::Wait | Refusal::Moving) => {
                self.network.at(now + RETRY_AFTER, Event::Resend(call));
                return;
            }
            Err(refusal) => client.refused(&call.request, refusal),
        }
        self.pump(call.client);
    }

    fn missed(&mut self, call: Call, now: Duration) {
        if self.waiting_client(&call).is_none() {
            return;
        }
        if self.meet("client gave up", self.network.faults.give_up, call.request.name()) {
            return self.give_up(&call);
        }
        self.depart(call, now);
    }

    fn give_up(&mut self, call: &Call) {
        let Some(client) = self.waiting_client(call) else { return };
        client.gave_up(&call.request);
        self.pump(call.client);
    }

    fn resend(&mut self, call: Call, now: Duration) {
        if self.waiting_client(&call).is_some() {
            self.depart(call, now);
        }
    }

    /// Sends what a client has to send.
    fn pump(&mut self, client: u64) {
        let Some(client) = self.clients.get_mut(&client) else { return };
        let calls = client.pump(&mut self.calls);
        self.outgoing.extend(calls.into_iter().map(Event::Resend));
    }

    // ---- chores --------------------------------------------------------------------------------

    fn do_chores(&mut self, now: Duration) {
        for chore in self.broker.take_chores() {
            match chore {
                Chore::Expire { .. } => {
                    self.network.at(now + self.config.transaction_timeout, Event::Do(chore));
                }
                Chore::Mark { .. } => self.network.send(now, Event::Do(chore)),
            }
        }
    }

    fn carry_out(&mut self, chore: &Chore) {
        match chore {
            Chore::Expire { transactional_id, producer, serial } => {
                if self.broker.expire(transactional_id, Some((*producer, *serial))) {
                    self.trace.note(format_args!("{transactional_id}: timed out"));
                }
            }
            Chore::Mark { transactional_id, place } => {
                self.trace.note(format_args!("{transactional_id}: marker at {place:?}"));
                self.broker.mark(transactional_id, place);
            }
        }
        self.unpark();
    }

    // ---- questions -----------------------------------------------------------------------------

    fn unpark(&mut self) {
        for question in std::mem::take(&mut self.parked) {
            self.reply(question);
        }
    }

    fn ask(&mut self, question: Question, now: Duration) {
        let faults = self.network.faults;
        if self.meet("coordinator moved", faults.move_coordinator, question.name()) {
            question.postpone();
        } else if self.meet("call hung", faults.hang, question.name()) {
            self.network.at(now + self.config.call_deadline, Event::Forget(question));
        } else {
            self.reply(question);
        }
    }

    fn reply(&mut self, question: Question) {
        match question {
            Question::Describe(names, promise) => {
                let found = names.iter().filter_map(|name| self.broker.spec(name).cloned());
                promise.fulfil(Ok(found.collect()));
            }
            Question::Create(topics, promise) => {
                topics.into_iter().for_each(|spec| self.broker.create(spec));
                promise.fulfil(Ok(()));
            }
            Question::Delete(before, promise) => {
                let mut answer = Ok(());
                for (of, offset) in before {
                    match self.broker.partition_mut(&of) {
                        Some(partition) => partition.delete_before(offset),
                        None => answer = Err(unknown_partition("delete records", &of)),
                    }
                }
                promise.fulfil(answer);
            }
            Question::Offsets(partitions, query, promise) => {
                promise.fulfil(partitions.iter().map(|of| self.offset(of, query)).collect());
            }
            Question::Committed(group, partitions, promise) => {
                match self.broker.committed(&group, &partitions) {
                    Some(offsets) => promise.fulfil(Ok(offsets)),
                    None => self.parked.push(Question::Committed(group, partitions, promise)),
                }
            }
        }
    }

    fn offset(&self, of: &TopicPartition, query: OffsetQuery) -> LogResult<i64> {
        let missing = || unknown_partition("ask for offsets", of);
        let partition = self.broker.partition(of).ok_or_else(missing)?;
        Ok(match query {
            OffsetQuery::Earliest => partition.start(),
            OffsetQuery::LastStable => partition.last_stable(),
            OffsetQuery::HighWatermark => partition.high_watermark(),
        })
    }
}

impl Question {
    fn name(&self) -> &'static str {
        match self {
            Question::Describe(..) => "describe topics",
            Question::Create(..) => "create topics",
            Question::Delete(..) => "delete records",
            Question::Offsets(..) => "ask for offsets",
            Question::Committed(..) => "ask for committed offsets",
        }
    }

    fn postpone(self) {
        let message = "the coordinator is moving; ask again";
        let error = LogError::new(ErrorClass::Retry, self.name(), message);
        match self {
            Question::Describe(_, promise) => promise.fulfil(Err(error)),
            Question::Create(_, promise) | Question::Delete(_, promise) => {
                promise.fulfil(Err(error));
            }
            Question::Offsets(_, _, promise) => promise.fulfil(Err(error)),
            Question::Committed(_, _, promise) => promise.fulfil(Err(error)),
        }
    }
}

fn unknown_partition(operation: &'static str, of: &TopicPartition) -> LogError {
    let message = "there is no such partition; create the topic or correct its name";
    LogError::new(ErrorClass::Fatal, operation, message).on(of)
}

/// The log as one process sees it.
#[derive(Debug, Clone)]
pub struct SimLog {
    cluster: SimCluster,
    process: Process,
}

impl SimLog {
    fn open_producer(&self, id: &str, kind: Kind, bell: Bell) -> Box<dyn TransactionalProducer> {
        let mut cluster = self.cluster.lock();
        cluster.calls += 1;
        let number = cluster.calls;
        let client = Client::new(number, id, kind, self.process.clone(), bell.clone());
        cluster.clients.insert(number, client);
        drop(cluster);
        Box::new(SimProducer::new(self.cluster.clone(), number, bell))
    }

    fn ask<T>(&self, question: impl FnOnce(Promise<T>) -> Question) -> Ticket<T> {
        // The seam has no bell for these calls: whoever asks polls the ticket.
        let (promise, ticket) = ticket(Bell::new());
        self.cluster.lock().outgoing.push(Event::Ask(question(promise)));
        self.cluster.bell.ring();
        ticket
    }
}

impl Log for SimLog {
    fn kind(&self) -> &'static str {
        "sim"
    }

    fn holds_state(&self) -> bool {
        false
    }

    fn transaction_timeout(&self) -> Duration {
        self.cluster.lock().config.transaction_timeout
    }

    fn describe_topics(&self, names: Vec<Arc<str>>) -> Ticket<LogResult<Vec<TopicSpec>>> {
        self.ask(|promise| Question::Describe(names, promise))
    }

    fn create_topics(&self, topics: Vec<TopicSpec>) -> Ticket<LogResult<()>> {
        self.ask(|promise| Question::Create(topics, promise))
    }

    fn delete_records(&self, before: Vec<(TopicPartition, i64)>) -> Ticket<LogResult<()>> {
        self.ask(|promise| Question::Delete(before, promise))
    }

    fn offsets(
        &self,
        partitions: Vec<TopicPartition>,
        query: OffsetQuery,
    ) -> Ticket<LogResult<Vec<i64>>> {
        self.ask(|promise| Question::Offsets(partitions, query, promise))
    }

    fn committed(
        &self,
        group: &str,
        partitions: Vec<TopicPartition>,
    ) -> Ticket<LogResult<Vec<Option<CommittedOffset>>>> {
        let group = Arc::from(group);
        self.ask(|promise| Question::Committed(group, partitions, promise))
    }

    fn reader(
        &self,
        partition: &TopicPartition,
        offset: i64,
        isolation: Isolation,
        _purpose: Purpose,
        bell: Bell,
    ) -> LogResult<Box<dyn PartitionReader>> {
        if self.cluster.lock().broker.partition(partition).is_none() {
            return Err(unknown_partition("open a reader", partition));
        }
        let cluster = self.cluster.clone();
        Ok(Box::new(SimReader::new(cluster, partition.clone(), offset, isolation, bell)))
    }

    fn producer(
        &self,
        transactional_id: &str,
        bell: Bell,
    ) -> LogResult<Box<dyn TransactionalProducer>> {
        Ok(self.open_producer(transactional_id, Kind::Transactional, bell))
    }

    fn plain_producer(&self, name: &str, bell: Bell) -> LogResult<Box<dyn TransactionalProducer>> {
        Ok(self.open_producer(name, Kind::Plain, bell))
    }
}

//! The brokers of the simulated cluster: topics, transaction coordinators and group coordinators, as
//! one state that answers requests at once. Knows no network and no client; what a request sets off
//! later (markers, timeouts) is left as chores.
//!
//! Sources: KIP-98 (transactions), KIP-447 (group metadata in commits), KIP-890 part 1 (a partition
//! takes records of open transactions only), and the states of Kafka's `TransactionMetadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::partition::{Appended, PartitionLog, ProducerEpoch};
use crate::log::{CommittedOffset, Identity, TopicSpec};
use crate::record::{RecordBatch, RecordPrint, TopicPartition};

const METADATA_MAX: usize = 4096;

/// Who asks: the producer, and which of its transactions it means.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) transactional_id: Arc<str>,
    pub(super) producer: ProducerEpoch,
    /// Counts the transactions of the producer's epoch from 1. A connection keeps order, so what a
    /// broker gets of an ended transaction is a second delivery.
    pub(super) serial: u64,
}

/// A request of a producer.
#[derive(Debug, Clone)]
pub(super) enum Request {
    Initialise {
        transactional_id: Arc<str>,
        expected: Option<ProducerEpoch>,
    },
    Produce {
        caller: Caller,
        to: TopicPartition,
        sequence: u64,
        records: RecordBatch,
    },
    Offsets {
        caller: Caller,
        identity: Identity,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
    },
    End {
        caller: Caller,
        commit: bool,
    },
    /// Records that belong to no transaction.
    Append {
        name: Arc<str>,
        to: TopicPartition,
        records: RecordBatch,
    },
    /// Offsets that belong to no transaction.
    Commit {
        name: Arc<str>,
        identity: Identity,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
    },
}

impl Request {
    /// The partition that records go to.
    pub(super) fn destination(&self) -> Option<&TopicPartition> {
        match self {
            Request::Produce { to, .. } | Request::Append { to, .. } => Some(to),
            _ => None,
        }
    }

    pub(super) fn transactional_id(&self) -> &Arc<str> {
        match self {
            Request::Initialise { transactional_id, .. } => transactional_id,
            Request::Append { name, .. } | Request::Commit { name, .. } => name,
            Request::Produce { caller, .. }
            | Request::Offsets { caller, .. }
            | Request::End { caller, .. } => &caller.transactional_id,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Request::Initialise { .. } => "initialise the producer",
            Request::Produce { .. } => "produce",
            Request::Append { .. } => "produce without a transaction",
            Request::Commit { .. } => "commit offsets",
            Request::Offsets { .. } => "add offsets to the transaction",
            Request::End { commit: true, .. } => "commit the transaction",
            Request::End { commit: false, .. } => "abort the transaction",
        }
    }
}

/// What a broker answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    Initialised(ProducerEpoch),
    /// The offset after the batch.
    Produced(i64),
    Done,
}

/// Why it does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A newer epoch of the producer exists.
    Fenced(String),
    /// The transaction cannot be committed.
    Abort(String),
    /// The transaction before is still ending.
    Wait,
    /// The coordinator is moving.
    Moving,
    /// A record is refused for what it is.
    Record { print: RecordPrint, message: String },
    /// The request can never succeed.
    Fatal(String),
}

/// Something that a request set off.
#[derive(Debug, Clone)]
pub(super) enum Chore {
    /// Abort the transaction if it is still open when its time is over.
    Expire { transactional_id: Arc<str>, producer: ProducerEpoch, serial: u64 },
    /// Write a marker.
    Mark { transactional_id: Arc<str>, place: Marking },
}

/// Where a marker goes.
#[derive(Debug, Clone)]
pub(super) enum Marking {
    Partition(TopicPartition),
    Group(Arc<str>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Empty,
    Ongoing,
    Ending { commit: bool },
}

#[derive(Debug)]
struct Transaction {
    producer: ProducerEpoch,
    phase: Phase,
    serial: u64,
    ended_by_commit: bool,
    partitions: BTreeSet<TopicPartition>,
    groups: BTreeSet<Arc<str>>,
    unmarked: usize,
    initialised_by: Option<u64>,
}

#[derive(Debug, Default)]
struct Group {
    /// Set once a coordinator manages its members; then only they commit.
    members: Option<BTreeMap<Arc<str>, i32>>,
    committed: BTreeMap<TopicPartition, CommittedOffset>,
    pending: BTreeMap<i64, BTreeMap<TopicPartition, CommittedOffset>>,
}

#[derive(Debug)]
struct Topic {
    spec: TopicSpec,
    /// Bytes of key and value that one record may have.
    record_bytes_max: usize,
    partitions: Vec<PartitionLog>,
}

/// The state of all brokers.
#[derive(Debug, Default)]
pub(super) struct Broker {
    topics: BTreeMap<Arc<str>, Topic>,
    transactions: BTreeMap<Arc<str>, Transaction>,
    groups: BTreeMap<Arc<str>, Group>,
    producers: i64,
    /// By call, the offset after what was appended outside transactions.
    appended: BTreeMap<u64, i64>,
    chores: Vec<Chore>,
}

impl Broker {
    pub(super) fn take_chores(&mut self) -> Vec<Chore> {
        std::mem::take(&mut self.chores)
    }

    // ---- topics --------------------------------------------------------------------------------

    pub(super) fn create(&mut self, spec: TopicSpec) {
        self.topics.entry(Arc::clone(&spec.name)).or_insert_with(|| {
            let partitions = (0..spec.partitions).map(|_| PartitionLog::default()).collect();
            Topic { spec, record_bytes_max: usize::MAX, partitions }
        });
    }

    /// The topic takes no larger records from now on.
    pub(super) fn limit_records(&mut self, topic: &str, bytes: usize) {
        self.topics.get_mut(topic).expect("the topic exists").record_bytes_max = bytes;
    }

    /// Refuses a batch with a record that is larger than its topic takes.
    fn check_sizes(&self, to: &TopicPartition, records: &RecordBatch) -> Result<(), Refusal> {
        let max = self.topics.get(&to.topic).map_or(usize::MAX, |topic| topic.record_bytes_max);
        for record in records.records().map_while(Result::ok) {
            let bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
            if bytes > max {
                let print = RecordPrint::of(record.key, record.value);
                let message = format!("a record of {bytes} bytes is too large, {to} takes {max}");
                return Err(Refusal::Record { print, message });
            }
        }
        Ok(())
    }

    pub(super) fn spec(&self, name: &str) -> Option<&TopicSpec> {
        self.topics.get(name).map(|topic| &topic.spec)
    }

    pub(super) fn topics(&self) -> impl Iterator<Item = &TopicSpec> {
        self.topics.values().map(|topic| &topic.spec)
    }

    pub(super) fn partition(&self, of: &TopicPartition) -> Option<&PartitionLog> {
        self.topics.get(&of.topic)?.partitions.get(usize::try_from(of.partition).ok()?)
    }

    pub(super) fn partition_mut(&mut self, of: &TopicPartition) -> Option<&mut PartitionLog> {
        self.topics.get_mut(&of.topic)?.partitions.get_mut(usize::try_from(of.partition).ok()?)
    }

    // ---- transactions --------------------------------------------------------------------------

    /// Carries a request out. `call` names it, so that a second delivery is known.
    pub(super) fn handle(&mut self, call: u64, request: &Request) -> Result<Reply, Refusal> {
        match request {
            Request::Initialise { transactional_id, expected } => {
                self.initialise(call, transactional_id, *expected)
            }
            Request::Append { to, records, .. } => self.append(call, to, records),
            Request::Commit { identity, offsets, .. } => {
                self.check_member(identity)?;
                let group = self.groups.entry(Arc::clone(&identity.group)).or_default();
                group.committed.extend(offsets.iter().cloned());
                Ok(Reply::Done)
            }
            Request::Produce { caller, to, sequence, records } => {
                self.produce(caller, to, *sequence, records)
            }
            Request::Offsets { caller, identity, offsets } => {
                self.add_offsets(caller, identity, offsets)
            }
            Request::End { caller, commit } => self.end(caller, *commit),
        }
    }

    fn initialise(
        &mut self,
        call: u64,
        id: &Arc<str>,
        expected: Option<ProducerEpoch>,
    ) -> Result<Reply, Refusal> {
        let Some(transaction) = self.transactions.get_mut(id) else {
            self.producers += 1;
            let producer = ProducerEpoch { id: self.producers, epoch: 0 };
            let transaction = Transaction {
                producer,
                phase: Phase::Empty,
                serial: 0,
                ended_by_commit: false,
                partitions: BTreeSet::new(),
                groups: BTreeSet::new(),
                unmarked: 0,
                initialised_by: Some(call),
            };
            self.transactions.insert(Arc::clone(id), transaction);
            return Ok(Reply::Initialised(producer));
        };
        if transaction.initialised_by == Some(call) && transaction.phase == Phase::Empty {
            return Ok(Reply::Initialised(transaction.producer));
        }
        if expected.is_some_and(|expected| expected != transaction.producer) {
            return Err(taken_over(id));
        }
        match transaction.phase {
            Phase::Ending { .. } => Err(Refusal::Wait),
            Phase::Ongoing => {
                if expected.is_none() {
                    transaction.producer.epoch += 1;
                }
                self.start_ending(id, false);
                Err(Refusal::Wait)
            }
            Phase::Empty => {
                transaction.producer.epoch += 1;
                transaction.serial = 0;
                transaction.initialised_by = Some(call);
                Ok(Reply::Initialised(transaction.producer))
            }
        }
    }

    fn transaction(&mut self, caller: &Caller) -> Result<&mut Transaction, Refusal> {
        match self.transactions.get_mut(&caller.transactional_id) {
            Some(transaction) if transaction.producer == caller.producer => Ok(transaction),
            _ => Err(taken_over(&caller.transactional_id)),
        }
    }

    /// The transaction is open from now on, if it may be.
    fn open(&mut self, caller: &Caller) -> Result<&mut Transaction, Refusal> {
        let transaction = self.transaction(caller)?;
        let ended = || Refusal::Abort("the transaction has ended".to_owned());
        match transaction.phase {
            Phase::Ending { .. } => return Err(Refusal::Wait),
            Phase::Ongoing if transaction.serial != caller.serial => return Err(ended()),
            Phase::Empty if caller.serial <= transaction.serial => return Err(ended()),
            Phase::Ongoing => {}
            Phase::Empty => {
                transaction.phase = Phase::Ongoing;
                transaction.serial = caller.serial;
                self.chores.push(Chore::Expire {
                    transactional_id: Arc::clone(&caller.transactional_id),
                    producer: caller.producer,
                    serial: caller.serial,
                });
            }
        }
        self.transaction(caller)
    }

    fn produce(
        &mut self,
        caller: &Caller,
        to: &TopicPartition,
        sequence: u64,
        records: &RecordBatch,
    ) -> Result<Reply, Refusal> {
        self.transaction(caller)?;
        let missing = || Refusal::Fatal(format!("there is no partition {to}; create its topic"));
        let seen = self.partition(to).ok_or_else(missing)?.seen(caller.producer, sequence);
        if let Some(end) = seen {
            return Ok(Reply::Produced(end));
        }
        self.check_sizes(to, records)?;
        self.open(caller)?.partitions.insert(to.clone());
        let partition = self.partition_mut(to).ok_or_else(missing)?;
        match partition.append(caller.producer, sequence, records) {
            Appended::At(end) | Appended::Before(end) => Ok(Reply::Produced(end)),
            Appended::OutOfOrder => Err(Refusal::Abort(format!("a batch is missing on {to}"))),
        }
    }

    fn add_offsets(
        &mut self,
        caller: &Caller,
        identity: &Identity,
        offsets: &[(TopicPartition, CommittedOffset)],
    ) -> Result<Reply, Refusal> {
        if let Some((of, _)) = offsets.iter().find(|(_, o)| o.metadata.len() > METADATA_MAX) {
            let message = format!("metadata of {of} is longer than {METADATA_MAX} bytes");
            return Err(Refusal::Fatal(message));
        }
        self.transaction(caller)?;
        self.check_member(identity)?;
        self.open(caller)?.groups.insert(Arc::clone(&identity.group));
        let group = self.groups.entry(Arc::clone(&identity.group)).or_default();
        group.pending.entry(caller.producer.id).or_default().extend(offsets.iter().cloned());
        Ok(Reply::Done)
    }

    /// Where a group has members, only they commit.
    fn check_member(&self, identity: &Identity) -> Result<(), Refusal> {
        let members = self.groups.get(&identity.group).and_then(|group| group.members.as_ref());
        let Some(members) = members else { return Ok(()) };
        match members.get(&identity.member) {
            Some(epoch) if *epoch == identity.epoch => Ok(()),
            Some(epoch) => Err(Refusal::Abort(format!(
                "epoch {} of member {} is stale, the group has {epoch}",
                identity.epoch, identity.member
            ))),
            None => Err(Refusal::Abort(format!("{} is no member of the group", identity.member))),
        }
    }

    /// Appends outside every transaction, once for each call.
    fn append(
        &mut self,
        call: u64,
        to: &TopicPartition,
        records: &RecordBatch,
    ) -> Result<Reply, Refusal> {
        if let Some(&end) = self.appended.get(&call) {
            return Ok(Reply::Produced(end));
        }
        self.check_sizes(to, records)?;
        let missing = || Refusal::Fatal(format!("there is no partition {to}; create its topic"));
        let end = self.partition_mut(to).ok_or_else(missing)?.append_plain(records);
        self.appended.insert(call, end);
        Ok(Reply::Produced(end))
    }

    fn end(&mut self, caller: &Caller, commit: bool) -> Result<Reply, Refusal> {
        let transaction = self.transaction(caller)?;
        let ended = match transaction.phase {
            Phase::Ongoing if transaction.serial == caller.serial => {
                self.start_ending(&caller.transactional_id, commit);
                return Ok(Reply::Done);
            }
            Phase::Empty if caller.serial > transaction.serial => {
                // Nothing of it has arrived, or ever will.
                transaction.serial = caller.serial;
                transaction.ended_by_commit = commit;
                return Ok(Reply::Done);
            }
            Phase::Ending { commit } => commit,
            _ => transaction.ended_by_commit,
        };
        match ended == commit && transaction.serial == caller.serial {
            true => Ok(Reply::Done),
            false => Err(Refusal::Abort("the transaction has ended otherwise".to_owned())),
        }
    }

    fn start_ending(&mut self, id: &Arc<str>, commit: bool) {
        let transaction = self.transactions.get_mut(id).expect("the caller found it");
        transaction.phase = Phase::Ending { commit };
        let partitions = transaction.partitions.iter().cloned().map(Marking::Partition);
        let groups = transaction.groups.iter().cloned().map(Marking::Group);
        let places: Vec<_> = partitions.chain(groups).collect();
        transaction.unmarked = places.len();
        let mark = |place| Chore::Mark { transactional_id: Arc::clone(id), place };
        self.chores.extend(places.into_iter().map(mark));
    }

    /// Writes one marker of an ending transaction; the last one ends it.
    pub(super) fn mark(&mut self, id: &Arc<str>, place: &Marking) {
        let transaction = self.transactions.get_mut(id).expect("it is ending");
        let Phase::Ending { commit } = transaction.phase else {
            unreachable!("a transaction stays in its end until all markers are written")
        };
        let producer = transaction.producer.id;
        transaction.unmarked -= 1;
        if transaction.unmarked == 0 {
            transaction.phase = Phase::Empty;
            transaction.ended_by_commit = commit;
            transaction.partitions.clear();
            transaction.groups.clear();
        }
        match place {
            Marking::Partition(of) => {
                self.partition_mut(of).expect("it took records").mark(producer, commit);
            }
            Marking::Group(name) => {
                let group = self.groups.entry(Arc::clone(name)).or_default();
                let offsets = group.pending.remove(&producer).unwrap_or_default();
                if commit {
                    group.committed.extend(offsets);
                }
            }
        }
    }

    /// Aborts this transaction if it is open, and fences its producer. True if it was.
    pub(super) fn expire(&mut self, id: &Arc<str>, of: Option<(ProducerEpoch, u64)>) -> bool {
        let Some(transaction) = self.transactions.get_mut(id) else { return false };
        let same = of.is_none_or(|of| of == (transaction.producer, transaction.serial));
        if transaction.phase != Phase::Ongoing || !same {
            return false;
        }
        transaction.producer.epoch += 1;
        self.start_ending(id, false);
        true
    }

    /// No transaction is open or ending.
    pub(super) fn is_settled(&self) -> bool {
        self.transactions.values().all(|transaction| transaction.phase == Phase::Empty)
    }

    // ---- groups --------------------------------------------------------------------------------

    /// The stable committed offsets, in the order asked; `None` while one of them is undecided.
    pub(super) fn committed(
        &self,
        group: &str,
        of: &[TopicPartition],
    ) -> Option<Vec<Option<CommittedOffset>>> {
        let Some(group) = self.groups.get(group) else { return Some(vec![None; of.len()]) };
        let undecided = |p: &TopicPartition| group.pending.values().any(|o| o.contains_key(p));
        if of.iter().any(undecided) {
            return None;
        }
        Some(of.iter().map(|partition| group.committed.get(partition).cloned()).collect())
    }

    /// From now on only members commit, each with its current epoch.
    pub(super) fn set_members(&mut self, group: &Arc<str>, members: BTreeMap<Arc<str>, i32>) {
        self.groups.entry(Arc::clone(group)).or_default().members = Some(members);
    }
}

fn taken_over(id: &str) -> Refusal {
    Refusal::Fenced(format!("a newer producer of {id} has taken over, or its transaction expired"))
}

/// How long an open transaction may take, if nobody says otherwise.
pub(super) const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

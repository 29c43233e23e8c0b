//! `TopologyTestDriver`: runs the whole topology as one task, one partition per topic, step by step,
//! with a wall clock that stands still until it is moved.
//!
//! Source: `org.apache.kafka.streams.TopologyTestDriver` (KIP-247, KIP-470). After each processed
//! record, also one that was read back from a topic, due stream-time punctuations run, caches are
//! flushed in topology order, and only then is what was written read back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use headwater_state::StateError;
use headwater_state::database::memory::MemoryDisk;
use headwater_state::database::{Database, Direction};
use headwater_state::layout::{timestamped, versioned};
use headwater_state::lease::Leases;
use headwater_state::positions::TaskPositions;
use headwater_state::store::{KeyValueReads, StorePartition, Version, VersionedReads};

use crate::config::StreamsConfig;
use crate::log::Fetched;
use crate::metrics::Metrics;
use crate::record::batch::{RecordBatch, RecordBatchBuilder};
use crate::record::{Headers, TaskId, TopicPartition, Window};
use crate::serde::{SerdeError, SharedSerde};
use crate::store::{GlobalRows, StoreKind, StoreSpec};
use crate::task::{StreamTask, TaskError, TaskSettings, positions_of_offsets, store_family};
use crate::time::Now;
use crate::topology::Topology;

/// Runs a topology step by step.
///
/// ```
/// use headwater::dsl::{Consumed, Produced, StreamsBuilder};
/// use headwater::serde::serdes::{i64, string};
/// use headwater::testing::{TestInput, TestOutput, TopologyTestDriver};
///
/// let builder = StreamsBuilder::new();
/// builder
///     .stream("in", Consumed::with(string(), i64()))
///     .map_values(|_, n| n * 2)
///     .to("out", Produced::with(string(), i64()));
/// let mut driver = TopologyTestDriver::new(&builder.build()?)?;
/// TestInput::new("in", string(), i64()).pipe(&mut driver, &"a".into(), &21, 1_000)?;
/// let out = TestOutput::new("out", string(), i64()).read(&mut driver)?;
/// assert_eq!((&*out[0].key, out[0].value, out[0].timestamp), ("a", 42, 1_000));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TopologyTestDriver {
    task: StreamTask,
    pub(super) parts: Parts,
    pub(super) topology: Arc<Topology>,
    ends: BTreeMap<Arc<str>, i64>,
    outputs: BTreeMap<Arc<str>, VecDeque<TestBytes>>,
    globals: Arc<[GlobalRows]>,
    wall_ms: i64,
}

/// What a task is made of, also when it starts anew.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) database: Arc<dyn Database>,
    pub(super) leases: Leases,
    pub(super) settings: TaskSettings,
    /// Everything that was written to the stores' changelogs.
    pub(super) changelogs: BTreeMap<TopicPartition, Vec<RecordBatch>>,
}

impl Parts {
    /// Opens a store, under a lease of its own.
    pub(super) fn open(&self, spec: &StoreSpec) -> Result<StorePartition, StateError> {
        let family = store_family(&self.settings.application_id, &spec.name);
        StorePartition::open(Arc::clone(&self.database), self.leases.grant(&family, 0))
    }

    fn task(
        &self,
        topology: &Arc<Topology>,
        from: &TaskPositions,
        now: Now,
    ) -> Result<StreamTask, TaskError> {
        let state = |source| TaskError::State { task: TASK, source };
        let mut stores = Vec::new();
        for (index, spec) in topology.stores().iter().enumerate() {
            stores.push((index, self.open(spec).map_err(state)?));
        }
        StreamTask::new(topology, TASK, stores, from, self.settings.clone(), now)
    }
}

/// The one task.
pub(super) const TASK: TaskId = TaskId { subtopology: 0, partition: 0 };

/// A record that came out, or went in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestRecord<K, V> {
    /// The key.
    pub key: K,
    /// The value.
    pub value: V,
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// The headers.
    pub headers: Headers,
}

/// A record as a topic holds it: key and value as bytes, or null.
pub type TestBytes = TestRecord<Option<Vec<u8>>, Option<Vec<u8>>>;

/// Key and value as a topic holds them.
type KeyAndValue = (Option<Vec<u8>>, Option<Vec<u8>>);

/// A row of a store, as bytes without the store's own framing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRow {
    /// The key.
    pub key: Vec<u8>,
    /// The window, of window stores.
    pub window: Option<Window>,
    /// The value.
    pub value: Vec<u8>,
    /// The row's time, of stores that keep one.
    pub timestamp: Option<i64>,
}

impl TopologyTestDriver {
    /// A driver whose wall clock starts at 0 and whose failing records go to dead letter topics.
    ///
    /// # Errors
    /// A processor's `init` failed.
    pub fn new(topology: &Arc<Topology>) -> Result<Self, TaskError> {
        Self::with(topology, &StreamsConfig::new("test"), 0)
    }

    /// A driver with these settings, its wall clock at `wall_clock_ms`.
    ///
    /// # Errors
    /// A processor's `init` failed.
    pub fn with(
        topology: &Arc<Topology>,
        config: &StreamsConfig,
        wall_clock_ms: i64,
    ) -> Result<Self, TaskError> {
        let state = |source| TaskError::State { task: TASK, source };
        let database: Arc<dyn Database> = MemoryDisk::new().open("test").map_err(state)?;
        let leases = Leases::new();
        let application_id: Arc<str> = config.application_id.as_str().into();
        let open = |spec: &StoreSpec| {
            GlobalRows::open(Arc::clone(&database), &store_family(&application_id, &spec.name))
        };
        let globals: Result<Arc<[GlobalRows]>, _> =
            topology.globals().iter().map(|global| open(&global.spec)).collect();
        let globals = globals.map_err(state)?;
        let settings = TaskSettings {
            audit: false,
            application_id: Arc::clone(&application_id),
            on_error: config.on_error,
            dead_letter_topic: config.dead_letter_topic.as_deref().map(Into::into),
            partition_counts: Arc::default(),
            queue_bytes: usize::MAX,
            record_bytes_max: None,
            tasks_family: None,
            whole_topology: true,
            globals: Arc::clone(&globals),
            metrics: Metrics::new().task(&application_id, "0_0"),
        };
        let changelogs = BTreeMap::new();
        let parts = Parts { database, leases, settings, changelogs };
        let task = parts.task(topology, &TaskPositions::default(), now(wall_clock_ms))?;
        let mut driver = Self {
            task,
            parts,
            topology: Arc::clone(topology),
            ends: BTreeMap::new(),
            outputs: BTreeMap::new(),
            globals,
            wall_ms: wall_clock_ms,
        };
        driver.reach_ends();
        Ok(driver)
    }

    /// Commits everything, stops the task and starts it anew from what was committed, on the same
    /// stores: as a process that is killed behind a commit and comes back. Whatever a processor keeps
    /// outside of stores is gone, and wall-clock punctuations begin anew.
    ///
    /// # Errors
    /// As [`pipe`](Self::pipe), and a processor's `init` failed.
    pub fn restart(&mut self) -> Result<(), TaskError> {
        let from = self.commit()?;
        self.reopen(&from)
    }

    /// Commits everything; gives where the task then stands.
    pub(super) fn commit(&mut self) -> Result<TaskPositions, TaskError> {
        let commit = self.task.prepare_commit(false)?;
        let state = |source| TaskError::State { task: TASK, source };
        let Parts { database, leases, changelogs, .. } = &mut self.parts;
        commit.state.write(leases, &**database, &[]).map_err(state)?;
        for (to, batch) in commit.records {
            changelogs.entry(to).or_default().push(batch);
        }
        let offsets: Vec<_> = commit.offsets.into_iter().map(|(p, o)| (p, Some(o))).collect();
        positions_of_offsets(TASK, &offsets)
    }

    /// Starts the task anew on the stores as they are.
    pub(super) fn reopen(&mut self, from: &TaskPositions) -> Result<(), TaskError> {
        self.task = self.parts.task(&self.topology, from, now(self.wall_ms))?;
        self.reach_ends();
        Ok(())
    }

    /// Tells every queue that there is nothing more to read.
    fn reach_ends(&mut self) {
        for input in 0..self.task.inputs().len() {
            let position = self.ends.get(&self.task.inputs()[input].topic).copied().unwrap_or(0);
            let nothing = Fetched { batches: Vec::new(), position, at_end: true };
            self.task.enqueue(input, nothing, now(self.wall_ms));
        }
    }

    /// One record arrives, and everything it causes is processed.
    ///
    /// # Errors
    /// Processing failed and the settings say to fail ([`OnError::Fail`](crate::config::OnError)).
    ///
    /// # Panics
    /// The topology does not read this topic.
    pub fn pipe(
        &mut self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp: i64,
        headers: &Headers,
    ) -> Result<(), TaskError> {
        if let Some(at) = self.topology.globals().iter().position(|g| *g.topic == *topic) {
            let end = self.ends.entry(topic.into()).or_insert(0);
            *end += 1;
            let record = key.map(|key| (key, value, timestamp));
            let state = |source| TaskError::State { task: self.task.id(), source };
            return self.globals[at].apply(0, record, *end).map_err(state);
        }
        let mut batch = RecordBatchBuilder::new();
        batch.append(timestamp, key, value, headers).expect("the test's headers keep the limits");
        let input = self.input(topic).expect("the topology reads the topic");
        self.enqueue(input, batch);
        self.run()
    }

    /// The wall clock jumps forward at once; due wall-clock punctuations run and timers fire, and
    /// everything they cause is processed.
    ///
    /// # Errors
    /// As [`pipe`](Self::pipe).
    pub fn advance_wall_clock(&mut self, by: Duration) -> Result<(), TaskError> {
        self.wall_ms += crate::time::saturating_ms(by);
        self.run()
    }

    /// Takes the raw records written to a topic so far.
    pub fn take(&mut self, topic: &str) -> Vec<TestBytes> {
        self.outputs.get_mut(topic).map(|records| records.drain(..).collect()).unwrap_or_default()
    }

    /// Task stream time.
    pub fn stream_time(&self) -> i64 {
        self.task.stream_time()
    }

    /// The rows of a store that can be read now (of a versioned one, the latest of each key), in the store's order.
    ///
    /// # Panics
    /// The topology has no such store, or a row is damaged.
    pub fn rows(&self, store: &str) -> Vec<StoredRow> {
        if let Some(at) = self.topology.globals().iter().position(|g| *g.spec.name == *store) {
            return global_rows(&self.globals[at]);
        }
        let specs = self.topology.stores();
        let at = specs.iter().position(|s| *s.name == *store).expect("the topology has the store");
        let spec = &specs[at];
        let state = self.task.store(at).state();
        if let StoreKind::Versioned(history_ms) = spec.kind {
            return versions(&VersionedReads::new(state, history_ms, state.observed_ms()), state);
        }
        let split = |stored: &[u8]| match spec.kind.is_timestamped() {
            false => (None, stored.to_vec()),
            true => {
                let (time, value) = timestamped::decode(stored).expect("the row has its time");
                (Some(time), value.to_vec())
            }
        };
        let observed = state.observed_ms().unwrap_or(0);
        let readable_after = spec.kind.retention_ms().map(|retention| observed - retention);
        let is_readable = |time: i64| readable_after.is_none_or(|after| time > after);
        let mut rows = Vec::new();
        let mut cursor = state.all(Direction::Forward).expect("memory can be read");
        while cursor.advance().expect("memory can be read") {
            let Some((key, window, time)) = spec.kind.row_of(cursor.key()) else { continue };
            if time.is_some_and(|time| !is_readable(time)) {
                continue;
            }
            let (timestamp, value) = split(cursor.value());
            rows.push(StoredRow { key: key.to_vec(), window, value, timestamp });
        }
        rows
    }

    /// The rows of a store as it keeps them, expired ones too: store key and stored value.
    pub(super) fn stored(&self, store: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        let specs = self.topology.stores();
        let at = specs.iter().position(|s| *s.name == *store).expect("the topology has the store");
        let state = self.task.store(at).state();
        let mut cursor = state.all(Direction::Forward).expect("memory can be read");
        let mut rows = Vec::new();
        while cursor.advance().expect("memory can be read") {
            rows.push((cursor.key().to_vec(), cursor.value().to_vec()));
        }
        rows
    }

    /// The row of a key in a versioned store that was valid at a time in milliseconds, if it can
    /// still be looked up.
    ///
    /// # Panics
    /// The topology has no such store, or it keeps no versions.
    pub fn row_as_of(&self, store: &str, key: &[u8], time: i64) -> Option<StoredRow> {
        let specs = self.topology.stores();
        let at = specs.iter().position(|s| *s.name == *store).expect("the topology has the store");
        let StoreKind::Versioned(history_ms) = specs[at].kind else {
            panic!("store {store} keeps no versions");
        };
        let state = self.task.store(at).state();
        let reads = VersionedReads::new(state, history_ms, state.observed_ms());
        version(key, reads.as_of(key, time).expect("memory can be read"))
    }

    fn run(&mut self) -> Result<(), TaskError> {
        loop {
            let now = now(self.wall_ms);
            let mut worked = self.task.process(now, 1)? > 0;
            let due = self.task.next_wall_punctuation();
            if !worked && due.is_some_and(|due| due <= self.wall_ms) {
                self.task.punctuate_wall(now)?;
                worked = true;
            }
            if !self.settle()? && !worked {
                return Ok(());
            }
        }
    }

    /// Flushes caches, then reads back what was written; false if that is nothing.
    fn settle(&mut self) -> Result<bool, TaskError> {
        self.task.flush()?;
        let written = self.task.take_outbox();
        let wrote = !written.is_empty();
        for (to, batch) in written {
            let mut again = RecordBatchBuilder::new();
            let output = self.outputs.entry(Arc::clone(&to.topic)).or_default();
            for record in batch.records() {
                let record = record.expect("the task's own encoding reads");
                let headers = record.headers.decode().expect("the task's own encoding reads");
                again
                    .append(record.timestamp, record.key, record.value, &headers)
                    .expect("what fitted once fits again");
                output.push_back(TestRecord {
                    key: record.key.map(<[u8]>::to_vec),
                    value: record.value.map(<[u8]>::to_vec),
                    timestamp: record.timestamp,
                    headers,
                });
            }
            if let Some(input) = self.input(&to.topic) {
                self.enqueue(input, again);
            }
        }
        Ok(wrote)
    }

    fn input(&self, topic: &str) -> Option<usize> {
        let inputs: &[TopicPartition] = self.task.inputs();
        inputs.iter().position(|p| *p.topic == *topic)
    }

    fn enqueue(&mut self, input: usize, batch: RecordBatchBuilder) {
        let topic = Arc::clone(&self.task.inputs()[input].topic);
        let end = self.ends.entry(topic).or_insert(0);
        let batch = RecordBatch::new(*end, batch.finish()).expect("the builder's encoding reads");
        *end = batch.next_offset();
        let fetched = Fetched { position: *end, batches: vec![batch], at_end: true };
        self.task.enqueue(input, fetched, now(self.wall_ms));
    }
}

fn global_rows(rows: &GlobalRows) -> Vec<StoredRow> {
    let committed = rows.committed();
    let mut cursor = committed.all(Direction::Forward).expect("memory can be read");
    let mut found = Vec::new();
    while cursor.advance().expect("memory can be read") {
        let (time, value) = timestamped::decode(cursor.value()).expect("the row has its time");
        let (key, value) = (cursor.key().to_vec(), value.to_vec());
        found.push(StoredRow { key, window: None, value, timestamp: Some(time) });
    }
    found
}

/// The latest version of each key that has one.
fn versions(reads: &VersionedReads<'_, StorePartition>, state: &StorePartition) -> Vec<StoredRow> {
    let mut keys = BTreeSet::new();
    let mut cursor = state.all(Direction::Forward).expect("memory can be read");
    while cursor.advance().expect("memory can be read") {
        keys.extend(versioned::decode(cursor.key()).map(|(key, _)| key.to_vec()));
    }
    let latest = |key: Vec<u8>| version(&key, reads.latest(&key).expect("memory can be read"));
    keys.into_iter().filter_map(latest).collect()
}

fn version(key: &[u8], found: Option<Version>) -> Option<StoredRow> {
    let Version { since_ms, value } = found?;
    Some(StoredRow { key: key.to_vec(), window: None, value: value?, timestamp: Some(since_ms) })
}

fn now(wall_ms: i64) -> Now {
    Now { monotonic: Duration::ZERO, wall_ms }
}

/// Puts typed records into a topic.
#[derive(Debug, Clone)]
pub struct TestInput<K, V> {
    topic: String,
    key: SharedSerde<K>,
    value: SharedSerde<V>,
}

impl<K: 'static, V: 'static> TestInput<K, V> {
    /// An input topic.
    pub fn new(topic: &str, key: SharedSerde<K>, value: SharedSerde<V>) -> Self {
        Self { topic: topic.to_owned(), key, value }
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// Key and value as bytes, or null.
    pub(super) fn encode(&self, key: &K, value: &V) -> Result<KeyAndValue, SerdeError> {
        Ok((self.key.to_bytes(key)?, self.value.to_bytes(value)?))
    }

    /// One record arrives.
    ///
    /// # Errors
    /// As [`TopologyTestDriver::pipe`]; a key or value that its serde refuses is a `User` failure.
    pub fn pipe(
        &self,
        driver: &mut TopologyTestDriver,
        key: &K,
        value: &V,
        timestamp: i64,
    ) -> Result<(), TaskError> {
        let refused = |error: SerdeError| TaskError::User {
            task: driver.task.id(),
            place: None,
            message: error.to_string(),
        };
        let (key, value) = self.encode(key, value).map_err(refused)?;
        let headers = Headers::empty();
        driver.pipe(&self.topic, key.as_deref(), value.as_deref(), timestamp, headers)
    }
}

/// Takes typed records from a topic.
#[derive(Debug, Clone)]
pub struct TestOutput<K, V> {
    topic: String,
    key: SharedSerde<K>,
    value: SharedSerde<V>,
}

impl<K: 'static, V: 'static> TestOutput<K, V> {
    /// An output topic.
    pub fn new(topic: &str, key: SharedSerde<K>, value: SharedSerde<V>) -> Self {
        Self { topic: topic.to_owned(), key, value }
    }

    /// Takes every record written to the topic since the last call.
    ///
    /// # Errors
    /// A record's bytes are none of these types.
    pub fn read(
        &self,
        driver: &mut TopologyTestDriver,
    ) -> Result<Vec<TestRecord<K, V>>, SerdeError> {
        let records = driver.take(&self.topic).into_iter().map(|record| {
            Ok(TestRecord {
                key: self.key.decode(record.key.as_deref())?,
                value: self.value.decode(record.value.as_deref())?,
                timestamp: record.timestamp,
                headers: record.headers,
            })
        });
        records.collect()
    }
}

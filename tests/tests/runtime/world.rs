//! A process that is stepped: an application on the embedded log over a disk in memory, a virtual
//! clock, and ways to kill it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use headwater::actor::{Actor, Bell, Next, Poll, Ticket};
use headwater::config::StreamsConfig;
use headwater::log::embedded::{EmbeddedLog, EmbeddedSettings};
use headwater::log::{Identity as Member, Isolation, Log, LogError, LogResult, Purpose};
use headwater::membership::single::Single;
use headwater::membership::{Membership, MembershipEvent};
use headwater::metrics::Metrics;
use headwater::record::batch::{RecordBatch, RecordBatchBuilder};
use headwater::record::{Headers, TaskId, TopicPartition};
use headwater::runtime::{StateHome, Streams, StreamsParts, StreamsState};
use headwater::time::{Clock, Now, VirtualClock};
use headwater::topology::Topology;
use headwater_state::database::Database;
use headwater_state::database::memory::MemoryDisk;
use headwater_state::directory::{Identity, StateDirectory, Storage};
use headwater_state::error::Mode;
use headwater_state::lease::Leases;

use super::faulty::{Faulty, LogDebug};
use super::unheld::Unheld;

/// Where everything of the process is, beyond one run of it.
#[derive(Clone)]
pub(crate) struct Ground {
    /// The log's disk; with the state on it if the log holds it.
    pub(crate) disk: MemoryDisk,
    /// The disk of the tasks' databases, if the log does not hold the state.
    pub(crate) state: Option<MemoryDisk>,
    /// Seed of failing transactions.
    pub(crate) faults: Option<u64>,
    pub(crate) clock: VirtualClock,
}

impl Ground {
    pub(crate) fn held() -> Self {
        let clock = VirtualClock::new(1_700_000_000_000);
        Self { disk: MemoryDisk::new(), state: None, faults: None, clock }
    }

    pub(crate) fn unheld() -> Self {
        Self { state: Some(MemoryDisk::new()), ..Self::held() }
    }
}

/// The only member of a group.
#[derive(Debug)]
struct OnlyMember(Single);

impl Membership for OnlyMember {
    fn poll(&mut self, now: Now) -> Result<Option<MembershipEvent>, LogError> {
        self.0.poll(now)
    }

    fn acknowledge(&mut self) {}

    fn identity(&self, task: TaskId) -> Option<Member> {
        Some(Member { member: "only".into(), ..self.0.identity(task)? })
    }

    fn leave(&mut self) {}

    fn listen(&mut self, bell: Bell) {
        self.0.listen(bell);
    }
}

/// One run of the process.
pub(crate) struct World {
    pub(crate) ground: Ground,
    pub(crate) clock: VirtualClock,
    pub(crate) log: Arc<EmbeddedLog>,
    pub(crate) streams: Streams,
    pub(crate) metrics: Metrics,
    actors: Vec<Option<Box<dyn Actor>>>,
}

/// A record's key and value.
pub(crate) type Raw = (Option<Vec<u8>>, Option<Vec<u8>>);
/// An output record: key, value, timestamp.
pub(crate) type Output = (String, Option<i64>, i64);

impl World {
    /// Starts the application there.
    pub(crate) fn start(ground: Ground, config: StreamsConfig, topology: Arc<Topology>) -> Self {
        let database: Arc<dyn Database> = ground.disk.open("data").expect("the disk is free");
        let leases = Leases::new();
        let (log, mut actors) =
            EmbeddedLog::open(Arc::clone(&database), leases.clone(), EmbeddedSettings::default())
                .expect("the log opens");
        let metrics = Metrics::new();
        let group = config.application_id.clone();
        let (seam, home): (Arc<dyn LogDebug>, _) = match &ground.state {
            None => (Arc::clone(&log) as _, StateHome::Shared(database)),
            Some(disk) => {
                let applications = BTreeSet::from([group.clone()]);
                let identity = Identity { mode: Mode::Kafka, applications, cluster: None };
                let directory = StateDirectory::open(Storage::Memory(disk.clone()), identity);
                let directory = Arc::new(directory.expect("the disk is free"));
                (Arc::new(Unheld(Arc::clone(&log))), StateHome::PerTask(directory))
            }
        };
        let faulty = ground.faults.is_some();
        let seam: Arc<dyn Log> = match ground.faults {
            Some(seed) => Arc::new(Faulty::new(seam, seed)),
            None => seam,
        };
        let (streams, more) = Streams::build(StreamsParts {
            topology,
            config,
            instance: "0".to_owned(),
            log: seam,
            home,
            leases,
            join: Box::new(move |space| {
                let single = Single::new(group, space);
                // A process without a group takes a fence for another process and stops.
                Ok(if faulty { Box::new(OnlyMember(single)) as _ } else { Box::new(single) as _ })
            }),
            metrics: metrics.clone(),
            overlay_bytes: 1 << 20,
            queue_bytes: 1 << 20,
            create_topics: Some(2),
        })
        .expect("the configuration is valid");
        actors.extend(more);
        let actors = actors.into_iter().map(Some).collect();
        let clock = ground.clock.clone();
        Self { ground, clock, log, streams, metrics, actors }
    }

    /// Steps every actor once and lets a millisecond pass.
    pub(crate) fn round(&mut self) {
        for slot in &mut self.actors {
            if let Some(actor) = slot
                && actor.step(self.clock.now()) == Next::Done
            {
                *slot = None;
            }
        }
        self.clock.advance(Duration::from_millis(1));
    }

    /// Steps until it is so.
    pub(crate) fn until(&mut self, what: &str, mut so: impl FnMut(&Self) -> bool) {
        for _ in 0..60_000 {
            if so(self) {
                return;
            }
            self.round();
        }
        let (state, tasks) = (self.streams.state(), self.streams.board().tasks());
        let failure = self.streams.board().failure();
        panic!("not so after 60,000 rounds: {what}; {state}, {failure:?}, {tasks:?}");
    }

    pub(crate) fn until_running(&mut self) {
        self.until("running", |w| w.streams.state() == StreamsState::Running);
    }

    /// Waits for an answer.
    pub(crate) fn answer<T>(&mut self, ticket: &Ticket<LogResult<T>>) -> T {
        for _ in 0..1_000 {
            match ticket.poll() {
                Poll::Pending => self.round(),
                Poll::Done(answer) => return answer.expect("the log accepts"),
                Poll::Abandoned => panic!("nobody answers"),
            }
        }
        panic!("no answer after 1,000 rounds");
    }

    /// Appends records (key, value, timestamp) to one partition, durably.
    pub(crate) fn append(&mut self, topic: &str, partition: u32, records: &[(&str, &str, i64)]) {
        let ticket = append_to(&self.log, topic, partition, records);
        self.answer(&ticket);
    }

    /// Everything in a topic of 64-bit counts by key, partition after partition.
    pub(crate) fn outputs(&self, topic: &str) -> Vec<Output> {
        outputs_of(&self.log, topic)
    }

    /// Keys and values of everything in a topic, partition after partition.
    pub(crate) fn records(&self, topic: &str) -> Vec<Raw> {
        records_of(&self.log, topic).into_iter().map(|(key, value, _)| (key, value)).collect()
    }

    /// The last value of each key.
    pub(crate) fn last_outputs(&self, topic: &str) -> std::collections::BTreeMap<String, i64> {
        let last = self.outputs(topic).into_iter();
        last.filter_map(|(key, value, _)| value.map(|value| (key, value))).collect()
    }

    /// The process dies. The log's disk keeps everything written, synced or not; the state's disk
    /// keeps the first `state_batches` of what was not synced.
    pub(crate) fn kill(self, state_batches: usize) -> Ground {
        let Self { ground, log, streams, actors, .. } = self;
        drop((actors, streams, log));
        ground.disk.crash(usize::MAX);
        if let Some(state) = &ground.state {
            state.crash(state_batches);
        }
        ground
    }
}

/// Appends records (key, value, timestamp) to one partition; the answer comes when they are synced.
pub(crate) fn append_to(
    log: &EmbeddedLog,
    topic: &str,
    partition: u32,
    records: &[(&str, &str, i64)],
) -> Ticket<LogResult<Vec<i64>>> {
    let mut batch = RecordBatchBuilder::new();
    for (key, value, time) in records {
        let (key, value) = (key.as_bytes(), value.as_bytes());
        batch.append(*time, Some(key), Some(value), Headers::empty()).expect("small");
    }
    let batch = RecordBatch::new(0, batch.finish()).expect("well-formed");
    log.append(&[(TopicPartition::new(topic, partition), batch)], Bell::new())
}

/// Everything in a topic of 64-bit counts by key, partition after partition.
pub(crate) fn outputs_of(log: &EmbeddedLog, topic: &str) -> Vec<Output> {
    let count = |v: Vec<u8>| i64::from_be_bytes(v.try_into().expect("eight bytes"));
    let text = |k: Option<Vec<u8>>| String::from_utf8(k.expect("a key")).expect("text");
    let records = records_of(log, topic).into_iter();
    records.map(|(key, value, time)| (text(key), value.map(count), time)).collect()
}

/// Key, value and timestamp.
type TimedRaw = (Option<Vec<u8>>, Option<Vec<u8>>, i64);

fn records_of(log: &EmbeddedLog, topic: &str) -> Vec<TimedRaw> {
    let spec = log.topics().into_iter().find(|t| *t.name == *topic);
    let mut found = Vec::new();
    for partition in 0..spec.map_or(0, |t| t.partitions) {
        let from = TopicPartition::new(topic, partition);
        let isolation = Isolation::ReadCommitted;
        let reader = log.reader(&from, 0, isolation, Purpose::Restore, Bell::new());
        let mut reader = reader.expect("the topic is there");
        loop {
            let fetched = reader.take(1 << 20).expect("readable");
            if fetched.batches.is_empty() {
                break;
            }
            for record in fetched.batches.iter().flat_map(RecordBatch::records) {
                let record = record.expect("whole");
                let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
                found.push((owned(record.key), owned(record.value), record.timestamp));
            }
        }
    }
    found
}

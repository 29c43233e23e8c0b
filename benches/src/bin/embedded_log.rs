//! How many records a second the embedded log appends, reads and passes through, beside bare
//! RocksDB doing the same with the same encoded batches in the same run.
//!
//! Both sides encode each record into a batch of 100-byte values, write one atomic batch for all
//! partitions, sync every 100 ms, and decode every record they read. The log runs as it does in
//! production: its writer and syncer on threads of their own, the driver an actor on another. For
//! the figure of one core, pin the process: `taskset -c 0 embedded_log`.
#![expect(clippy::print_stdout, reason = "a bench prints its result")]

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use clap::Parser;
use headwater::actor::spawn::spawn;
use headwater::actor::{Actor, Bell, Next, Poll, Ticket};
use headwater::log::embedded::{EmbeddedLog, EmbeddedSettings};
use headwater::log::{
    Cleanup, CommitRequest, Committed, Identity, Isolation, Log, LogResult, PartitionReader,
    Purpose, StateBatch, TopicSpec, TransactionalProducer,
};
use headwater::record::{Headers, RecordBatch, RecordBatchBuilder, TopicPartition};
use headwater::time::{Now, SystemClock};
use headwater_state::database::rocks::{MemoryBudget, RocksDatabase, SharedMemory};
use headwater_state::lease::Leases;
use rocksdb::{DB, IteratorMode, Options, WriteBatch};

const SYNC_EVERY: Duration = Duration::from_millis(100);
const TAKE_BYTES: usize = 256 << 10;
const MEMTABLE_BYTES: usize = 64 << 20;

/// Appends, reads and passes records through the embedded log and through bare RocksDB.
#[derive(Parser)]
struct Arguments {
    /// Records in each measurement.
    #[arg(long, default_value_t = 2_000_000)]
    records: usize,
    /// Records in a batch; may be given several times.
    #[arg(long, default_values_t = [64, 512])]
    batch: Vec<usize>,
    /// Partitions, each with one batch in every commit.
    #[arg(long, default_value_t = 4)]
    partitions: u32,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100)]
    value_bytes: usize,
}

/// What is written: the same on both sides.
struct Load {
    commits: usize,
    batch: usize,
    partitions: u32,
    value: Vec<u8>,
}

impl Load {
    fn records(&self) -> usize {
        self.commits * self.batch * usize::try_from(self.partitions).expect("few partitions")
    }

    fn encode(&self, commit: usize) -> RecordBatch {
        let mut builder = RecordBatchBuilder::with_capacity(self.batch * (self.value.len() + 20));
        for index in 0..self.batch {
            let key = (commit * self.batch + index).to_be_bytes();
            builder
                .append(1_700_000_000_000, Some(&key), Some(&self.value), Headers::empty())
                .expect("no headers");
        }
        RecordBatch::new(0, builder.finish()).expect("just built")
    }
}

/// Decodes every record; what was read cannot be optimised away.
fn decode(batch: &RecordBatch) -> (usize, usize) {
    let (mut records, mut bytes) = (0, 0);
    for record in batch.records() {
        let record = record.expect("well formed");
        records += 1;
        bytes += record.value.map_or(0, <[u8]>::len);
    }
    (records, bytes)
}

/// Encodes a batch's records anew, as a task does that passes them through.
fn pass(batch: &RecordBatch, into: &mut RecordBatchBuilder) -> usize {
    let mut records = 0;
    for record in batch.records() {
        let record = record.expect("well formed");
        into.append(record.timestamp, record.key, record.value, Headers::empty())
            .expect("no headers");
        records += 1;
    }
    records
}

fn finish(builder: &mut RecordBatchBuilder) -> RecordBatch {
    RecordBatch::new(0, std::mem::take(builder).finish()).expect("just built")
}

/// Records a second.
fn rate(records: usize, time: Duration) -> f64 {
    f64::from(u32::try_from(records).expect("fewer than 2^32 records")) / time.as_secs_f64()
}

struct Bare {
    database: DB,
    synced: Instant,
}

impl Bare {
    fn open(path: &Path) -> Self {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_write_buffer_size(MEMTABLE_BYTES);
        options.set_compression_type(rocksdb::DBCompressionType::None);
        Self { database: DB::open(&options, path).expect("opens"), synced: Instant::now() }
    }

    fn write(&mut self, batch: WriteBatch) {
        self.database.write(batch).expect("written");
        if self.synced.elapsed() >= SYNC_EVERY {
            self.database.flush_wal(true).expect("synced");
            self.synced = Instant::now();
        }
    }

    fn key(partition: u32, offset: usize) -> [u8; 12] {
        let mut key = [0; 12];
        key[..4].copy_from_slice(&partition.to_be_bytes());
        key[4..].copy_from_slice(&offset.to_be_bytes());
        key
    }

    fn append(&mut self, load: &Load) -> Duration {
        let start = Instant::now();
        for commit in 0..load.commits {
            let mut batch = WriteBatch::default();
            for partition in 0..load.partitions {
                let key = Self::key(partition, commit * load.batch);
                batch.put(key, load.encode(commit).bytes());
            }
            self.write(batch);
        }
        self.database.flush_wal(true).expect("synced");
        start.elapsed()
    }

    fn read(&self, load: &Load) -> Duration {
        let start = Instant::now();
        let mut records = 0;
        for row in self.database.iterator(IteratorMode::Start) {
            let (_, value) = row.expect("a row");
            let batch = RecordBatch::new(0, value.into_vec().into()).expect("a batch");
            records += decode(&batch).0;
        }
        assert_eq!(records, load.records());
        start.elapsed()
    }

    /// Reads what was appended and writes it again behind all partitions.
    fn pass_through(&mut self, load: &Load) -> Duration {
        let start = Instant::now();
        let mut builders: Vec<_> =
            (0..load.partitions).map(|_| RecordBatchBuilder::new()).collect();
        for commit in 0..load.commits {
            let mut batch = WriteBatch::default();
            for partition in 0..load.partitions {
                let key = Self::key(partition, commit * load.batch);
                let value = self.database.get_pinned(key).expect("read").expect("there");
                let read = RecordBatch::new(0, value.to_vec().into()).expect("a batch");
                let index = usize::try_from(partition).expect("few partitions");
                pass(&read, &mut builders[index]);
                let key = Self::key(load.partitions + partition, commit * load.batch);
                batch.put(key, finish(&mut builders[index]).bytes());
            }
            self.write(batch);
        }
        self.database.flush_wal(true).expect("synced");
        start.elapsed()
    }
}

/// What the driver does with the log.
enum Job {
    Append { next: usize },
    Read { readers: Vec<Box<dyn PartitionReader>>, records: usize },
    PassThrough { readers: Vec<Box<dyn PartitionReader>>, records: usize, committed: Duration },
}

/// One stream thread: does its job in commits, never waiting but for its bell.
struct Driver {
    load: Arc<Load>,
    producer: Box<dyn TransactionalProducer>,
    initialised: Option<Ticket<LogResult<()>>>,
    commit: Option<Ticket<LogResult<Committed>>>,
    outputs: Vec<TopicPartition>,
    builders: Vec<RecordBatchBuilder>,
    job: Job,
    bell: Bell,
    done: mpsc::Sender<()>,
}

impl Driver {
    fn commit(&mut self) {
        let identity = Identity { group: "bench".into(), member: "".into(), epoch: -1 };
        let request = CommitRequest { offsets: Vec::new(), identity, state: StateBatch::default() };
        self.commit = Some(self.producer.commit(request));
    }

    /// True when nothing is left to do.
    fn work(&mut self, now: Now) -> bool {
        match &mut self.job {
            Job::Append { next } => {
                if *next == self.load.commits {
                    return true;
                }
                self.producer.begin().expect("begun");
                for output in &self.outputs {
                    self.producer.send(output, &self.load.encode(*next)).expect("sent");
                }
                *next += 1;
                self.commit();
                false
            }
            Job::Read { readers, records } => {
                for reader in readers {
                    let fetched = reader.take(TAKE_BYTES).expect("records");
                    *records += fetched.batches.iter().map(|batch| decode(batch).0).sum::<usize>();
                }
                *records == self.load.records()
            }
            Job::PassThrough { readers, records, committed } => {
                let before = *records;
                if before == 0 {
                    self.producer.begin().expect("begun");
                    *committed = now.monotonic;
                }
                for ((reader, builder), output) in
                    readers.iter_mut().zip(&mut self.builders).zip(&self.outputs)
                {
                    for batch in reader.take(TAKE_BYTES).expect("records").batches {
                        *records += pass(&batch, builder);
                        self.producer.send(output, &finish(builder)).expect("sent");
                    }
                }
                let ended = *records == self.load.records();
                if ended && before == *records {
                    return true;
                }
                if ended || now.monotonic - *committed >= SYNC_EVERY {
                    *committed = now.monotonic;
                    self.commit();
                }
                false
            }
        }
    }
}

impl Actor for Driver {
    fn name(&self) -> &str {
        "driver"
    }

    fn bell(&self) -> Bell {
        self.bell.clone()
    }

    fn step(&mut self, now: Now) -> Next {
        if let Some(ticket) = self.initialised.take() {
            match ticket.poll() {
                Poll::Done(answer) => answer.expect("initialised"),
                _ => {
                    self.initialised = Some(ticket);
                    return Next::Wait;
                }
            }
        }
        if let Some(ticket) = self.commit.take() {
            match ticket.poll() {
                Poll::Done(answer) => drop(answer.expect("committed")),
                _ => {
                    self.commit = Some(ticket);
                    return Next::Wait;
                }
            }
            if matches!(self.job, Job::PassThrough { .. }) {
                self.producer.begin().expect("begun");
            }
        }
        if self.work(now) {
            self.done.send(()).expect("the bench waits");
            return Next::Done;
        }
        Next::Again
    }
}

struct Embedded {
    log: Arc<EmbeddedLog>,
    clock: Arc<SystemClock>,
    load: Arc<Load>,
}

impl Embedded {
    fn open(path: &Path, load: Arc<Load>) -> Self {
        let budget =
            MemoryBudget { block_cache_bytes: 64 << 20, memtable_bytes: 2 * MEMTABLE_BYTES };
        let database = RocksDatabase::open(path, &SharedMemory::new(budget)).expect("opens");
        let settings = EmbeddedSettings { sync_interval: SYNC_EVERY, ..Default::default() };
        let (log, actors) = EmbeddedLog::open(database, Leases::new(), settings).expect("opens");
        let clock = Arc::new(SystemClock::new());
        for actor in actors {
            spawn(actor, Arc::clone(&clock) as Arc<_>).expect("a thread");
        }
        let topic = |name: &str| TopicSpec {
            name: name.into(),
            partitions: load.partitions,
            cleanup: Cleanup::Delete { retention: None },
        };
        let created = log.create_topics(vec![topic("input"), topic("output")]);
        while matches!(created.poll(), Poll::Pending) {
            std::thread::yield_now();
        }
        Self { log, clock, load }
    }

    fn run(&self, job: Job, output: &str) -> Duration {
        let bell = Bell::new();
        let mut producer = self.log.producer("driver", bell.clone()).expect("a producer");
        let (done, waits) = mpsc::channel();
        let partitions = 0..self.load.partitions;
        let initialised = Some(producer.initialise());
        let driver = Driver {
            load: Arc::clone(&self.load),
            producer,
            initialised,
            commit: None,
            outputs: partitions.clone().map(|p| TopicPartition::new(output, p)).collect(),
            builders: partitions.map(|_| RecordBatchBuilder::new()).collect(),
            job,
            bell,
            done,
        };
        let start = Instant::now();
        spawn(Box::new(driver), Arc::clone(&self.clock) as Arc<_>).expect("a thread");
        waits.recv().expect("the driver ends by its job");
        start.elapsed()
    }

    fn readers(&self) -> Vec<Box<dyn PartitionReader>> {
        let reader = |partition| {
            let input = TopicPartition::new("input", partition);
            let isolation = Isolation::ReadCommitted;
            self.log.reader(&input, 0, isolation, Purpose::Input, Bell::new()).expect("a reader")
        };
        (0..self.load.partitions).map(reader).collect()
    }

    fn append(&self) -> Duration {
        self.run(Job::Append { next: 0 }, "input")
    }

    fn read(&self) -> Duration {
        self.run(Job::Read { readers: self.readers(), records: 0 }, "input")
    }

    fn pass_through(&self) -> Duration {
        let committed = Duration::ZERO;
        let readers = self.readers();
        self.run(Job::PassThrough { readers, records: 0, committed }, "output")
    }
}

fn measure(load: Arc<Load>) -> serde_json::Value {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let records = load.records();
    let mut bare = Bare::open(&scratch.path().join("bare"));
    let log = Embedded::open(&scratch.path().join("log"), Arc::clone(&load));
    let pairs = [
        ("append", log.append(), bare.append(&load)),
        ("read", log.read(), bare.read(&load)),
        ("pass_through", log.pass_through(), bare.pass_through(&load)),
    ];
    log.log.close();
    let mut result = serde_json::json!({ "batch": load.batch, "records": records });
    for (name, log, bare) in pairs {
        let (log, bare) = (rate(records, log), rate(records, bare));
        result[format!("{name}_per_s")] = log.round().into();
        result[format!("bare_{name}_per_s")] = bare.round().into();
        result[format!("{name}_ratio")] = ((100.0 * log / bare).round() / 100.0).into();
    }
    result
}

fn main() {
    let arguments = Arguments::parse();
    let partitions = usize::try_from(arguments.partitions).expect("few partitions");
    let results: Vec<_> = arguments
        .batch
        .iter()
        .map(|&batch| {
            measure(Arc::new(Load {
                commits: (arguments.records / (batch * partitions)).max(1),
                batch,
                partitions: arguments.partitions,
                value: vec![b'x'; arguments.value_bytes],
            }))
        })
        .collect();
    let line = serde_json::json!({
        "bench": "embedded_log",
        "value_bytes": arguments.value_bytes,
        "partitions": arguments.partitions,
        "sizes": results,
    });
    println!("{line}");
}

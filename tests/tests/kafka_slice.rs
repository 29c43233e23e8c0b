//! Killed with -9 at any moment, on a real broker, the application has lost nothing, doubled nothing
//! and never thrown its state away. Outputs are read with a client of the test's own and compared
//! with a recomputation from the input; stores are compared with the same, and with stores that are
//! restored from the changelogs alone.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, park_timeout};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use headwater::runtime::Host;
use headwater_state::database::Direction;
use headwater_state::layout::timestamped;
use headwater_state::store::{Committed, KeyValueReads};
use headwater_tests::child::Child;
use headwater_tests::kafka_broker::KafkaBroker;
use headwater_tests::proof;
use headwater_tests::slice::model::{Expected, Number, Values};
use headwater_tests::slice::{
    self, APPLICATION, COUNTS, INPUT, PARTITIONS, STORES, TOTALS, WINDOWS,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

/// Kills in `make test`.
const KILLS: u64 = 5;
const SOON: Duration = Duration::from_secs(120);
/// Times the broker is killed under one running application.
const BROKER_KILLS: usize = 3;
/// Records that are written in one go, and the pause after them.
const BURST: usize = 20;
const PAUSE: Duration = Duration::from_millis(10);

#[test]
fn an_application_that_is_killed_again_and_again_loses_and_doubles_nothing() {
    let seeds = proof::seeds("kafka slice", KILLS);
    prove("kafka slice", *seeds.start(), |broker, state, watch| {
        for seed in seeds.clone() {
            kill_once(broker, state, seed, watch);
        }
        format!("{} kills ({} before it ran)", seeds.count(), watch.early)
    });
}

#[test]
fn a_broker_that_is_killed_under_the_application_costs_time_and_nothing_else() {
    prove("kafka slice under broker kills", 1, |broker, state, watch| {
        let mut child = Child::start("slice", &command(broker, state));
        wait_until_it_runs(&mut child, 1, watch);
        for _ in 0..BROKER_KILLS {
            wait(Duration::from_millis(1_500));
            broker.kill();
            wait(Duration::from_millis(1_500));
            broker.restart();
        }
        wait(Duration::from_millis(1_500));
        assert!(!child.has_ended(), "it lives through it:\n{}", child.log_tail());
        child.kill();
        format!("{BROKER_KILLS} kills of the broker")
    });
}

#[test]
fn of_two_processes_without_a_group_the_newer_runs_and_the_older_stops() {
    prove("kafka slice taken over", 1, |broker, state, watch| {
        let mut old = Child::start("slice", &command(broker, state));
        wait_until_it_runs(&mut old, 1, watch);
        wait(Duration::from_millis(500));
        let elsewhere = tempfile::tempdir().expect("a folder for the newer one's state");
        let mut new = Child::start("slice", &command(broker, elsewhere.path()));
        wait_until_it_runs(&mut new, 1, &mut Watch::default());
        let status = old.wait(SOON);
        assert!(!status.success(), "the older one stops with a failure");
        let said = old.log_tail();
        for part in ["failed: application slice", "id slice-0-0", "stop the other one"] {
            assert!(said.contains(part), "{part}:\n{said}");
        }
        wait(Duration::from_millis(1_000));
        assert!(!new.has_ended(), "the newer one goes on:\n{}", new.log_tail());
        new.kill();
        "one takeover".to_owned()
    });
}

/// Runs faults under load, then compares everything there is.
fn prove(name: &str, seed: u64, faults: impl FnOnce(&KafkaBroker, &Path, &mut Watch) -> String) {
    let Some(broker) = KafkaBroker::start(&[]) else { return };
    for topic in [INPUT, COUNTS, WINDOWS, TOTALS] {
        broker.create_topic(topic, PARTITIONS, &[]);
    }
    let state = tempfile::tempdir().expect("a folder for state");
    let load = Load::start(&broker, seed);
    let mut watch = Watch::default();
    let done = faults(&broker, state.path(), &mut watch);
    let input = load.stop();
    let expected = Expected::of(&input);

    let host = slice::start(&broker.address(), state.path()).expect("it starts");
    let outputs = Outputs::read(&broker, &expected);
    assert_eq!(outputs.judge(&expected), [""; 0], "{name}");
    let survived = stores(&host, &expected);
    end(host);
    // Nothing more came while it stopped.
    assert_eq!(Outputs::read(&broker, &expected).judge(&expected), [""; 0], "{name}");

    let empty = tempfile::tempdir().expect("another folder");
    let host = slice::start(&broker.address(), empty.path()).expect("it starts");
    let restored = stores(&host, &expected);
    end(host);
    assert_eq!(survived, restored, "{name}: what survived is what the changelogs hold");
    assert_eq!(Outputs::read(&broker, &expected).judge(&expected), [""; 0], "{name}");
    proof::say(&format!(
        "{name}: {done}, {} records, {} late, {} restores from the stores' own positions of {} \
         changelog offsets in all; 0 lost, 0 doubled, stores equal",
        input.iter().map(Vec::len).sum::<usize>(),
        expected.late,
        watch.resumed,
        watch.offsets,
    ));
    broker.stop();
}

/// What the children said about their state.
#[derive(Default)]
struct Watch {
    /// Children that were killed before they ran.
    early: u64,
    /// Restores that went on from a store's position, and of how many offsets.
    resumed: u64,
    offsets: i64,
    /// Stores that have had a position.
    known: BTreeSet<(String, String)>,
}

impl Watch {
    /// Reads one line of a child's log. A store that once had a position has one ever after.
    fn read(&mut self, line: &str, seed: u64) {
        if line.contains("failed:") || line.contains("ERROR") {
            panic!("seed {seed}: {line}");
        }
        if !line.contains(" restore ") || !line.contains("why=") {
            return;
        }
        let field = |name: &str| {
            let rest = line.split_once(&format!(" {name}=")).map(|(_, rest)| rest)?;
            rest.split_whitespace().next().map(str::to_owned)
        };
        let part = |name: &str| field(name).unwrap_or_else(|| panic!("no {name}: {line}"));
        let number = |name: &str| part(name).parse::<i64>().expect("an offset");
        let store = (part("task"), part("store"));
        if line.contains("the store's position\"") {
            self.resumed += 1;
            self.offsets += number("to") - number("from");
            self.known.insert(store);
        } else {
            assert!(!self.known.contains(&store), "seed {seed}: state was thrown away: {line}");
        }
    }
}

/// Runs the application in a process of its own and kills it: mostly while it runs, sometimes
/// while it starts.
fn kill_once(broker: &KafkaBroker, state: &Path, seed: u64, watch: &mut Watch) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut child = Child::start("slice", &command(broker, state));
    if random.random_ratio(1, 4) {
        watch.early += 1;
        wait(Duration::from_millis(random.random_range(0..1_500)));
        child.log_tail().lines().for_each(|line| watch.read(line, seed));
    } else {
        wait_until_it_runs(&mut child, seed, watch);
        wait(Duration::from_millis(random.random_range(0..2_500)));
        for line in child.log_tail().lines() {
            assert!(!line.contains("failed:"), "seed {seed}: {line}");
        }
    }
    child.kill();
}

fn command(broker: &KafkaBroker, state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_slice"));
    command.arg(broker.address()).arg(state);
    command
}

fn wait_until_it_runs(child: &mut Child, seed: u64, watch: &mut Watch) {
    let watch = RefCell::new(watch);
    child.wait_for_line(SOON, |line| {
        watch.borrow_mut().read(line, seed);
        line == "running"
    });
}

fn wait(time: Duration) {
    let deadline = Instant::now() + time;
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        park_timeout(left);
    }
}

/// Writes the input, at a steady pace, until it is stopped.
struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Vec<Number>>>,
}

impl Load {
    fn start(broker: &KafkaBroker, seed: u64) -> Self {
        let producer: BaseProducer = broker
            .client()
            .set("enable.idempotence", "true")
            .create()
            .expect("a producer can be made");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut input = vec![Vec::new(); usize::from(PARTITIONS)];
            let mut random = StdRng::seed_from_u64(seed);
            while !stopped.load(Ordering::Acquire) {
                for _ in 0..BURST {
                    write_one(&producer, &mut input, &mut random);
                }
                producer.poll(PAUSE);
            }
            producer.flush(SOON).expect("all is delivered");
            input
        });
        Self { stop, thread }
    }

    fn stop(self) -> Vec<Vec<Number>> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().expect("the load was written")
    }
}

/// A record of now, or of up to half a minute ago, which is often too late.
fn write_one(producer: &BaseProducer, input: &mut [Vec<Number>], random: &mut StdRng) {
    let written: usize = input.iter().map(Vec::len).sum();
    let key_number = random.random_range(0..200_u32);
    let partition = usize::try_from(key_number).expect("small") % input.len();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    let ago = if random.random_ratio(1, 10) { random.random_range(0..30_000) } else { 0 };
    let record = Number {
        key: format!("key-{key_number}"),
        number: i64::try_from(written).expect("few records") + 1,
        timestamp: i64::try_from(now).expect("a date") - ago,
    };
    let value = record.number.to_be_bytes();
    let message = BaseRecord::to(INPUT)
        .partition(i32::try_from(partition).expect("few partitions"))
        .key(&record.key)
        .payload(&value[..])
        .timestamp(record.timestamp);
    match producer.send(message) {
        Ok(()) => input[partition].push(record),
        Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {}
        Err((error, _)) => panic!("the load cannot be written: {error}"),
    }
}

/// The committed records of the three output topics.
#[derive(Default)]
struct Outputs {
    topics: BTreeMap<String, Values>,
}

impl Outputs {
    /// Reads until as many are there as expected, then to the end.
    fn read(broker: &KafkaBroker, expected: &Expected) -> Self {
        let wanted =
            expected.counts.values().sum::<i64>() * 2 + expected.windows.values().sum::<i64>();
        let consumer: BaseConsumer = broker
            .client()
            .set("group.id", "judge")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .create()
            .expect("a consumer can be made");
        let mut partitions = TopicPartitionList::new();
        for topic in [COUNTS, WINDOWS, TOTALS] {
            for partition in 0..i32::from(PARTITIONS) {
                partitions
                    .add_partition_offset(topic, partition, Offset::Beginning)
                    .expect("a valid offset");
            }
        }
        consumer.assign(&partitions).expect("assigned by hand");
        let deadline = Instant::now() + SOON;
        let (mut outputs, mut found, mut quiet) = (Self::default(), 0, 0);
        // A quiet second after the last one shows what would be too much.
        while (found < wanted || quiet < 10) && Instant::now() < deadline {
            quiet += 1;
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    (found, quiet) = (found + 1, 0);
                    outputs.add(&message);
                }
                None | Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) => panic!("the outputs cannot be read: {error}"),
            }
        }
        outputs
    }

    fn add(&mut self, message: &impl Message) {
        let key = message.key_view::<str>().expect("a key").expect("text").to_owned();
        let value = message.payload().expect("a value").try_into().expect("8 bytes");
        let topic = self.topics.entry(message.topic().to_owned()).or_default();
        topic.entry(key).or_default().push(i64::from_be_bytes(value));
    }

    fn judge(&self, expected: &Expected) -> Vec<String> {
        let none = Values::new();
        let of = |topic: &str| self.topics.get(topic).unwrap_or(&none);
        let mut wrong = expected.judge(of(COUNTS), of(WINDOWS), of(TOTALS));
        wrong.truncate(20);
        wrong
    }
}

/// All rows of all stores, by store and key; waits until they say what they must.
fn stores(host: &Host, expected: &Expected) -> BTreeMap<(String, Vec<u8>), Vec<u8>> {
    let deadline = Instant::now() + SOON;
    loop {
        assert!(host.view().is_live(), "the application runs");
        if host.view().is_ready() {
            let rows = rows(host);
            let wrong = judge_rows(&rows, expected);
            if wrong.is_empty() {
                return rows;
            }
            assert!(Instant::now() < deadline, "{:#?}", &wrong[..wrong.len().min(20)]);
        }
        assert!(Instant::now() < deadline, "the application is ready in time");
        park_timeout(Duration::from_millis(20));
    }
}

fn rows(host: &Host) -> BTreeMap<(String, Vec<u8>), Vec<u8>> {
    let application = host.view().application(APPLICATION).expect("it is hosted");
    let mut rows = BTreeMap::new();
    for name in STORES {
        let handles = application.board().store(name);
        assert_eq!(handles.len(), usize::from(PARTITIONS), "every partition of {name} is here");
        for handle in handles {
            let view = handle.database.view().expect("the database is open");
            let committed =
                Committed { reader: &*view, family: &handle.family, partition: handle.partition };
            let mut cursor = committed.all(Direction::Forward).expect("rows");
            while let Some((key, value)) = cursor.next().expect("a row") {
                let before = rows.insert((name.to_owned(), key.to_vec()), value.to_vec());
                assert_eq!(before, None, "a key lies in one partition");
            }
        }
    }
    rows
}

/// Compares rows with the recomputation.
fn judge_rows(rows: &BTreeMap<(String, Vec<u8>), Vec<u8>>, expected: &Expected) -> Vec<String> {
    let mut wanted: BTreeMap<(String, String), i64> = BTreeMap::new();
    for (key, count) in &expected.counts {
        wanted.insert(("counts".to_owned(), key.clone()), *count);
    }
    for ((key, start), count) in &expected.windows {
        wanted.insert(("windows".to_owned(), format!("{key}@{start}")), *count);
    }
    for (bucket, numbers) in &expected.buckets {
        wanted.insert(("totals".to_owned(), bucket.clone()), numbers.iter().sum());
    }
    let mut wrong = Vec::new();
    for ((store, key), value) in rows {
        let key = if store == "windows" {
            let (key, start, _) =
                headwater_state::layout::window::decode(key).expect("a window's key");
            format!("{}@{start}", String::from_utf8_lossy(key))
        } else {
            String::from_utf8_lossy(key).into_owned()
        };
        let (_, value) = timestamped::decode(value).expect("a time and a value");
        let found = i64::from_be_bytes(value.try_into().expect("8 bytes"));
        match wanted.remove(&(store.clone(), key.clone())) {
            Some(value) if value == found => {}
            value => wrong.push(format!("{store} {key}: {found}, expected {value:?}")),
        }
    }
    wrong.extend(wanted.into_iter().map(|(place, value)| format!("{place:?}: {value} missing")));
    wrong
}

fn end(host: Host) {
    host.stop();
    host.wait().expect("it stops in order");
}

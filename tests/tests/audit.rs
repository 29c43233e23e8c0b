//! The auditor finds nothing wrong with what an application wrote, over restarts, on the embedded log
//! and on Kafka; and it finds each thing that a raw producer puts wrong, at its exact place.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater::actor::Bell;
use headwater::audit::{Report, Scope, audit};
use headwater::config::{KafkaConfig, StreamsConfig};
use headwater::log::Log;
use headwater::log::kafka::{KafkaLog, KafkaSettings};
use headwater::record::stamp::{STAMP_HEADER, Stamp};
use headwater::record::{Headers, RecordBatch, RecordBatchBuilder, TaskId, TopicPartition};
use headwater::runtime::{Application, Host};
use headwater::shell::{self, Program};
use headwater::task::application_hash;
use headwater::time::SystemClock;
use headwater_tests::counted::{self, INPUT, OUTPUT};
use headwater_tests::kafka_broker::KafkaBroker;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

const SOON: Duration = Duration::from_secs(60);
const PARTITIONS: u16 = 2;

fn config(application: &str) -> StreamsConfig {
    StreamsConfig { audit: true, ..StreamsConfig::new(application) }
}

fn judge(log: &dyn Log, application: &str) -> Report {
    let scope = Scope::of(&counted::topology(), application, None);
    audit(log, &scope, &SystemClock::new(), SOON).expect("it can be audited")
}

/// Audits a running application until so many of its records are there and all of them were judged:
/// what is committed after an audit began is left to the next one. However early it is asked, the
/// auditor finds nothing wrong and knows of every task that has written what it has committed.
fn judge_once_there(log: &dyn Log, application: &str, records: usize) -> Report {
    let deadline = Instant::now() + SOON;
    loop {
        let report = judge(log, application);
        assert!(report.is_clean(), "{}", report.text());
        let is_known = report.tasks.iter().all(|task| task.committed || task.records == 0);
        assert!(is_known, "{}", report.text());
        let there: usize = report.tasks.iter().map(|task| task.records).sum();
        if there >= records && report.is_complete() {
            return report;
        }
        assert!(Instant::now() < deadline, "only {}", report.text());
    }
}

fn assert_clean(report: &Report, records: usize) {
    assert!(report.is_clean(), "{}", report.text());
    let judged: usize = report.tasks.iter().map(|task| task.records).sum();
    assert_eq!(judged, records, "{}", report.text());
    assert_eq!((report.unstamped, report.foreign), (0, 0), "{}", report.text());
    assert!(report.is_complete(), "{}", report.text());
}

fn start_embedded(state: &Path) -> Host {
    let application = Application { topology: counted::topology(), config: config("embedded") };
    Host::start(counted::host_config(None, state), vec![application]).expect("it starts")
}

/// Appends words to the input as a browser would.
fn append(host: &Host, batches: &[(TopicPartition, RecordBatch)]) {
    let log = host.view().embedded.as_ref().expect("no broker is named");
    let deadline = Instant::now() + SOON;
    // Topics are there once the application runs.
    loop {
        assert!(Instant::now() < deadline, "nothing can be appended");
        let ticket = log.append(batches, Bell::new());
        loop {
            match ticket.poll() {
                headwater::actor::Poll::Pending => pause(),
                headwater::actor::Poll::Done(Ok(_)) => return,
                _ => break,
            }
        }
        pause();
    }
}

/// Between two looks at what another thread does, always under a deadline.
fn pause() {
    std::thread::park_timeout(Duration::from_millis(5));
}

fn words(count: u32) -> Vec<(TopicPartition, RecordBatch)> {
    let mut builder = RecordBatchBuilder::new();
    for number in 0..count {
        let word = format!("word-{}", number % 7);
        let appended = builder.append(1_000, Some(b"k"), Some(word.as_bytes()), Headers::empty());
        appended.expect("small");
    }
    let batch = RecordBatch::new(0, builder.finish()).expect("well formed");
    vec![(TopicPartition::new(INPUT, 0), batch)]
}

#[test]
fn on_the_embedded_log_transactions_are_counted_on_over_a_restart_and_a_copy_is_found() {
    let state = tempfile::tempdir().expect("a folder for state");
    for round in 1..=2 {
        let host = start_embedded(state.path());
        append(&host, &words(50));
        let report = judge_once_there(&*host.view().log, "embedded", 50 * round);
        assert_clean(&report, 50 * round);
        host.stop();
        host.wait().expect("it stops in order");
    }
    let host = start_embedded(state.path());
    let log = &host.view().log;
    let partition = report_partition(log, "embedded");
    let bell = Bell::new();
    let mut reader = log
        .reader(
            &partition,
            0,
            headwater::log::Isolation::ReadCommitted,
            headwater::log::Purpose::Restore,
            bell,
        )
        .expect("the partition is there");
    let batch = reader.take(1 << 20).expect("readable").batches.remove(0);
    let first = batch.records().next().expect("a record").expect("readable");
    let mut copy = RecordBatchBuilder::new();
    let headers = first.headers.decode().expect("readable");
    copy.append(first.timestamp, first.key, first.value, &headers).expect("small");
    let copy = RecordBatch::new(0, copy.finish()).expect("well formed");
    append(&host, &[(partition.clone(), copy)]);
    let report = judge(&**log, "embedded");
    assert_eq!(report.findings.len(), 1, "{}", report.text());
    assert_eq!(report.findings[0].problem.kind(), "twice");
    let place = format!("{partition} offset {}", first.offset);
    assert!(report.text().contains(&place), "{place}: {}", report.text());
    host.stop();
    host.wait().expect("it stops in order");
}

/// A partition of the output that has records.
fn report_partition(log: &Arc<dyn Log>, application: &str) -> TopicPartition {
    let report = judge(&**log, application);
    assert!(report.records > 0);
    let partitions: Vec<_> = (0..4).map(|n| TopicPartition::new(OUTPUT, n)).collect();
    let ends = log.offsets(partitions.clone(), headwater::log::OffsetQuery::HighWatermark);
    loop {
        match ends.poll() {
            headwater::actor::Poll::Done(ends) => {
                let ends = ends.expect("known");
                let at = ends.iter().position(|end| *end > 0).expect("some output");
                return partitions[at].clone();
            }
            _ => pause(),
        }
    }
}

fn broker() -> Option<&'static KafkaBroker> {
    static TOPICS: std::sync::Once = std::sync::Once::new();
    let broker = KafkaBroker::shared()?;
    TOPICS.call_once(|| {
        for topic in [INPUT, OUTPUT] {
            broker.create_topic(topic, PARTITIONS, &[]);
        }
    });
    Some(broker)
}

fn kafka(broker: &KafkaBroker) -> KafkaConfig {
    counted::alone(KafkaConfig { brokers: vec![broker.address()], ..KafkaConfig::default() })
}

fn log(broker: &KafkaBroker) -> KafkaLog {
    KafkaLog::connect(&kafka(broker), KafkaSettings::default()).expect("the broker answers")
}

fn write_words(broker: &KafkaBroker, count: u32) {
    let producer: BaseProducer = broker.client().create().expect("a producer can be made");
    for number in 0..count {
        let word = format!("word-{}", number % 7);
        let record = BaseRecord::to(INPUT).key("k").payload(&word);
        producer.send(record).map_err(|(error, _)| error).expect("room");
    }
    producer.flush(SOON).expect("delivered");
}

/// The exit code of the command, and what it printed.
fn command(broker: &KafkaBroker, application: &'static str, format: &str) -> (u8, String) {
    let program = Program {
        name: "counted",
        about: "Counts words",
        applications: vec![shell::Application {
            id: application,
            topology: Arc::new(counted::add_to),
            routes: Vec::new(),
        }],
        commands: Vec::new(),
    };
    let address = broker.address();
    let arguments = ["counted", "audit", "--format", format, "--brokers", &address];
    let mut out = Vec::new();
    let code = shell::run_with(&program, arguments.map(Into::into), &mut out);
    (code, String::from_utf8(out).expect("text"))
}

#[test]
fn on_kafka_what_was_written_over_restarts_is_clean_and_a_copy_by_a_raw_producer_is_found() {
    let Some(broker) = broker() else { return };
    let log = log(broker);
    let mut written = 0;
    for _ in 0..2 {
        // A folder of its own: what must survive is in the committed offsets.
        let state = tempfile::tempdir().expect("a folder for state");
        write_words(broker, 60);
        written += 60;
        let host = counted::start(kafka(broker), config("audited"), state.path()).expect("starts");
        judge_once_there(&log, "audited", written);
        host.stop();
        host.wait().expect("it stops in order");
    }
    assert_eq!(command(broker, "audited", "text").0, 0);

    // The first record of task 1_0's first transaction once more.
    let again = forged("audited", 1, 0, (1, 0), 0);
    send(broker, &[(0, again)]);
    let (code, text) = command(broker, "audited", "text");
    assert_eq!(code, 4, "{text}");
    assert!(text.contains("FOUND task 1_0, transaction 1: record 0 is there 2 times"), "{text}");
    let (code, json) = command(broker, "audited", "json");
    assert_eq!(code, 4);
    let json: serde_json::Value = serde_json::from_str(&json).expect("one object");
    assert_eq!(json["clean"], false);
    assert_eq!(json["findings"][0]["kind"], "twice");
    assert_eq!(json["findings"][0]["places"].as_array().map(Vec::len), Some(2));
}

#[test]
fn on_kafka_missing_and_torn_transactions_and_a_zombies_are_found() {
    let Some(broker) = broker() else { return };
    let (a, b) = ("forged", 0);
    send(
        broker,
        &[
            (0, forged(a, b, 0, (1, 0), 0)),
            (1, forged(a, b, 0, (1, 1), 0)),
            // Of three records the middle one is not there.
            (0, forged(a, b, 0, (2, 0), 2)),
            (0, forged(a, b, 0, (2, 2), 2)),
            // Transactions 3 and 4 are not there.
            (0, forged(a, b, 0, (5, 0), 1)),
            // A zombie writes what its successor has written.
            (0, forged(a, b, 0, (6, 0), 1)),
            (1, Stamp { epoch: 99, ..forged(a, b, 0, (6, 1), 1) }),
        ],
    );
    let report = judge(&log(broker), a);
    let kinds: Vec<_> = report.findings.iter().map(|found| found.problem.kind()).collect();
    assert_eq!(kinds, ["two-lives", "torn", "missing"], "{}", report.text());
    let text = report.text();
    assert!(text.contains("transaction 2: torn, of 3 records 1 is missing: 1"), "{text}");
    assert!(text.contains("transactions 3 to 4 are missing, after counted-output-0"), "{text}");
    assert!(text.contains("transaction 6: two lives of the task have written it"), "{text}");
}

/// A stamp as task `subtopology_partition` of an application would have put it.
fn forged(
    application: &str,
    subtopology: u32,
    partition: u32,
    (sequence, index): (u64, u64),
    previous: u64,
) -> Stamp {
    Stamp {
        application: application_hash(application),
        task: TaskId { subtopology, partition },
        epoch: 1,
        sequence,
        index,
        previous,
    }
}

/// Writes records with these stamps, without a transaction and without the engine.
fn send(broker: &KafkaBroker, stamps: &[(i32, Stamp)]) {
    let producer: BaseProducer = broker.client().create().expect("a producer can be made");
    for (partition, stamp) in stamps {
        let stamp = stamp.encode();
        let header = Header { key: STAMP_HEADER, value: Some(&stamp[..]) };
        let record = BaseRecord::to(OUTPUT)
            .partition(*partition)
            .key("k")
            .payload("v")
            .headers(OwnedHeaders::new().insert(header));
        producer.send(record).map_err(|(error, _)| error).expect("room");
    }
    producer.flush(SOON).expect("delivered");
}

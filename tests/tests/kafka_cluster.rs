//! Three brokers, each killed with -9 and brought back in turn under a running application and its
//! load: every word is counted once, in order, and the auditor finds every transaction whole.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, park_timeout};
use std::time::{Duration, Instant};

use headwater::audit::{Scope, audit};
use headwater::config::{KafkaConfig, StreamsConfig};
use headwater::time::SystemClock;
use headwater_tests::counted::{self, INPUT, OUTPUT};
use headwater_tests::kafka_broker::{KafkaCluster, committed_records};
use headwater_tests::proof;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

const APPLICATION: &str = "clustered";
const PARTITIONS: u16 = 2;
const WORDS: usize = 50;
const SOON: Duration = Duration::from_secs(120);
/// How long the load goes on without the broker, which is longer than its leaders need to move.
const AWAY: Duration = Duration::from_secs(5);

#[test]
fn brokers_of_three_are_killed_one_after_the_other_and_every_word_is_counted_once() {
    let Some(cluster) = KafkaCluster::start(&[]) else { return };
    for topic in [INPUT, OUTPUT] {
        cluster.create_topic(topic, PARTITIONS, &[]);
    }
    let kafka = KafkaConfig { brokers: cluster.addresses(), ..KafkaConfig::default() };
    let state = tempfile::tempdir().expect("a folder for state");
    let config = StreamsConfig { audit: true, ..StreamsConfig::new(APPLICATION) };
    let host = counted::start(counted::alone(kafka), config, state.path()).expect("it starts");
    let load = Load::start(cluster.client());
    for broker in cluster.brokers() {
        wait(Duration::from_secs(1));
        broker.kill();
        wait(AWAY);
        assert!(host.view().is_live(), "it lives through it");
        broker.restart();
    }
    let written = load.stop();
    let counts = read_counts(cluster.client(), &written);
    for (word, times) in &written {
        let expected: Vec<i64> = (1..=*times).collect();
        assert_eq!(counts.get(word), Some(&expected), "{word}");
    }
    let scope = Scope::of(&counted::topology(), APPLICATION, None);
    let report = audit(&*host.view().log, &scope, &SystemClock::new(), SOON).expect("readable");
    assert!(report.is_clean(), "{}", report.text());
    host.stop();
    host.wait().expect("it stops in order");
    let words: i64 = written.values().sum();
    proof::say(&format!("kafka cluster: 3 broker kills, {words} words; {}", report.text()));
    cluster.stop();
}

fn wait(time: Duration) {
    let deadline = Instant::now() + time;
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        park_timeout(left);
    }
}

/// Writes words at a steady pace until it is stopped; knows how often it wrote each.
struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<BTreeMap<String, i64>>,
}

impl Load {
    fn start(mut client: ClientConfig) -> Self {
        let producer: BaseProducer =
            client.set("enable.idempotence", "true").create().expect("a producer can be made");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut written = BTreeMap::new();
            for number in 0.. {
                if stopped.load(Ordering::Acquire) {
                    break;
                }
                let word = format!("word-{}", number % WORDS);
                match producer.send(BaseRecord::to(INPUT).key(&word).payload(&word)) {
                    Ok(()) => *written.entry(word).or_default() += 1,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {}
                    Err((error, _)) => panic!("the load cannot be written: {error}"),
                }
                producer.poll(Duration::from_millis(2));
            }
            producer.flush(SOON).expect("all is delivered");
            written
        });
        Self { stop, thread }
    }

    fn stop(self) -> BTreeMap<String, i64> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().expect("the load was written")
    }
}

/// The committed counts of each word, until each has been counted as often as it was written, and for
/// a quiet second after.
fn read_counts(
    client: ClientConfig,
    written: &BTreeMap<String, i64>,
) -> BTreeMap<String, Vec<i64>> {
    let consumer = committed_records(client, &[OUTPUT], PARTITIONS);
    let deadline = Instant::now() + SOON;
    let (mut counts, mut quiet, mut found): (BTreeMap<_, Vec<i64>>, _, i64) =
        (BTreeMap::new(), 0, 0);
    let wanted: i64 = written.values().sum();
    while (found < wanted || quiet < 10) && Instant::now() < deadline {
        quiet += 1;
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
        quiet = 0;
        found += 1;
        let word = String::from_utf8_lossy(message.key().expect("a word")).into_owned();
        let count = message.payload().expect("a count").try_into().expect("eight bytes");
        counts.entry(word).or_default().push(i64::from_be_bytes(count));
    }
    counts
}

//! The input of the broker proofs: numbers under keys, of now or of a little ago, written by a client
//! of the test's own. Knows nothing of what is made of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use headwater::time::{Clock, SystemClock};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::model::Number;
use super::{INPUT, PARTITIONS};
use crate::kafka_broker::KafkaBroker;

/// Everything is delivered within this time after the last record.
const SOON: Duration = Duration::from_secs(120);
/// Records that are written in one go, and the pause after them.
const BURST: usize = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// Writes the input, at a steady pace, until it is stopped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Vec<Number>>>,
}

impl Load {
    /// Begins to write.
    ///
    /// # Panics
    /// When no producer can be made.
    #[must_use]
    pub fn start(broker: &KafkaBroker, seed: u64) -> Self {
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

    /// Writes no more: what was written, by partition.
    ///
    /// # Panics
    /// When not all of it is delivered in time.
    #[must_use]
    pub fn stop(self) -> Vec<Vec<Number>> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().expect("the load was written")
    }
}

/// A record of now, or of up to half a minute ago, which is often too late.
fn write_one(producer: &BaseProducer, input: &mut [Vec<Number>], random: &mut StdRng) {
    let written: usize = input.iter().map(Vec::len).sum();
    let key_number = random.random_range(0..200_u32);
    let partition = usize::try_from(key_number).expect("small") % input.len();
    let now = SystemClock::new().now().wall_ms;
    let ago = if random.random_ratio(1, 10) { random.random_range(0..30_000) } else { 0 };
    let record = Number {
        key: format!("key-{key_number}"),
        number: i64::try_from(written).expect("few records") + 1,
        timestamp: now - ago,
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

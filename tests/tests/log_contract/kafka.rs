//! On Kafka: a real broker, one for all claims.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::park_timeout;
use std::time::Duration;

use headwater::config::KafkaConfig;
use headwater::log::Log;
use headwater::log::kafka::{KafkaLog, KafkaSettings};
use headwater_tests::kafka_broker::KafkaBroker;
use headwater_tests::log_contract::LogUnderTest;

struct OnBroker {
    log: KafkaLog,
    number: u64,
}

impl LogUnderTest for OnBroker {
    fn log(&self) -> Arc<dyn Log> {
        Arc::new(self.log.clone())
    }

    fn run(&self) {
        park_timeout(Duration::from_millis(2));
    }

    fn unique(&self, name: &str) -> String {
        format!("{name}-{}", self.number)
    }
}

fn on_broker() -> Option<OnBroker> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let broker = KafkaBroker::shared()?;
    let config = KafkaConfig { brokers: vec![broker.address()], ..KafkaConfig::default() };
    let log = KafkaLog::connect(&config, KafkaSettings::default()).expect("the broker answers");
    Some(OnBroker { log, number: NUMBER.fetch_add(1, Ordering::Relaxed) })
}

headwater_tests::log_contract!(if on_broker);

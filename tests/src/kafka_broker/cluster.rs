//! Three brokers that hold every record three times, so that one of them may die.

use rdkafka::ClientConfig;
use rdkafka::consumer::Consumer;

use super::installation::Installation;
use super::node::Node;
use super::{KafkaBroker, VERSION, create_topic};

/// Brokers of the cluster; with two of them alive everything goes on.
const BROKERS: u16 = 3;

/// A cluster that this test process started.
#[derive(Debug)]
pub struct KafkaCluster {
    brokers: Vec<KafkaBroker>,
}

impl KafkaCluster {
    /// Three brokers with these properties besides the usual ones; killed when dropped. `None` as
    /// for [`KafkaBroker::shared`].
    ///
    /// # Panics
    /// As for [`KafkaBroker::shared`].
    #[must_use]
    pub fn start(properties: &[(&str, &str)]) -> Option<Self> {
        let installation = Installation::find(VERSION)?;
        let nodes = Node::several(u32::from(BROKERS), properties);
        let brokers: Vec<_> =
            nodes.into_iter().map(|node| KafkaBroker::format(&installation, node)).collect();
        // None of them answers before a majority runs.
        brokers.iter().for_each(KafkaBroker::spawn);
        for broker in &brokers {
            broker.wait_until("it sees the others", |consumer| {
                let metadata = consumer.fetch_metadata(None, super::REQUEST).ok()?;
                (metadata.brokers().len() == usize::from(BROKERS)).then_some(())
            });
        }
        Some(Self { brokers })
    }

    /// Hosts and ports for clients.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.brokers.iter().map(KafkaBroker::address).collect()
    }

    /// A client's configuration that names the brokers and nothing else.
    #[must_use]
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.addresses().join(","));
        config
    }

    /// Each broker, to be killed and restarted.
    #[must_use]
    pub fn brokers(&self) -> &[KafkaBroker] {
        &self.brokers
    }

    /// As [`KafkaBroker::create_topic`], with three replicas of which two must be in sync.
    ///
    /// # Panics
    /// When the cluster refuses.
    pub fn create_topic(&self, name: &str, partitions: u16, settings: &[(&str, &str)]) {
        create_topic(&self.brokers[0], name, (partitions, BROKERS), settings);
    }

    /// Stops all of them together, for none can leave in order after a majority has left.
    ///
    /// # Panics
    /// When one does not stop in time.
    pub fn stop(&self) {
        self.brokers.iter().for_each(KafkaBroker::signal_stop);
        self.brokers.iter().for_each(KafkaBroker::stop);
    }
}

//! Real Apache Kafka for tests, from the jars in the cache, in KRaft mode, on loopback, with fresh
//! data directories: one plain broker ([`KafkaBroker`]), one with TLS, SASL and rights
//! ([`SecuredBroker`]), three that replicate ([`KafkaCluster`]); and a stub that only says which
//! requests it knows ([`OldBroker`]). They die with the test process. Topics are created by name,
//! never by use. This module knows nothing of the engine.

mod cluster;
mod installation;
mod judge;
mod node;
mod old_broker;
mod rights;
mod secured;

use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::child::{self, Child};

pub use cluster::KafkaCluster;
pub use judge::{committed_records, is_passing};
pub use old_broker::OldBroker;
pub use rights::{Operation, Resource, Right};
pub use secured::{SecuredBroker, USERS, password};

use installation::Installation;
use node::Node;

/// Properties of a broker whose coordinator notices soon that a member or a transaction is gone.
pub const FAST_GROUPS: [(&str, &str); 6] = [
    ("group.min.session.timeout.ms", "1000"),
    ("group.consumer.min.session.timeout.ms", "1000"),
    ("group.consumer.session.timeout.ms", "3000"),
    ("group.consumer.min.heartbeat.interval.ms", "100"),
    ("group.consumer.heartbeat.interval.ms", "200"),
    ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "500"),
];
/// The version that tests run on unless they say otherwise.
const VERSION: &str = "4.3.1";
/// Sixteen bytes in base64, as Kafka names clusters.
const CLUSTER_ID: &str = "aGVhZHdhdGVyLXRlc3RzIQ";
const FORMAT_WITHIN: Duration = Duration::from_secs(60);
const READY_WITHIN: Duration = Duration::from_secs(120);
const STOP_WITHIN: Duration = Duration::from_secs(60);
/// One request of a probe; the probe repeats until its own deadline.
const REQUEST: Duration = Duration::from_secs(2);

/// A broker that this test process started.
#[derive(Debug)]
pub struct KafkaBroker {
    installation: Installation,
    node: Node,
    scratch: tempfile::TempDir,
    process: Mutex<Option<Child>>,
}

impl KafkaBroker {
    /// The broker that all tests of this process share, started at first use.
    ///
    /// `None` when Java or the jars are missing, after saying loudly what was not run and how to
    /// get it; where `CI` is set, that is a failure.
    ///
    /// # Panics
    /// When the broker does not come up, or under `CI` when it cannot be had.
    #[must_use]
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<KafkaBroker>> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[])).as_ref()
    }

    /// A broker of the caller's own, with these properties besides the usual ones; killed when
    /// dropped. `None` as for [`shared`](Self::shared).
    ///
    /// # Panics
    /// As for [`shared`](Self::shared).
    #[must_use]
    pub fn start(properties: &[(&str, &str)]) -> Option<Self> {
        Self::start_version(VERSION, properties)
    }

    /// As [`start`](Self::start), of another version that `scripts/kafka-jars.sh` fetches.
    ///
    /// # Panics
    /// As for [`shared`](Self::shared).
    #[must_use]
    pub fn start_version(version: &str, properties: &[(&str, &str)]) -> Option<Self> {
        let installation = Installation::find(version)?;
        let node = Node { properties: node::owned(properties), ..Node::single() };
        let broker = Self::format(&installation, node);
        broker.launch();
        Some(broker)
    }

    /// A node with its data directory, not yet running.
    fn format(installation: &Installation, node: Node) -> Self {
        let scratch = scratch();
        Self::format_in(installation, node, scratch)
    }

    fn format_in(installation: &Installation, node: Node, scratch: tempfile::TempDir) -> Self {
        let properties = scratch.path().join("server.properties");
        fs::write(&properties, node.text(scratch.path())).expect("properties are written");
        let mut command = installation.java(64);
        command.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"]);
        command.arg(properties);
        for user in &node.scram {
            command.args(["--add-scram", user]);
        }
        let mut format = Child::start("Kafka's storage tool", &command);
        let status = format.wait(FORMAT_WITHIN);
        assert!(status.success(), "Kafka's storage tool failed:\n{}", format.log_tail());
        let installation = installation.clone();
        Self { installation, node, scratch, process: Mutex::new(None) }
    }

    /// Host and port for clients.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.node.port)
    }

    /// A client's configuration that names this broker and nothing else.
    #[must_use]
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address());
        config
    }

    /// Creates a topic that keeps its records for ever, and waits until each partition has its
    /// leader. `settings` go before that retention.
    ///
    /// # Panics
    /// When the broker refuses.
    pub fn create_topic(&self, name: &str, partitions: u16, settings: &[(&str, &str)]) {
        create_topic(self, name, (partitions, 1), settings);
    }

    /// kill -9. What was written stays; [`restart`](Self::restart) finds it.
    pub fn kill(&self) {
        if let Some(child) = self.process().take() {
            child.kill();
        }
    }

    /// Asks the broker to stop in order, and waits for it.
    ///
    /// # Panics
    /// When it does not stop in time.
    pub fn stop(&self) {
        let child = self.process().take();
        if let Some(child) = child {
            child.terminate(STOP_WITHIN);
        }
    }

    /// Starts the broker again on the same port and data, and waits until it answers.
    ///
    /// # Panics
    /// When it still runs, or does not come up.
    pub fn restart(&self) {
        assert!(self.process().is_none(), "the broker still runs");
        self.launch();
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the broker to stop, and does not wait.
    fn signal_stop(&self) {
        if let Some(process) = self.process().as_ref() {
            child::signal(process.pid(), "TERM");
        }
    }

    fn launch(&self) {
        self.spawn();
        self.wait_until("it answers", |consumer| {
            let metadata = consumer.fetch_metadata(None, REQUEST).ok()?;
            (!metadata.brokers().is_empty()).then_some(())
        });
    }

    fn spawn(&self) {
        let mut command = self.installation.java(256);
        command.arg("kafka.Kafka").arg(self.scratch.path().join("server.properties"));
        let child = Child::start_with_scratch("Kafka", &command, Some(self.scratch.path()));
        *self.process() = Some(child);
    }

    /// Repeats `probe` until it gives something. A request bounds each try; there is no pause.
    fn wait_until<T>(&self, what: &str, probe: impl Fn(&BaseConsumer) -> Option<T>) -> T {
        let consumer: BaseConsumer = self
            .client()
            .set("reconnect.backoff.max.ms", "250")
            .set("log_level", "2")
            .create()
            .expect("a consumer can be made");
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Some(found) = probe(&consumer) {
                return found;
            }
            let ended = self.process().as_mut().is_none_or(Child::has_ended);
            if ended || Instant::now() > deadline {
                let log = self.process().as_ref().map(Child::log_tail).unwrap_or_default();
                panic!("Kafka failed before {what}; its log ends:\n{log}");
            }
        }
    }
}

fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("headwater-kafka-")
        .tempdir()
        .expect("a scratch folder can be made")
}

/// Creates a topic of so many partitions and replicas, and waits until each partition is led.
fn create_topic(
    broker: &KafkaBroker,
    name: &str,
    (partitions, replicas): (u16, u16),
    settings: &[(&str, &str)],
) {
    let admin: AdminClient<DefaultClientContext> =
        broker.client().create().expect("an admin client can be made");
    let replication = TopicReplication::Fixed(i32::from(replicas));
    let mut topic =
        NewTopic::new(name, i32::from(partitions), replication).set("retention.ms", "-1");
    for (setting, value) in settings {
        topic = topic.set(setting, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(READY_WITHIN));
    let results = block_on(admin.create_topics(&[topic], &options))
        .unwrap_or_else(|error| panic!("cannot create topic {name}: {error}"));
    for result in results {
        result.unwrap_or_else(|(name, code)| panic!("cannot create topic {name}: {code}"));
    }
    broker.wait_until("the topic has its leaders", |consumer| {
        let metadata = consumer.fetch_metadata(Some(name), REQUEST).ok()?;
        let topic = metadata.topics().first()?;
        let led = topic.partitions().iter().filter(|p| p.leader() >= 0).count();
        (led == usize::from(partitions)).then_some(())
    });
}

/// Wakes the thread that waits for a future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits on this thread for a future that other threads complete.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

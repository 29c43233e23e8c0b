//! A real Apache Kafka broker for tests, from the jars in the cache: one node, KRaft, on loopback,
//! with a fresh data directory. It dies with the test process. Topics are created by name, never by
//! use. This module knows nothing of the engine.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::child::Child;
use crate::proof::say;

/// Properties of a broker whose coordinator notices soon that a member or a transaction is gone.
pub const FAST_GROUPS: [(&str, &str); 6] = [
    ("group.min.session.timeout.ms", "1000"),
    ("group.consumer.min.session.timeout.ms", "1000"),
    ("group.consumer.session.timeout.ms", "3000"),
    ("group.consumer.min.heartbeat.interval.ms", "100"),
    ("group.consumer.heartbeat.interval.ms", "200"),
    ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "500"),
];
/// Sixteen bytes in base64, as Kafka names clusters.
const CLUSTER_ID: &str = "aGVhZHdhdGVyLXRlc3RzIQ";
const FORMAT_WITHIN: Duration = Duration::from_secs(30);
const READY_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// One request of a probe; the probe repeats until its own deadline.
const REQUEST: Duration = Duration::from_secs(2);

/// A broker that this test process started.
#[derive(Debug)]
pub struct KafkaBroker {
    installation: Installation,
    port: u16,
    scratch: tempfile::TempDir,
    process: Mutex<Option<Child>>,
}

/// Java and Kafka's jars on this machine.
#[derive(Debug, Clone)]
struct Installation {
    java: PathBuf,
    jars: PathBuf,
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
        let installation = match Installation::find() {
            Ok(installation) => installation,
            Err(missing) => {
                let line = format!(
                    "NOT RUN: tests on a real Kafka broker, because {missing}; \
                     `scripts/deps.sh test` installs it"
                );
                assert!(env::var_os("CI").is_none_or(|ci| ci.is_empty()), "{line}");
                say(&line);
                return None;
            }
        };
        let scratch = tempfile::Builder::new()
            .prefix("headwater-kafka-")
            .tempdir()
            .expect("a scratch folder can be made");
        let (port, controller_port) = (free_port(), free_port());
        let text = server_properties(scratch.path(), port, controller_port, properties);
        fs::write(scratch.path().join("server.properties"), text).expect("properties are written");
        let broker = Self { installation, port, scratch, process: Mutex::new(None) };
        broker.format();
        broker.launch();
        Some(broker)
    }

    /// Host and port for clients.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
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
        let admin: AdminClient<DefaultClientContext> =
            self.client().create().expect("an admin client can be made");
        let mut topic = NewTopic::new(name, i32::from(partitions), TopicReplication::Fixed(1))
            .set("retention.ms", "-1");
        for (setting, value) in settings {
            topic = topic.set(setting, value);
        }
        let options = AdminOptions::new().operation_timeout(Some(READY_WITHIN));
        let results = block_on(admin.create_topics(&[topic], &options))
            .unwrap_or_else(|error| panic!("cannot create topic {name}: {error}"));
        for result in results {
            result.unwrap_or_else(|(name, code)| panic!("cannot create topic {name}: {code}"));
        }
        self.wait_until("the topic has its leaders", |consumer| {
            let metadata = consumer.fetch_metadata(Some(name), REQUEST).ok()?;
            let topic = metadata.topics().first()?;
            let led = topic.partitions().iter().filter(|p| p.leader() >= 0).count();
            (led == usize::from(partitions)).then_some(())
        });
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

    fn format(&self) {
        let mut command = self.installation.java(64);
        command.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"]);
        command.arg(self.scratch.path().join("server.properties"));
        let mut format = Child::start("Kafka's storage tool", &command);
        let status = format.wait(FORMAT_WITHIN);
        assert!(status.success(), "Kafka's storage tool failed:\n{}", format.log_tail());
    }

    fn launch(&self) {
        let mut command = self.installation.java(256);
        command.arg("kafka.Kafka").arg(self.scratch.path().join("server.properties"));
        let child = Child::start_with_scratch("Kafka", &command, Some(self.scratch.path()));
        *self.process() = Some(child);
        self.wait_until("it answers", |consumer| {
            let metadata = consumer.fetch_metadata(None, REQUEST).ok()?;
            (!metadata.brokers().is_empty()).then_some(())
        });
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

impl Installation {
    fn find() -> Result<Self, String> {
        let cache = env::var_os("HEADWATER_CACHE").map(PathBuf::from).or_else(|| {
            env::var_os("HOME").map(|home| Path::new(&home).join(".cache").join("headwater"))
        });
        let cache = cache.ok_or("neither HEADWATER_CACHE nor HOME is set")?;
        let jars = cache.join("jars").join("kafka-4.3.1");
        if !jars.is_dir() {
            return Err("Kafka's jars are not in the cache".into());
        }
        let java = env::var_os("JAVA_HOME")
            .map_or_else(|| "java".into(), |home| Path::new(&home).join("bin").join("java"));
        let version = Command::new(&java).arg("-version").output();
        match version {
            Ok(output) if output.status.success() => Ok(Self { java, jars }),
            _ => Err("there is no Java here".into()),
        }
    }

    /// A Java command with Kafka on its class path, and the main class still to be named.
    fn java(&self, heap_mib: u32) -> Command {
        let mut command = Command::new(&self.java);
        command
            .arg(format!("-Xmx{heap_mib}m"))
            .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .arg("-cp")
            .arg(self.jars.join("*"));
        command
    }
}

/// The properties of a single node, both broker and controller. The smaller deduplication buffer
/// saves 120 MB of memory.
fn server_properties(
    folder: &Path,
    port: u16,
    controller_port: u16,
    more: &[(&str, &str)],
) -> String {
    let data = folder.join("data");
    let mut text = format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller_port}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         controller.listener.names=CONTROLLER\n\
         inter.broker.listener.name=PLAINTEXT\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
         log.dirs={}\n\
         auto.create.topics.enable=false\n\
         log.retention.ms=-1\n\
         offsets.topic.replication.factor=1\n\
         offsets.topic.num.partitions=5\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         transaction.state.log.num.partitions=5\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n\
         log.cleaner.dedupe.buffer.size=8388608\n",
        data.display()
    );
    for (name, value) in more {
        writeln!(text, "{name}={value}").expect("text takes text");
    }
    text
}

/// A port that is free now. It lies below the range that systems give to outgoing connections, so
/// that a broker can come back to it.
fn free_port() -> u16 {
    static NEXT: Mutex<u32> = Mutex::new(0);
    let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..1000 {
        // Processes that run side by side start far apart.
        let candidate = 20_000 + (std::process::id().wrapping_mul(37) + *next) % 12_000;
        *next += 1;
        let port = u16::try_from(candidate).expect("below 32,000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between 20000 and 32000");
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

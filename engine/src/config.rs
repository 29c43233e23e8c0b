//! Settings: what a [`StreamsConfig`] (one application id) and a [`HostConfig`] (one process) may
//! say, their defaults, and the one place that reads the environment. Every check collects all
//! mistakes before it answers. Knows no topology and opens nothing.

mod environment;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use environment::{Environment, HELP};

/// Everything that is wrong with a configuration, at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid configuration: {}", .mistakes.join("; "))]
pub struct ConfigError {
    /// One sentence each: which setting, what it was, what is allowed.
    pub mistakes: Vec<String>,
}

/// What happens with a record whose processing failed, when the topology's own handler has not
/// decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// Undo what the record has done and put it on the dead letter topic, in the same transaction.
    #[default]
    UndoRecord,
    /// Keep what it has done so far and drop it where it failed (Kafka Streams' `CONTINUE`).
    DropHere,
    /// Stop the application (Kafka Streams' `FAIL`).
    Fail,
}

/// How often a record takes effect, whatever fails: Kafka Streams' `processing.guarantee`.
///
/// The embedded log knows one guarantee only: its commit is one batch, so it is exactly once and
/// costs nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProcessingGuarantee {
    /// Once: outputs, changelogs and input offsets are one transaction.
    #[default]
    ExactlyOnceV2,
    /// Once or more: outputs and changelogs are delivered, then the offsets are committed, then the
    /// state is written. After a failure what was not committed is done again, and both its outputs
    /// and its changes of state are there twice.
    AtLeastOnce,
}

impl std::str::FromStr for ProcessingGuarantee {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "exactly_once_v2" => Ok(Self::ExactlyOnceV2),
            "at_least_once" => Ok(Self::AtLeastOnce),
            _ => Err(format!("'{text}' is neither exactly_once_v2 nor at_least_once")),
        }
    }
}

/// Settings of one application id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamsConfig {
    /// The application id: consumer group, prefix of internal topics and of stores on disk.
    pub application_id: String,
    /// How often a thread commits, if there is something to commit.
    pub commit_interval: Duration,
    /// How often a record takes effect on Kafka.
    pub processing_guarantee: ProcessingGuarantee,
    /// How many stream threads run its tasks.
    pub threads: usize,
    /// A thread commits before its uncommitted state exceeds this many bytes. `None` takes the
    /// thread's share of the host's memory budget.
    pub overlay_limit: Option<usize>,
    /// Bytes of records that wait in one partition's queue before the reader is left alone. `None`
    /// takes the share of the host's memory budget.
    pub queue_bytes: Option<usize>,
    /// What happens with records whose processing failed.
    pub on_error: OnError,
    /// Dead letter topic; `None` is `<topic the record was read from>.dlq`.
    pub dead_letter_topic: Option<String>,
    /// Partitions of a repartition topic that does not say how many it wants; `None` is as many as
    /// the widest input of the subtopology that writes it.
    pub repartition_partitions: Option<u32>,
    /// Records of repartition topics are deleted so often once they are read and committed (Kafka
    /// Streams' `repartition.purge.interval.ms`).
    pub purge_interval: Duration,
    /// Records processed of one task before the next task's turn.
    pub records_per_turn: usize,
    /// Stamp every output with task, transaction and number, for the command `audit`.
    pub audit: bool,
}

impl StreamsConfig {
    /// The defaults for an application id.
    pub fn new(application_id: impl Into<String>) -> Self {
        Self {
            application_id: application_id.into(),
            commit_interval: Duration::from_millis(100),
            processing_guarantee: ProcessingGuarantee::default(),
            threads: 1,
            overlay_limit: None,
            queue_bytes: None,
            on_error: OnError::default(),
            dead_letter_topic: None,
            repartition_partitions: None,
            purge_interval: Duration::from_secs(30),
            records_per_turn: 256,
            audit: false,
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut mistakes = Vec::new();
        if let Err(why) = check_name(&self.application_id) {
            mistakes.push(format!("application id '{}' {why}", self.application_id));
        }
        if let Some(topic) = &self.dead_letter_topic
            && let Err(why) = check_name(topic)
        {
            mistakes.push(format!("dead letter topic '{topic}' {why}"));
        }
        let interval = self.commit_interval;
        if !(MIN_COMMIT_INTERVAL..=MAX_COMMIT_INTERVAL).contains(&interval) {
            mistakes.push(format!(
                "commit interval {interval:?} is not between {MIN_COMMIT_INTERVAL:?} and \
                 {MAX_COMMIT_INTERVAL:?}"
            ));
        }
        if !(1..=MAX_THREADS).contains(&self.threads) {
            mistakes.push(format!("threads {} is not between 1 and {MAX_THREADS}", self.threads));
        }
        for (name, bytes) in [("overlay limit", self.overlay_limit), ("queue", self.queue_bytes)] {
            if bytes.is_some_and(|bytes| bytes < MIN_BYTES) {
                mistakes.push(format!("{name} of {bytes:?} bytes is less than {MIN_BYTES}"));
            }
        }
        if self.repartition_partitions == Some(0) {
            mistakes.push("repartition topics need at least 1 partition".to_owned());
        }
        if self.records_per_turn == 0 {
            mistakes.push("records per turn is 0, it must be at least 1".to_owned());
        }
        all_well(mistakes)
    }
}

const MIN_COMMIT_INTERVAL: Duration = Duration::from_millis(1);
/// On Kafka the transaction timeout, 10 s unless set, is a tighter limit.
const MAX_COMMIT_INTERVAL: Duration = Duration::from_secs(300);
const MAX_THREADS: usize = 256;
const MIN_BYTES: usize = 4 * 1024;

/// Kafka's rule for topic names, which group ids, store names and directories share.
fn check_name(name: &str) -> Result<(), &'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() {
        Err("is empty")
    } else if name.len() > 249 {
        Err("is longer than 249 characters")
    } else if name == "." || name == ".." {
        Err("cannot be a name")
    } else if !name.chars().all(allowed) {
        Err("has characters other than letters, digits, '.', '_' and '-'")
    } else {
        Ok(())
    }
}

fn all_well(mistakes: Vec<String>) -> Result<(), ConfigError> {
    if mistakes.is_empty() { Ok(()) } else { Err(ConfigError { mistakes }) }
}

/// A value that no log and no error shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for whoever must send it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How to reach a Kafka cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KafkaConfig {
    /// Bootstrap brokers, `host:port` each.
    pub brokers: Vec<String>,
    /// TLS on.
    pub ssl: bool,
    /// File of the certificate authority.
    pub ssl_ca: Option<PathBuf>,
    /// File of the client certificate.
    pub ssl_cert: Option<PathBuf>,
    /// File of the client key.
    pub ssl_key: Option<PathBuf>,
    /// SASL user; SASL is on when there is one.
    pub username: Option<String>,
    /// SASL password.
    pub password: Option<Secret>,
    /// SASL mechanism: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub sasl_mechanism: Option<String>,
    /// Further properties of librdkafka, name and value; of two with one name the later counts.
    /// Those that exactly-once depends on are refused; `transaction.timeout.ms` is not.
    pub properties: Vec<(String, String)>,
    /// How the processes of an application share its tasks.
    pub group: GroupConfig,
}

/// How the processes of one application share its tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// Who decides which process runs which task.
    pub membership: MembershipKind,
    /// The protocol of a consumer group.
    pub protocol: GroupProtocol,
    /// After so long without a heartbeat the other processes take the tasks over. Under
    /// [`GroupProtocol::Consumer`] the broker's setting counts, not this one.
    pub session_timeout: Duration,
    /// How long a member may take to commit and close tasks that it gives up.
    pub rebalance_timeout: Duration,
    /// Names this process among those of the application, the same after every restart. `None` takes
    /// a name that is made once and kept in the state directory.
    pub instance_id: Option<String>,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            membership: MembershipKind::default(),
            protocol: GroupProtocol::default(),
            session_timeout: Duration::from_secs(30),
            rebalance_timeout: Duration::from_secs(60),
            instance_id: None,
        }
    }
}

/// Who decides which process runs which task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MembershipKind {
    /// Kafka's group coordinator: processes share the tasks, and take over from each other.
    #[default]
    ConsumerGroup,
    /// Nobody: this process runs every task. A second one fences it.
    Single,
}

/// The protocol of a consumer group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GroupProtocol {
    /// JoinGroup and SyncGroup, with static membership (KIP-345): a process that restarts within the
    /// session timeout gets its tasks back at once, and nobody else notices.
    #[default]
    Classic,
    /// The broker assigns, step by step (KIP-848, Kafka 4.0 and later): only tasks that move stop. A
    /// process that was killed gets in again only when its old session is over.
    Consumer,
}

/// The property by which a user sets how long a transaction may stay open.
pub const TRANSACTION_TIMEOUT: &str = "transaction.timeout.ms";
const DEFAULT_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// Where state lives. One process at a time.
    pub state_dir: PathBuf,
    /// The cluster; `None` runs on the embedded log in the state directory.
    pub kafka: Option<KafkaConfig>,
    /// All memory for caches, memtables, uncommitted state and queues, in bytes.
    pub memory_limit: usize,
    /// Where the HTTP server listens; `None` starts none.
    pub http: Option<SocketAddr>,
    /// Token that HTTP writers must show; needed to listen on other than loopback.
    pub http_token: Option<Secret>,
    /// Listen on other than loopback without a token.
    pub insecure: bool,
    /// How long a graceful stop may take before the process gives up on it.
    pub stop_timeout: Duration,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            state_dir: PathBuf::from("headwater-state"),
            kafka: None,
            memory_limit: 256 * 1024 * 1024,
            http: Some(SocketAddr::from(([127, 0, 0, 1], 8080))),
            http_token: None,
            insecure: false,
            stop_timeout: Duration::from_secs(30),
        }
    }
}

/// Less memory than this cannot hold one commit of anything.
pub const MIN_MEMORY_LIMIT: usize = 16 * 1024 * 1024;

impl HostConfig {
    /// Checks every setting.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut mistakes = Vec::new();
        if self.state_dir.as_os_str().is_empty() {
            mistakes.push("state directory is empty".to_owned());
        }
        if self.memory_limit < MIN_MEMORY_LIMIT {
            mistakes.push(format!(
                "memory limit of {} bytes is less than {MIN_MEMORY_LIMIT}",
                self.memory_limit
            ));
        }
        if let Some(address) = self.http
            && !address.ip().is_loopback()
            && self.http_token.is_none()
            && !self.insecure
        {
            mistakes.push(format!(
                "HTTP on {address} is reachable from outside: set HTTP_TOKEN, listen on 127.0.0.1, \
                 or say --insecure"
            ));
        }
        if let Some(kafka) = &self.kafka {
            kafka.collect_mistakes(&mut mistakes);
        }
        all_well(mistakes)
    }
}

impl KafkaConfig {
    /// The transaction timeout that [`properties`](Self::properties) name, if they do.
    ///
    /// # Errors
    /// It is no number of milliseconds, or less than a second.
    pub fn transaction_timeout(&self) -> Result<Option<Duration>, String> {
        let named = self.properties.iter().rev().find(|(name, _)| name == TRANSACTION_TIMEOUT);
        let Some((_, value)) = named else { return Ok(None) };
        match value.trim().parse::<u32>() {
            Ok(millis) if (1_000..=i32::MAX.unsigned_abs()).contains(&millis) => {
                Ok(Some(Duration::from_millis(millis.into())))
            }
            _ => Err(format!(
                "Kafka property {TRANSACTION_TIMEOUT}='{value}' is not a number of milliseconds \
                 from 1000 on"
            )),
        }
    }

    /// Whether an application can keep its guarantee here.
    ///
    /// # Errors
    /// Exactly once, its commit interval is not shorter than the transaction timeout, after which the
    /// broker aborts what is open. At least once, it is in a group.
    pub fn check_guarantee(&self, config: &StreamsConfig) -> Result<(), ConfigError> {
        let StreamsConfig { application_id: id, commit_interval: interval, .. } = config;
        let mistake = match config.processing_guarantee {
            ProcessingGuarantee::ExactlyOnceV2 => {
                let timeout = self.transaction_timeout().ok().flatten();
                let timeout = timeout.unwrap_or(DEFAULT_TRANSACTION_TIMEOUT);
                (*interval >= timeout).then(|| {
                    format!(
                        "application '{id}': the transaction timeout of {timeout:?} is not longer \
                         than the commit interval of {interval:?}, so the broker would abort every \
                         transaction: lower COMMIT_INTERVAL_MS, or raise {TRANSACTION_TIMEOUT} \
                         among the Kafka properties"
                    )
                })
            }
            ProcessingGuarantee::AtLeastOnce => (self.group.membership != MembershipKind::Single)
                .then(|| {
                    format!(
                        "application '{id}': at least once runs without a group so far: set \
                         KAFKA_MEMBERSHIP=single, or PROCESSING_GUARANTEE=exactly_once_v2"
                    )
                }),
        };
        all_well(mistake.into_iter().collect())
    }

    fn collect_mistakes(&self, mistakes: &mut Vec<String>) {
        mistakes.extend(self.transaction_timeout().err());
        if self.brokers.is_empty() {
            mistakes.push("no Kafka broker is named".to_owned());
        }
        for broker in &self.brokers {
            let port = broker.rsplit_once(':').and_then(|(host, port)| {
                port.parse::<u16>().ok().filter(|port| !host.is_empty() && *port > 0)
            });
            if port.is_none() {
                mistakes.push(format!("Kafka broker '{broker}' is not host:port"));
            }
        }
        if self.username.is_some() != self.password.is_some() {
            mistakes.push("Kafka user and password must be given together".to_owned());
        }
        if self.ssl_cert.is_some() != self.ssl_key.is_some() {
            mistakes.push("Kafka client certificate and key must be given together".to_owned());
        }
        if !self.ssl && (self.ssl_ca.is_some() || self.ssl_cert.is_some()) {
            mistakes.push("Kafka certificates are given but KAFKA_SSL is not true".to_owned());
        }
        if let Some(mechanism) = &self.sasl_mechanism
            && !["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"].contains(&mechanism.as_str())
        {
            mistakes.push(format!(
                "SASL mechanism '{mechanism}' is not PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"
            ));
        }
        self.group.collect_mistakes(mistakes);
    }
}

impl GroupConfig {
    fn collect_mistakes(&self, mistakes: &mut Vec<String>) {
        let (session, rebalance) = (self.session_timeout, self.rebalance_timeout);
        if session < MIN_SESSION_TIMEOUT {
            mistakes.push(format!("session timeout {session:?} is less than 1s"));
        }
        if rebalance < session {
            mistakes.push(format!(
                "rebalance timeout {rebalance:?} is less than the session timeout {session:?}"
            ));
        }
        if let Some(id) = &self.instance_id
            && let Err(why) = check_name(id)
        {
            mistakes.push(format!("instance id '{id}' {why}"));
        }
    }
}

const MIN_SESSION_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(StreamsConfig::new("orders").validate(), Ok(()));
        assert_eq!(HostConfig::default().validate(), Ok(()));
    }

    #[test]
    fn all_mistakes_of_a_configuration_are_told_at_once() {
        let config = StreamsConfig {
            commit_interval: Duration::ZERO,
            threads: 0,
            overlay_limit: Some(1),
            dead_letter_topic: Some("a b".to_owned()),
            ..StreamsConfig::new("")
        };
        let error = config.validate().expect_err("five mistakes");
        assert_eq!(error.mistakes.len(), 5, "{error}");
    }

    #[test]
    fn a_transaction_timeout_must_be_longer_than_the_commit_interval() {
        let commit_interval = Duration::from_secs(12);
        let streams = StreamsConfig { commit_interval, ..StreamsConfig::new("orders") };
        let timeout = |millis: &str| KafkaConfig {
            properties: vec![("transaction.timeout.ms".to_owned(), millis.to_owned())],
            ..KafkaConfig::default()
        };
        let error = KafkaConfig::default().check_guarantee(&streams).expect_err("10 s unless set");
        assert!(error.to_string().contains("'orders': the transaction timeout of 10s"), "{error}");
        assert_eq!(timeout("13000").check_guarantee(&streams), Ok(()));
        assert!(timeout("soon").transaction_timeout().is_err());
        assert!(timeout("999").transaction_timeout().is_err());
    }

    #[test]
    fn at_least_once_has_no_transactions_to_time_out_and_no_group() {
        let streams = StreamsConfig {
            commit_interval: Duration::from_secs(30),
            processing_guarantee: ProcessingGuarantee::AtLeastOnce,
            ..StreamsConfig::new("orders")
        };
        let error = KafkaConfig::default().check_guarantee(&streams).expect_err("in a group");
        assert!(error.to_string().contains("set KAFKA_MEMBERSHIP=single"), "{error}");
        let group = GroupConfig { membership: MembershipKind::Single, ..GroupConfig::default() };
        let alone = KafkaConfig { group, ..KafkaConfig::default() };
        assert_eq!(alone.check_guarantee(&streams), Ok(()));
    }

    #[test]
    fn http_beyond_loopback_needs_a_token_or_the_word_insecure() {
        let open = HostConfig {
            http: Some(SocketAddr::from(([0, 0, 0, 0], 8080))),
            ..HostConfig::default()
        };
        assert!(open.validate().is_err());
        let token = HostConfig { http_token: Some(Secret::new("s3cret")), ..open.clone() };
        assert_eq!(token.validate(), Ok(()));
        assert_eq!(HostConfig { insecure: true, ..open }.validate(), Ok(()));
        assert!(!format!("{token:?}").contains("s3cret"));
    }
}

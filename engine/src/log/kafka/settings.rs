//! Settings of the log on Kafka and the properties that each of its clients gets from them. Owns
//! the list of properties that exactly-once depends on and nobody may change. Opens nothing.

use std::time::Duration;

use rdkafka::ClientConfig;

use crate::config::{GroupProtocol, KafkaConfig, TRANSACTION_TIMEOUT};
use crate::error::ErrorClass;
use crate::log::{GroupRequest, Isolation, LogError, LogResult};

/// How the log uses its clients. Connections and credentials are [`KafkaConfig`]'s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaSettings {
    /// Name of this process in the broker's logs and quotas.
    pub client_id: String,
    /// Bytes of fetched records that may wait in the queues of one consumer, all partitions together:
    /// its share of the process' memory budget. Each partition gets an equal part of it.
    pub queue_bytes: usize,
    /// The largest part that one partition gets, where there are few.
    pub partition_queue_bytes: usize,
    /// Bytes of records that may wait in one producer until the broker has them.
    pub producer_queue_bytes: usize,
    /// How long the broker lets a transaction be open without a sign of life (Kafka Streams: 10 s).
    pub transaction_timeout: Duration,
    /// How long one call to the cluster may take.
    pub request_timeout: Duration,
    /// How long [`connect`](super::KafkaLog::connect) waits for a broker to answer.
    pub connect_timeout: Duration,
    /// How long a record waits for others of its batch.
    pub linger: Duration,
    /// Compression of record batches: `none`, `gzip`, `snappy`, `lz4` or `zstd`.
    pub compression: String,
    /// Replicas of the topics that the engine creates; `None` is the broker's default.
    pub replication_factor: Option<u16>,
}

/// A queue that is smaller than this fetches more often than it is worth.
const QUEUE_BYTES_MIN: usize = 64 * 1024;
/// What librdkafka itself spends on a record that waits, beside the record's bytes.
const BYTES_PER_RECORD: usize = 256;

impl KafkaSettings {
    /// Bytes that may wait in one partition's queue before the client stops fetching for it, when a
    /// consumer may come to read this many.
    pub(super) fn queue_bytes_of(&self, partitions: usize) -> usize {
        (self.queue_bytes / partitions.max(1)).min(self.partition_queue_bytes).max(QUEUE_BYTES_MIN)
    }
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            client_id: "headwater".to_owned(),
            queue_bytes: 16 * 1024 * 1024,
            partition_queue_bytes: 2 * 1024 * 1024,
            producer_queue_bytes: 32 * 1024 * 1024,
            transaction_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            linger: Duration::from_millis(5),
            compression: "lz4".to_owned(),
            replication_factor: None,
        }
    }
}

impl KafkaSettings {
    /// These settings under what the properties say.
    ///
    /// # Errors
    /// `Fatal`: a property is no number, or too small.
    pub(super) fn of(self, config: &KafkaConfig) -> LogResult<Self> {
        let timeout = config.transaction_timeout();
        let timeout = timeout.map_err(|why| LogError::new(ErrorClass::Fatal, OPERATION, why))?;
        Ok(Self { transaction_timeout: timeout.unwrap_or(self.transaction_timeout), ..self })
    }
}

const OPERATION: &str = "configure Kafka's client";

const EXACTLY_ONCE: &str = "exactly-once depends on it";
const VARIABLE: &str = "it has a setting of its own (KAFKA_BROKERS)";
const NAMES: &str = "it follows from the application id";
const GROUP: &str = "the group has settings of its own (KAFKA_GROUP_PROTOCOL, KAFKA_INSTANCE_ID)";
const POSITIONS: &str = "positions are the engine's: they are committed with the outputs";
const DELIVERY: &str = "records are delivered within transaction.timeout.ms, which may be set";

/// Properties that the log sets itself, and why nobody else may. Aliases are listed too.
pub(super) const OWN: [(&str, &str); 25] = [
    ("acks", EXACTLY_ONCE),
    ("allow.auto.create.topics", "topics are created by name, never by use"),
    ("auto.commit.enable", POSITIONS),
    ("auto.commit.interval.ms", POSITIONS),
    ("auto.offset.reset", POSITIONS),
    ("bootstrap.servers", VARIABLE),
    ("delivery.timeout.ms", DELIVERY),
    ("enable.auto.commit", POSITIONS),
    ("enable.auto.offset.store", POSITIONS),
    ("enable.gapless.guarantee", EXACTLY_ONCE),
    ("enable.idempotence", EXACTLY_ONCE),
    ("enable.partition.eof", "the engine waits for the ends of partitions"),
    ("group.id", NAMES),
    ("group.instance.id", GROUP),
    ("group.protocol", GROUP),
    ("group.remote.assignor", GROUP),
    ("isolation.level", EXACTLY_ONCE),
    ("max.in.flight", EXACTLY_ONCE),
    ("max.in.flight.requests.per.connection", EXACTLY_ONCE),
    ("message.timeout.ms", DELIVERY),
    ("metadata.broker.list", VARIABLE),
    ("partition.assignment.strategy", GROUP),
    ("request.required.acks", EXACTLY_ONCE),
    ("retries", EXACTLY_ONCE),
    ("transactional.id", NAMES),
];

/// The properties of every client.
///
/// # Errors
/// `Fatal` for a property that the log sets itself; the message names it.
pub(super) fn common(config: &KafkaConfig, settings: &KafkaSettings) -> LogResult<ClientConfig> {
    let mut client = ClientConfig::new();
    for (name, value) in &config.properties {
        if let Some((_, why)) = OWN.iter().find(|(own, _)| own == name) {
            return Err(LogError::new(
                ErrorClass::Fatal,
                OPERATION,
                format!("property {name} belongs to the engine, because {why}; remove it"),
            ));
        }
        // A producer's alone, which gets it with what hangs on it.
        if name != TRANSACTION_TIMEOUT {
            client.set(name, value);
        }
    }
    client.set("bootstrap.servers", config.brokers.join(","));
    client.set("client.id", &settings.client_id);
    let protocol = match (config.ssl, config.username.is_some()) {
        (false, false) => None,
        (true, false) => Some("ssl"),
        (false, true) => Some("sasl_plaintext"),
        (true, true) => Some("sasl_ssl"),
    };
    if let Some(protocol) = protocol {
        client.set("security.protocol", protocol);
    }
    let files = [
        ("ssl.ca.location", &config.ssl_ca),
        ("ssl.certificate.location", &config.ssl_cert),
        ("ssl.key.location", &config.ssl_key),
    ];
    for (name, file) in files {
        if let Some(file) = file {
            client.set(name, file.to_string_lossy());
        }
    }
    if let (Some(username), Some(password)) = (&config.username, &config.password) {
        client.set("sasl.mechanism", config.sasl_mechanism.as_deref().unwrap_or("PLAIN"));
        client.set("sasl.username", username);
        client.set("sasl.password", password.reveal());
    }
    Ok(client)
}

/// A consumer that is assigned by hand. With a group it may also read committed offsets; it never
/// joins.
pub(super) fn consumer(
    common: &ClientConfig,
    group: Option<&str>,
    isolation: Isolation,
    queue_bytes: usize,
) -> ClientConfig {
    let mut client = common.clone();
    if let Some(group) = group {
        client.set("group.id", group);
    }
    client
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("allow.auto.create.topics", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set(
            "isolation.level",
            match isolation {
                Isolation::ReadCommitted => "read_committed",
                Isolation::ReadUncommitted => "read_uncommitted",
            },
        );
    // With a queue for each partition this limit is each partition's.
    let queue_kib = (queue_bytes / 1024).max(1);
    set_default(&mut client, "queued.max.messages.kbytes", &queue_kib.to_string());
    // The limit in bytes counts the records alone, so small ones are limited by their number too.
    let records = (queue_bytes / BYTES_PER_RECORD).clamp(1, 100_000);
    set_default(&mut client, "queued.min.messages", &records.to_string());
    let fetch_bytes = queue_bytes.clamp(QUEUE_BYTES_MIN, 1024 * 1024);
    set_default(&mut client, "fetch.message.max.bytes", &fetch_bytes.to_string());
    // A full queue is looked at again after this time; the default of 1 s starves small queues.
    set_default(&mut client, "fetch.queue.backoff.ms", "5");
    set_default(&mut client, "fetch.wait.max.ms", "100");
    // Records leave a queue so many at a time, under one lock; the rest still counts as queued.
    set_default(&mut client, "consume.callback.max.messages", "256");
    client
}

/// A member of a group. It fetches nothing, so nothing that concerns fetching is set.
pub(super) fn member(common: &ClientConfig, request: &GroupRequest) -> ClientConfig {
    let mut client = common.clone();
    client
        .set("group.id", &*request.group)
        .set("group.instance.id", &*request.instance)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("allow.auto.create.topics", "false")
        .set(
            "max.poll.interval.ms",
            millis(request.rebalance_timeout.max(request.session_timeout)),
        );
    // A new topic of the subscription is seen by the member that assigns after this time.
    set_default(&mut client, "topic.metadata.refresh.interval.ms", "10000");
    match request.protocol {
        GroupProtocol::Classic => {
            client
                .set("partition.assignment.strategy", "range")
                .set("session.timeout.ms", millis(request.session_timeout));
            let heartbeat = (request.session_timeout / 10).min(HEARTBEAT_MAX);
            set_default(&mut client, "heartbeat.interval.ms", &millis(heartbeat));
        }
        GroupProtocol::Consumer => {
            client.set("group.protocol", "consumer").set("group.remote.assignor", "range");
        }
    }
    client
}

/// A rebalance of the classic protocol is noticed by the next heartbeat.
const HEARTBEAT_MAX: Duration = Duration::from_secs(1);

fn millis(time: Duration) -> String {
    time.as_millis().to_string()
}

/// A transactional producer. Delivery may not outlast the transaction; librdkafka would clamp it.
pub(super) fn producer(
    common: &ClientConfig,
    settings: &KafkaSettings,
    transactional_id: &str,
) -> ClientConfig {
    let mut client = common.clone();
    let timeout = settings.transaction_timeout.as_millis().to_string();
    client
        .set("transactional.id", transactional_id)
        .set(TRANSACTION_TIMEOUT, &timeout)
        .set("message.timeout.ms", &timeout)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("allow.auto.create.topics", "false");
    // Partitions are always named (murmur2 of the key, as Kafka's own clients do it); the client's
    // partitioner, which would take a CRC, is never asked.
    let queue_kib = settings.producer_queue_bytes / 1024;
    set_default(&mut client, "queue.buffering.max.kbytes", &queue_kib.to_string());
    set_default(&mut client, "linger.ms", &settings.linger.as_millis().to_string());
    set_default(&mut client, "compression.type", &settings.compression);
    client
}

/// A producer without transactions, which still writes each record once and in order.
pub(super) fn plain_producer(common: &ClientConfig, settings: &KafkaSettings) -> ClientConfig {
    let mut client = producer(common, settings, "");
    client.remove("transactional.id");
    client.remove("transaction.timeout.ms");
    client
}

/// Sets a property unless the user did.
fn set_default(client: &mut ClientConfig, name: &str, value: &str) {
    if client.get(name).is_none() {
        client.set(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn config() -> KafkaConfig {
        KafkaConfig { brokers: vec!["a:1".into(), "b:2".into()], ..KafkaConfig::default() }
    }

    #[test]
    fn a_property_that_exactly_once_depends_on_is_refused_by_name() {
        let properties = vec![("isolation.level".to_owned(), "read_uncommitted".to_owned())];
        let config = KafkaConfig { properties, ..config() };
        let error = common(&config, &KafkaSettings::default()).expect_err("refused");
        assert_eq!(error.class, ErrorClass::Fatal);
        assert!(error.message.contains("isolation.level"), "{error}");
    }

    #[test]
    fn any_other_property_passes_and_goes_before_a_default() {
        let properties = vec![
            ("linger.ms".to_owned(), "1".to_owned()),
            ("socket.keepalive.enable".to_owned(), "true".to_owned()),
        ];
        let config = KafkaConfig { properties, ..config() };
        let settings = KafkaSettings::default();
        let common = common(&config, &settings).expect("allowed");
        let producer = producer(&common, &settings, "app-0");
        assert_eq!(producer.get("bootstrap.servers"), Some("a:1,b:2"));
        assert_eq!(producer.get("linger.ms"), Some("1"));
        assert_eq!(producer.get("socket.keepalive.enable"), Some("true"));
        assert_eq!(producer.get("transaction.timeout.ms"), Some("10000"));
        assert_eq!(producer.get("message.timeout.ms"), Some("10000"));
    }

    #[test]
    fn partitions_share_the_memory_of_their_consumer() {
        let settings = KafkaSettings::default();
        assert_eq!(settings.queue_bytes_of(0), settings.partition_queue_bytes);
        assert_eq!(settings.queue_bytes_of(4), settings.partition_queue_bytes);
        assert_eq!(settings.queue_bytes_of(64), settings.queue_bytes / 64);
        assert_eq!(settings.queue_bytes_of(1_000_000), QUEUE_BYTES_MIN);
        let common = common(&config(), &settings).expect("allowed");
        let client = consumer(&common, Some("g"), Isolation::ReadCommitted, 512 * 1024);
        assert_eq!(client.get("queued.max.messages.kbytes"), Some("512"));
        assert_eq!(client.get("queued.min.messages"), Some("2048"));
        assert_eq!(client.get("fetch.message.max.bytes"), Some("524288"));
    }

    #[test]
    fn the_transaction_timeout_is_set_with_what_hangs_on_it() {
        let properties = vec![("transaction.timeout.ms".to_owned(), "60000".to_owned())];
        let config = KafkaConfig { properties, ..config() };
        let settings = KafkaSettings::default().of(&config).expect("a number");
        let common = common(&config, &settings).expect("allowed");
        let producer = producer(&common, &settings, "app-0");
        assert_eq!(producer.get("transaction.timeout.ms"), Some("60000"));
        assert_eq!(producer.get("message.timeout.ms"), Some("60000"));
        assert_eq!(common.get("transaction.timeout.ms"), None);
    }

    #[test]
    fn credentials_choose_the_protocol() {
        let settings = KafkaSettings::default();
        let protocol = |ssl, user: bool| {
            let config = KafkaConfig {
                ssl,
                username: user.then(|| "u".to_owned()),
                password: user.then(|| Secret::new("p")),
                ..config()
            };
            let client = common(&config, &settings).expect("valid");
            client.get("security.protocol").map(str::to_owned)
        };
        assert_eq!(protocol(false, false), None);
        assert_eq!(protocol(true, false).as_deref(), Some("ssl"));
        assert_eq!(protocol(false, true).as_deref(), Some("sasl_plaintext"));
        assert_eq!(protocol(true, true).as_deref(), Some("sasl_ssl"));
    }
}

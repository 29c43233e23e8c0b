//! The first word with a cluster: that a broker answers, lets this user in, and knows every request
//! that exactly-once needs. Owns the list of those requests; opens a client for it and closes it.
//!
//! librdkafka falls back to older requests without a word: before Kafka 2.5 the offsets of a
//! transaction would be committed without fencing (KIP-447). It has no call that tells what a
//! broker knows, but it logs it (`debug=feature`), over every kind of connection, so that is read
//! here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;

use super::classify::{self, Trouble};
use super::context::Voice;
use super::settings::{self, KafkaSettings};
use crate::error::ErrorClass;
use crate::log::{Isolation, LogError, LogResult};
use crate::time::Clock;

const OPERATION: &str = "connect to Kafka";
/// One try; between two the client's log lines and errors are served.
const TRY: Duration = Duration::from_millis(250);
/// A poll serves one line; a broker gives about 150.
const LINES: usize = 2_000;
/// Refused credentials are not tried for the whole time; another broker may still accept them.
const REFUSED: Duration = Duration::from_secs(2);

/// What a broker must know: the request as librdkafka names it, the version, and who brought it.
const NEEDED: [(&str, i16, &str); 7] = [
    ("Produce", 3, "0.11"),
    ("Fetch", 4, "0.11"),
    ("ListOffsets", 2, "0.11"),
    ("OffsetFetch", 7, "2.5"),
    ("InitProducerId", 3, "2.5"),
    ("AddOffsetsToTxn", 0, "0.11"),
    ("TxnOffsetCommit", 3, "2.5"),
];

/// Requests by name, with the highest version that the broker knows.
type Known = BTreeMap<String, i16>;

/// A context that reads what brokers know.
#[derive(Clone)]
struct Reader {
    voice: Voice,
    known: Arc<Mutex<Known>>,
}

impl ClientContext for Reader {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        if let Some((request, version)) = read_line(line) {
            self.known
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(request.to_owned())
                .and_modify(|known| *known = version.min(*known))
                .or_insert(version);
        }
        self.voice.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.voice.error(error, reason);
    }

    fn stats_raw(&self, _statistics: &[u8]) {}
}

impl ConsumerContext for Reader {}

/// Waits for a broker to answer and judges what it knows; gives the cluster's id.
///
/// # Errors
/// `Fatal`: none answers in time, all refuse this user, or one is too old. The message says which
/// brokers were asked, what came back last and what to check.
pub(super) fn first_word(
    common: &ClientConfig,
    settings: &KafkaSettings,
    clock: &dyn Clock,
) -> LogResult<Option<String>> {
    let mut config = settings::consumer(
        common,
        None,
        Isolation::ReadUncommitted,
        settings.partition_queue_bytes,
    );
    let debug = config.get("debug").map_or("feature".to_owned(), |more| format!("{more},feature"));
    config.set("debug", debug).set_log_level(RDKafkaLogLevel::Debug);
    let voice = Voice::new("first contact");
    let reader = Reader { voice: voice.clone(), known: Arc::default() };
    let client: BaseConsumer<Reader> =
        BaseConsumer::from_config_and_context(&config, reader.clone())
            .map_err(|error| classify::from_kafka("open a client", &error))?;
    let within = settings.connect_timeout;
    let start = clock.now().monotonic;
    let mut refused_since = None;
    loop {
        let answer = client.fetch_metadata(Some("__consumer_offsets"), TRY);
        // What was logged meanwhile waits in the client's queue.
        for _ in 0..LINES {
            drop(client.poll(Duration::ZERO));
        }
        check_age(&reader, config.get("bootstrap.servers").unwrap_or_default())?;
        let Err(error) = answer else {
            return Ok(client.client().fetch_cluster_id(within));
        };
        let now = clock.now().monotonic;
        if voice.trouble().is_some() {
            refused_since.get_or_insert(now);
        }
        let refused = refused_since.is_some_and(|since| now.saturating_sub(since) > REFUSED);
        if refused || now.saturating_sub(start) > within {
            return Err(no_way(&config, &voice, &error, within));
        }
    }
}

/// Why nobody answered.
fn no_way(config: &ClientConfig, voice: &Voice, error: &KafkaError, within: Duration) -> LogError {
    let brokers = config.get("bootstrap.servers").unwrap_or_default();
    let last = voice.last_error().unwrap_or_else(|| error.to_string());
    let message = match voice.trouble() {
        Some(Trouble::Login) => format!(
            "the brokers of {brokers} do not let user '{}' in by {} (last error: {last}); check \
             KAFKA_USERNAME, KAFKA_PASSWORD and KAFKA_SASL_MECHANISM, and that this listener of \
             the brokers speaks SASL",
            config.get("sasl.username").unwrap_or_default(),
            config.get("sasl.mechanism").unwrap_or("no mechanism"),
        ),
        Some(Trouble::Tls) => format!(
            "TLS with the brokers of {brokers} fails (last error: {last}); check that KAFKA_SSL_CA \
             ({}) signed the brokers' certificates, that these name the addresses used here, and \
             KAFKA_SSL_CERT and KAFKA_SSL_KEY if the brokers ask for a certificate",
            config.get("ssl.ca.location").unwrap_or("not set: the system's authorities"),
        ),
        _ => format!(
            "no broker of {brokers} answered within {within:?} (last error: {last}); check \
             KAFKA_BROKERS, that the brokers run and are reachable from here under the addresses \
             they advertise, and that KAFKA_SSL and KAFKA_USERNAME fit the listener"
        ),
    };
    LogError::new(ErrorClass::Fatal, OPERATION, message)
}

fn check_age(reader: &Reader, brokers: &str) -> LogResult<()> {
    let known = reader.known.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((request, needed, since)) = too_old(&known) else { return Ok(()) };
    let has = known.get(request).map_or_else(
        || "does not know it".to_owned(),
        |version| format!("knows it up to version {version}"),
    );
    Err(LogError::new(
        ErrorClass::Fatal,
        OPERATION,
        format!(
            "a broker of {brokers} is too old: exactly-once needs {request} of version {needed} \
             (Kafka {since}), and it {has}; upgrade the brokers to Kafka 2.5 or later"
        ),
    ))
}

/// The first request that is missing; none as long as nothing is known.
fn too_old(known: &Known) -> Option<(&'static str, i16, &'static str)> {
    if known.is_empty() {
        return None;
    }
    let missing = |(request, needed, _): &(&str, i16, &str)| {
        known.get(*request).is_none_or(|version| version < needed)
    };
    NEEDED.into_iter().rev().find(missing)
}

/// Reads `...:   ApiKey TxnOffsetCommit (28) Versions 0..3`.
fn read_line(line: &str) -> Option<(&str, i16)> {
    let (_, rest) = line.split_once("ApiKey ")?;
    let (request, rest) = rest.split_once(" (")?;
    let (_, versions) = rest.split_once("Versions ")?;
    let (_, highest) = versions.split_once("..")?;
    Some((request, highest.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_broker_knows_is_read_from_librdkafkas_own_line() {
        let line =
            "[thrd:a:1/bootstrap]: a:1/bootstrap:   ApiKey TxnOffsetCommit (28) Versions 0..3";
        assert_eq!(read_line(line), Some(("TxnOffsetCommit", 3)));
        assert_eq!(read_line("Broker API support:"), None);
    }

    #[test]
    fn a_broker_before_kafka_2_5_is_too_old_and_the_request_is_named() {
        let mut known: Known =
            NEEDED.iter().map(|(request, version, _)| ((*request).to_owned(), *version)).collect();
        assert_eq!(too_old(&known), None);
        known.insert("TxnOffsetCommit".to_owned(), 2);
        assert_eq!(too_old(&known), Some(("TxnOffsetCommit", 3, "2.5")));
        known.remove("TxnOffsetCommit");
        assert_eq!(too_old(&known), Some(("TxnOffsetCommit", 3, "2.5")));
        assert_eq!(too_old(&Known::new()), None, "nothing is known yet");
    }
}

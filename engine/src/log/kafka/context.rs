//! What librdkafka's clients say by themselves: their log lines and client-wide errors go to
//! `tracing`, the last error is kept for messages of ours. Knows no topic.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;

use super::classify::{self, Trouble};

/// The voice of one client. Clones are the same client's.
#[derive(Debug, Clone)]
pub(super) struct Voice {
    client: Arc<str>,
    heard: Arc<Mutex<Heard>>,
}

/// What a client said last.
#[derive(Debug, Default)]
struct Heard {
    error: Option<String>,
    trouble: Option<Trouble>,
}

impl Voice {
    pub(super) fn new(client: &str) -> Self {
        Self { client: client.into(), heard: Arc::default() }
    }

    /// Which client it is.
    pub(super) fn client(&self) -> &str {
        &self.client
    }

    /// The last client-wide error, such as a refused connection.
    pub(super) fn last_error(&self) -> Option<String> {
        self.heard().error.clone()
    }

    /// The last client-wide error that waiting does not cure, which calls that it makes impossible
    /// report as a timeout.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.heard().trouble
    }

    /// Keeps a client-wide error that came by another way.
    pub(super) fn hear(&self, error: &KafkaError, reason: &str) {
        let mut heard = self.heard();
        let trouble = error.rdkafka_error_code().and_then(classify::trouble);
        // A broker that refuses a certificate closes the connection with an alert.
        let alert = reason.contains("SSL alert").then_some(Trouble::Tls);
        heard.trouble = trouble.or(alert).or(heard.trouble);
        let text = if reason.is_empty() { error.to_string() } else { reason.to_owned() };
        heard.error = Some(text);
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Voice {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        let client = &*self.client;
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(target: "librdkafka", client, facility, "{line}");
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
                tracing::warn!(target: "librdkafka", client, facility, "{line}");
            }
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(target: "librdkafka", client, facility, "{line}");
            }
            RDKafkaLogLevel::Debug => {
                tracing::debug!(target: "librdkafka", client, facility, "{line}");
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition comes this way too; it is an answer, not an error.
        if matches!(
            error.rdkafka_error_code(),
            Some(rdkafka::types::RDKafkaErrorCode::PartitionEOF)
        ) {
            return;
        }
        tracing::warn!(target: "librdkafka", client = &*self.client, %error, reason);
        self.hear(&error, reason);
    }

    fn stats_raw(&self, _statistics: &[u8]) {}
}

impl ConsumerContext for Voice {}

//! What librdkafka's clients say by themselves: their log lines and client-wide errors go to
//! `tracing`, the last error is kept for messages of ours. Knows no topic.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;

/// The voice of one client. Clones are the same client's.
#[derive(Debug, Clone)]
pub(super) struct Voice {
    client: Arc<str>,
    last_error: Arc<Mutex<Option<String>>>,
}

impl Voice {
    pub(super) fn new(client: &str) -> Self {
        Self { client: client.into(), last_error: Arc::default() }
    }

    /// The last client-wide error, such as a refused connection.
    pub(super) fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
        let text = if reason.is_empty() { error.to_string() } else { reason.to_owned() };
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    fn stats_raw(&self, _statistics: &[u8]) {}
}

impl ConsumerContext for Voice {}

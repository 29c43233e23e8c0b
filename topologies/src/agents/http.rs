//! An agent that is a service: each piece of work is posted to it as JSON, and its answer is the
//! response.
//!
//! Owns the request, its time limit and the bound on the answer. It must not know what is asked.
//! Plain HTTP only: for a service behind TLS, put a proxy beside the process.

use std::time::Duration;

use headwater::time::{Clock, saturating_ms};

use super::command::ANSWER_BYTES_MAX;
use super::pool::answered_at;
use super::work::shown;
use super::{Agent, AgentError, Reply, Work};

/// A service to ask.
#[derive(Clone, Debug)]
pub struct HttpAgent {
    url: String,
    limit: Duration,
    client: ureq::Agent,
}

impl HttpAgent {
    /// The service at this address, which has so long for each answer. Redirects are not followed.
    pub fn new(url: &str, limit: Duration) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(limit))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .build();
        Self { url: url.to_owned(), limit, client: config.into() }
    }

    fn ask(&self, work: &Work) -> Result<Vec<u8>, AgentError> {
        let failed = |error: ureq::Error| match error {
            ureq::Error::Timeout(_) => AgentError::TimedOut { limit_ms: self.limit.as_millis() },
            ureq::Error::BodyExceedsLimit(_) => AgentError::TooLarge { limit: ANSWER_BYTES_MAX },
            other => AgentError::Unreachable { reason: format!("{}: {other}", self.url) },
        };
        let mut response = self
            .client
            .post(&self.url)
            .content_type("application/json")
            .header("x-step-id", work.step_id.to_string())
            .send(&work.to_json()[..])
            .map_err(failed)?;
        let limit = u64::try_from(ANSWER_BYTES_MAX).unwrap_or(u64::MAX);
        let body = response.body_mut().with_config().limit(limit).read_to_vec().map_err(failed)?;
        match response.status().as_u16() {
            200..=299 => Ok(body),
            status => Err(AgentError::Refused { status, detail: shown(&body) }),
        }
    }
}

impl Agent for HttpAgent {
    fn execute(
        &self,
        work: &Work,
        clock: &dyn Clock,
        _withdrawn: &dyn Fn() -> bool,
    ) -> Result<Reply, AgentError> {
        let began = clock.now().monotonic;
        let said = self.ask(work)?;
        let took_ms = saturating_ms(clock.now().monotonic.saturating_sub(began));
        work.read_reply(&said, took_ms, answered_at(clock))
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;

//! A small HTTP client of a running process, for what is shown of it.
//!
//! Owns requests and their errors. It must not know what is asked.

use std::sync::mpsc;
use std::time::Duration;

use headwater::time::Clock;
use serde_json::Value;

/// How long one request may take.
const REQUEST_MAX: Duration = Duration::from_secs(30);

/// How long a process that starts may take to be ready.
const READY_MAX: Duration = Duration::from_secs(60);

/// How long between two looks at a process that is not ready.
const LOOK: Duration = Duration::from_millis(20);

/// How often a question is asked again.
const TRIES: u32 = 250;

/// Why a process did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It does not answer.
    #[error("{method} {path} failed: {source}")]
    Http {
        /// The request's method.
        method: &'static str,
        /// Its path.
        path: String,
        /// The reason.
        source: Box<ureq::Error>,
    },
    /// It refuses.
    #[error("{method} {path} was answered with status {status}: {detail}")]
    Refused {
        /// The request's method.
        method: &'static str,
        /// Its path.
        path: String,
        /// The status.
        status: u16,
        /// What the process says.
        detail: String,
    },
}

/// Asks one process.
pub struct Client {
    agent: ureq::Agent,
    base: String,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.base)
    }
}

impl Client {
    /// A client of the process at `base`, such as `http://127.0.0.1:8080`.
    pub fn new(base: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(REQUEST_MAX))
            .build();
        Self { agent: config.into(), base: base.to_owned() }
    }

    /// Where the process is.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The body of an answer. Asks again for a few seconds while the process is not able to answer
    /// (status 503), as when a store is just being opened.
    ///
    /// # Errors
    /// The process does not answer, or not with success.
    pub fn get(&self, path: &str) -> Result<String, ClientError> {
        for _ in 0..TRIES {
            match self.ask(path) {
                Err(ClientError::Refused { status: 503, .. }) => pause(LOOK),
                answer => return answer,
            }
        }
        self.ask(path)
    }

    fn ask(&self, path: &str) -> Result<String, ClientError> {
        let asked = self.agent.get(format!("{}{path}", self.base)).call();
        answer("GET", path, asked)
    }

    /// An answer as JSON; null when it is none.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_json(&self, path: &str) -> Result<Value, ClientError> {
        Ok(serde_json::from_str(&self.get(path)?).unwrap_or_default())
    }

    /// Sends JSON; the answer as JSON, null when it is none.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn post(&self, path: &str, body: &impl serde::Serialize) -> Result<Value, ClientError> {
        let sent = self.agent.post(format!("{}{path}", self.base)).send_json(body);
        Ok(serde_json::from_str(&answer("POST", path, sent)?).unwrap_or_default())
    }

    /// Waits until the process is ready, a minute at most, or is ending.
    ///
    /// # Errors
    /// It does not become ready; its own words say why.
    pub fn wait_until_ready(
        &self,
        clock: &dyn Clock,
        is_stopping: &dyn Fn() -> bool,
    ) -> Result<(), ClientError> {
        let until = clock.now().monotonic + READY_MAX;
        loop {
            let ready = self.ask("/health/ready");
            if ready.is_ok() || is_stopping() || clock.now().monotonic >= until {
                return ready.map(drop);
            }
            pause(LOOK);
        }
    }
}

fn answer(
    method: &'static str,
    path: &str,
    answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<String, ClientError> {
    let read = answer.and_then(|mut response| {
        Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
    });
    let path = path.to_owned();
    match read {
        Ok((200..=299, body)) => Ok(body),
        Ok((status, detail)) => Err(ClientError::Refused { method, path, status, detail }),
        Err(source) => Err(ClientError::Http { method, path, source: Box::new(source) }),
    }
}

/// Lets the time pass: nobody ever sends.
pub fn pause(time: Duration) {
    let (_sender, receiver) = mpsc::channel::<()>();
    let ended = receiver.recv_timeout(time);
    debug_assert_eq!(ended, Err(mpsc::RecvTimeoutError::Timeout));
}

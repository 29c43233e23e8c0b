//! Why an agent gave no answer. Owns the kinds, their codes, and whether another try may help.

/// An agent gave no answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    /// It took too long and was stopped.
    #[error("the agent did not answer within {limit_ms} ms")]
    TimedOut {
        /// Its limit.
        limit_ms: u128,
    },
    /// There is no room for more work.
    #[error("{waiting} pieces of work wait already")]
    Busy {
        /// How many wait.
        waiting: usize,
    },
    /// It could not be started.
    #[error("the agent cannot be started: {reason}")]
    NotStarted {
        /// What the system says.
        reason: String,
    },
    /// It ended without success.
    #[error("the agent ended with {status}: {detail}")]
    Crashed {
        /// How it ended.
        status: String,
        /// The end of what it said on standard error.
        detail: String,
    },
    /// It answered more than is taken.
    #[error("the agent's answer has more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// It answered something else than was asked for.
    #[error("the agent's answer cannot be used: {reason}")]
    Rubbish {
        /// Each place and what is wrong there.
        reason: String,
    },
    /// It cannot be reached.
    #[error("the agent does not answer: {reason}")]
    Unreachable {
        /// Why.
        reason: String,
    },
    /// It refused by an HTTP status.
    #[error("the agent answered with status {status}: {detail}")]
    Refused {
        /// The status.
        status: u16,
        /// The beginning of what it said.
        detail: String,
    },
    /// It says itself that it cannot.
    #[error("the agent says: {message}")]
    Reported {
        /// Its words.
        message: String,
        /// Whether it thinks that another try may help.
        retryable: bool,
    },
}

impl AgentError {
    /// A code that does not change with the wording.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TimedOut { .. } => "AGENT_TIMED_OUT",
            Self::Busy { .. } => "AGENT_BUSY",
            Self::NotStarted { .. } => "AGENT_NOT_STARTED",
            Self::Crashed { .. } => "AGENT_CRASHED",
            Self::TooLarge { .. } => "AGENT_ANSWER_TOO_LARGE",
            Self::Rubbish { .. } => "AGENT_ANSWER_UNUSABLE",
            Self::Unreachable { .. } => "AGENT_UNREACHABLE",
            Self::Refused { .. } => "AGENT_REFUSED",
            Self::Reported { .. } => "AGENT_REPORTED",
        }
    }

    /// Whether another try may help. A status of the client's fault (4xx) does not get better, but
    /// for "too slow" (408) and "too many" (429).
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused { status, .. } => {
                !matches!(status, 400..=499) || [408, 429].contains(status)
            }
            Self::Reported { retryable, .. } => *retryable,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_worth_another_try_unless_it_is_the_askers_fault() {
        let retryable =
            |status| AgentError::Refused { status, detail: String::new() }.is_retryable();
        assert_eq!(
            [400, 404, 408, 422, 429, 500, 503].map(retryable),
            [false, false, true, false, true, true, true]
        );
        let said = |retryable| AgentError::Reported { message: "no".into(), retryable };
        assert_eq!((said(true).is_retryable(), said(false).is_retryable()), (true, false));
    }
}

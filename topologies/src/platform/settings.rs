//! What can be chosen of the platform, and the environment's words for it.
//!
//! Owns names, defaults and what is wrong with a value. It must not know what is done with one.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use headwater::error::BoxError;
use headwater::time::SystemClock;

use crate::agents::command::CommandAgent;
use crate::agents::http::HttpAgent;
use crate::agents::{Agent, Agents, Behaviour, Pool, Simulated};
use crate::retry::policy::Policy;
use crate::workflow::{Dispatch, WorkflowOptions};

/// Who works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentChoice {
    /// Nobody: answers are drawn.
    Simulated(Behaviour),
    /// A program, with its arguments.
    Command(Vec<String>),
    /// A service.
    Http(String),
}

/// What can be chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Who works.
    pub agents: AgentChoice,
    /// How long an agent may take.
    pub limit: Duration,
    /// How many pieces of work are done at a time; simulated agents do all at once.
    pub threads: usize,
    /// The workflow's.
    pub workflow: WorkflowOptions,
    /// When work that no agent has room for is offered again.
    pub retries: Policy,
}

impl Settings {
    /// What the environment says; `lookup` gives a variable's text.
    ///
    /// # Errors
    /// Every variable that cannot be used, and why.
    pub fn read(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, BoxError> {
        let mut reader = Reader { lookup, mistakes: Vec::new() };
        let agents = reader.agents();
        let limit = Duration::from_millis(reader.number("AGENT_TIMEOUT_MS", 60_000));
        let threads = reader.number("AGENT_THREADS", 8);
        let mut workflow = WorkflowOptions::default();
        for (name, value) in [
            ("WORKFLOW_ANALYSIS_MS", &mut workflow.analysis_ms),
            ("WORKFLOW_ITEM_MS", &mut workflow.item_ms),
            ("WORKFLOW_REVIEW_MS", &mut workflow.review_ms),
            ("WORKFLOW_QUALITY_MS", &mut workflow.quality_ms),
            ("WORKFLOW_BACKOFF_MS", &mut workflow.saga.backoff_ms),
        ] {
            *value = reader.number(name, *value);
            if *value < 1 {
                reader.mistakes.push(format!("{name} must be at least 1 ms"));
            }
        }
        workflow.attempts = reader.number("WORKFLOW_ATTEMPTS", workflow.attempts);
        match reader.text("WORKFLOW_DISPATCH").as_deref() {
            None | Some("parallel") => {}
            Some("sequential") => workflow.dispatch = Dispatch::Sequential,
            Some(other) => {
                let why = format!("WORKFLOW_DISPATCH={other:?} is neither parallel nor sequential");
                reader.mistakes.push(why);
            }
        }
        let mut retries = Policy::default();
        retries.first_delay_ms = reader.number("RETRY_DELAY_MS", retries.first_delay_ms);
        if retries.first_delay_ms < 1 {
            reader.mistakes.push("RETRY_DELAY_MS must be at least 1 ms".to_owned());
        }
        if reader.mistakes.is_empty() {
            Ok(Self { agents, limit, threads, workflow, retries })
        } else {
            Err(reader.mistakes.join("; ").into())
        }
    }

    /// The agents.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn start_agents(&self) -> Result<Arc<dyn Agents>, BoxError> {
        let agent: Arc<dyn Agent> = match &self.agents {
            AgentChoice::Simulated(behaviour) => return Ok(Arc::new(Simulated(*behaviour))),
            AgentChoice::Command(program) => {
                Arc::new(CommandAgent { program: program.clone(), limit: self.limit })
            }
            AgentChoice::Http(url) => Arc::new(HttpAgent::new(url, self.limit)),
        };
        Ok(Arc::new(Pool::start(agent, self.threads, Arc::new(SystemClock::new()))?))
    }
}

struct Reader<'l> {
    lookup: &'l dyn Fn(&str) -> Option<String>,
    mistakes: Vec<String>,
}

impl Reader<'_> {
    fn text(&self, name: &str) -> Option<String> {
        (self.lookup)(name).filter(|text| !text.is_empty())
    }

    fn number<T: FromStr>(&mut self, name: &str, default: T) -> T {
        let Some(text) = self.text(name) else { return default };
        text.parse().unwrap_or_else(|_| {
            self.mistakes.push(format!("{name}={text:?} is not a whole number in its range"));
            default
        })
    }

    fn agents(&mut self) -> AgentChoice {
        match (self.text("AGENT_COMMAND"), self.text("AGENT_URL")) {
            (Some(_), Some(_)) => {
                self.mistakes.push("AGENT_COMMAND and AGENT_URL are both set".to_owned());
            }
            (Some(command), None) => {
                let words = command.split_whitespace().map(str::to_owned);
                return AgentChoice::Command(words.collect());
            }
            (None, Some(url)) if url.starts_with("http://") => return AgentChoice::Http(url),
            (None, Some(url)) => {
                self.mistakes.push(format!("AGENT_URL={url:?} does not begin with http://"));
            }
            (None, None) => {}
        }
        let seed = self.number("AGENT_SEED", 1);
        AgentChoice::Simulated(match self.text("AGENT_FAULTS").as_deref() {
            None | Some("some") => Behaviour { seed, ..Behaviour::default() },
            Some("none") => {
                Behaviour { fastest_ms: 5, slowest_ms: 200, ..Behaviour::flawless(seed) }
            }
            Some(other) => {
                self.mistakes.push(format!("AGENT_FAULTS={other:?} is neither some nor none"));
                Behaviour::default()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, String> {
        let lookup = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, text)| (*text).to_owned())
        };
        Settings::read(&lookup).map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_word_agents_are_simulated_and_some_fail() {
        let settings = read(&[]).expect("good");
        assert_eq!(settings.agents, AgentChoice::Simulated(Behaviour::default()));
        assert_eq!(settings.workflow, WorkflowOptions::default());
        assert_eq!(settings.retries, Policy::default());
    }

    #[test]
    fn an_agent_is_a_program_with_arguments_or_a_service() {
        let settings = read(&[("AGENT_COMMAND", "python3 agent.py -v")]).expect("good");
        let words = ["python3", "agent.py", "-v"].map(str::to_owned).to_vec();
        assert_eq!(settings.agents, AgentChoice::Command(words));
        let url = "http://localhost:9000/work";
        let settings = read(&[("AGENT_URL", url), ("AGENT_TIMEOUT_MS", "50")]).expect("good");
        assert_eq!(settings.agents, AgentChoice::Http(url.to_owned()));
        assert_eq!(settings.limit, Duration::from_millis(50));
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        let found = read(&[
            ("AGENT_COMMAND", "x"),
            ("AGENT_URL", "http://y"),
            ("AGENT_THREADS", "many"),
            ("WORKFLOW_ITEM_MS", "0"),
            ("WORKFLOW_DISPATCH", "zigzag"),
            ("RETRY_DELAY_MS", "-1"),
        ]);
        let mistakes = found.expect_err("mistakes");
        for name in
            ["AGENT_URL", "AGENT_THREADS", "WORKFLOW_ITEM_MS", "WORKFLOW_DISPATCH", "RETRY_DELAY"]
        {
            assert!(mistakes.contains(name), "{mistakes}");
        }
        assert!(read(&[("AGENT_URL", "https://y")]).is_err());
    }
}

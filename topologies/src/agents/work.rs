//! What an agent is asked, what it may answer, and both as JSON.
//!
//! Owns the JSON that external agents read and write (`docs/agents.md` shows it). It must not know
//! how an agent is reached.

use headwater_schemas::envelope::EventTime;
use headwater_schemas::events::agent_performance_metric::AgentType;
use headwater_schemas::events::{
    Event, Payload, ReviewRequested, TaskAnalyzed, TaskAssigned, TaskReviewed, WorkItemCompleted,
    WorkItemCreated,
};
use headwater_schemas::violation::Violations;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::error::AgentError;
use crate::platform_event::PlatformEvent;

/// Longest text of an agent that an error repeats, in characters.
const SHOWN_MAX: usize = 400;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", content = "with", rename_all = "lowercase")]
pub enum Ask {
    /// The manager: split a task into work items.
    Analyze(TaskAssigned),
    /// A worker: execute a work item.
    Execute(WorkItemCreated),
    /// The manager: judge results.
    Review(ReviewRequested),
}

/// One piece of work for an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Work {
    /// The event that asks; the same in every execution of this work.
    pub step_id: Uuid,
    /// The session.
    pub session_id: String,
    /// One per user request.
    pub correlation_id: Uuid,
    /// Who wants it.
    pub user_id: Option<String>,
    /// When the runner took it.
    pub taken_at: EventTime,
    /// What is asked.
    #[serde(flatten)]
    pub ask: Ask,
}

/// What an agent answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// To [`Ask::Analyze`].
    Analyzed(TaskAnalyzed),
    /// To [`Ask::Execute`].
    Completed(WorkItemCompleted),
    /// To [`Ask::Review`].
    Reviewed(TaskReviewed),
}

/// How an execution ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The answer, or why there is none.
    pub reply: Result<Reply, AgentError>,
    /// How long the agent worked, in milliseconds.
    pub took_ms: i64,
}

impl Work {
    /// The work that an event asks for; `None` when it asks for none.
    pub fn of(event: &PlatformEvent, session_id: &str, taken_at: EventTime) -> Option<Self> {
        let ask = match &event.payload {
            Event::TaskAssigned(task) => Ask::Analyze(task.clone()),
            Event::WorkItemCreated(item) => Ask::Execute(item.clone()),
            Event::ReviewRequested(review) => Ask::Review(review.clone()),
            _ => return None,
        };
        let metadata = &event.event.metadata;
        Some(Self {
            step_id: event.event.event_id,
            session_id: session_id.to_owned(),
            correlation_id: metadata.correlation_id,
            user_id: metadata.user_id.clone(),
            taken_at,
            ask,
        })
    }

    /// The task it is for.
    pub fn task_id(&self) -> &str {
        match &self.ask {
            Ask::Analyze(task) => &task.task_id,
            Ask::Execute(item) => &item.task_id,
            Ask::Review(review) => &review.task_id,
        }
    }

    /// The work item, when it is for one.
    pub fn work_item_id(&self) -> Option<&str> {
        match &self.ask {
            Ask::Execute(item) => Some(&item.item.id),
            Ask::Analyze(_) | Ask::Review(_) => None,
        }
    }

    /// Which try it is, from 1, where the asker counts.
    pub fn attempt(&self) -> i32 {
        match &self.ask {
            Ask::Execute(item) => item.attempt,
            Ask::Analyze(_) | Ask::Review(_) => 1,
        }
    }

    /// Who does it.
    pub fn agent_type(&self) -> AgentType {
        match &self.ask {
            Ask::Execute(_) => AgentType::Worker,
            Ask::Analyze(_) | Ask::Review(_) => AgentType::Manager,
        }
    }

    /// What an external agent reads.
    pub fn to_json(&self) -> Vec<u8> {
        let (ask, name, with) = match &self.ask {
            Ask::Analyze(task) => ("analyze", "task", json!(task)),
            Ask::Execute(item) => ("execute", "item", json!(item)),
            Ask::Review(review) => ("review", "review", json!(review)),
        };
        let document = json!({
            "ask": ask, "stepId": self.step_id, "sessionId": self.session_id,
            "taskId": self.task_id(), "correlationId": self.correlation_id, name: with,
        });
        serde_json::to_vec(&document).expect("text keys and finite numbers only")
    }

    /// Reads what an external agent wrote: `workItems` and `estimatedDuration`; `success` and
    /// `output`; `approved`, `feedback` and `rework`; or `error` and `retryable`. `took_ms` counts
    /// unless the agent says `executionTime` itself.
    ///
    /// # Errors
    /// `Reported` when the agent says that it failed; `Rubbish` names every offending path.
    pub fn read_reply(
        &self,
        text: &[u8],
        took_ms: i64,
        now: EventTime,
    ) -> Result<Reply, AgentError> {
        let rubbish = |reason: String| AgentError::Rubbish { reason };
        let document: Value = serde_json::from_slice(text)
            .map_err(|error| rubbish(format!("it is no JSON ({error}): {}", shown(text))))?;
        let Value::Object(mut said) = document else {
            return Err(rubbish(format!("it is no JSON object: {}", shown(text))));
        };
        if let Some(message) = said.get("error").filter(|error| !error.is_null()) {
            let message = message.as_str().map_or_else(|| message.to_string(), str::to_owned);
            let retryable = said.get("retryable").and_then(Value::as_bool).unwrap_or(true);
            return Err(AgentError::Reported { message: clip(&message), retryable });
        }
        let mut take = |name: &str| said.remove(name).unwrap_or(Value::Null);
        let mut fields = Map::new();
        fields.insert("taskId".to_owned(), json!(self.task_id()));
        fields.insert("sessionId".to_owned(), json!(self.session_id));
        let mut add = |name: &str, value: Value| {
            if !value.is_null() {
                fields.insert(name.to_owned(), value);
            }
        };
        match &self.ask {
            Ask::Analyze(_) => {
                add("workItems", take("workItems"));
                let duration = take("estimatedDuration");
                add("estimatedDuration", if duration.is_null() { json!(0) } else { duration });
                read(&fields).map(Reply::Analyzed)
            }
            Ask::Execute(item) => {
                let (success, output) = (take("success"), take("output"));
                let success = if success.is_null() { json!(true) } else { success };
                add("result", json!({"success": success, "output": output}));
                add("workItemId", json!(item.item.id));
                let took = take("executionTime");
                add("executionTime", if took.is_null() { json!(took_ms) } else { took });
                add("completedAt", json!(now));
                add("attempt", json!(item.attempt));
                read(&fields).map(Reply::Completed)
            }
            Ask::Review(review) => {
                let mut judgement = Map::new();
                for name in ["approved", "feedback", "rework"] {
                    match take(name) {
                        Value::Null => {}
                        value => drop(judgement.insert(name.to_owned(), value)),
                    }
                }
                add("review", Value::Object(judgement));
                add("round", json!(review.round));
                read(&fields).map(Reply::Reviewed)
            }
        }
    }
}

fn read<P: Payload>(fields: &Map<String, Value>) -> Result<P, AgentError> {
    let mut violations = Violations::default();
    match P::read_at("$", fields, &mut violations) {
        Some(payload) if violations.is_empty() => Ok(payload),
        _ => Err(AgentError::Rubbish { reason: violations.to_string() }),
    }
}

/// The beginning of what an agent said.
pub(super) fn shown(text: &[u8]) -> String {
    clip(&String::from_utf8_lossy(text))
}

fn clip(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
impl Work {
    /// The first try of an item to be executed, as tests of agents give it.
    pub(super) fn example() -> Self {
        let item = headwater_schemas::events::work_item::WorkItem {
            id: "w".into(),
            description: "d".into(),
            kind: "testing".into(),
            prompt: None,
        };
        let (task_id, session_id) = ("t".to_owned(), "s".to_owned());
        Self {
            step_id: Uuid::from_u128(7),
            session_id: "s".into(),
            correlation_id: Uuid::from_u128(0),
            user_id: None,
            taken_at: EventTime::MAX,
            ask: Ask::Execute(WorkItemCreated { item, task_id, session_id, attempt: 1 }),
        }
    }
}

#[cfg(test)]
#[path = "work_tests.rs"]
mod tests;

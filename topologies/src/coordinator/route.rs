//! `POST /tasks`: a task for the agents. `POST /events`: an event of another service.
//!
//! Owns the bodies and the answers. It must not know HTTP, nor the log.

use std::sync::Arc;

use headwater::query::{Parameter, Parameters, Problem, QueryError, Route, Taken};
use headwater_schemas::violation::EventError;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::publisher::{Draft, Publisher};
use super::task::UserTask;

/// Takes tasks. The answer comes once the task is in the log, and names the request: ask
/// `GET /correlations/{id}` for it.
#[derive(Debug)]
pub struct TasksRoute(pub Arc<Publisher>);

impl Route for TasksRoute {
    fn path(&self) -> &str {
        "/tasks"
    }

    fn about(&self) -> &str {
        "gives a task to the agents; the answer names it"
    }

    fn parameters(&self) -> &[Parameter] {
        &[]
    }

    fn takes(&self) -> bool {
        true
    }

    fn take(&self, body: &[u8], _: &Parameters, now_ms: i64) -> Result<Taken, QueryError> {
        let task: UserTask = read(body)?;
        let mistakes = task.mistakes();
        if !mistakes.is_empty() {
            return Err(QueryError::new(Problem::InvalidBody, mistakes.join("; ")));
        }
        let (draft, coordinated) = task.assign();
        let (_, record) = self.0.publish(draft, now_ms).map_err(refused)?;
        Ok(Taken { records: vec![record], answer: json!(coordinated) })
    }
}

/// Takes events.
#[derive(Debug)]
pub struct EventsRoute(pub Arc<Publisher>);

impl Route for EventsRoute {
    fn path(&self) -> &str {
        "/events"
    }

    fn about(&self) -> &str {
        "publishes an event: validated, completed, to the topic of its type"
    }

    fn parameters(&self) -> &[Parameter] {
        &[]
    }

    fn takes(&self) -> bool {
        true
    }

    fn take(&self, body: &[u8], _: &Parameters, now_ms: i64) -> Result<Taken, QueryError> {
        let draft: Draft = read(body)?;
        let (event, record) = self.0.publish(draft, now_ms).map_err(refused)?;
        let correlation_id = event.metadata.correlation_id;
        let answer = json!({
            "eventId": event.event_id, "correlationId": correlation_id, "topic": record.topic,
        });
        Ok(Taken { records: vec![record], answer })
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, QueryError> {
    serde_json::from_slice(body)
        .map_err(|error| QueryError::new(Problem::InvalidBody, format!("the body: {error}")))
}

fn refused(error: EventError) -> QueryError {
    let problem = match error {
        EventError::TooLarge { .. } => Problem::BodyTooLarge,
        _ => Problem::InvalidBody,
    };
    QueryError::new(problem, error.to_string())
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;

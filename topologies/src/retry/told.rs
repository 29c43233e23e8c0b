//! `POST /dlq/messages/{id}/retry`, `POST /dlq/{queue}/retry` and `DELETE /dlq/{queue}`: commands for
//! the manager of dead letters.
//!
//! Owns what is asked and refused before a command is sent. It must not know HTTP, nor what a command
//! does: its outcome is told on `api.responses`, and to be seen at `GET /dlq`.

use headwater::query::{
    Method, NewRecord, Parameter, ParameterKind, Parameters, Problem, QueryError, Route,
    StoreQueries, Taken,
};
use headwater::record::Headers;
use headwater_schemas::headers;
use headwater_schemas::topics::{DLQ_COMMANDS, Topic};
use serde_json::{Value, json};
use uuid::Uuid;

use super::route::letter;

/// Sends one dead letter back to its topic.
#[derive(Debug)]
pub struct RetryMessage;

impl Route for RetryMessage {
    fn path(&self) -> &str {
        "/dlq/messages/{id}/retry"
    }

    fn about(&self) -> &str {
        "sends a dead letter back to its topic and deletes it here"
    }

    fn parameters(&self) -> &[Parameter] {
        &[]
    }

    fn takes(&self) -> bool {
        true
    }

    fn take_with(
        &self,
        body: &[u8],
        asked: &Parameters,
        stores: &StoreQueries<'_>,
        now_ms: i64,
    ) -> Result<Taken, QueryError> {
        must_be_empty(body)?;
        let (letter, _) = letter(stores, asked.required_text("id")?)?;
        let payload = json!({"messageId": letter.id});
        Ok(command(&letter.original_queue, "RetryDeadLetter", payload, now_ms))
    }
}

/// Sends all dead letters of one of these topics back to it.
#[derive(Debug)]
pub struct RetryQueue(pub &'static [&'static Topic]);

impl Route for RetryQueue {
    fn path(&self) -> &str {
        "/dlq/{queue}/retry"
    }

    fn about(&self) -> &str {
        "sends all dead letters of a topic back to it and deletes them here"
    }

    fn parameters(&self) -> &[Parameter] {
        &[]
    }

    fn takes(&self) -> bool {
        true
    }

    fn take(&self, body: &[u8], asked: &Parameters, now_ms: i64) -> Result<Taken, QueryError> {
        must_be_empty(body)?;
        let queue = known(self.0, asked)?;
        Ok(command(queue, "RetryDeadLetters", json!({}), now_ms))
    }
}

/// Deletes dead letters of one of these topics.
#[derive(Debug)]
pub struct PurgeQueue(pub &'static [&'static Topic]);

impl Route for PurgeQueue {
    fn path(&self) -> &str {
        "/dlq/{queue}"
    }

    fn about(&self) -> &str {
        "deletes the dead letters of a topic"
    }

    fn parameters(&self) -> &[Parameter] {
        const {
            &[Parameter::optional(
                "olderThan",
                ParameterKind::Time,
                "only those that failed before this time; else all",
            )]
        }
    }

    fn method(&self) -> Method {
        Method::Delete
    }

    fn take(&self, _: &[u8], asked: &Parameters, now_ms: i64) -> Result<Taken, QueryError> {
        let queue = known(self.0, asked)?;
        let payload = match asked.number("olderThan") {
            None => json!({}),
            Some(time @ 0..) => json!({"olderThan": time}),
            Some(_) => {
                let why = "lies before 1970; give the time before which letters are deleted";
                return Err(QueryError::new(
                    Problem::InvalidParameter,
                    format!("parameter `olderThan` {why}"),
                ));
            }
        };
        Ok(command(queue, "PurgeDeadLetters", payload, now_ms))
    }
}

/// The queue that was asked for, if it is one of these.
fn known<'a>(topics: &[&Topic], asked: &'a Parameters) -> Result<&'a str, QueryError> {
    let queue = asked.required_text("queue")?;
    if topics.iter().any(|topic| topic.name == queue) {
        return Ok(queue);
    }
    let names: Vec<&str> = topics.iter().map(|topic| &*topic.name).collect();
    let all = names.join(", ");
    let detail = format!("dead letters of `{queue:.100}` are not kept here; there is: {all}");
    Err(QueryError::not_found(detail))
}

/// Nothing, or an empty object.
fn must_be_empty(body: &[u8]) -> Result<(), QueryError> {
    let is_empty = body.trim_ascii().is_empty()
        || serde_json::from_slice::<Value>(body).is_ok_and(|value| value == json!({}));
    if is_empty {
        return Ok(());
    }
    Err(QueryError::new(Problem::InvalidBody, "the path says it all: send no body, or `{}`"))
}

/// A command as a record, and its name for whoever gave it.
fn command(queue: &str, kind: &str, payload: Value, now_ms: i64) -> Taken {
    let (id, correlation_id) = (Uuid::new_v4(), Uuid::new_v4());
    let document = json!({"id": id, "type": kind, "aggregateId": queue, "payload": payload,
        "metadata": {"correlationId": correlation_id}});
    let mut sent = Headers::new();
    sent.append(headers::CORRELATION_ID, Some(correlation_id.to_string().into()));
    let record = NewRecord {
        topic: DLQ_COMMANDS.name.to_string(),
        key: queue.as_bytes().to_vec(),
        value: document.to_string().into_bytes(),
        timestamp: now_ms.max(0),
        headers: sent,
    };
    let answer = json!({"queue": queue, "command": kind, "correlationId": correlation_id});
    Taken { records: vec![record], answer }
}

#[cfg(test)]
mod tests {
    use headwater_schemas::topics::TASK_COMPLETED;

    use super::*;

    #[test]
    fn a_body_that_says_something_is_refused() {
        for empty in ["", " ", "{}", "{ }\n"] {
            assert_eq!(must_be_empty(empty.as_bytes()), Ok(()), "{empty:?}");
        }
        for other in ["null", "[]", "{\"a\": 1}", "{"] {
            let error = must_be_empty(other.as_bytes()).expect_err(other);
            assert_eq!(error.problem, Problem::InvalidBody);
        }
    }

    #[test]
    fn a_command_is_keyed_by_its_queue_and_named_by_its_correlation_id() {
        let taken = command(&TASK_COMPLETED.name, "PurgeDeadLetters", json!({}), -1);
        let [record] = &taken.records[..] else { panic!("one record") };
        assert_eq!((&*record.topic, record.timestamp), ("dlq.commands", 0));
        assert_eq!(record.key, b"task.completed");
        let document: Value = serde_json::from_slice(&record.value).expect("json");
        assert_eq!(document["aggregateId"], "task.completed");
        assert_eq!(document["metadata"]["correlationId"], taken.answer["correlationId"]);
    }
}

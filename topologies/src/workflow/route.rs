//! `GET /sagas/{id}`, `GET /sagas` and `GET /correlations/{id}`: workflows as queries see them.
//!
//! Owns the shape of the answers and which rows lead to them. It must not know HTTP.

use headwater::query::{
    AsOf, PageRequest, Parameter, ParameterKind, Parameters, QueryError, Route, StoreQueries,
};
use headwater::serde::KeyRange;
use headwater_schemas::events::task::TaskStatus;
use serde_json::{Map, Value, json};

use super::WorkflowRecord;
use super::topology::{INDEX_STORE, STORE};
use crate::saga::SagaState;

/// Sagas that one task or one request leads to, at most.
const LED_MAX: usize = 100;

/// The workflow of one task.
#[derive(Debug)]
pub struct SagaRoute;

impl Route for SagaRoute {
    fn path(&self) -> &str {
        "/sagas/{id}"
    }

    fn about(&self) -> &str {
        "the workflow of a task"
    }

    fn parameters(&self) -> &[Parameter] {
        const {
            &[Parameter::optional(
                "sessionId",
                ParameterKind::Text,
                "the task's session, should several have a task of this id",
            )]
        }
    }

    fn answer(&self, asked: &Parameters, stores: &StoreQueries<'_>) -> Result<Value, QueryError> {
        let id = asked.required_text("id")?;
        let (found, as_of) = led(stores, &format!("task/{id}/"))?;
        let session = asked.text("sessionId");
        let mut fits = found
            .into_iter()
            .filter(|saga| session.is_none_or(|session| session == saga.data.session_id));
        let Some(saga) = fits.next() else {
            let detail = format!("no workflow of task `{id}` is known; it may not have begun yet");
            return Err(QueryError::not_found(detail));
        };
        if fits.next().is_some() {
            let why = format!("is needed: several sessions have a task `{id}`");
            return Err(QueryError::parameter("sessionId", why));
        }
        Ok(json!({"saga": shown(&saga), "asOf": as_of}))
    }
}

/// Workflows by session and task.
#[derive(Debug)]
pub struct SagasRoute;

impl Route for SagasRoute {
    fn path(&self) -> &str {
        "/sagas"
    }

    fn about(&self) -> &str {
        "workflows by session and task; a page that is filtered may hold fewer and have a next"
    }

    fn parameters(&self) -> &[Parameter] {
        const {
            &[
                Parameter::optional(
                    "state",
                    ParameterKind::Word(&[
                        "ASSIGNED",
                        "EXECUTING",
                        "REVIEWING",
                        "QUALITY_CHECK",
                        "COMPENSATING",
                        "COMPLETED",
                        "FAILED",
                    ]),
                    "only workflows in this state",
                ),
                Parameter::optional("sessionId", ParameterKind::Text, "only this session's"),
                Parameter::optional("limit", ParameterKind::Limit, "workflows at most"),
                Parameter::optional("cursor", ParameterKind::Text, "nextCursor of a page before"),
            ]
        }
    }

    fn answer(&self, asked: &Parameters, stores: &StoreQueries<'_>) -> Result<Value, QueryError> {
        let store = stores.store(STORE)?;
        let page = PageRequest { limit: asked.limit(), cursor: asked.text("cursor") };
        let ranges = match asked.text("sessionId") {
            Some(session) => vec![under(&format!("{session}/"))],
            None => store.key_ranges(None, None)?,
        };
        let found = store.range(&ranges, page)?;
        let mut items = Vec::new();
        for row in &found.rows {
            let saga = read(&row.value)?;
            if asked.text("state").is_none_or(|state| state == state_of(&saga)) {
                items.push(shown(&saga));
            }
        }
        Ok(json!({"items": items, "nextCursor": found.next_cursor, "asOf": found.as_of}))
    }
}

/// How far a request has come.
#[derive(Debug)]
pub struct CorrelationRoute;

impl Route for CorrelationRoute {
    fn path(&self) -> &str {
        "/correlations/{id}"
    }

    fn about(&self) -> &str {
        "how far the tasks of a request are"
    }

    fn parameters(&self) -> &[Parameter] {
        &[]
    }

    fn answer(&self, asked: &Parameters, stores: &StoreQueries<'_>) -> Result<Value, QueryError> {
        let id = asked.required_text("id")?;
        let (found, as_of) = led(stores, &format!("correlation/{id}/"))?;
        if found.is_empty() {
            let detail = format!("no task of request `{id}` is known; it may not have begun yet");
            return Err(QueryError::not_found(detail));
        }
        let done = found.iter().all(|saga| saga.state.is_final());
        let tasks: Vec<_> = found.iter().map(shown).collect();
        Ok(json!({"correlationId": id, "done": done, "tasks": tasks, "asOf": as_of}))
    }
}

/// The keys that begin with `prefix`, which ends with a slash: `0` follows it.
fn under(prefix: &str) -> KeyRange {
    let mut end = prefix.as_bytes().to_vec();
    end.pop();
    end.push(b'0');
    KeyRange { from: Some(prefix.into()), to: Some(end) }
}

/// The sagas that the rows of the index under this prefix lead to.
fn led(
    stores: &StoreQueries<'_>,
    prefix: &str,
) -> Result<(Vec<WorkflowRecord>, Vec<AsOf>), QueryError> {
    let page = PageRequest { limit: LED_MAX, cursor: None };
    let leads = stores.store(INDEX_STORE)?.range(&[under(prefix)], page)?;
    let store = stores.store(STORE)?;
    let mut sagas = Vec::new();
    for lead in &leads.rows {
        // A saga lies where its session does, which its key alone does not say.
        let only = KeyRange { from: Some(lead.value.clone()), to: Some(lead.value.clone()) };
        let found = store.range(&[only], PageRequest { limit: 1, cursor: None })?;
        for row in &found.rows {
            sagas.push(read(&row.value)?);
        }
    }
    Ok((sagas, leads.as_of))
}

fn read(bytes: &[u8]) -> Result<WorkflowRecord, QueryError> {
    serde_json::from_slice(bytes).map_err(|error| QueryError::failed(&error))
}

/// The state under the name that people know it by.
fn state_of(saga: &WorkflowRecord) -> &'static str {
    match (saga.state, saga.current_step.as_str()) {
        (SagaState::Running, "analyse") => "ASSIGNED",
        (SagaState::Running, "execute") => "EXECUTING",
        (SagaState::Running, "review") => "REVIEWING",
        (SagaState::Running, _) => "QUALITY_CHECK",
        (SagaState::Compensating, _) => "COMPENSATING",
        (SagaState::Completed, _) => "COMPLETED",
        (SagaState::Failed, _) => "FAILED",
    }
}

fn shown(saga: &WorkflowRecord) -> Value {
    let data = &saga.data;
    let items: Map<String, Value> = data
        .work_items
        .iter()
        .map(|item| {
            let shown = json!({
                "status": item.status, "type": item.item.kind, "attempt": item.attempt,
                "executionTime": item.execution_time, "completedAt": item.completed_at,
                "gates": item.gates,
            });
            (item.item.id.clone(), shown)
        })
        .collect();
    let status = match saga.state {
        SagaState::Completed => TaskStatus::Completed,
        SagaState::Failed => TaskStatus::Failed,
        SagaState::Running | SagaState::Compensating => data.status,
    };
    json!({
        "sagaId": saga.saga_id, "sagaName": saga.saga_name, "sessionId": data.session_id,
        "correlationId": saga.correlation_id, "state": state_of(saga), "status": status,
        "currentStep": saga.current_step, "completedSteps": saga.completed_steps,
        "workItems": items, "reworkRound": data.rework_round, "attempt": saga.attempt,
        "deadline": saga.deadline, "retryAt": saga.retry_at, "error": saga.error,
        "compensationErrors": saga.compensation_errors, "ignored": saga.ignored,
        "startedAt": saga.started_at, "updatedAt": saga.updated_at,
    })
}

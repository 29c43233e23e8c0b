//! One route of the server: method, path, typed parameters, who may call it, and the function that
//! answers. The table of them is what requests are routed by and what `/openapi.json` shows. Knows
//! no HTTP library.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::error::{Problem, QueryError};
use super::parameters::{Parameter, Parameters};
use super::port::{ApplicationInfo, QueryTarget};
use super::route::Method;
use crate::metrics::Metrics;
use crate::time::Clock;

/// Who may call, and on which threads it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Anyone; answered at once from memory.
    Probe,
    /// Whoever may read.
    Read,
    /// Whoever may write; `POST` has a JSON body.
    Write,
}

type Handler = Box<dyn Fn(&Call<'_>) -> Result<Answer, QueryError> + Send + Sync>;

/// A route.
pub(super) struct Endpoint {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) about: String,
    pub(super) parameters: Vec<Parameter>,
    pub(super) access: Access,
    pub(super) handler: Handler,
}

impl Endpoint {
    pub(super) fn new(
        access: Access,
        path: &str,
        about: &str,
        parameters: &[Parameter],
        handler: impl Fn(&Call<'_>) -> Result<Answer, QueryError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            method: if access == Access::Write { Method::Post } else { Method::Get },
            path: path.to_owned(),
            about: about.to_owned(),
            parameters: parameters.to_vec(),
            access,
            handler: Box::new(handler),
        }
    }
}

/// What every handler may use.
pub(super) struct Context {
    pub(super) target: Arc<dyn QueryTarget>,
    pub(super) metrics: Metrics,
    pub(super) clock: Arc<dyn Clock>,
    /// How long a handler may wait for the log.
    pub(super) patience: Duration,
    /// Where the next record without a key goes.
    pub(super) next_partition: AtomicU32,
    /// `/openapi.json`.
    pub(super) openapi: Json,
}

/// One request, checked.
pub(super) struct Call<'c> {
    pub(super) context: &'c Context,
    pub(super) asked: Parameters,
    pub(super) body: &'c [u8],
}

impl Call<'_> {
    /// The application named in the path, or the only one.
    pub(super) fn application(&self) -> Result<Arc<ApplicationInfo>, QueryError> {
        let all = self.context.target.applications();
        let ids = || all.iter().map(|a| &*a.application_id).collect::<Vec<_>>().join(", ");
        match (self.asked.text("app"), all.as_slice()) {
            (Some(id), _) => {
                all.iter().find(|a| *a.application_id == *id).cloned().ok_or_else(|| {
                    let detail = format!("no application `{id}` runs here; there is: {}", ids());
                    QueryError::new(Problem::UnknownApplication, detail)
                })
            }
            (None, [only]) => Ok(Arc::clone(only)),
            (None, []) => {
                Err(QueryError::new(Problem::UnknownApplication, "no application runs here"))
            }
            (None, _) => Err(application_needed(&ids())),
        }
    }
}

/// Several applications could be meant.
pub(super) fn application_needed(ids: &str) -> QueryError {
    let detail = format!("several applications run here: put /apps/{{app}} in front, one of {ids}");
    QueryError::new(Problem::ApplicationNeeded, detail)
}

/// What a handler answers.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn json(value: &impl Serialize) -> Result<Self, QueryError> {
        let body = serde_json::to_vec(value).map_err(|e| QueryError::failed(&e))?;
        Ok(Self { status: 200, content_type: "application/json", body })
    }

    /// A listing.
    pub(super) fn items(items: &impl Serialize) -> Result<Self, QueryError> {
        let items = serde_json::to_value(items).map_err(|e| QueryError::failed(&e))?;
        Self::json(&json!({ "items": items }))
    }

    pub(super) fn text(content_type: &'static str, text: String) -> Self {
        Self { status: 200, content_type, body: text.into_bytes() }
    }

    pub(super) fn problem(error: &QueryError) -> Self {
        let body = error.to_json().to_string().into_bytes();
        Self { status: error.problem.status(), content_type: "application/problem+json", body }
    }
}

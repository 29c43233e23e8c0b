//! Why a request was not answered: RFC 9457 problems. Owns the kinds of problems, their status and
//! their form; each `detail` says what was wrong and what to do next.

use serde_json::{Value as Json, json};

/// The kind of a problem: its `type`, `title` and HTTP status.
///
/// The `type` is `urn:headwater:problem:` and the kind's name with hyphens; programs go by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// 400: no such parameter here.
    UnknownParameter,
    /// 400: a parameter that must be given is not.
    MissingParameter,
    /// 400: a parameter's value is of the wrong form or out of its bounds.
    InvalidParameter,
    /// 400: the key is none of the store's.
    InvalidKey,
    /// 400: the cursor is damaged or belongs to another question.
    InvalidCursor,
    /// 400: several applications run here and none is named.
    ApplicationNeeded,
    /// 400: the store is of a kind that cannot answer this.
    WrongStoreKind,
    /// 400: the body is not what the route takes.
    InvalidBody,
    /// 400: the offset is not in the log.
    OffsetOutOfRange,
    /// 401: the token is missing or wrong.
    Unauthorized,
    /// 403: never allowed as the server is set up.
    Forbidden,
    /// 404: no such route.
    UnknownRoute,
    /// 404: no such application in this process.
    UnknownApplication,
    /// 404: the application has no such store.
    UnknownStore,
    /// 404: the log has no such topic or partition.
    UnknownTopic,
    /// 404: the process does not run on the embedded log.
    NoEmbeddedLog,
    /// 404: what was asked for is not there.
    NotFound,
    /// 405: the route has no such method.
    MethodNotAllowed,
    /// 408: the client was too slow to send the body.
    TooSlow,
    /// 413: the body is too large.
    BodyTooLarge,
    /// 414: the address is too long.
    AddressTooLong,
    /// 415: the body is said to be of a type the route does not take.
    UnsupportedMediaType,
    /// 422: the log refuses a record.
    RecordRefused,
    /// 500: state or the log cannot be read or written.
    Failed,
    /// 503: try again, here or elsewhere.
    Unavailable,
    /// 504: it took too long.
    TimedOut,
}

impl Problem {
    /// The HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::UnknownParameter
            | Self::MissingParameter
            | Self::InvalidParameter
            | Self::InvalidKey
            | Self::InvalidCursor
            | Self::ApplicationNeeded
            | Self::WrongStoreKind
            | Self::InvalidBody
            | Self::OffsetOutOfRange => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::UnknownRoute
            | Self::UnknownApplication
            | Self::UnknownStore
            | Self::UnknownTopic
            | Self::NoEmbeddedLog
            | Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::TooSlow => 408,
            Self::BodyTooLarge => 413,
            Self::AddressTooLong => 414,
            Self::UnsupportedMediaType => 415,
            Self::RecordRefused => 422,
            Self::Failed => 500,
            Self::Unavailable => 503,
            Self::TimedOut => 504,
        }
    }

    /// The title, the same for every problem of this kind.
    pub fn title(self) -> &'static str {
        match self {
            Self::UnknownParameter => "unknown parameter",
            Self::MissingParameter => "missing parameter",
            Self::InvalidParameter => "invalid parameter",
            Self::InvalidKey => "invalid key",
            Self::InvalidCursor => "invalid cursor",
            Self::ApplicationNeeded => "application needed",
            Self::WrongStoreKind => "wrong store kind",
            Self::InvalidBody => "invalid body",
            Self::OffsetOutOfRange => "offset out of range",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::UnknownRoute => "unknown route",
            Self::UnknownApplication => "unknown application",
            Self::UnknownStore => "unknown store",
            Self::UnknownTopic => "unknown topic",
            Self::NoEmbeddedLog => "no embedded log",
            Self::NotFound => "not found",
            Self::MethodNotAllowed => "method not allowed",
            Self::TooSlow => "too slow",
            Self::BodyTooLarge => "body too large",
            Self::AddressTooLong => "address too long",
            Self::UnsupportedMediaType => "unsupported media type",
            Self::RecordRefused => "record refused",
            Self::Failed => "failed",
            Self::Unavailable => "unavailable",
            Self::TimedOut => "timed out",
        }
    }
}

/// A request that was not answered, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", .problem.title())]
pub struct QueryError {
    /// The kind.
    pub problem: Problem,
    /// What was wrong in this case, and what to do.
    pub detail: String,
}

impl QueryError {
    /// A problem of this kind.
    pub fn new(problem: Problem, detail: impl Into<String>) -> Self {
        Self { problem, detail: detail.into() }
    }

    /// A parameter's value cannot be used; `why` says what it must be.
    pub fn parameter(name: &str, why: impl std::fmt::Display) -> Self {
        Self::new(Problem::InvalidParameter, format!("parameter `{name}` {why}"))
    }

    /// What was asked for is not there.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(Problem::NotFound, detail)
    }

    /// Something of this process failed, which is not the client's fault.
    pub fn failed(error: &dyn std::error::Error) -> Self {
        Self::new(Problem::Failed, error.to_string())
    }

    /// The problem as RFC 9457 writes it.
    pub fn to_json(&self) -> Json {
        let title = self.problem.title();
        json!({
            "type": format!("urn:headwater:problem:{}", title.replace(' ', "-")),
            "title": title,
            "status": self.problem.status(),
            "detail": self.detail,
        })
    }
}

impl From<headwater_state::StateError> for QueryError {
    fn from(error: headwater_state::StateError) -> Self {
        Self::failed(&error)
    }
}

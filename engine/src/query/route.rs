//! Routes of a topology's own: a path, typed parameters, and an answer made from its stores, or
//! records made from a body. Owns the trait and what a path may look like; knows no HTTP library.

use serde_json::Value as Json;

use super::error::{Problem, QueryError};
use super::parameters::{Parameter, Parameters};
use super::reads::StoreQueries;
use crate::record::Headers;

/// A question that a topology answers in its own words, by `GET`, or something it can be told, by
/// `POST` or `DELETE`: then [`takes`](Self::takes) or [`method`](Self::method) says so, and
/// [`take`](Self::take) stands for [`answer`](Self::answer).
///
/// ```
/// use headwater::query::{Parameter, ParameterKind, Parameters, QueryError, Route, StoreQueries};
/// use serde_json::{Value, json};
///
/// /// `GET /greetings?name=`: how often someone was greeted.
/// struct Greetings;
///
/// impl Route for Greetings {
///     fn path(&self) -> &str {
///         "/greetings"
///     }
///
///     fn about(&self) -> &str {
///         "how often someone was greeted"
///     }
///
///     fn parameters(&self) -> &[Parameter] {
///         const { &[Parameter::required("name", ParameterKind::Text, "whom")] }
///     }
///
///     fn answer(&self, asked: &Parameters, stores: &StoreQueries<'_>) -> Result<Value, QueryError> {
///         let store = stores.store("greetings")?;
///         let key = store.key(asked.required_text("name")?)?;
///         let (row, _) = store.get(&key)?;
///         Ok(json!({ "times": store.view().value_to_json(&row.value) }))
///     }
/// }
/// ```
pub trait Route: Send + Sync {
    /// The path, of literal segments and parameters: `/analytics`, `/sessions/{id}`.
    fn path(&self) -> &str;
    /// What it answers, in a few words, for the API's description.
    fn about(&self) -> &str;
    /// What may be asked. A parameter in the path need not be named here; it is text then.
    fn parameters(&self) -> &[Parameter];
    /// Answers. It runs on a thread that may block, under a time limit.
    ///
    /// # Errors
    /// Any [`QueryError`]; a panic is answered with status 500.
    fn answer(&self, asked: &Parameters, stores: &StoreQueries<'_>) -> Result<Json, QueryError> {
        let _ = (asked, stores);
        Err(QueryError::new(Problem::MethodNotAllowed, format!("send a body to {}", self.path())))
    }
    /// It takes a JSON body by `POST`.
    fn takes(&self) -> bool {
        false
    }
    /// How it is called; one that deletes says so here. A path may have a route of each method.
    fn method(&self) -> Method {
        if self.takes() { Method::Post } else { Method::Get }
    }
    /// Takes a body, an empty one of `DELETE`: the records to append, all or none, and the answer
    /// once they are in the log for good, with status 202. `now_ms` is the wall clock. Runs as
    /// [`answer`](Self::answer) does.
    ///
    /// # Errors
    /// Any [`QueryError`]; nothing is appended then.
    fn take(&self, body: &[u8], asked: &Parameters, now_ms: i64) -> Result<Taken, QueryError> {
        let _ = (body, asked, now_ms);
        Err(QueryError::new(Problem::MethodNotAllowed, format!("{} takes nothing", self.path())))
    }
    /// As [`take`](Self::take), and what a route implements in its place that looks at committed
    /// rows first, such as to refuse what names none.
    ///
    /// # Errors
    /// Any [`QueryError`]; nothing is appended then.
    fn take_with(
        &self,
        body: &[u8],
        asked: &Parameters,
        stores: &StoreQueries<'_>,
        now_ms: i64,
    ) -> Result<Taken, QueryError> {
        let _ = stores;
        self.take(body, asked, now_ms)
    }
}

/// How a route is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// It answers.
    Get,
    /// It takes a JSON body.
    Post,
    /// It takes parameters, and no body.
    Delete,
}

/// What a route makes of a body.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// What is appended.
    pub records: Vec<NewRecord>,
    /// What is answered.
    pub answer: Json,
}

/// A record to be appended, in the partition of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    /// Where to.
    pub topic: String,
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// The headers.
    pub headers: Headers,
}

/// Why a path can be no route's, or `None` if it can.
pub(super) fn fault_of_path(path: &str) -> Option<String> {
    let is_word = |text: &str| {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !text.is_empty() && text.chars().all(legal)
    };
    let Some(segments) = path.strip_prefix('/') else {
        return Some(format!("path `{path}` must begin with `/`"));
    };
    let parameter = |s: &str| s.strip_prefix('{').and_then(|s| s.strip_suffix('}')).map(is_word);
    let bad = segments.split('/').find(|s| !parameter(s).unwrap_or_else(|| is_word(s)));
    bad.map(|segment| {
        format!("path `{path}`: segment `{segment}` is neither a plain word nor `{{parameter}}`")
    })
}

/// The path with every parameter alike: two routes of one shape would answer the same requests.
pub(super) fn shape_of_path(path: &str) -> String {
    let shape = |segment: &str| if segment.starts_with('{') { "{}".into() } else { segment.into() };
    path.split('/').map(shape).collect::<Vec<String>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_plain_words_and_parameters_are_accepted() {
        for path in ["/analytics", "/sessions/{id}", "/a/{b}/c.d"] {
            assert_eq!(fault_of_path(path), None);
        }
        for path in ["", "/", "analytics", "/a//b", "/a/", "/{a", "/a{b}", "/{}", "/a b", "/*"] {
            assert!(fault_of_path(path).is_some(), "{path}");
        }
    }

    #[test]
    fn names_of_parameters_do_not_tell_routes_apart() {
        assert_eq!(shape_of_path("/a/{b}/c"), shape_of_path("/a/{x}/c"));
        assert_ne!(shape_of_path("/a/{b}"), shape_of_path("/a/b"));
    }
}

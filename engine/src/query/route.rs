//! Routes of a topology's own: a path, typed parameters, and an answer made from its stores. Owns
//! the trait and what a path may look like; knows no HTTP library.

use serde_json::Value as Json;

use super::error::QueryError;
use super::parameters::{Parameter, Parameters};
use super::reads::StoreQueries;

/// A question that a topology answers in its own words, by `GET`.
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
    fn answer(&self, asked: &Parameters, stores: &StoreQueries<'_>) -> Result<Json, QueryError>;
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

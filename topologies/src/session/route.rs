//! `GET /sessions/{id}` and `GET /sessions`: sessions as queries see them.
//!
//! Owns the shape of the answers and which rows lead to them. It must not know HTTP.

use headwater::query::{
    Page, PageRequest, Parameter, ParameterKind, Parameters, Problem, QueryError, Route,
    StoreQueries,
};
use headwater::serde::KeyRange;
use serde_json::{Value, json};

use super::view::{SessionReadModel, SessionStatus};
use super::{BY_START_STORE, BY_USER_STORE, STORE};

/// One session.
#[derive(Debug)]
pub struct SessionRoute;

impl Route for SessionRoute {
    fn path(&self) -> &str {
        "/sessions/{id}"
    }

    fn about(&self) -> &str {
        "one session"
    }

    fn parameters(&self) -> &[Parameter] {
        &[]
    }

    fn answer(&self, asked: &Parameters, stores: &StoreQueries<'_>) -> Result<Value, QueryError> {
        let store = stores.store(STORE)?;
        let (row, as_of) = store.get(&store.key(asked.required_text("id")?)?)?;
        Ok(json!({"session": model(&row.value)?, "asOf": as_of}))
    }
}

/// Sessions by start, or active ones by user. A page holds at most `limit` items; one that is
/// filtered further may hold fewer and still have a next.
#[derive(Debug)]
pub struct SessionsRoute;

impl Route for SessionsRoute {
    fn path(&self) -> &str {
        "/sessions"
    }

    fn about(&self) -> &str {
        "sessions by their start, ascending; active ones by user"
    }

    fn parameters(&self) -> &[Parameter] {
        const {
            &[
                Parameter::optional(
                    "active",
                    ParameterKind::Word(&["true", "false"]),
                    "whether only active (true) or only ended (false) sessions are listed",
                ),
                Parameter::optional("userId", ParameterKind::Text, "whose sessions; else all"),
                Parameter::optional("from", ParameterKind::Time, "the first start, included"),
                Parameter::optional("to", ParameterKind::Time, "the end of starts, excluded"),
                Parameter::optional("limit", ParameterKind::Limit, "sessions at most"),
                Parameter::optional("cursor", ParameterKind::Text, "nextCursor of a page before"),
            ]
        }
    }

    fn answer(&self, asked: &Parameters, stores: &StoreQueries<'_>) -> Result<Value, QueryError> {
        let active = asked.text("active").map(|word| word == "true");
        let user = asked.text("userId");
        let timed = asked.number("from").is_some() || asked.number("to").is_some();
        let page = PageRequest { limit: asked.limit(), cursor: asked.text("cursor") };
        let found = if active == Some(true) && !timed {
            let (from, to) = match user {
                // `0` follows `/`: the range ends after every session of this user.
                Some(user) => {
                    let prefix = format!("{:03}/{user}", user.len());
                    (Some(format!("{prefix}/")), Some(format!("{prefix}0")))
                }
                None => (None, None),
            };
            listed(stores, BY_USER_STORE, from.as_deref(), to.as_deref(), page)?
        } else {
            let (from, to) = asked.times("from", "to")?;
            let (from, to) = (format!("{:020}/", from.max(0)), format!("{:020}", to.max(0)));
            listed(stores, BY_START_STORE, Some(&from), Some(&to), page)?
        };
        let store = stores.store(STORE)?;
        let mut items = Vec::new();
        for row in &found.rows {
            let id = String::from_utf8_lossy(&row.value);
            let model = match store.get(&store.key(&id)?) {
                Ok((row, _)) => model(&row.value)?,
                Err(error) if error.problem == Problem::NotFound => continue,
                Err(error) => return Err(error),
            };
            let is_active = model.status == SessionStatus::Active;
            if active.is_none_or(|active| active == is_active)
                && user.is_none_or(|user| user == model.user_id)
            {
                items.push(model);
            }
        }
        Ok(json!({"items": items, "nextCursor": found.next_cursor, "asOf": found.as_of}))
    }
}

fn listed(
    stores: &StoreQueries<'_>,
    store: &str,
    from: Option<&str>,
    to: Option<&str>,
    page: PageRequest<'_>,
) -> Result<Page, QueryError> {
    let store = stores.store(store)?;
    let ranges: Vec<KeyRange> = store.key_ranges(from, to)?;
    store.range(&ranges, page)
}

fn model(bytes: &[u8]) -> Result<SessionReadModel, QueryError> {
    serde_json::from_slice(bytes).map_err(|error| QueryError::failed(&error))
}

//! `GET /retries`, `GET /dlq`, `GET /dlq/{queue}` and `GET /dlq/messages/{id}`: failed records as
//! queries see them.
//!
//! Owns the shape of the answers and which rows lead to them. It must not know HTTP.

use headwater::query::{
    AsOf, PageRequest, Parameter, ParameterKind, Parameters, QueryError, Route, StoreQueries,
};
use serde_json::{Value, json};

use headwater_schemas::topics::Topic;

use super::delay::{Totals, totals_store};
use super::manager::{DeadLetterMessage, LETTERS, QUEUES, QueueRow};

const PAGE: [Parameter; 2] = [
    Parameter::optional("limit", ParameterKind::Limit, "rows at most"),
    Parameter::optional("cursor", ParameterKind::Text, "nextCursor of a page before"),
];

/// What has become of the records of these topics that came to be tried again.
#[derive(Debug)]
pub struct Retries(pub &'static [&'static Topic]);

impl Route for Retries {
    fn path(&self) -> &str {
        "/retries"
    }

    fn about(&self) -> &str {
        "topics whose failed records are tried again, and what has become of those"
    }

    fn parameters(&self) -> &[Parameter] {
        &[]
    }

    fn answer(&self, _: &Parameters, stores: &StoreQueries<'_>) -> Result<Value, QueryError> {
        let mut items = Vec::new();
        for topic in self.0 {
            let store = stores.store(&totals_store(&topic.name))?;
            // One row of each partition.
            let limit = usize::try_from(topic.partitions).unwrap_or(usize::MAX);
            let page = PageRequest { limit, cursor: None };
            let found = store.range(&store.key_ranges(None, None)?, page)?;
            let mut all = Totals::default();
            for row in &found.rows {
                all = all.and(parsed(&row.value)?);
            }
            items.push(json!({"queue": topic.name, "taken": all.taken, "waiting": all.waiting(),
                "sentBack": all.sent_back, "givenUp": all.given_up}));
        }
        Ok(json!({"items": items}))
    }
}

/// The queues of dead letters and how long they are.
#[derive(Debug)]
pub struct Queues;

impl Route for Queues {
    fn path(&self) -> &str {
        "/dlq"
    }

    fn about(&self) -> &str {
        "topics with dead letters, and how many they have"
    }

    fn parameters(&self) -> &[Parameter] {
        &PAGE
    }

    fn answer(&self, asked: &Parameters, stores: &StoreQueries<'_>) -> Result<Value, QueryError> {
        let store = stores.store(QUEUES)?;
        let page = PageRequest { limit: asked.limit(), cursor: asked.text("cursor") };
        let found = store.range(&store.key_ranges(None, None)?, page)?;
        let mut items = Vec::new();
        for row in &found.rows {
            let queue = String::from_utf8_lossy(&row.key);
            let known: QueueRow = parsed(&row.value)?;
            items.push(json!({"queue": queue, "size": known.size, "kept": known.kept,
                "retried": known.retried, "purged": known.purged}));
        }
        Ok(json!({"items": items, "nextCursor": found.next_cursor, "asOf": found.as_of}))
    }
}

/// The dead letters of one queue, in the order in which they came.
#[derive(Debug)]
pub struct Queue;

impl Route for Queue {
    fn path(&self) -> &str {
        "/dlq/{queue}"
    }

    fn about(&self) -> &str {
        "the dead letters of one topic, in the order in which they came"
    }

    fn parameters(&self) -> &[Parameter] {
        &PAGE
    }

    fn answer(&self, asked: &Parameters, stores: &StoreQueries<'_>) -> Result<Value, QueryError> {
        let store = stores.store(LETTERS)?;
        let queue = asked.required_text("queue")?;
        // An id goes on behind the tilde with digits: the range has those of this queue alone.
        let (from, to) = (format!("{queue}~"), format!("{queue}~~"));
        let page = PageRequest { limit: asked.limit(), cursor: asked.text("cursor") };
        let found = store.range(&store.key_ranges(Some(&from), Some(&to))?, page)?;
        let items = found.rows.iter().map(|row| parsed::<DeadLetterMessage>(&row.value));
        let items = items.collect::<Result<Vec<_>, _>>()?;
        Ok(json!({"items": items, "nextCursor": found.next_cursor, "asOf": found.as_of}))
    }
}

/// One dead letter.
#[derive(Debug)]
pub struct Message;

impl Route for Message {
    fn path(&self) -> &str {
        "/dlq/messages/{id}"
    }

    fn about(&self) -> &str {
        "one dead letter"
    }

    fn parameters(&self) -> &[Parameter] {
        &[]
    }

    fn answer(&self, asked: &Parameters, stores: &StoreQueries<'_>) -> Result<Value, QueryError> {
        let (message, as_of) = letter(stores, asked.required_text("id")?)?;
        Ok(json!({"message": message, "asOf": as_of}))
    }
}

/// The dead letter of this name.
///
/// # Errors
/// `NotFound`; as [`headwater::query::StoreQuery::range`].
pub(super) fn letter(
    stores: &StoreQueries<'_>,
    id: &str,
) -> Result<(DeadLetterMessage, Vec<AsOf>), QueryError> {
    let store = stores.store(LETTERS)?;
    // A letter lies where its queue does, not where its own name would.
    let page = PageRequest { limit: 1, cursor: None };
    let found = store.range(&store.key_ranges(Some(id), Some(id))?, page)?;
    match found.rows.first() {
        Some(row) => Ok((parsed(&row.value)?, found.as_of)),
        None => Err(QueryError::not_found(format!("there is no dead letter `{id:.200}`"))),
    }
}

fn parsed<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, QueryError> {
    serde_json::from_slice(bytes).map_err(|error| QueryError::failed(&error))
}

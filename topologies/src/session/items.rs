//! Work items as queries see them: `GET /work-items/{id}` and `GET /work-items`.
//!
//! Owns the table `work-items`, what an event changes in it, and the shape of the answers. It must not
//! know HTTP, nor the commands behind the events.
//!
//! | event | the item is |
//! |---|---|
//! | `WorkItemCreated` of a further attempt | `assigned` again, without an end |
//! | `WorkItemCompleted` of this attempt or a later one | `completed` |
//! | `WorkItemFailed`, `WorkItemCancelled` | `failed`, `cancelled`, unless it is completed |
//! | its task ends badly | `failed`, unless it has ended |

use headwater::query::{
    PageRequest, Parameter, ParameterKind, Parameters, Problem, QueryError, Route, StoreQueries,
};
use headwater_schemas::envelope::EventTime;
use headwater_schemas::events::{Event, WorkItemCompleted, WorkItemCreated};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The work items, by [`item_key`].
pub const STORE: &str = "work-items";

/// The key of an item: all of one name lie together.
pub fn item_key(work_item_id: &str, session_id: &str, task_id: &str) -> String {
    format!("{work_item_id}/{session_id}/{task_id}")
}

/// Where a work item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ItemStatus {
    /// Given to an agent.
    Assigned,
    /// Ended well.
    Completed,
    /// Ended badly, or its task did.
    Failed,
    /// Withdrawn.
    Cancelled,
}

/// A work item as queries answer it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemModel {
    /// The item.
    pub work_item_id: String,
    /// The task it is a part of.
    pub task_id: String,
    /// In which session.
    pub session_id: String,
    /// Where it stands.
    pub status: ItemStatus,
    /// What kind of work it is.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Which try it is, from 1.
    pub attempt: i32,
    /// When it was first given to an agent; when it ended, of one whose beginning is not known.
    pub created_at: EventTime,
    /// When it was completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<EventTime>,
    /// How long its agent worked, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_time: Option<i64>,
}

/// Item and task that an event is about.
pub(super) fn about(event: &Event) -> Option<(&str, &str)> {
    match event {
        Event::WorkItemCreated(created) => Some((&created.item.id, &created.task_id)),
        Event::WorkItemCompleted(done) => Some((&done.work_item_id, &done.task_id)),
        Event::WorkItemFailed(failed) => Some((&failed.work_item_id, &failed.task_id)),
        Event::WorkItemCancelled(gone) => Some((&gone.work_item_id, &gone.task_id)),
        _ => None,
    }
}

/// The item after an event about it, or `None` if it stays as it is.
pub(super) fn after(
    known: Option<ItemModel>,
    session_id: &str,
    event: &Event,
    time: EventTime,
) -> Option<ItemModel> {
    match event {
        Event::WorkItemCreated(created) => match &known {
            Some(item) if item.attempt >= created.attempt => None,
            _ => Some(assigned(known, session_id, created, time)),
        },
        Event::WorkItemCompleted(done) => match &known {
            Some(item) if item.attempt > done.attempt || item.is_completed(done.attempt) => None,
            _ => Some(completed(known, session_id, done)),
        },
        Event::WorkItemFailed(_) => known.and_then(|item| item.ended(ItemStatus::Failed)),
        Event::WorkItemCancelled(_) => known.and_then(|item| item.ended(ItemStatus::Cancelled)),
        _ => None,
    }
}

impl ItemModel {
    fn is_completed(&self, attempt: i32) -> bool {
        self.attempt == attempt && self.status == ItemStatus::Completed
    }

    /// The item after it ended so; `None` if it has ended before.
    pub(super) fn ended(self, status: ItemStatus) -> Option<Self> {
        (self.status == ItemStatus::Assigned).then_some(Self { status, ..self })
    }
}

fn assigned(
    known: Option<ItemModel>,
    session_id: &str,
    created: &WorkItemCreated,
    time: EventTime,
) -> ItemModel {
    ItemModel {
        work_item_id: created.item.id.clone(),
        task_id: created.task_id.clone(),
        session_id: session_id.to_owned(),
        status: ItemStatus::Assigned,
        kind: Some(created.item.kind.clone()),
        attempt: created.attempt,
        created_at: known.map_or(time, |item| item.created_at),
        completed_at: None,
        execution_time: None,
    }
}

fn completed(known: Option<ItemModel>, session_id: &str, done: &WorkItemCompleted) -> ItemModel {
    let (kind, created_at) = match known {
        Some(item) => (item.kind, item.created_at),
        None => (None, done.completed_at),
    };
    ItemModel {
        work_item_id: done.work_item_id.clone(),
        task_id: done.task_id.clone(),
        session_id: session_id.to_owned(),
        status: ItemStatus::Completed,
        kind: kind.or_else(|| done.kind.clone()),
        attempt: done.attempt,
        created_at,
        completed_at: Some(done.completed_at),
        execution_time: Some(done.execution_time),
    }
}

/// One work item.
#[derive(Debug)]
pub struct ItemRoute;

impl Route for ItemRoute {
    fn path(&self) -> &str {
        "/work-items/{id}"
    }

    fn about(&self) -> &str {
        "one work item"
    }

    fn parameters(&self) -> &[Parameter] {
        const {
            &[Parameter::optional(
                "sessionId",
                ParameterKind::Text,
                "its session, where several have an item of this name",
            )]
        }
    }

    fn answer(&self, asked: &Parameters, stores: &StoreQueries<'_>) -> Result<Value, QueryError> {
        let id = asked.required_text("id")?;
        let store = stores.store(STORE)?;
        // `0` follows `/`.
        let under = match asked.text("sessionId") {
            Some(session) => format!("{id}/{session}"),
            None => id.to_owned(),
        };
        let ranges = store.key_ranges(Some(&format!("{under}/")), Some(&format!("{under}0")))?;
        let found = store.range(&ranges, PageRequest { limit: 2, cursor: None })?;
        match &found.rows[..] {
            [row] => Ok(json!({"workItem": model(&row.value)?, "asOf": found.as_of})),
            [] => Err(QueryError::not_found(format!("there is no work item `{id:.200}`"))),
            _ => Err(QueryError::new(
                Problem::MissingParameter,
                format!("there are several work items `{id:.200}`; say whose: sessionId="),
            )),
        }
    }
}

/// Work items, of one session, or in one status. A page holds at most `limit` items; one that is
/// filtered may hold fewer and still have a next.
#[derive(Debug)]
pub struct ItemsRoute;

impl Route for ItemsRoute {
    fn path(&self) -> &str {
        "/work-items"
    }

    fn about(&self) -> &str {
        "work items by their names"
    }

    fn parameters(&self) -> &[Parameter] {
        const {
            &[
                Parameter::optional("sessionId", ParameterKind::Text, "of which session"),
                Parameter::optional(
                    "status",
                    ParameterKind::Word(&["assigned", "completed", "failed", "cancelled"]),
                    "where they stand",
                ),
                Parameter::optional("limit", ParameterKind::Limit, "work items at most"),
                Parameter::optional("cursor", ParameterKind::Text, "nextCursor of a page before"),
            ]
        }
    }

    fn answer(&self, asked: &Parameters, stores: &StoreQueries<'_>) -> Result<Value, QueryError> {
        let store = stores.store(STORE)?;
        let page = PageRequest { limit: asked.limit(), cursor: asked.text("cursor") };
        let found = store.range(&store.key_ranges(None, None)?, page)?;
        let mut items = Vec::new();
        for row in &found.rows {
            let item = model(&row.value)?;
            let status = json!(item.status);
            if asked.text("sessionId").is_none_or(|session| session == item.session_id)
                && asked.text("status").is_none_or(|word| status == word)
            {
                items.push(item);
            }
        }
        Ok(json!({"items": items, "nextCursor": found.next_cursor, "asOf": found.as_of}))
    }
}

fn model(bytes: &[u8]) -> Result<ItemModel, QueryError> {
    serde_json::from_slice(bytes).map_err(|error| QueryError::failed(&error))
}

#[cfg(test)]
mod tests {
    use headwater_schemas::events::work_item::{WorkItem, WorkResult};
    use headwater_schemas::events::{WorkItemCancelled, WorkItemFailed};

    use super::*;

    fn at(ms: i64) -> EventTime {
        EventTime::from_millis(ms).expect("in range")
    }

    fn created(attempt: i32) -> Event {
        let item = WorkItem {
            id: "w".into(),
            description: "d".into(),
            kind: "testing".into(),
            prompt: None,
        };
        let (task_id, session_id) = ("t".to_owned(), "s".to_owned());
        Event::WorkItemCreated(WorkItemCreated { item, task_id, session_id, attempt })
    }

    fn done(attempt: i32) -> Event {
        Event::WorkItemCompleted(WorkItemCompleted {
            work_item_id: "w".into(),
            task_id: "t".into(),
            session_id: "s".into(),
            result: WorkResult { success: true, output: "o".into() },
            completed_at: at(90),
            execution_time: 7,
            kind: None,
            attempt,
        })
    }

    /// The item after these events, told at 1, 2, 3...
    fn told(events: &[Event]) -> ItemModel {
        let mut item = None;
        for (time, event) in (1..).zip(events) {
            assert_eq!(about(event), Some(("w", "t")));
            item = after(item.clone(), "s", event, at(time)).or(item);
        }
        item.expect("an item")
    }

    #[test]
    fn an_item_is_assigned_then_completed_with_its_times() {
        let item = told(&[created(1), done(1)]);
        assert_eq!((item.status, item.attempt), (ItemStatus::Completed, 1));
        assert_eq!((item.created_at, item.completed_at), (at(1), Some(at(90))));
        assert_eq!((item.execution_time, item.kind.as_deref()), (Some(7), Some("testing")));
    }

    #[test]
    fn a_further_attempt_opens_it_again_and_repeats_of_earlier_ones_change_nothing() {
        let again = told(&[created(1), done(1), created(2)]);
        assert_eq!((again.status, again.completed_at), (ItemStatus::Assigned, None));
        assert_eq!((again.created_at, again.attempt), (at(1), 2));
        assert_eq!(told(&[created(1), done(1), created(2), created(1), done(1)]), again);
        let twice = [created(1), done(1), created(1), done(1)];
        assert_eq!(told(&twice), told(&twice[..2]));
    }

    #[test]
    fn a_completion_whose_beginning_was_not_seen_is_known_all_the_same() {
        let item = told(&[done(3)]);
        assert_eq!(
            (item.status, item.created_at, item.kind),
            (ItemStatus::Completed, at(90), None)
        );
    }

    #[test]
    fn what_ended_does_not_end_again() {
        let failed = Event::WorkItemFailed(WorkItemFailed {
            work_item_id: "w".into(),
            task_id: "t".into(),
            session_id: None,
            error: "e".into(),
            retryable: false,
            attempt: 1,
        });
        let gone = Event::WorkItemCancelled(WorkItemCancelled {
            work_item_id: "w".into(),
            task_id: "t".into(),
            session_id: None,
            reason: "r".into(),
        });
        let status = |events: &[Event]| told(events).status;
        assert_eq!(status(&[created(1), failed.clone(), gone.clone()]), ItemStatus::Failed);
        assert_eq!(status(&[created(1), gone.clone(), failed.clone()]), ItemStatus::Cancelled);
        assert_eq!(status(&[created(1), done(1), gone, failed.clone()]), ItemStatus::Completed);
        assert_eq!(status(&[created(1), failed, done(1)]), ItemStatus::Completed);
    }
}

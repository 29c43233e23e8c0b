//! What a workflow keeps, and what it can emit.
//!
//! Owns the rows of work items. It must not know when they change.

use std::collections::BTreeMap;

use headwater_schemas::commands::SessionRequest;
use headwater_schemas::envelope::{DomainEvent, EventTime};
use headwater_schemas::events::agent_performance_metric::AgentType;
use headwater_schemas::events::task::{ItemResult, TaskStatus};
use headwater_schemas::events::work_item::{WorkItem, WorkResult};
use headwater_schemas::events::{Payload, TaskAssigned};
use headwater_schemas::topics::Topic;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::platform_event::PlatformEvent;

/// Where a work item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ItemStatus {
    /// Not handed out yet.
    Pending,
    /// With a worker agent, or waiting for another try.
    Running,
    /// Done.
    Completed,
    /// Withdrawn.
    Cancelled,
}

/// A work item of a workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// What is to be done.
    pub item: WorkItem,
    /// Where it stands.
    pub status: ItemStatus,
    /// Which try it is, from 1; 0 before the first. It goes on counting over rework, so that no two
    /// tries share a name.
    pub attempt: i32,
    /// Tries in this round.
    pub tries: u32,
    /// The last try of earlier rounds: replies to it come too late.
    pub settled: i32,
    /// When waiting for this try ends.
    pub deadline: Option<EventTime>,
    /// When it is handed out again.
    pub retry_at: Option<EventTime>,
    /// What came out.
    pub result: Option<WorkResult>,
    /// How long it took, in milliseconds.
    pub execution_time: Option<i64>,
    /// When it was done.
    pub completed_at: Option<EventTime>,
    /// What gates said of it in this round: whether it passed.
    pub gates: BTreeMap<String, bool>,
}

/// What a workflow keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Workflow {
    /// The task as it was assigned.
    pub task: TaskAssigned,
    /// In which session; the task's own when nobody named one.
    pub session_id: String,
    /// Who asked.
    pub user_id: Option<String>,
    /// The event that assigned the task, for the session's log.
    assignment: Value,
    /// The request that the manager agent has to answer, until it fails: a failure that answers
    /// another one comes too late, or twice.
    pub asked: Option<Uuid>,
    /// Its parts, in the manager agent's order.
    pub work_items: Vec<Item>,
    /// How often results were sent back.
    pub rework_round: u32,
    /// How long it will take, in seconds, as the manager agent says.
    pub estimated_duration: Option<i32>,
    /// Where the task stands.
    pub status: TaskStatus,
}

/// Something a workflow tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// A new event of the task, to the topic of its type.
    Event {
        /// Its type.
        event_type: &'static str,
        /// Its aggregate: type and id.
        aggregate: (&'static str, String),
        /// Its payload.
        data: Map<String, Value>,
        /// Where to, if not to the topic of its type.
        topic: Option<&'static Topic>,
        /// Whether the session's log gets the same event too.
        copied: bool,
    },
    /// An event of somebody else, kept in the session's log under its own id.
    Fact(Box<DomainEvent>),
    /// A command to the session.
    Command(SessionRequest),
}

impl Output {
    /// An event about the task.
    pub(super) fn of_task<P: Payload>(task_id: &str, payload: &P) -> Self {
        let aggregate = ("Task", task_id.to_owned());
        Self::Event {
            event_type: P::EVENT_TYPE,
            aggregate,
            data: payload.to_event_data(),
            topic: None,
            copied: false,
        }
    }

    /// An event about a work item.
    pub(super) fn of_item<P: Payload>(item_id: &str, payload: &P) -> Self {
        let aggregate = ("WorkItem", item_id.to_owned());
        Self::Event {
            event_type: P::EVENT_TYPE,
            aggregate,
            data: payload.to_event_data(),
            topic: None,
            copied: false,
        }
    }

    /// The same event, to another topic.
    pub(super) fn to(mut self, other: &'static Topic) -> Self {
        if let Self::Event { topic, .. } = &mut self {
            *topic = Some(other);
        }
        self
    }

    /// The same event, to the session's log too.
    pub(super) fn copied(mut self) -> Self {
        if let Self::Event { copied, .. } = &mut self {
            *copied = true;
        }
        self
    }

    /// The command that gives the task to an agent.
    pub(super) fn assign(task_id: &str, agent_type: AgentType) -> Self {
        Self::Command(SessionRequest::AssignTaskToAgent { task_id: task_id.to_owned(), agent_type })
    }
}

impl Workflow {
    /// A workflow of a task that `event` assigned.
    pub(super) fn new(task: &TaskAssigned, event: &PlatformEvent) -> Self {
        let metadata = &event.event.metadata;
        let session_id = metadata.session_id.clone().or_else(|| task.session_id.clone());
        Self {
            task: task.clone(),
            session_id: session_id.unwrap_or_else(|| task.task_id.clone()),
            user_id: metadata.user_id.clone().or_else(|| task.user_id.clone()),
            assignment: serde_json::from_slice(&event.event.to_json()).unwrap_or(Value::Null),
            asked: Some(event.event.event_id),
            work_items: Vec::new(),
            rework_round: 0,
            estimated_duration: None,
            status: TaskStatus::Assigned,
        }
    }

    /// The event that assigned the task.
    pub(super) fn assignment(&self) -> Option<DomainEvent> {
        DomainEvent::parse(self.assignment.to_string().as_bytes()).ok()
    }

    /// The item of this id.
    pub(super) fn item(&mut self, id: &str) -> Option<&mut Item> {
        self.work_items.iter_mut().find(|item| item.item.id == id)
    }

    /// Whether every item is done.
    pub(super) fn is_done(&self) -> bool {
        self.work_items.iter().all(|item| item.status == ItemStatus::Completed)
    }

    /// What came out of all items.
    pub(super) fn results(&self) -> Vec<ItemResult> {
        let results = self.work_items.iter().filter_map(|item| {
            let result = item.result.clone()?;
            Some(ItemResult { work_item_id: item.item.id.clone(), result })
        });
        results.collect()
    }

    /// Gives items another round: those named, or all when none is. Their gates judge anew.
    pub(super) fn rework(&mut self, again: impl Fn(&Item) -> bool) {
        self.rework_round += 1;
        for item in self.work_items.iter_mut().filter(|item| again(item)) {
            item.status = ItemStatus::Pending;
            item.tries = 0;
            item.settled = item.attempt;
            item.result = None;
            item.gates.clear();
        }
    }
}

impl Item {
    /// An item nobody has yet.
    pub(super) fn new(item: WorkItem) -> Self {
        Self {
            item,
            status: ItemStatus::Pending,
            attempt: 0,
            tries: 0,
            settled: 0,
            deadline: None,
            retry_at: None,
            result: None,
            execution_time: None,
            completed_at: None,
            gates: BTreeMap::new(),
        }
    }
}

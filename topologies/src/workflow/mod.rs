//! The agent workflow: a saga from a user's task to its end, over two kinds of agents.
//!
//! Owns the workflow's steps and data. It must not know agents: replies come in, events and commands
//! go out, and [`crate::saga`] keeps the order. [`topology`] alone knows stores and topics.
//!
//! ```text
//! ASSIGNED          EXECUTING            REVIEWING            QUALITY_CHECK
//! analyse ------->  execute  --------->  review  ---------->  quality  -------> COMPLETED
//!   |   no items      |  ^   all done      |  | not good        | a required
//!   +-> COMPLETED     |  +-----------------+--+  (2 rounds)     | gate failed
//!                     +-----------------------------------------+
//! ```
//!
//! A step that fails for good leads to compensation: work items are cancelled, newest first, and
//! the task is told to have failed.

mod data;
pub mod route;
mod steps;
mod timing;
pub mod topology;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

pub use data::{Item, ItemStatus, Output, Workflow};
pub use timing::{Dispatch, WorkflowOptions};

use headwater_schemas::envelope::EventTime;
use headwater_schemas::events::Event;

use crate::platform_event::PlatformEvent;
use crate::saga::{Definition, Reaction, SagaRecord};

/// The saga's name in its records.
pub const SAGA_NAME: &str = "dual-agent-workflow";

/// The workflow of one task, as it is kept.
pub type WorkflowRecord = SagaRecord<Workflow>;

/// The workflow's definition.
pub type WorkflowSaga = Definition<Workflow, PlatformEvent, Output>;

/// The saga with these options.
pub fn saga(options: &WorkflowOptions) -> WorkflowSaga {
    Definition::new(SAGA_NAME, steps::all(options), options.saga, steps::ended)
}

/// The task that an event is about, when it is one that a workflow takes.
pub fn task_of(event: &PlatformEvent) -> Option<&str> {
    Some(match &event.payload {
        Event::TaskAssigned(payload) => &payload.task_id,
        Event::TaskAnalyzed(payload) => &payload.task_id,
        Event::TaskErrorOccurred(payload) => &payload.task_id,
        Event::WorkItemCompleted(payload) => &payload.task_id,
        Event::WorkItemFailed(payload) => &payload.task_id,
        Event::TaskReviewed(payload) => &payload.task_id,
        Event::QualityGateResult(payload) => &payload.task_id,
        _ => return None,
    })
}

/// Takes an event of a task whose record is `record`; the record after it and what follows. An
/// assignment begins a workflow when there is none and is a repeat when there is; any other event
/// without a record is a late one.
pub fn take(
    saga: &WorkflowSaga,
    record: Option<WorkflowRecord>,
    event: &PlatformEvent,
    now: EventTime,
) -> (Option<WorkflowRecord>, Reaction<Output>) {
    match (record, &event.payload) {
        (None, Event::TaskAssigned(assigned)) => {
            let correlation_id = event.event.metadata.correlation_id;
            let data = Workflow::new(assigned, event);
            let (record, reaction) =
                saga.start(&assigned.task_id, correlation_id, event.event.event_id, data, now);
            (Some(record), reaction)
        }
        (None, _) => (None, Reaction { emitted: Vec::new(), due: None }),
        // A repeat, or the workflow's own second request, which it reads back.
        (Some(record), Event::TaskAssigned(_)) => {
            let due = saga.due(&record);
            (Some(record), Reaction { emitted: Vec::new(), due })
        }
        (Some(mut record), _) => {
            let reaction = saga.reply(&mut record, event, now);
            (Some(record), reaction)
        }
    }
}

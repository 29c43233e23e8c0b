//! Which events of others end a session's task.
//!
//! Owns the step from an event to that fact. It must not know what a session makes of it.

use headwater_schemas::events::Event;
use headwater_schemas::events::task::TaskStatus;

use super::aggregate::TaskEnded;
use crate::platform_event::PlatformEvent;

/// The end of a task, when the event is one and not a session's own.
pub(super) fn end_of_task(event: &PlatformEvent) -> Option<TaskEnded> {
    let metadata = &event.event.metadata;
    let (task_id, status) = match &event.payload {
        _ if metadata.sequence.is_some() => return None,
        Event::TaskStatusUpdated(updated) if updated.status.is_final() => {
            (updated.task_id.as_ref().unwrap_or(&event.event.aggregate_id), updated.status)
        }
        Event::TaskCompleted(completed) => {
            let status = if completed.success { TaskStatus::Completed } else { TaskStatus::Failed };
            (&completed.task_id, status)
        }
        _ => return None,
    };
    let cause = Box::new(event.event.clone());
    Some(TaskEnded { task_id: task_id.clone(), status, cause })
}

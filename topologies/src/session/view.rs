//! The session read model: what queries see of a session.
//!
//! Owns the fold of `session.events` into a row. It must not know the commands behind the events,
//! nor stores.
//!
//! * A session's own events carry a sequence; one that is not above the row's version is a repeat.
//!   Facts of others carry none and may come before the session was started; they are kept until
//!   then.
//! * `totalTasks` counts distinct tasks; a second assignment replaces agent and time.
//! * A task whose work items are known is closed by its status (`COMPLETED`, `FAILED`,
//!   `CANCELLED`) or by `TaskCompleted`. One without known items is closed by its first completed
//!   work item. Each task is closed once, so `completedTasks <= totalTasks`.
//! * `estimatedCompletion` is the last completion plus, for each open task, the mean time that
//!   closed tasks took; absent while none is closed.

use std::collections::{BTreeMap, BTreeSet};

use headwater_schemas::envelope::EventTime;
use headwater_schemas::events::Event;
use headwater_schemas::events::agent_performance_metric::AgentType;
use headwater_schemas::events::session::Outcome;
use headwater_schemas::events::task::TaskStatus;
use serde::{Deserialize, Serialize};

use crate::platform_event::PlatformEvent;

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionStatus {
    /// It takes tasks.
    Active,
    /// It ended well.
    Completed,
    /// It ended badly.
    Failed,
}

/// Where a task of a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// Under way.
    Assigned,
    /// Ended well.
    Completed,
    /// Ended badly, or was withdrawn.
    Failed,
}

/// A session as queries answer it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionReadModel {
    /// The session.
    pub session_id: String,
    /// Whose it is.
    pub user_id: String,
    /// Where it stands.
    pub status: SessionStatus,
    /// When it began.
    pub start_time: EventTime,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_time: Option<EventTime>,
    /// Its tasks, closed ones included, in the order they came.
    pub active_tasks: Vec<TaskSummary>,
    /// How many tasks it has.
    pub total_tasks: u64,
    /// How many of them have ended.
    pub completed_tasks: u64,
    /// When the last open task will have ended, judged by the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_completion: Option<EventTime>,
}

/// A task of a session as queries answer it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskSummary {
    /// The task.
    pub task_id: String,
    /// Who has it.
    pub agent_type: AgentType,
    /// Where it stands.
    pub status: TaskState,
    /// When it was assigned, lastly.
    pub assigned_at: EventTime,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<EventTime>,
}

/// What is known of a task beside its summary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Facts {
    /// Work items that were created.
    created: BTreeSet<String>,
    /// Work items that were completed, which makes a second completion a repeat.
    completed: BTreeSet<String>,
    /// How it ended, and when.
    closed: Option<(TaskState, EventTime)>,
}

/// The row of a session's fold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionFold {
    /// What queries see, once the session was started.
    pub model: Option<SessionReadModel>,
    version: i64,
    tasks: BTreeMap<String, Facts>,
}

impl SessionFold {
    /// Takes an event of `session.events`; whether it changed anything.
    pub fn take(&mut self, event: &PlatformEvent) -> bool {
        let metadata = &event.event.metadata;
        if let Some(sequence) = metadata.sequence {
            if sequence <= self.version {
                return false;
            }
            self.version = sequence;
        }
        let before = self.clone();
        let time = metadata.timestamp;
        match &event.payload {
            Event::SessionStarted(started) if self.model.is_none() => {
                let session_id = metadata.session_id.as_ref().unwrap_or(&event.event.aggregate_id);
                self.model = Some(SessionReadModel {
                    session_id: session_id.clone(),
                    user_id: started.user_id.clone(),
                    status: SessionStatus::Active,
                    start_time: started.start_time,
                    end_time: None,
                    active_tasks: Vec::new(),
                    total_tasks: 0,
                    completed_tasks: 0,
                    estimated_completion: None,
                });
            }
            Event::TaskAssignedToAgent(assigned) => {
                self.assign(&assigned.task_id, assigned.agent_type, assigned.assigned_at);
            }
            Event::WorkItemCreated(created) => {
                self.facts(&created.task_id).created.insert(created.item.id.clone());
            }
            Event::WorkItemCompleted(done) => {
                let facts = self.facts(&done.task_id);
                let first = facts.completed.insert(done.work_item_id.clone());
                if first && facts.created.is_empty() {
                    self.close(&done.task_id, TaskState::Completed, done.completed_at);
                }
            }
            Event::TaskStatusUpdated(updated) if updated.status.is_final() => {
                let task_id = updated.task_id.as_ref().unwrap_or(&event.event.aggregate_id);
                let state = match updated.status {
                    TaskStatus::Completed => TaskState::Completed,
                    _ => TaskState::Failed,
                };
                self.close(&task_id.clone(), state, updated.timestamp.unwrap_or(time));
            }
            Event::TaskCompleted(completed) => {
                let state =
                    if completed.success { TaskState::Completed } else { TaskState::Failed };
                self.close(&completed.task_id, state, time);
            }
            Event::SessionCompleted(completed) => {
                if let Some(model) = &mut self.model {
                    model.end_time = Some(completed.end_time);
                    model.status = match completed.outcome {
                        Outcome::Completed => SessionStatus::Completed,
                        Outcome::Failed => SessionStatus::Failed,
                    };
                }
            }
            _ => {}
        }
        self.settle();
        *self != before
    }

    /// The tasks and work items that have not ended when an event says that their task ended badly.
    pub(super) fn left_behind<'f>(&'f self, event: &PlatformEvent) -> Vec<(&'f str, &'f str)> {
        let (task_id, is_bad) = match &event.payload {
            Event::TaskStatusUpdated(updated) => (
                updated.task_id.as_ref().unwrap_or(&event.event.aggregate_id),
                updated.status.is_final() && updated.status != TaskStatus::Completed,
            ),
            Event::TaskCompleted(completed) => (&completed.task_id, !completed.success),
            _ => return Vec::new(),
        };
        let Some((task_id, facts)) = self.tasks.get_key_value(task_id).filter(|_| is_bad) else {
            return Vec::new();
        };
        let open = facts.created.iter().filter(|item| !facts.completed.contains(*item));
        open.map(|item| (task_id.as_str(), item.as_str())).collect()
    }

    fn facts(&mut self, task_id: &str) -> &mut Facts {
        self.tasks.entry(task_id.to_owned()).or_default()
    }

    fn close(&mut self, task_id: &str, state: TaskState, at: EventTime) {
        let facts = self.facts(task_id);
        facts.closed = facts.closed.or(Some((state, at)));
    }

    fn assign(&mut self, task_id: &str, agent_type: AgentType, assigned_at: EventTime) {
        let Some(model) = &mut self.model else { return };
        match model.active_tasks.iter_mut().find(|task| task.task_id == task_id) {
            Some(task) => {
                task.agent_type = agent_type;
                task.assigned_at = assigned_at;
            }
            None => model.active_tasks.push(TaskSummary {
                task_id: task_id.to_owned(),
                agent_type,
                status: TaskState::Assigned,
                assigned_at,
                completed_at: None,
            }),
        }
    }

    /// Brings the read model up to the facts.
    fn settle(&mut self) {
        let Some(model) = &mut self.model else { return };
        for task in &mut model.active_tasks {
            let closed = self.tasks.get(&task.task_id).and_then(|facts| facts.closed);
            if let (Some((state, at)), TaskState::Assigned) = (closed, task.status) {
                task.status = state;
                task.completed_at = Some(at);
            }
        }
        model.total_tasks = count(&model.active_tasks, |_| true);
        model.completed_tasks = count(&model.active_tasks, |task| task.completed_at.is_some());
        model.estimated_completion = estimate(&model.active_tasks);
    }
}

fn count(tasks: &[TaskSummary], which: impl Fn(&TaskSummary) -> bool) -> u64 {
    u64::try_from(tasks.iter().filter(|task| which(task)).count()).unwrap_or(u64::MAX)
}

fn estimate(tasks: &[TaskSummary]) -> Option<EventTime> {
    let closed: Vec<(i64, i64)> = tasks
        .iter()
        .filter_map(|task| Some((task.assigned_at.as_millis(), task.completed_at?.as_millis())))
        .collect();
    let last = closed.iter().map(|&(_, at)| at).max()?;
    let number = i64::try_from(closed.len()).ok()?;
    let open = i64::try_from(tasks.len() - closed.len()).ok()?;
    // A completion before its assignment is another clock's; it took no time.
    let took = closed.iter().fold(0_i64, |sum, &(from, to)| sum.saturating_add((to - from).max(0)));
    let rest = (took / number).saturating_mul(open);
    EventTime::from_millis(last.saturating_add(rest)).or(Some(EventTime::MAX))
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;

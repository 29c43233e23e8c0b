//! The session aggregate: which commands a session accepts, and what they make of it.
//!
//! Owns the decision and the state behind it. It must not know topics, stores or replies' ways; it
//! takes values and gives values, and the same command on the same state gives the same events,
//! ids included.

use headwater_schemas::commands::{RejectionCode, Request, SessionCommand, SessionRequest};
use headwater_schemas::envelope::{DomainEvent, EventTime, Metadata, VERSION};
use headwater_schemas::events::agent_performance_metric::AgentType;
use headwater_schemas::events::session::Outcome;
use headwater_schemas::events::task::TaskStatus;
use headwater_schemas::events::{
    Event, Payload, SessionCompleted, SessionStarted, TaskAssignedToAgent,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::aggregate::{Aggregate, Rejection, Replies, reject};

/// The aggregate type of a session's own events.
pub const AGGREGATE_TYPE: &str = "Session";

/// A task in a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionTask {
    /// The task.
    pub task_id: String,
    /// Who has it now.
    pub agent_type: AgentType,
    /// `None` while it is under way.
    pub ended: Option<TaskStatus>,
    /// Whether a work item of it is done.
    pub completed: bool,
}

/// A session as its aggregate knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// The session.
    pub session_id: String,
    /// The sequence of its last event, from 1.
    pub version: i64,
    /// Whether it takes tasks.
    pub is_active: bool,
    /// Whose it is.
    pub user_id: String,
    /// When it began.
    pub start_time: EventTime,
    /// When it ended.
    pub end_time: Option<EventTime>,
    /// Of the request that began it; its events carry it.
    pub correlation_id: Uuid,
    /// Its tasks, in the order they came.
    pub active_tasks: Vec<SessionTask>,
}

/// What a session's row holds beside the session, which may not exist yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionRow {
    /// The session, once it was started.
    pub session: Option<Session>,
    /// Tasks that ended before they were assigned here.
    pub ended_early: Vec<(String, TaskStatus)>,
    /// The newest answers, oldest first.
    pub replies: Replies,
}

/// A task's end, which its workflow tells.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskEnded {
    /// The task.
    pub task_id: String,
    /// How it ended.
    pub status: TaskStatus,
    /// The event that tells.
    pub cause: Box<DomainEvent>,
}

impl Session {
    /// Changes the state as the event says. Every event raises the version by one; a type that
    /// means nothing to a session changes nothing else.
    fn apply(&mut self, payload: &Event) {
        self.version += 1;
        match payload {
            Event::TaskAssignedToAgent(assigned) => {
                let task = SessionTask {
                    task_id: assigned.task_id.clone(),
                    agent_type: assigned.agent_type,
                    ended: None,
                    completed: false,
                };
                match self.task(&assigned.task_id) {
                    Some(known) => known.agent_type = assigned.agent_type,
                    None => self.active_tasks.push(task),
                }
            }
            Event::WorkItemCompleted(done) => {
                if let Some(task) = self.task(&done.task_id) {
                    task.completed = true;
                }
            }
            Event::SessionCompleted(completed) => {
                self.is_active = false;
                self.end_time = Some(completed.end_time);
            }
            _ => {}
        }
    }

    fn task(&mut self, task_id: &str) -> Option<&mut SessionTask> {
        self.active_tasks.iter_mut().find(|task| task.task_id == task_id)
    }

    /// How the session ends by itself: when it has tasks and all of them have ended.
    fn outcome(&self) -> Option<Outcome> {
        let mut ends = self.active_tasks.iter().map(|task| task.ended);
        if self.active_tasks.is_empty() || !self.is_active || ends.any(|end| end.is_none()) {
            return None;
        }
        let failed = self.active_tasks.iter().any(|task| task.ended == Some(TaskStatus::Failed));
        Some(if failed { Outcome::Failed } else { Outcome::Completed })
    }
}

impl Aggregate for SessionRow {
    type Request = SessionRequest;
    type Fact = TaskEnded;
    type Snapshot = Session;
    const SOURCE: &'static str = super::AGGREGATE;

    fn version(&self) -> i64 {
        self.session.as_ref().map_or(0, |session| session.version)
    }

    fn snapshot(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    fn replies(&mut self) -> &mut Replies {
        &mut self.replies
    }

    fn notice(&mut self, ended: &TaskEnded) -> Option<DomainEvent> {
        self.task_ended(&ended.task_id, ended.status, &ended.cause)
    }

    fn decide(&self, command: &SessionCommand) -> Result<Option<Event>, Rejection> {
        use RejectionCode::{Conflict, InactiveSession, NotFound, UnknownCommand};
        let id = &command.aggregate_id;
        if let SessionRequest::Unknown { command_type } = &command.request {
            return reject(UnknownCommand, format!("no command is named {command_type:.40?}"));
        }
        if let Some(expected) = command.expected_version {
            let version = self.session.as_ref().map_or(0, |session| session.version);
            if expected != version {
                return reject(
                    Conflict,
                    format!("session {id} has version {version}, the command expects {expected}"),
                );
            }
        }
        let session = match (&command.request, &self.session) {
            (SessionRequest::StartSession { if_absent: true, .. }, Some(_)) => return Ok(None),
            (SessionRequest::StartSession { .. }, Some(_)) => {
                return reject(Conflict, format!("session {id} exists already"));
            }
            (SessionRequest::StartSession { user_id, task_description, .. }, None) => {
                return Ok(Some(Event::SessionStarted(SessionStarted {
                    user_id: user_id.clone(),
                    task_description: task_description.clone(),
                    start_time: command.timestamp,
                })));
            }
            (_, None) => return reject(NotFound, format!("session {id} was not found")),
            (_, Some(session)) => session,
        };
        if !session.is_active {
            return reject(
                InactiveSession,
                format!(
                    "session {id} has ended and cannot take {}",
                    command.request.command_type()
                ),
            );
        }
        Ok(Some(match &command.request {
            SessionRequest::AssignTaskToAgent { task_id, agent_type } => {
                Event::TaskAssignedToAgent(TaskAssignedToAgent {
                    task_id: task_id.clone(),
                    agent_type: *agent_type,
                    assigned_at: command.timestamp,
                })
            }
            SessionRequest::RecordWorkItemCompleted(done) => Event::WorkItemCompleted(done.clone()),
            SessionRequest::CompleteSession { reason } => {
                Event::SessionCompleted(SessionCompleted {
                    end_time: command.timestamp,
                    outcome: Outcome::Completed,
                    reason: reason.clone(),
                })
            }
            SessionRequest::StartSession { .. } | SessionRequest::Unknown { .. } => {
                unreachable!("decided above")
            }
        }))
    }

    fn happen(&mut self, command: &SessionCommand, payload: Event) -> DomainEvent {
        if let Event::SessionStarted(started) = &payload {
            self.session = Some(Session {
                session_id: command.aggregate_id.clone(),
                version: 0,
                is_active: true,
                user_id: started.user_id.clone(),
                start_time: started.start_time,
                end_time: None,
                correlation_id: command.correlation_id,
                active_tasks: Vec::new(),
            });
        }
        let event = self.append(payload, command.id, command.timestamp, command.user_id.clone());
        self.settle_early();
        event
    }
}

impl SessionRow {
    /// Takes a task's end, which its workflow tells. `Some` when it ends the session too.
    pub fn task_ended(
        &mut self,
        task_id: &str,
        status: TaskStatus,
        cause: &DomainEvent,
    ) -> Option<DomainEvent> {
        let task = self.session.as_mut().and_then(|session| session.task(task_id));
        match task {
            Some(task) if task.ended.is_none() => task.ended = Some(status),
            Some(_) => return None,
            None => {
                if !self.ended_early.iter().any(|(known, _)| known == task_id) {
                    self.ended_early.push((task_id.to_owned(), status));
                }
                return None;
            }
        }
        let outcome = self.session.as_ref()?.outcome()?;
        let time = cause.metadata.timestamp;
        let completed = Event::SessionCompleted(SessionCompleted {
            end_time: time,
            outcome,
            reason: Some("every task has ended".to_owned()),
        });
        Some(self.append(completed, cause.event_id, time, None))
    }

    /// A task that ended before it was assigned has ended all the same.
    fn settle_early(&mut self) {
        let Some(session) = &mut self.session else { return };
        self.ended_early.retain(|(task_id, status)| match session.task(task_id) {
            Some(task) => {
                task.ended = task.ended.or(Some(*status));
                false
            }
            None => true,
        });
    }

    fn append(
        &mut self,
        payload: Event,
        cause: Uuid,
        time: EventTime,
        user_id: Option<String>,
    ) -> DomainEvent {
        let session = self.session.as_mut().expect("only a session that exists has events");
        session.apply(&payload);
        let (event_type, event_data) = written(&payload);
        DomainEvent {
            event_id: Uuid::new_v5(
                &cause,
                format!("{}:{}", session.session_id, session.version).as_bytes(),
            ),
            event_type: event_type.to_owned(),
            aggregate_id: session.session_id.clone(),
            aggregate_type: AGGREGATE_TYPE.to_owned(),
            event_data,
            metadata: Metadata {
                timestamp: time,
                version: VERSION.to_owned(),
                correlation_id: session.correlation_id,
                causation_id: Some(cause),
                user_id: user_id.or_else(|| Some(session.user_id.clone())),
                session_id: Some(session.session_id.clone()),
                sequence: Some(session.version),
            },
        }
    }
}

fn written(payload: &Event) -> (&'static str, serde_json::Map<String, serde_json::Value>) {
    match payload {
        Event::SessionStarted(payload) => (SessionStarted::EVENT_TYPE, payload.to_event_data()),
        Event::TaskAssignedToAgent(payload) => {
            (TaskAssignedToAgent::EVENT_TYPE, payload.to_event_data())
        }
        Event::WorkItemCompleted(payload) => {
            (headwater_schemas::events::WorkItemCompleted::EVENT_TYPE, payload.to_event_data())
        }
        Event::SessionCompleted(payload) => (SessionCompleted::EVENT_TYPE, payload.to_event_data()),
        other => unreachable!("a session never emits {other:?}"),
    }
}

#[cfg(test)]
#[path = "aggregate_tests.rs"]
mod tests;

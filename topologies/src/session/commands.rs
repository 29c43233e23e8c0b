//! The writing side's processor: a command meets its session.
//!
//! Owns what a command's record is, and the rows a decision changes. It must not decide: that is
//! the aggregate's.

use headwater::processor::{NodeError, Processor, ProcessorContext};
use headwater::record::{Headers, Record};
use headwater::serde::{Serde, SerdeError, SharedSerde};
use headwater::store::{KeyValueStore, StoreHandle};
use headwater_schemas::commands::{Command, RejectionCode, Reply};
use headwater_schemas::envelope::DomainEvent;
use headwater_schemas::events::Event;
use headwater_schemas::events::task::TaskStatus;
use headwater_schemas::violation::EventError;
use serde_json::{Value, json};
use uuid::Uuid;

use super::aggregate::{Session, SessionRow};
use super::{AGGREGATE, SNAPSHOT_EVERY, log_key};
use crate::outgoing::event_headers;
use crate::platform_event::PlatformEvent;

/// What comes in: a command, one that cannot be read but can be answered, or a task's end.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Inbound {
    Command(Box<Command>),
    Invalid { command_id: Uuid, correlation_id: Uuid, message: String },
    TaskEnded { task_id: String, status: TaskStatus, cause: Box<DomainEvent> },
}

/// Commands as they lie in `session.commands`.
pub(super) fn inbound() -> SharedSerde<Inbound> {
    InboundSerde.shared()
}

struct InboundSerde;

impl Serde<Inbound> for InboundSerde {
    fn serialize(&self, value: &Inbound, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        match value {
            Inbound::Command(command) => {
                into.extend_from_slice(&command.to_json());
                Ok(())
            }
            Inbound::Invalid { .. } | Inbound::TaskEnded { .. } => {
                Err(SerdeError::other("only a command is written to session.commands"))
            }
        }
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<Inbound, SerdeError> {
        match Command::parse(bytes) {
            Ok(command) => Ok(Inbound::Command(Box::new(command))),
            Err(error @ EventError::Invalid(_)) => match Command::reply_address(bytes) {
                Some((command_id, correlation_id)) => {
                    let message = error.to_string();
                    Ok(Inbound::Invalid { command_id, correlation_id, message })
                }
                None => Err(SerdeError::other(error.to_string())),
            },
            Err(error) => Err(SerdeError::other(error.to_string())),
        }
    }
}

/// The end of a task, when the event is one and not a session's own.
pub(super) fn end_of_task(event: &PlatformEvent) -> Option<Inbound> {
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
    Some(Inbound::TaskEnded {
        task_id: task_id.clone(),
        status,
        cause: Box::new(event.event.clone()),
    })
}

/// What a decision tells the world.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Decided {
    Event(Box<PlatformEvent>),
    Answer { correlation_id: Uuid, reply: Reply },
}

impl Decided {
    /// The event, when it is one.
    pub(super) fn event(&self) -> Option<PlatformEvent> {
        match self {
            Self::Event(event) => Some((**event).clone()),
            Self::Answer { .. } => None,
        }
    }

    /// The answer under its correlation id, when it is one.
    pub(super) fn answer(&self) -> Option<(String, Value)> {
        let Self::Answer { correlation_id, reply } = self else { return None };
        let status = match reply {
            Reply::CommandAccepted { .. } => 200,
            Reply::CommandRejected { code, .. } => match code {
                RejectionCode::Validation | RejectionCode::UnknownCommand => 400,
                RejectionCode::NotFound => 404,
                RejectionCode::Conflict | RejectionCode::InactiveSession => 409,
            },
        };
        let answer = json!({"correlationId": correlation_id, "status": status, "body": reply});
        Some((correlation_id.to_string(), answer))
    }
}

/// A command meets its session.
pub(super) struct Decide {
    pub(super) rows: StoreHandle<KeyValueStore<String, SessionRow>>,
    pub(super) log: StoreHandle<KeyValueStore<String, PlatformEvent>>,
    pub(super) snapshots: StoreHandle<KeyValueStore<String, Session>>,
}

impl Processor<String, Inbound, String, Decided> for Decide {
    fn process(
        &mut self,
        record: Record<'_, String, Inbound>,
        ctx: &mut ProcessorContext<'_, '_, String, Decided>,
    ) -> Result<(), NodeError> {
        let (events, answer) = match record.value {
            Inbound::Command(command) if command.session_id != *record.key => {
                let message = format!(
                    "$.aggregateId must be the record's key {:.40?}, found {:.40?}",
                    record.key, command.session_id
                );
                (Vec::new(), Some((command.correlation_id, invalid(command.id, message))))
            }
            Inbound::Command(command) => {
                let mut row = ctx.store(self.rows).get(record.key)?.unwrap_or_default();
                let (events, reply) = row.execute(command);
                ctx.store(self.rows).put(record.key, &row)?;
                self.snapshot(&row, events.len(), ctx)?;
                (events, Some((command.correlation_id, reply)))
            }
            Inbound::Invalid { command_id, correlation_id, message } => {
                (Vec::new(), Some((*correlation_id, invalid(*command_id, message.clone()))))
            }
            Inbound::TaskEnded { task_id, status, cause } => {
                let mut row = ctx.store(self.rows).get(record.key)?.unwrap_or_default();
                let before = row.clone();
                let ended = row.task_ended(task_id, *status, cause);
                if row != before {
                    ctx.store(self.rows).put(record.key, &row)?;
                }
                let events = Vec::from_iter(ended);
                self.snapshot(&row, events.len(), ctx)?;
                (events, None)
            }
        };
        for event in events {
            let sequence = event.metadata.sequence.unwrap_or_default();
            let sent = event_headers(&event, AGGREGATE);
            let payload =
                Event::of(&event).map_err(|error| NodeError::message(error.to_string()))?;
            let told = PlatformEvent { event, payload };
            ctx.store(self.log).put(&log_key(record.key, sequence), &told)?;
            let told = Decided::Event(Box::new(told));
            ctx.forward(record.with_value(&told).with_headers(&sent))?;
        }
        match answer {
            Some((correlation_id, reply)) => {
                let answer = Decided::Answer { correlation_id, reply };
                ctx.forward(record.with_value(&answer).with_headers(&Headers::new()))
            }
            None => Ok(()),
        }
    }
}

impl Decide {
    /// Keeps the state whenever the version passes a multiple of [`SNAPSHOT_EVERY`].
    fn snapshot(
        &self,
        row: &SessionRow,
        added: usize,
        ctx: &mut ProcessorContext<'_, '_, String, Decided>,
    ) -> Result<(), NodeError> {
        let Some(session) = &row.session else { return Ok(()) };
        let before = session.version - i64::try_from(added).unwrap_or(0);
        if session.version / SNAPSHOT_EVERY > before / SNAPSHOT_EVERY {
            ctx.store(self.snapshots).put(&session.session_id, session)?;
        }
        Ok(())
    }
}

fn invalid(command_id: Uuid, message: String) -> Reply {
    Reply::CommandRejected { command_id, code: RejectionCode::Validation, message }
}

//! What an aggregate's processor reads and tells.
//!
//! Owns the step from a record's bytes to a command, and from a reply to an answer. It must not
//! decide: that is the aggregate's.

use std::marker::PhantomData;

use headwater::serde::{Serde, SerdeError, SharedSerde};
use headwater_schemas::commands::{Command, RejectionCode, Reply};
use headwater_schemas::violation::EventError;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Aggregate;
use crate::platform_event::PlatformEvent;

/// What comes in: a command, one that cannot be read but can be answered, or a fact.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Inbound<A: Aggregate> {
    Command(Box<Command<A::Request>>),
    Invalid { command_id: Uuid, correlation_id: Uuid, message: String },
    Fact(A::Fact),
}

/// Commands as they lie in their topic.
pub(super) fn inbound<A: Aggregate>() -> SharedSerde<Inbound<A>> {
    InboundSerde(PhantomData::<fn() -> A>).shared()
}

struct InboundSerde<A>(PhantomData<fn() -> A>);

impl<A: Aggregate> Serde<Inbound<A>> for InboundSerde<A> {
    fn serialize(&self, value: &Inbound<A>, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        match value {
            Inbound::Command(command) => {
                into.extend_from_slice(&command.to_json());
                Ok(())
            }
            Inbound::Invalid { .. } | Inbound::Fact(_) => {
                Err(SerdeError::other("only a command is written to a topic of commands"))
            }
        }
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<Inbound<A>, SerdeError> {
        match Command::parse(bytes) {
            Ok(command) => Ok(Inbound::Command(Box::new(command))),
            Err(error @ EventError::Invalid(_)) => {
                match Command::<A::Request>::reply_address(bytes) {
                    Some((command_id, correlation_id)) => {
                        let message = error.to_string();
                        Ok(Inbound::Invalid { command_id, correlation_id, message })
                    }
                    None => Err(SerdeError::other(error.to_string())),
                }
            }
            Err(error) => Err(SerdeError::other(error.to_string())),
        }
    }
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
                RejectionCode::Conflict
                | RejectionCode::InactiveSession
                | RejectionCode::InvalidState => 409,
            },
        };
        let answer = json!({"correlationId": correlation_id, "status": status, "body": reply});
        Some((correlation_id.to_string(), answer))
    }
}

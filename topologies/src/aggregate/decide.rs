//! The processor of an aggregate: a command meets its row.
//!
//! Owns the rows a decision changes and the order of what is told. It must not decide: that is the
//! aggregate's.

use headwater::processor::{NodeError, Processor, ProcessorContext};
use headwater::record::{Headers, Record};
use headwater::store::{KeyValueStore, StoreHandle};
use headwater_schemas::commands::{Command, RejectionCode, Reply};
use headwater_schemas::envelope::DomainEvent;
use headwater_schemas::events::Event;
use uuid::Uuid;

use super::command::{Decided, Inbound};
use super::{Aggregate, SNAPSHOT_EVERY, log_key};
use crate::outgoing::event_headers;
use crate::platform_event::PlatformEvent;

/// A command meets its row.
pub(super) struct Decide<A: Aggregate> {
    pub(super) rows: StoreHandle<KeyValueStore<String, A>>,
    pub(super) log: StoreHandle<KeyValueStore<String, PlatformEvent>>,
    pub(super) snapshots: Option<StoreHandle<KeyValueStore<String, A::Snapshot>>>,
}

type Context<'c, 't> = ProcessorContext<'c, 't, String, Decided>;

/// What happened, and the answer under its correlation id.
type Outcome = (Vec<DomainEvent>, Option<(Uuid, Reply)>);

impl<A: Aggregate> Processor<String, Inbound<A>, String, Decided> for Decide<A> {
    fn process(
        &mut self,
        record: Record<'_, String, Inbound<A>>,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), NodeError> {
        let (events, answer) = match record.value {
            Inbound::Command(command) => self.take(record.key, command, ctx)?,
            Inbound::Invalid { command_id, correlation_id, message } => {
                (Vec::new(), Some((*correlation_id, invalid(*command_id, message.clone()))))
            }
            Inbound::Fact(fact) => {
                let mut row = ctx.store(self.rows).get(record.key)?.unwrap_or_default();
                let before = row.clone();
                let events = Vec::from_iter(row.notice(fact));
                if row != before {
                    ctx.store(self.rows).put(record.key, &row)?;
                }
                self.snapshot(record.key, &row, before.version(), ctx)?;
                (events, None)
            }
        };
        for event in events {
            let sequence = event.metadata.sequence.unwrap_or_default();
            let sent = event_headers(&event, A::SOURCE);
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

impl<A: Aggregate> Decide<A> {
    fn take(
        &self,
        key: &String,
        command: &Command<A::Request>,
        ctx: &mut Context<'_, '_>,
    ) -> Result<Outcome, NodeError> {
        if command.aggregate_id != *key {
            let message = format!(
                "$.aggregateId must be the record's key {key:.40?}, found {:.40?}",
                command.aggregate_id
            );
            return Ok((vec![], Some((command.correlation_id, invalid(command.id, message)))));
        }
        let mut row = ctx.store(self.rows).get(key)?.unwrap_or_default();
        let before = row.version();
        let (events, reply) = row.execute(command);
        ctx.store(self.rows).put(key, &row)?;
        self.snapshot(key, &row, before, ctx)?;
        Ok((events, Some((command.correlation_id, reply))))
    }

    /// Keeps the state whenever the version passes a multiple of [`SNAPSHOT_EVERY`].
    fn snapshot(
        &self,
        key: &String,
        row: &A,
        before: i64,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), NodeError> {
        let passed = row.version() / SNAPSHOT_EVERY > before / SNAPSHOT_EVERY;
        match (self.snapshots, row.snapshot()) {
            (Some(store), Some(state)) if passed => ctx.store(store).put(key, state),
            _ => Ok(()),
        }
    }
}

fn invalid(command_id: Uuid, message: String) -> Reply {
    Reply::CommandRejected { command_id, code: RejectionCode::Validation, message }
}

//! The services as a topology: commands come in, replies go out.
//!
//! Owns the ledger's store and the form of a reply. It must not know what a service decides.
//!
//! ```text
//! inventory.commands -+
//! payment.commands ---+-> serve (store order-ledger) -> fulfillment.replies
//! shipping.commands --+
//! ```
//!
//! A command that cannot be read, that nobody knows or that lies under another order's key is a dead
//! letter with the reason: its sender waits, asks again and gives up.

use std::sync::Arc;

use headwater::dsl::{Consumed, StreamsBuilder};
use headwater::processor::{NodeError, Processor, ProcessorContext};
use headwater::record::Record;
use headwater::serde::{Serde, SerdeError, SharedSerde, serdes};
use headwater::store::{KeyValueStore, StoreHandle, Stored};
use headwater_schemas::commands::{Command, ServiceCommand, ServiceRequest};
use headwater_schemas::envelope::{DomainEvent, EventTime, Metadata, VERSION};
use headwater_schemas::topics::{
    FULFILLMENT_REPLIES, INVENTORY_COMMANDS, PAYMENT_COMMANDS, SHIPPING_COMMANDS,
};
use uuid::Uuid;

use super::Services;
use super::ledger::{Answer, Ledger};
use crate::conventions;
use crate::outgoing::{Outgoing, send};
use crate::platform_event::event_keys;

/// The application id.
pub const APPLICATION: &str = "order-services";

/// What the services have done, by order.
pub const STORE: &str = "order-ledger";

/// The aggregate type of what services tell.
pub const AGGREGATE_TYPE: &str = "Fulfillment";

/// Adds these services to `b`.
pub fn topology(b: &StreamsBuilder, services: &Arc<dyn Services>) {
    conventions::follow(
        b,
        &[&INVENTORY_COMMANDS, &PAYMENT_COMMANDS, &SHIPPING_COMMANDS, &FULFILLMENT_REPLIES],
    );
    let ledgers = b.add_store(Stored::key_value(STORE, serdes::string(), serdes::json()));
    let commands = |topic: &str| b.stream(topic, Consumed::with(event_keys(), service_commands()));
    let services = Arc::clone(services);
    let told = commands(&INVENTORY_COMMANDS.name)
        .merge(commands(&PAYMENT_COMMANDS.name))
        .merge(commands(&SHIPPING_COMMANDS.name))
        .process(move || Serve { ledgers, services: Arc::clone(&services) }, &[ledgers.id()])
        .named("serve");
    send(told, &[&FULFILLMENT_REPLIES]);
}

/// Commands to services as JSON.
fn service_commands() -> SharedSerde<ServiceCommand> {
    ServiceCommandSerde.shared()
}

struct ServiceCommandSerde;

impl Serde<ServiceCommand> for ServiceCommandSerde {
    fn serialize(&self, command: &ServiceCommand, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        into.extend_from_slice(&command.to_json());
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<ServiceCommand, SerdeError> {
        Command::parse(bytes).map_err(|error| SerdeError::other(error.to_string()))
    }
}

/// Commands meet the ledger of their order.
struct Serve {
    ledgers: StoreHandle<KeyValueStore<String, Ledger>>,
    services: Arc<dyn Services>,
}

impl Processor<String, ServiceCommand, String, Outgoing> for Serve {
    fn process(
        &mut self,
        record: Record<'_, String, ServiceCommand>,
        ctx: &mut ProcessorContext<'_, '_, String, Outgoing>,
    ) -> Result<(), NodeError> {
        let (key, command) = (record.key, record.value);
        if command.aggregate_id != *key {
            let found = &command.aggregate_id;
            let why = format!("the record's key must be its order {found:.40?}, found {key:.40?}");
            return Err(NodeError::message(why));
        }
        if let ServiceRequest::Unknown { command_type } = &command.request {
            let why = format!("no command to a service is named {command_type:.40?}");
            return Err(NodeError::message(why));
        }
        let mut ledger = ctx.store(self.ledgers).get(key)?.unwrap_or_default();
        let answer = ledger.follow(command, &*self.services);
        ctx.store(self.ledgers).put(key, &ledger)?;
        let Some(answer) = answer else { return Ok(()) };
        let now = ctx.wall_clock().max(0);
        let now = EventTime::from_millis(now).unwrap_or(EventTime::MAX);
        let event = told(key, answer, (command.id, command.correlation_id), now);
        let outgoing = Outgoing::event(&event, &FULFILLMENT_REPLIES, APPLICATION);
        ctx.forward(record.with_value(&outgoing).with_headers(&outgoing.headers))
    }
}

/// An answer as an event of this cause and correlation; its id follows from the cause, so that a
/// repeat has it too.
pub(crate) fn told(
    order_id: &str,
    answer: Answer,
    (cause, correlation_id): (Uuid, Uuid),
    now: EventTime,
) -> DomainEvent {
    DomainEvent {
        event_id: Uuid::new_v5(&cause, answer.event_type.as_bytes()),
        event_type: answer.event_type,
        aggregate_id: order_id.to_owned(),
        aggregate_type: AGGREGATE_TYPE.to_owned(),
        event_data: answer.data,
        metadata: Metadata {
            timestamp: now,
            version: VERSION.to_owned(),
            correlation_id,
            causation_id: Some(cause),
            user_id: None,
            session_id: None,
            sequence: None,
        },
    }
}

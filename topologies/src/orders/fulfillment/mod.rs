//! Fulfilment of orders: a saga over inventory, payment, shipping and the order itself.
//!
//! Owns the saga's steps and data. It must not know services: replies come in, commands go out, and
//! [`crate::saga`] keeps the order. [`topology`] alone knows stores and topics.
//!
//! ```text
//! STARTED             INVENTORY_RESERVED   PAYMENT_PROCESSED   SHIPPED
//! reserve-inventory -> process-payment ---> create-shipment --> confirm-order --> COMPLETED
//!      |                    |                    |                   |                |
//!      +--------------------+--------- fails ----+-------------------+   cancelled ---+
//!                                        v
//!        COMPENSATING: cancel the order, cancel the shipment, refund, release ---> FAILED
//! ```
//!
//! * Each step asks one service by a command whose id is the step's; a reply names it as its cause.
//! * A step that fails for good undoes those before it, newest first. One that gives up without an
//!   answer withdraws what it asked: the service may yet do it.
//! * A saga that fails cancels its order. An order that is cancelled by its customer fails its saga,
//!   even one that has completed.

mod data;
pub mod route;
mod steps;
pub mod topology;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

pub use data::{Fulfillment, Output};

use headwater_schemas::envelope::EventTime;
use headwater_schemas::events::Event;

use super::aggregate::AGGREGATE_TYPE;
use crate::platform_event::PlatformEvent;
use crate::saga::{Definition, Reaction, SagaRecord, Timing};

/// The saga's name in its records.
pub const SAGA_NAME: &str = "order-fulfillment";

/// The fulfilment of one order, as it is kept.
pub type FulfillmentRecord = SagaRecord<Fulfillment>;

/// The saga's definition.
pub type FulfillmentSaga = Definition<Fulfillment, PlatformEvent, Output>;

/// What can be chosen of the saga.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FulfillmentOptions {
    /// How long a service may take, in milliseconds.
    pub step_ms: i64,
    /// How often a service is asked.
    pub attempts: u32,
    /// Backoff, compensation and retention.
    pub saga: Timing,
}

impl Default for FulfillmentOptions {
    fn default() -> Self {
        Self { step_ms: 30_000, attempts: 3, saga: Timing::default() }
    }
}

/// The saga with these options.
pub fn saga(options: &FulfillmentOptions) -> FulfillmentSaga {
    Definition::new(SAGA_NAME, steps::all(options), options.saga, steps::ended)
}

/// The order that an event of an order's own stream is about, when the saga takes it.
pub fn order_of(event: &PlatformEvent) -> Option<&str> {
    let own =
        event.event.aggregate_type == AGGREGATE_TYPE && event.event.metadata.sequence.is_some();
    let taken = matches!(
        &event.payload,
        Event::OrderCreated(_) | Event::OrderConfirmed(_) | Event::OrderCancelled(_)
    );
    (own && taken).then_some(&event.event.aggregate_id)
}

/// The order that a service's reply is about, when the event is one.
pub fn replied_of(event: &PlatformEvent) -> Option<&str> {
    Some(match &event.payload {
        Event::InventoryReserved(reply) => &reply.order_id,
        Event::InventoryReservationFailed(reply) => &reply.order_id,
        Event::InventoryReleased(reply) => &reply.order_id,
        Event::PaymentCharged(reply) => &reply.order_id,
        Event::PaymentFailed(reply) => &reply.order_id,
        Event::PaymentRefunded(reply) => &reply.order_id,
        Event::ShipmentCreated(reply) => &reply.order_id,
        Event::ShipmentFailed(reply) => &reply.order_id,
        Event::ShipmentCancelled(reply) => &reply.order_id,
        Event::CompensationFailed(reply) => &reply.order_id,
        _ => return None,
    })
}

/// Takes an event of an order whose record is `record`; the record after it and what follows. A
/// creation begins a saga when there is none and is a repeat when there is; any other event without
/// a record is a late one.
pub fn take(
    saga: &FulfillmentSaga,
    record: Option<FulfillmentRecord>,
    event: &PlatformEvent,
    now: EventTime,
) -> (Option<FulfillmentRecord>, Reaction<Output>) {
    match (record, &event.payload) {
        (None, Event::OrderCreated(created)) => {
            let order_id = &event.event.aggregate_id;
            let data = Fulfillment::new(order_id, created, event.event.metadata.user_id.clone());
            let (correlation_id, cause) =
                (event.event.metadata.correlation_id, event.event.event_id);
            let (record, reaction) = saga.start(order_id, correlation_id, cause, data, now);
            (Some(record), reaction)
        }
        (None, _) => (None, Reaction { emitted: Vec::new(), due: None }),
        (Some(record), Event::OrderCreated(_)) => {
            let due = saga.due(&record);
            (Some(record), Reaction { emitted: Vec::new(), due })
        }
        (Some(mut record), Event::OrderCancelled(cancelled)) if record.is_completed() => {
            record.data.cancelled = true;
            let reaction = saga.revoke(&mut record, steps::cancelled(&cancelled.reason), now);
            (Some(record), reaction)
        }
        (Some(mut record), _) => {
            let reaction = saga.reply(&mut record, event, now);
            (Some(record), reaction)
        }
    }
}

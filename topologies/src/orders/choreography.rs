//! Fulfilment without a conductor: the services and the order react to each other's events.
//!
//! Owns who reacts to what. It must not know what a service decides. It is an alternative to
//! [`super::fulfillment`] with [`super::services::topology`]: one of the two runs.
//!
//! | who | reacts to | with |
//! |---|---|---|
//! | order | `OrderCreated` | `order.created` |
//! | inventory | `order.created` | `inventory.reserved`, `inventory.reservation-failed` |
//! | payment | `inventory.reserved` | `payment.charged`, `payment.failed` |
//! | shipping | `payment.charged` | `shipment.created`, `shipment.failed` |
//! | order | `shipment.created` | command `ConfirmOrder` |
//! | order | a failure of any of them | command `CancelOrder` |
//! | shipping | `OrderCancelled` | `shipment.cancelled`, `compensation.failed` |
//! | payment | the end of that | `payment.refunded`, `compensation.failed` |
//! | inventory | the end of that | `inventory.released`, `compensation.failed` |
//!
//! There is nobody to wait for an answer, so each service tries again by itself, at once. What was
//! undone before it was done will not be done. A repeated event changes nothing.

use std::sync::Arc;

use headwater::dsl::{Consumed, StreamsBuilder};
use headwater::processor::{NodeError, Processor, ProcessorContext};
use headwater::record::Record;
use headwater::serde::serdes;
use headwater::store::{KeyValueStore, StoreHandle, Stored};
use headwater_schemas::commands::{OrderCommand, OrderRequest, ServiceRequest};
use headwater_schemas::envelope::EventTime;
use headwater_schemas::events::order::total;
use headwater_schemas::events::{Event, OrderPlaced};
use headwater_schemas::topics::{ORDER_COMMANDS, ORDERS};
use uuid::Uuid;

use super::fulfillment::{order_of, replied_of};
use super::services::Services;
use super::services::ledger::{Answer, Hold, Ledger, Service, gave_up, stuck};
use super::services::topology::{STORE, told};
use crate::conventions;
use crate::outgoing::{Outgoing, send};
use crate::platform_event::{PlatformEvent, event_keys, platform_events};

/// The application id.
pub const APPLICATION: &str = "order-choreography";

/// Adds services that try so often, and the order's own reactions, to `b`.
pub fn topology(b: &StreamsBuilder, services: &Arc<dyn Services>, attempts: u32) {
    conventions::follow(b, &[&ORDERS, &ORDER_COMMANDS]);
    let ledgers = b.add_store(Stored::key_value(STORE, serdes::string(), serdes::json()));
    let services = Arc::clone(services);
    let told = b
        .stream(&ORDERS.name, Consumed::with(event_keys(), platform_events()))
        .process(
            move || React { ledgers, services: Arc::clone(&services), attempts },
            &[ledgers.id()],
        )
        .named("react");
    send(told, &[&ORDERS, &ORDER_COMMANDS]);
}

/// What follows from an event.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    Event(Answer),
    Command(OrderRequest),
}

/// Events meet the ledger of their order.
struct React {
    ledgers: StoreHandle<KeyValueStore<String, Ledger>>,
    services: Arc<dyn Services>,
    attempts: u32,
}

impl Processor<String, PlatformEvent, String, Outgoing> for React {
    fn process(
        &mut self,
        record: Record<'_, String, PlatformEvent>,
        ctx: &mut ProcessorContext<'_, '_, String, Outgoing>,
    ) -> Result<(), NodeError> {
        let (key, event) = (record.key, record.value);
        let placed = match &event.payload {
            Event::OrderPlaced(placed) => Some(placed.order_id.as_str()),
            _ => None,
        };
        let found = order_of(event).or_else(|| replied_of(event)).or(placed);
        let Some(order_id) = found else { return Ok(()) };
        if order_id != key {
            let why =
                format!("the record's key must be its order {order_id:.40?}, found {key:.40?}");
            return Err(NodeError::message(why));
        }
        let mut ledger = ctx.store(self.ledgers).get(key)?.unwrap_or_default();
        let before = ledger.clone();
        let follows = self.react(key, &mut ledger, &event.payload);
        if ledger != before {
            ctx.store(self.ledgers).put(key, &ledger)?;
        }
        let now = EventTime::from_millis(ctx.wall_clock().max(0)).unwrap_or(EventTime::MAX);
        if let Some(follows) = follows {
            let outgoing = outgoing(key, event, follows, now);
            ctx.forward(record.with_value(&outgoing).with_headers(&outgoing.headers))?;
        }
        Ok(())
    }
}

impl React {
    fn react(&self, order_id: &str, ledger: &mut Ledger, event: &Event) -> Option<Told> {
        match event {
            Event::OrderCreated(created) if ledger.placed.is_none() => {
                let placed = OrderPlaced {
                    order_id: order_id.to_owned(),
                    customer_id: Some(created.customer_id.clone()),
                    items: created.items.clone(),
                    total: total(&created.items),
                };
                let answer = Answer::of(&placed);
                ledger.placed = Some(placed);
                Some(Told::Event(answer))
            }
            Event::OrderPlaced(placed) => {
                let items = placed.items.clone();
                ledger.placed.get_or_insert_with(|| placed.clone());
                let request = ServiceRequest::ReserveInventory { items };
                self.make(order_id, ledger, Service::Inventory, &request)
            }
            Event::InventoryReserved(_) => {
                let placed = ledger.placed.clone()?;
                let request = ServiceRequest::ChargePayment {
                    customer_id: placed.customer_id.unwrap_or_default(),
                    amount: placed.total,
                };
                self.make(order_id, ledger, Service::Payment, &request)
            }
            Event::PaymentCharged(_) => {
                let items = ledger.placed.clone()?.items;
                let request = ServiceRequest::CreateShipment { items };
                self.make(order_id, ledger, Service::Shipping, &request)
            }
            Event::ShipmentCreated(_) => Some(Told::Command(OrderRequest::ConfirmOrder)),
            Event::InventoryReservationFailed(it) => Some(call_off(&it.reason)),
            Event::PaymentFailed(it) => Some(call_off(&it.reason)),
            Event::ShipmentFailed(it) => Some(call_off(&it.reason)),
            Event::OrderCancelled(_) => self.undo(order_id, ledger, Service::Shipping),
            Event::ShipmentCancelled(_) => self.undo(order_id, ledger, Service::Payment),
            Event::PaymentRefunded(_) => self.undo(order_id, ledger, Service::Inventory),
            Event::CompensationFailed(it) => match it.command.as_str() {
                "CancelShipment" => self.undo(order_id, ledger, Service::Payment),
                "RefundPayment" => self.undo(order_id, ledger, Service::Inventory),
                _ => None,
            },
            _ => None,
        }
    }

    /// A service does its part, unless it has begun before.
    fn make(
        &self,
        order_id: &str,
        ledger: &mut Ledger,
        service: Service,
        request: &ServiceRequest,
    ) -> Option<Told> {
        if ledger.part(service).hold != Hold::Nothing {
            return None;
        }
        for _ in 0..self.attempts {
            let answer = ledger.ask(order_id, request, &*self.services);
            if ledger.part(service).hold != Hold::Nothing {
                return answer.map(Told::Event);
            }
        }
        ledger.part(service).hold = Hold::Refused;
        Some(Told::Event(gave_up(order_id, request)))
    }

    /// A service undoes its part, unless it has tried before.
    fn undo(&self, order_id: &str, ledger: &mut Ledger, service: Service) -> Option<Told> {
        let part = *ledger.part(service);
        if part.hold == Hold::Undone || part.undo_tries > 0 {
            return None;
        }
        let request = match service {
            Service::Inventory => ServiceRequest::ReleaseInventory,
            Service::Payment => ServiceRequest::RefundPayment { payment_id: None },
            Service::Shipping => ServiceRequest::CancelShipment { shipment_id: None },
        };
        let answer = ledger.ask(order_id, &request, &*self.services);
        let silent = || stuck(order_id, &request, "there was no answer".to_owned());
        Some(Told::Event(answer.unwrap_or_else(silent)))
    }
}

fn call_off(reason: &str) -> Told {
    let reason = reason.chars().take(500).collect();
    Told::Command(OrderRequest::CancelOrder { reason })
}

/// An event of ours, or a command whose id follows from the event that led to it.
fn outgoing(order_id: &str, cause: &PlatformEvent, follows: Told, now: EventTime) -> Outgoing {
    let (cause_id, correlation_id) = (cause.event.event_id, cause.event.metadata.correlation_id);
    match follows {
        Told::Event(answer) => {
            let event = told(order_id, answer, (cause_id, correlation_id), now);
            Outgoing::event(&event, &ORDERS, APPLICATION)
        }
        Told::Command(request) => {
            let command = OrderCommand {
                id: Uuid::new_v5(&cause_id, b"command"),
                aggregate_id: order_id.to_owned(),
                request,
                expected_version: None,
                user_id: cause.event.metadata.user_id.clone(),
                correlation_id,
                timestamp: now,
            };
            Outgoing::command(&command, &ORDER_COMMANDS, APPLICATION)
        }
    }
}

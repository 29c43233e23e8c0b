//! The order aggregate: which commands an order accepts, and what they make of it.
//!
//! Owns the decision and the state behind it. It must not know topics, stores or services.
//!
//! ```text
//!   CreateOrder        ConfirmOrder          ShipOrder         DeliverOrder
//! ------------> pending ---------> confirmed ---------> shipped ----------> delivered
//!                  |                   |
//!                  +--- CancelOrder ---+--> cancelled
//! ```

use headwater_schemas::commands::{OrderCommand, OrderRequest, RejectionCode, Request};
use headwater_schemas::envelope::{DomainEvent, EventTime, Metadata, VERSION};
use headwater_schemas::events::order::{Money, OrderItem, total};
use headwater_schemas::events::{
    Event, OrderCancelled, OrderConfirmed, OrderDelivered, OrderShipped, Payload,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::aggregate::{Aggregate, Rejection, Replies, reject};

/// The aggregate type of an order's own events.
pub const AGGREGATE_TYPE: &str = "Order";

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderStatus {
    /// Wished for.
    Pending,
    /// Certain.
    Confirmed,
    /// It left.
    Shipped,
    /// It arrived.
    Delivered,
    /// Off.
    Cancelled,
}

impl OrderStatus {
    /// Every status by its word.
    pub const WORDS: &'static [&'static str] =
        &["pending", "confirmed", "shipped", "delivered", "cancelled"];

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Shipped => "shipped",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status after an event of an order's own stream; `None` for any other event.
    pub fn after(event: &Event) -> Option<Self> {
        Some(match event {
            Event::OrderCreated(_) => Self::Pending,
            Event::OrderConfirmed(_) => Self::Confirmed,
            Event::OrderShipped(_) => Self::Shipped,
            Event::OrderDelivered(_) => Self::Delivered,
            Event::OrderCancelled(_) => Self::Cancelled,
            _ => return None,
        })
    }
}

/// An order as its aggregate knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// The order.
    pub order_id: String,
    /// The sequence of its last event, from 1.
    pub version: i64,
    /// Where it stands.
    pub status: OrderStatus,
    /// Who ordered.
    pub customer_id: String,
    /// What.
    pub items: Vec<OrderItem>,
    /// What it costs.
    pub total: Money,
    /// When it was created.
    pub created_at: EventTime,
    /// When it last changed.
    pub updated_at: EventTime,
}

/// What an order's row holds beside the order, which may not exist yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderRow {
    /// The order, once it was created.
    pub order: Option<Order>,
    /// The newest answers, oldest first.
    pub replies: Replies,
}

impl OrderRow {
    /// Changes the state as the event says. Every event raises the version by one; one that means
    /// nothing to an order changes nothing else.
    pub fn apply(&mut self, order_id: &str, event: &Event, time: EventTime) {
        if let (None, Event::OrderCreated(created)) = (&self.order, event) {
            self.order = Some(Order {
                order_id: order_id.to_owned(),
                version: 0,
                status: OrderStatus::Pending,
                customer_id: created.customer_id.clone(),
                items: created.items.clone(),
                total: total(&created.items),
                created_at: time,
                updated_at: time,
            });
        }
        let Some(order) = &mut self.order else { return };
        order.version += 1;
        if let Some(status) = OrderStatus::after(event) {
            order.status = status;
            order.updated_at = time;
        }
    }
}

impl Aggregate for OrderRow {
    type Request = OrderRequest;
    type Fact = ();
    type Snapshot = Order;
    const SOURCE: &'static str = super::AGGREGATE;

    fn version(&self) -> i64 {
        self.order.as_ref().map_or(0, |order| order.version)
    }

    fn snapshot(&self) -> Option<&Order> {
        self.order.as_ref()
    }

    fn replies(&mut self) -> &mut Replies {
        &mut self.replies
    }

    fn decide(&self, command: &OrderCommand) -> Result<Option<Event>, Rejection> {
        use OrderStatus::{Cancelled, Confirmed, Delivered, Pending, Shipped};
        use RejectionCode::{Conflict, InvalidState, NotFound, UnknownCommand};
        let (id, request) = (&command.aggregate_id, &command.request);
        if let OrderRequest::Unknown { command_type } = request {
            return reject(UnknownCommand, format!("no command is named {command_type:.40?}"));
        }
        if let Some(expected) = command.expected_version.filter(|it| *it != self.version()) {
            let version = self.version();
            let why = format!("order {id} has version {version}, the command expects {expected}");
            return reject(Conflict, why);
        }
        let time = command.timestamp;
        let status = match (request, &self.order) {
            (OrderRequest::CreateOrder(_), Some(_)) => {
                return reject(Conflict, format!("order {id} exists already"));
            }
            (OrderRequest::CreateOrder(created), None) => {
                return Ok(Some(Event::OrderCreated(created.clone())));
            }
            (_, None) => return reject(NotFound, format!("order {id} was not found")),
            (_, Some(order)) => order.status,
        };
        let event = match (request, status) {
            (OrderRequest::ConfirmOrder, Pending) => {
                Event::OrderConfirmed(OrderConfirmed { confirmed_at: time })
            }
            (OrderRequest::CancelOrder { reason }, Pending | Confirmed) => {
                let reason = reason.clone();
                Event::OrderCancelled(OrderCancelled { reason, cancelled_at: time })
            }
            (OrderRequest::ShipOrder { shipment_id }, Confirmed) => {
                let shipment_id = shipment_id.clone();
                Event::OrderShipped(OrderShipped { shipment_id, shipped_at: time })
            }
            (OrderRequest::DeliverOrder, Shipped) => {
                Event::OrderDelivered(OrderDelivered { delivered_at: time })
            }
            (_, Pending | Confirmed | Shipped | Delivered | Cancelled) => {
                let (asked, status) = (request.command_type(), status.word());
                return reject(InvalidState, format!("order {id} is {status} and refuses {asked}"));
            }
        };
        Ok(Some(event))
    }

    fn happen(&mut self, command: &OrderCommand, event: Event) -> DomainEvent {
        let order_id = &command.aggregate_id;
        self.apply(order_id, &event, command.timestamp);
        let version = self.version();
        let (event_type, event_data) = written(&event);
        DomainEvent {
            event_id: Uuid::new_v5(&command.id, format!("{order_id}:{version}").as_bytes()),
            event_type: event_type.to_owned(),
            aggregate_id: order_id.clone(),
            aggregate_type: AGGREGATE_TYPE.to_owned(),
            event_data,
            metadata: Metadata {
                timestamp: command.timestamp,
                version: VERSION.to_owned(),
                correlation_id: command.correlation_id,
                causation_id: Some(command.id),
                user_id: command.user_id.clone(),
                session_id: None,
                sequence: Some(version),
            },
        }
    }
}

fn written(event: &Event) -> (&'static str, Map<String, Value>) {
    fn typed<P: Payload>(payload: &P) -> (&'static str, Map<String, Value>) {
        (P::EVENT_TYPE, payload.to_event_data())
    }
    match event {
        Event::OrderCreated(payload) => typed(payload),
        Event::OrderConfirmed(payload) => typed(payload),
        Event::OrderCancelled(payload) => typed(payload),
        Event::OrderShipped(payload) => typed(payload),
        Event::OrderDelivered(payload) => typed(payload),
        other => unreachable!("an order never emits {other:?}"),
    }
}

#[cfg(test)]
#[path = "aggregate_tests.rs"]
mod tests;

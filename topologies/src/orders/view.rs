//! The order read model: what queries see of an order.
//!
//! Owns the fold of `orders` into a row. It must not know the commands behind the events, nor
//! stores.
//!
//! * An order's own events carry a sequence: `OrderCreated` the first, every other a later one. The
//!   status is that of the highest sequence, so events that come twice or in another order lead to
//!   the same row.
//! * Names of customers and products are those that the tables had when the order was created;
//!   `null` where there was none, which an answer fills as soon as the row is there.

use std::collections::BTreeSet;

use headwater_schemas::envelope::EventTime;
use headwater_schemas::events::Event;
use headwater_schemas::events::order::{Money, OrderItem, total};
use serde::{Deserialize, Serialize};

use super::aggregate::{AGGREGATE_TYPE, OrderStatus};
use crate::platform_event::PlatformEvent;

/// One line of an order as queries answer it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderLine {
    /// What.
    pub product_id: String,
    /// Its name, where it is known.
    pub product_name: Option<String>,
    /// How many.
    pub quantity: i32,
    /// What one costs.
    pub price: Money,
}

/// An order as queries answer it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderReadModel {
    /// The order.
    pub id: String,
    /// Who ordered.
    pub customer_id: String,
    /// The customer's name, where it is known.
    pub customer_name: Option<String>,
    /// Where it stands.
    pub status: OrderStatus,
    /// What, in the customer's order.
    pub items: Vec<OrderLine>,
    /// What it costs.
    pub total: Money,
    /// When it was created.
    pub created_at: EventTime,
    /// When it last changed.
    pub updated_at: EventTime,
    /// The sequence of its newest event, which commands may expect.
    pub version: i64,
}

/// What an order's creation says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Created {
    /// Who ordered.
    pub customer_id: String,
    /// The customer's name, where it is known.
    pub customer_name: Option<String>,
    /// What.
    pub items: Vec<OrderItem>,
}

/// What an event says of an order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// The event's place in the order's stream.
    pub sequence: i64,
    /// When it happened.
    pub time: EventTime,
    /// Where the order stands since.
    pub status: OrderStatus,
    /// What its creation says, when it is that.
    pub created: Option<Created>,
}

impl Change {
    /// Reads an event of `orders`; `None` when it is not of an order's own stream.
    ///
    /// # Errors
    /// Why an event of that stream contradicts itself; send the record to the dead letters.
    pub fn read(key: &str, event: &PlatformEvent) -> Result<Option<Self>, String> {
        let Some(status) = OrderStatus::after(&event.payload) else { return Ok(None) };
        let (envelope, kind) = (&event.event, &event.event.event_type);
        if envelope.aggregate_id != key {
            let found = &envelope.aggregate_id;
            return Err(format!(
                "the record's key must be its order {found:.40?}, found {key:.40?}"
            ));
        }
        if envelope.aggregate_type != AGGREGATE_TYPE {
            let found = &envelope.aggregate_type;
            return Err(format!("{kind} must be of an {AGGREGATE_TYPE}, found {found:.40?}"));
        }
        let is_first = status == OrderStatus::Pending;
        let sequence = match envelope.metadata.sequence {
            Some(sequence) if (sequence == 1) == is_first => sequence,
            Some(found) if is_first => {
                return Err(format!("{kind} must have sequence 1, found {found}"));
            }
            Some(_) => return Err(format!("{kind} cannot be the first event of an order")),
            None => {
                return Err(format!("{kind} must have a sequence: $.metadata.sequence is missing"));
            }
        };
        let created = match &event.payload {
            Event::OrderCreated(created) => {
                if created.order_id.as_deref().is_some_and(|id| id != key) {
                    return Err("$.eventData.orderId must be the event's aggregate".to_owned());
                }
                Some(Created {
                    customer_id: created.customer_id.clone(),
                    customer_name: None,
                    items: created.items.clone(),
                })
            }
            _ => None,
        };
        Ok(Some(Self { sequence, time: envelope.metadata.timestamp, status, created }))
    }

    /// The products it names, each once.
    pub fn products(&self) -> BTreeSet<&str> {
        let items = self.created.iter().flat_map(|created| &created.items);
        items.map(|item| item.product_id.as_str()).collect()
    }
}

/// The row of an order's fold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderFold {
    /// What queries see, once the order's creation was read.
    pub model: Option<OrderReadModel>,
    version: i64,
    latest: Option<(OrderStatus, EventTime)>,
}

impl OrderFold {
    /// Takes a change; whether it changed anything.
    pub fn take(&mut self, order_id: &str, change: &Change) -> bool {
        let before = self.clone();
        if change.sequence > self.version {
            self.version = change.sequence;
            self.latest = Some((change.status, change.time));
        }
        if let (None, Some(created)) = (&self.model, &change.created) {
            self.model = Some(OrderReadModel {
                id: order_id.to_owned(),
                customer_id: created.customer_id.clone(),
                customer_name: created.customer_name.clone(),
                status: change.status,
                items: created.items.iter().map(OrderLine::of).collect(),
                total: total(&created.items),
                created_at: change.time,
                updated_at: change.time,
                version: change.sequence,
            });
        }
        if let (Some(model), Some((status, time))) = (&mut self.model, self.latest) {
            (model.status, model.updated_at, model.version) = (status, time, self.version);
        }
        *self != before
    }

    /// Names a product where it has no name yet; whether that changed anything.
    pub fn name(&mut self, product_id: &str, name: &str) -> bool {
        let lines = self.model.iter_mut().flat_map(|model| &mut model.items);
        let nameless =
            lines.filter(|line| line.product_id == product_id && line.product_name.is_none());
        let named = nameless.map(|line| line.product_name = Some(name.to_owned()));
        named.count() > 0
    }
}

impl OrderLine {
    fn of(item: &OrderItem) -> Self {
        let OrderItem { product_id, quantity, price } = item.clone();
        Self { product_id, product_name: None, quantity, price }
    }
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;

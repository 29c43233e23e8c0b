//! The bus events of the choreographed order flow, on topic `orders`.
//!
//! Owns their payloads; their type names are in lower case with dots. It must not know who reacts.

use serde::{Deserialize, Serialize};

use super::order::{Money, OrderItem, item_rules, total};
use super::{PAYLOAD, Payload};
use crate::violation::Violations;

/// `order.created`: the order service tells the others of an order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderPlaced {
    /// The order.
    pub order_id: String,
    /// Who ordered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<String>,
    /// What; at least one.
    pub items: Vec<OrderItem>,
    /// What it costs: the sum of the items.
    pub total: Money,
}

impl Payload for OrderPlaced {
    const EVENT_TYPE: &'static str = "order.created";

    fn rules(&self, violations: &mut Violations) {
        item_rules(&self.items, violations);
        let sum = total(&self.items);
        if violations.is_empty() && sum != self.total {
            violations.push(
                format!("{PAYLOAD}.total"),
                format!("must be the sum of the items, {sum}, found {}", self.total),
            );
        }
    }
}

/// `inventory.reserved`: the goods of an order are put aside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InventoryReserved {
    /// The order.
    pub order_id: String,
}

impl Payload for InventoryReserved {
    const EVENT_TYPE: &'static str = "inventory.reserved";
}

/// `inventory.reservation-failed`: they are not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InventoryReservationFailed {
    /// The order.
    pub order_id: String,
    /// Why.
    pub reason: String,
}

impl Payload for InventoryReservationFailed {
    const EVENT_TYPE: &'static str = "inventory.reservation-failed";
}

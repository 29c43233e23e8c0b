//! The bus events of the order flow: on topic `orders` when services react to each other, on
//! `fulfillment.replies` when a saga asks them.
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
    /// Whether another try may help.
    #[serde(default)]
    pub retryable: bool,
}

impl Payload for InventoryReservationFailed {
    const EVENT_TYPE: &'static str = "inventory.reservation-failed";
}

/// `inventory.released`: the goods of an order are put back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InventoryReleased {
    /// The order.
    pub order_id: String,
}

impl Payload for InventoryReleased {
    const EVENT_TYPE: &'static str = "inventory.released";
}

/// `payment.charged`: an order is paid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentCharged {
    /// The order.
    pub order_id: String,
    /// The payment, to refund it by.
    pub payment_id: String,
    /// How much.
    pub amount: Money,
}

impl Payload for PaymentCharged {
    const EVENT_TYPE: &'static str = "payment.charged";
}

/// `payment.failed`: an order is not paid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentFailed {
    /// The order.
    pub order_id: String,
    /// Why.
    pub reason: String,
    /// Whether another try may help.
    #[serde(default)]
    pub retryable: bool,
}

impl Payload for PaymentFailed {
    const EVENT_TYPE: &'static str = "payment.failed";
}

/// `payment.refunded`: the money of an order is given back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentRefunded {
    /// The order.
    pub order_id: String,
    /// The payment, when there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payment_id: Option<String>,
}

impl Payload for PaymentRefunded {
    const EVENT_TYPE: &'static str = "payment.refunded";
}

/// `shipment.created`: the goods of an order are packed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShipmentCreated {
    /// The order.
    pub order_id: String,
    /// The shipment, to cancel it by.
    pub shipment_id: String,
}

impl Payload for ShipmentCreated {
    const EVENT_TYPE: &'static str = "shipment.created";
}

/// `shipment.failed`: the goods of an order are not packed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShipmentFailed {
    /// The order.
    pub order_id: String,
    /// Why.
    pub reason: String,
    /// Whether another try may help.
    #[serde(default)]
    pub retryable: bool,
}

impl Payload for ShipmentFailed {
    const EVENT_TYPE: &'static str = "shipment.failed";
}

/// `shipment.cancelled`: the goods of an order are unpacked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShipmentCancelled {
    /// The order.
    pub order_id: String,
    /// The shipment, when there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shipment_id: Option<String>,
}

impl Payload for ShipmentCancelled {
    const EVENT_TYPE: &'static str = "shipment.cancelled";
}

/// `compensation.failed`: a service could not undo what it did for an order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CompensationFailed {
    /// The order.
    pub order_id: String,
    /// Which command it could not follow, such as `RefundPayment`.
    pub command: String,
    /// Why.
    pub reason: String,
}

impl Payload for CompensationFailed {
    const EVENT_TYPE: &'static str = "compensation.failed";
}

//! What the fulfilment of an order keeps, and what it can emit.
//!
//! Owns the fields. It must not know when they change.

use headwater_schemas::commands::{OrderRequest, ServiceRequest};
use headwater_schemas::events::OrderCreated;
use headwater_schemas::events::order::OrderItem;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What the fulfilment of an order keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fulfillment {
    /// The order.
    pub order_id: String,
    /// Who ordered.
    pub customer_id: String,
    /// Who asked.
    pub user_id: Option<String>,
    /// What.
    pub items: Vec<OrderItem>,
    /// The payment, once it is made.
    pub payment_id: Option<String>,
    /// The shipment, once it is there.
    pub shipment_id: Option<String>,
    /// The command that waits for an answer; a failure that answers another one comes too late, or
    /// twice.
    pub asked: Option<Uuid>,
    /// Whether the order is cancelled, or was asked to be.
    pub cancelled: bool,
}

/// What is emitted: commands.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// To a service.
    Service(ServiceRequest),
    /// To the order.
    Order(OrderRequest),
}

impl Fulfillment {
    /// The fulfilment of an order that was just created.
    pub(super) fn new(order_id: &str, created: &OrderCreated, user_id: Option<String>) -> Self {
        Self {
            order_id: order_id.to_owned(),
            customer_id: created.customer_id.clone(),
            user_id,
            items: created.items.clone(),
            payment_id: None,
            shipment_id: None,
            asked: None,
            cancelled: false,
        }
    }
}

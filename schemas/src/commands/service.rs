//! What can be asked of the services that fulfil orders: inventory, payment, shipping.
//!
//! Owns the requests, their payloads and their topics. It must not know when one is made.

use serde_json::{Map, Value, json};

use super::{Request, TEXT_BYTES_MAX, short_id};
use crate::events::order::{Money, OrderItem};
use crate::fields::Fields;
use crate::topics::{INVENTORY_COMMANDS, PAYMENT_COMMANDS, SHIPPING_COMMANDS, Topic};
use crate::violation::Violations;

/// What can be asked of a service for one order. Each that undoes something names what it undoes
/// when that is known; without it, whatever was asked for the order is withdrawn, also what has not
/// come yet.
#[derive(Clone, Debug, PartialEq)]
pub enum ServiceRequest {
    /// Put the goods aside.
    ReserveInventory {
        /// Which.
        items: Vec<OrderItem>,
    },
    /// Put them back.
    ReleaseInventory,
    /// Take the customer's money.
    ChargePayment {
        /// Whose.
        customer_id: String,
        /// How much.
        amount: Money,
    },
    /// Give it back.
    RefundPayment {
        /// Which payment.
        payment_id: Option<String>,
    },
    /// Pack the goods.
    CreateShipment {
        /// Which.
        items: Vec<OrderItem>,
    },
    /// Unpack them.
    CancelShipment {
        /// Which shipment.
        shipment_id: Option<String>,
    },
    /// A type this program does not know.
    Unknown {
        /// As it came.
        command_type: String,
    },
}

impl ServiceRequest {
    /// Where the service reads; `None` for a type nobody knows.
    pub fn topic(&self) -> Option<&'static Topic> {
        Some(match self {
            Self::ReserveInventory { .. } | Self::ReleaseInventory => &INVENTORY_COMMANDS,
            Self::ChargePayment { .. } | Self::RefundPayment { .. } => &PAYMENT_COMMANDS,
            Self::CreateShipment { .. } | Self::CancelShipment { .. } => &SHIPPING_COMMANDS,
            Self::Unknown { .. } => return None,
        })
    }
}

impl Request for ServiceRequest {
    fn command_type(&self) -> &str {
        match self {
            Self::ReserveInventory { .. } => "ReserveInventory",
            Self::ReleaseInventory => "ReleaseInventory",
            Self::ChargePayment { .. } => "ChargePayment",
            Self::RefundPayment { .. } => "RefundPayment",
            Self::CreateShipment { .. } => "CreateShipment",
            Self::CancelShipment { .. } => "CancelShipment",
            Self::Unknown { command_type } => command_type,
        }
    }

    fn read(
        command_type: &str,
        payload: &Map<String, Value>,
        _: Option<&str>,
        violations: &mut Violations,
    ) -> Option<Self> {
        let mut fields = Fields::new(payload, "$.payload", violations);
        Some(match command_type {
            "ReserveInventory" => Self::ReserveInventory { items: items(&mut fields)? },
            "ReleaseInventory" => Self::ReleaseInventory,
            "ChargePayment" => {
                let customer_id = short_id(&mut fields, "customerId");
                let amount = amount(&mut fields);
                Self::ChargePayment { customer_id: customer_id?, amount: amount? }
            }
            "RefundPayment" => {
                let payment_id = fields.optional_text("paymentId", TEXT_BYTES_MAX);
                Self::RefundPayment { payment_id: payment_id.map(str::to_owned) }
            }
            "CreateShipment" => Self::CreateShipment { items: items(&mut fields)? },
            "CancelShipment" => {
                let shipment_id = fields.optional_text("shipmentId", TEXT_BYTES_MAX);
                Self::CancelShipment { shipment_id: shipment_id.map(str::to_owned) }
            }
            other => Self::Unknown { command_type: other.to_owned() },
        })
    }

    fn to_payload(&self) -> Value {
        match self {
            Self::ReserveInventory { items } | Self::CreateShipment { items } => {
                json!({"items": items})
            }
            Self::ChargePayment { customer_id, amount } => {
                json!({"customerId": customer_id, "amount": amount})
            }
            Self::RefundPayment { payment_id } => json!({"paymentId": payment_id}),
            Self::CancelShipment { shipment_id } => json!({"shipmentId": shipment_id}),
            Self::ReleaseInventory | Self::Unknown { .. } => json!({}),
        }
    }
}

fn items(fields: &mut Fields<'_, '_>) -> Option<Vec<OrderItem>> {
    let Some(found) = fields.get("items") else {
        return fields.refuse("items", "is missing".to_owned());
    };
    match serde_json::from_value::<Vec<OrderItem>>(found.clone()) {
        Ok(items) if !items.is_empty() => Some(items),
        Ok(_) => fields.refuse("items", "must hold at least one item".to_owned()),
        Err(error) => fields.refuse("items", error.to_string()),
    }
}

fn amount(fields: &mut Fields<'_, '_>) -> Option<Money> {
    let number = fields.number("amount")?;
    match Money::from_number(number) {
        Some(amount) if amount >= Money::default() => Some(amount),
        _ => fields.refuse("amount", format!("must be an amount from 0, found {number}")),
    }
}

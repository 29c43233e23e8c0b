//! What can be asked of an order.
//!
//! Owns the requests and their payloads. It must not know which of them an order accepts.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::{Request, TEXT_BYTES_MAX, short_id};
use crate::events::{OrderCreated, Payload, newest};
use crate::fields::Fields;
use crate::violation::Violations;

/// The newest version of an order's payload.
const NEWEST_VERSION: i32 = 2;

/// What can be asked of an order.
#[derive(Clone, Debug, PartialEq)]
pub enum OrderRequest {
    /// Create it. The only request that may create an order.
    CreateOrder(OrderCreated),
    /// Make it certain.
    ConfirmOrder,
    /// Call it off.
    CancelOrder {
        /// Why.
        reason: String,
    },
    /// Note that it left.
    ShipOrder {
        /// In which shipment.
        shipment_id: Option<String>,
    },
    /// Note that it arrived.
    DeliverOrder,
    /// A type this program does not know; its answer is a refusal that names it.
    Unknown {
        /// As it came.
        command_type: String,
    },
}

impl Request for OrderRequest {
    fn command_type(&self) -> &str {
        match self {
            Self::CreateOrder(_) => "CreateOrder",
            Self::ConfirmOrder => "ConfirmOrder",
            Self::CancelOrder { .. } => "CancelOrder",
            Self::ShipOrder { .. } => "ShipOrder",
            Self::DeliverOrder => "DeliverOrder",
            Self::Unknown { command_type } => command_type,
        }
    }

    fn read(
        command_type: &str,
        payload: &Map<String, Value>,
        aggregate_id: Option<&str>,
        violations: &mut Violations,
    ) -> Option<Self> {
        let mut fields = Fields::new(payload, "$.payload", violations);
        match command_type {
            "CreateOrder" => {
                if fields.get("customerId").is_some_and(Value::is_string) {
                    short_id(&mut fields, "customerId")?;
                }
                let payload = newest(OrderCreated::EVENT_TYPE, Cow::Borrowed(payload));
                let created = OrderCreated::read_at("$.payload", &payload, violations)?;
                if created.schema_version != NEWEST_VERSION {
                    let found = created.schema_version;
                    let why = format!("must be from 1 to {NEWEST_VERSION}, found {found}");
                    violations.push("$.payload.schemaVersion".to_owned(), why);
                    return None;
                }
                if created.order_id.as_deref().is_some_and(|id| Some(id) != aggregate_id) {
                    let why = "must be the command's aggregate, or be left out".to_owned();
                    violations.push("$.payload.orderId".to_owned(), why);
                    return None;
                }
                Some(Self::CreateOrder(created))
            }
            "ConfirmOrder" => Some(Self::ConfirmOrder),
            "CancelOrder" => {
                let reason = fields.text("reason", TEXT_BYTES_MAX)?.to_owned();
                Some(Self::CancelOrder { reason })
            }
            "ShipOrder" => {
                let given = fields.get("shipmentId").is_some();
                let shipment_id =
                    if given { Some(short_id(&mut fields, "shipmentId")?) } else { None };
                Some(Self::ShipOrder { shipment_id })
            }
            "DeliverOrder" => Some(Self::DeliverOrder),
            other => Some(Self::Unknown { command_type: other.to_owned() }),
        }
    }

    fn to_payload(&self) -> Value {
        match self {
            Self::CreateOrder(created) => Value::Object(created.to_event_data()),
            Self::CancelOrder { reason } => json!({"reason": reason}),
            Self::ShipOrder { shipment_id } => json!({"shipmentId": shipment_id}),
            Self::ConfirmOrder | Self::DeliverOrder | Self::Unknown { .. } => json!({}),
        }
    }
}

//! `POST /orders` and `POST /orders/{id}/commands`: what can be asked of orders; and
//! `GET /orders/{id}/commands/{command}`: what came of it.
//!
//! Owns the bodies and the answers. It must not know HTTP, the log, nor whether an order accepts.

use headwater::query::{
    NewRecord, Parameter, Parameters, Problem, QueryError, Route, StoreQueries, Taken,
};
use headwater_schemas::commands::{OrderCommand, OrderRequest, Request};
use headwater_schemas::topics::ORDER_COMMANDS;
use headwater_schemas::violation::EventError;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::AGGREGATE_STORE;
use super::aggregate::OrderRow;
use crate::outgoing::Outgoing;

/// The service that commands over HTTP name as their source.
const SOURCE: &str = "order-intake";

/// Takes orders. The answer names the order: ask `GET /orders/{id}` for it.
#[derive(Debug)]
pub struct PlaceRoute;

/// A customer's wish.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wish {
    /// A new one when absent; with it, a repeated wish is one order.
    order_id: Option<String>,
    correlation_id: Option<Uuid>,
    user_id: Option<String>,
    customer_id: Value,
    items: Value,
    #[serde(default)]
    shipping_address: Value,
    #[serde(default)]
    billing_address: Value,
}

impl Route for PlaceRoute {
    fn path(&self) -> &str {
        "/orders"
    }

    fn about(&self) -> &str {
        "places an order; the answer names it"
    }

    fn parameters(&self) -> &[Parameter] {
        &[]
    }

    fn takes(&self) -> bool {
        true
    }

    fn take(&self, body: &[u8], _: &Parameters, now_ms: i64) -> Result<Taken, QueryError> {
        let wish: Wish = read(body)?;
        let mut payload = json!({"customerId": wish.customer_id, "items": wish.items});
        for (name, address) in
            [("shippingAddress", wish.shipping_address), ("billingAddress", wish.billing_address)]
        {
            if !address.is_null() {
                payload[name] = address;
            }
        }
        let order_id = wish.order_id.unwrap_or_else(|| Uuid::new_v4().to_string());
        let draft = Draft {
            id: None,
            command_type: "CreateOrder".to_owned(),
            payload: payload.as_object().cloned().unwrap_or_default(),
            expected_version: None,
            user_id: wish.user_id,
            correlation_id: wish.correlation_id,
        };
        draft.take(&order_id, "the order's creation is under way", now_ms)
    }
}

/// Takes commands to an order.
#[derive(Debug)]
pub struct CommandRoute;

impl Route for CommandRoute {
    fn path(&self) -> &str {
        "/orders/{id}/commands"
    }

    fn about(&self) -> &str {
        "asks something of an order: ConfirmOrder, CancelOrder, ShipOrder, DeliverOrder"
    }

    fn parameters(&self) -> &[Parameter] {
        &[]
    }

    fn takes(&self) -> bool {
        true
    }

    fn take(&self, body: &[u8], asked: &Parameters, now_ms: i64) -> Result<Taken, QueryError> {
        let draft: Draft = read(body)?;
        draft.take(asked.required_text("id")?, "the command is under way", now_ms)
    }
}

/// What came of a command.
#[derive(Debug)]
pub struct ReplyRoute;

impl Route for ReplyRoute {
    fn path(&self) -> &str {
        "/orders/{id}/commands/{command}"
    }

    fn about(&self) -> &str {
        "what came of a command to an order, while the order remembers it"
    }

    fn parameters(&self) -> &[Parameter] {
        &[]
    }

    fn answer(&self, asked: &Parameters, stores: &StoreQueries<'_>) -> Result<Value, QueryError> {
        let store = stores.store(AGGREGATE_STORE)?;
        let command = asked.required_text("command")?;
        let (row, as_of) = store.get(&store.key(asked.required_text("id")?)?)?;
        let row: OrderRow =
            serde_json::from_slice(&row.value).map_err(|error| QueryError::failed(&error))?;
        let id = command.parse().unwrap_or(Uuid::nil());
        match row.replies.of(id) {
            Some(reply) => Ok(json!({"reply": reply, "asOf": as_of})),
            None => Err(QueryError::not_found(format!(
                "the order remembers no command `{command:.64}`; it may not have come yet"
            ))),
        }
    }
}

/// A command as a client hands it over.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Draft {
    id: Option<Uuid>,
    #[serde(rename = "type")]
    command_type: String,
    #[serde(default)]
    payload: Map<String, Value>,
    expected_version: Option<i64>,
    user_id: Option<String>,
    correlation_id: Option<Uuid>,
}

impl Draft {
    fn take(self, order_id: &str, message: &str, now_ms: i64) -> Result<Taken, QueryError> {
        let id = self.id.unwrap_or_else(Uuid::new_v4);
        let correlation_id = self.correlation_id.unwrap_or_else(Uuid::new_v4);
        // As the aggregate will read it, so that what cannot be read is refused here.
        let document = json!({
            "id": id, "type": self.command_type, "aggregateId": order_id, "payload": self.payload,
            "expectedVersion": self.expected_version,
            "metadata": {"userId": self.user_id, "correlationId": correlation_id,
                         "timestamp": now_ms.max(0)},
        });
        let command = OrderCommand::parse(document.to_string().as_bytes()).map_err(refused)?;
        if let OrderRequest::Unknown { command_type } = &command.request {
            let why = format!("no command to an order is named {command_type:.40?}");
            return Err(QueryError::new(Problem::InvalidBody, why));
        }
        let sent = Outgoing::command(&command, &ORDER_COMMANDS, SOURCE);
        let record = NewRecord {
            topic: sent.topic.to_owned(),
            key: order_id.as_bytes().to_vec(),
            value: sent.value,
            timestamp: command.timestamp.as_millis(),
            headers: sent.headers,
        };
        let answer = json!({
            "message": message, "orderId": order_id, "commandId": id,
            "correlationId": correlation_id, "type": command.request.command_type(),
        });
        Ok(Taken { records: vec![record], answer })
    }
}

fn read<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, QueryError> {
    serde_json::from_slice(body)
        .map_err(|error| QueryError::new(Problem::InvalidBody, format!("the body: {error}")))
}

fn refused(error: EventError) -> QueryError {
    let problem = match error {
        EventError::TooLarge { .. } => Problem::BodyTooLarge,
        _ => Problem::InvalidBody,
    };
    QueryError::new(problem, error.to_string())
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;

//! `GET /orders/{id}/fulfillment`: how far the fulfilment of an order is.
//!
//! Owns the shape of the answer. It must not know HTTP.

use headwater::query::{Parameter, Parameters, QueryError, Route, StoreQueries};
use serde_json::{Value, json};

use super::FulfillmentRecord;
use super::steps::{PAY, RESERVE, SHIP};
use super::topology::STORE;
use crate::saga::SagaState;

/// The fulfilment of one order.
#[derive(Debug)]
pub struct FulfillmentRoute;

impl Route for FulfillmentRoute {
    fn path(&self) -> &str {
        "/orders/{id}/fulfillment"
    }

    fn about(&self) -> &str {
        "how far the fulfilment of an order is"
    }

    fn parameters(&self) -> &[Parameter] {
        &[]
    }

    fn answer(&self, asked: &Parameters, stores: &StoreQueries<'_>) -> Result<Value, QueryError> {
        let store = stores.store(STORE)?;
        let (row, as_of) = store.get(&store.key(asked.required_text("id")?)?)?;
        let saga: FulfillmentRecord =
            serde_json::from_slice(&row.value).map_err(|error| QueryError::failed(&error))?;
        Ok(json!({"saga": shown(&saga), "asOf": as_of}))
    }
}

/// The state under the name that people know it by.
pub(super) fn state_of(saga: &FulfillmentRecord) -> &'static str {
    match (saga.state, saga.current_step.as_str()) {
        (SagaState::Running, RESERVE) => "STARTED",
        (SagaState::Running, PAY) => "INVENTORY_RESERVED",
        (SagaState::Running, SHIP) => "PAYMENT_PROCESSED",
        (SagaState::Running, _) => "SHIPPED",
        (SagaState::Compensating, _) => "COMPENSATING",
        (SagaState::Completed, _) => "COMPLETED",
        (SagaState::Failed, _) => "FAILED",
    }
}

fn shown(saga: &FulfillmentRecord) -> Value {
    let data = &saga.data;
    json!({
        "sagaId": saga.saga_id, "sagaName": saga.saga_name, "state": state_of(saga),
        "correlationId": saga.correlation_id, "currentStep": saga.current_step,
        "completedSteps": saga.completed_steps, "attempt": saga.attempt,
        "deadline": saga.deadline, "retryAt": saga.retry_at, "error": saga.error,
        "compensationErrors": saga.compensation_errors, "ignored": saga.ignored,
        "paymentId": data.payment_id, "shipmentId": data.shipment_id,
        "startedAt": saga.started_at, "updatedAt": saga.updated_at,
    })
}

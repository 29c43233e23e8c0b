//! What the services have done for one order.
//!
//! Owns their idempotency: nothing is done twice, nothing that was withdrawn is done later, and a
//! repeated command is answered again. It must not know topics, nor why something is asked.

use std::collections::VecDeque;

use headwater_schemas::commands::{Request, ServiceCommand, ServiceRequest};
use headwater_schemas::events::{
    CompensationFailed, InventoryReleased, InventoryReservationFailed, InventoryReserved,
    OrderPlaced, Payload, PaymentCharged, PaymentFailed, PaymentRefunded, ShipmentCancelled,
    ShipmentCreated, ShipmentFailed,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Say, Services};

/// Answers that are remembered.
const ANSWERS_MAX: usize = 64;

/// Where one service stands with an order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hold {
    /// It has done nothing.
    #[default]
    Nothing,
    /// It has done what was asked.
    Held,
    /// It cannot.
    Refused,
    /// It has undone it, or will not do it any more.
    Undone,
}

/// What one service has done for an order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// Where it stands.
    pub hold: Hold,
    /// Tries to do it.
    pub tries: u32,
    /// Tries to undo it.
    pub undo_tries: u32,
}

/// An event that a service tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Its type.
    pub event_type: String,
    /// Its payload.
    pub data: Map<String, Value>,
}

impl Answer {
    /// An event of this payload.
    pub fn of<P: Payload>(payload: &P) -> Self {
        Self { event_type: P::EVENT_TYPE.to_owned(), data: payload.to_event_data() }
    }
}

/// Which service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Goods are put aside.
    Inventory,
    /// Money is taken.
    Payment,
    /// Goods are packed.
    Shipping,
}

/// What the services have done for one order; each knows its own part only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ledger {
    /// Goods put aside.
    pub inventory: Part,
    /// Money taken.
    pub payment: Part,
    /// Goods packed.
    pub shipment: Part,
    /// The order as it was announced, where services follow events.
    pub placed: Option<OrderPlaced>,
    /// The newest answers by command, oldest first; a service may have said nothing.
    answers: VecDeque<(Uuid, Option<Answer>)>,
}

impl Ledger {
    /// One service's part.
    pub fn part(&mut self, service: Service) -> &mut Part {
        match service {
            Service::Inventory => &mut self.inventory,
            Service::Payment => &mut self.payment,
            Service::Shipping => &mut self.shipment,
        }
    }

    /// Follows a command; a repeated one is answered as before.
    pub fn follow(&mut self, command: &ServiceCommand, services: &dyn Services) -> Option<Answer> {
        if let Some((_, answer)) = self.answers.iter().find(|(id, _)| *id == command.id) {
            return answer.clone();
        }
        let answer = self.ask(&command.aggregate_id, &command.request, services);
        self.answers.push_back((command.id, answer.clone()));
        while self.answers.len() > ANSWERS_MAX {
            self.answers.pop_front();
        }
        answer
    }

    /// Does, or undoes, one thing; `None` when the service says nothing.
    pub fn ask(
        &mut self,
        order_id: &str,
        request: &ServiceRequest,
        services: &dyn Services,
    ) -> Option<Answer> {
        let (service, undoes) = service_of(request)?;
        let part = self.part(service);
        if undoes {
            return undo(part, order_id, request, services);
        }
        let said = match part.hold {
            Hold::Held => Say::Yes,
            Hold::Undone => Say::No("it was withdrawn".to_owned()),
            Hold::Refused => Say::No("it was refused before".to_owned()),
            Hold::Nothing => {
                part.tries += 1;
                services.ask(order_id, request, part.tries)
            }
        };
        match said {
            Say::Yes => {
                part.hold = Hold::Held;
                Some(done(order_id, request))
            }
            Say::No(reason) => {
                if part.hold == Hold::Nothing {
                    part.hold = Hold::Refused;
                }
                Some(failed(order_id, request, reason, false))
            }
            Say::NotNow(reason) => Some(failed(order_id, request, reason, true)),
            Say::Silence => None,
        }
    }
}

/// Who is asked, and whether to undo.
fn service_of(request: &ServiceRequest) -> Option<(Service, bool)> {
    Some(match request {
        ServiceRequest::ReserveInventory { .. } => (Service::Inventory, false),
        ServiceRequest::ReleaseInventory => (Service::Inventory, true),
        ServiceRequest::ChargePayment { .. } => (Service::Payment, false),
        ServiceRequest::RefundPayment { .. } => (Service::Payment, true),
        ServiceRequest::CreateShipment { .. } => (Service::Shipping, false),
        ServiceRequest::CancelShipment { .. } => (Service::Shipping, true),
        ServiceRequest::Unknown { .. } => return None,
    })
}

fn undo(
    part: &mut Part,
    order_id: &str,
    request: &ServiceRequest,
    services: &dyn Services,
) -> Option<Answer> {
    let was_held = part.hold == Hold::Held;
    if was_held {
        part.undo_tries += 1;
        match services.ask(order_id, request, part.undo_tries) {
            Say::Yes => {}
            Say::No(reason) | Say::NotNow(reason) => {
                return Some(stuck(order_id, request, reason));
            }
            Say::Silence => return None,
        }
    }
    part.hold = Hold::Undone;
    Some(undone(order_id, request, was_held))
}

/// The payment of an order.
fn payment_id(order_id: &str) -> String {
    format!("payment-{}", Uuid::new_v5(&Uuid::NAMESPACE_OID, order_id.as_bytes()))
}

/// The shipment of an order.
fn shipment_id(order_id: &str) -> String {
    format!("shipment-{}", Uuid::new_v5(&Uuid::NAMESPACE_OID, order_id.as_bytes()))
}

fn done(order_id: &str, request: &ServiceRequest) -> Answer {
    let order = order_id.to_owned();
    match request {
        ServiceRequest::ChargePayment { amount, .. } => Answer::of(&PaymentCharged {
            order_id: order,
            payment_id: payment_id(order_id),
            amount: *amount,
        }),
        ServiceRequest::CreateShipment { .. } => {
            Answer::of(&ShipmentCreated { order_id: order, shipment_id: shipment_id(order_id) })
        }
        _ => Answer::of(&InventoryReserved { order_id: order }),
    }
}

fn failed(order_id: &str, request: &ServiceRequest, reason: String, retryable: bool) -> Answer {
    let order_id = order_id.to_owned();
    match request {
        ServiceRequest::ChargePayment { .. } => {
            Answer::of(&PaymentFailed { order_id, reason, retryable })
        }
        ServiceRequest::CreateShipment { .. } => {
            Answer::of(&ShipmentFailed { order_id, reason, retryable })
        }
        _ => Answer::of(&InventoryReservationFailed { order_id, reason, retryable }),
    }
}

fn undone(order_id: &str, request: &ServiceRequest, was_held: bool) -> Answer {
    let order = order_id.to_owned();
    match request {
        ServiceRequest::RefundPayment { .. } => {
            let payment_id = was_held.then(|| payment_id(order_id));
            Answer::of(&PaymentRefunded { order_id: order, payment_id })
        }
        ServiceRequest::CancelShipment { .. } => {
            let shipment_id = was_held.then(|| shipment_id(order_id));
            Answer::of(&ShipmentCancelled { order_id: order, shipment_id })
        }
        _ => Answer::of(&InventoryReleased { order_id: order }),
    }
}

/// The answer that something cannot be undone.
pub fn stuck(order_id: &str, request: &ServiceRequest, reason: String) -> Answer {
    let command = request.command_type().to_owned();
    Answer::of(&CompensationFailed { order_id: order_id.to_owned(), command, reason })
}

/// The answer of a service that never gave one.
pub fn gave_up(order_id: &str, request: &ServiceRequest) -> Answer {
    failed(order_id, request, "there was no answer".to_owned(), false)
}

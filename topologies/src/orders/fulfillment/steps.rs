//! The four steps of a fulfilment, and what follows its end.
//!
//! Owns which reply means what. It must not know topics.

use headwater_schemas::commands::{OrderRequest, ServiceRequest};
use headwater_schemas::events::Event;
use headwater_schemas::events::order::total;

use super::FulfillmentOptions;
use super::data::{Fulfillment, Output};
use crate::platform_event::PlatformEvent;
use crate::saga::{Effects, SagaRecord, SagaState, Step, Verdict};

/// The names of the steps, in order.
pub(super) const RESERVE: &str = "reserve-inventory";
pub(super) const PAY: &str = "process-payment";
pub(super) const SHIP: &str = "create-shipment";
pub(super) const CONFIRM: &str = "confirm-order";

/// Why an order is cancelled when its saga fails.
const COMPENSATION: &str = "Saga compensation";

/// Longest cause that a cancelled order is told, in characters.
const CAUSE_CHARS_MAX: usize = 500;

type Fx<'a, 'e> = &'a mut Effects<'e, Output>;
type FulfillmentStep = Box<dyn Step<Fulfillment, PlatformEvent, Output>>;

pub(super) fn all(options: &FulfillmentOptions) -> Vec<FulfillmentStep> {
    let (timeout_ms, attempts) = (options.step_ms, options.attempts);
    let service = |name, ask, undo| -> FulfillmentStep {
        Box::new(Service { name, ask, undo, timeout_ms, attempts })
    };
    vec![
        service(
            RESERVE,
            |data| ServiceRequest::ReserveInventory { items: data.items.clone() },
            |_| Some(ServiceRequest::ReleaseInventory),
        ),
        service(
            PAY,
            |data| ServiceRequest::ChargePayment {
                customer_id: data.customer_id.clone(),
                amount: total(&data.items),
            },
            |data| {
                let payment_id = Some(data.payment_id.clone()?);
                Some(ServiceRequest::RefundPayment { payment_id })
            },
        ),
        service(
            SHIP,
            |data| ServiceRequest::CreateShipment { items: data.items.clone() },
            |data| {
                let shipment_id = Some(data.shipment_id.clone()?);
                Some(ServiceRequest::CancelShipment { shipment_id })
            },
        ),
        Box::new(Confirm { timeout_ms, attempts }),
    ]
}

/// Why a saga fails whose order is cancelled.
pub(super) fn cancelled(reason: &str) -> String {
    format!("the order was cancelled: {}", cut(reason))
}

fn cut(text: &str) -> String {
    text.chars().take(CAUSE_CHARS_MAX).collect()
}

/// What follows the end: the order of a saga that failed is cancelled.
pub(super) fn ended(record: &SagaRecord<Fulfillment>) -> Vec<Output> {
    if record.state != SagaState::Failed || record.data.cancelled {
        return Vec::new();
    }
    let cause = cut(record.error.as_deref().unwrap_or_default());
    let reason = format!("{COMPENSATION}: {cause}");
    vec![Output::Order(OrderRequest::CancelOrder { reason })]
}

/// What an event says of a step.
enum Said<'e> {
    Done(&'static str),
    Failed(&'static str, &'e str, bool),
    Undone(&'static str),
    NotUndone(&'static str, &'e str),
    Cancelled(&'e str),
    Nothing,
}

impl<'e> Said<'e> {
    fn of(event: &'e Event) -> Self {
        match event {
            Event::InventoryReserved(_) => Self::Done(RESERVE),
            Event::InventoryReservationFailed(it) => {
                Self::Failed(RESERVE, &it.reason, it.retryable)
            }
            Event::InventoryReleased(_) => Self::Undone(RESERVE),
            Event::PaymentCharged(_) => Self::Done(PAY),
            Event::PaymentFailed(it) => Self::Failed(PAY, &it.reason, it.retryable),
            Event::PaymentRefunded(_) => Self::Undone(PAY),
            Event::ShipmentCreated(_) => Self::Done(SHIP),
            Event::ShipmentFailed(it) => Self::Failed(SHIP, &it.reason, it.retryable),
            Event::ShipmentCancelled(_) => Self::Undone(SHIP),
            Event::CompensationFailed(it) => match it.command.as_str() {
                "ReleaseInventory" => Self::NotUndone(RESERVE, &it.reason),
                "RefundPayment" => Self::NotUndone(PAY, &it.reason),
                "CancelShipment" => Self::NotUndone(SHIP, &it.reason),
                _ => Self::Nothing,
            },
            Event::OrderConfirmed(_) => Self::Done(CONFIRM),
            Event::OrderCancelled(it) => Self::Cancelled(&it.reason),
            _ => Self::Nothing,
        }
    }
}

/// The customer called the order off while a step was under way.
fn called_off(data: &mut Fulfillment, reason: &str) -> Verdict {
    data.cancelled = true;
    Verdict::Fail(cancelled(reason))
}

/// A service is asked, and asked again when it fails or hangs.
struct Service {
    name: &'static str,
    ask: fn(&Fulfillment) -> ServiceRequest,
    /// `None` when there is nothing to undo.
    undo: fn(&Fulfillment) -> Option<ServiceRequest>,
    timeout_ms: i64,
    attempts: u32,
}

impl Service {
    /// Whether an event answers what was asked.
    fn answers(input: &PlatformEvent, data: &Fulfillment) -> bool {
        data.asked.is_some() && input.event.metadata.causation_id == data.asked
    }

    /// What withdraws a request that nobody answered.
    fn withdrawal(&self) -> ServiceRequest {
        match self.name {
            RESERVE => ServiceRequest::ReleaseInventory,
            PAY => ServiceRequest::RefundPayment { payment_id: None },
            _ => ServiceRequest::CancelShipment { shipment_id: None },
        }
    }
}

impl Step<Fulfillment, PlatformEvent, Output> for Service {
    fn name(&self) -> &'static str {
        self.name
    }

    fn timeout_ms(&self) -> Option<i64> {
        Some(self.timeout_ms)
    }

    fn attempts(&self) -> u32 {
        self.attempts
    }

    fn enter(&self, data: &mut Fulfillment, fx: Fx<'_, '_>) -> Verdict {
        data.asked = Some(fx.emit(Output::Service((self.ask)(data))));
        Verdict::Wait
    }

    fn reply(&self, data: &mut Fulfillment, input: &PlatformEvent, _: Fx<'_, '_>) -> Verdict {
        match Said::of(&input.payload) {
            // Whichever attempt it answers: it is done.
            Said::Done(step) if step == self.name => {
                match &input.payload {
                    Event::PaymentCharged(it) => data.payment_id = Some(it.payment_id.clone()),
                    Event::ShipmentCreated(it) => data.shipment_id = Some(it.shipment_id.clone()),
                    _ => {}
                }
                data.asked = None;
                Verdict::Done
            }
            Said::Failed(step, reason, retryable)
                if step == self.name && Self::answers(input, data) =>
            {
                data.asked = None;
                let error = format!("{step}: {}", cut(reason));
                if retryable { Verdict::Retry(error) } else { Verdict::Fail(error) }
            }
            Said::Cancelled(reason) => called_off(data, reason),
            _ => Verdict::Ignored,
        }
    }

    fn abandon(&self, data: &mut Fulfillment, fx: Fx<'_, '_>) {
        if data.asked.take().is_some() {
            fx.emit(Output::Service(self.withdrawal()));
        }
    }

    fn compensate(&self, data: &mut Fulfillment, fx: Fx<'_, '_>) -> Verdict {
        let Some(request) = (self.undo)(data) else { return Verdict::Done };
        data.asked = Some(fx.emit(Output::Service(request)));
        Verdict::Wait
    }

    fn compensated(&self, data: &mut Fulfillment, input: &PlatformEvent) -> Verdict {
        match Said::of(&input.payload) {
            Said::Undone(step) if step == self.name => Verdict::Done,
            Said::NotUndone(step, reason) if step == self.name && Self::answers(input, data) => {
                Verdict::Fail(format!("undoing {step}: {}", cut(reason)))
            }
            Said::Cancelled(_) => {
                data.cancelled = true;
                Verdict::Wait
            }
            _ => Verdict::Ignored,
        }
    }
}

/// The order is made certain.
struct Confirm {
    timeout_ms: i64,
    attempts: u32,
}

impl Step<Fulfillment, PlatformEvent, Output> for Confirm {
    fn name(&self) -> &'static str {
        CONFIRM
    }

    fn timeout_ms(&self) -> Option<i64> {
        Some(self.timeout_ms)
    }

    fn attempts(&self) -> u32 {
        self.attempts
    }

    fn enter(&self, _: &mut Fulfillment, fx: Fx<'_, '_>) -> Verdict {
        fx.emit(Output::Order(OrderRequest::ConfirmOrder));
        Verdict::Wait
    }

    fn reply(&self, data: &mut Fulfillment, input: &PlatformEvent, _: Fx<'_, '_>) -> Verdict {
        match Said::of(&input.payload) {
            Said::Done(CONFIRM) => Verdict::Done,
            Said::Cancelled(reason) => called_off(data, reason),
            _ => Verdict::Ignored,
        }
    }

    fn compensate(&self, data: &mut Fulfillment, fx: Fx<'_, '_>) -> Verdict {
        if data.cancelled {
            return Verdict::Done;
        }
        data.cancelled = true;
        fx.emit(Output::Order(OrderRequest::CancelOrder { reason: COMPENSATION.to_owned() }));
        Verdict::Wait
    }

    fn compensated(&self, _: &mut Fulfillment, input: &PlatformEvent) -> Verdict {
        match Said::of(&input.payload) {
            Said::Cancelled(_) => Verdict::Done,
            _ => Verdict::Ignored,
        }
    }
}

//! The saga's state table, row by row.

use headwater_schemas::commands::{OrderRequest, Request, ServiceRequest};
use headwater_schemas::envelope::DomainEvent;
use serde_json::{Value, json};
use uuid::Uuid;

use super::route::state_of;
use super::*;
use crate::saga::{SagaState, emission_id};

/// An event of order `o`; an order's own when it has a sequence.
pub(super) fn event(kind: &str, data: &Value, cause: Option<Uuid>, own: bool) -> PlatformEvent {
    let (aggregate_type, sequence) =
        if own { ("Order", json!(1)) } else { ("Fulfillment", json!(null)) };
    let name = format!("{kind}{data}{cause:?}");
    let document = json!({
        "eventId": Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()), "eventType": kind,
        "aggregateId": "o", "aggregateType": aggregate_type, "eventData": data,
        "metadata": {"timestamp": 1, "version": "1.0", "correlationId": Uuid::from_u128(7),
                     "causationId": cause, "sequence": sequence, "userId": "u"},
    });
    let event = DomainEvent::parse(document.to_string().as_bytes()).expect("an event");
    let payload = Event::of(&event).expect("a payload");
    PlatformEvent { event, payload }
}

fn at(ms: i64) -> EventTime {
    EventTime::from_millis(ms).expect("in range")
}

/// One saga, told what happens.
struct Bench {
    saga: FulfillmentSaga,
    record: Option<FulfillmentRecord>,
    now: i64,
}

impl Bench {
    fn new() -> Self {
        Self { saga: saga(&FulfillmentOptions::default()), record: None, now: 0 }
    }

    /// A saga whose order was created, and that heard these replies.
    fn after(replies: &[&str]) -> Self {
        let mut bench = Bench::new();
        bench.create();
        for reply in replies {
            bench.hear(reply);
        }
        bench
    }

    fn take(&mut self, event: &PlatformEvent) -> Vec<String> {
        let (record, reaction) = take(&self.saga, self.record.take(), event, at(self.now));
        self.record = record;
        self.shown(&reaction)
    }

    /// What was emitted, in words.
    fn shown(&self, reaction: &Reaction<Output>) -> Vec<String> {
        let shown = reaction.emitted.iter().map(|emission| match &emission.output {
            Output::Service(ServiceRequest::ChargePayment { customer_id, amount }) => {
                format!("ChargePayment {customer_id} {amount}")
            }
            Output::Service(ServiceRequest::RefundPayment { payment_id }) => {
                format!("RefundPayment {}", payment_id.as_deref().unwrap_or("whatever"))
            }
            Output::Service(ServiceRequest::CancelShipment { shipment_id }) => {
                format!("CancelShipment {}", shipment_id.as_deref().unwrap_or("whatever"))
            }
            Output::Service(request) => request.command_type().to_owned(),
            Output::Order(OrderRequest::CancelOrder { reason }) => format!("CancelOrder {reason}"),
            Output::Order(request) => request.command_type().to_owned(),
        });
        shown.collect()
    }

    fn create(&mut self) -> Vec<String> {
        let items = json!([{"productId": "p", "quantity": 2, "price": 5.25}]);
        self.take(&event("OrderCreated", &json!({"customerId": "c", "items": items}), None, true))
    }

    /// A reply to what was asked last.
    fn hear(&mut self, kind: &str) -> Vec<String> {
        let cause = self.saga().data.asked;
        self.hear_of(kind, cause)
    }

    fn hear_of(&mut self, kind: &str, cause: Option<Uuid>) -> Vec<String> {
        let (kind, data, own) = match kind {
            "charged" => {
                ("payment.charged", json!({"orderId": "o", "paymentId": "pay", "amount": 1}), false)
            }
            "shipped" => ("shipment.created", json!({"orderId": "o", "shipmentId": "box"}), false),
            "reserved" => ("inventory.reserved", json!({"orderId": "o"}), false),
            "released" => ("inventory.released", json!({"orderId": "o"}), false),
            "refunded" => ("payment.refunded", json!({"orderId": "o"}), false),
            "unpacked" => ("shipment.cancelled", json!({"orderId": "o"}), false),
            "confirmed" => ("OrderConfirmed", json!({"confirmedAt": 1}), true),
            "cancelled" => ("OrderCancelled", json!({"reason": "mind", "cancelledAt": 1}), true),
            other => {
                let (kind, retryable) = match other.strip_suffix(" for now") {
                    Some(kind) => (kind, true),
                    None => (other, false),
                };
                let data = json!({"orderId": "o", "reason": "no", "retryable": retryable});
                return self.take(&event(kind, &data, cause, false));
            }
        };
        self.take(&event(kind, &data, cause, own))
    }

    fn wait(&mut self, ms: i64) -> Vec<String> {
        self.now += ms;
        let record = self.record.take().expect("a saga");
        let (record, reaction) = self.saga.tick(record, at(self.now));
        self.record = record;
        self.shown(&reaction)
    }

    fn saga(&self) -> &FulfillmentRecord {
        self.record.as_ref().expect("a saga")
    }

    fn state(&self) -> &'static str {
        state_of(self.saga())
    }
}

const NONE: [String; 0] = [];

#[test]
fn a_created_order_starts_a_saga_that_reserves_its_goods() {
    let mut bench = Bench::new();
    assert_eq!(bench.create(), ["ReserveInventory"]);
    assert_eq!(bench.state(), "STARTED");
    assert_eq!(bench.saga().deadline, Some(at(30_000)));
    assert_eq!((&*bench.saga().saga_id, &*bench.saga().saga_name), ("o", SAGA_NAME));
}

#[test]
fn reserved_goods_lead_to_a_charge_of_their_sum() {
    let mut bench = Bench::after(&[]);
    assert_eq!(bench.hear("reserved"), ["ChargePayment c 10.50"]);
    assert_eq!(bench.state(), "INVENTORY_RESERVED");
}

#[test]
fn a_charged_payment_leads_to_a_shipment_and_is_kept() {
    let mut bench = Bench::after(&["reserved"]);
    assert_eq!(bench.hear("charged"), ["CreateShipment"]);
    assert_eq!(bench.state(), "PAYMENT_PROCESSED");
    assert_eq!(bench.saga().data.payment_id.as_deref(), Some("pay"));
}

#[test]
fn a_shipment_leads_to_the_orders_confirmation_and_is_kept() {
    let mut bench = Bench::after(&["reserved", "charged"]);
    assert_eq!(bench.hear("shipped"), ["ConfirmOrder"]);
    assert_eq!(bench.state(), "SHIPPED");
    assert_eq!(bench.saga().data.shipment_id.as_deref(), Some("box"));
}

#[test]
fn a_confirmed_order_completes_its_saga_and_nothing_follows() {
    let mut bench = Bench::after(&["reserved", "charged", "shipped"]);
    assert_eq!(bench.hear("confirmed"), NONE);
    assert_eq!((bench.state(), bench.saga().deadline), ("COMPLETED", None));
    assert_eq!(bench.saga().completed_steps.len(), 4);
}

#[test]
fn goods_that_cannot_be_reserved_fail_the_saga_and_cancel_the_order() {
    let mut bench = Bench::after(&[]);
    let cancel = "CancelOrder Saga compensation: reserve-inventory: no";
    assert_eq!(bench.hear("inventory.reservation-failed"), [cancel]);
    assert_eq!(bench.state(), "FAILED");
}

#[test]
fn a_declined_payment_releases_the_goods_and_then_cancels_the_order() {
    let mut bench = Bench::after(&["reserved"]);
    assert_eq!(bench.hear("payment.failed"), ["ReleaseInventory"]);
    assert_eq!((bench.state(), bench.saga().deadline), ("COMPENSATING", Some(at(60_000))));
    let cancel = "CancelOrder Saga compensation: process-payment: no";
    assert_eq!(bench.hear("released"), [cancel]);
    assert_eq!(bench.state(), "FAILED");
    assert_eq!(bench.saga().error.as_deref(), Some("process-payment: no"));
}

#[test]
fn a_shipment_that_cannot_be_made_refunds_then_releases_then_cancels() {
    let mut bench = Bench::after(&["reserved", "charged"]);
    assert_eq!(bench.hear("shipment.failed"), ["RefundPayment pay"]);
    assert_eq!(bench.hear("refunded"), ["ReleaseInventory"]);
    let cancel = "CancelOrder Saga compensation: create-shipment: no";
    assert_eq!(bench.hear("released"), [cancel]);
    assert_eq!(bench.state(), "FAILED");
}

#[test]
fn an_order_that_is_never_confirmed_is_undone_in_reverse_order() {
    let mut bench = Bench::after(&["reserved", "charged", "shipped"]);
    for backoff in [1_000, 2_000] {
        assert_eq!(bench.wait(30_000), NONE);
        assert_eq!(bench.wait(backoff), ["ConfirmOrder"]);
    }
    assert_eq!(bench.wait(30_000), ["CancelShipment box"]);
    assert_eq!(bench.hear("unpacked"), ["RefundPayment pay"]);
    assert_eq!(bench.hear("refunded"), ["ReleaseInventory"]);
    let cancel = "CancelOrder Saga compensation: confirm-order timed out";
    assert_eq!(bench.hear("released"), [cancel]);
    assert_eq!(bench.state(), "FAILED");
}

#[test]
fn a_service_that_fails_for_now_is_asked_again_after_a_backoff_under_another_id() {
    let mut bench = Bench::after(&["reserved"]);
    let first = bench.saga().data.asked;
    assert_eq!(bench.hear("payment.failed for now"), NONE);
    assert_eq!((bench.state(), bench.saga().retry_at), ("INVENTORY_RESERVED", Some(at(1_000))));
    assert_eq!(bench.wait(999), NONE);
    assert_eq!(bench.wait(1), ["ChargePayment c 10.50"]);
    let second = bench.saga().data.asked;
    assert_ne!(first, second);
    assert_eq!(second, Some(emission_id(bench.saga().cause, "o:process-payment:2:2")));
    assert_eq!(bench.hear("charged"), ["CreateShipment"]);
}

#[test]
fn a_service_that_fails_for_now_three_times_has_failed() {
    let mut bench = Bench::after(&["reserved"]);
    for backoff in [1_000, 2_000] {
        assert_eq!(bench.hear("payment.failed for now"), NONE);
        assert_eq!(bench.wait(backoff).len(), 1);
    }
    assert_eq!(bench.hear("payment.failed for now"), ["ReleaseInventory"]);
}

#[test]
fn a_service_that_never_answers_is_asked_three_times_and_then_what_was_asked_is_withdrawn() {
    let mut bench = Bench::after(&["reserved"]);
    for backoff in [1_000, 2_000] {
        assert_eq!(bench.wait(30_000), NONE);
        assert_eq!(bench.wait(backoff), ["ChargePayment c 10.50"]);
    }
    assert_eq!(bench.wait(30_000), ["RefundPayment whatever", "ReleaseInventory"]);
    assert_eq!(bench.saga().error.as_deref(), Some("process-payment timed out"));
    let mut bench = Bench::after(&[]);
    for wait in [30_000, 1_000, 30_000, 2_000] {
        bench.wait(wait);
    }
    let cancel = "CancelOrder Saga compensation: reserve-inventory timed out";
    assert_eq!(bench.wait(30_000), ["ReleaseInventory", cancel]);
    let mut bench = Bench::after(&["reserved", "charged"]);
    for wait in [30_000, 1_000, 30_000, 2_000] {
        bench.wait(wait);
    }
    assert_eq!(bench.wait(30_000), ["CancelShipment whatever", "RefundPayment pay"]);
}

#[test]
fn an_order_called_off_by_its_customer_withdraws_what_is_asked_and_undoes_the_rest() {
    let mut bench = Bench::after(&[]);
    assert_eq!(bench.hear("cancelled"), ["ReleaseInventory"]);
    assert_eq!(bench.state(), "FAILED");
    let mut bench = Bench::after(&["reserved"]);
    assert_eq!(bench.hear("cancelled"), ["RefundPayment whatever", "ReleaseInventory"]);
    assert_eq!(bench.hear("released"), NONE, "the order is cancelled already");
    assert_eq!(bench.saga().error.as_deref(), Some("the order was cancelled: mind"));
    let mut bench = Bench::after(&["reserved", "charged"]);
    assert_eq!(bench.hear("cancelled"), ["CancelShipment whatever", "RefundPayment pay"]);
    let mut bench = Bench::after(&["reserved", "charged", "shipped"]);
    assert_eq!(bench.hear("cancelled"), ["CancelShipment box"]);
}

#[test]
fn an_order_called_off_while_it_is_compensated_is_not_cancelled_again() {
    let mut bench = Bench::after(&["reserved"]);
    bench.hear("payment.failed");
    assert_eq!(bench.hear("cancelled"), NONE);
    assert_eq!(bench.state(), "COMPENSATING");
    assert_eq!(bench.hear("released"), NONE);
    assert_eq!(bench.state(), "FAILED");
}

#[test]
fn an_order_called_off_after_it_was_confirmed_is_undone_too() {
    let mut bench = Bench::after(&["reserved", "charged", "shipped", "confirmed"]);
    assert_eq!(bench.hear("cancelled"), ["CancelShipment box"]);
    assert_eq!(bench.state(), "COMPENSATING");
    assert_eq!(bench.hear("unpacked"), ["RefundPayment pay"]);
    assert_eq!(bench.hear("refunded"), ["ReleaseInventory"]);
    assert_eq!(bench.hear("released"), NONE);
    assert_eq!(bench.state(), "FAILED");
    assert_eq!(bench.hear("cancelled"), NONE, "a repeat");
}

#[test]
fn a_compensation_that_is_refused_or_hangs_is_recorded_and_the_rest_goes_on() {
    let mut bench = Bench::after(&["reserved", "charged"]);
    bench.hear("shipment.failed");
    let cause = bench.saga().data.asked;
    let data = json!({"orderId": "o", "command": "RefundPayment", "reason": "bank holiday"});
    let stuck = event("compensation.failed", &data, cause, false);
    assert_eq!(bench.take(&stuck), ["ReleaseInventory"]);
    assert_eq!(bench.take(&stuck), NONE, "a repeat");
    assert_eq!(bench.wait(60_000), ["CancelOrder Saga compensation: create-shipment: no"]);
    assert_eq!(bench.state(), "FAILED");
    assert_eq!(
        bench.saga().compensation_errors,
        ["undoing process-payment: bank holiday", "undoing reserve-inventory timed out"]
    );
}

#[test]
fn repeats_and_replies_to_an_earlier_try_change_nothing() {
    let mut bench = Bench::after(&[]);
    assert_eq!(bench.create(), NONE, "the order is known");
    let asked = bench.saga().data.asked;
    bench.hear("reserved");
    assert_eq!(bench.hear_of("reserved", asked), NONE);
    assert_eq!((bench.state(), bench.saga().ignored), ("INVENTORY_RESERVED", 1));
    let first = bench.saga().data.asked;
    bench.wait(30_000);
    bench.wait(1_000);
    assert_eq!(bench.hear_of("payment.failed", first), NONE, "the second try is under way");
    assert_eq!(bench.hear_of("payment.failed", None), NONE, "it answers nothing");
    assert_eq!((bench.state(), bench.saga().ignored), ("INVENTORY_RESERVED", 3));
    assert_eq!(bench.hear_of("charged", first), ["CreateShipment"], "what is done is done");
}

#[test]
fn a_failure_that_is_told_twice_uses_up_one_try() {
    let mut bench = Bench::after(&["reserved"]);
    let cause = bench.saga().data.asked;
    bench.hear_of("payment.failed for now", cause);
    bench.hear_of("payment.failed for now", cause);
    assert_eq!((bench.saga().retry_at, bench.saga().ignored), (Some(at(1_000)), 1));
}

#[test]
fn replies_that_come_before_their_step_or_after_the_end_are_counted_and_dropped() {
    let mut bench = Bench::after(&[]);
    for early in ["charged", "shipped", "confirmed", "refunded"] {
        assert_eq!(bench.hear(early), NONE);
    }
    assert_eq!((bench.state(), bench.saga().ignored), ("STARTED", 4));
    let mut bench = Bench::after(&["reserved", "charged", "shipped", "confirmed"]);
    for late in ["reserved", "charged", "payment.failed", "released", "confirmed"] {
        assert_eq!(bench.hear(late), NONE);
    }
    assert_eq!((bench.state(), bench.saga().ignored), ("COMPLETED", 5));
}

#[test]
fn a_reply_for_an_order_that_has_no_saga_begins_none() {
    let mut bench = Bench::new();
    assert_eq!(bench.hear_of("reserved", None), NONE);
    assert_eq!(bench.hear_of("cancelled", None), NONE);
    assert!(bench.record.is_none());
}

#[test]
fn what_an_order_did_is_only_what_its_own_stream_says() {
    let forged = event("OrderConfirmed", &json!({"confirmedAt": 1}), None, false);
    assert_eq!(order_of(&forged), None);
    let shipped = event("OrderShipped", &json!({"shippedAt": 1}), None, true);
    assert_eq!((order_of(&shipped), replied_of(&shipped)), (None, None));
    let reserved = event("inventory.reserved", &json!({"orderId": "o"}), None, false);
    assert_eq!(replied_of(&reserved), Some("o"));
}

#[test]
fn a_long_reason_is_cut_before_it_is_told_to_the_order() {
    let mut bench = Bench::after(&[]);
    let cause = bench.saga().data.asked;
    let data = json!({"orderId": "o", "reason": "x".repeat(100_000)});
    let told = bench.take(&event("inventory.reservation-failed", &data, cause, false));
    assert!(told[0].len() < 600, "{}", told[0].len());
    assert!(bench.saga().error.as_ref().is_some_and(|error| error.len() < 600));
}

#[test]
fn a_finished_saga_is_forgotten_a_day_later() {
    let mut bench = Bench::after(&["reserved", "charged", "shipped", "confirmed"]);
    bench.wait(86_399_999);
    assert_eq!(bench.saga().state, SagaState::Completed);
    assert_eq!(bench.wait(1), NONE);
    assert!(bench.record.is_none());
}

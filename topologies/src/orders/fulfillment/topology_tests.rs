//! Fulfilment on the test driver: rows, timers, and what is sent where.

use std::time::Duration;

use headwater::record::Headers;
use headwater::testing::TopologyTestDriver;
use headwater_schemas::topics::Topic;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::saga::SagaState;

pub(in crate::orders::fulfillment) fn driver(options: &FulfillmentOptions) -> TopologyTestDriver {
    let builder = StreamsBuilder::new();
    topology(&builder, options);
    let topology = builder.build().expect("the topology has no mistakes");
    TopologyTestDriver::new(&topology).expect("it starts")
}

/// The topic that an event of this type is told on, and whether it is of an order's own stream.
pub(in crate::orders::fulfillment) fn place(kind: &str) -> (&'static Topic, bool) {
    if kind.starts_with("Order") { (&ORDERS, true) } else { (&FULFILLMENT_REPLIES, false) }
}

/// An event's document; its id follows from what is given.
pub(in crate::orders::fulfillment) fn document(
    order: &str,
    kind: &str,
    data: &Value,
    cause: Option<Uuid>,
) -> Value {
    let (_, own) = place(kind);
    let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{order}{kind}{data}{cause:?}").as_bytes());
    let (aggregate, sequence) =
        if own { ("Order", json!(1)) } else { ("Fulfillment", Value::Null) };
    json!({"eventId": id, "eventType": kind, "aggregateId": order, "aggregateType": aggregate,
        "eventData": data,
        "metadata": {"timestamp": 1, "version": "1.0", "correlationId": Uuid::from_u128(7),
                     "causationId": cause, "sequence": sequence, "userId": "u"}})
}

struct Bench(TopologyTestDriver);

impl Bench {
    fn new() -> Self {
        Self(driver(&FulfillmentOptions::default()))
    }

    fn raw(&mut self, topic: &Topic, key: &str, value: &[u8]) {
        let (key, headers) = (Some(key.as_bytes()), Headers::empty());
        self.0.pipe(&topic.name, key, Some(value), 1, headers).expect("it goes on");
    }

    fn say(&mut self, kind: &str, data: Value, cause: Option<Uuid>) {
        let document = document("o", kind, &data, cause).to_string();
        self.raw(place(kind).0, "o", document.as_bytes());
    }

    fn create(&mut self) {
        let items = json!([{"productId": "p", "quantity": 1, "price": 2}]);
        self.say("OrderCreated", json!({"customerId": "c", "items": items}), None);
    }

    /// Commands that were sent to a topic since the last call.
    fn sent(&mut self, topic: &Topic) -> Vec<Value> {
        let records = self.0.take(&topic.name);
        let read = records.into_iter().map(|record| {
            assert_eq!(record.key.as_deref(), Some(&b"o"[..]), "everything is the order's");
            serde_json::from_slice(&record.value.expect("a document")).expect("json")
        });
        read.collect()
    }

    fn wait(&mut self, ms: u64) {
        self.0.advance_wall_clock(Duration::from_millis(ms)).expect("it goes on");
    }

    fn saga(&self) -> FulfillmentRecord {
        let rows = self.0.rows(STORE);
        assert_eq!(rows.len(), 1, "one saga");
        serde_json::from_slice(&rows[0].value).expect("a row")
    }

    fn letters(&mut self, topic: &Topic) -> usize {
        self.0.take(&topic.dead_letters().name).len()
    }
}

/// The id of a command, as its reply names it.
fn id(command: &Value) -> Option<Uuid> {
    command["id"].as_str().and_then(|id| id.parse().ok())
}

#[test]
fn an_order_goes_to_each_service_in_turn_and_back_to_its_aggregate() {
    let mut bench = Bench::new();
    bench.create();
    let asked = bench.sent(&INVENTORY_COMMANDS);
    assert_eq!(asked[0]["type"], "ReserveInventory");
    assert_eq!(asked[0]["payload"]["items"][0]["productId"], "p");
    assert_eq!(asked[0]["metadata"]["correlationId"], json!(Uuid::from_u128(7)));
    assert_eq!(asked[0]["metadata"]["userId"], "u");
    assert_eq!(id(&asked[0]), bench.saga().data.asked, "a reply names it");
    bench.say("inventory.reserved", json!({"orderId": "o"}), id(&asked[0]));
    let asked = bench.sent(&PAYMENT_COMMANDS);
    assert_eq!(asked[0]["payload"], json!({"customerId": "c", "amount": 2.0}));
    let charged = json!({"orderId": "o", "paymentId": "pay", "amount": 2});
    bench.say("payment.charged", charged, id(&asked[0]));
    let asked = bench.sent(&SHIPPING_COMMANDS);
    assert_eq!(asked[0]["type"], "CreateShipment");
    bench.say("shipment.created", json!({"orderId": "o", "shipmentId": "box"}), id(&asked[0]));
    assert_eq!(bench.sent(&ORDER_COMMANDS)[0]["type"], "ConfirmOrder");
    bench.say("OrderConfirmed", json!({"confirmedAt": 1}), None);
    assert_eq!(bench.saga().state, SagaState::Completed);
}

#[test]
fn a_service_that_hangs_is_asked_again_by_timers_that_survive_restart_and_move() {
    let mut bench = Bench::new();
    bench.create();
    bench.sent(&INVENTORY_COMMANDS);
    bench.wait(29_999);
    bench.0.restart().expect("it starts");
    assert_eq!(bench.saga().retry_at, None);
    bench.wait(1);
    bench.0.move_task().expect("it starts");
    bench.wait(999);
    assert!(bench.sent(&INVENTORY_COMMANDS).is_empty(), "the backoff is a second");
    bench.wait(1);
    assert_eq!(bench.sent(&INVENTORY_COMMANDS).len(), 1);
    assert_eq!(bench.saga().attempt, 2);
    bench.wait(30_000);
    bench.wait(2_000);
    bench.wait(30_000);
    assert_eq!(bench.saga().state, SagaState::Failed);
    let asked = bench.sent(&INVENTORY_COMMANDS);
    let types: Vec<_> = asked.iter().map(|command| command["type"].as_str()).collect();
    assert_eq!(types, [Some("ReserveInventory"), Some("ReleaseInventory")]);
    assert_eq!(bench.sent(&ORDER_COMMANDS)[0]["type"], "CancelOrder");
}

#[test]
fn a_long_sleep_of_the_process_is_one_missed_deadline_and_not_all_of_them() {
    let mut bench = Bench::new();
    bench.create();
    bench.wait(10 * 3_600_000);
    assert_eq!((bench.saga().attempt, bench.saga().state), (1, SagaState::Running));
}

#[test]
fn a_finished_saga_leaves_no_row_a_day_later_and_a_late_reply_begins_none() {
    let mut bench = Bench::new();
    bench.create();
    let cause = bench.saga().data.asked;
    let data = json!({"orderId": "o", "reason": "r"});
    bench.say("inventory.reservation-failed", data, cause);
    bench.wait(86_399_999);
    assert_eq!(bench.saga().state, SagaState::Failed);
    bench.wait(1);
    assert!(bench.0.rows(STORE).is_empty());
    bench.say("inventory.reserved", json!({"orderId": "o"}), cause);
    assert!(bench.0.rows(STORE).is_empty());
    assert_eq!(bench.letters(&FULFILLMENT_REPLIES), 0, "counted, not failed");
}

#[test]
fn rubbish_contradictions_and_foreign_keys_are_dead_letters_and_unknown_types_pass() {
    let mut bench = Bench::new();
    bench.raw(&FULFILLMENT_REPLIES, "o", b"rubbish");
    bench.raw(&FULFILLMENT_REPLIES, "o", br#"{"eventType": "payment.charged"}"#);
    bench.say(
        "payment.charged",
        json!({"orderId": "o", "paymentId": "pay", "amount": "much"}),
        None,
    );
    let foreign = document("o", "inventory.reserved", &json!({"orderId": "o"}), None).to_string();
    bench.raw(&FULFILLMENT_REPLIES, "another", foreign.as_bytes());
    assert_eq!(bench.letters(&FULFILLMENT_REPLIES), 4);
    let created = json!({"customerId": "c", "items": []});
    bench.say("OrderCreated", created, None);
    assert_eq!(bench.letters(&ORDERS), 1);
    bench.say("inventory.counted", json!({"orderId": "o"}), None);
    bench.say("OrderPainted", json!({}), None);
    assert_eq!(bench.letters(&FULFILLMENT_REPLIES) + bench.letters(&ORDERS), 0);
    bench.create();
    assert_eq!(bench.saga().saga_id, "o");
}

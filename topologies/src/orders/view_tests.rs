//! Events of an order, in any order and however often, and events that contradict themselves.

use headwater_schemas::envelope::DomainEvent;
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;

fn event(kind: &str, sequence: Option<i64>, data: &Value) -> PlatformEvent {
    document(json!({
        "eventId": Uuid::from_u128(1), "eventType": kind, "aggregateId": "o",
        "aggregateType": "Order", "eventData": data,
        "metadata": {"timestamp": 10 + sequence.unwrap_or(0), "version": "1.0",
                     "correlationId": Uuid::from_u128(2), "sequence": sequence},
    }))
}

fn document(document: Value) -> PlatformEvent {
    let event = DomainEvent::parse(document.to_string().as_bytes()).expect("an event");
    let payload = Event::of(&event).expect("a payload");
    PlatformEvent { event, payload }
}

fn created() -> PlatformEvent {
    let line =
        |product, quantity| json!({"productId": product, "quantity": quantity, "price": 2.5});
    let items = json!([line("p", 1), line("q", 2), line("p", 1)]);
    event("OrderCreated", Some(1), &json!({"customerId": "c", "items": items}))
}

/// The life of an order that is delivered.
fn life() -> Vec<PlatformEvent> {
    vec![
        created(),
        event("OrderConfirmed", Some(2), &json!({"confirmedAt": 12})),
        event("OrderShipped", Some(3), &json!({"shippedAt": 13})),
        event("OrderDelivered", Some(4), &json!({"deliveredAt": 14})),
    ]
}

fn change(event: &PlatformEvent) -> Change {
    Change::read("o", event).expect("sound").expect("of an order")
}

fn refusal(key: &str, event: &PlatformEvent) -> String {
    Change::read(key, event).expect_err("a contradiction")
}

#[test]
fn a_created_order_is_pending_with_its_lines_its_total_and_its_time() {
    let mut fold = OrderFold::default();
    assert!(fold.take("o", &change(&created())));
    let order = fold.model.expect("created");
    assert_eq!((order.status, order.version), (OrderStatus::Pending, 1));
    assert_eq!(order.total.to_string(), "10.00");
    assert_eq!(order.created_at.as_millis(), 11);
    assert_eq!(order.items.len(), 3, "lines of one product stay apart");
    assert_eq!(change(&created()).products().into_iter().collect::<Vec<_>>(), ["p", "q"]);
}

#[test]
fn each_event_of_its_stream_moves_the_order_on_and_a_repeat_changes_nothing() {
    let mut fold = OrderFold::default();
    for event in life() {
        assert!(fold.take("o", &change(&event)));
        assert!(!fold.take("o", &change(&event)), "again");
    }
    let order = fold.model.as_ref().expect("created");
    assert_eq!((order.status, order.version), (OrderStatus::Delivered, 4));
    assert_eq!((order.created_at.as_millis(), order.updated_at.as_millis()), (11, 14));
    assert!(!fold.take("o", &change(&life()[1])), "an old one");
}

#[test]
fn a_product_is_named_once_on_each_of_its_lines() {
    let mut fold = OrderFold::default();
    assert!(!fold.name("p", "pen"), "nothing to name");
    fold.take("o", &change(&created()));
    assert!(fold.name("p", "pen"));
    assert!(!fold.name("p", "pencil"), "it has a name");
    let order = fold.model.expect("created");
    let names: Vec<_> = order.items.iter().map(|line| line.product_name.as_deref()).collect();
    assert_eq!(names, [Some("pen"), None, Some("pen")]);
}

#[test]
fn an_event_that_is_not_of_an_orders_stream_means_nothing() {
    let reserved = event("inventory.reserved", None, &json!({"orderId": "o"}));
    assert_eq!(Change::read("o", &reserved), Ok(None));
    let unknown = event("OrderPainted", Some(2), &json!({}));
    assert_eq!(Change::read("o", &unknown), Ok(None));
}

#[test]
fn an_event_that_contradicts_itself_is_refused_with_the_reason() {
    assert!(refusal("another", &created()).contains("key must be its order"));
    let sequence = |kind, sequence, data| refusal("o", &event(kind, sequence, &data));
    let confirmed = || json!({"confirmedAt": 1});
    assert!(sequence("OrderConfirmed", None, confirmed()).contains("$.metadata.sequence"));
    assert!(sequence("OrderConfirmed", Some(1), confirmed()).contains("cannot be the first"));
    let data = Value::Object(created().event.event_data);
    assert!(sequence("OrderCreated", Some(2), data).contains("must have sequence 1"));
    let mut other = created();
    other.event.aggregate_type = "Session".to_owned();
    assert!(refusal("o", &other).contains("must be of an Order"));
    let mut data = Value::Object(created().event.event_data);
    data["orderId"] = json!("another");
    assert!(sequence("OrderCreated", Some(1), data).contains("$.eventData.orderId"));
}

proptest! {
    #[test]
    fn events_in_any_order_and_however_often_lead_to_the_same_row(
        more in prop::collection::vec(0..4_usize, 0..12),
        order in Just(vec![0, 1, 2, 3_usize]).prop_shuffle(),
    ) {
        let life: Vec<_> = life().iter().map(change).collect();
        let mut expected = OrderFold::default();
        for change in &life {
            expected.take("o", change);
        }
        let mut fold = OrderFold::default();
        for at in more.into_iter().chain(order) {
            fold.take("o", &life[at]);
            let created = fold.model.is_some();
            prop_assert!(!created || fold.model.as_ref().map(|order| order.version) == Some(fold.version));
        }
        prop_assert_eq!(fold, expected);
    }
}

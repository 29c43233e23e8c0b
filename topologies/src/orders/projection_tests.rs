//! The reading side on the test driver: joins with the tables, rows and the rows that lead to them.

use headwater::dsl::StreamsBuilder;
use headwater::record::Headers;
use headwater::testing::TopologyTestDriver;
use headwater_schemas::headers;
use headwater_schemas::topics::{CUSTOMERS, ORDERS, PRODUCTS};
use serde_json::{Value, json};
use uuid::Uuid;

use super::view::OrderFold;
use super::*;

struct Bench(TopologyTestDriver);

impl Bench {
    fn new() -> Self {
        let builder = StreamsBuilder::new();
        projection::topology(&builder);
        let topology = builder.build().expect("the topology has no mistakes");
        Self(TopologyTestDriver::new(&topology).expect("it starts"))
    }

    fn row(&mut self, topic: &str, key: &str, value: &[u8]) {
        let piped = self.0.pipe(topic, Some(key.as_bytes()), Some(value), 1, Headers::empty());
        piped.expect("it goes on");
    }

    fn tell(&mut self, order: &str, kind: &str, sequence: i64, data: Value) {
        let document = json!({
            "eventId": Uuid::from_u128(1), "eventType": kind, "aggregateId": order,
            "aggregateType": "Order", "eventData": data,
            "metadata": {"timestamp": sequence, "version": "1.0",
                         "correlationId": Uuid::from_u128(2), "sequence": sequence},
        });
        self.row(&ORDERS.name, order, document.to_string().as_bytes());
    }

    fn create(&mut self, order: &str) {
        let items = json!([{"productId": "p", "quantity": 1, "price": 2},
                           {"productId": "q", "quantity": 3, "price": 0.5}]);
        self.tell(order, "OrderCreated", 1, json!({"customerId": "c", "items": items}));
    }

    fn order(&self, id: &str) -> OrderReadModel {
        let rows = self.0.rows(STORE);
        let row = rows.iter().find(|row| row.key == id.as_bytes()).expect("a row");
        let fold: OrderFold = serde_json::from_slice(&row.value).expect("json");
        fold.model.expect("created")
    }

    fn keys(&self, store: &str) -> Vec<String> {
        let rows = self.0.rows(store).into_iter();
        rows.map(|row| String::from_utf8(row.key).expect("text")).collect()
    }

    fn letters(&mut self) -> Vec<String> {
        let letters = self.0.take(&ORDERS.dead_letters().name);
        let why = |letter: &headwater::testing::TestRecord<Option<Vec<u8>>, Option<Vec<u8>>>| {
            let header = letter.headers.last(headers::ERROR_MESSAGE);
            let value = header.and_then(|header| header.value.clone()).expect("a reason");
            String::from_utf8(value.to_vec()).expect("text")
        };
        letters.iter().map(why).collect()
    }
}

#[test]
fn an_order_has_the_names_that_its_customer_and_products_have_when_it_comes() {
    let mut bench = Bench::new();
    bench.row(&CUSTOMERS.name, "c", br#"{"name": "Ann", "email": "a@b"}"#);
    bench.row(&PRODUCTS.name, "q", br#"{"name": "quill"}"#);
    bench.create("o");
    let order = bench.order("o");
    assert_eq!(order.customer_name.as_deref(), Some("Ann"));
    let names: Vec<_> = order.items.iter().map(|line| line.product_name.as_deref()).collect();
    assert_eq!(names, [None, Some("quill")]);
    assert_eq!((order.total.to_string(), order.version), ("3.50".to_owned(), 1));
    bench.row(&CUSTOMERS.name, "c", br#"{"name": "Bea"}"#);
    bench.tell("o", "OrderConfirmed", 2, json!({"confirmedAt": 2}));
    assert_eq!(bench.order("o").customer_name.as_deref(), Some("Ann"), "as it was ordered");
}

#[test]
fn a_row_without_a_name_is_no_fault_of_the_order() {
    let mut bench = Bench::new();
    bench.row(&CUSTOMERS.name, "c", b"not json");
    bench.row(&PRODUCTS.name, "p", br#"{"name": 5}"#);
    bench.create("o");
    assert_eq!(bench.order("o").customer_name, None);
    assert!(bench.letters().is_empty());
}

#[test]
fn an_order_is_found_by_its_customer_always_and_by_its_status_as_long_as_it_has_it() {
    let mut bench = Bench::new();
    bench.create("o");
    let by_customer = ["001/c/00000000000000000001/o"];
    assert_eq!(bench.keys(BY_CUSTOMER_STORE), by_customer);
    assert_eq!(bench.keys(BY_STATUS_STORE), ["pending/00000000000000000001/o"]);
    bench.tell("o", "OrderCancelled", 2, json!({"reason": "r", "cancelledAt": 2}));
    assert_eq!(bench.keys(BY_CUSTOMER_STORE), by_customer);
    assert_eq!(bench.keys(BY_STATUS_STORE), ["cancelled/00000000000000000001/o"]);
}

#[test]
fn an_order_whose_creation_comes_late_is_whole_in_the_end() {
    let mut bench = Bench::new();
    bench.row(&PRODUCTS.name, "q", br#"{"name": "quill"}"#);
    bench.tell("o", "OrderShipped", 3, json!({"shippedAt": 3}));
    assert!(bench.keys(BY_STATUS_STORE).is_empty());
    bench.tell("o", "OrderConfirmed", 2, json!({"confirmedAt": 2}));
    bench.create("o");
    let order = bench.order("o");
    assert_eq!((order.status.word(), order.version), ("shipped", 3));
    assert_eq!(order.items[1].product_name.as_deref(), Some("quill"));
    assert_eq!(bench.keys(BY_STATUS_STORE), ["shipped/00000000000000000001/o"]);
    bench.create("o");
    assert_eq!(bench.order("o"), order, "a repeat");
}

#[test]
fn what_contradicts_itself_is_a_dead_letter_with_its_reason_and_stops_nothing() {
    let mut bench = Bench::new();
    bench.tell("o", "OrderConfirmed", 1, json!({"confirmedAt": 2}));
    bench.tell("o", "OrderCreated", 1, json!({"customerId": "c", "items": []}));
    bench.row(&ORDERS.name, "o", b"rubbish");
    let letters = bench.letters();
    for (letter, why) in letters.iter().zip(["cannot be the first", "$.eventData.items", "json"]) {
        assert!(letter.contains(why), "{letter}");
    }
    assert_eq!(letters.len(), 3);
    assert!(bench.keys(STORE).is_empty());
    bench.tell("o", "OrderPainted", 2, json!({}));
    bench.create("o");
    assert_eq!(bench.order("o").status.word(), "pending");
    assert!(bench.letters().is_empty());
}

#[test]
fn an_order_of_the_first_version_has_one_address_for_both_purposes_and_is_read() {
    let mut bench = Bench::new();
    let items = json!([{"productId": "p", "quantity": 1, "price": 2}]);
    let stored = json!({
        "id": Uuid::from_u128(5), "type": "OrderCreated", "aggregateId": "o", "version": 1,
        "aggregateType": "Order", "timestamp": 9,
        "data": {"customerId": "c", "items": items, "address": "x"},
    });
    bench.row(&ORDERS.name, "o", stored.to_string().as_bytes());
    assert_eq!(bench.order("o").created_at.as_millis(), 9);
}

#[test]
fn rows_of_a_customer_do_not_mix_with_those_of_one_whose_name_goes_on() {
    let mut bench = Bench::new();
    bench.create("o");
    let order =
        |customer: &str| OrderReadModel { customer_id: customer.into(), ..bench.order("o") };
    assert!(!customer_key(&order("a/b")).starts_with("001/a/"));
    assert_eq!(customer_key(&order("a")), "001/a/00000000000000000001/o");
}

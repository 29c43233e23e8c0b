//! The writing side on the test driver: from a command's bytes to rows, events and answers; and
//! under simulated faults.

use std::collections::{BTreeMap, BTreeSet};

use headwater::dsl::StreamsBuilder;
use headwater::record::Headers;
use headwater::serde::kafka_streams::partition_for;
use headwater::testing::{Input, Inputs, Outcome, TopologyTestDriver, simulate};
use headwater_schemas::envelope::DomainEvent;
use headwater_schemas::headers;
use headwater_schemas::topics::API_RESPONSES;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::aggregate::log_key;

fn topology() -> Arc<headwater::topology::Topology> {
    let builder = StreamsBuilder::new();
    aggregate_topology(&builder);
    builder.build().expect("the topology has no mistakes")
}

/// A command's document. The same arguments give the same id.
fn document(number: u64, order: &str, command_type: &str, payload: Value) -> Value {
    let id = Uuid::from_u128(u128::from(number));
    json!({"id": id, "type": command_type, "aggregateId": order, "payload": payload,
        "metadata": {"correlationId": id, "timestamp": number, "userId": "u"}})
}

fn created() -> Value {
    json!({"customerId": "c", "items": [{"productId": "p", "quantity": 2, "price": 1.25}]})
}

struct Bench {
    driver: TopologyTestDriver,
    sent: u64,
}

impl Bench {
    fn new() -> Self {
        Self { driver: TopologyTestDriver::new(&topology()).expect("it starts"), sent: 0 }
    }

    fn raw(&mut self, key: &str, value: &[u8]) {
        let (key, headers) = (Some(key.as_bytes()), Headers::empty());
        let piped = self.driver.pipe(&ORDER_COMMANDS.name, key, Some(value), 1, headers);
        piped.expect("a bad command does not stop the topology");
    }

    fn send(&mut self, order: &str, command_type: &str, payload: Value) -> Value {
        self.sent += 1;
        let document = document(self.sent, order, command_type, payload);
        self.raw(order, document.to_string().as_bytes());
        let mut answers = self.taken(&API_RESPONSES.name);
        assert_eq!(answers.len(), 1, "one answer to one command");
        answers.remove(0)
    }

    fn taken(&mut self, topic: &str) -> Vec<Value> {
        let records = self.driver.take(topic);
        let read = |value: Option<Vec<u8>>| serde_json::from_slice(&value.expect("a document"));
        records.into_iter().map(|record| read(record.value).expect("json")).collect()
    }
}

#[test]
fn a_command_becomes_an_event_with_its_headers_an_answer_a_row_and_a_line_of_the_log() {
    let mut bench = Bench::new();
    let answer = bench.send("o", "CreateOrder", created());
    assert_eq!((&answer["status"], &answer["body"]["version"]), (&json!(200), &json!(1)));
    assert_eq!(answer["body"]["aggregateId"], json!("o"));
    let told = bench.driver.take(&ORDERS.name);
    assert_eq!(told[0].key.as_deref(), Some(&b"o"[..]));
    let header = |name| {
        let header = told[0].headers.last(name).and_then(|header| header.value.clone());
        String::from_utf8(header.expect("sent").to_vec()).expect("text")
    };
    assert_eq!(header(headers::EVENT_TYPE), "OrderCreated");
    assert_eq!(header(headers::EVENT_SOURCE), AGGREGATE);
    assert_eq!(header(headers::SEQUENCE_NUMBER), "1");
    bench.send("o", "ConfirmOrder", json!({}));
    let log: Vec<_> = bench.driver.rows(LOG_STORE).into_iter().map(|row| row.key).collect();
    assert_eq!(log, [log_key("o", 1).into_bytes(), log_key("o", 2).into_bytes()]);
    let rows = bench.driver.rows(AGGREGATE_STORE);
    let row: OrderRow = serde_json::from_slice(&rows[0].value).expect("a row");
    assert_eq!(row.order.expect("it exists").status, aggregate::OrderStatus::Confirmed);
}

#[test]
fn a_refused_command_is_answered_and_tells_nothing() {
    let mut bench = Bench::new();
    let mut code = |command_type, payload| {
        let answer = bench.send("o", command_type, payload);
        (answer["status"].clone(), answer["body"]["code"].clone())
    };
    assert_eq!(code("ConfirmOrder", json!({})), (json!(404), json!("NOT_FOUND")));
    assert_eq!(code("PaintOrder", json!({})), (json!(400), json!("UNKNOWN_COMMAND")));
    assert_eq!(code("CreateOrder", json!({"items": []})), (json!(400), json!("VALIDATION")));
    assert_eq!(code("CreateOrder", created()), (json!(200), Value::Null));
    assert_eq!(code("CreateOrder", created()), (json!(409), json!("CONFLICT")));
    assert_eq!(code("ShipOrder", json!({})), (json!(409), json!("INVALID_STATE")));
    assert_eq!(bench.taken(&ORDERS.name).len(), 1, "the one that was accepted");
}

#[test]
fn a_command_under_another_orders_key_is_refused_and_one_without_an_address_is_a_dead_letter() {
    let mut bench = Bench::new();
    bench.raw("another", document(1, "o", "CreateOrder", created()).to_string().as_bytes());
    assert_eq!(bench.taken(&API_RESPONSES.name)[0]["body"]["code"], json!("VALIDATION"));
    assert!(bench.driver.rows(AGGREGATE_STORE).is_empty());
    bench.raw("o", b"{\"type\": \"CreateOrder\"}");
    bench.raw("o", b"not json");
    assert_eq!(bench.driver.take(&ORDER_COMMANDS.dead_letters().name).len(), 2);
    assert!(bench.taken(&API_RESPONSES.name).is_empty());
}

fn inputs(inputs: &mut Inputs) {
    let kinds =
        ["CreateOrder", "CreateOrder", "ConfirmOrder", "CancelOrder", "ShipOrder", "DeliverOrder"];
    for number in 1..=inputs.draw(40..90) {
        let order = format!("o{}", inputs.draw(0..6));
        let kind = kinds[usize::try_from(inputs.draw(0..6)).expect("few")];
        let payload = match kind {
            "CreateOrder" => created(),
            "CancelOrder" => json!({"reason": "r"}),
            _ => json!({}),
        };
        // One in ten comes twice.
        for _ in 0..1 + u8::from(inputs.draw(0..10) == 0) {
            inputs.push(Input {
                topic: (&*ORDER_COMMANDS.name).into(),
                partition: partition_for(order.as_bytes(), inputs.partitions()),
                timestamp: 1_767_607_200_000,
                key: Some(order.as_bytes().to_vec()),
                value: Some(document(number, &order, kind, payload.clone()).to_string().into()),
            });
        }
    }
}

/// One answer to each command record, the same for a repeat; events without a gap, told once; the
/// rows are what the events make.
fn check(outcome: &Outcome<'_>) -> Result<(), String> {
    let answers: Vec<_> = outcome.records(&API_RESPONSES.name).into_iter().flatten().collect();
    if answers.len() != outcome.inputs().len() {
        return Err(format!("{} answers, {} commands", answers.len(), outcome.inputs().len()));
    }
    let mut by_command = BTreeMap::new();
    for answer in answers {
        let value: Value = serde_json::from_slice(answer.value.as_deref().unwrap_or_default())
            .map_err(|error| error.to_string())?;
        let id = value["body"]["commandId"].to_string();
        let first = by_command.entry(id).or_insert_with(|| value.clone());
        if *first != value {
            return Err(format!("{first} and then {value}"));
        }
    }
    let mut folded = BTreeMap::<String, OrderRow>::new();
    let mut ids = BTreeSet::new();
    for record in outcome.records(&ORDERS.name).into_iter().flatten() {
        let event = DomainEvent::parse(record.value.as_deref().unwrap_or_default())
            .map_err(|error| error.to_string())?;
        let row = folded.entry(event.aggregate_id.clone()).or_default();
        let payload =
            headwater_schemas::events::Event::of(&event).map_err(|error| error.to_string())?;
        row.apply(&event.aggregate_id, &payload, event.metadata.timestamp);
        let version = row.order.as_ref().map(|order| order.version);
        if version != event.metadata.sequence || !ids.insert(event.event_id) {
            return Err(format!("{} has sequence {:?}", event.event_id, event.metadata.sequence));
        }
    }
    for partition in 0..3 {
        for (key, value) in outcome.rows(AGGREGATE_STORE, partition).into_iter().flatten() {
            let row: OrderRow = serde_json::from_slice(value).map_err(|error| error.to_string())?;
            let told = folded.remove(&*String::from_utf8_lossy(key)).unwrap_or_default();
            if row.order != told.order {
                return Err(format!("{:?} is kept, {:?} was told", row.order, told.order));
            }
        }
    }
    if folded.is_empty() { Ok(()) } else { Err(format!("{folded:?} are not kept")) }
}

#[test]
fn whatever_goes_wrong_each_command_is_answered_and_the_rows_are_what_was_told() {
    let simulation = simulate(&topology(), 1..=12).named("order-aggregate");
    let report = simulation.inputs(inputs).check(check).run();
    let report = report.unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(report.seeds, 12);
    assert!(report.met.values().sum::<u64>() > 80, "{:?}", report.met);
}

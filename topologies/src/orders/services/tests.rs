//! The services: what is done once, undone, refused, repeated; and what the topology refuses.

use std::sync::Arc;

use headwater::dsl::StreamsBuilder;
use headwater::record::Headers;
use headwater::testing::TopologyTestDriver;
use headwater_schemas::commands::ServiceCommand;
use headwater_schemas::events::order::Money;
use headwater_schemas::topics::{FULFILLMENT_REPLIES, INVENTORY_COMMANDS, PAYMENT_COMMANDS};
use serde_json::{Value, json};

use super::ledger::{Hold, Ledger};
use super::*;

/// Says what it is told to, one word after the other; then yes.
struct Scripted(Vec<Say>);

impl Services for Scripted {
    fn ask(&self, _: &str, _: &ServiceRequest, attempt: u32) -> Say {
        let at = usize::try_from(attempt - 1).expect("few");
        self.0.get(at).cloned().unwrap_or(Say::Yes)
    }
}

fn charge() -> ServiceRequest {
    ServiceRequest::ChargePayment { customer_id: "c".into(), amount: Money::default() }
}

fn refund() -> ServiceRequest {
    ServiceRequest::RefundPayment { payment_id: None }
}

fn kind(ledger: &mut Ledger, request: &ServiceRequest, says: &[Say]) -> Option<String> {
    let answer = ledger.ask("o", request, &Scripted(says.to_vec()));
    answer.map(|answer| answer.event_type)
}

#[test]
fn what_is_done_is_done_once_however_often_it_is_asked() {
    let mut ledger = Ledger::default();
    assert_eq!(kind(&mut ledger, &charge(), &[]).as_deref(), Some("payment.charged"));
    assert_eq!(kind(&mut ledger, &charge(), &[]).as_deref(), Some("payment.charged"));
    assert_eq!((ledger.payment.hold, ledger.payment.tries), (Hold::Held, 1));
    assert_eq!(ledger.inventory, ledger.shipment, "nobody else did anything");
}

#[test]
fn a_try_that_fails_for_now_or_is_silent_can_be_followed_by_another_and_a_refusal_cannot() {
    let says = [Say::NotNow("busy".into()), Say::Silence, Say::No("declined".into()), Say::Yes];
    let mut ledger = Ledger::default();
    let answer = ledger.ask("o", &charge(), &Scripted(says.to_vec())).expect("an answer");
    assert_eq!((&*answer.event_type, &answer.data["retryable"]), ("payment.failed", &json!(true)));
    assert_eq!(kind(&mut ledger, &charge(), &says), None);
    for _ in 0..2 {
        let answer = ledger.ask("o", &charge(), &Scripted(says.to_vec())).expect("an answer");
        assert_eq!(answer.data["retryable"], json!(false));
    }
    assert_eq!((ledger.payment.hold, ledger.payment.tries), (Hold::Refused, 3));
}

#[test]
fn what_was_withdrawn_before_it_was_done_is_not_done_later() {
    let mut ledger = Ledger::default();
    assert_eq!(kind(&mut ledger, &refund(), &[]).as_deref(), Some("payment.refunded"));
    assert_eq!(kind(&mut ledger, &charge(), &[]).as_deref(), Some("payment.failed"));
    assert_eq!((ledger.payment.hold, ledger.payment.tries), (Hold::Undone, 0));
}

#[test]
fn what_cannot_be_undone_stays_done_and_says_so() {
    let mut ledger = Ledger::default();
    kind(&mut ledger, &charge(), &[]);
    let says = [Say::No("bank holiday".into()), Say::Silence];
    let stuck = ledger.ask("o", &refund(), &Scripted(says.to_vec())).expect("an answer");
    assert_eq!(stuck.event_type, "compensation.failed");
    assert_eq!(stuck.data["command"], json!("RefundPayment"));
    assert_eq!(kind(&mut ledger, &refund(), &says), None);
    assert_eq!(ledger.payment.hold, Hold::Held);
    assert_eq!(kind(&mut ledger, &refund(), &says).as_deref(), Some("payment.refunded"));
    assert_eq!(ledger.payment.hold, Hold::Undone);
}

#[test]
fn a_repeated_command_is_answered_as_before_even_with_silence() {
    let command = |id: u128| {
        let document = json!({"id": Uuid::from_u128(id), "type": "ChargePayment",
            "aggregateId": "o", "payload": {"customerId": "c", "amount": 1},
            "metadata": {"correlationId": Uuid::from_u128(1), "timestamp": 1}});
        ServiceCommand::parse(document.to_string().as_bytes()).expect("a command")
    };
    let services = Scripted(vec![Say::Silence, Say::NotNow("busy".into())]);
    let mut ledger = Ledger::default();
    assert_eq!(ledger.follow(&command(1), &services), None);
    assert_eq!(ledger.follow(&command(1), &services), None);
    let busy = ledger.follow(&command(2), &services);
    assert_eq!(ledger.follow(&command(2), &services), busy);
    assert_eq!(ledger.payment.tries, 2);
    assert!(ledger.follow(&command(3), &services).is_some());
    assert_eq!(ledger.follow(&command(1), &services), None, "still nothing");
}

#[test]
fn simulated_services_answer_alike_for_one_seed_and_every_way_for_many_orders() {
    let services = Simulated { seed: 7, refusals: 250, failures: 250, silences: 250, stuck: 500 };
    let mut seen = std::collections::BTreeSet::new();
    for number in 0..200 {
        let order = format!("o{number}");
        for request in [charge(), refund()] {
            let said = services.ask(&order, &request, 1);
            assert_eq!(services.ask(&order, &request, 1), said);
            seen.insert(format!("{}:{said:?}", is_undo(&request)));
        }
    }
    assert_eq!(seen.len(), 7, "{seen:?}");
    let flawless = Simulated::flawless(7);
    assert!((0..200).all(|attempt| flawless.ask("o", &charge(), attempt) == Say::Yes));
}

struct Bench(TopologyTestDriver);

impl Bench {
    fn new() -> Self {
        let services: Arc<dyn Services> = Arc::new(Simulated::flawless(1));
        let builder = StreamsBuilder::new();
        topology::topology(&builder, &services);
        let topology = builder.build().expect("the topology has no mistakes");
        Self(TopologyTestDriver::new(&topology).expect("it starts"))
    }

    fn command(&mut self, topic: &str, key: &str, kind: &str, payload: Value) {
        let document = json!({"id": Uuid::from_u128(5), "type": kind, "aggregateId": "o",
            "payload": payload,
            "metadata": {"correlationId": Uuid::from_u128(6), "timestamp": 1}});
        let (key, value) = (Some(key.as_bytes()), document.to_string());
        let piped = self.0.pipe(topic, key, Some(value.as_bytes()), 1, Headers::empty());
        piped.expect("it goes on");
    }
}

#[test]
fn a_reply_names_its_command_and_a_repeat_has_the_same_id() {
    let mut bench = Bench::new();
    let payload = json!({"customerId": "c", "amount": 3.5});
    for _ in 0..2 {
        bench.command(&PAYMENT_COMMANDS.name, "o", "ChargePayment", payload.clone());
        bench.0.restart().expect("it starts");
    }
    let replies = bench.0.take(&FULFILLMENT_REPLIES.name);
    let read = |value: &Option<Vec<u8>>| -> Value {
        serde_json::from_slice(value.as_deref().expect("a document")).expect("json")
    };
    let (first, again) = (read(&replies[0].value), read(&replies[1].value));
    assert_eq!(first["eventType"], "payment.charged");
    assert_eq!(first["metadata"]["causationId"], json!(Uuid::from_u128(5)));
    assert_eq!(first["metadata"]["correlationId"], json!(Uuid::from_u128(6)));
    assert_eq!(first["eventId"], again["eventId"]);
    assert_eq!(replies[0].key.as_deref(), Some(&b"o"[..]));
}

#[test]
fn commands_that_nobody_knows_cannot_be_read_or_lie_elsewhere_are_dead_letters() {
    let mut bench = Bench::new();
    let topic = &INVENTORY_COMMANDS;
    bench.command(&topic.name, "o", "CountInventory", json!({}));
    bench.command(&topic.name, "o", "ReserveInventory", json!({"items": []}));
    bench.command(&topic.name, "another", "ReleaseInventory", json!({}));
    assert_eq!(bench.0.take(&topic.dead_letters().name).len(), 3);
    assert!(bench.0.take(&FULFILLMENT_REPLIES.name).is_empty());
    assert!(bench.0.rows(topology::STORE).is_empty());
}

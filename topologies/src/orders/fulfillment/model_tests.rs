//! Random traces of many sagas at once: the topology, restarted and moved, against sagas in a plain
//! map with a plain clock; and under simulated faults, where every saga ends once for each time it
//! is begun or revoked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use headwater::dsl::StreamsBuilder;
use headwater::record::Headers;
use headwater::serde::kafka_streams::partition_for;
use headwater::testing::{Input, Inputs, Outcome, simulate};
use headwater_schemas::commands::{OrderCommand, Request};
use headwater_schemas::envelope::DomainEvent;
use headwater_schemas::topics::{
    INVENTORY_COMMANDS, ORDER_COMMANDS, ORDERS, PAYMENT_COMMANDS, SHIPPING_COMMANDS,
};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::{Value, json};
use uuid::Uuid;

use super::topology::tests::{document, driver, place};
use super::topology::{STORE, event_time, topology};
use super::*;

const IDS: [&str; 4] = ["o", "p", "q", "r"];

/// Short ones, so that a trace sees many of them.
fn options() -> FulfillmentOptions {
    let saga =
        Timing { backoff_ms: 50, backoff_max_ms: 200, compensation_ms: 300, ..Timing::default() };
    FulfillmentOptions { step_ms: 400, attempts: 3, saga }
}

/// What happens next to some order. `asked` says what its saga waits for; a reply answers that, or
/// something else.
fn event(
    draw: &mut dyn FnMut(u64) -> u64,
    asked: &dyn Fn(&str) -> Option<Uuid>,
) -> (&'static str, Value) {
    let mut pick = |words: &[&'static str]| {
        let count = u64::try_from(words.len()).expect("few");
        words[usize::try_from(draw(count)).expect("few")]
    };
    let order = pick(&IDS);
    let kind = pick(&[
        "OrderCreated",
        "OrderCreated",
        "inventory.reserved",
        "inventory.reserved",
        "inventory.reserved",
        "inventory.reservation-failed",
        "inventory.released",
        "payment.charged",
        "payment.charged",
        "payment.charged",
        "payment.failed",
        "payment.refunded",
        "shipment.created",
        "shipment.created",
        "shipment.created",
        "shipment.failed",
        "shipment.cancelled",
        "compensation.failed",
        "OrderConfirmed",
        "OrderConfirmed",
        "OrderConfirmed",
        "OrderCancelled",
    ]);
    let command = pick(&["ReleaseInventory", "RefundPayment", "CancelShipment", "Sing"]);
    let retryable = pick(&["yes", "yes", "no"]) == "yes";
    let cause = match draw(4) {
        0 => Some(Uuid::from_u128(draw(3).into())),
        _ => asked(order),
    };
    let data = match kind {
        "OrderCreated" => {
            json!({"customerId": "c", "items": [{"productId": "p", "quantity": 1, "price": 2}]})
        }
        "OrderConfirmed" => json!({"confirmedAt": 1}),
        "OrderCancelled" => json!({"reason": "mind", "cancelledAt": 1}),
        "payment.charged" => json!({"orderId": order, "paymentId": "pay", "amount": 2}),
        "shipment.created" => json!({"orderId": order, "shipmentId": "box"}),
        "compensation.failed" => json!({"orderId": order, "command": command, "reason": "stuck"}),
        "payment.failed" | "shipment.failed" | "inventory.reservation-failed" => {
            json!({"orderId": order, "reason": "r", "retryable": retryable})
        }
        _ => json!({"orderId": order}),
    };
    (order, document(order, kind, &data, cause))
}

fn kind(document: &Value) -> &str {
    document["eventType"].as_str().unwrap_or_default()
}

/// Sagas in a map, and the time.
struct Model {
    saga: FulfillmentSaga,
    sagas: BTreeMap<String, FulfillmentRecord>,
    now: i64,
    emitted: usize,
}

impl Model {
    fn take(&mut self, order: &str, document: &Value) {
        let event = DomainEvent::parse(document.to_string().as_bytes()).expect("an event");
        let payload = Event::of(&event).expect("a payload");
        let event = PlatformEvent { event, payload };
        let before = self.sagas.remove(order);
        let (after, reaction) = take(&self.saga, before, &event, event_time(self.now));
        self.emitted += reaction.emitted.len();
        self.sagas.extend(after.map(|after| (order.to_owned(), after)));
    }

    fn wait(&mut self, ms: i64) {
        self.now += ms;
        let now = event_time(self.now);
        loop {
            let due =
                |record: &FulfillmentRecord| self.saga.due(record).is_some_and(|at| at <= now);
            let found = self.sagas.iter().find(|(_, record)| due(record));
            let Some(key) = found.map(|(key, _)| key.clone()) else { return };
            let before = self.sagas.remove(&key).expect("just found");
            let (after, reaction) = self.saga.tick(before, now);
            self.emitted += reaction.emitted.len();
            self.sagas.extend(after.map(|after| (key, after)));
        }
    }
}

#[test]
fn random_traces_of_many_sagas_leave_what_plain_sagas_in_a_map_leave() {
    let options = options();
    let mut ends = BTreeMap::<_, usize>::new();
    for seed in 0..60 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut driver = driver(&options);
        let mut model = Model { saga: saga(&options), sagas: BTreeMap::new(), now: 0, emitted: 0 };
        for step in 0..150 {
            match rng.random_range(0..20) {
                0..=2 => {
                    let ms = rng.random_range(0..300);
                    driver.advance_wall_clock(Duration::from_millis(ms)).expect("it goes on");
                    model.wait(i64::try_from(ms).expect("small"));
                }
                3 if step % 2 == 0 => driver.restart().expect("it starts"),
                3 => driver.move_task().expect("it starts"),
                _ => {
                    let asked = |id: &str| model.sagas.get(id).and_then(|saga| saga.data.asked);
                    let (order, document) = event(&mut |below| rng.random_range(0..below), &asked);
                    let (topic, _) = place(kind(&document));
                    let value = document.to_string();
                    let (key, value) = (Some(order.as_bytes()), Some(value.as_bytes()));
                    driver.pipe(&topic.name, key, value, 1, Headers::empty()).expect("it goes on");
                    model.take(order, &document);
                }
            }
            let found: BTreeMap<String, FulfillmentRecord> = driver
                .rows(STORE)
                .into_iter()
                .map(|row| {
                    let key = String::from_utf8(row.key).expect("text");
                    (key, serde_json::from_slice(&row.value).expect("a row"))
                })
                .collect();
            assert_eq!(found, model.sagas, "seed {seed}, step {step}");
        }
        // Silence: by their deadlines alone, all come to an end.
        for _ in 0..40 {
            driver.advance_wall_clock(Duration::from_millis(200)).expect("it goes on");
            model.wait(200);
        }
        assert!(model.sagas.values().all(|saga| saga.state.is_final()), "seed {seed}");
        assert_eq!(driver.rows(STORE).len(), model.sagas.len(), "seed {seed}");
        assert!(model.emitted > 5, "seed {seed} tells something");
        for saga in model.sagas.values() {
            *ends.entry(format!("{:?}", saga.state)).or_default() += 1;
        }
    }
    assert!(ends["Completed"] > 10 && ends["Failed"] > 50, "{ends:?}");
}

fn inputs(inputs: &mut Inputs) {
    for _ in 0..inputs.draw(60..140) {
        let (order, document) = event(&mut |below| inputs.draw(0..below), &|_| None);
        let partition = partition_for(order.as_bytes(), inputs.partitions());
        inputs.push(Input {
            topic: (&*place(kind(&document)).0.name).into(),
            partition,
            timestamp: 1_767_607_200_000,
            key: Some(order.as_bytes().to_vec()),
            value: Some(document.to_string().into_bytes()),
        });
    }
}

/// Each order that was created has one saga; each saga has ended or waits for a time to come; each
/// command was told once; an order is cancelled by its saga once at most, and only by one that failed.
fn check(outcome: &Outcome<'_>) -> Result<(), String> {
    let mut created = BTreeSet::new();
    for input in outcome.inputs().iter().filter(|input| *input.topic == *ORDERS.name) {
        let event = DomainEvent::parse(input.value.as_deref().unwrap_or_default())
            .map_err(|error| error.to_string())?;
        if event.event_type == "OrderCreated" {
            created.insert(event.aggregate_id);
        }
    }
    let mut sagas = BTreeMap::new();
    for partition in 0..3 {
        for (key, value) in outcome.rows(STORE, partition).into_iter().flatten() {
            let saga: FulfillmentRecord =
                serde_json::from_slice(value).map_err(|error| error.to_string())?;
            sagas.insert(String::from_utf8_lossy(key).into_owned(), saga);
        }
    }
    let known: BTreeSet<_> = sagas.keys().cloned().collect();
    if known != created {
        return Err(format!("sagas {known:?}, created {created:?}"));
    }
    let (mut ids, mut cancels) = (BTreeSet::new(), BTreeMap::new());
    for topic in [&INVENTORY_COMMANDS, &PAYMENT_COMMANDS, &SHIPPING_COMMANDS, &ORDER_COMMANDS] {
        for record in outcome.records(&topic.name).into_iter().flatten() {
            let bytes = record.value.as_deref().unwrap_or_default();
            let command: Value =
                serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
            if !ids.insert(command["id"].to_string()) {
                return Err(format!("{command} twice"));
            }
            if let Ok(command) = OrderCommand::parse(bytes)
                && command.request.command_type() == "CancelOrder"
            {
                *cancels.entry(command.aggregate_id).or_insert(0) += 1;
            }
        }
    }
    for (order, saga) in &sagas {
        let told = cancels.get(order).copied().unwrap_or(0);
        let failed = saga.error.is_some() && saga.state != crate::saga::SagaState::Completed;
        if told > usize::from(failed) {
            return Err(format!("{order} is {:?} and was cancelled {told} times", saga.state));
        }
        if !saga.state.is_final() && saga.deadline.is_none() && saga.retry_at.is_none() {
            return Err(format!("saga {order} waits for nothing"));
        }
    }
    Ok(())
}

#[test]
fn whatever_goes_wrong_each_order_has_one_saga_and_each_command_is_told_once() {
    let builder = StreamsBuilder::new();
    topology(&builder, &options());
    let topology = builder.build().expect("the topology has no mistakes");
    let simulation =
        simulate(&topology, 1..=16).named("order-fulfillment").inputs(inputs).check(check);
    let report = simulation.run().unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(report.seeds, 16);
    assert!(report.met.values().sum::<u64>() > 100, "{:?}", report.met);
}

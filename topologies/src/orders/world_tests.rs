//! Every topology of orders at once, stepped by hand, with services of a seed, records that come
//! twice, and tasks that are restarted and moved: each order ends as a plain model says, in both
//! forms of the flow, and every view says so.

use std::collections::BTreeMap;
use std::time::Duration;

use headwater::query::{NewRecord, Parameters, Route};
use headwater::record::Headers;
use headwater::testing::TopologyTestDriver;
use headwater_schemas::commands::ServiceRequest;
use headwater_schemas::events::order::Money;
use headwater_schemas::topics::{
    API_RESPONSES, FULFILLMENT_REPLIES, INVENTORY_COMMANDS, PAYMENT_COMMANDS, SHIPPING_COMMANDS,
    Topic,
};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::{Value, json};
use uuid::Uuid;

use super::aggregate::OrderRow;
use super::fulfillment::{self, FulfillmentOptions, FulfillmentRecord};
use super::services::ledger::{Hold, Ledger};
use super::services::{self, Say, Services, Simulated};
use super::view::OrderFold;
use super::*;
use crate::saga::Timing;

const TOPICS: [&Topic; 6] = [
    &ORDER_COMMANDS,
    &ORDERS,
    &INVENTORY_COMMANDS,
    &PAYMENT_COMMANDS,
    &SHIPPING_COMMANDS,
    &FULFILLMENT_REPLIES,
];

/// Which applications read a topic, in either form.
fn readers(topic: &str) -> &'static [&'static str] {
    match topic {
        "order.commands" => &[AGGREGATE],
        "orders" => &[PROJECTION, fulfillment::topology::APPLICATION, choreography::APPLICATION],
        "fulfillment.replies" => &[fulfillment::topology::APPLICATION],
        _ => &[services::topology::APPLICATION],
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Orchestrated,
    Choreographed,
}

struct World {
    form: Form,
    drivers: BTreeMap<&'static str, TopologyTestDriver>,
    rng: ChaCha8Rng,
    sent: u128,
    now: i64,
}

impl World {
    fn new(form: Form, seed: u64, services: Simulated) -> Self {
        let saga = Timing { backoff_ms: 100, compensation_ms: 2_000, ..Timing::default() };
        let options = FulfillmentOptions { step_ms: 2_000, saga, ..FulfillmentOptions::default() };
        let mut drivers = BTreeMap::new();
        let mut applications = vec![aggregate_application(), projection_application()];
        match form {
            Form::Orchestrated => applications.extend(orchestrated(options, Arc::new(services))),
            Form::Choreographed => applications.push(choreographed(options, Arc::new(services))),
        }
        for application in applications {
            let builder = StreamsBuilder::new();
            (application.topology)(&builder);
            let topology = builder.build().expect("the topology has no mistakes");
            let driver = TopologyTestDriver::new(&topology).expect("it starts");
            drivers.insert(application.id, driver);
        }
        Self { form, drivers, rng: ChaCha8Rng::seed_from_u64(seed), sent: 0, now: 0 }
    }

    fn send(&mut self, record: &NewRecord) {
        for reader in readers(&record.topic) {
            let Some(driver) = self.drivers.get_mut(reader) else { continue };
            let (key, value) = (Some(&*record.key), Some(&*record.value));
            let piped = driver.pipe(&record.topic, key, value, self.now, &record.headers);
            piped.expect("it goes on");
        }
        self.settle();
    }

    fn place(&mut self, order: &str) {
        let items = json!([{"productId": "p", "quantity": 2, "price": 1.25}]);
        let body = json!({"orderId": order, "customerId": "c", "items": items});
        let asked = Parameters::default();
        let taken = intake::PlaceRoute.take(body.to_string().as_bytes(), &asked, self.now);
        self.send(&taken.expect("an order").records[0]);
    }

    fn command(&mut self, order: &str, kind: &str) {
        self.sent += 1;
        let id = Uuid::from_u128(self.sent);
        let payload = if kind == "CancelOrder" { json!({"reason": "mind"}) } else { json!({}) };
        let document = json!({"id": id, "type": kind, "aggregateId": order, "payload": payload,
            "metadata": {"correlationId": id, "timestamp": self.now}});
        self.send(&NewRecord {
            topic: ORDER_COMMANDS.name.to_string(),
            key: order.as_bytes().to_vec(),
            value: document.to_string().into_bytes(),
            timestamp: self.now,
            headers: Headers::new(),
        });
    }

    /// Carries records from writers to readers until there are none; one in eight comes twice.
    fn settle(&mut self) {
        let names: Vec<_> = self.drivers.keys().copied().collect();
        loop {
            let mut moved = false;
            for writer in &names {
                for topic in TOPICS {
                    let driver = self.drivers.get_mut(writer).expect("it runs");
                    drop(driver.take(&API_RESPONSES.name));
                    let letters = driver.take(&topic.dead_letters().name);
                    assert!(letters.is_empty(), "{letters:?}");
                    for record in driver.take(&topic.name) {
                        moved = true;
                        let times = 1 + u8::from(self.rng.random_range(0..8) == 0);
                        // A driver has read back what it wrote itself.
                        let others = readers(&topic.name).iter().filter(|reader| *reader != writer);
                        for reader in others {
                            let Some(driver) = self.drivers.get_mut(reader) else { continue };
                            let (key, value) = (record.key.as_deref(), record.value.as_deref());
                            for _ in 0..times {
                                let at = record.timestamp;
                                let piped =
                                    driver.pipe(&topic.name, key, value, at, &record.headers);
                                piped.expect("it goes on");
                            }
                        }
                    }
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn wait(&mut self, ms: u64) {
        self.now += i64::try_from(ms).expect("small");
        for driver in self.drivers.values_mut() {
            driver.advance_wall_clock(Duration::from_millis(ms)).expect("it goes on");
        }
        self.settle();
    }

    /// A process dies behind a commit, or hands its task over.
    fn disturb(&mut self) {
        let at = self.rng.random_range(0..self.drivers.len());
        let driver = self.drivers.values_mut().nth(at).expect("one of them");
        let done = if self.rng.random() { driver.restart() } else { driver.move_task() };
        done.expect("it starts");
    }

    /// Waits until no saga waits for anything.
    fn rest(&mut self) {
        for _ in 0..200 {
            let waits = |saga: &FulfillmentRecord| !saga.state.is_final();
            if self.form == Form::Choreographed || !self.sagas().values().any(waits) {
                return;
            }
            self.wait(250);
            if self.rng.random_range(0..4) == 0 {
                self.disturb();
            }
        }
        panic!("a saga does not end: {:?}", self.sagas());
    }

    fn rows<T: for<'de> serde::Deserialize<'de>>(
        &self,
        application: &str,
        store: &str,
    ) -> BTreeMap<String, T> {
        let rows = self.drivers[application].rows(store).into_iter();
        rows.map(|row| {
            let key = String::from_utf8(row.key).expect("text");
            (key, serde_json::from_slice(&row.value).expect("json"))
        })
        .collect()
    }

    fn sagas(&self) -> BTreeMap<String, FulfillmentRecord> {
        self.rows(fulfillment::topology::APPLICATION, fulfillment::topology::STORE)
    }

    /// What became of each order: its status, and what inventory, payment and shipping hold.
    fn outcomes(&self) -> BTreeMap<String, Outcome> {
        let services = match self.form {
            Form::Orchestrated => services::topology::APPLICATION,
            Form::Choreographed => choreography::APPLICATION,
        };
        let ledgers: BTreeMap<String, Ledger> = self.rows(services, services::topology::STORE);
        let views: BTreeMap<String, OrderFold> = self.rows(PROJECTION, STORE);
        let orders: BTreeMap<String, OrderRow> = self.rows(AGGREGATE, AGGREGATE_STORE);
        let outcome = |(id, row): (String, OrderRow)| {
            let order = row.order.expect("it exists");
            let view = views[&id].model.as_ref().expect("it is seen");
            assert_eq!((view.status, view.version), (order.status, order.version), "{id}");
            let ledger = &ledgers[&id];
            let parts = [ledger.inventory, ledger.payment, ledger.shipment];
            let held = parts.map(|part| part.hold == Hold::Held);
            (id, Outcome { status: order.status.word(), held })
        };
        orders.into_iter().map(outcome).collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    status: &'static str,
    held: [bool; 3],
}

/// An order and its services, in the plainest terms.
struct Model<'s> {
    services: &'s Simulated,
    id: &'s str,
    outcome: Outcome,
}

impl<'s> Model<'s> {
    fn place(services: &'s Simulated, id: &'s str) -> Self {
        let mut model =
            Self { services, id, outcome: Outcome { status: "pending", held: [false; 3] } };
        let asked = [
            ServiceRequest::ReserveInventory { items: vec![] },
            ServiceRequest::ChargePayment { customer_id: "c".into(), amount: Money::default() },
            ServiceRequest::CreateShipment { items: vec![] },
        ];
        for (at, request) in asked.iter().enumerate() {
            let mut tries = (1..=3).map(|attempt| services.ask(id, request, attempt));
            let said = tries.find(|said| matches!(said, Say::Yes | Say::No(_)));
            model.outcome.held[at] = said == Some(Say::Yes);
            if said != Some(Say::Yes) {
                model.call_off();
                return model;
            }
        }
        model.outcome.status = "confirmed";
        model
    }

    fn call_off(&mut self) {
        self.outcome.status = "cancelled";
        let undone = [
            ServiceRequest::ReleaseInventory,
            ServiceRequest::RefundPayment { payment_id: None },
            ServiceRequest::CancelShipment { shipment_id: None },
        ];
        for (at, request) in undone.iter().enumerate() {
            let released = self.services.ask(self.id, request, 1) == Say::Yes;
            self.outcome.held[at] &= !released;
        }
    }

    fn command(&mut self, kind: &str) {
        match (kind, self.outcome.status) {
            ("CancelOrder", "confirmed") => self.call_off(),
            ("ShipOrder", "confirmed") => self.outcome.status = "shipped",
            ("DeliverOrder", "shipped") => self.outcome.status = "delivered",
            _ => {}
        }
    }
}

#[test]
fn orders_end_as_a_plain_model_says_whether_a_saga_conducts_or_services_react() {
    let mut seen = BTreeMap::<_, usize>::new();
    for seed in 1..=6 {
        let services = Simulated { seed, refusals: 60, failures: 120, silences: 60, stuck: 100 };
        let ids: Vec<_> = (0..20).map(|number| format!("{seed}-{number}")).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let kinds = ["ConfirmOrder", "CancelOrder", "ShipOrder", "ShipOrder", "DeliverOrder"];
        let trace: Vec<_> = (0..40)
            .map(|_| (rng.random_range(0..ids.len()), kinds[rng.random_range(0..kinds.len())]))
            .collect();
        let mut models: Vec<_> = ids.iter().map(|id| Model::place(&services, id)).collect();
        for (at, kind) in &trace {
            models[*at].command(kind);
        }
        let expected: BTreeMap<_, _> =
            models.into_iter().map(|model| (model.id.to_owned(), model.outcome)).collect();
        for form in [Form::Orchestrated, Form::Choreographed] {
            let mut world = World::new(form, seed, services);
            for id in &ids {
                world.place(id);
                world.disturb();
            }
            world.rest();
            for (at, kind) in &trace {
                world.command(&ids[*at], kind);
                world.rest();
            }
            assert_eq!(world.outcomes(), expected, "{form:?}, seed {seed}");
        }
        for outcome in expected.into_values() {
            let whole = outcome.held.iter().all(|held| *held == outcome.held[0]);
            *seen.entry((outcome.status, whole)).or_default() += 1;
        }
    }
    for status in ["confirmed", "cancelled", "shipped", "delivered"] {
        assert!(seen.get(&(status, true)).is_some_and(|count| *count >= 3), "{status}: {seen:?}");
    }
    assert!(seen.contains_key(&("cancelled", false)), "something is stuck: {seen:?}");
}

#[test]
fn an_order_called_off_at_any_moment_keeps_nothing_and_one_that_is_not_keeps_everything() {
    let mut called_off = 0;
    for (seed, form) in
        (1..=8).flat_map(|seed| [(seed, Form::Orchestrated), (seed, Form::Choreographed)])
    {
        let services = Simulated { seed, refusals: 20, failures: 300, silences: 200, stuck: 0 };
        let mut world = World::new(form, seed, services);
        for number in 0..20 {
            world.place(&format!("o{number}"));
            let (ms, at) = (world.rng.random_range(0..900), world.rng.random_range(0..=number));
            world.wait(ms);
            if world.rng.random_range(0..3) == 0 {
                world.command(&format!("o{at}"), "CancelOrder");
            }
            world.disturb();
        }
        world.rest();
        for (id, outcome) in world.outcomes() {
            let is_kept = match outcome.status {
                "confirmed" => true,
                "cancelled" => false,
                other => panic!("{form:?}, seed {seed}: {id} is {other}"),
            };
            assert_eq!(outcome.held, [is_kept; 3], "{form:?}, seed {seed}: {id}");
            called_off += usize::from(!is_kept);
        }
    }
    assert!(called_off > 20, "{called_off}");
}

#[test]
fn a_choreographed_order_is_announced_once_however_often_it_is_created() {
    let mut world = World::new(Form::Choreographed, 1, Simulated::flawless(1));
    world.place("o");
    let driver = world.drivers.get_mut(choreography::APPLICATION).expect("it runs");
    let again = json!({
        "eventId": Uuid::from_u128(1), "eventType": "OrderCreated", "aggregateId": "o",
        "aggregateType": "Order",
        "eventData": {"customerId": "c", "items": [{"productId": "p", "quantity": 1, "price": 1}]},
        "metadata": {"timestamp": 1, "version": "1.0", "correlationId": Uuid::from_u128(2),
                     "sequence": 1},
    });
    let mut foreign = again.clone();
    foreign["aggregateId"] = Value::from("another");
    for document in [&again, &foreign] {
        let value = document.to_string();
        let (key, value) = (Some(&b"o"[..]), Some(value.as_bytes()));
        driver.pipe(&ORDERS.name, key, value, 1, Headers::empty()).expect("it goes on");
    }
    assert!(driver.take(&ORDERS.name).is_empty());
    assert_eq!(driver.take(&ORDERS.dead_letters().name).len(), 1, "under another key");
}

//! Orders: keyed, joined, repartitioned and windowed, some of them late.
//!
//! Where the order of records is the run's own choice (several tasks write into one repartition
//! partition) the log's order is taken as given, after a check that it is one of the orders that
//! were possible: each source partition's records in order, each once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use headwater::dsl::{
    Consumed, Grouped, Joined, Materialized, Produced, StreamsBuilder, TimeWindows,
};
use headwater::log::sim::SimRecord;
use headwater::serde::kafka_streams::time_windowed;
use headwater::serde::serdes::{i64, string};
use headwater::testing::simulation::StoreRows;
use headwater::testing::{Input, Inputs, Outcome, Simulation, simulate};
use headwater::topology::Topology;

use crate::compare::{Timed, maps, number, rows, sequences, stored, text, verdict};
use crate::{PARTITIONS, START_MS};

const NAME: &str = "orders";
const HOMES: &str = "homes";
const ORDERS: &str = "orders";
const TOTALS: &str = "totals";
const REGIONS: &str = "regions";
const REPARTITION: &str = "orders-by-region-repartition";
const TOTALS_CHANGELOG: &str = "orders-orders-per-user-changelog";
const WINDOW_MS: i64 = 10_000;
const GRACE_MS: i64 = 5_000;
const USERS: u32 = 9;
const REGIONS_COUNT: u32 = 4;
const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn simulation() -> Simulation {
    simulate(&topology(), 1..=1).named(NAME).partitions(PARTITIONS).inputs(inputs).check(check)
}

/// Orders per user; and orders per region of their users, in windows.
fn topology() -> Arc<Topology> {
    let builder = StreamsBuilder::new();
    let orders = builder.stream(ORDERS, Consumed::with(string(), i64()));
    orders
        .group_by_key(Grouped::with("by-user", string(), i64()))
        .count(Materialized::count("orders-per-user"))
        .to_stream()
        .map_values(|_, count| count.unwrap_or(0))
        .to(TOTALS, Produced::with(string(), i64()));
    let homes = builder.table(HOMES, Consumed::with(string(), string()));
    let windows = TimeWindows::tumbling(millis(WINDOW_MS), millis(GRACE_MS));
    orders
        .join(homes, |_, id, home| (home.clone(), *id), Joined::with("homes", string(), i64()))
        .map(|_, (home, id)| (home.clone(), *id))
        .group_by_key(Grouped::with("by-region", string(), i64()))
        .windowed_by(windows)
        .count(Materialized::count("orders-per-region").retention(DAY))
        .to_stream()
        .map_values(|_, count| count.unwrap_or(0))
        .to(REGIONS, Produced::with(time_windowed(string(), WINDOW_MS), i64()));
    builder.build().expect("the topology is sound")
}

fn millis(time: i64) -> Duration {
    Duration::from_millis(u64::try_from(time).expect("a positive time"))
}

// ---- what arrives ------------------------------------------------------------------------------

fn inputs(inputs: &mut Inputs) {
    for user in 0..USERS {
        inputs.push(Input {
            topic: HOMES.into(),
            partition: user % PARTITIONS,
            timestamp: 0,
            key: Some(format!("user-{user}").into_bytes()),
            value: Some(region(&format!("user-{user}")).into_bytes()),
        });
    }
    inputs.settle();
    let mut id: i64 = 0;
    for chunk in 0..inputs.draw(20..40) {
        let partition = small(inputs.draw(0..u64::from(PARTITIONS)));
        for _ in 0..inputs.draw(1..10) {
            let user =
                partition + PARTITIONS * small(inputs.draw(0..u64::from(USERS / PARTITIONS)));
            let late = if inputs.draw(0..5) == 0 { inputs.draw(10_000..60_000) } else { 0 };
            let after = 60_000 + chunk * 4_000 + inputs.draw(0..4_000) - late;
            id += 1;
            inputs.push(Input {
                topic: ORDERS.into(),
                partition,
                timestamp: START_MS + i64::try_from(after).expect("a small time"),
                key: Some(format!("user-{user}").into_bytes()),
                value: Some(id.to_be_bytes().to_vec()),
            });
        }
    }
}

fn small(number: u64) -> u32 {
    u32::try_from(number).expect("a small number")
}

/// Where a user lives.
fn region(user: &str) -> String {
    let user: u32 = user["user-".len()..].parse().expect("a user's name ends with his number");
    format!("region-{}", (user * 7 + user / 4) % REGIONS_COUNT)
}

// ---- what must have come of it -----------------------------------------------------------------

/// One order.
struct Order {
    id: i64,
    user: String,
    timestamp: i64,
    partition: u32,
}

fn order(input: &Input) -> Order {
    Order {
        id: number(input.value.as_deref()),
        user: text(input.key.as_deref()),
        timestamp: input.timestamp,
        partition: input.partition,
    }
}

fn check(outcome: &Outcome<'_>) -> Result<(), String> {
    let arrived = outcome.inputs().iter().filter(|input| *input.topic == *ORDERS);
    let orders: Vec<Order> = arrived.map(order).collect();
    let mut wrong = Vec::new();
    let totals = totals(&orders);
    maps(TOTALS, &totals, &sequences(outcome, TOTALS), &mut wrong);
    let repartitioned = outcome.records(REPARTITION);
    compare_repartition(&orders, &repartitioned, &mut wrong);
    let regions = regions(&repartitioned);
    maps(REGIONS, &regions, &sequences(outcome, REGIONS), &mut wrong);

    let found = rows(outcome, "orders-per-user", &mut wrong);
    maps("orders-per-user", &last(&totals), &found, &mut wrong);
    let found = rows(outcome, "orders-per-region", &mut wrong);
    let found = found.into_iter().map(|(key, row)| (window_key(&key), row)).collect();
    maps("orders-per-region", &last(&regions), &found, &mut wrong);
    let mut changelog = StoreRows::new();
    for record in outcome.records(TOTALS_CHANGELOG).into_iter().flatten() {
        let (key, value) = (record.key.unwrap_or_default(), number(record.value.as_deref()));
        changelog.insert(key, stored((value, record.timestamp)));
    }
    maps(TOTALS_CHANGELOG, &last(&totals), &changelog, &mut wrong);
    verdict(wrong)
}

fn last(all: &BTreeMap<Vec<u8>, Vec<Timed>>) -> StoreRows {
    let last = |(key, counts): (&Vec<u8>, &Vec<Timed>)| {
        counts.last().map(|counted| (key.clone(), stored(*counted)))
    };
    all.iter().filter_map(last).collect()
}

/// The counts that each user must have had, one after the other.
fn totals(orders: &[Order]) -> BTreeMap<Vec<u8>, Vec<Timed>> {
    let mut totals: BTreeMap<Vec<u8>, Vec<Timed>> = BTreeMap::new();
    for order in orders {
        count(totals.entry(order.user.clone().into_bytes()).or_default(), order.timestamp);
    }
    totals
}

/// A row's time never goes back.
fn count(counts: &mut Vec<Timed>, timestamp: i64) {
    let (count, time) = counts.last().copied().unwrap_or((0, timestamp));
    counts.push((count + 1, time.max(timestamp)));
}

/// Every order is in the repartition topic once, at its time, in the partition of its region, and
/// those of one source partition are in order.
fn compare_repartition(orders: &[Order], found: &[Vec<SimRecord>], wrong: &mut Vec<String>) {
    type Sequences = BTreeMap<(String, u32), Vec<(i64, i64)>>;
    let mut expected = Sequences::new();
    for order in orders {
        let sequence = expected.entry((region(&order.user), order.partition)).or_default();
        sequence.push((order.id, order.timestamp));
    }
    let sources: BTreeMap<i64, u32> = orders.iter().map(|o| (o.id, o.partition)).collect();
    let mut seen = Sequences::new();
    let mut places: BTreeMap<String, u32> = BTreeMap::new();
    for (partition, records) in (0..PARTITIONS).zip(found) {
        for record in records {
            let region = text(record.key.as_deref());
            let id = number(record.value.as_deref());
            if *places.entry(region.clone()).or_insert(partition) != partition {
                wrong.push(format!("{region} is in two partitions"));
            }
            let Some(source) = sources.get(&id) else {
                wrong.push(format!("order {id} does not exist"));
                continue;
            };
            seen.entry((region, *source)).or_default().push((id, record.timestamp));
        }
    }
    maps("the repartition topic", &expected, &seen, wrong);
}

/// The counts that each region and window must have had, given the repartition topic.
fn regions(repartitioned: &[Vec<SimRecord>]) -> BTreeMap<Vec<u8>, Vec<Timed>> {
    let mut regions: BTreeMap<Vec<u8>, Vec<Timed>> = BTreeMap::new();
    for records in repartitioned {
        let mut stream_time = i64::MIN;
        for record in records {
            stream_time = stream_time.max(record.timestamp);
            let start = record.timestamp - record.timestamp.rem_euclid(WINDOW_MS);
            if start + WINDOW_MS + GRACE_MS <= stream_time {
                continue;
            }
            let mut key = record.key.clone().expect("a region");
            key.extend_from_slice(&start.to_be_bytes());
            count(regions.entry(key).or_default(), record.timestamp);
        }
    }
    regions
}

/// A window store's key is `segment | key | start | sequence`; of it key and start.
fn window_key(store_key: &[u8]) -> Vec<u8> {
    store_key[8..store_key.len() - 4].to_vec()
}

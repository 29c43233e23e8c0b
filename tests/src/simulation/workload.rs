//! What simulated runs work on: a topology that is keyed, joined, repartitioned and windowed, and
//! orders for it by seed, some of them late.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use headwater::dsl::{
    Consumed, Grouped, Joined, Materialized, Produced, StreamsBuilder, TimeWindows,
};
use headwater::record::{Headers, RecordBatch, RecordBatchBuilder, TopicPartition};
use headwater::serde::kafka_streams::time_windowed;
use headwater::serde::serdes::{i64, string};
use headwater::topology::Topology;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(super) const PARTITIONS: u32 = 3;
pub(super) const HOMES: &str = "homes";
pub(super) const ORDERS: &str = "orders";
pub(super) const TOTALS: &str = "totals";
pub(super) const REGIONS: &str = "regions";
pub(super) const REPARTITION: &str = "sim-by-region-repartition";
pub(super) const TOTALS_CHANGELOG: &str = "sim-orders-per-user-changelog";
pub(super) const WINDOW_MS: i64 = 10_000;
pub(super) const GRACE_MS: i64 = 5_000;
const USERS: u32 = 9;
const REGIONS_COUNT: u32 = 4;
const DAY: Duration = Duration::from_secs(86_400);

/// Topics that are not the application's own.
pub(super) fn topics() -> [&'static str; 4] {
    [HOMES, ORDERS, TOTALS, REGIONS]
}

/// Orders per user; and orders per region of their users, in windows.
pub(super) fn topology() -> Arc<Topology> {
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

/// One order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Unique.
    pub id: i64,
    /// Who ordered.
    pub user: String,
    /// Where the user lives.
    pub region: String,
    /// When, in milliseconds.
    pub timestamp: i64,
    /// Where it lies in the topic.
    pub partition: u32,
}

/// The input of one run.
pub(super) struct Workload {
    /// Every order that was appended, in order.
    pub(super) orders: Vec<Order>,
    left: VecDeque<Vec<Order>>,
}

impl Workload {
    pub(super) fn new(seed: u64, start_ms: i64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x6f72_6465_7273);
        let mut left: VecDeque<Vec<Order>> = VecDeque::new();
        for chunk in 0..rng.random_range(8..20) {
            let partition = rng.random_range(0..PARTITIONS);
            let order = |rng: &mut ChaCha8Rng| {
                let user = partition + PARTITIONS * rng.random_range(0..USERS / PARTITIONS);
                let late = match rng.random_range(0..5) {
                    0 => rng.random_range(10_000..60_000),
                    _ => 0,
                };
                let at = start_ms + 60_000 + chunk * 4_000 + rng.random_range(0..4_000) - late;
                let region = region(user);
                Order { id: 0, user: format!("user-{user}"), region, timestamp: at, partition }
            };
            let count = rng.random_range(1..10);
            left.push_back((0..count).map(|_| order(&mut rng)).collect::<Vec<_>>());
        }
        for (order, id) in left.iter_mut().flatten().zip(1..) {
            order.id = id;
        }
        Self { orders: Vec::new(), left }
    }

    /// Where everybody lives.
    pub(super) fn homes(&self) -> Vec<(TopicPartition, RecordBatch)> {
        (0..PARTITIONS)
            .map(|partition| {
                let mut batch = RecordBatchBuilder::new();
                for user in (0..USERS).filter(|user| user % PARTITIONS == partition) {
                    let (key, value) = (format!("user-{user}"), region(user));
                    let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
                    batch.append(0, key, value, Headers::empty()).expect("small");
                }
                (TopicPartition::new(HOMES, partition), placed(batch))
            })
            .collect()
    }

    pub(super) fn has_more(&self) -> bool {
        !self.left.is_empty()
    }

    /// The next few orders, all for one partition.
    pub(super) fn next_orders(&mut self) -> Option<(TopicPartition, RecordBatch)> {
        let orders = self.left.pop_front()?;
        let mut batch = RecordBatchBuilder::new();
        for order in &orders {
            let (key, value) = (order.user.as_bytes(), order.id.to_be_bytes());
            batch
                .append(order.timestamp, Some(key), Some(&value), Headers::empty())
                .expect("small");
        }
        let to = TopicPartition::new(ORDERS, orders[0].partition);
        self.orders.extend(orders);
        Some((to, placed(batch)))
    }
}

fn region(user: u32) -> String {
    format!("region-{}", (user * 7 + user / 4) % REGIONS_COUNT)
}

fn placed(batch: RecordBatchBuilder) -> RecordBatch {
    RecordBatch::new(0, batch.finish()).expect("just built")
}

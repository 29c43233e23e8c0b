//! A keyed, windowed, joined application for crashes: orders joined with customers, counted and
//! summed per customer within windows, and per region behind a repartition topic. What it must have
//! written is [`crate::checker::joined`]'s business, which shares no code with it.

use std::time::Duration;

use headwater::dsl::{Consumed, Grouped, Joined, KGroupedStream, Materialized, Produced};
use headwater::dsl::{StreamsBuilder, TimeWindows};
use headwater::serde::serdes::{json, optional, string};
use serde::{Deserialize, Serialize};

/// A row of `customers`, keyed by customer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Customer {
    /// Where they live.
    pub region: String,
}

/// A record of `orders`, keyed by customer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// What it costs.
    pub amount: i64,
}

/// An order with its customer's region.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sale {
    /// Where the customer lives.
    pub region: String,
    /// What it costs.
    pub amount: i64,
}

/// Sales of one key in one window.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sum {
    /// How many.
    pub count: u64,
    /// What they cost together.
    pub sum: i64,
}

/// The application id.
pub const APPLICATION: &str = "joined";
/// The table's topic.
pub const CUSTOMERS: &str = "customers";
/// The stream's topic.
pub const ORDERS: &str = "orders";
/// Store of the windows of customers, and the topic that tells them on commit.
pub const BY_CUSTOMER: &str = "sales-by-customer";
/// Store of the windows of regions, and the topic that tells each update.
pub const BY_REGION: &str = "sales-by-region";
/// Length of all windows.
pub const WINDOW: Duration = Duration::from_secs(10);
/// Grace of customers' windows. Regions' windows never close: what passes a repartition topic comes
/// in an order that the input does not say.
pub const GRACE: Duration = Duration::from_secs(5);
const DAY: Duration = Duration::from_secs(86_400);

/// Adds the topology.
pub fn topology(b: &StreamsBuilder) {
    let customers = b.table(CUSTOMERS, Consumed::with(string(), json::<Customer>()));
    let sales = b.stream(ORDERS, Consumed::with(string(), json::<Order>())).join(
        customers,
        |_, order, customer| Sale { region: customer.region.clone(), amount: order.amount },
        Joined::with("with-region", string(), json()),
    );
    let by_customer = sales.group_by_key(Grouped::with("by-customer", string(), json()));
    let cached = Materialized::with(BY_CUSTOMER, json()).cached().retention(DAY);
    windowed(&by_customer, TimeWindows::tumbling(WINDOW, GRACE), cached, BY_CUSTOMER);
    let by_region = sales.group_by(
        |_, sale: &Sale| sale.region.clone(),
        Grouped::with("by-region", string(), json()),
    );
    let told_at_once = Materialized::with(BY_REGION, json());
    windowed(&by_region, TimeWindows::tumbling(WINDOW, DAY), told_at_once, BY_REGION);
}

/// Sums within windows, told under `<key>@<window start>`.
fn windowed(
    sales: &KGroupedStream<'_, String, Sale>,
    windows: TimeWindows,
    store: Materialized<Sum>,
    topic: &str,
) {
    sales
        .windowed_by(windows)
        .aggregate(
            Sum::default,
            |_, sale, sum| Sum { count: sum.count + 1, sum: sum.sum + sale.amount },
            store,
        )
        .to_stream()
        .map(|key, sum| (format!("{}@{}", key.key, key.window.start), sum.clone()))
        .to(topic, Produced::with(string(), optional(json())));
}

//! Order enrichment: what does each region order in each minute?
//!
//! ```text
//! customers (table) --------+
//! orders, by customer -> join -> by region (repartition) -> minutes -> sum -> region-revenue
//! ```

use std::time::Duration;

use headwater::dsl::{
    Consumed, Grouped, Joined, Materialized, Produced, StreamsBuilder, TimeWindows,
};
use headwater::serde::serdes::{i64, json, optional, string};
use serde::{Deserialize, Serialize};

/// An order, keyed by customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// What it is worth, in cents.
    pub cents: i64,
}

/// A customer, keyed by id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Customer {
    /// Where the customer lives.
    pub region: String,
}

/// Adds the topology to `b`.
pub fn topology(b: &StreamsBuilder) {
    let customers = b
        .table("customers", Consumed::with(string(), json::<Customer>()))
        .materialized(Materialized::with("customer-rows", json()));
    b.stream("orders", Consumed::with(string(), json::<Order>()))
        .join(
            customers,
            |_, order, customer| (customer.region.clone(), order.cents),
            Joined::with("orders-customers", string(), json()),
        )
        .map(|_, (region, cents)| (region.clone(), *cents))
        .group_by_key(Grouped::with("by-region", string(), i64()))
        .windowed_by(TimeWindows::tumbling(Duration::from_secs(60), Duration::from_secs(10)))
        .reduce(|sum, cents| sum.saturating_add(*cents), Materialized::with("revenue", i64()))
        .to_stream()
        .select_key(|region, _| format!("{}@{}", region.key, region.window.start))
        .to("region-revenue", Produced::with(string(), optional(i64())));
}

#[cfg(test)]
mod tests {
    use headwater::testing::{TestInput, TestOutput, TopologyTestDriver};

    use super::*;

    #[test]
    fn an_order_counts_for_the_region_its_customer_has_when_it_comes() {
        let b = StreamsBuilder::new();
        topology(&b);
        let mut driver =
            TopologyTestDriver::new(&b.build().expect("it is sound")).expect("it starts");
        let customers = TestInput::new("customers", string(), json());
        let orders = TestInput::new("orders", string(), json());
        let move_to = |driver: &mut _, region: &str| {
            let row = Customer { region: region.into() };
            customers.pipe(driver, &"ann".into(), &row, 0).expect("it is processed");
        };
        let order = |driver: &mut _, cents, time| {
            orders.pipe(driver, &"ann".into(), &Order { cents }, time).expect("it is processed");
        };
        order(&mut driver, 5, 1_000);
        move_to(&mut driver, "north");
        order(&mut driver, 10, 2_000);
        order(&mut driver, 20, 3_000);
        move_to(&mut driver, "south");
        order(&mut driver, 40, 4_000);
        let revenue = TestOutput::new("region-revenue", string(), optional(i64()));
        let seen: Vec<_> = revenue
            .read(&mut driver)
            .expect("it can be read")
            .into_iter()
            .map(|r| (r.key, r.value.unwrap_or(0)))
            .collect();
        let expected = [("north@0", 10), ("north@0", 30), ("south@0", 40)];
        assert_eq!(seen, expected.map(|(key, sum)| (key.to_owned(), sum)));
    }
}

//! Versioned tables, joins as of a time, and streams without duplicates.

use std::time::Duration;

use headwater::dsl::{Consumed, Deduplicated, Joined, Materialized, Produced, StreamsBuilder};
use headwater::serde::serdes::{i64, string};
use headwater::testing::{TestInput, TestOutput, TopologyTestDriver};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn driver(b: StreamsBuilder) -> TopologyTestDriver {
    TopologyTestDriver::new(&b.build().expect("it is sound")).expect("it starts")
}

fn put(driver: &mut TopologyTestDriver, topic: &str, value: i64, time: i64) {
    let input = TestInput::new(topic, string(), i64());
    input.pipe(driver, &"k".into(), &value, time).expect("it is processed");
}

fn out(driver: &mut TopologyTestDriver) -> Vec<(i64, i64)> {
    let read = TestOutput::new("out", string(), i64()).read(driver).expect("it can be read");
    read.into_iter().map(|r| (r.value, r.timestamp)).collect()
}

fn joining(grace: Option<Duration>) -> TopologyTestDriver {
    let b = StreamsBuilder::new();
    let prices = b
        .table("prices", Consumed::with(string(), i64()))
        .materialized(Materialized::with("history", i64()).versioned(ms(1_000)));
    let joined = Joined::with("priced", string(), i64());
    let joined = match grace {
        Some(grace) => joined.grace(grace),
        None => joined,
    };
    b.stream("orders", Consumed::with(string(), i64()))
        .join(prices, |_, n, price| n * price, joined)
        .to("out", Produced::with(string(), i64()));
    driver(b)
}

#[test]
fn a_join_with_a_versioned_table_finds_the_row_of_the_records_time() {
    let mut driver = joining(None);
    put(&mut driver, "prices", 10, 100);
    put(&mut driver, "prices", 20, 200);
    for time in [150, 250, 99] {
        put(&mut driver, "orders", 1, time);
    }
    assert_eq!(out(&mut driver), [(10, 150), (20, 250)]);
}

#[test]
fn a_join_with_grace_waits_for_rows_that_come_late_and_so_it_does_after_a_move() {
    let mut driver = joining(Some(ms(50)));
    put(&mut driver, "prices", 10, 100);
    put(&mut driver, "orders", 1, 220);
    put(&mut driver, "prices", 20, 200);
    driver.move_task().expect("it goes on");
    put(&mut driver, "orders", 1, 270);
    assert_eq!(out(&mut driver), [(20, 220)]);
}

#[test]
fn a_grace_period_needs_a_versioned_table() {
    let b = StreamsBuilder::new();
    let prices = b.table("prices", Consumed::with(string(), i64()));
    let joined = Joined::with("priced", string(), i64()).grace(ms(1));
    let orders = b.stream("orders", Consumed::with(string(), i64()));
    orders.join(prices, |_, n, price| n * price, joined).for_each(|_, _| ());
    let text = b.build().expect_err("it has a mistake").to_string();
    assert!(text.contains("its table keeps no versions"), "{text}");
}

#[test]
fn the_first_record_of_an_id_that_arrives_is_forwarded_and_a_restart_forgets_none() {
    let b = StreamsBuilder::new();
    let ids = Deduplicated::within("ids", ms(10), string(), i64(), i64());
    b.stream("in", Consumed::with(string(), i64()))
        .deduplicate(|_, id| *id, ids.grace(ms(100)))
        .to("out", Produced::with(string(), i64()));
    let mut driver = driver(b);
    for (id, time) in [(1, 50), (2, 51), (1, 60), (1, 40), (1, 61)] {
        put(&mut driver, "in", id, time);
        driver.restart().expect("it goes on");
    }
    // 60 and 40 are within 10 of 50; 61 is not, and the duplicate at 60 did not prolong it.
    assert_eq!(out(&mut driver), [(1, 50), (2, 51), (1, 61)]);
    put(&mut driver, "in", 3, 200);
    put(&mut driver, "in", 4, 99);
    assert_eq!(out(&mut driver), [(3, 200)], "99 is more than the grace behind 200");
}

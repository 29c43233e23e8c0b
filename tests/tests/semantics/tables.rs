//! Tables: tombstones, old values, joins of materialised and unmaterialised tables.

use headwater::dsl::{
    Consumed, Joined, KTable, Materialized, Produced, StreamsBuilder, TableJoined,
};
use headwater::serde::serdes::{i64, optional, string};
use headwater::testing::{TestInput, TestOutput, TopologyTestDriver};

fn run(
    topology: impl Fn(&StreamsBuilder),
    input: &[(&str, &str, Option<i64>)],
) -> Vec<(String, Option<i64>)> {
    let b = StreamsBuilder::new();
    topology(&b);
    let mut driver = TopologyTestDriver::new(&b.build().expect("it is sound")).expect("it starts");
    for (time, (topic, key, value)) in (1..).zip(input) {
        TestInput::new(topic, string(), optional(i64()))
            .pipe(&mut driver, &(*key).to_owned(), value, time)
            .expect("it is processed");
    }
    let output = TestOutput::new("out", string(), optional(i64()));
    let read = output.read(&mut driver).expect("it can be read");
    read.into_iter().map(|r| (r.key, r.value)).collect()
}

fn source<'b>(b: &'b StreamsBuilder, topic: &str) -> KTable<'b, String, i64> {
    b.table(topic, Consumed::with(string(), i64()))
}

fn out(table: KTable<'_, String, i64>) {
    table.to_stream().to("out", Produced::with(string(), optional(i64())));
}

fn pairs(expected: &[(&str, Option<i64>)]) -> Vec<(String, Option<i64>)> {
    expected.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect()
}

const FILTERED: [(&str, &str, Option<i64>); 4] =
    [("t", "a", Some(1)), ("t", "a", Some(20)), ("t", "a", Some(2)), ("t", "a", None)];

#[test]
fn a_row_that_stops_matching_becomes_a_tombstone_and_no_other_rejection_shows() {
    let seen = run(
        |b| {
            let kept = source(b, "t").materialized(Materialized::with("t-store", i64()));
            out(kept.filter(|_, n| *n >= 10));
        },
        &FILTERED,
    );
    assert_eq!(seen, pairs(&[("a", Some(20)), ("a", None)]));
}

#[test]
fn a_filter_that_knows_no_old_values_forwards_every_rejection() {
    let seen = run(|b| out(source(b, "t").filter(|_, n| *n >= 10)), &FILTERED);
    assert_eq!(seen, pairs(&[("a", None), ("a", Some(20)), ("a", None), ("a", None)]));
}

#[test]
fn tables_that_are_not_materialised_join_through_filters_and_mappings() {
    let seen = run(
        |b| {
            let left = source(b, "l").map_values(|_, n| n * 10);
            let right = source(b, "r").filter(|_, n| *n > 0);
            out(left.join(right, |l, r| l + r, TableJoined::named("sum")));
        },
        &[
            ("l", "a", Some(1)),
            ("r", "a", Some(2)),
            ("l", "a", Some(3)),
            ("r", "a", Some(-1)),
            ("r", "a", Some(5)),
            ("l", "a", None),
        ],
    );
    // The rejected right row is a tombstone: whether there was a result before is not known.
    let expected = [12, 32, 0, 35, 0].map(|n| ("a", Some(n).filter(|n| *n != 0)));
    assert_eq!(seen, pairs(&expected));
}

#[test]
fn a_join_of_joins_looks_rows_up_through_the_inner_join() {
    let seen = run(
        |b| {
            let ab = source(b, "x").join(source(b, "y"), |x, y| x + y, TableJoined::named("xy"));
            out(ab.join(source(b, "z"), |xy, z| xy * z, TableJoined::named("xyz")));
        },
        &[("x", "k", Some(1)), ("y", "k", Some(2)), ("z", "k", Some(10)), ("x", "k", Some(4))],
    );
    assert_eq!(seen, pairs(&[("k", Some(30)), ("k", Some(60))]));
}

#[test]
fn a_stream_joins_the_row_of_the_moment_and_the_table_triggers_nothing() {
    let seen = run(
        |b| {
            let rates = source(b, "rates");
            b.stream("orders", Consumed::with(string(), i64()))
                .join(rates, |_, n, rate| Some(n * rate), Joined::with("j", string(), i64()))
                .to("out", Produced::with(string(), optional(i64())));
        },
        &[
            ("orders", "a", Some(1)),
            ("rates", "a", Some(3)),
            ("orders", "a", Some(2)),
            ("rates", "a", Some(5)),
            ("rates", "a", None),
            ("orders", "a", Some(7)),
        ],
    );
    assert_eq!(seen, pairs(&[("a", Some(6))]));
}

#[test]
fn a_left_join_gives_no_row_where_there_is_none() {
    let seen = run(
        |b| {
            let rates = source(b, "rates");
            b.stream("orders", Consumed::with(string(), i64()))
                .left_join(
                    rates,
                    |_, n, rate| Some(n * rate.unwrap_or(&1)),
                    Joined::with("j", string(), i64()),
                )
                .to("out", Produced::with(string(), optional(i64())));
        },
        &[("orders", "a", Some(2)), ("rates", "a", Some(3)), ("orders", "a", Some(2))],
    );
    assert_eq!(seen, pairs(&[("a", Some(2)), ("a", Some(6))]));
}

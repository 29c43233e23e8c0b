//! Emit on commit: one change per key and flush, from the row at the last flush to the row now.

use headwater::dsl::{Consumed, Grouped, Materialized, Produced, Repartitioned, StreamsBuilder};
use headwater::serde::serdes::{i64, optional, string};
use headwater::testing::{TestInput, TestOutput, TopologyTestDriver};

#[test]
fn updates_between_two_flushes_are_forwarded_as_one() {
    for (cached, expected) in [(true, vec![3]), (false, vec![1, 2, 3])] {
        let b = StreamsBuilder::new();
        let counts = Materialized::count("counts");
        b.stream("in", Consumed::with(string(), i64()))
            .flat_map_values(|_, n| vec![0; usize::try_from(*n).unwrap_or(0)])
            .group_by_key(Grouped::with("g", string(), i64()))
            .count(if cached { counts.cached() } else { counts })
            .to_stream()
            .to("out", Produced::with(string(), optional(i64())));
        let mut driver =
            TopologyTestDriver::new(&b.build().expect("it is sound")).expect("it starts");
        let input = TestInput::new("in", string(), i64());
        input.pipe(&mut driver, &"a".into(), &3, 1).expect("it is processed");
        let out = TestOutput::new("out", string(), optional(i64()));
        let seen: Vec<_> =
            out.read(&mut driver).expect("it can be read").iter().filter_map(|r| r.value).collect();
        assert_eq!(seen, expected, "cached: {cached}");
    }
}

#[test]
fn a_row_that_came_and_went_between_two_flushes_is_not_forwarded() {
    let b = StreamsBuilder::new();
    b.stream("in", Consumed::with(string(), i64()))
        .flat_map_values(|_, n| [*n, -*n])
        .group_by_key(Grouped::with("g", string(), i64()))
        .aggregate(
            || Some(0),
            |_, n, sum: Option<i64>| Some(sum.unwrap_or(0) + n).filter(|s| *s != 0),
            Materialized::with("sums", optional(i64())).cached(),
        )
        .to_stream()
        .map_values(|_, row| row.flatten())
        .to("out", Produced::with(string(), optional(i64())));
    let mut driver = TopologyTestDriver::new(&b.build().expect("it is sound")).expect("it starts");
    let input = TestInput::new("in", string(), i64());
    input.pipe(&mut driver, &"a".into(), &3, 1).expect("it is processed");
    assert_eq!(driver.take("out").len(), 0);
    assert_eq!(driver.rows("sums").len(), 0);
}

#[test]
fn what_a_failed_record_touched_is_not_forwarded() {
    let b = StreamsBuilder::new();
    let numbers = b.stream("in", Consumed::with(string(), i64()));
    numbers
        .group_by_key(Grouped::with("g", string(), i64()))
        .count(Materialized::count("counts").cached())
        .to_stream()
        .to("out", Produced::with(string(), optional(i64())));
    numbers.peek(|_, n| assert!(*n >= 0, "negative")).for_each(|_, _| ());
    let mut driver = TopologyTestDriver::new(&b.build().expect("it is sound")).expect("it starts");
    let input = TestInput::new("in", string(), i64());
    input.pipe(&mut driver, &"a".into(), &-1, 1).expect("it is dead-lettered");
    assert_eq!(driver.take("out").len(), 0);
    assert_eq!(driver.take("in.dlq").len(), 1);
}

#[test]
fn what_goes_through_a_repartition_topic_is_read_back_after_the_flush() {
    let b = StreamsBuilder::new();
    b.stream("in", Consumed::with(string(), i64()))
        .select_key(|_, n| *n)
        .repartition(Repartitioned::with("by-n", i64(), i64()))
        .to("out", Produced::with(i64(), i64()));
    let mut driver = TopologyTestDriver::new(&b.build().expect("it is sound")).expect("it starts");
    let input = TestInput::new("in", string(), i64());
    input.pipe(&mut driver, &"a".into(), &7, 1).expect("it is processed");
    assert_eq!(driver.take("test-by-n-repartition").len(), 1);
    assert_eq!(driver.take("out").len(), 1);
}

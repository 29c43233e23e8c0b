//! Punctuation: due once, on the grid, resumable.

use std::time::Duration;

use headwater::dsl::{Consumed, Produced, StreamsBuilder};
use headwater::processor::{
    InitContext, NodeError, Processor, ProcessorContext, Punctuated, Punctuation, PunctuationType,
};
use headwater::record::{Headers, Record};
use headwater::serde::serdes::{i64, string};
use headwater::testing::{TestInput, TestOutput, TopologyTestDriver};

/// Forwards its time at each tick, in `pieces` calls.
struct Ticker {
    clock: PunctuationType,
    pieces: u8,
}

impl Processor<String, i64, String, i64> for Ticker {
    fn init(&mut self, ctx: &mut InitContext<'_>) -> Result<(), NodeError> {
        ctx.schedule(self.clock, 10, None).map(drop)
    }

    fn process(
        &mut self,
        _: Record<'_, String, i64>,
        _: &mut ProcessorContext<'_, '_, String, i64>,
    ) -> Result<(), NodeError> {
        Ok(())
    }

    fn punctuate(
        &mut self,
        punctuation: Punctuation<'_>,
        ctx: &mut ProcessorContext<'_, '_, String, i64>,
    ) -> Result<Punctuated, NodeError> {
        let piece = punctuation.cursor.map_or(0, |c| c[0]);
        let (key, value) = (format!("piece {piece}"), punctuation.time);
        let (timestamp, headers) = (punctuation.time, Headers::empty());
        ctx.forward(Record { key: &key, value: &value, timestamp, headers })?;
        let next = piece + 1;
        Ok(if next < self.pieces { Punctuated::More(vec![next]) } else { Punctuated::Done })
    }
}

fn driver(clock: PunctuationType, pieces: u8) -> TopologyTestDriver {
    let b = StreamsBuilder::new();
    b.stream("in", Consumed::with(string(), i64()))
        .process(move || Ticker { clock, pieces }, &[])
        .to("out", Produced::with(string(), i64()));
    TopologyTestDriver::new(&b.build().expect("it is sound")).expect("it starts")
}

fn ticks(driver: &mut TopologyTestDriver) -> Vec<(String, i64)> {
    let out = TestOutput::new("out", string(), i64());
    out.read(driver).expect("it can be read").into_iter().map(|r| (r.key, r.value)).collect()
}

fn pipe(driver: &mut TopologyTestDriver, time: i64) {
    let input = TestInput::new("in", string(), i64());
    input.pipe(driver, &"a".into(), &1, time).expect("it is processed");
}

#[test]
fn missed_ticks_of_stream_time_collapse_into_one() {
    let mut driver = driver(PunctuationType::StreamTime, 1);
    for time in [3, 9, 10, 55, 56, 60] {
        pipe(&mut driver, time);
    }
    let times: Vec<_> = ticks(&mut driver).into_iter().map(|(_, time)| time).collect();
    assert_eq!(times, [3, 10, 55, 60]);
}

#[test]
fn the_wall_clock_ticks_without_records() {
    let mut driver = driver(PunctuationType::WallClockTime, 1);
    for _ in 0..3 {
        driver.advance_wall_clock(Duration::from_millis(7)).expect("it runs");
    }
    let times: Vec<_> = ticks(&mut driver).into_iter().map(|(_, time)| time).collect();
    assert_eq!(times, [14, 21]);
}

#[test]
fn a_punctuation_goes_on_where_it_stopped_before_it_is_next_due() {
    let mut driver = driver(PunctuationType::StreamTime, 3);
    pipe(&mut driver, 3);
    pipe(&mut driver, 4);
    let pieces = ["piece 0", "piece 1", "piece 2"].map(|p| (p.to_owned(), 3));
    assert_eq!(ticks(&mut driver), pieces);
}

#[test]
fn a_hostile_interval_is_refused_before_the_first_record() {
    struct Bad;
    impl Processor<String, i64, String, i64> for Bad {
        fn init(&mut self, ctx: &mut InitContext<'_>) -> Result<(), NodeError> {
            ctx.schedule(PunctuationType::StreamTime, 0, None).map(drop)
        }
        fn process(
            &mut self,
            _: Record<'_, String, i64>,
            _: &mut ProcessorContext<'_, '_, String, i64>,
        ) -> Result<(), NodeError> {
            Ok(())
        }
    }
    let b = StreamsBuilder::new();
    b.stream("in", Consumed::with(string(), i64())).process(|| Bad, &[]).for_each(|_, _| ());
    let error = TopologyTestDriver::new(&b.build().expect("it is sound")).expect_err("refused");
    assert!(error.to_string().contains("give at least 1 ms"), "{error}");
}

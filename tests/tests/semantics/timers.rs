//! Timers by key: each fires once, in order, on its clock, and none gets lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use headwater::dsl::{Consumed, Produced, StreamsBuilder};
use headwater::processor::{
    InitContext, NodeError, Processor, ProcessorContext, Punctuated, Punctuation, PunctuationType,
    Timer,
};
use headwater::record::{Headers, Record};
use headwater::serde::serdes::string;
use headwater::store::{Stored, TimerHandle};
use headwater::testing::{TestInput, TestOutput, TopologyTestDriver};

/// Does what each record says, `stream NAME TIME`, `wall NAME TIME`, `cancel NAME` or `fail`, one
/// after the other with commas between, and tells of each timer that fires.
#[derive(Clone, Copy)]
struct Alarms {
    stream: TimerHandle<String>,
    wall: TimerHandle<String>,
}

impl Processor<String, String, String, String> for Alarms {
    fn timers(&self) -> Vec<TimerHandle<String>> {
        vec![self.stream, self.wall]
    }

    fn process(
        &mut self,
        record: Record<'_, String, String>,
        ctx: &mut ProcessorContext<'_, '_, String, String>,
    ) -> Result<(), NodeError> {
        for command in record.value.split(',') {
            match command.split(' ').collect::<Vec<_>>()[..] {
                ["stream", name, at] => {
                    ctx.store(self.stream).set(record.key, name, at.parse()?)?
                }
                ["wall", name, at] => ctx.store(self.wall).set(record.key, name, at.parse()?)?,
                ["cancel", name] => ctx.store(self.stream).cancel(record.key, name)?,
                ["fail"] => return Err(NodeError::message("it was told to fail")),
                _ => {}
            }
        }
        Ok(())
    }

    /// A timer `N times` sets itself anew, to the past, until it has fired so often.
    fn on_timer(
        &mut self,
        timer: Timer<'_, String>,
        ctx: &mut ProcessorContext<'_, '_, String, String>,
    ) -> Result<(), NodeError> {
        if let Some(left) = timer.name.strip_prefix("times-") {
            let left: u32 = left.parse()?;
            if left > 1 {
                // A name before this one in the order of timers.
                ctx.store(self.stream).set(timer.key, &format!("times-{}", left - 1), 0)?;
            }
        }
        let value = format!("{} {}", timer.name, timer.time);
        let (timestamp, headers) = (timer.time, Headers::empty());
        ctx.forward(Record { key: timer.key, value: &value, timestamp, headers })
    }
}

fn alarms(b: &StreamsBuilder) -> Alarms {
    Alarms {
        stream: b.add_store(Stored::stream_timers("stream", string())),
        wall: b.add_store(Stored::wall_clock_timers("wall", string())),
    }
}

fn driver() -> TopologyTestDriver {
    let b = StreamsBuilder::new();
    let alarms = alarms(&b);
    b.stream("in", Consumed::with(string(), string()))
        .process(move || alarms, &[alarms.stream.id(), alarms.wall.id()])
        .to("out", Produced::with(string(), string()));
    TopologyTestDriver::new(&b.build().expect("it is sound")).expect("it starts")
}

fn pipe(driver: &mut TopologyTestDriver, key: &str, value: &str, time: i64) {
    let input = TestInput::new("in", string(), string());
    input.pipe(driver, &key.into(), &value.into(), time).expect("it is processed");
}

fn advance(driver: &mut TopologyTestDriver, ms: u64) {
    driver.advance_wall_clock(Duration::from_millis(ms)).expect("it runs");
}

/// `key: name time`
fn fired(driver: &mut TopologyTestDriver) -> Vec<String> {
    let out = TestOutput::new("out", string(), string()).read(driver).expect("it can be read");
    out.into_iter().map(|r| format!("{}: {}", r.key, r.value)).collect()
}

#[test]
fn a_timer_fires_once_when_stream_time_has_passed_it() {
    let mut driver = driver();
    pipe(&mut driver, "a", "stream deadline 100", 0);
    pipe(&mut driver, "b", "", 99);
    assert_eq!(fired(&mut driver), [""; 0]);
    pipe(&mut driver, "b", "", 100);
    assert_eq!(fired(&mut driver), ["a: deadline 100"]);
    pipe(&mut driver, "b", "", 5_000);
    assert_eq!(fired(&mut driver), [""; 0]);
    assert!(driver.rows("stream").is_empty(), "nothing of it is left");
}

#[test]
fn a_timer_that_is_set_again_moves_forward_and_back() {
    let mut driver = driver();
    pipe(&mut driver, "a", "stream deadline 100", 0);
    pipe(&mut driver, "a", "stream deadline 300", 50);
    pipe(&mut driver, "b", "", 200);
    assert_eq!(fired(&mut driver), [""; 0]);
    pipe(&mut driver, "a", "stream deadline 250", 210);
    pipe(&mut driver, "b", "", 1_000);
    assert_eq!(fired(&mut driver), ["a: deadline 250"]);
}

#[test]
fn a_cancelled_timer_never_fires() {
    let mut driver = driver();
    pipe(&mut driver, "a", "stream deadline 100,stream other 100", 0);
    pipe(&mut driver, "b", "stream deadline 100", 0);
    pipe(&mut driver, "a", "cancel deadline,cancel unknown", 50);
    pipe(&mut driver, "c", "", 1_000);
    assert_eq!(fired(&mut driver), ["a: other 100", "b: deadline 100"]);
}

#[test]
fn the_record_that_passes_a_timer_is_processed_before_it_fires() {
    let mut driver = driver();
    pipe(&mut driver, "a", "stream deadline 100", 0);
    pipe(&mut driver, "a", "cancel deadline", 500);
    assert_eq!(fired(&mut driver), [""; 0]);
}

#[test]
fn due_timers_fire_by_time_then_key_then_name() {
    let mut driver = driver();
    for key in ["b", "ab", "a", "a\0"] {
        pipe(&mut driver, key, "stream y 70,stream x 70,stream z 30", 0);
    }
    pipe(&mut driver, "b", "stream first 10", 0);
    pipe(&mut driver, "c", "", 100);
    let expected = [
        "b: first 10",
        "a: z 30",
        "a\0: z 30",
        "ab: z 30",
        "b: z 30",
        "a: x 70",
        "a: y 70",
        "a\0: x 70",
        "a\0: y 70",
        "ab: x 70",
        "ab: y 70",
        "b: x 70",
        "b: y 70",
    ];
    assert_eq!(fired(&mut driver), expected);
}

#[test]
fn a_wall_clock_timer_fires_without_records_and_stream_time_does_not_move_it() {
    let mut driver = driver();
    pipe(&mut driver, "a", "wall deadline 100", 0);
    pipe(&mut driver, "b", "", 10_000);
    advance(&mut driver, 99);
    assert_eq!(fired(&mut driver), [""; 0]);
    advance(&mut driver, 1);
    assert_eq!(fired(&mut driver), ["a: deadline 100"]);
    advance(&mut driver, 10_000);
    assert_eq!(fired(&mut driver), [""; 0]);
}

#[test]
fn timers_of_one_name_on_two_clocks_are_two() {
    let mut driver = driver();
    pipe(&mut driver, "a", "wall deadline 100,stream deadline 50", 0);
    pipe(&mut driver, "b", "", 60);
    advance(&mut driver, 100);
    assert_eq!(fired(&mut driver), ["a: deadline 50", "a: deadline 100"]);
}

#[test]
fn a_timer_that_is_set_to_a_time_that_is_over_fires_at_once() {
    let mut driver = driver();
    advance(&mut driver, 1_000);
    pipe(&mut driver, "a", "stream late 3,stream now 500,wall late 7", 500);
    assert_eq!(fired(&mut driver), ["a: late 3", "a: now 500", "a: late 7"]);
}

#[test]
fn timers_survive_a_restart_and_a_move_and_none_fires_again() {
    let restart: fn(&mut TopologyTestDriver) = |driver| driver.restart().expect("it goes on");
    let moved: fn(&mut TopologyTestDriver) = |driver| driver.move_task().expect("it goes on");
    for go_on in [restart, moved] {
        let mut driver = driver();
        pipe(&mut driver, "a", "stream gone 10,stream cancelled 100,stream moved 100", 0);
        pipe(&mut driver, "a", "stream kept 200,wall kept 300", 20);
        go_on(&mut driver);
        pipe(&mut driver, "a", "cancel cancelled,stream moved 150", 30);
        assert_eq!(fired(&mut driver), ["a: gone 10"]);
        go_on(&mut driver);
        go_on(&mut driver);
        pipe(&mut driver, "b", "", 200);
        advance(&mut driver, 300);
        assert_eq!(fired(&mut driver), ["a: moved 150", "a: kept 200", "a: kept 300"]);
        go_on(&mut driver);
        pipe(&mut driver, "b", "", 5_000);
        advance(&mut driver, 5_000);
        assert_eq!(fired(&mut driver), [""; 0]);
    }
}

#[test]
fn a_wall_clock_timer_that_came_due_while_the_task_was_away_fires_when_it_is_back() {
    let mut driver = driver();
    pipe(&mut driver, "a", "wall deadline 100", 0);
    driver.move_task().expect("it goes on");
    advance(&mut driver, 60_000);
    assert_eq!(fired(&mut driver), ["a: deadline 100"]);
}

#[test]
fn a_record_that_is_undone_has_neither_set_nor_cancelled_a_timer() {
    let mut driver = driver();
    pipe(&mut driver, "a", "stream kept 100", 0);
    pipe(&mut driver, "a", "cancel kept,stream undone 50,fail", 10);
    pipe(&mut driver, "a", "stream undone 60,stream wrong -1", 20);
    pipe(&mut driver, "b", "", 1_000);
    assert_eq!(fired(&mut driver), ["a: kept 100"]);
    assert_eq!(driver.take("in.dlq").len(), 2);
}

/// Says `turn` in each of twenty turns from 500 on.
struct Turns(PunctuationType);

impl Processor<String, String, String, String> for Turns {
    fn init(&mut self, ctx: &mut InitContext<'_>) -> Result<(), NodeError> {
        ctx.schedule(self.0, 1_000_000, Some(500)).map(drop)
    }

    fn process(
        &mut self,
        _: Record<'_, String, String>,
        _: &mut ProcessorContext<'_, '_, String, String>,
    ) -> Result<(), NodeError> {
        Ok(())
    }

    fn punctuate(
        &mut self,
        due: Punctuation<'_>,
        ctx: &mut ProcessorContext<'_, '_, String, String>,
    ) -> Result<Punctuated, NodeError> {
        let (key, value, headers) = ("turn".to_owned(), String::new(), Headers::empty());
        ctx.forward(Record { key: &key, value: &value, timestamp: due.time, headers })?;
        let turns = due.cursor.map_or(1, |cursor| cursor[0] + 1);
        Ok(if turns < 20 { Punctuated::More(vec![turns]) } else { Punctuated::Done })
    }
}

#[test]
fn many_timers_due_at_once_keep_their_order_and_fire_a_bounded_number_a_turn() {
    for (clock, kind) in
        [("stream", PunctuationType::StreamTime), ("wall", PunctuationType::WallClockTime)]
    {
        let b = StreamsBuilder::new();
        let alarms = alarms(&b);
        let input = b.stream("in", Consumed::with(string(), string()));
        let fires = input.process(move || alarms, &[alarms.stream.id(), alarms.wall.id()]);
        let turns = input.process(move || Turns(kind), &[]);
        turns.merge(fires).to("out", Produced::with(string(), string()));
        let topology = b.build().expect("it is sound");
        let mut driver = TopologyTestDriver::new(&topology).expect("it starts");
        for number in (0..1_000).rev() {
            pipe(&mut driver, &format!("key-{number:04}"), &format!("{clock} deadline 500"), 0);
        }
        assert_eq!(fired(&mut driver), [""; 0]);
        pipe(&mut driver, "z", "", 500);
        advance(&mut driver, 500);
        let out = fired(&mut driver);
        let expected: Vec<_> = (0..1_000).map(|n| format!("key-{n:04}: deadline 500")).collect();
        let (turns, fires): (Vec<_>, Vec<_>) = out.iter().partition(|fired| *fired == "turn: ");
        assert_eq!(fires, expected.iter().collect::<Vec<_>>());
        assert_eq!(turns.len(), 20);
        let most = out.split(|fired| fired == "turn: ").map(<[_]>::len).max();
        assert!(most.is_some_and(|most| most <= 200), "at once: {most:?}");
    }
}

#[test]
fn a_timer_that_sets_itself_to_the_past_lets_records_and_other_timers_have_their_turn() {
    let b = StreamsBuilder::new();
    let alarms = alarms(&b);
    let fires = b
        .stream("in", Consumed::with(string(), string()))
        .process(move || alarms, &[alarms.stream.id(), alarms.wall.id()]);
    fires.to("out", Produced::with(string(), string()));
    fires.to("fires", Produced::with(string(), string()));
    b.stream("fires", Consumed::with(string(), string()))
        .map_values(|_, value| format!("read {value}"))
        .to("out", Produced::with(string(), string()));
    let mut driver = TopologyTestDriver::new(&b.build().expect("it is sound")).expect("it starts");
    pipe(&mut driver, "a", "stream times-4 10,stream other 20", 0);
    pipe(&mut driver, "b", "", 1_000);
    let out = fired(&mut driver);
    let at = |what: &str| out.iter().position(|f| *f == format!("a: {what}")).expect(what);
    assert_eq!(out.len(), 10, "each fires once and is read once: {out:?}");
    assert!(at("times-4 10") < at("other 20"), "{out:?}");
    assert!(at("other 20") < at("times-3 0"), "in the next turn: {out:?}");
    assert!(at("read times-4 10") < at("times-1 0"), "a record had its turn: {out:?}");
}

/// Fails when it is called for the first time.
struct Once(TimerHandle<String>, Arc<AtomicUsize>);

impl Processor<String, String, String, String> for Once {
    fn timers(&self) -> Vec<TimerHandle<String>> {
        vec![self.0]
    }

    fn process(
        &mut self,
        record: Record<'_, String, String>,
        ctx: &mut ProcessorContext<'_, '_, String, String>,
    ) -> Result<(), NodeError> {
        ctx.store(self.0).set(record.key, "deadline", 100)
    }

    fn on_timer(
        &mut self,
        timer: Timer<'_, String>,
        ctx: &mut ProcessorContext<'_, '_, String, String>,
    ) -> Result<(), NodeError> {
        ctx.store(self.0).set(timer.key, "undone", 0)?;
        let (key, value, headers) = (timer.key, timer.name.to_owned(), Headers::empty());
        ctx.forward(Record { key, value: &value, timestamp: timer.time, headers })?;
        match self.1.fetch_add(1, Ordering::SeqCst) {
            0 => Err(NodeError::message("not yet")),
            _ => ctx.store(self.0).cancel(timer.key, "undone"),
        }
    }
}

#[test]
fn a_timer_that_fails_has_not_fired_and_leaves_no_trace() {
    let b = StreamsBuilder::new();
    let timers = b.add_store(Stored::wall_clock_timers("timers", string()));
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&calls);
    b.stream("in", Consumed::with(string(), string()))
        .process(move || Once(timers, Arc::clone(&calls)), &[timers.id()])
        .named("once")
        .to("out", Produced::with(string(), string()));
    let mut driver = TopologyTestDriver::new(&b.build().expect("it is sound")).expect("it starts");
    pipe(&mut driver, "a", "", 0);
    let error = driver.advance_wall_clock(Duration::from_millis(100)).expect_err("it fails");
    assert!(error.to_string().contains("node `once`: not yet"), "{error}");
    assert_eq!(driver.rows("timers").len(), 1);
    advance(&mut driver, 0);
    assert_eq!(fired(&mut driver), ["a: deadline"]);
    assert_eq!((driver.rows("timers").len(), seen.load(Ordering::SeqCst)), (0, 2));
}

struct Forgetful(Vec<TimerHandle<String>>);

impl Processor<String, String, String, String> for Forgetful {
    fn timers(&self) -> Vec<TimerHandle<String>> {
        self.0.clone()
    }

    fn process(
        &mut self,
        _: Record<'_, String, String>,
        _: &mut ProcessorContext<'_, '_, String, String>,
    ) -> Result<(), NodeError> {
        Ok(())
    }
}

#[test]
fn timers_without_a_processor_or_with_two_are_refused_at_the_start() {
    // How many processors name the store, and what is said then.
    let wrong = [
        (0, "the timers of store `timers` belong to no processor"),
        (2, "belong to another processor already"),
    ];
    for (owners, said) in wrong {
        let b = StreamsBuilder::new();
        let timers = b.add_store(Stored::stream_timers("timers", string()));
        for number in 0..2 {
            let own = if number < owners { vec![timers] } else { Vec::new() };
            b.stream(&format!("in-{number}"), Consumed::with(string(), string()))
                .process(move || Forgetful(own.clone()), &[timers.id()])
                .for_each(|_, _| ());
        }
        let topology = b.build().expect("its edges are sound");
        let error = TopologyTestDriver::new(&topology).expect_err("it does not start");
        assert!(error.to_string().contains(said), "{error}");
    }
}

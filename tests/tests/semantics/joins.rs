//! Joins beyond what the conformance scenarios ask: names, drops with their place, restarts between
//! any two records, splits, and mistakes.

use std::time::Duration;

use headwater::config::{OnError, StreamsConfig};
use headwater::dsl::{
    Consumed, ForeignKeyJoined, Grouped, JoinWindows, Joined, Materialized, Produced, StreamJoined,
    StreamsBuilder,
};
use headwater::processor::drops::OnDropped;
use headwater::record::Headers;
use headwater::serde::serdes::{i64, optional, string};
use headwater::testing::{TestInput, TestOutput, TopologyTestDriver};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn started(b: StreamsBuilder) -> TopologyTestDriver {
    TopologyTestDriver::new(&b.build().expect("it is sound")).expect("it starts")
}

/// One record: topic, key, value, time.
type Input = (&'static str, &'static str, Option<i64>, i64);
/// What came out: key, value, time.
type Seen = (String, Option<String>, i64);

/// What comes out of `out` if the task is started anew behind each of these records (by index).
fn run(topology: fn(&StreamsBuilder), input: &[Input], restarts: &[usize]) -> Vec<Seen> {
    let b = StreamsBuilder::new();
    topology(&b);
    let mut driver = started(b);
    for (at, (topic, key, value, time)) in input.iter().enumerate() {
        TestInput::new(topic, string(), optional(i64()))
            .pipe(&mut driver, &(*key).to_owned(), value, *time)
            .expect("it is processed");
        if restarts.contains(&at) {
            driver.restart().expect("it starts again");
        }
    }
    let read = TestOutput::new("out", string(), optional(string())).read(&mut driver);
    read.expect("it can be read").into_iter().map(|r| (r.key, r.value, r.timestamp)).collect()
}

fn restarts_change_nothing(topology: fn(&StreamsBuilder), input: &[Input]) {
    let expected = run(topology, input, &[]);
    assert!(!expected.is_empty(), "the input must do something");
    for at in 0..input.len() {
        assert_eq!(run(topology, input, &[at]), expected, "a restart behind record {at}");
    }
    let all: Vec<_> = (0..input.len()).collect();
    assert_eq!(run(topology, input, &all), expected, "a restart behind every record");
}

fn outer(b: &StreamsBuilder) {
    let (left, right) = (
        b.stream("l", Consumed::with(string(), i64())),
        b.stream("r", Consumed::with(string(), i64())),
    );
    left.outer_join_stream(
        right,
        |_, l, r| Some(format!("{l:?}+{r:?}")),
        JoinWindows::of(ms(10), ms(5)),
        StreamJoined::with("j", string(), i64(), i64()),
    )
    .to("out", Produced::with(string(), optional(string())));
}

const OUTER: [Input; 10] = [
    ("l", "a", Some(1), 0),
    ("l", "a", Some(2), 0),
    ("r", "b", Some(3), 4),
    ("r", "a", Some(4), 7),
    ("l", "c", Some(5), 20),
    ("l", "c", Some(6), 20),
    ("r", "d", Some(7), 40),
    ("l", "late", Some(8), 5),
    ("l", "e", Some(9), 90),
    ("r", "f", Some(10), 200),
];

#[test]
fn an_outer_join_goes_on_exactly_after_a_restart_between_any_two_records() {
    restarts_change_nothing(outer, &OUTER);
    let seen = run(outer, &OUTER, &[]);
    let unmatched = seen.iter().filter(|(key, _, _)| key == "c").count();
    assert_eq!(unmatched, 2, "equal records without a match are both kept: {seen:?}");
}

#[test]
fn a_foreign_key_join_goes_on_exactly_after_a_restart_between_any_two_records() {
    fn topology(b: &StreamsBuilder) {
        let tracks = b.table("tracks", Consumed::with(string(), i64()));
        let albums = b.table("albums", Consumed::with(string(), i64()));
        tracks
            .foreign_key_left_join(
                albums,
                |_, album| (*album > 0).then(|| format!("album-{album}")),
                |track, album| format!("{track}:{album:?}"),
                ForeignKeyJoined::with("by-album", i64(), i64(), string()),
            )
            .to_stream()
            .to("out", Produced::with(string(), optional(string())));
    }
    let input = [
        ("tracks", "t1", Some(1), 1),
        ("albums", "album-1", Some(10), 2),
        ("tracks", "t2", Some(1), 3),
        ("tracks", "t1", Some(2), 4),
        ("albums", "album-1", Some(11), 5),
        ("tracks", "t3", Some(-1), 6),
        ("albums", "album-2", Some(20), 7),
        ("tracks", "t1", None, 8),
        ("albums", "album-2", None, 9),
    ];
    restarts_change_nothing(topology, &input);
    let seen = run(topology, &input, &[]);
    let of = |key: &str| -> Vec<_> {
        let found = seen.iter().filter(|(k, _, _)| k == key);
        found.map(|(_, value, _)| value.as_deref().unwrap_or("-")).collect()
    };
    assert_eq!(of("t1"), ["1:None", "1:Some(10)", "2:None", "2:Some(20)", "-"]);
    assert_eq!(of("t2"), ["1:Some(10)", "1:Some(11)"]);
    assert_eq!(of("t3"), ["-1:None"]);
}

#[test]
fn groups_of_a_table_go_on_exactly_after_a_restart_between_any_two_records() {
    fn topology(b: &StreamsBuilder) {
        b.table("stock", Consumed::with(string(), i64()))
            .group_by(
                |item, n| (item[..1].to_owned(), *n),
                Grouped::with("by-shelf", string(), i64()),
            )
            .reduce(|a, b| a + b, |a, b| a - b, Materialized::with("sums", i64()))
            .to_stream()
            .map_values(|_, sum| sum.map(|sum| sum.to_string()))
            .to("out", Produced::with(string(), optional(string())));
    }
    let input = [
        ("stock", "a1", Some(1), 1),
        ("stock", "a2", Some(5), 2),
        ("stock", "a1", Some(3), 3),
        ("stock", "b1", Some(7), 4),
        ("stock", "a2", None, 5),
        ("stock", "a9", None, 6),
    ];
    restarts_change_nothing(topology, &input);
    let sums: Vec<_> = run(topology, &input, &[]).into_iter().filter_map(|(_, v, _)| v).collect();
    assert_eq!(sums, ["1", "6", "8", "7", "3"]);
}

#[test]
fn a_joins_stores_have_kafka_streams_names() {
    let b = StreamsBuilder::new();
    outer(&b);
    let topology = b.build().expect("it is sound");
    let names: Vec<_> = topology.stores().iter().map(|spec| &*spec.name).collect();
    let expected =
        ["j-outer-this-join-store", "j-outer-other-join-store", "j-outer-shared-join-store"];
    assert_eq!(names, expected);
}

#[test]
fn a_null_value_is_dropped_by_a_join_with_its_place_and_goes_to_the_dead_letters() {
    let b = StreamsBuilder::new();
    let left = b.stream("l", Consumed::with(string(), optional(i64())));
    let right = b.stream("r", Consumed::with(string(), i64()));
    left.join_stream(
        right,
        |_, l, r| l.unwrap_or(0) + r,
        JoinWindows::of(ms(10), ms(0)),
        StreamJoined::with("j", string(), optional(i64()), i64()).on_dropped(OnDropped::DeadLetter),
    )
    .to("out", Produced::with(string(), i64()));
    let mut driver = started(b);
    driver.pipe("l", Some(b"k"), None, 1, Headers::empty()).expect("it is dropped");
    let dead = driver.take("l.dlq");
    assert_eq!(dead.len(), 1);
    let header = |name: &str| dead[0].headers.last(name).and_then(|h| h.value.clone());
    assert_eq!(header("headwater.reason").as_deref(), Some(&b"null-value"[..]));
    assert_eq!(header("headwater.node").as_deref(), Some(&b"stream-join-this-2"[..]));
}

#[test]
fn a_global_table_is_joined_by_any_key_and_stays_over_restarts() {
    fn topology(b: &StreamsBuilder) {
        let names = b.global_table("names", string(), Materialized::with("names-store", i64()));
        b.stream("visits", Consumed::with(string(), i64()))
            .left_join_global(
                &names,
                |_, id| (*id != 0).then(|| format!("id-{id}")),
                |_, id, name| Some(format!("{id}:{name:?}")),
                Joined::with("visits-names", string(), i64()),
            )
            .to("out", Produced::with(string(), optional(string())));
    }
    let input = [
        ("visits", "a", Some(1), 1),
        ("names", "id-1", Some(100), 2),
        ("visits", "a", Some(1), 3),
        ("visits", "a", Some(0), 4),
        ("names", "id-1", None, 5),
        ("visits", "a", Some(1), 6),
    ];
    restarts_change_nothing(topology, &input);
    let seen: Vec<_> = run(topology, &input, &[]).into_iter().filter_map(|(_, v, _)| v).collect();
    assert_eq!(seen, ["1:None", "1:Some(100)", "0:None", "1:None"]);
}

#[test]
fn a_record_goes_to_the_first_branch_that_takes_it_and_to_no_other() {
    let b = StreamsBuilder::new();
    let mut split = b.stream("in", Consumed::with(string(), i64())).split();
    let even = split.branch(|_, n| n % 2 == 0);
    let large = split.branch(|_, n| *n > 10);
    let rest = split.default_branch();
    for (stream, topic) in [(even, "even"), (large, "large"), (rest, "rest")] {
        stream.to(topic, Produced::with(string(), i64()));
    }
    let mut driver = started(b);
    for n in [2, 12, 13, 3] {
        let input = TestInput::new("in", string(), i64());
        input.pipe(&mut driver, &"k".into(), &n, n).expect("it is processed");
    }
    let mut read = |topic: &str| -> Vec<i64> {
        let read = TestOutput::new(topic, string(), i64()).read(&mut driver);
        read.expect("it can be read").into_iter().map(|r| r.value).collect()
    };
    assert_eq!((read("even"), read("large"), read("rest")), (vec![2, 12], vec![13], vec![3]));
}

#[test]
fn every_mistake_of_a_join_is_reported_at_once() {
    let b = StreamsBuilder::new();
    let left = b.stream("l", Consumed::with(string(), i64()));
    let right = b.stream("r", Consumed::with(string(), i64()));
    for _ in 0..2 {
        left.join_stream(
            right,
            |_, l, r| l + r,
            JoinWindows::of(Duration::MAX, ms(0)),
            StreamJoined::with("no/slash", string(), i64(), i64()),
        );
    }
    b.global_table("l", string(), Materialized::with("l-store", i64()));
    let text = b.build().expect_err("it has mistakes").to_string();
    for part in [
        "join `no/slash` is not a legal name",
        "store `no/slash-this-join-store` is used twice",
        "join window before of `no/slash` is",
        "topic `l` is read by two sources",
    ] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
}

#[test]
fn a_failing_joiner_is_undone_with_what_its_record_stored() {
    let b = StreamsBuilder::new();
    let left = b.stream("l", Consumed::with(string(), i64()));
    let right = b.stream("r", Consumed::with(string(), i64()));
    left.join_stream(
        right,
        |_, l, r| Some(format!("{}", l.checked_div(*r).expect("no joiner divides by zero"))),
        JoinWindows::of(ms(10), ms(0)),
        StreamJoined::with("j", string(), i64(), i64()),
    )
    .to("out", Produced::with(string(), optional(string())));
    let topology = b.build().expect("it is sound");
    let config = StreamsConfig { on_error: OnError::UndoRecord, ..StreamsConfig::new("test") };
    let mut driver = TopologyTestDriver::with(&topology, &config, 0).expect("it starts");
    let mut pipe = |topic: &str, n: i64| {
        let input = TestInput::new(topic, string(), i64());
        input.pipe(&mut driver, &"k".into(), &n, 1).expect("a failing record is set aside");
    };
    pipe("l", 6);
    pipe("r", 0);
    pipe("l", 8);
    pipe("r", 2);
    assert_eq!(driver.take("r.dlq").len(), 1);
    let read = TestOutput::new("out", string(), string()).read(&mut driver);
    let seen: Vec<_> = read.expect("it can be read").into_iter().map(|r| r.value).collect();
    assert_eq!(seen, ["3", "4"], "the record that failed is in no store");
}

#[test]
fn a_record_goes_to_the_topic_it_chooses_and_fails_if_that_was_not_named() {
    let b = StreamsBuilder::new();
    b.stream("in", Consumed::with(string(), i64())).to_chosen(
        &["odd", "even"],
        |_, n| match n {
            0 => "zero",
            n if n % 2 == 0 => "even",
            _ => "odd",
        },
        Produced::with(string(), i64()),
    );
    let mut driver = started(b);
    for n in [1, 2, 0, 4] {
        let input = TestInput::new("in", string(), i64());
        input.pipe(&mut driver, &"k".into(), &n, n).expect("a failing record is set aside");
    }
    assert_eq!((driver.take("odd").len(), driver.take("even").len()), (1, 2));
    let dead = driver.take("in.dlq");
    let message = dead[0].headers.last("__streams.errors.message").and_then(|h| h.value.clone());
    let message = String::from_utf8_lossy(message.as_deref().unwrap_or_default()).into_owned();
    assert!(message.contains("topic 'zero' was chosen"), "{message}");
}

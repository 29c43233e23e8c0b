//! Simulated runs of small topologies.

use super::*;
use crate::dsl::{Consumed, Grouped, Materialized, Produced, StreamsBuilder};
use crate::serde::serdes::{i64, string};
use crate::testing::TestInput;

fn counting() -> Arc<Topology> {
    let b = StreamsBuilder::new();
    b.stream("words", Consumed::with(string(), i64()))
        .group_by(|_, n| format!("group-{}", n % 3), Grouped::with("by-group", string(), i64()))
        .count(Materialized::count("counts"))
        .to_stream()
        .map_values(|_, n| n.unwrap_or(0))
        .to("out", Produced::with(string(), i64()));
    b.build().expect("it is sound")
}

fn words(inputs: &mut Inputs) {
    let words = TestInput::new("words", string(), i64());
    for at in 0..30 {
        let (word, n) = (format!("word-{}", inputs.draw(0..5)), inputs.draw(0..9));
        let n = i64::try_from(n).expect("small");
        inputs.pipe(&words, &word, &n, at).expect("it has bytes");
    }
}

#[test]
fn two_runs_of_a_seed_are_the_same_and_another_seed_is_another_run() {
    let simulation = simulate(&counting(), 1..=1).inputs(words).check(|_| Ok(()));
    let (first, second) = (simulation.run_seed(5).expect("clean"), simulation.run_seed(5));
    assert_eq!(Ok(&first), second.as_ref());
    assert_ne!(first.trace, simulation.run_seed(6).expect("clean").trace);
}

#[test]
fn a_check_that_fails_names_the_seed_and_shows_how_it_came_about() {
    let simulation = simulate(&counting(), 3..=9).inputs(words);
    let failure = simulation.check(|outcome| Err(format!("{} words", outcome.inputs().len())));
    let failure = failure.run().expect_err("the check says so");
    assert_eq!(failure.seed, 3);
    assert!(failure.message.ends_with("30 words"), "{}", failure.message);
    assert!(failure.to_string().starts_with("seed 3: step "), "{failure}");
    assert!(failure.trace.iter().any(|event| event == "processes: all faults end"));
}

#[test]
fn a_topology_whose_answer_is_its_input_alone_is_compared_with_a_faultless_run() {
    let b = StreamsBuilder::new();
    b.stream("words", Consumed::with(string(), i64()))
        .group_by_key(Grouped::with("by-word", string(), i64()))
        .count(Materialized::count("counts"))
        .to_stream()
        .map_values(|_, n| n.unwrap_or(0))
        .to("out", Produced::with(string(), i64()));
    let topology = b.build().expect("it is sound");
    let report = simulate(&topology, 1..=4).inputs(words).run().unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(report.seeds, 4);
    assert!(report.met["start"] > 0, "{:?}", report.met);
}

#[test]
fn a_topology_that_says_something_of_its_own_differs_from_a_faultless_run() {
    let b = StreamsBuilder::new();
    let told = std::sync::atomic::AtomicI64::new(0);
    b.stream("words", Consumed::with(string(), i64()))
        .map_values(move |_, _| told.fetch_add(1, std::sync::atomic::Ordering::SeqCst))
        .to("out", Produced::with(string(), i64()));
    let topology = b.build().expect("it is sound");
    let failure = simulate(&topology, 1..=1).inputs(words).run().expect_err("it is not pure");
    assert!(failure.message.contains("out: "), "{}", failure.message);
}

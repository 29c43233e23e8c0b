//! Conformance: what Kafka Streams 4.3.1 answered to each scenario of `tests/conformance/`, we answer
//! too. A scenario that uses an operator which is not built yet is counted, never passed.

use std::collections::BTreeMap;
use std::path::Path;

use headwater::task::TaskError;
use headwater::testing::TopologyTestDriver;
use headwater_tests::conformance::{NoAnswer, answer, answer_with, difference};
use serde_json::{Value as Json, json};

/// Scenarios made only of what is built; grows with the operators.
const SUPPORTED: usize = 287;

fn scenarios() -> Vec<Json> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the scenarios are part of the repository")
        .map(|entry| entry.expect("the folder can be read").path())
        .collect();
    files.sort();
    let read = |file| std::fs::read(file).expect("the scenario can be read");
    files.iter().map(|f| serde_json::from_slice(&read(f)).expect("a scenario is JSON")).collect()
}

#[test]
fn every_scenario_of_built_operators_is_answered_as_kafka_streams_did() {
    let mut families: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    let mut failures = Vec::new();
    for scenario in scenarios() {
        let family = scenario["family"].as_str().unwrap_or_default().to_owned();
        let [passed, unsupported] = families.entry(family).or_default();
        let found = match answer(&scenario) {
            Ok(answer) => difference(&scenario, &answer),
            Err(NoAnswer::Unsupported(_)) => {
                *unsupported += 1;
                continue;
            }
            Err(NoAnswer::Failed(why)) => Some(why),
        };
        match found {
            None => *passed += 1,
            Some(found) => failures.push(format!("{}: {found}", scenario["name"])),
        }
    }
    let total: usize = families.values().map(|[passed, _]| passed).sum();
    println!("{:<24}{:>8}{:>14}", "family", "passed", "unsupported");
    for (family, [passed, unsupported]) in &families {
        println!("{family:<24}{passed:>8}{unsupported:>14}");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(total >= SUPPORTED, "{total} scenarios passed, {SUPPORTED} did before");
}

/// Keeps something outside of stores, as the rules allow: counts of ticks, wall-clock schedules.
fn forgets(scenario: &Json) -> bool {
    let nodes = scenario["topology"].as_array().into_iter().flatten();
    nodes.into_iter().any(|node| {
        let processor = &node["processor"];
        processor["kind"] == "ticker" || processor["time"] == "wall"
    })
}

fn assert_same_answers(between: fn(&mut TopologyTestDriver) -> Result<(), TaskError>) {
    let mut failures = Vec::new();
    let mut answered = 0;
    for scenario in scenarios().iter().filter(|scenario| !forgets(scenario)) {
        let found = match answer_with(scenario, between) {
            Ok(answer) => difference(scenario, &answer),
            Err(NoAnswer::Unsupported(_)) => continue,
            Err(NoAnswer::Failed(why)) => Some(why),
        };
        answered += 1;
        failures.extend(found.map(|found| format!("{}: {found}", scenario["name"])));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(answered >= SUPPORTED * 9 / 10, "only {answered} scenarios were answered");
}

#[test]
fn a_restart_after_every_step_changes_no_answer() {
    assert_same_answers(TopologyTestDriver::restart);
}

#[test]
fn a_move_to_another_process_after_every_step_changes_no_answer() {
    assert_same_answers(TopologyTestDriver::move_task);
}

#[test]
fn a_wrong_answer_is_found() {
    let scenario = json!({
        "compare": {"sets": {"order": "per-key"}},
        "expected": {
            "outputs": {"out": [{"key": "a", "value": 1, "timestamp": 5, "step": 0}]},
            "stores": {"s": [{"key": "a", "value": 1}]},
        },
    });
    let right = json!({
        "outputs": {"out": [{"key": "a", "value": 1, "timestamp": 5, "step": 0}]},
        "stores": {"s": [{"key": "a", "value": 1}]},
    });
    assert_eq!(difference(&scenario, &right), None);
    for wrong in [
        json!({"outputs": {}, "stores": {"s": [{"key": "a", "value": 1}]}}),
        json!({"outputs": {"out": [{"key": "a", "value": 1.5, "timestamp": 5, "step": 0}]},
               "stores": {"s": [{"key": "a", "value": 1}]}}),
        json!({"outputs": {"out": [{"key": "a", "value": 1, "timestamp": 5, "step": 1}]},
               "stores": {"s": [{"key": "a", "value": 1}]}}),
        json!({"outputs": right["outputs"], "stores": {"s": []}}),
        json!({"outputs": {"out": right["outputs"]["out"], "more": [{"key": "a"}]},
               "stores": right["stores"]}),
    ] {
        assert!(difference(&scenario, &wrong).is_some(), "{wrong} passed");
    }
}

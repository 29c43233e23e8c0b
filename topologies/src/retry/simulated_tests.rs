//! The error handler in simulated runs: whatever is killed, cut off or moved, and whenever, each record
//! ends once, and those of a key in their order.

use std::collections::{BTreeMap, BTreeSet};

use headwater::dsl::{Produced, StreamsBuilder};
use headwater::serde::serdes::string;
use headwater::testing::{Input, Inputs, Outcome, simulate};
use headwater_schemas::topics::TASK_COMPLETED;

use super::guard::{Guard, guard};
use super::policy::{HandlerError, Policy};
use super::record::KeptRecord;

const TOPIC: &str = "task.completed";
const PARTITIONS: u32 = 3;
const KEYS: u64 = 7;

/// Values `busy-` may pass and never do, values `bad-` will not pass.
fn inputs(inputs: &mut Inputs) {
    for number in 0..inputs.draw(60..120) {
        let key = inputs.draw(0..KEYS);
        let kind = ["fine", "fine", "fine", "busy", "bad"]
            [usize::try_from(inputs.draw(0..5)).expect("few")];
        inputs.push(Input {
            topic: TOPIC.into(),
            partition: u32::try_from(key % u64::from(PARTITIONS)).expect("few"),
            timestamp: i64::try_from(number).expect("few"),
            key: Some(format!("key-{key}").into_bytes()),
            value: Some(format!("{kind}-{number:04}").into_bytes()),
        });
    }
}

type ByKey = BTreeMap<String, Vec<String>>;

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}

/// What a topic has of each key, in order.
fn by_key(outcome: &Outcome<'_>, topic: &str) -> ByKey {
    let mut seen = ByKey::new();
    for record in outcome.records(topic).iter().flatten() {
        seen.entry(text(record.key.as_deref())).or_default().push(text(record.value.as_deref()));
    }
    seen
}

/// What waits still.
fn waiting(outcome: &Outcome<'_>) -> Vec<String> {
    let rows = (0..PARTITIONS).filter_map(|partition| outcome.rows("handle-waiting", partition));
    let kept = rows.flat_map(|rows| rows.values());
    kept.map(|row| match serde_json::from_slice::<KeptRecord>(row) {
        Ok(kept) => text(kept.raw_value().as_deref()),
        Err(error) => error.to_string(),
    })
    .collect()
}

fn check(outcome: &Outcome<'_>) -> Result<(), String> {
    let (handled, dead) = (by_key(outcome, "handled"), by_key(outcome, "task.completed.dlq"));
    let waiting = waiting(outcome);
    for seen in handled.values().chain(dead.values()) {
        if !seen
            .is_sorted_by_key(|value| value.split('-').next_back().unwrap_or_default().to_owned())
        {
            return Err(format!("out of order: {seen:?}"));
        }
    }
    let ended = handled.values().chain(dead.values()).flatten().chain(&waiting);
    let mut ended: Vec<String> = ended.cloned().collect();
    let mut expected: Vec<String> =
        outcome.inputs().iter().map(|input| text(input.value.as_deref())).collect();
    ended.sort();
    expected.sort();
    if ended != expected {
        let (ended, expected): (BTreeSet<_>, BTreeSet<_>) =
            (ended.into_iter().collect(), expected.into_iter().collect());
        let differ: Vec<_> = expected.symmetric_difference(&ended).collect();
        return Err(format!("each must end once; lost or twice: {differ:?}"));
    }
    let wrong = handled.values().flatten().find(|value| !value.starts_with("fine"));
    let wrong = wrong.or_else(|| dead.values().flatten().find(|value| value.starts_with("fine")));
    match wrong {
        Some(value) => Err(format!("{value} ended in the wrong topic")),
        None if outcome.records("task.completed.retry").iter().any(|p| !p.is_empty()) => {
            Err("in order nothing goes to the retry topic".to_owned())
        }
        None => Ok(()),
    }
}

#[test]
fn each_record_ends_once_and_in_its_keys_order_whatever_goes_wrong() {
    let b = StreamsBuilder::new();
    let policy = Policy { retries_max: 2, first_delay_ms: 50, delay_max_ms: 80 };
    let guarded = Guard::new("handle", &TASK_COMPLETED, string(), string()).in_order();
    guard(&b, guarded.policy(policy), |_: &String, value: &String, _| {
        match value.split('-').next() {
            Some("busy") => Err(HandlerError::passing("come back")),
            Some("bad") => Err(HandlerError::new("VALIDATION", "never")),
            _ => Ok(vec![value.clone()]),
        }
    })
    .to("handled", Produced::with(string(), string()));
    let topology = b.build().expect("it is sound");
    let simulation = simulate(&topology, 1..=24).named("retries").partitions(PARTITIONS);
    let report = simulation.inputs(inputs).check(check).run();
    let report = report.unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(report.seeds, 24);
}

//! A ledger that refuses some payments, and a cached count: what is refused leaves no trace but a
//! dead letter, and what a cache holds back is neither lost nor said twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater::dsl::{Consumed, Grouped, Materialized, Produced, StreamsBuilder};
use headwater::processor::{NodeError, Processor, ProcessorContext};
use headwater::record::Record;
use headwater::serde::serdes::{i64, string};
use headwater::store::{KeyValueStore, StoreHandle, Stored};
use headwater::testing::{Input, Inputs, Outcome, Simulation, simulate};
use headwater::topology::Topology;

use crate::compare::{Timed, maps, number, rows, sequences, verdict};
use crate::{PARTITIONS, START_MS};

const NAME: &str = "ledger";
const PAYMENTS: &str = "payments";
const DEAD: &str = "payments.dlq";
const BALANCES: &str = "balances";
const COUNTS: &str = "counts";
/// Amounts that this divides are refused, after the ledger was written.
const REFUSED: i64 = 7;
const ACCOUNTS: u64 = 7;

pub(crate) fn simulation() -> Simulation {
    simulate(&topology(), 1..=1).named(NAME).partitions(PARTITIONS).inputs(inputs).check(check)
}

struct Ledger(StoreHandle<KeyValueStore<String, i64>>);

impl Processor<String, i64, String, i64> for Ledger {
    fn process(
        &mut self,
        record: Record<'_, String, i64>,
        ctx: &mut ProcessorContext<'_, '_, String, i64>,
    ) -> Result<(), NodeError> {
        let ledger = ctx.store(self.0);
        let balance = ledger.get(record.key)?.unwrap_or(0) + record.value;
        ledger.put(record.key, &balance)?;
        let headers = record.headers;
        ctx.forward(Record {
            key: record.key,
            value: &balance,
            timestamp: record.timestamp,
            headers,
        })?;
        if record.value % REFUSED == 0 {
            return Err(NodeError::message("the bank refuses it"));
        }
        Ok(())
    }
}

fn topology() -> Arc<Topology> {
    let builder = StreamsBuilder::new();
    let ledger = builder.add_store(Stored::key_value("ledger", string(), i64()));
    let payments = builder.stream(PAYMENTS, Consumed::with(string(), i64()));
    payments
        .process(move || Ledger(ledger), &[ledger.id()])
        .to(BALANCES, Produced::with(string(), i64()));
    payments
        .group_by_key(Grouped::with("by-account", string(), i64()))
        .count(Materialized::count("payments-per-account").cached())
        .to_stream()
        .map_values(|_, count| count.unwrap_or(0))
        .to(COUNTS, Produced::with(string(), i64()));
    builder.build().expect("the topology is sound")
}

/// Payments, some that the bank refuses, some that are no amount at all.
fn inputs(inputs: &mut Inputs) {
    for at in 0..inputs.draw(100..200) {
        let account = inputs.draw(0..ACCOUNTS);
        let amount = i64::try_from(inputs.draw(1..100)).expect("small");
        let value = match inputs.draw(0..10) {
            0 => vec![1, 2, 3],
            _ => amount.to_be_bytes().to_vec(),
        };
        inputs.push(Input {
            topic: PAYMENTS.into(),
            partition: u32::try_from(account % u64::from(PARTITIONS)).expect("small"),
            timestamp: START_MS + i64::try_from(at).expect("small"),
            key: Some(format!("account-{account}").into_bytes()),
            value: Some(value),
        });
    }
}

fn check(outcome: &Outcome<'_>) -> Result<(), String> {
    let mut wrong = Vec::new();
    let mut balances: BTreeMap<Vec<u8>, Vec<Timed>> = BTreeMap::new();
    let mut dead: Vec<Letter> = Vec::new();
    for input in outcome.inputs() {
        let (key, amount) = (input.key.clone().unwrap_or_default(), number(input.value.as_deref()));
        if amount == i64::MIN || amount % REFUSED == 0 {
            dead.push((input.key.clone(), input.value.clone(), input.timestamp));
            continue;
        }
        let before = balances.get(&key).and_then(|all| all.last()).map_or(0, |(sum, _)| *sum);
        balances.entry(key).or_default().push((before + amount, input.timestamp));
    }
    maps(BALANCES, &balances, &sequences(outcome, BALANCES), &mut wrong);
    compare_letters(outcome, dead, &mut wrong);
    let sum = |all: &[Timed]| all.last().map_or(0, |(sum, _)| *sum).to_be_bytes().to_vec();
    let sums = balances.iter().map(|(key, all)| (key.clone(), sum(all))).collect();
    maps("ledger", &sums, &rows(outcome, "ledger", &mut wrong), &mut wrong);
    let counts: BTreeMap<Vec<u8>, i64> =
        balances.iter().map(|(key, all)| (key.clone(), length(all))).collect();
    let found = rows(outcome, "payments-per-account", &mut wrong);
    let found = found.into_iter().map(|(key, row)| (key, number(row.get(8..)))).collect();
    maps("payments-per-account", &counts, &found, &mut wrong);
    compare_counts(outcome, &counts, &mut wrong);
    verdict(wrong)
}

fn length<T>(all: &[T]) -> i64 {
    i64::try_from(all.len()).expect("small")
}

/// Key, value and time of a dead letter.
type Letter = (Option<Vec<u8>>, Option<Vec<u8>>, i64);

/// Every record that failed is a dead letter, once and as it was.
fn compare_letters(outcome: &Outcome<'_>, mut expected: Vec<Letter>, wrong: &mut Vec<String>) {
    let found = outcome.records(DEAD).into_iter().flatten();
    let mut found: Vec<Letter> = found.map(|r| (r.key, r.value, r.timestamp)).collect();
    expected.sort();
    found.sort();
    if expected != found {
        wrong.push(format!("{DEAD}: must be {expected:?} and is {found:?}"));
    }
}

/// A cache skips counts, but never goes back or stands still, and ends with the last.
fn compare_counts(outcome: &Outcome<'_>, counts: &BTreeMap<Vec<u8>, i64>, wrong: &mut Vec<String>) {
    let found = sequences(outcome, COUNTS);
    for (key, seen) in &found {
        if seen.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            wrong.push(format!("{COUNTS}: {key:?} must grow and is {seen:?}"));
        }
    }
    let last =
        |(key, seen): (&Vec<u8>, &Vec<Timed>)| seen.last().map(|(count, _)| (key.clone(), *count));
    maps(COUNTS, counts, &found.iter().filter_map(last).collect(), wrong);
}

//! Punctuation: sums said by stream time, at exactly the records where they are due, and ticks said
//! by the wall clock, which move no input and are still counted without a gap.

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater::dsl::{Consumed, Produced, StreamsBuilder};
use headwater::processor::{
    InitContext, NodeError, Processor, ProcessorContext, Punctuated, Punctuation, PunctuationId,
    PunctuationType,
};
use headwater::record::{Headers, Record};
use headwater::serde::serdes::{i64, string};
use headwater::store::{KeyValueStore, StoreHandle, Stored};
use headwater::testing::simulation::StoreRows;
use headwater::testing::{Input, Inputs, Outcome, Simulation, simulate};
use headwater::topology::Topology;

use crate::compare::{Timed, maps, number, rows, sequences, verdict};
use crate::{PARTITIONS, START_MS};

const NAME: &str = "ticks";
const READINGS: &str = "readings";
const SUMS: &str = "sums-said";
const TICKS: &str = "ticks-said";
/// Stream time between two sums, in milliseconds.
const STREAM_MS: i64 = 5_000;
/// Wall-clock time between two ticks, in milliseconds.
const WALL_MS: i64 = 400;
const SENSORS: u64 = 7;

pub(crate) fn simulation() -> Simulation {
    simulate(&topology(), 1..=1).named(NAME).partitions(PARTITIONS).inputs(inputs).check(check)
}

/// Sums by sensor, and ticks by partition.
struct Meter {
    sums: StoreHandle<KeyValueStore<String, i64>>,
    ticks: StoreHandle<KeyValueStore<String, i64>>,
    wall: Option<PunctuationId>,
}

impl Processor<String, i64, String, i64> for Meter {
    fn init(&mut self, ctx: &mut InitContext<'_>) -> Result<(), NodeError> {
        ctx.schedule(PunctuationType::StreamTime, STREAM_MS, None)?;
        self.wall = Some(ctx.schedule(PunctuationType::WallClockTime, WALL_MS, None)?);
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<'_, String, i64>,
        ctx: &mut ProcessorContext<'_, '_, String, i64>,
    ) -> Result<(), NodeError> {
        let sums = ctx.store(self.sums);
        let sum = sums.get(record.key)?.unwrap_or(0) + record.value;
        sums.put(record.key, &sum)
    }

    fn punctuate(
        &mut self,
        punctuation: Punctuation<'_>,
        ctx: &mut ProcessorContext<'_, '_, String, i64>,
    ) -> Result<Punctuated, NodeError> {
        let said = if Some(punctuation.id) == self.wall {
            let key = format!("tick-{}", ctx.partition());
            let ticks = ctx.store(self.ticks);
            let count = ticks.get(&key)?.unwrap_or(0) + 1;
            ticks.put(&key, &count)?;
            vec![(key, count)]
        } else {
            ctx.store(self.sums).page(None, usize::MAX)?
        };
        let (timestamp, headers) = (punctuation.time, Headers::empty());
        for (key, value) in &said {
            ctx.forward(Record { key, value, timestamp, headers })?;
        }
        Ok(Punctuated::Done)
    }
}

fn topology() -> Arc<Topology> {
    let builder = StreamsBuilder::new();
    let sums = builder.add_store(Stored::key_value("sums", string(), i64()));
    let ticks = builder.add_store(Stored::key_value("ticks", string(), i64()));
    let said = builder
        .stream(READINGS, Consumed::with(string(), i64()))
        .process(move || Meter { sums, ticks, wall: None }, &[sums.id(), ticks.id()]);
    said.filter(|key, _| !is_tick(key)).to(SUMS, Produced::with(string(), i64()));
    said.filter(|key, _| is_tick(key)).to(TICKS, Produced::with(string(), i64()));
    builder.build().expect("the topology is sound")
}

fn is_tick(key: &str) -> bool {
    key.starts_with("tick-")
}

/// Readings whose time goes on, in jumps, and back now and then.
fn inputs(inputs: &mut Inputs) {
    let mut time = 0;
    for _ in 0..inputs.draw(40..90) {
        let sensor = inputs.draw(0..SENSORS);
        time += inputs.draw(0..2_000);
        let late = inputs.draw(0..4_000).min(time);
        let value = i64::try_from(inputs.draw(1..100)).expect("small");
        inputs.push(Input {
            topic: READINGS.into(),
            partition: u32::try_from(sensor % u64::from(PARTITIONS)).expect("small"),
            timestamp: START_MS + i64::try_from(time - late).expect("small"),
            key: Some(format!("sensor-{sensor}").into_bytes()),
            value: Some(value.to_be_bytes().to_vec()),
        });
    }
}

/// One partition, recomputed.
#[derive(Default)]
struct Partition {
    stream_time: i64,
    next: i64,
    sums: BTreeMap<Vec<u8>, i64>,
}

fn check(outcome: &Outcome<'_>) -> Result<(), String> {
    let mut wrong = Vec::new();
    let mut partitions: BTreeMap<u32, Partition> = BTreeMap::new();
    let mut said: BTreeMap<Vec<u8>, Vec<Timed>> = BTreeMap::new();
    for input in outcome.inputs() {
        let partition = partitions.entry(input.partition).or_default();
        let sum = partition.sums.entry(input.key.clone().unwrap_or_default()).or_default();
        *sum += number(input.value.as_deref());
        partition.stream_time = partition.stream_time.max(input.timestamp);
        if partition.next <= partition.stream_time {
            partition.next = partition.stream_time - partition.stream_time % STREAM_MS + STREAM_MS;
            for (key, sum) in &partition.sums {
                said.entry(key.clone()).or_default().push((*sum, partition.stream_time));
            }
        }
    }
    maps(SUMS, &said, &sequences(outcome, SUMS), &mut wrong);
    let sums = partitions.values().flat_map(|p| &p.sums);
    let sums: StoreRows = sums.map(|(k, sum)| (k.clone(), sum.to_be_bytes().to_vec())).collect();
    maps("sums", &sums, &rows(outcome, "sums", &mut wrong), &mut wrong);
    compare_ticks(outcome, &mut wrong);
    verdict(wrong)
}

/// Ticks are said one after the other, none twice, and the store has the last.
fn compare_ticks(outcome: &Outcome<'_>, wrong: &mut Vec<String>) {
    let mut last = StoreRows::new();
    for (key, seen) in sequences(outcome, TICKS) {
        if (1..).zip(&seen).any(|(number, (count, _))| number != *count) {
            let counts: Vec<i64> = seen.iter().map(|(count, _)| *count).collect();
            wrong.push(format!("{TICKS}: {key:?} must be 1, 2, 3 and is {counts:?}"));
        }
        let count = i64::try_from(seen.len()).expect("small");
        last.insert(key, count.to_be_bytes().to_vec());
    }
    maps("ticks", &last, &rows(outcome, "ticks", wrong), wrong);
}

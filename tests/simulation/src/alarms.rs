//! Timers by key: silences said by stream time, at exactly the records that end them, and reminders
//! of the wall clock, each said once or still to be said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use headwater::dsl::{Consumed, Produced, StreamsBuilder};
use headwater::processor::{NodeError, Processor, ProcessorContext, Timer};
use headwater::record::{Headers, Record};
use headwater::serde::serdes::{i64, string};
use headwater::store::{KeyValueStore, StoreHandle, Stored, TimeDomain, TimerHandle};
use headwater::testing::simulation::StoreRows;
use headwater::testing::{Input, Inputs, Outcome, Simulation, simulate};
use headwater::topology::Topology;

use crate::compare::{Timed, maps, number, rows, sequences, verdict};
use crate::{PARTITIONS, START_MS};

const NAME: &str = "alarms";
const PINGS: &str = "pings";
const SILENCES: &str = "silences-said";
const REMINDERS: &str = "reminders-said";
/// Stream time without a ping that is silence, and then that is absence, in milliseconds.
const SILENT_MS: i64 = 3_000;
const ABSENT_MS: i64 = 2_000;
/// Wall-clock time until a ping is reminded of, in milliseconds.
const REMIND_MS: i64 = 300;
const CALLERS: u64 = 7;
/// A ping of this number's multiple ends the call: its caller's timers are cancelled.
const ENDS: i64 = 5;

pub(crate) fn simulation() -> Simulation {
    simulate(&topology(), 1..=1).named(NAME).partitions(PARTITIONS).inputs(inputs).check(check)
}

struct Alarms {
    silences: TimerHandle<String>,
    reminders: TimerHandle<String>,
    /// Pings of each caller since the last silence.
    pings: StoreHandle<KeyValueStore<String, i64>>,
}

impl Processor<String, i64, String, i64> for Alarms {
    fn timers(&self) -> Vec<TimerHandle<String>> {
        vec![self.silences, self.reminders]
    }

    fn process(
        &mut self,
        record: Record<'_, String, i64>,
        ctx: &mut ProcessorContext<'_, '_, String, i64>,
    ) -> Result<(), NodeError> {
        let (caller, number) = (record.key, *record.value);
        let pings = ctx.store(self.pings).get(caller)?.unwrap_or(0);
        ctx.store(self.pings).put(caller, &(pings + 1))?;
        let remind_at = ctx.wall_clock().saturating_add(REMIND_MS).max(0);
        ctx.store(self.reminders).set(caller, &format!("{number:05}"), remind_at)?;
        let silences = ctx.store(self.silences);
        if number % ENDS == 0 {
            silences.cancel(caller, "silent")?;
            return silences.cancel(caller, "absent");
        }
        silences.set(caller, "silent", record.timestamp + SILENT_MS)
    }

    fn on_timer(
        &mut self,
        timer: Timer<'_, String>,
        ctx: &mut ProcessorContext<'_, '_, String, i64>,
    ) -> Result<(), NodeError> {
        let (caller, timestamp) = (timer.key, timer.time);
        let (key, value) = match (timer.domain, timer.name) {
            (TimeDomain::WallClockTime, name) => (format!("reminder-{name}"), name.parse()?),
            (TimeDomain::StreamTime, "silent") => {
                let absent_at = timestamp + ABSENT_MS;
                ctx.store(self.silences).set(caller, "absent", absent_at)?;
                let pings = ctx.store(self.pings).get(caller)?.unwrap_or(0);
                (caller.clone(), pings)
            }
            (TimeDomain::StreamTime, _) => {
                ctx.store(self.pings).delete(caller)?;
                (caller.clone(), -1)
            }
        };
        let (key, value, headers) = (&key, &value, Headers::empty());
        ctx.forward(Record { key, value, timestamp, headers })
    }
}

fn topology() -> Arc<Topology> {
    let builder = StreamsBuilder::new();
    let silences = builder.add_store(Stored::stream_timers("silences", string()));
    let reminders = builder.add_store(Stored::wall_clock_timers("reminders", string()));
    let pings = builder.add_store(Stored::key_value("pings", string(), i64()));
    let stores = [silences.id(), reminders.id(), pings.id()];
    let said = builder
        .stream(PINGS, Consumed::with(string(), i64()))
        .process(move || Alarms { silences, reminders, pings }, &stores);
    said.filter(|key, _| !is_reminder(key)).to(SILENCES, Produced::with(string(), i64()));
    said.filter(|key, _| is_reminder(key)).to(REMINDERS, Produced::with(string(), i64()));
    builder.build().expect("the topology is sound")
}

fn is_reminder(key: &str) -> bool {
    key.starts_with("reminder-")
}

/// Numbered pings whose time goes on, in jumps, and back now and then.
fn inputs(inputs: &mut Inputs) {
    let mut time = 0;
    for number in 0..inputs.draw(60..120) {
        let caller = inputs.draw(0..CALLERS);
        time += inputs.draw(0..900);
        let late = inputs.draw(0..6_000).min(time);
        let late = if inputs.draw(0..4) == 0 { late } else { 0 };
        inputs.push(Input {
            topic: PINGS.into(),
            partition: u32::try_from(caller % u64::from(PARTITIONS)).expect("small"),
            timestamp: START_MS + i64::try_from(time - late).expect("small"),
            key: Some(format!("caller-{caller}").into_bytes()),
            value: Some(i64::try_from(number).expect("small").to_be_bytes().to_vec()),
        });
    }
}

/// A caller's timer of a name.
type Alarm = (Vec<u8>, &'static str);

/// One partition, recomputed.
#[derive(Default)]
struct Partition {
    stream_time: i64,
    timers: BTreeMap<Alarm, i64>,
    pings: BTreeMap<Vec<u8>, i64>,
}

impl Partition {
    fn ping(&mut self, input: &Input) {
        let (caller, number) =
            (input.key.clone().unwrap_or_default(), number(input.value.as_deref()));
        self.stream_time = self.stream_time.max(input.timestamp);
        *self.pings.entry(caller.clone()).or_default() += 1;
        if number % ENDS == 0 {
            self.timers.remove(&(caller.clone(), "silent"));
            self.timers.remove(&(caller, "absent"));
        } else {
            self.timers.insert((caller, "silent"), input.timestamp + SILENT_MS);
        }
    }

    fn fire(&mut self, said: &mut BTreeMap<Vec<u8>, Vec<Timed>>) {
        while let Some((alarm, time)) =
            self.timers.iter().map(|(a, t)| (a.clone(), *t)).min_by_key(|(a, t)| (*t, a.clone()))
        {
            if time > self.stream_time {
                return;
            }
            self.timers.remove(&alarm);
            let (caller, name) = alarm;
            let said = said.entry(caller.clone()).or_default();
            if name == "silent" {
                said.push((self.pings.get(&caller).copied().unwrap_or(0), time));
                self.timers.insert((caller, "absent"), time + ABSENT_MS);
            } else {
                said.push((-1, time));
                self.pings.remove(&caller);
            }
        }
    }
}

fn check(outcome: &Outcome<'_>) -> Result<(), String> {
    let mut wrong = Vec::new();
    let mut partitions: BTreeMap<u32, Partition> = BTreeMap::new();
    let mut said: BTreeMap<Vec<u8>, Vec<Timed>> = BTreeMap::new();
    let mut numbers = BTreeSet::new();
    for input in outcome.inputs() {
        let partition = partitions.entry(input.partition).or_default();
        partition.ping(input);
        partition.fire(&mut said);
        numbers.insert(number(input.value.as_deref()));
    }
    maps(SILENCES, &said, &sequences(outcome, SILENCES), &mut wrong);
    let timers = partitions.values().flat_map(|p| &p.timers);
    let timers: BTreeMap<_, _> = timers
        .map(|((caller, name), time)| ((caller.clone(), (*name).to_owned()), *time))
        .collect();
    maps("silences", &timers, &waiting(&rows(outcome, "silences", &mut wrong)), &mut wrong);
    let pings = partitions.values().flat_map(|p| &p.pings);
    let pings: StoreRows = pings.map(|(k, n)| (k.clone(), n.to_be_bytes().to_vec())).collect();
    maps("pings", &pings, &rows(outcome, "pings", &mut wrong), &mut wrong);
    compare_reminders(outcome, &numbers, &mut wrong);
    verdict(wrong)
}

/// Every ping is reminded of once, or will be: its timer is set.
fn compare_reminders(outcome: &Outcome<'_>, numbers: &BTreeSet<i64>, wrong: &mut Vec<String>) {
    let mut times: BTreeMap<i64, usize> = BTreeMap::new();
    for seen in sequences(outcome, REMINDERS).into_values().flatten() {
        *times.entry(seen.0).or_default() += 1;
    }
    for (_, name) in waiting(&rows(outcome, "reminders", wrong)).into_keys() {
        *times.entry(name.parse().unwrap_or(-1)).or_default() += 1;
    }
    let once = numbers.iter().map(|number| (*number, 1)).collect();
    maps(REMINDERS, &once, &times, wrong);
}

/// The timers of a store's rows `0x00 | key | 0x00 0x00 | name -> time`; keys have no zero here.
fn waiting(rows: &StoreRows) -> BTreeMap<(Vec<u8>, String), i64> {
    let own = rows.iter().filter_map(|(key, time)| Some((key.strip_prefix(&[0])?, time)));
    let timers = own.map(|(timer, time)| {
        let end = timer.windows(2).position(|pair| pair == [0, 0]).unwrap_or(0);
        let name = String::from_utf8_lossy(&timer[end + 2..]).into_owned();
        ((timer[..end].to_vec(), name), number(Some(time)))
    });
    timers.collect()
}

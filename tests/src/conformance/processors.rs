//! Custom processors of scenarios.

use std::marker::PhantomData;

use headwater::processor::{
    InitContext, NodeError, Processor, ProcessorContext, Punctuated, Punctuation, PunctuationId,
    PunctuationType,
};
use headwater::record::{Headers, Record};
use headwater::store::{KeyValueStore, StoreHandle, WindowStore};
use serde_json::Value as Json;

use super::NoAnswer;
use super::values::{Key, ScenarioKey, Val};

/// A store that a scenario declares.
#[derive(Debug, Clone, Copy)]
pub(super) enum Declared {
    KeyValue(StoreHandle<KeyValueStore<Key, Val>>),
    Window(StoreHandle<WindowStore<Key, Val>>),
}

#[derive(Debug, Clone)]
enum Kind {
    StoreSum,
    LastSeen,
    Dedup,
    Put,
    Lookup,
    RecentCount { span: i64 },
    Probe,
    ShiftTimestamp { ms: i64 },
    Fan { n: i64, ms: i64 },
    Ticker { cancel_after: Option<i64> },
    Buffer { clear: bool },
}

#[derive(Debug, Clone)]
pub(super) struct Custom<K> {
    kind: Kind,
    store: Option<Declared>,
    schedule: Option<(PunctuationType, i64, Option<i64>)>,
    ticks: i64,
    ticker: Option<PunctuationId>,
    _key: PhantomData<fn() -> K>,
}

impl<K: ScenarioKey> Custom<K> {
    pub(super) fn parse(spec: &Json, store: Option<Declared>) -> Result<Self, NoAnswer> {
        let number = |field: &str| {
            let found = spec[field].as_i64();
            found.ok_or_else(|| NoAnswer::failed(format!("{spec} has no number {field}")))
        };
        let kind = match spec["kind"].as_str().unwrap_or_default() {
            "store_sum" => Kind::StoreSum,
            "last_seen" => Kind::LastSeen,
            "dedup" => Kind::Dedup,
            "put" => Kind::Put,
            "lookup" => Kind::Lookup,
            "recent_count" => Kind::RecentCount { span: number("span_ms")? },
            "probe" => Kind::Probe,
            "shift_timestamp" => Kind::ShiftTimestamp { ms: number("ms")? },
            "fan" => Kind::Fan { n: number("n")?, ms: number("ms")? },
            "ticker" => Kind::Ticker { cancel_after: spec["cancel_after"].as_i64() },
            "buffer" => Kind::Buffer { clear: spec["clear"].as_bool().unwrap_or(false) },
            _ => return Err(NoAnswer::Unsupported(format!("processor {spec}"))),
        };
        let schedule = match spec["time"].as_str() {
            None => None,
            Some(time) => {
                let clock = match time {
                    "stream" => PunctuationType::StreamTime,
                    _ => PunctuationType::WallClockTime,
                };
                Some((clock, number("interval_ms")?, spec["start_ms"].as_i64()))
            }
        };
        let none = (0, None, PhantomData);
        Ok(Self { kind, store, schedule, ticks: none.0, ticker: none.1, _key: none.2 })
    }

    fn key_value(&self) -> StoreHandle<KeyValueStore<Key, Val>> {
        match self.store {
            Some(Declared::KeyValue(handle)) => handle,
            _ => panic!("the scenario gives this processor a key-value store"),
        }
    }
}

type Ctx<'a, 'c, 't> = &'a mut ProcessorContext<'c, 't, Key, Val>;

impl<K: ScenarioKey> Processor<K, Val, Key, Val> for Custom<K> {
    fn init(&mut self, ctx: &mut InitContext<'_>) -> Result<(), NodeError> {
        if let Some((clock, interval, start)) = self.schedule {
            self.ticker = Some(ctx.schedule(clock, interval, start)?);
        }
        Ok(())
    }

    fn process(
        &mut self,
        record: Record<'_, K, Val>,
        ctx: &mut ProcessorContext<'_, '_, Key, Val>,
    ) -> Result<(), NodeError> {
        let key = Key(record.key.text());
        let record = record.with_key(&key);
        match &self.kind {
            Kind::Probe => {
                let (text, time) = (record.value.text(), record.timestamp);
                let (stream, wall) = (ctx.stream_time(), ctx.wall_clock());
                let value = Val::Str(format!("{text};ts={time};st={stream};wc={wall}"));
                ctx.forward(record.with_value(&value))
            }
            Kind::ShiftTimestamp { ms } => {
                ctx.forward(record.with_timestamp(record.timestamp.saturating_add(*ms).max(0)))
            }
            Kind::Fan { n, ms } => {
                for i in 0..*n {
                    ctx.forward(record.with_timestamp(record.timestamp + i * ms))?;
                }
                Ok(())
            }
            Kind::Ticker { .. } => ctx.forward(record),
            Kind::Lookup => self.lookup(record, ctx),
            _ if key.0.is_none() => Ok(()),
            Kind::RecentCount { span } => self.recent_count(record, *span, ctx),
            _ => self.keyed(record, ctx),
        }
    }

    fn punctuate(
        &mut self,
        punctuation: Punctuation<'_>,
        ctx: &mut ProcessorContext<'_, '_, Key, Val>,
    ) -> Result<Punctuated, NodeError> {
        let (timestamp, headers) = (punctuation.time, Headers::empty());
        match self.kind {
            Kind::Ticker { cancel_after } => {
                self.ticks += 1;
                let (key, value) = (Key(Some("tick".into())), Val::Int(self.ticks));
                ctx.forward(Record { key: &key, value: &value, timestamp, headers })?;
                if cancel_after.is_some_and(|after| self.ticks >= after) {
                    ctx.cancel(punctuation.id);
                }
            }
            Kind::Buffer { clear } => {
                let entries = ctx.store(self.key_value()).page(None, usize::MAX)?;
                for (key, value) in entries {
                    ctx.forward(Record { key: &key, value: &value, timestamp, headers })?;
                    if clear {
                        ctx.store(self.key_value()).delete(&key)?;
                    }
                }
            }
            _ => {}
        }
        Ok(Punctuated::Done)
    }
}

impl<K: ScenarioKey> Custom<K> {
    fn lookup(&self, record: Record<'_, Key, Val>, ctx: Ctx<'_, '_, '_>) -> Result<(), NodeError> {
        let stored = match record.key.0 {
            None => Val::Null,
            Some(_) => ctx.store(self.key_value()).get(record.key)?.unwrap_or(Val::Null),
        };
        let value = Val::Str(format!("({},{})", record.value.text(), stored.text()));
        ctx.forward(record.with_value(&value))
    }

    fn recent_count(
        &self,
        record: Record<'_, Key, Val>,
        span: i64,
        ctx: Ctx<'_, '_, '_>,
    ) -> Result<(), NodeError> {
        let Some(Declared::Window(handle)) = self.store else {
            panic!("the scenario gives this processor a window store");
        };
        let store = ctx.store(handle);
        let time = record.timestamp;
        store.put(record.key, time, Some(record.value).filter(|v| !v.is_null()))?;
        let found = store.fetch_range(record.key, (time - span).max(0), time)?.len();
        let value = Val::Int(i64::try_from(found)?);
        ctx.forward(record.with_value(&value))
    }

    fn keyed(&self, record: Record<'_, Key, Val>, ctx: Ctx<'_, '_, '_>) -> Result<(), NodeError> {
        let store = ctx.store(self.key_value());
        let value = match self.kind {
            Kind::StoreSum if record.value.is_null() => {
                store.delete(record.key)?;
                Val::Null
            }
            Kind::StoreSum => {
                let stored = store.get(record.key)?.unwrap_or(Val::Null);
                let sum = Val::Int(stored.number().wrapping_add(record.value.number()));
                store.put(record.key, &sum)?;
                sum
            }
            Kind::LastSeen => {
                let stored = store.get(record.key)?.unwrap_or(Val::Null);
                let text = Val::Str(record.value.text());
                let kept = if record.value.is_null() { &Val::Null } else { &text };
                store.put(record.key, kept)?;
                Val::Str(format!("{}>{}", stored.text(), record.value.text()))
            }
            Kind::Dedup => {
                if store.get(record.key)?.unwrap_or(Val::Null) == *record.value {
                    return Ok(());
                }
                store.put(record.key, record.value)?;
                record.value.clone()
            }
            _ => {
                store.put(record.key, record.value)?;
                return Ok(());
            }
        };
        ctx.forward(record.with_value(&value))
    }
}

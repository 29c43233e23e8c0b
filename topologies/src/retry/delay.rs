//! The retry consumer: records of `<topic>.retry` wait in a delay store until they are due, then go
//! back to their topic; after the last retry they are dead letters.
//!
//! Owns how often a record was tried, in state: a record that comes again names itself by the header
//! `retry-id`, which counts only for a record of the same key and value that this topology sent out
//! under that id. No header makes the number smaller. It must not know why a record failed.
//!
//! ```text
//! <topic>.retry --> delay --+-- when due --> <topic>
//!   delayed.<topic>         |
//!   attempts.<topic>        +-- no retry left --> <topic>.dlq
//!   delays.<topic> (timers)
//!   retries.<topic> (what has become of them all)
//! ```

use headwater::dsl::{Produced, StreamsBuilder};
use headwater::processor::{NodeError, Processor, ProcessorContext, Timer};
use headwater::record::{Headers, Record};
use headwater::serde::serdes;
use headwater::store::{KeyValueStore, StoreHandle, Stored, TimerHandle};
use headwater_schemas::headers;
use headwater_schemas::topics::Topic;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::policy::Policy;
use super::record::{
    KeptRecord, RawKey, RawValue, Routed, header, print, raw, raw_records, routed, with, without,
};
use super::{RETRY_ID, given_up};

/// A record's tries are forgotten if it has not failed again after this time: as long as retry topics
/// keep records.
const FORGET_MS: i64 = 7 * 24 * 60 * 60 * 1_000;

const DUE: &str = "due";
const FORGET: &str = "forget";

/// Lets the failed records of one topic wait and come back.
pub fn retries(b: &StreamsBuilder, topic: &Topic, policy: Policy) {
    let name = &topic.name;
    let store = |kind: &str| format!("{kind}.{name}");
    let delayed =
        b.add_store(Stored::key_value(store("delayed"), serdes::string(), serdes::json()));
    let attempts =
        b.add_store(Stored::key_value(store("attempts"), serdes::string(), serdes::json()));
    let timers = b.add_store(Stored::wall_clock_timers(store("delays"), raw()));
    let totals =
        b.add_store(Stored::key_value(totals_store(name), serdes::string(), serdes::json()));
    let stores = [delayed.id(), attempts.id(), timers.id(), totals.id()];
    let (own, letters) = (name.to_string(), topic.dead_letters().name.to_string());
    let to = [own.clone(), letters.clone()];
    b.stream(&topic.retries().name, raw_records())
        .process(
            move || Delay {
                topic: own.clone(),
                letters: letters.clone(),
                policy,
                delayed,
                attempts,
                timers,
                totals,
            },
            &stores,
        )
        .named(&format!("delay.{name}"))
        .to_chosen(
            &[&to[0], &to[1]],
            |_, routed: &Routed| routed.topic.clone(),
            Produced::with(raw(), routed()),
        );
}

/// The store of the [`Totals`] of a topic: a row in each partition.
pub(super) fn totals_store(topic: &str) -> String {
    format!("retries.{topic}")
}

/// What has become of the records that came to be tried again; one that fails again comes anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// How many came.
    pub taken: u64,
    /// How many went back to their topic.
    pub sent_back: u64,
    /// How many were given up.
    pub given_up: u64,
}

impl Totals {
    /// How many wait.
    pub fn waiting(&self) -> u64 {
        self.taken.saturating_sub(self.sent_back).saturating_sub(self.given_up)
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            taken: self.taken + other.taken,
            sent_back: self.sent_back + other.sent_back,
            given_up: self.given_up + other.given_up,
        }
    }
}

/// How often a record was sent out again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Attempts {
    retries: u32,
    /// Of its key and value.
    print: Uuid,
}

struct Delay {
    topic: String,
    letters: String,
    policy: Policy,
    delayed: StoreHandle<KeyValueStore<String, KeptRecord>>,
    attempts: StoreHandle<KeyValueStore<String, Attempts>>,
    timers: TimerHandle<RawKey>,
    totals: StoreHandle<KeyValueStore<String, Totals>>,
}

type Context<'c, 't> = ProcessorContext<'c, 't, RawKey, Routed>;

impl Processor<RawKey, RawValue, RawKey, Routed> for Delay {
    fn timers(&self) -> Vec<TimerHandle<RawKey>> {
        vec![self.timers]
    }

    fn process(
        &mut self,
        record: Record<'_, RawKey, RawValue>,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), NodeError> {
        let print = print(record.key, record.value);
        let (id, retries) = self.known(&record, print, ctx)?;
        let timer = Some(id.clone().into_bytes());
        let mut total = Totals { taken: 1, ..Totals::default() };
        if retries >= self.policy.retries_max {
            total.given_up = 1;
            self.count(total, ctx)?;
            ctx.store(self.attempts).delete(&id)?;
            ctx.store(self.timers).cancel(&timer, FORGET)?;
            let why = header(record.headers, headers::ERROR_MESSAGE).unwrap_or_default();
            let (topic, wall) = (&self.topic, ctx.wall_clock());
            tracing::error!(topic, id, retries, why, "record given up");
            let headers = given_up(record.headers, topic, &why, retries, wall);
            return send(&self.letters, &record, &headers, ctx);
        }
        self.count(total, ctx)?;
        let wall = ctx.wall_clock();
        let due = match header(record.headers, headers::RETRY_AT).and_then(|at| at.parse().ok()) {
            Some(at) => i64::clamp(at, wall, wall.saturating_add(self.policy.delay_max_ms.max(0))),
            None => wall.saturating_add(self.policy.delay_ms(retries)),
        };
        ctx.store(self.attempts).put(&id, &Attempts { retries: retries + 1, print })?;
        ctx.store(self.delayed).put(&id, &KeptRecord::of(&record))?;
        ctx.store(self.timers).cancel(&timer, FORGET)?;
        ctx.store(self.timers).set(&timer, DUE, due)
    }

    fn on_timer(
        &mut self,
        timer: Timer<'_, RawKey>,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), NodeError> {
        let id = String::from_utf8(timer.key.clone().unwrap_or_default())?;
        if timer.name == FORGET {
            return ctx.store(self.attempts).delete(&id);
        }
        let Some(kept) = ctx.store(self.delayed).get(&id)? else { return Ok(()) };
        ctx.store(self.delayed).delete(&id)?;
        self.count(Totals { sent_back: 1, ..Totals::default() }, ctx)?;
        let retries = ctx.store(self.attempts).get(&id)?.map_or(1, |attempts| attempts.retries);
        let forget_at = ctx.wall_clock().saturating_add(FORGET_MS);
        ctx.store(self.timers).set(timer.key, FORGET, forget_at)?;
        let sent = without(&kept.raw_headers(), &[headers::RETRY_AT, headers::ORIGINAL_TOPIC]);
        let count = [(headers::RETRY_COUNT, retries.to_string()), (RETRY_ID, id)];
        let (key, value) = (kept.raw_key(), kept.raw_value());
        let (timestamp, sent) = (kept.timestamp, with(&sent, &count));
        let record = Record { key: &key, value: &value, timestamp, headers: &sent };
        send(&self.topic, &record, &sent, ctx)
    }
}

impl Delay {
    fn count(&self, more: Totals, ctx: &mut Context<'_, '_>) -> Result<(), NodeError> {
        let totals = ctx.store(self.totals).get(&self.topic)?.unwrap_or_default();
        ctx.store(self.totals).put(&self.topic, &totals.and(more))
    }

    /// The record's id, and how often it was sent out again.
    fn known(
        &self,
        record: &Record<'_, RawKey, RawValue>,
        print: Uuid,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(String, u32), NodeError> {
        if let Some(id) = header(record.headers, RETRY_ID)
            && let Some(attempts) = ctx.store(self.attempts).get(&id)?
            && attempts.print == print
            && ctx.store(self.delayed).get(&id)?.is_none()
        {
            return Ok((id, attempts.retries));
        }
        let place = ctx.place().ok_or_else(|| NodeError::message("a record has a place"))?;
        Ok((format!("{}-{}", place.partition.partition, place.offset), 0))
    }
}

fn send(
    topic: &str,
    record: &Record<'_, RawKey, RawValue>,
    headers: &Headers,
    ctx: &mut Context<'_, '_>,
) -> Result<(), NodeError> {
    let routed = Routed { topic: topic.to_owned(), value: record.value.clone() };
    ctx.forward(record.with_value(&routed).with_headers(headers))
}

//! The error rate of a whole topic: what the tasks of a guard count comes together in one task, which
//! judges it.
//!
//! Owns how counts travel and when they are judged. It must not know what is counted, nor how an alert
//! looks.
//!
//! ```text
//! guard, each partition: counts --(a second's at a time, by topic)--> rates --> monitoring.events
//! ```

use headwater::dsl::{KStream, Produced, Repartitioned, StreamsBuilder};
use headwater::processor::{NodeError, Processor, ProcessorContext};
use headwater::record::Record;
use headwater::serde::serdes;
use headwater::store::{KeyValueStore, StoreHandle, Stored};
use headwater_schemas::topics::MONITORING_EVENTS;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::alert::{self, ErrorRate};
use crate::outgoing::event_headers;
use crate::platform_event::{PlatformEvent, event_keys, platform_events};

/// How often a task tells what it counted, in milliseconds.
pub(super) const TELL_MS: i64 = 1_000;

/// What one task counted and has not told yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Counts {
    records: u64,
    failed: u64,
    /// The last failure: where it was, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<Value>,
}

impl Counts {
    /// Counts one record; `failure` says where it failed and why.
    pub(super) fn note(&mut self, failure: Option<Value>) {
        self.records += 1;
        self.failed += u64::from(failure.is_some());
        self.last = failure.or(self.last.take());
    }
}

/// Judges the counts of a topic, all partitions together, and tells of it when too many fail. `name`
/// begins the names of what it needs, and is the service that tells.
pub(super) fn watch(counts: KStream<'_, String, Counts>, b: &StreamsBuilder, name: &str) {
    let rates = format!("{name}-rates");
    let store = b.add_store(Stored::key_value(&*rates, serdes::string(), serdes::json()));
    let service = name.to_owned();
    // One task has all of a topic.
    let through = Repartitioned::with(&rates, event_keys(), serdes::json()).partitions(1);
    counts
        .repartition(through)
        .process(move || Judge { rates: store, service: service.clone() }, &[store.id()])
        .named(&rates)
        .to(&MONITORING_EVENTS.name, Produced::with(event_keys(), platform_events()));
}

struct Judge {
    rates: StoreHandle<KeyValueStore<String, ErrorRate>>,
    service: String,
}

impl Processor<String, Counts, String, PlatformEvent> for Judge {
    fn process(
        &mut self,
        record: Record<'_, String, Counts>,
        ctx: &mut ProcessorContext<'_, '_, String, PlatformEvent>,
    ) -> Result<(), NodeError> {
        let (topic, counts, wall) = (record.key, record.value, ctx.wall_clock());
        let mut rate = ctx.store(self.rates).get(topic)?.unwrap_or_default();
        let too_high = rate.note(counts.records, counts.failed, wall);
        ctx.store(self.rates).put(topic, &rate)?;
        let Some(percent) = too_high else { return Ok(()) };
        tracing::warn!(topic, percent, "error rate is high");
        let context = counts.last.clone().unwrap_or_default();
        let event = alert::error_rate(topic, percent, wall, context);
        let headers = event_headers(&event, &self.service);
        let payload = headwater_schemas::events::Event::of(&event);
        let payload = payload.map_err(|error| NodeError::message(error.to_string()))?;
        let told = PlatformEvent { event, payload };
        ctx.forward(Record { key: topic, value: &told, timestamp: wall.max(0), headers: &headers })
    }
}

//! What an event adds to its request, and when a request is forgotten.
//!
//! Owns the two stores' agreement. It must not know who asks for them.

use headwater::processor::{NodeError, Processor, ProcessorContext, Timer};
use headwater::record::Record;
use headwater::store::{KeyValueStore, StoreHandle, TimerHandle};
use headwater_schemas::adapter::parse_any;
use headwater_schemas::events::canonical_type;
use headwater_schemas::topics::Topic;

use super::{Correlation, EVENTS_MAX, KEPT_MS, STORE, Seen, Status, event_key};

/// Events of a request that are forgotten at once.
const PART: usize = 100;

const END: &str = "end";

/// An event of this topic, by its correlation id; `None` if it cannot be read.
pub(super) fn seen(value: &[u8], topic: &Topic) -> Option<(String, Seen)> {
    let event = parse_any(value, None).ok()?.event;
    let says = match (canonical_type(&event.event_type), event.event_data.get("status")) {
        ("TaskStatusUpdated", Some(status)) => match status.as_str() {
            Some("COMPLETED") => Status::Completed,
            Some("FAILED" | "CANCELLED") => Status::Failed,
            _ => Status::Open,
        },
        _ => Status::Open,
    };
    let metadata = event.metadata;
    let seen = Seen {
        event_id: event.event_id,
        event_type: event.event_type,
        causation_id: metadata.causation_id,
        session_id: metadata.session_id,
        topic: topic.name.to_string(),
        timestamp: metadata.timestamp,
        says,
        number: 0,
    };
    Some((metadata.correlation_id.to_string(), seen))
}

/// Adds events to their requests.
pub(super) struct Track {
    pub(super) requests: StoreHandle<KeyValueStore<String, Correlation>>,
    pub(super) events: StoreHandle<KeyValueStore<String, Seen>>,
    pub(super) timers: TimerHandle<String>,
}

type Context<'c, 't> = ProcessorContext<'c, 't, String, Seen>;

impl Processor<String, Seen, String, Seen> for Track {
    fn timers(&self) -> Vec<TimerHandle<String>> {
        vec![self.timers]
    }

    fn process(
        &mut self,
        record: Record<'_, String, Seen>,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), NodeError> {
        let (id, seen, wall) = (record.key, record.value, ctx.wall_clock().max(0));
        let key = event_key(id, seen.event_id);
        if ctx.store(self.events).get(&key)?.is_some() {
            return Ok(());
        }
        let known = ctx.store(self.requests).get(id)?;
        if known.is_none() {
            ctx.store(self.timers).set(id, END, wall.saturating_add(KEPT_MS))?;
        }
        let mut request = known.unwrap_or_else(|| Correlation {
            correlation_id: id.clone(),
            session_id: None,
            first_at: seen.timestamp,
            last_at: seen.timestamp,
            status: Status::Open,
            events: 0,
            beyond: 0,
            heard_ms: wall,
        });
        request.session_id = request.session_id.or_else(|| seen.session_id.clone());
        request.first_at = request.first_at.min(seen.timestamp);
        request.last_at = request.last_at.max(seen.timestamp);
        request.heard_ms = wall;
        request.status = match (request.status, seen.says) {
            (Status::Failed, _) | (_, Status::Failed) => Status::Failed,
            (Status::Completed, _) | (_, Status::Completed) => Status::Completed,
            (Status::Open, Status::Open) => Status::Open,
        };
        if request.events < EVENTS_MAX {
            let kept = Seen { number: request.events, ..seen.clone() };
            ctx.store(self.events).put(&key, &kept)?;
            request.events += 1;
        } else {
            request.beyond += 1;
        }
        ctx.store(self.requests).put(id, &request)
    }

    /// A request is forgotten, part by part, unless something was heard of it meanwhile.
    fn on_timer(
        &mut self,
        timer: Timer<'_, String>,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), NodeError> {
        let (id, wall) = (timer.key, ctx.wall_clock().max(0));
        let Some(request) = ctx.store(self.requests).get(id)? else { return Ok(()) };
        let due = request.heard_ms.saturating_add(KEPT_MS);
        if due > wall {
            return ctx.store(self.timers).set(id, END, due);
        }
        let prefix = format!("{id}/");
        let page = ctx.store(self.events).page(Some(&prefix), PART)?;
        let of_it: Vec<String> = page
            .into_iter()
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(&prefix))
            .collect();
        for key in &of_it {
            ctx.store(self.events).delete(key)?;
        }
        if of_it.len() == PART {
            return ctx.store(self.timers).set(id, END, wall);
        }
        tracing::debug!(id, events = request.events, "forgotten from {STORE}");
        ctx.store(self.requests).delete(id)
    }
}

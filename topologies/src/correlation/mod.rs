//! The correlation tracker: every event of a request, whatever topic it is on, and what caused what.
//!
//! Owns the topology, its stores and what a trace is. It must not know what an event means, but for
//! the end of a task.
//!
//! ```text
//! topics of events --> by correlation id --> track --> stores correlations, correlation-events
//!                                                      --> GET /correlations/{id}/trace
//! ```
//!
//! * An event is known by its id: one that comes again, or is copied to another topic, is there once,
//!   with the topic that it was first seen on.
//! * A request has at most [`EVENTS_MAX`] events; those beyond are counted.
//! * A request that nothing was heard of for [`KEPT_MS`] is forgotten, by durable timers.
//! * Metrics and alerts (`monitoring.events`) are not a request's course, and by far the most: they are
//!   left out.
//! * What cannot be read is passed over: its own readers set it aside.

pub mod route;
mod track;

#[cfg(test)]
mod topology_tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater::dsl::{Consumed, KStream, Repartitioned, StreamsBuilder};
use headwater::query::Route;
use headwater::serde::serdes;
use headwater::shell::Application;
use headwater::store::Stored;
use headwater_schemas::envelope::EventTime;
use headwater_schemas::topics::{
    AGENT_RESPONSES, AGENT_TASKS_MANAGER, AGENT_TASKS_WORKER, DEFAULT_EVENTS, ORDERS,
    QUALITY_GATES, SESSION_EVENTS, TASK_COMPLETED, Topic,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::track::{Track, seen};
use crate::conventions;
use crate::platform_event::event_keys;

/// The application id.
pub const APPLICATION: &str = "correlation";

/// What is known of each request, by correlation id.
pub const STORE: &str = "correlations";

/// The events of each request, by [`event_key`].
pub const EVENT_STORE: &str = "correlation-events";

/// Events of one request that are kept.
pub const EVENTS_MAX: u64 = 1_000;

/// How long a request is known after its last event, in milliseconds of the wall clock.
pub const KEPT_MS: i64 = 24 * 60 * 60 * 1_000;

/// The topics whose events are tracked.
pub static TOPICS: [&Topic; 8] = [
    &AGENT_RESPONSES,
    &AGENT_TASKS_MANAGER,
    &AGENT_TASKS_WORKER,
    &DEFAULT_EVENTS,
    &ORDERS,
    &QUALITY_GATES,
    &SESSION_EVENTS,
    &TASK_COMPLETED,
];

/// Partitions of the topic that brings a request's events together.
const PARTITIONS: u32 = 6;

/// The key of an event: those of a request lie together.
pub fn event_key(correlation_id: &str, event_id: Uuid) -> String {
    format!("{correlation_id}/{event_id}")
}

/// How far a request is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// No task of it has ended.
    #[default]
    Open,
    /// A task of it ended well, and none badly.
    Completed,
    /// A task of it ended badly, or was withdrawn.
    Failed,
}

/// What is known of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Correlation {
    /// Its correlation id.
    pub correlation_id: String,
    /// The session of its first event that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// When its first event happened.
    pub first_at: EventTime,
    /// When its last event happened.
    pub last_at: EventTime,
    /// How far it is.
    pub status: Status,
    /// Events that are kept.
    pub events: u64,
    /// Events beyond [`EVENTS_MAX`], which are not; one that comes again counts again.
    pub beyond: u64,
    /// When something was last heard of it, in epoch milliseconds of the wall clock.
    pub heard_ms: i64,
}

/// One event of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// Its id.
    pub event_id: Uuid,
    /// Its type.
    pub event_type: String,
    /// The event that caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation_id: Option<Uuid>,
    /// Its session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Where it was first seen.
    pub topic: String,
    /// When it happened.
    pub timestamp: EventTime,
    /// What it says of its request.
    #[serde(default)]
    pub says: Status,
    /// Its place among the request's, as they came.
    #[serde(default)]
    pub number: u64,
}

/// The tracker, with its route.
pub fn application() -> Application {
    let routes: Vec<Arc<dyn Route>> = vec![Arc::new(route::TraceRoute)];
    Application { id: APPLICATION, topology: Arc::new(topology), routes }
}

/// Adds the tracker to `b`.
pub fn topology(b: &StreamsBuilder) {
    conventions::follow(b, &TOPICS);
    let requests = b.add_store(Stored::key_value(STORE, serdes::string(), serdes::json()));
    let events = b.add_store(Stored::key_value(EVENT_STORE, serdes::string(), serdes::json()));
    let timers = b.add_store(Stored::wall_clock_timers("correlation-ends", event_keys()));
    // Topics with as many partitions share their tasks.
    let mut alike: BTreeMap<u32, KStream<'_, String, Seen>> = BTreeMap::new();
    for topic in TOPICS {
        let of_topic = by_request(b, topic);
        let all = alike.remove(&topic.partitions);
        alike.insert(topic.partitions, all.map_or(of_topic, |all| all.merge(of_topic)));
    }
    let through = |partitions: u32| {
        let name = format!("correlations-{partitions}");
        Repartitioned::with(&name, event_keys(), serdes::json()).partitions(PARTITIONS)
    };
    let together = alike.into_iter().map(|(count, stream)| stream.repartition(through(count)));
    let Some(all) = together.reduce(KStream::merge) else { return };
    all.process(
        move || Track { requests, events, timers },
        &[requests.id(), events.id(), timers.id()],
    )
    .named("track");
}

/// What is to be known of a topic's events, by correlation id.
fn by_request<'b>(b: &'b StreamsBuilder, topic: &'static Topic) -> KStream<'b, String, Seen> {
    let bytes = || serdes::optional(serdes::byte_vec());
    b.stream(&topic.name, Consumed::with(bytes(), bytes()))
        .flat_map(move |_, value| seen(value.as_deref().unwrap_or_default(), topic))
}

//! Analytics rollups: agents' performance metrics in five-minute windows.
//!
//! Owns the topology: which records count, under which key, when they are late, and what is told.
//! It must not know which log or which store runs underneath.
//!
//! ```text
//! monitoring.events -> metrics only -> group by record key -> tumbling 5 min, grace 60 s
//!     -> aggregate (store `analytics-rollups`, 24 h) -> analytics.aggregated
//! ```
//!
//! * Time is event time; see [`PlatformEvent::time`]. Only metrics move the windows' clock.
//! * A record that is no event, names an impossible value, or has no usable key goes to
//!   `monitoring.events.dlq` with every offending path. Events of other types are passed over.
//! * A record whose window closed more than the grace ago is late: counted and, when asked for,
//!   dead-lettered.
//! * Every commit tells each window that changed, under the key `<key>@<window start in ms>`.

mod bytes;
pub mod demo;
pub mod load;
pub mod rollup;
pub mod route;
pub mod sketch;

use std::sync::Arc;
use std::time::Duration;

use ::bytes::Bytes;
use headwater::dsl::{Consumed, Grouped, Materialized, Produced, StreamsBuilder, TimeWindows};
use headwater::processor::drops::OnDropped;
use headwater::processor::{NodeError, Processor, ProcessorContext};
use headwater::query::Route;
use headwater::record::{Headers, Record, Windowed};
use headwater::serde::{Serde, SerdeError, SharedSerde, serdes};
use headwater::shell::Application;
use headwater_schemas::envelope::{EventTime, VERSION};
use headwater_schemas::events::{AgentPerformanceMetric, AnalyticsRollup, Event};
use headwater_schemas::{headers, topics};

pub use self::bytes::DecodeError;
use self::rollup::Rollup;
use self::route::AnalyticsRoute;
use crate::conventions;
use crate::platform_event::{PlatformEvent, event_keys, platform_events_of};

/// Length of a window.
pub const WINDOW_MS: i64 = 5 * 60 * 1_000;

/// How long after its end a window accepts records, in stream time.
pub const GRACE_MS: i64 = 60 * 1_000;

/// How long a window can be asked for.
pub const RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// The application id, unless the environment names another.
pub const APPLICATION: &str = "analytics-rollup";

/// The store of the windows.
pub const STORE: &str = "analytics-rollups";

/// The service named as the source of rollups.
const SOURCE: &str = APPLICATION;

/// What can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What happens to late records, beyond being counted.
    pub late: OnDropped,
}

impl Default for Options {
    /// Late records are counted and dropped.
    fn default() -> Self {
        Self { late: OnDropped::Count }
    }
}

/// The application: the topology and its route.
pub fn application() -> Application {
    Application {
        id: APPLICATION,
        topology: Arc::new(topology),
        routes: vec![Arc::new(AnalyticsRoute) as Arc<dyn Route>],
    }
}

/// Adds the topology to `b` with the default [`Options`].
pub fn topology(b: &StreamsBuilder) {
    topology_with(b, Options::default());
}

/// Adds the topology to `b`.
pub fn topology_with(b: &StreamsBuilder, options: Options) {
    conventions::follow(b, &[&topics::MONITORING_EVENTS, &topics::ANALYTICS_AGGREGATED]);
    let metrics =
        Consumed::with(event_keys(), platform_events_of(AgentPerformanceMetric::EVENT_TYPE))
            .timestamp_extractor(|_, event: &PlatformEvent, record_time| event.time(record_time))
            .on_dropped(OnDropped::DeadLetter);
    let windows = TimeWindows::tumbling(millis(WINDOW_MS), millis(GRACE_MS));
    b.stream(&topics::MONITORING_EVENTS.name, metrics)
        .filter(|_, event| matches!(event.payload, Event::AgentPerformanceMetric(_)))
        .named("metrics-only")
        .group_by_key(
            Grouped::with(
                "by-key",
                event_keys(),
                platform_events_of(AgentPerformanceMetric::EVENT_TYPE),
            )
            .on_dropped(options.late),
        )
        .windowed_by(windows)
        .aggregate(
            Rollup::default,
            |_, event, rollup| count(event, rollup),
            Materialized::with(STORE, rollups()).cached().retention(RETENTION),
        )
        .to_stream()
        .process(|| TellWindow(rollup_headers()), &[])
        .named("tell-window")
        .to(&topics::ANALYTICS_AGGREGATED.name, Produced::with(serdes::string(), serdes::json()));
}

fn millis(millis: i64) -> Duration {
    Duration::from_millis(millis.unsigned_abs())
}

fn count(event: &PlatformEvent, mut rollup: Rollup) -> Rollup {
    if let Event::AgentPerformanceMetric(metric) = &event.payload {
        let time = event.event.metadata.timestamp;
        rollup.apply(metric, time).expect("a metric that was read can be counted");
    }
    rollup
}

/// Turns a window's row into its event, with headers of its own.
struct TellWindow(Headers);

impl Processor<Windowed<String>, Option<Rollup>, String, AnalyticsRollup> for TellWindow {
    fn process(
        &mut self,
        record: Record<'_, Windowed<String>, Option<Rollup>>,
        ctx: &mut ProcessorContext<'_, '_, String, AnalyticsRollup>,
    ) -> Result<(), NodeError> {
        let Some(rollup) = record.value else { return Ok(()) };
        let Windowed { key, window } = record.key;
        let bounds = EventTime::from_millis(window.start).zip(EventTime::from_millis(window.end));
        let told = bounds.and_then(|(start, end)| rollup.event(key, start, end));
        let told = told.ok_or_else(|| NodeError::message("a window of no time or no metric"))?;
        let key = told.record_key();
        ctx.forward(record.with_key(&key).with_value(&told).with_headers(&self.0))
    }
}

fn rollup_headers() -> Headers {
    let mut all = Headers::new();
    for (name, value) in [
        (headers::EVENT_TYPE, AnalyticsRollup::EVENT_TYPE),
        (headers::EVENT_VERSION, VERSION),
        (headers::EVENT_SOURCE, SOURCE),
        (headers::CONTENT_TYPE, headers::CONTENT_TYPE_JSON),
    ] {
        all.append(name, Some(Bytes::from_static(value.as_bytes())));
    }
    all
}

/// Rollups in their stored form; shown as JSON.
pub fn rollups() -> SharedSerde<Rollup> {
    RollupSerde.shared()
}

struct RollupSerde;

impl Serde<Rollup> for RollupSerde {
    fn serialize(&self, rollup: &Rollup, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        into.extend_from_slice(&rollup.to_bytes());
        Ok(())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<Rollup, SerdeError> {
        Rollup::from_bytes(bytes).map_err(|error| SerdeError::other(error.to_string()))
    }

    fn to_json(&self, rollup: &Rollup) -> Option<serde_json::Value> {
        serde_json::to_value(rollup).ok()
    }
}

#[cfg(test)]
#[path = "topology_tests.rs"]
mod tests;

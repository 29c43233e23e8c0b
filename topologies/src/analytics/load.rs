//! Realistic metric traffic from a seed, with as much wrong in it as asked for.
//!
//! Owns the records and what is wrong with each. It must not do I/O, wait, or read a clock of its
//! own: its user gives the time and sets the pace. One seed and one sequence of times give the
//! same bytes on every machine, since only exact arithmetic is used.

use headwater_schemas::envelope::{DomainEvent, EVENT_BYTES_MAX, EventTime, Metadata, VERSION};
use headwater_schemas::events::AgentPerformanceMetric;
use headwater_schemas::events::agent_performance_metric::{AgentType, Metric};
use headwater_schemas::headers;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::{Map, Value, json};
use uuid::{Builder, Uuid};

use super::{GRACE_MS, WINDOW_MS};

/// The service named as the source of generated events.
const SOURCE: &str = "agent-runner";

/// What traffic looks like. Shares are in thousandths of all records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Sessions active at a time; a fifth of them makes about half of the traffic.
    pub sessions: u32,
    /// Records up to one minute behind the clock, which their windows still accept.
    pub out_of_order: u32,
    /// Records whose windows closed at least a minute before the clock.
    pub late: u32,
    /// Values that are no event: cut or wrong JSON, missing fields, impossible values.
    pub malformed: u32,
    /// Valid events of other types.
    pub unknown: u32,
    /// Records made to break a reader; see [`Kind::Hostile`].
    pub hostile: u32,
}

impl Profile {
    /// Good traffic only.
    pub const CLEAN: Self =
        Self { sessions: 200, out_of_order: 0, late: 0, malformed: 0, unknown: 0, hostile: 0 };

    /// Traffic as it comes: a little of everything.
    pub const MIXED: Self =
        Self { sessions: 200, out_of_order: 50, late: 5, malformed: 3, unknown: 20, hostile: 2 };
}

/// What a generated record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A metric at the clock's time.
    Metric,
    /// A metric up to one minute behind.
    OutOfOrder,
    /// A metric whose window closed before the clock's time.
    Late,
    /// A value that is no event.
    Malformed,
    /// A valid event of another type.
    UnknownType,
    /// A null or non-text key, a null value, a time at the end of the world, a value above the
    /// size limit, bottomless nesting, giant headers.
    Hostile,
}

/// One record to produce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadRecord {
    /// The session, as text.
    pub key: Option<Vec<u8>>,
    /// The event, as JSON.
    pub value: Option<Vec<u8>>,
    /// Event time in ms; of hostile records possibly any number.
    pub timestamp: i64,
    /// The platform's headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// What it is.
    pub kind: Kind,
}

/// An endless stream of records; `clock` gives the event time in ms of the next one.
#[derive(Debug)]
pub struct Load<C> {
    rng: ChaCha8Rng,
    profile: Profile,
    clock: C,
}

impl<C: FnMut() -> i64> Load<C> {
    /// The stream of `seed`.
    pub fn new(seed: u64, profile: Profile, clock: C) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(seed), profile, clock }
    }
}

impl<C: FnMut() -> i64> Iterator for Load<C> {
    type Item = LoadRecord;

    fn next(&mut self) -> Option<LoadRecord> {
        let now = (self.clock)();
        let kind = self.draw_kind();
        let behind = match kind {
            Kind::OutOfOrder => self.rng.random_range(1..=GRACE_MS),
            Kind::Late => WINDOW_MS + GRACE_MS + self.rng.random_range(60_000..600_000),
            _ => 0,
        };
        let event = self.draw_event(now.saturating_sub(behind));
        Some(match kind {
            Kind::Metric | Kind::OutOfOrder | Kind::Late => {
                let value = match self.rng.random_range(0..16) {
                    0 => base_envelope(&event),
                    _ => event.to_json(),
                };
                record(&event, value, kind)
            }
            Kind::Malformed => self.malformed(&event),
            Kind::UnknownType => self.unknown(event),
            Kind::Hostile => self.hostile(&event),
        })
    }
}

impl<C> Load<C> {
    fn draw_kind(&mut self) -> Kind {
        let mut draw = self.rng.random_range(0..1_000);
        let Profile { out_of_order, late, malformed, unknown, hostile, .. } = self.profile;
        for (kind, share) in [
            (Kind::OutOfOrder, out_of_order),
            (Kind::Late, late),
            (Kind::Malformed, malformed),
            (Kind::UnknownType, unknown),
            (Kind::Hostile, hostile),
        ] {
            if draw < share {
                return kind;
            }
            draw -= share;
        }
        Kind::Metric
    }

    /// A valid metric event at `millis`.
    fn draw_event(&mut self, millis: i64) -> DomainEvent {
        let skewed = self.unit() * self.unit() * f64::from(self.profile.sessions);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..sessions")]
        let session = skewed as u32;
        let session_id = format!("session-{session:05}");
        let agent_type =
            if self.rng.random_range(0..4) == 0 { AgentType::Manager } else { AgentType::Worker };
        let name = Metric::ALL[self.rng.random_range(0..Metric::ALL.len())];
        let metric = AgentPerformanceMetric {
            agent_type,
            agent_id: Some(format!("agent-{}", self.rng.random_range(0..8))),
            session_id: session_id.clone(),
            task_id: Some(format!("task-{}-{}", session, self.rng.random_range(0..20))),
            metric: name,
            value: self.draw_value(name, agent_type),
            success: (name == Metric::ExecutionTimeMs).then(|| self.rng.random_range(0..50) != 0),
        };
        let timestamp = EventTime::from_millis(millis.clamp(0, EventTime::MAX.as_millis()));
        let metadata = Metadata {
            timestamp: timestamp.expect("clamped"),
            version: VERSION.to_owned(),
            correlation_id: self.draw_id(),
            causation_id: None,
            user_id: Some(format!("user-{}", session % 50)),
            session_id: Some(session_id.clone()),
            sequence: None,
        };
        DomainEvent {
            event_id: self.draw_id(),
            event_type: AgentPerformanceMetric::EVENT_TYPE.to_owned(),
            aggregate_id: session_id,
            aggregate_type: "Session".to_owned(),
            event_data: metric.to_event_data(),
            metadata,
        }
    }

    fn draw_value(&mut self, metric: Metric, agent_type: AgentType) -> f64 {
        let slower = if agent_type == AgentType::Manager { 2.5 } else { 1.0 };
        match metric {
            Metric::ExecutionTimeMs => thousandths(slower * 900.0 * self.latency_like()),
            Metric::QueueTimeMs => thousandths(120.0 * self.latency_like()),
            Metric::Tokens => (slower * 1_400.0 * self.latency_like()).round(),
            Metric::CostUsd => thousandths(slower * 12.0 * self.latency_like()) / 1_000.0,
            Metric::QualityScore => {
                let flaw = self.unit() * self.unit();
                thousandths(1.0 - flaw * flaw)
            }
        }
    }

    /// Around 1, never below 0.6, with one in a hundred above 20.
    fn latency_like(&mut self) -> f64 {
        let tail = self.unit();
        let tail = tail * tail * tail * tail;
        0.6 + 0.8 * self.unit() + 25.0 * (tail * tail)
    }

    fn unit(&mut self) -> f64 {
        self.rng.random::<f64>()
    }

    fn draw_id(&mut self) -> Uuid {
        Builder::from_random_bytes(self.rng.random()).into_uuid()
    }

    fn malformed(&mut self, event: &DomainEvent) -> LoadRecord {
        let mut document = serde_json::to_value(event).expect("text keys and finite numbers only");
        let data = "eventData";
        match self.rng.random_range(0..10) {
            0 => return record(event, Vec::new(), Kind::Malformed),
            1 => {
                let mut value = event.to_json();
                value.truncate(self.rng.random_range(1..value.len()));
                return record(event, value, Kind::Malformed);
            }
            2 => {
                let noise = (0..64).map(|_| self.rng.random()).collect();
                return record(event, noise, Kind::Malformed);
            }
            3 => document[data]["value"] = json!("NaN"),
            4 => document[data]["value"] = json!(-1.5),
            5 => document[data]["metric"] = json!("mood"),
            6 => document[data] = json!([1, 2, 3]),
            7 => document["eventId"] = json!(17),
            8 => document["metadata"] = Value::Null,
            _ => document = json!([document]),
        }
        record(event, document.to_string().into_bytes(), Kind::Malformed)
    }

    fn unknown(&mut self, mut event: DomainEvent) -> LoadRecord {
        let types = ["AgentHeartbeat", "agent:message", "SessionArchived"];
        event.event_type = types[self.rng.random_range(0..types.len())].to_owned();
        event.event_data = Map::from_iter([("note".to_owned(), json!("newer than this reader"))]);
        record(&event, event.to_json(), Kind::UnknownType)
    }

    fn hostile(&mut self, event: &DomainEvent) -> LoadRecord {
        let mut record = record(event, event.to_json(), Kind::Hostile);
        match self.rng.random_range(0..9) {
            0 => record.key = None,
            1 => record.key = Some(vec![0xff, 0xfe, 0x00]),
            2 => record.value = None,
            3 => record.value = Some(vec![b' '; EVENT_BYTES_MAX + 1]),
            4 => record.value = Some(vec![b'['; 50_000]),
            5 => record.headers.push(("x-padding".to_owned(), vec![b'p'; 100_000])),
            6 => record.value = Some(at_the_end_of_time(event)),
            7 => record.timestamp = i64::MAX,
            _ => record.key = Some(vec![b'k'; 10_000]),
        }
        record
    }
}

/// The event claiming, in its value only, to come from the last representable moment.
fn at_the_end_of_time(event: &DomainEvent) -> Vec<u8> {
    let mut event = event.clone();
    event.metadata.timestamp = EventTime::MAX;
    event.to_json()
}

fn record(event: &DomainEvent, value: Vec<u8>, kind: Kind) -> LoadRecord {
    let headers = headers::of(event, SOURCE);
    LoadRecord {
        key: Some(event.record_key().as_bytes().to_vec()),
        value: Some(value),
        timestamp: event.metadata.timestamp.as_millis(),
        headers: headers
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into_bytes()))
            .collect(),
        kind,
    }
}

/// The event as an older producer sends it: envelope and payload side by side.
fn base_envelope(event: &DomainEvent) -> Vec<u8> {
    let mut document = event.event_data.clone();
    document.insert("eventId".to_owned(), json!(event.event_id));
    document.insert("eventType".to_owned(), json!(event.event_type));
    document.insert("timestamp".to_owned(), json!(event.metadata.timestamp));
    document.insert("version".to_owned(), json!(event.metadata.version));
    document.insert("correlationId".to_owned(), json!(event.metadata.correlation_id));
    Value::Object(document).to_string().into_bytes()
}

fn thousandths(number: f64) -> f64 {
    (number * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;

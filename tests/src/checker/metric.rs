//! Which records are metrics, judged anew from their bytes.
//!
//! It must not say why one is refused: that is the business of the code it checks.

use serde_json::{Map, Value};

/// How far an event's time may lie ahead of its record's.
const AHEAD_MAX_MS: i64 = 60 * 60 * 1_000;

const EVENT_BYTES_MAX: usize = 1 << 20;
const ID_BYTES_MAX: usize = 256;
const TYPE_BYTES_MAX: usize = 128;
const VERSION_BYTES_MAX: usize = 32;
const TIME_MAX_MS: i64 = 253_402_207_200_000;

/// What a record is.
#[derive(Clone, Debug, PartialEq)]
pub enum Judged {
    /// A metric that counts.
    Metric(Measured),
    /// A valid event of another type.
    Other,
    /// No event: it belongs into the dead letters.
    Bad,
}

/// What counts of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Event time, in ms.
    pub time: i64,
    /// Which metric.
    pub metric: String,
    /// Its value.
    pub value: f64,
    /// Whether it tells of a failure.
    pub failed: bool,
}

/// Judges a value read at `record_time`.
pub fn judge(value: &[u8], record_time: i64) -> Judged {
    if value.len() > EVENT_BYTES_MAX {
        return Judged::Bad;
    }
    let Ok(Value::Object(document)) = serde_json::from_slice(value) else { return Judged::Bad };
    judge_document(&document, record_time).unwrap_or(Judged::Bad)
}

/// The parts of an event that matter here.
struct Read {
    event_type: String,
    time: i64,
    session: Option<String>,
    data: Map<String, Value>,
}

fn judge_document(document: &Map<String, Value>, record_time: i64) -> Option<Judged> {
    let event = read(document)?;
    if event.time > record_time.saturating_add(AHEAD_MAX_MS) {
        return None;
    }
    let name = event.event_type.as_str();
    if name != "AgentPerformanceMetric" && name != "AgentPerformanceMetricEvent" {
        return Some(Judged::Other);
    }
    measured(&event).map(Judged::Metric)
}

fn measured(event: &Read) -> Option<Measured> {
    let data = &event.data;
    if !["manager", "worker"].contains(&text(data, "agentType", ID_BYTES_MAX)?) {
        return None;
    }
    optional(data, "agentId", |data, name| text(data, name, ID_BYTES_MAX).map(drop))?;
    optional(data, "taskId", |data, name| text(data, name, ID_BYTES_MAX).map(drop))?;
    match present(data, "sessionId") {
        Some(_) => drop(text(data, "sessionId", ID_BYTES_MAX)?),
        None => drop(event.session.as_ref()?),
    }
    let metric = text(data, "metric", ID_BYTES_MAX)?;
    let max = match metric {
        "quality_score" => 1.0,
        "execution_time_ms" | "queue_time_ms" | "tokens" | "cost_usd" => 1e15,
        _ => return None,
    };
    let value = data.get("value")?.as_f64().filter(|value| (0.0..=max).contains(value))?;
    let failed = match present(data, "success") {
        None => false,
        Some(success) => !success.as_bool()?,
    };
    Some(Measured { time: event.time, metric: metric.to_owned(), value: value + 0.0, failed })
}

fn read(document: &Map<String, Value>) -> Option<Read> {
    let has = |name: &str| document.contains_key(name);
    if has("eventData") || (has("eventType") && has("metadata")) {
        return canonical(document);
    }
    let names = if has("type") && (has("aggregateId") || has("sequence") || !has("eventType")) {
        older(document)?
    } else if has("data") {
        minimal(document)?
    } else if has("eventType") {
        base(document)?
    } else {
        return None;
    };
    let (event_type, data) = names;
    let time = time(document, "timestamp")?;
    let id = |fields: &Map<String, Value>, name: &str| match present(fields, name) {
        None => Some(None),
        Some(_) => text(fields, name, ID_BYTES_MAX).map(|id| Some(id.to_owned())),
    };
    optional(document, "correlationId", uuid)?;
    optional(document, "causationId", uuid)?;
    id(document, "source")?;
    let mut nested = None;
    if let Some(metadata) = present(document, "metadata") {
        let metadata = metadata.as_object()?;
        optional(metadata, "correlationId", uuid)?;
        optional(metadata, "causationId", uuid)?;
        id(metadata, "userId")?;
        nested = id(metadata, "sessionId")?;
    }
    let within = text(&data, "sessionId", ID_BYTES_MAX).map(str::to_owned);
    let session = id(document, "sessionId")?.or(nested).or(within);
    Some(Read { event_type, time, session, data })
}

fn canonical(document: &Map<String, Value>) -> Option<Read> {
    uuid(document, "eventId")?;
    let event_type = text(document, "eventType", TYPE_BYTES_MAX)?.to_owned();
    text(document, "aggregateId", ID_BYTES_MAX)?;
    text(document, "aggregateType", TYPE_BYTES_MAX)?;
    let data = document.get("eventData")?.as_object()?.clone();
    let metadata = document.get("metadata")?.as_object()?;
    let time = time(metadata, "timestamp")?;
    text(metadata, "version", VERSION_BYTES_MAX)?;
    uuid(metadata, "correlationId")?;
    optional(metadata, "causationId", uuid)?;
    optional(metadata, "userId", |fields, name| text(fields, name, ID_BYTES_MAX).map(drop))?;
    optional(metadata, "sessionId", |fields, name| text(fields, name, ID_BYTES_MAX).map(drop))?;
    optional(metadata, "sequence", position)?;
    let session = present(metadata, "sessionId").and_then(Value::as_str).map(str::to_owned);
    Some(Read { event_type, time, session, data })
}

/// Bus, stored and session store events: `id`, `type`, `data`.
fn older(document: &Map<String, Value>) -> Option<(String, Map<String, Value>)> {
    uuid(document, "id")?;
    if document.contains_key("aggregateId") {
        text(document, "aggregateId", ID_BYTES_MAX)?;
        text(document, "aggregateType", ID_BYTES_MAX)?;
        optional(document, "version", position)?;
    } else {
        optional(document, "sequence", position)?;
    }
    let data = document.get("data")?.as_object()?.clone();
    Some((text(document, "type", TYPE_BYTES_MAX)?.to_owned(), data))
}

fn minimal(document: &Map<String, Value>) -> Option<(String, Map<String, Value>)> {
    text(document, "aggregateId", ID_BYTES_MAX)?;
    let data = document.get("data")?.as_object()?.clone();
    Some((text(document, "eventType", TYPE_BYTES_MAX)?.to_owned(), data))
}

fn base(document: &Map<String, Value>) -> Option<(String, Map<String, Value>)> {
    uuid(document, "eventId")?;
    optional(document, "version", |fields, name| text(fields, name, VERSION_BYTES_MAX).map(drop))?;
    let event_type = text(document, "eventType", TYPE_BYTES_MAX)?.to_owned();
    let envelope = ["eventId", "eventType", "timestamp", "version", "correlationId", "causationId"];
    let mut data = document.clone();
    data.retain(|name, _| !envelope.contains(&name.as_str()));
    Some((event_type, data))
}

fn present<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields.get(name).filter(|value| !value.is_null())
}

/// `check` of a field that may be absent.
fn optional(
    fields: &Map<String, Value>,
    name: &str,
    check: impl Fn(&Map<String, Value>, &str) -> Option<()>,
) -> Option<()> {
    match present(fields, name) {
        None => Some(()),
        Some(_) => check(fields, name),
    }
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str, bytes_max: usize) -> Option<&'a str> {
    fields.get(name)?.as_str().filter(|text| (1..=bytes_max).contains(&text.len()))
}

fn position(fields: &Map<String, Value>, name: &str) -> Option<()> {
    fields.get(name)?.as_i64().filter(|position| *position >= 1).map(drop)
}

/// Five groups of hexadecimal digits: 8-4-4-4-12.
fn uuid(fields: &Map<String, Value>, name: &str) -> Option<()> {
    let groups: Vec<&str> = fields.get(name)?.as_str()?.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let digits = groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()));
    (lengths == [8, 4, 4, 4, 12] && digits).then_some(())
}

fn time(fields: &Map<String, Value>, name: &str) -> Option<i64> {
    let millis = match fields.get(name)? {
        Value::Number(number) => number.as_i64()?,
        Value::String(text) => {
            let nanos = text.parse::<jiff::Timestamp>().ok()?.as_nanosecond();
            i64::try_from(nanos.div_euclid(1_000_000)).ok()?
        }
        _ => return None,
    };
    (0..=TIME_MAX_MS).contains(&millis).then_some(millis)
}

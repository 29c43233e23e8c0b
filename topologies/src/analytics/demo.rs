//! The demonstration: generated traffic into a running process over HTTP, a line of progress each
//! second, and a summary read back over HTTP.
//!
//! Owns the pace and what is shown. It must not reach into the process it shows: all it knows comes
//! over HTTP. Event time runs faster than the clock, so that windows open and close while one
//! watches.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headwater::time::{Clock, saturating_ms};
use headwater_schemas::topics;
use serde_json::{Map, Value, json};

use super::STORE;
use super::load::{Kind, Load, LoadRecord, Profile};
use crate::client::{Client, ClientError, pause};

/// Most records of one request.
const BATCH_MAX: usize = 1_000;

/// How long nothing is sent when nothing is due.
const PAUSE: Duration = Duration::from_millis(10);

/// How long the summary waits until everything sent is processed.
const REST_MAX: Duration = Duration::from_secs(30);

/// What the demonstration does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Seed of the traffic.
    pub seed: u64,
    /// Records per second.
    pub rate: u32,
    /// How many times faster than the clock event time runs.
    pub speed: u32,
    /// When to end; `None`: when told to.
    pub seconds: Option<u64>,
}

/// Why the demonstration cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The process does not answer as it should.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The progress cannot be written.
    #[error("progress cannot be written")]
    Output(#[from] std::io::Error),
}

/// The demonstration against one process.
pub struct Demo<'d> {
    client: Client,
    clock: &'d dyn Clock,
    pace: Pace,
}

impl std::fmt::Debug for Demo<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Demo").field("client", &self.client).field("pace", &self.pace).finish()
    }
}

/// What was sent.
#[derive(Debug, Default)]
struct Sent {
    records: u64,
    by_kind: BTreeMap<Kind, u64>,
    /// Records that the server itself refused to append.
    refused: u64,
}

/// What the process says of itself.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    input: u64,
    told: u64,
    letters: u64,
    late: u64,
    lag: u64,
}

impl<'d> Demo<'d> {
    /// A demonstration against the process at `base`, such as `http://127.0.0.1:8080`.
    pub fn new(base: &str, clock: &'d dyn Clock, pace: Pace) -> Self {
        Self { client: Client::new(base), clock, pace }
    }

    /// Sends until the time is over, then tells the summary; ends without one when the process is
    /// ending, as `is_stopping` tells.
    ///
    /// # Errors
    /// The process does not answer or refuses, or `out` cannot be written.
    pub fn run(
        &self,
        out: &mut dyn Write,
        is_stopping: &dyn Fn() -> bool,
    ) -> Result<(), DemoError> {
        self.client.wait_until_ready(self.clock, is_stopping)?;
        self.introduce(out)?;
        let before = self.look()?;
        let first_event = self.first_event_time()?;
        let began = self.clock.now().monotonic;
        let event_time = Cell::new(first_event);
        let mut load = Load::new(self.pace.seed, Profile::MIXED, || event_time.get());
        let (mut sent, mut shown, mut sent_then) = (Sent::default(), 0, 0);
        loop {
            let elapsed = self.clock.now().monotonic.saturating_sub(began);
            if self.pace.seconds.is_some_and(|seconds| elapsed.as_secs() >= seconds) {
                break;
            }
            event_time.set(first_event + saturating_ms(elapsed * self.pace.speed));
            let due = due(self.pace.rate, elapsed).saturating_sub(sent.records);
            let due = usize::try_from(due).unwrap_or(usize::MAX).min(BATCH_MAX);
            self.send(load.by_ref().take(due), &mut sent)?;
            if elapsed.as_secs() > shown {
                let seconds = elapsed.as_secs() - shown;
                shown = elapsed.as_secs();
                let seen = self.look()?.since(&before);
                progress(out, shown, &sent, (sent.records - sent_then) / seconds, &seen)?;
                sent_then = sent.records;
            }
            if is_stopping() {
                return Ok(());
            }
            if due < BATCH_MAX {
                pause(PAUSE);
            }
        }
        let elapsed = self.clock.now().monotonic.saturating_sub(began);
        let seen = self.rest(is_stopping)?.since(&before);
        self.summary(out, elapsed, &sent, &seen, before.input == 0)
    }

    fn introduce(&self, out: &mut dyn Write) -> Result<(), DemoError> {
        let (base, Pace { seed, rate, speed, .. }) = (self.client.base(), &self.pace);
        let sessions = Profile::MIXED.sessions;
        writeln!(out, "traffic of seed {seed}: {rate} records a second of {sessions} sessions")?;
        writeln!(out, "event time runs {speed} times as fast as the clock")?;
        writeln!(out, "  one session's windows   {base}/analytics?key=session-00000")?;
        writeln!(out, "  with their sketches     {base}/stores/{STORE}/windows/session-00000")?;
        let letters = topics::MONITORING_EVENTS.dead_letters().name;
        writeln!(out, "  dead letters            {base}/topics/{letters}/records")?;
        writeln!(out, "  topology, tasks         {base}/topology?format=text {base}/tasks")?;
        Ok(out.flush()?)
    }

    fn send(
        &self,
        records: impl Iterator<Item = LoadRecord>,
        sent: &mut Sent,
    ) -> Result<(), DemoError> {
        let mut batch = Vec::new();
        for record in records {
            sent.records += 1;
            *sent.by_kind.entry(record.kind).or_default() += 1;
            // The server refuses a request whole; what it may refuse goes alone.
            if record.kind == Kind::Hostile {
                match self.post(&[posted(&record)]) {
                    Err(ClientError::Refused { status: 400..=499, .. }) => sent.refused += 1,
                    answer => answer?,
                }
            } else {
                batch.push(posted(&record));
            }
        }
        if !batch.is_empty() {
            self.post(&batch)?;
        }
        Ok(())
    }

    fn post(&self, records: &[Value]) -> Result<(), ClientError> {
        let path = format!("/topics/{}/records", topics::MONITORING_EVENTS.name);
        self.client.post(&path, &records).map(drop)
    }

    /// Topics' ends, the lag of all tasks, and what was dropped as late since the start.
    fn look(&self) -> Result<Seen, DemoError> {
        let all = self.client.get_json("/topics")?;
        let ends = |name: &str| -> u64 {
            let items = all["items"].as_array().into_iter().flatten();
            let found = items.into_iter().find(|item| item["name"] == name);
            let ends = found.and_then(|item| item["endOffsets"].as_array()).into_iter().flatten();
            ends.filter_map(Value::as_u64).sum()
        };
        let tasks = self.client.get_json("/tasks")?;
        let tasks = tasks["items"].as_array().into_iter().flatten();
        let inputs = tasks.filter_map(|task| task["inputs"].as_array()).flatten();
        let lag = inputs.filter_map(|input| input["lag"].as_u64()).sum();
        let metrics = self.client.get("/metrics")?;
        let late = metrics.lines().filter(|line| {
            line.starts_with("stream_task_dropped_records_total") && line.contains("\"late\"")
        });
        Ok(Seen {
            input: ends(&topics::MONITORING_EVENTS.name),
            told: ends(&topics::ANALYTICS_AGGREGATED.name),
            letters: ends(&topics::MONITORING_EVENTS.dead_letters().name),
            late: late.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum(),
            lag,
        })
    }

    /// Waits until everything sent is processed, or as long as one may.
    fn rest(&self, is_stopping: &dyn Fn() -> bool) -> Result<Seen, DemoError> {
        let until = self.clock.now().monotonic + REST_MAX;
        loop {
            let seen = self.look()?;
            let is_over = self.clock.now().monotonic >= until;
            if seen.lag == 0 || is_over || is_stopping() {
                return Ok(seen);
            }
            pause(PAUSE * 10);
        }
    }

    /// Event time goes on where an earlier demonstration in the same directory ended, else at now.
    fn first_event_time(&self) -> Result<i64, DemoError> {
        let name = &topics::MONITORING_EVENTS.name;
        let all = self.client.get_json("/topics")?;
        let items = all["items"].as_array().into_iter().flatten();
        let found = items.into_iter().find(|item| item["name"] == **name);
        let ends = found.and_then(|item| item["endOffsets"].as_array()).into_iter().flatten();
        let mut latest = self.clock.now().wall_ms;
        for (partition, end) in ends.filter_map(Value::as_u64).enumerate() {
            let Some(last) = end.checked_sub(1) else { continue };
            let path =
                format!("/topics/{name}/records?partition={partition}&offset={last}&limit=1");
            let page = self.client.get_json(&path)?;
            latest = latest.max(page["items"][0]["timestamp"].as_i64().unwrap_or(0));
        }
        Ok(latest)
    }

    /// The windows of every session and the metrics counted in them, as the store shows them.
    fn windows(&self) -> Result<(u64, u64), DemoError> {
        let (mut windows, mut counted) = (0, 0);
        for session in 0..Profile::MIXED.sessions {
            let page = self
                .client
                .get_json(&format!("/stores/{STORE}/windows/session-{session:05}?limit=1000"))?;
            for item in page["items"].as_array().into_iter().flatten() {
                windows += 1;
                counted += item["value"]["count"].as_u64().unwrap_or(0);
            }
        }
        Ok((windows, counted))
    }

    fn summary(
        &self,
        out: &mut dyn Write,
        elapsed: Duration,
        sent: &Sent,
        seen: &Seen,
        is_fresh: bool,
    ) -> Result<(), DemoError> {
        let (windows, counted) = self.windows()?;
        let rate = per_second(seen.input, elapsed);
        let others = sent.by_kind.get(&Kind::UnknownType).copied().unwrap_or(0);
        writeln!(out, "\nsummary, read back over HTTP:")?;
        writeln!(out, "  records in       {:>12}   {rate} a second", seen.input)?;
        writeln!(out, "  windows          {windows:>12}   {counted} metrics counted in them")?;
        writeln!(
            out,
            "  rollups told     {:>12}   {} a second",
            seen.told,
            per_second(seen.told, elapsed)
        )?;
        writeln!(out, "  late             {:>12}", seen.late)?;
        writeln!(out, "  dead letters     {:>12}", seen.letters)?;
        writeln!(out, "  other types      {others:>12}")?;
        writeln!(out, "  refused by HTTP  {:>12}", sent.refused)?;
        writeln!(out, "  not processed    {:>12}", seen.lag)?;
        if is_fresh {
            let told = counted + seen.late + seen.letters + others + seen.lag;
            let verdict = if told == seen.input {
                "every record is accounted for"
            } else {
                "RECORDS ARE MISSING OR DOUBLED"
            };
            writeln!(
                out,
                "  {verdict}: {counted} + {} + {} + {others} + {} = {told}",
                seen.late, seen.letters, seen.lag
            )?;
        }
        out.flush()?;
        Ok(())
    }
}

impl Seen {
    fn since(self, before: &Self) -> Self {
        Self {
            input: self.input.saturating_sub(before.input),
            told: self.told.saturating_sub(before.told),
            letters: self.letters.saturating_sub(before.letters),
            late: self.late.saturating_sub(before.late),
            lag: self.lag,
        }
    }
}

fn progress(
    out: &mut dyn Write,
    second: u64,
    sent: &Sent,
    rate: u64,
    seen: &Seen,
) -> Result<(), DemoError> {
    writeln!(
        out,
        "{second:>5} s  sent {:>9} ({rate}/s)  lag {:>6}  rollups told {:>9}  late {:>5}  dead letters {:>5}",
        sent.records, seen.lag, seen.told, seen.late, seen.letters
    )?;
    Ok(out.flush()?)
}

/// Records that should have been sent after `elapsed`.
fn due(rate: u32, elapsed: Duration) -> u64 {
    let due = u128::from(rate) * elapsed.as_millis() / 1_000;
    u64::try_from(due).unwrap_or(u64::MAX)
}

fn per_second(count: u64, elapsed: Duration) -> u64 {
    let rate = u128::from(count) * 1_000 / elapsed.as_millis().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// The record as the server takes it: text where it is text, else base64.
fn posted(record: &LoadRecord) -> Value {
    let mut posted = Map::new();
    put(&mut posted, "key", record.key.as_deref());
    put(&mut posted, "value", record.value.as_deref());
    posted.insert("timestamp".to_owned(), json!(record.timestamp));
    let headers = record.headers.iter().map(|(name, value)| {
        let mut header = Map::from_iter([("name".to_owned(), json!(name))]);
        put(&mut header, "value", Some(value));
        Value::Object(header)
    });
    posted.insert("headers".to_owned(), headers.collect());
    Value::Object(posted)
}

fn put(into: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => into.insert(name.to_owned(), Value::Null),
        Some((_, Ok(text))) => into.insert(name.to_owned(), json!(text)),
        Some((bytes, Err(_))) => {
            into.insert(format!("{name}Base64"), json!(STANDARD.encode(bytes)))
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_posted_as_text_where_it_is_text_and_as_base64_where_not() {
        let record = LoadRecord {
            key: None,
            value: Some(vec![0xff]),
            timestamp: 7,
            headers: vec![("event-type".to_owned(), b"x".to_vec())],
            kind: Kind::Hostile,
        };
        assert_eq!(
            posted(&record),
            json!({"key": null, "valueBase64": "/w==", "timestamp": 7,
                   "headers": [{"name": "event-type", "value": "x"}]})
        );
    }

    #[test]
    fn the_pace_is_kept_without_drift() {
        assert_eq!(due(3, Duration::from_millis(1_999)), 5);
        assert_eq!(due(10_000, Duration::from_secs(3_600)), 36_000_000);
        assert_eq!(per_second(10, Duration::ZERO), 10_000);
    }
}

//! Whether anything was lost or done twice, judged by what lies in the topics.
//!
//! Owns the judgement. It must not use the platform's code: topics are read record by record, and
//! documents as far as they matter here.
//!
//! * Every record that was sent lies in its topic once.
//! * Each task has one outcome in `session.events`, and one `TaskCompleted` if it is a good one.
//! * Each command has one answer, which accepts it at the version its place in the session's script
//!   gives, and one event in `session.events`. A session's sequence has neither gap nor repeat.
//! * Each completed work item has one result of each of the two gates.
//! * Each answer of an agent has one metric, and the last rollup of each key and five minutes counts
//!   exactly the metrics that lie in `monitoring.events`.
//! * There is no dead letter.

use std::collections::BTreeMap;

use headwater::actor::Bell;
use headwater::log::embedded::EmbeddedLog;
use headwater::log::{Isolation, Log, LogResult, Purpose};
use headwater::record::{Headers, RawRecord, TopicPartition};
use serde::Deserialize;

use super::traffic::{SOURCE, Sent, TOPICS, number_of};

/// Bytes taken from a partition at a time.
const TAKE: usize = 4 << 20;

/// Length of a rollup's window.
const WINDOW_MS: i64 = 300_000;

/// Findings that are told one by one.
const TOLD_MAX: usize = 20;

/// What the checker says.
#[derive(Debug, Default, serde::Serialize)]
pub struct Verdict {
    /// Things that are missing.
    pub lost: u64,
    /// Things that are there more than once.
    pub doubled: u64,
    /// Things that are there once, and wrong.
    pub wrong: u64,
    /// Records that were looked at.
    pub records: u64,
    /// Tasks by outcome.
    pub outcomes: BTreeMap<String, u64>,
    /// The first of them in words.
    pub findings: Vec<String>,
}

impl Verdict {
    fn count(&mut self, what: &str, found: u64) {
        self.expect(what, found, 1);
    }

    fn expect(&mut self, what: &str, found: u64, expected: u64) {
        if found == expected {
            return;
        }
        self.lost += expected.saturating_sub(found);
        self.doubled += found.saturating_sub(expected);
        self.tell(format!("{what}: {found} times, expected {expected}"));
    }

    fn refuse(&mut self, what: String) {
        self.wrong += 1;
        self.tell(what);
    }

    fn tell(&mut self, what: String) {
        if self.findings.len() < TOLD_MAX {
            self.findings.push(what);
        }
    }
}

/// The fields that are looked at, of any document of the platform.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Document<'d> {
    #[serde(borrow)]
    event_data: Data<'d>,
    #[serde(borrow)]
    body: Data<'d>,
    count: u64,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Data<'d> {
    status: &'d str,
    gate_id: &'d str,
    #[serde(rename = "type")]
    kind: &'d str,
    version: u64,
}

/// Judges what came of `sent` by what lies in the topics of `log`.
///
/// # Errors
/// The log cannot be read.
pub fn check(log: &EmbeddedLog, seed: u64, sent: &Sent) -> LogResult<Verdict> {
    let mut verdict = Verdict::default();
    let size = usize::try_from(sent.events).expect("as many fit");
    inputs(log, seed, size, &mut verdict)?;
    sessions(log, seed, sent, &mut verdict)?;
    answers(log, seed, sent, &mut verdict)?;
    gates(log, seed, sent, &mut verdict)?;
    rollups(log, &mut verdict)?;
    for topic in dead_letters(log) {
        let mut letters = 0;
        read(log, &topic, &mut verdict, |_, _, _| letters += 1)?;
        verdict.expect(&format!("dead letters in {topic}"), letters, 0);
    }
    Ok(verdict)
}

fn inputs(log: &EmbeddedLog, seed: u64, size: usize, verdict: &mut Verdict) -> LogResult<()> {
    let mut seen = vec![0_u8; size];
    for (topic, _) in TOPICS {
        read(log, topic, verdict, |_, headers, _| {
            let ours = text(headers, "event-source") == SOURCE.as_bytes();
            let number = number_of(seed, text(headers, "correlation-id")).filter(|_| ours);
            bump(&mut seen, number);
        })?;
    }
    for (number, count) in seen.into_iter().enumerate() {
        verdict.count(&format!("input {number}"), u64::from(count));
    }
    Ok(())
}

fn sessions(log: &EmbeddedLog, seed: u64, sent: &Sent, verdict: &mut Verdict) -> LogResult<()> {
    let size = usize::try_from(sent.events).expect("as many fit");
    let tasks = usize::try_from(sent.tasks).expect("as many fit");
    let (mut caused, mut ends, mut completed) =
        (vec![0_u8; size], vec![0_u8; tasks], vec![0_u8; tasks]);
    let mut good = vec![false; tasks];
    let mut sequences: BTreeMap<Box<[u8]>, i64> = BTreeMap::new();
    let mut outcomes = BTreeMap::<String, u64>::new();
    let mut wrong = Vec::new();
    read(log, "session.events", verdict, |record, headers, _| {
        let sequence = std::str::from_utf8(text(headers, "sequence-number")).unwrap_or_default();
        let key = record.key.unwrap_or_default();
        if let Ok(sequence) = sequence.parse::<i64>() {
            let last = sequences.entry(key.into()).or_default();
            if sequence != *last + 1 {
                let session = String::from_utf8_lossy(key);
                wrong.push(format!("session {session}: event {sequence} follows {last}"));
            }
            *last = sequence;
            bump(&mut caused, number_of(seed, text(headers, "causation-id")));
            return;
        }
        let number = task_number(text(headers, "aggregate-id"));
        match text(headers, "event-type") {
            b"TaskStatusUpdated" => {
                let status = document(record).event_data.status;
                if status == "COMPLETED" || status == "FAILED" {
                    bump(&mut ends, number);
                    *outcomes.entry(status.to_owned()).or_default() += 1;
                    if let Some(good) = at(&mut good, number) {
                        *good = status == "COMPLETED";
                    }
                }
            }
            b"TaskCompleted" => bump(&mut completed, number),
            _ => {}
        }
    })?;
    wrong.into_iter().for_each(|what| verdict.refuse(what));
    verdict.outcomes = outcomes;
    for task in 0..tasks {
        verdict.count(&format!("the outcome of task {task}"), u64::from(ends[task]));
        let expected = u64::from(good[task]);
        verdict.expect(
            &format!("the completion of task {task}"),
            u64::from(completed[task]),
            expected,
        );
    }
    for (number, _) in &sent.commands {
        let found = at(&mut caused, Some(*number)).map_or(0, |count| u64::from(*count));
        verdict.count(&format!("the event of command {number}"), found);
    }
    Ok(())
}

fn answers(log: &EmbeddedLog, seed: u64, sent: &Sent, verdict: &mut Verdict) -> LogResult<()> {
    let size = usize::try_from(sent.events).expect("as many fit");
    let (mut seen, mut versions) = (vec![0_u8; size], vec![0_u64; size]);
    read(log, "api.responses", verdict, |record, _, _| {
        let Some(number) = number_of(seed, record.key.unwrap_or_default()) else { return };
        bump(&mut seen, Some(number));
        let answer = document(record);
        if let Some(version) = at(&mut versions, Some(number)) {
            let accepted = answer.body.kind == "CommandAccepted";
            *version = if accepted { answer.body.version } else { 0 };
        }
    })?;
    for (number, step) in &sent.commands {
        let index = usize::try_from(*number).expect("as many fit");
        verdict.count(&format!("the answer to command {number}"), u64::from(seen[index]));
        let expected = u64::from(*step) + 1;
        if versions[index] != expected {
            let found = versions[index];
            verdict.refuse(format!("command {number}: version {found}, expected {expected}"));
        }
    }
    Ok(())
}

fn gates(log: &EmbeddedLog, seed: u64, sent: &Sent, verdict: &mut Verdict) -> LogResult<()> {
    const GATES: [&str; 2] = ["result-success", "execution-time"];
    let size = usize::try_from(sent.events).expect("as many fit");
    let mut seen = [vec![0_u8; size], vec![0_u8; size]];
    read(log, "quality.gates", verdict, |record, headers, _| {
        let number = number_of(seed, text(headers, "causation-id"));
        let gate = document(record).event_data.gate_id;
        for (name, seen) in GATES.iter().zip(&mut seen) {
            if *name == gate {
                bump(seen, number);
            }
        }
    })?;
    for number in &sent.completions {
        let index = usize::try_from(*number).expect("as many fit");
        for (gate, seen) in GATES.iter().zip(&seen) {
            verdict.count(&format!("gate {gate} of completion {number}"), u64::from(seen[index]));
        }
    }
    Ok(())
}

fn rollups(log: &EmbeddedLog, verdict: &mut Verdict) -> LogResult<()> {
    let mut metrics: BTreeMap<String, u64> = BTreeMap::new();
    let (mut told_by_runner, mut answered) = (0_u64, 0_u64);
    read(log, "monitoring.events", verdict, |record, headers, _| {
        told_by_runner += u64::from(text(headers, "event-source") == b"agent-runner");
        if text(headers, "event-type") == b"AgentPerformanceMetric" {
            let key = String::from_utf8_lossy(record.key.unwrap_or_default());
            let start = record.timestamp.div_euclid(WINDOW_MS) * WINDOW_MS;
            *metrics.entry(format!("{key}@{start}")).or_default() += 1;
        }
    })?;
    read(log, "agent.responses", verdict, |_, _, _| answered += 1)?;
    verdict.expect("metrics of agents' answers", told_by_runner, answered);
    let mut rolled: BTreeMap<String, u64> = BTreeMap::new();
    read(log, "analytics.aggregated", verdict, |record, _, _| {
        let key = String::from_utf8_lossy(record.key.unwrap_or_default()).into_owned();
        rolled.insert(key, document(record).count);
    })?;
    for (key, expected) in &metrics {
        let found = rolled.remove(key).unwrap_or(0);
        verdict.expect(&format!("metrics in the rollup {key}"), found, *expected);
    }
    for (key, found) in rolled {
        verdict.expect(&format!("metrics in the rollup {key}"), found, 0);
    }
    Ok(())
}

/// Every topic whose name ends as those of dead letters do.
fn dead_letters(log: &EmbeddedLog) -> Vec<String> {
    let named = log.topics().into_iter().map(|topic| topic.name.to_string());
    named.filter(|name| name.ends_with(".dlq")).collect()
}

/// Reads every record of a topic.
fn read(
    log: &EmbeddedLog,
    topic: &str,
    verdict: &mut Verdict,
    mut see: impl FnMut(&RawRecord<'_>, &Headers, u32),
) -> LogResult<()> {
    for partition in 0.. {
        let place = TopicPartition::new(topic, partition);
        let Ok(end) = log.synced_end(&place) else { break };
        let isolation = Isolation::ReadCommitted;
        let mut reader = log.reader(&place, 0, isolation, Purpose::Input, Bell::new())?;
        let mut position = 0;
        while position < end {
            let fetched = reader.take(TAKE)?;
            position = fetched.position;
            for batch in &fetched.batches {
                for record in batch.records() {
                    let record = record.expect("the log has checked the batch");
                    let headers = record.headers.decode().expect("the log has checked the batch");
                    verdict.records += 1;
                    see(&record, &headers, partition);
                }
            }
        }
    }
    Ok(())
}

fn document<'r>(record: &RawRecord<'r>) -> Document<'r> {
    let value = record.value.unwrap_or_default();
    serde_json::from_slice(value).unwrap_or_default()
}

fn text<'h>(headers: &'h Headers, name: &str) -> &'h [u8] {
    headers.last(name).and_then(|header| header.value.as_deref()).unwrap_or_default()
}

fn task_number(id: &[u8]) -> Option<u64> {
    std::str::from_utf8(id).ok()?.strip_prefix("task-")?.parse().ok()
}

fn at<T>(counts: &mut [T], number: Option<u64>) -> Option<&mut T> {
    counts.get_mut(usize::try_from(number?).ok()?)
}

fn bump(counts: &mut [u8], number: Option<u64>) {
    if let Some(count) = at(counts, number) {
        *count = count.saturating_add(1);
    }
}

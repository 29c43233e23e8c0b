//! Records in and out of the embedded log. Owns the JSON of records, the choice of a partition, and
//! that an append is one whole that is answered only when it is synced; readers see synced records
//! only. Knows no store.
//!
//! A value is shown as JSON if it parses as such, else as text, else as `valueBase64`; a key as text,
//! else as `keyBase64`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use super::encoding::{from_base64, to_base64};
use super::endpoint::{Access, Answer, Call, Endpoint};
use super::error::{Problem, QueryError};
use super::parameters::{Parameter, ParameterKind as Kind};
use crate::actor::{Bell, Poll, Ticket};
use crate::error::ErrorClass;
use crate::log::embedded::EmbeddedLog;
use crate::log::{Log, LogError, LogResult, OffsetQuery, TopicSpec};
use crate::record::batch::{RawRecord, RecordBatch, RecordBatchBuilder};
use crate::record::{Headers, TopicPartition};
use crate::serde::kafka_streams::partition_for;
use crate::time::{Clock, is_usable};

/// Records of one request.
const RECORDS_MAX: usize = 10_000;
/// How often the log is asked whether it is done, at least.
const LOOK: Duration = Duration::from_millis(10);
/// Bytes of records that one answer shows, about.
const PAGE_BYTES_MAX: usize = 1 << 20;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let read = [
        Parameter::optional("partition", Kind::Number, "the partition, from 0; 0 when absent"),
        Parameter::optional("offset", Kind::Number, "where to begin; the earliest when absent"),
        Parameter::optional("limit", Kind::Limit, "records of the page"),
        Parameter::optional("encoding", Kind::Word(&["text", "base64"]), "base64: raw bytes"),
    ];
    let path = "/topics/{topic}/records";
    vec![
        Endpoint::new(Access::Read, "/topics", "the topics of the embedded log", &[], topics),
        Endpoint::new(Access::Read, path, "the synced records of a partition", &read, records),
        Endpoint::new(
            Access::Write,
            path,
            "append one record or a list of them, all or none; answered when they are synced",
            &[],
            append,
        ),
    ]
}

fn embedded(call: &Call<'_>) -> Result<Arc<EmbeddedLog>, QueryError> {
    call.context.target.log().ok_or_else(|| {
        let detail = "this process runs on Kafka; use a Kafka client for records";
        QueryError::new(Problem::NoEmbeddedLog, detail)
    })
}

fn topics(call: &Call<'_>) -> Result<Answer, QueryError> {
    let log = embedded(call)?;
    let shown = |topic: TopicSpec| {
        let ends = (0..topic.partitions)
            .map(|p| log.synced_end(&TopicPartition::new(Arc::clone(&topic.name), p)))
            .collect::<Result<Vec<i64>, LogError>>();
        let ends = ends.map_err(|e| QueryError::failed(&e))?;
        Ok(json!({ "name": &*topic.name, "partitions": topic.partitions, "endOffsets": ends }))
    };
    let all = log.topics().into_iter().map(shown).collect::<Result<Vec<_>, QueryError>>();
    Answer::items(&all?)
}

fn topic_of(log: &EmbeddedLog, call: &Call<'_>) -> Result<TopicSpec, QueryError> {
    let name = call.asked.required_text("topic")?;
    let topic = log.topics().into_iter().find(|topic| *topic.name == *name);
    topic.ok_or_else(|| {
        let detail = format!("the log has no topic `{name}`; see /topics");
        QueryError::new(Problem::UnknownTopic, detail)
    })
}

fn partition_of(topic: &TopicSpec, number: i64) -> Result<TopicPartition, QueryError> {
    match u32::try_from(number) {
        Ok(partition) if partition < topic.partitions => {
            Ok(TopicPartition::new(Arc::clone(&topic.name), partition))
        }
        _ => {
            let (name, count) = (&topic.name, topic.partitions);
            let detail =
                format!("topic `{name}` has no partition {number}; it has {count}, from 0");
            Err(QueryError::new(Problem::UnknownTopic, detail))
        }
    }
}

/// A record as it is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Incoming<'a> {
    key: Option<String>,
    key_base64: Option<String>,
    /// As it was written, so that no number changes.
    #[serde(borrow, default, deserialize_with = "given")]
    value: Option<&'a RawValue>,
    value_base64: Option<String>,
    timestamp: Option<i64>,
    partition: Option<u32>,
    #[serde(default)]
    headers: Vec<IncomingHeader>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct IncomingHeader {
    name: String,
    value: Option<String>,
    value_base64: Option<String>,
}

/// Tells `null` from nothing.
fn given<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// A record to be appended.
struct Ready {
    partition: TopicPartition,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Headers,
}

fn append(call: &Call<'_>) -> Result<Answer, QueryError> {
    let log = embedded(call)?;
    let topic = topic_of(&log, call)?;
    let incoming = read_body(call.body)?;
    let mut batches: BTreeMap<TopicPartition, RecordBatchBuilder> = BTreeMap::new();
    let mut places = Vec::with_capacity(incoming.len());
    for (index, record) in incoming.into_iter().enumerate() {
        let record = ready(call, &topic, record).map_err(|error| QueryError {
            detail: format!("record {index}: {}", error.detail),
            ..error
        })?;
        let batch = batches.entry(record.partition.clone()).or_default();
        places.push((record.partition, batch.count()));
        batch
            .append(
                record.timestamp,
                record.key.as_deref(),
                record.value.as_deref(),
                &record.headers,
            )
            .map_err(|error| {
                QueryError::new(Problem::RecordRefused, format!("record {index}: {error}"))
            })?;
    }
    let batches: Vec<(TopicPartition, RecordBatch)> = batches
        .into_iter()
        .map(|(partition, batch)| RecordBatch::new(0, batch.finish()).map(|b| (partition, b)))
        .collect::<Result<_, _>>()
        .map_err(|e| QueryError::failed(&e))?;
    let first = wait_for(&log, call, &batches)?;
    let first: BTreeMap<&TopicPartition, i64> =
        batches.iter().map(|(partition, _)| partition).zip(first).collect();
    let items: Vec<_> = places
        .iter()
        .map(|(place, at)| {
            json!({ "partition": place.partition, "offset": first[place] + i64::from(*at) })
        })
        .collect();
    Answer::items(&items)
}

fn read_body(body: &[u8]) -> Result<Vec<Incoming<'_>>, QueryError> {
    let refused = |detail: String| QueryError::new(Problem::InvalidBody, detail);
    let text = std::str::from_utf8(body)
        .map_err(|e| refused(format!("the body is not UTF-8 at byte {}", e.valid_up_to())))?;
    let mut json = serde_json::Deserializer::from_str(text);
    let wrong = |e: serde_path_to_error::Error<serde_json::Error>| {
        let place = e.path().to_string();
        let place = if place == "." { String::new() } else { format!(" at {place}") };
        refused(format!("the body is no record and no list of records{place}: {}", e.inner()))
    };
    let records = if text.trim_start().starts_with('[') {
        serde_path_to_error::deserialize(&mut json).map_err(wrong)?
    } else {
        vec![serde_path_to_error::deserialize(&mut json).map_err(wrong)?]
    };
    json.end().map_err(|e| refused(format!("something follows the records: {e}")))?;
    match records.len() {
        0 => Err(refused("the list is empty; send at least one record".to_owned())),
        n if n > RECORDS_MAX => {
            Err(refused(format!("{n} records are too many for one request; send {RECORDS_MAX}")))
        }
        _ => Ok(records),
    }
}

fn ready(call: &Call<'_>, topic: &TopicSpec, sent: Incoming<'_>) -> Result<Ready, QueryError> {
    let refused = |detail: &str| Err(QueryError::new(Problem::InvalidBody, detail));
    let key = bytes_of("key", sent.key.map(String::into_bytes), sent.key_base64)?;
    let value = match (sent.value, sent.value_base64) {
        (Some(_), Some(_)) => return refused("give `value` or `valueBase64`, not both"),
        (None, None) => return refused("`value` is missing; null deletes the key"),
        (None, Some(text)) => bytes_of("value", None, Some(text))?,
        (Some(json), None) => match json.get() {
            "null" => None,
            text if text.starts_with('"') => {
                let text: String = serde_json::from_str(text)
                    .map_err(|e| QueryError::new(Problem::InvalidBody, format!("`value`: {e}")))?;
                Some(text.into_bytes())
            }
            document => Some(document.as_bytes().to_vec()),
        },
    };
    let timestamp = sent.timestamp.unwrap_or_else(|| call.context.clock.now().wall_ms);
    if !is_usable(timestamp) {
        let detail = format!(
            "`timestamp` {timestamp} is no time; give milliseconds since 1970, or leave it out"
        );
        return Err(QueryError::new(Problem::InvalidBody, detail));
    }
    let partition = match (sent.partition, &key) {
        (Some(partition), _) => partition_of(topic, i64::from(partition))?,
        (None, Some(key)) => partition_of(topic, i64::from(partition_for(key, topic.partitions)))?,
        (None, None) => {
            let next = call.context.next_partition.fetch_add(1, Ordering::Relaxed);
            partition_of(topic, i64::from(next % topic.partitions))?
        }
    };
    let mut headers = Headers::new();
    for IncomingHeader { name, value, value_base64 } in sent.headers {
        let value = bytes_of("headers value", value.map(String::into_bytes), value_base64)?;
        headers.append(name, value.map(Bytes::from));
    }
    Ok(Ready { partition, timestamp, key, value, headers })
}

fn bytes_of(
    name: &str,
    text: Option<Vec<u8>>,
    base64: Option<String>,
) -> Result<Option<Vec<u8>>, QueryError> {
    let refused = |why| Err(QueryError::new(Problem::InvalidBody, format!("`{name}` {why}")));
    match (text, base64) {
        (Some(_), Some(_)) => refused("is given as text and as base64; give one"),
        (text, None) => Ok(text),
        (None, Some(base64)) => match from_base64(&base64) {
            Some(bytes) => Ok(Some(bytes)),
            None => refused("as base64 is not base64"),
        },
    }
}

/// Appends and waits until it is synced: the first offset of each batch.
fn wait_for(
    log: &EmbeddedLog,
    call: &Call<'_>,
    batches: &[(TopicPartition, RecordBatch)],
) -> Result<Vec<i64>, QueryError> {
    let bell = Bell::new();
    let ticket = log.append(batches, bell.clone());
    await_log(&ticket, &bell, &*call.context.clock, call.context.patience)
}

/// The answer of a log, waited for at most so long.
pub(crate) fn await_log<T>(
    ticket: &Ticket<LogResult<T>>,
    bell: &Bell,
    clock: &dyn Clock,
    patience: Duration,
) -> Result<T, QueryError> {
    let deadline = clock.now().monotonic + patience;
    loop {
        match ticket.poll() {
            Poll::Done(Ok(answer)) => return Ok(answer),
            Poll::Done(Err(error)) => return Err(refused_by_log(&error)),
            Poll::Abandoned => {
                let detail = "the log stopped before it answered: read the topic to see whether \
                              the records are there before sending them again";
                return Err(QueryError::new(Problem::Unavailable, detail));
            }
            Poll::Pending => {}
        }
        let left = deadline.saturating_sub(clock.now().monotonic);
        if left.is_zero() {
            return Err(unanswered());
        }
        // Not every ticket rings this bell.
        bell.wait(Some(left.min(LOOK)));
    }
}

/// An append that may or may not have happened.
pub(super) fn unanswered() -> QueryError {
    let detail = "the log did not answer in time; the records may still be written: read the topic \
                  before sending them again";
    QueryError::new(Problem::TimedOut, detail)
}

pub(crate) fn refused_by_log(error: &LogError) -> QueryError {
    let problem = match error.class {
        ErrorClass::User => Problem::RecordRefused,
        ErrorClass::Retry => Problem::Unavailable,
        ErrorClass::Abort | ErrorClass::Fenced | ErrorClass::Fatal => Problem::Failed,
    };
    QueryError::new(problem, error.to_string())
}

/// A record as it is shown.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    partition: u32,
    offset: i64,
    timestamp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<ShownHeader>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownHeader {
    name: Box<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownPage {
    items: Vec<Shown>,
    next_offset: i64,
    end_offset: i64,
}

/// How bytes are shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    JsonOrText,
    Text,
    Base64,
}

fn shown(bytes: Option<&[u8]>, form: Form) -> (Option<Box<RawValue>>, Option<String>) {
    let Some(bytes) = bytes else { return (to_raw_value(&()).ok(), None) };
    let document = match form {
        Form::JsonOrText => serde_json::from_slice::<Box<RawValue>>(bytes).ok(),
        Form::Text | Form::Base64 => None,
    };
    let text = || match form {
        Form::JsonOrText | Form::Text => {
            std::str::from_utf8(bytes).ok().and_then(|text| to_raw_value(text).ok())
        }
        Form::Base64 => None,
    };
    match document.or_else(text) {
        Some(json) => (Some(json), None),
        None => (None, Some(to_base64(bytes))),
    }
}

fn shown_record(partition: u32, record: &RawRecord<'_>, raw: bool) -> Result<Shown, QueryError> {
    let form = |form| if raw { Form::Base64 } else { form };
    let (key, key_base64) = shown(record.key, form(Form::Text));
    let (value, value_base64) = shown(record.value, form(Form::JsonOrText));
    let decoded = record.headers.decode().map_err(|e| QueryError::failed(&e))?;
    let header = |header: &crate::record::Header| {
        let (value, value_base64) = shown(header.value.as_deref(), form(Form::Text));
        ShownHeader { name: header.name.clone(), value, value_base64 }
    };
    Ok(Shown {
        partition,
        offset: record.offset,
        timestamp: record.timestamp,
        key,
        key_base64,
        value,
        value_base64,
        headers: decoded.iter().map(header).collect(),
    })
}

fn records(call: &Call<'_>) -> Result<Answer, QueryError> {
    let log = embedded(call)?;
    let topic = topic_of(&log, call)?;
    let partition = partition_of(&topic, call.asked.number("partition").unwrap_or(0))?;
    let raw = call.asked.text("encoding") == Some("base64");
    let (start, end) = bounds(&log, &partition)?;
    let offset = call.asked.number("offset").unwrap_or(start);
    if offset < start || offset > end {
        return Err(out_of_range(&partition, offset, start, end));
    }
    let read = read_page(&log, &partition, offset, call.asked.limit(), raw);
    match read {
        Ok((items, next_offset)) => {
            Answer::json(&ShownPage { items, next_offset, end_offset: end })
        }
        // Retention may have passed the offset in the meantime.
        Err(error) => match bounds(&log, &partition)? {
            (start, end) if offset < start => Err(out_of_range(&partition, offset, start, end)),
            _ => Err(error),
        },
    }
}

/// The first offset and the one after the last that is synced.
fn bounds(log: &EmbeddedLog, partition: &TopicPartition) -> Result<(i64, i64), QueryError> {
    let failed = |e: LogError| QueryError::failed(&e);
    let end = log.synced_end(partition).map_err(failed)?;
    match log.offsets(vec![partition.clone()], OffsetQuery::Earliest).poll() {
        Poll::Done(Ok(starts)) => Ok((starts.first().copied().unwrap_or(end).min(end), end)),
        Poll::Done(Err(error)) => Err(failed(error)),
        Poll::Pending | Poll::Abandoned => {
            let detail = format!("the log does not say where {partition} begins; try again");
            Err(QueryError::new(Problem::Unavailable, detail))
        }
    }
}

fn out_of_range(partition: &TopicPartition, offset: i64, start: i64, end: i64) -> QueryError {
    let detail = format!("offset {offset} of {partition} is not there; ask from {start} to {end}");
    QueryError::new(Problem::OffsetOutOfRange, detail)
}

/// Records from an offset on, and the offset to go on from.
fn read_page(
    log: &EmbeddedLog,
    partition: &TopicPartition,
    offset: i64,
    limit: usize,
    raw: bool,
) -> Result<(Vec<Shown>, i64), QueryError> {
    let mut reader =
        log.synced_reader(partition, offset, Bell::new()).map_err(|e| QueryError::failed(&e))?;
    let (mut items, mut next, mut bytes) = (Vec::new(), offset, 0);
    loop {
        let fetched = reader.take(PAGE_BYTES_MAX - bytes).map_err(|e| QueryError::failed(&e))?;
        for batch in &fetched.batches {
            bytes = PAGE_BYTES_MAX.min(bytes + batch.bytes().len());
            for record in batch.records() {
                let record = record.map_err(|e| QueryError::failed(&e))?;
                if items.len() == limit {
                    return Ok((items, next));
                }
                items.push(shown_record(partition.partition, &record, raw)?);
                next = record.offset + 1;
            }
        }
        next = next.max(fetched.position);
        if fetched.at_end || bytes == PAGE_BYTES_MAX || fetched.batches.is_empty() {
            return Ok((items, next));
        }
    }
}

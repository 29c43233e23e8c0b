//! The manager of dead letters: keeps every one, and sends them back or deletes them on command.
//!
//! Owns the stores of dead letters and what a command does to them. It must not know HTTP: queries are
//! in [`route`](super::route), commands come by their topic.
//!
//! ```text
//! <topic>.dlq --> take in --(by topic)--+--> keep --+--> <topic>            (sent back)
//! dlq.commands -------------------------+           +--> api.responses      (answers)
//!                                                   +--> monitoring.events  (warnings)
//! ```
//!
//! | command `type` | `payload` | does | answer |
//! |---|---|---|---|
//! | `RetryDeadLetter` | `messageId` | sends it back to its topic and deletes it | 200 `{messageId}`; 404; 500 if its topic does not take it: it stays, with one retry more |
//! | `RetryDeadLetters` | | the same with every one that is there, in parts | 200 `{success, failed}` |
//! | `PurgeDeadLetters` | `olderThan`? | deletes those that failed before it, or all, in parts | 200 `{deleted}` |
//!
//! A command is `{id, type, aggregateId, payload, metadata{correlationId}}`, `aggregateId` and the
//! record's key the queue: the topic that the letters were read from.

use headwater::dsl::{KStream, Produced, Repartitioned, StreamsBuilder};
use headwater::processor::{NodeError, Processor, ProcessorContext, Timer};
use headwater::record::{Headers, Record};
use headwater::serde::serdes;
use headwater::store::{KeyValueStore, StoreHandle, Stored, TimerHandle};
use headwater_schemas::envelope::{DomainEvent, EventTime};
use headwater_schemas::headers;
use headwater_schemas::topics::{API_RESPONSES, DLQ_COMMANDS, MONITORING_EVENTS, Topic};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::alert::{self, LETTERS_MAX, Told};
use super::record::{
    KeptRecord, RawKey, RawValue, Routed, header, raw, raw_records, routed, without,
};
use super::{MANAGER, RETRY_ID};
use crate::outgoing::event_headers;
use crate::platform_event::{PlatformEvent, event_keys, platform_events};

/// Every dead letter, by [`letter_id`].
pub const LETTERS: &str = "dead-letters";
/// How many there are, by queue.
pub const QUEUES: &str = "dead-letter-queues";

/// Letters of one command that are dealt with at once.
const PART: usize = 50;

/// Headers that say why and where a record failed; it goes back without them.
const ABOUT_FAILURE: [&str; 15] = [
    headers::RETRY_COUNT,
    headers::RETRY_AT,
    headers::ORIGINAL_TOPIC,
    headers::ERROR_MESSAGE,
    headers::FINAL_RETRY_COUNT,
    headers::DLQ_TIMESTAMP,
    RETRY_ID,
    "__streams.errors.exception",
    "__streams.errors.message",
    "__streams.errors.topic",
    "__streams.errors.partition",
    "__streams.errors.offset",
    "headwater.reason",
    "headwater.node",
    "headwater.task",
];

/// A dead letter, as it is kept and listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterMessage {
    /// Its name: see [`letter_id`].
    pub id: String,
    /// The topic that it was read from, and goes back to.
    pub original_queue: String,
    /// The record.
    pub original_message: KeptRecord,
    /// Why it was given up.
    pub error: String,
    /// When, in epoch milliseconds.
    pub failed_at: i64,
    /// How often it was tried again, also from here.
    pub retry_count: u32,
    /// When it was last tried again from here, in epoch milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_retry_at: Option<i64>,
}

/// A queue of dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueRow {
    /// How many there are.
    pub size: u64,
    /// How many ever came: those that are there, went back and were deleted.
    #[serde(default)]
    pub kept: u64,
    /// How many went back.
    #[serde(default)]
    pub retried: u64,
    /// How many were deleted.
    #[serde(default)]
    pub purged: u64,
    /// When it was last said that these are too many.
    #[serde(default)]
    pub warned: Told,
}

/// A letter's name: all of a queue in the order in which they came to the manager.
pub fn letter_id(queue: &str, came_ms: i64, partition: u32, offset: i64) -> String {
    format!("{queue}~{:020}-{partition}-{offset:012}", came_ms.max(0))
}

/// Keeps the dead letters of these topics.
pub fn dead_letters(b: &StreamsBuilder, topics: &[&Topic]) {
    let back: Vec<&str> = topics.iter().map(|topic| &*topic.name).collect();
    wire(b, topics, &back);
}

/// As [`dead_letters`]; letters can go back to the topics `back`.
pub(super) fn wire(b: &StreamsBuilder, topics: &[&Topic], back: &[&str]) {
    b.declare_topic(crate::conventions::spec(&DLQ_COMMANDS));
    b.declare_topic(crate::conventions::spec(&API_RESPONSES));
    let letters = b.add_store(Stored::key_value(LETTERS, serdes::string(), serdes::json()));
    let queues = b.add_store(Stored::key_value(QUEUES, serdes::string(), serdes::json()));
    let runs = b.add_store(Stored::key_value("dead-letter-runs", serdes::string(), serdes::json()));
    let turns = b.add_store(Stored::wall_clock_timers("dead-letter-turns", event_keys()));
    let stores = [letters.id(), queues.id(), runs.id(), turns.id()];
    let commands = b
        .stream(&DLQ_COMMANDS.name, headwater::dsl::Consumed::with(event_keys(), serdes::json()))
        .map_values(|_, command: &Value| Inbound::Command(command.clone()));
    let taken = topics.iter().map(|topic| taken_in(b, topic));
    let outcomes = taken
        .fold(commands, KStream::merge)
        .process(move || Keep { letters, queues, runs, turns }, &stores)
        .named("keep-dead-letters");
    outcomes.flat_map(|_, outcome: &Outcome| outcome.sent_back()).to_chosen(
        back,
        |_, routed: &Routed| routed.topic.clone(),
        Produced::with(raw(), routed()),
    );
    outcomes
        .flat_map(|_, outcome: &Outcome| outcome.answer())
        .to(&API_RESPONSES.name, Produced::with(serdes::string(), serdes::json()));
    outcomes
        .flat_map(|_, outcome: &Outcome| outcome.warning())
        .to(&MONITORING_EVENTS.name, Produced::with(event_keys(), platform_events()));
}

/// The dead letters of one topic, under its name.
fn taken_in<'b>(b: &'b StreamsBuilder, topic: &Topic) -> KStream<'b, String, Inbound> {
    let queue = topic.name.to_string();
    let through = Repartitioned::with(
        &format!("dead-letters.{queue}"),
        event_keys(),
        serdes::json::<Letter>(),
    );
    b.stream(&topic.dead_letters().name, raw_records())
        .process(move || TakeIn { queue: queue.clone() }, &[])
        .named(&format!("take-in.{}", topic.name))
        .repartition(through.partitions(DLQ_COMMANDS.partitions))
        .map_values(|_, letter| Inbound::Letter(Box::new(letter.clone())))
}

/// A dead letter on its way to the task that keeps those of its queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Letter {
    partition: u32,
    offset: i64,
    record: KeptRecord,
}

struct TakeIn {
    queue: String,
}

impl Processor<RawKey, RawValue, String, Letter> for TakeIn {
    fn process(
        &mut self,
        record: Record<'_, RawKey, RawValue>,
        ctx: &mut ProcessorContext<'_, '_, String, Letter>,
    ) -> Result<(), NodeError> {
        let place = ctx.place().ok_or_else(|| NodeError::message("a record has a place"))?;
        let (partition, offset) = (place.partition.partition, place.offset);
        let letter = Letter { partition, offset, record: KeptRecord::of(&record) };
        let (key, timestamp, headers) = (&self.queue, record.timestamp, Headers::empty());
        ctx.forward(Record { key, value: &letter, timestamp, headers })
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Inbound {
    Letter(Box<Letter>),
    Command(Value),
}

/// What comes of a letter or a command.
enum Outcome {
    SentBack(RawKey, Routed),
    Answer(Value),
    Warning(Box<DomainEvent>),
}

impl Outcome {
    fn sent_back(&self) -> Option<(RawKey, Routed)> {
        match self {
            Self::SentBack(key, routed) => Some((key.clone(), routed.clone())),
            _ => None,
        }
    }

    fn answer(&self) -> Option<(String, Value)> {
        let Self::Answer(answer) = self else { return None };
        Some((answer["correlationId"].as_str()?.to_owned(), answer.clone()))
    }

    fn warning(&self) -> Option<(String, PlatformEvent)> {
        let Self::Warning(event) = self else { return None };
        let payload = headwater_schemas::events::Event::of(event).ok()?;
        Some((event.aggregate_id.clone(), PlatformEvent { event: (**event).clone(), payload }))
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Command {
    id: Uuid,
    #[serde(rename = "type")]
    kind: String,
    aggregate_id: String,
    #[serde(default)]
    payload: Payload,
    metadata: CommandMetadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    message_id: Option<String>,
    older_than: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CommandMetadata {
    correlation_id: Uuid,
}

/// A command over a whole queue, under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    correlation_id: Uuid,
    task: Task,
    /// The last letter dealt with.
    after: String,
    /// Letters behind this came later.
    until: String,
    done: u64,
    failed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Task {
    Retry,
    Purge { before_ms: i64 },
}

struct Keep {
    letters: StoreHandle<KeyValueStore<String, DeadLetterMessage>>,
    queues: StoreHandle<KeyValueStore<String, QueueRow>>,
    runs: StoreHandle<KeyValueStore<String, Run>>,
    turns: TimerHandle<String>,
}

type Context<'c, 't> = ProcessorContext<'c, 't, String, Outcome>;

impl Processor<String, Inbound, String, Outcome> for Keep {
    fn timers(&self) -> Vec<TimerHandle<String>> {
        vec![self.turns]
    }

    fn process(
        &mut self,
        record: Record<'_, String, Inbound>,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), NodeError> {
        match record.value {
            Inbound::Letter(letter) => self.keep(record.key, letter, ctx),
            Inbound::Command(document) => match Command::deserialize(document) {
                Ok(command) => self.execute(record.key, command, ctx),
                Err(error) => match document["metadata"]["correlationId"].as_str() {
                    Some(correlation_id) => {
                        let body = json!({"error": error.to_string()});
                        answer(record.key, correlation_id, 400, body, ctx)
                    }
                    None => Err(NodeError::message(format!("command cannot be read: {error}"))),
                },
            },
        }
    }

    /// The next part of a command over a whole queue.
    fn on_timer(
        &mut self,
        timer: Timer<'_, String>,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), NodeError> {
        let (queue, place) = (timer.key, format!("{}~{}", timer.key, timer.name));
        let Some(mut run) = ctx.store(self.runs).get(&place)? else { return Ok(()) };
        let page = ctx.store(self.letters).page(Some(&run.after), PART)?;
        let is_last = page.len() < PART || page.last().is_some_and(|(id, _)| *id > run.until);
        for (id, letter) in page.into_iter().take_while(|(id, _)| *id <= run.until) {
            match run.task {
                Task::Retry => match self.send_back(queue, letter, ctx)? {
                    Ok(()) => run.done += 1,
                    Err(_) => run.failed += 1,
                },
                Task::Purge { before_ms } if letter.failed_at < before_ms => {
                    self.delete(queue, &id, ctx, |row| row.purged += 1)?;
                    run.done += 1;
                }
                Task::Purge { .. } => {}
            }
            run.after = id;
        }
        if !is_last {
            ctx.store(self.runs).put(&place, &run)?;
            let now = ctx.wall_clock().max(0);
            return ctx.store(self.turns).set(queue, timer.name, now);
        }
        ctx.store(self.runs).delete(&place)?;
        let body = match run.task {
            Task::Retry => json!({"success": run.done, "failed": run.failed}),
            Task::Purge { .. } => json!({"deleted": run.done}),
        };
        answer(queue, &run.correlation_id.to_string(), 200, body, ctx)
    }
}

impl Keep {
    fn keep(
        &self,
        queue: &String,
        letter: &Letter,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), NodeError> {
        let wall = ctx.wall_clock();
        let id = letter_id(queue, wall, letter.partition, letter.offset);
        let all = letter.record.raw_headers();
        let said = |name: &str| header(&all, name);
        let number = |name: &str| said(name).and_then(|text| text.parse::<i64>().ok());
        let error = said(headers::ERROR_MESSAGE).or_else(|| said("__streams.errors.message"));
        let retries = number(headers::FINAL_RETRY_COUNT).and_then(|n| u32::try_from(n).ok());
        let kept = DeadLetterMessage {
            id: id.clone(),
            original_queue: queue.clone(),
            original_message: letter.record.clone(),
            error: error.unwrap_or_default(),
            failed_at: number(headers::DLQ_TIMESTAMP).unwrap_or(letter.record.timestamp),
            retry_count: retries.unwrap_or(0),
            last_retry_at: None,
        };
        ctx.store(self.letters).put(&id, &kept)?;
        let mut row = ctx.store(self.queues).get(queue)?.unwrap_or_default();
        row.size += 1;
        row.kept += 1;
        let warns = row.size > LETTERS_MAX && row.warned.again(wall);
        ctx.store(self.queues).put(queue, &row)?;
        if !warns {
            return Ok(());
        }
        tracing::warn!(queue, count = row.size, "DLQ Size Warning");
        let warning = alert::queue_size(queue, row.size, wall);
        let headers = event_headers(&warning, MANAGER);
        tell(queue, &Outcome::Warning(Box::new(warning)), &headers, ctx)
    }

    fn execute(
        &self,
        queue: &String,
        command: Command,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), NodeError> {
        let correlation_id = command.metadata.correlation_id;
        let to = correlation_id.to_string();
        let refuse = |why: String, ctx: &mut Context<'_, '_>| {
            answer(queue, &to, 400, json!({"error": why}), ctx)
        };
        if command.aggregate_id != *queue {
            return refuse("aggregateId must be the record's key".to_owned(), ctx);
        }
        let task = match (&*command.kind, &command.payload) {
            ("RetryDeadLetter", Payload { message_id: Some(id), .. }) => {
                return self.retry_one(queue, id, &to, ctx);
            }
            ("RetryDeadLetter", _) => {
                return refuse("payload.messageId is missing".to_owned(), ctx);
            }
            ("RetryDeadLetters", _) => Task::Retry,
            ("PurgeDeadLetters", payload) => match payload.older_than.as_ref().map(time) {
                None => Task::Purge { before_ms: i64::MAX },
                Some(Some(before_ms)) => Task::Purge { before_ms },
                Some(None) => return refuse("payload.olderThan is no time".to_owned(), ctx),
            },
            (kind, _) => return refuse(format!("there is no command {kind:.40?}"), ctx),
        };
        let wall = ctx.wall_clock().max(0);
        let run = Run {
            correlation_id,
            task,
            after: format!("{queue}~"),
            until: format!("{queue}~{wall:020}~"),
            done: 0,
            failed: 0,
        };
        let name = command.id.to_string();
        ctx.store(self.runs).put(&format!("{queue}~{name}"), &run)?;
        ctx.store(self.turns).set(queue, &name, wall)
    }

    fn retry_one(
        &self,
        queue: &String,
        id: &String,
        to: &str,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), NodeError> {
        let found = ctx.store(self.letters).get(id)?;
        match found.filter(|letter| letter.original_queue == *queue) {
            None => {
                let error = format!("queue {queue} has no dead letter {id:.200}");
                answer(queue, to, 404, json!({"error": error}), ctx)
            }
            Some(letter) => match self.send_back(queue, letter, ctx)? {
                Ok(()) => answer(queue, to, 200, json!({"messageId": id}), ctx),
                Err(error) => {
                    let body = json!({"messageId": id, "error": error});
                    answer(queue, to, 500, body, ctx)
                }
            },
        }
    }

    /// Sends a letter back to its topic and deletes it. If the topic does not take it, it stays, with
    /// one retry more, and the reason is given.
    fn send_back(
        &self,
        queue: &String,
        mut letter: DeadLetterMessage,
        ctx: &mut Context<'_, '_>,
    ) -> Result<Result<(), String>, NodeError> {
        let record = &letter.original_message;
        let value = record.raw_value();
        let routed = Routed { topic: letter.original_queue.clone(), value };
        let sent = Outcome::SentBack(record.raw_key(), routed);
        let headers = &without(&record.raw_headers(), &ABOUT_FAILURE);
        let timestamp = record.timestamp;
        let told = ctx.forward(Record { key: queue, value: &sent, timestamp, headers });
        match told {
            Ok(()) => {
                self.delete(queue, &letter.id, ctx, |row| row.retried += 1)?;
                Ok(Ok(()))
            }
            Err(error) => {
                letter.last_retry_at = Some(ctx.wall_clock());
                letter.retry_count = letter.retry_count.saturating_add(1);
                ctx.store(self.letters).put(&letter.id, &letter)?;
                Ok(Err(error.to_string()))
            }
        }
    }

    fn delete(
        &self,
        queue: &String,
        id: &String,
        ctx: &mut Context<'_, '_>,
        count: impl Fn(&mut QueueRow),
    ) -> Result<(), NodeError> {
        ctx.store(self.letters).delete(id)?;
        let mut row = ctx.store(self.queues).get(queue)?.unwrap_or_default();
        row.size = row.size.saturating_sub(1);
        count(&mut row);
        ctx.store(self.queues).put(queue, &row)
    }
}

/// Epoch milliseconds, or ISO-8601.
fn time(value: &Value) -> Option<i64> {
    let text = || Some(EventTime::parse(value.as_str()?)?.as_millis());
    value.as_i64().filter(|ms| *ms >= 0).or_else(text)
}

fn answer(
    queue: &String,
    correlation_id: &str,
    status: u16,
    body: Value,
    ctx: &mut Context<'_, '_>,
) -> Result<(), NodeError> {
    let answer = json!({"correlationId": correlation_id, "status": status, "body": body});
    tell(queue, &Outcome::Answer(answer), Headers::empty(), ctx)
}

fn tell(
    queue: &String,
    outcome: &Outcome,
    headers: &Headers,
    ctx: &mut Context<'_, '_>,
) -> Result<(), NodeError> {
    let timestamp = ctx.wall_clock().max(0);
    ctx.forward(Record { key: queue, value: outcome, timestamp, headers })
}

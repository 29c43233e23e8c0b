//! The error handler: a stage that reads a topic and gives its records to a handler that may fail.
//!
//! Owns what becomes of a record whose handler failed. It must not know what a handler does.
//!
//! | failure | becomes of the record |
//! |---|---|
//! | may pass | goes to `<topic>.retry`, whose consumer ([`delay`](super::delay)) counts the tries |
//! | may pass, order kept | waits in the stage's state and is tried again there; later records of its key wait behind it |
//! | may pass, order kept, no retry left | goes to `<topic>.dlq`; the records behind it go on |
//! | will not pass, or the record cannot be read | goes to `<topic>.dlq` |
//!
//! Key and value stay as they were. What the handler made of other records is not touched: a failure
//! ends with its record. Everything is in the transaction of the record, or of the timer.

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use headwater::dsl::{KStream, Produced, StreamsBuilder};
use headwater::processor::{
    InitContext, NodeError, Processor, ProcessorContext, Punctuated, Punctuation, PunctuationType,
    Timer,
};
use headwater::record::{Headers, Record};
use headwater::serde::{SharedSerde, serdes};
use headwater::store::{KeyValueStore, StoreHandle, Stored, TimerHandle};
use headwater_schemas::headers;
use headwater_schemas::topics::Topic;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::given_up;
use super::policy::{HandlerError, Policy};
use super::rate::{self, Counts};
use super::record::{KeptRecord, RawKey, RawValue, Routed, header, raw, raw_records, routed, with};

/// So many records of one key are handled at once when a wait is over.
const AT_ONCE: usize = 32;

const RETRY: &str = "retry";

/// How a topic's records are guarded.
#[derive(Debug)]
pub struct Guard<K, V> {
    name: String,
    topic: Topic,
    key: SharedSerde<K>,
    value: SharedSerde<V>,
    policy: Policy,
    in_order: bool,
    letters: String,
}

impl<K: 'static, V: 'static> Guard<K, V> {
    /// Reads this topic, by these serdes; stores have names that begin with `name`.
    pub fn new(name: &str, topic: &Topic, key: SharedSerde<K>, value: SharedSerde<V>) -> Self {
        let (name, topic) = (name.to_owned(), topic.clone());
        let letters = topic.dead_letters().name.into_owned();
        Self { name, topic, key, value, policy: Policy::default(), in_order: false, letters }
    }

    /// Sends dead letters to this topic in place of `<topic>.dlq`, such as `failed.user.events`. The
    /// manager does not keep those.
    #[must_use]
    pub fn dead_letters_to(mut self, topic: &str) -> Self {
        topic.clone_into(&mut self.letters);
        self
    }

    /// How often and when a record is tried again in order. Without an order it is the retry
    /// consumer's policy that counts.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Keeps the order of each key: while a record waits for its retry, later records of its key wait
    /// behind it. Records without a key have no order and go to the retry topic.
    #[must_use]
    pub fn in_order(mut self) -> Self {
        self.in_order = true;
        self
    }
}

/// Gives every record of a topic to `handler`; the stream is of what it makes of them, each with its
/// record's time and headers. The handler is also told the wall clock, in epoch milliseconds. It must
/// be pure but for what others do meanwhile: it may run again for a transaction that was aborted. One
/// that panics fails.
///
/// ```
/// use headwater::dsl::{Produced, StreamsBuilder};
/// use headwater::serde::serdes::{i64, string};
/// use headwater_schemas::topics::TASK_COMPLETED;
/// use headwater_topologies::retry::guard::{Guard, guard};
/// use headwater_topologies::retry::policy::HandlerError;
///
/// let b = StreamsBuilder::new();
/// let guarded = Guard::new("halve", &TASK_COMPLETED, string(), i64()).in_order();
/// guard(&b, guarded, |_, number, _| match number % 2 {
///     0 => Ok(vec![number / 2]),
///     _ => Err(HandlerError::new("VALIDATION", "an odd number has no half")),
/// })
/// .to("halves", Produced::with(string(), i64()));
/// let topology = b.build()?;
/// # Ok::<(), headwater::topology::TopologyError>(())
/// ```
pub fn guard<K, V, W>(
    b: &StreamsBuilder,
    guard: Guard<K, V>,
    handler: impl Fn(&K, &V, i64) -> Result<Vec<W>, HandlerError> + Send + Sync + 'static,
) -> KStream<'_, K, W>
where
    K: Clone + 'static,
    V: 'static,
    W: Clone + 'static,
{
    let Guard { name, topic, key, value, policy, in_order, letters } = guard;
    let store = |what: &str| format!("{name}-{what}");
    let counts = b.add_store(Stored::key_value(store("counts"), serdes::string(), serdes::json()));
    let mut stores = vec![counts.id()];
    let queue = in_order.then(|| Queue {
        lines: b.add_store(Stored::key_value(store("lines"), raw(), serdes::json())),
        waiting: b.add_store(Stored::key_value(
            store("waiting"),
            serdes::byte_vec(),
            serdes::json(),
        )),
        timers: b.add_store(Stored::wall_clock_timers(store("retries"), raw())),
    });
    stores.extend(queue.iter().flat_map(|q| [q.lines.id(), q.waiting.id(), q.timers.id()]));
    let retries = topic.retries().name.to_string();
    let source = b.stream(&topic.name, raw_records());
    let (handler, own) = (Arc::new(handler), topic.name.to_string());
    let counted = own.clone();
    let to = [retries.clone(), letters.clone()];
    let outcomes = source
        .process(
            move || Stage {
                topic: own.clone(),
                retries: retries.clone(),
                letters: letters.clone(),
                key: key.clone(),
                value: value.clone(),
                policy,
                handler: Arc::clone(&handler),
                counts,
                queue,
                _types: PhantomData,
            },
            &stores,
        )
        .named(&name);
    outcomes.flat_map(|key, outcome: &Outcome<K, W>| outcome.set_aside(key)).to_chosen(
        &[&to[0], &to[1]],
        |_, routed: &Routed| routed.topic.clone(),
        Produced::with(raw(), routed()),
    );
    let counts = outcomes.flat_map(move |_, outcome: &Outcome<K, W>| match outcome {
        Outcome::Counted(counts) => Some((counted.clone(), counts.clone())),
        _ => None,
    });
    rate::watch(counts, b, &name);
    outcomes.flat_map(|_, outcome: &Outcome<K, W>| outcome.handled())
}

/// What comes of a record.
enum Outcome<K, W> {
    Handled(K, W),
    SetAside(Routed),
    Counted(Counts),
}

impl<K: Clone, W: Clone> Outcome<K, W> {
    fn handled(&self) -> Option<(K, W)> {
        match self {
            Self::Handled(key, value) => Some((key.clone(), value.clone())),
            _ => None,
        }
    }

    fn set_aside(&self, key: &RawKey) -> Option<(RawKey, Routed)> {
        match self {
            Self::SetAside(routed) => Some((key.clone(), routed.clone())),
            _ => None,
        }
    }
}

/// A key's records that wait: those numbered from `first` up to `next`, `next` excluded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    first: u64,
    next: u64,
    /// How often the first was tried again.
    retries: u32,
}

/// Where records wait in order.
#[derive(Clone, Copy)]
struct Queue {
    lines: StoreHandle<KeyValueStore<RawKey, Line>>,
    /// By key and number.
    waiting: StoreHandle<KeyValueStore<Vec<u8>, KeptRecord>>,
    timers: TimerHandle<RawKey>,
}

struct Stage<K, V, W, F> {
    topic: String,
    retries: String,
    letters: String,
    key: SharedSerde<K>,
    value: SharedSerde<V>,
    policy: Policy,
    handler: Arc<F>,
    /// What was counted and not told yet, by topic.
    counts: StoreHandle<KeyValueStore<String, Counts>>,
    queue: Option<Queue>,
    _types: PhantomData<fn() -> W>,
}

type Raw<'r> = Record<'r, RawKey, RawValue>;
type Context<'c, 't, K, W> = ProcessorContext<'c, 't, RawKey, Outcome<K, W>>;

impl<K, V, W, F> Processor<RawKey, RawValue, RawKey, Outcome<K, W>> for Stage<K, V, W, F>
where
    K: Clone + 'static,
    V: 'static,
    W: Clone + 'static,
    F: Fn(&K, &V, i64) -> Result<Vec<W>, HandlerError> + Send + Sync,
{
    fn timers(&self) -> Vec<TimerHandle<RawKey>> {
        self.queue.iter().map(|queue| queue.timers).collect()
    }

    fn init(&mut self, ctx: &mut InitContext<'_>) -> Result<(), NodeError> {
        ctx.schedule(PunctuationType::WallClockTime, rate::TELL_MS, None).map(drop)
    }

    /// Tells what was counted.
    fn punctuate(
        &mut self,
        _: Punctuation<'_>,
        ctx: &mut Context<'_, '_, K, W>,
    ) -> Result<Punctuated, NodeError> {
        if let Some(counts) = ctx.store(self.counts).get(&self.topic)? {
            ctx.store(self.counts).delete(&self.topic)?;
            let (outcome, timestamp) = (Outcome::Counted(counts), ctx.wall_clock().max(0));
            let headers = Headers::empty();
            ctx.forward(Record { key: &None, value: &outcome, timestamp, headers })?;
        }
        Ok(Punctuated::Done)
    }

    fn process(
        &mut self,
        record: Raw<'_>,
        ctx: &mut Context<'_, '_, K, W>,
    ) -> Result<(), NodeError> {
        let queue = self.queue.filter(|_| record.key.is_some());
        if let Some(queue) = queue
            && let Some(line) = ctx.store(queue.lines).get(record.key)?
        {
            return queue.push(&record, line, ctx);
        }
        let Err(error) = self.handle(&record, ctx)? else { return Ok(()) };
        match queue {
            Some(queue) if error.is_retryable() && self.policy.retries_max > 0 => {
                queue.push(&record, Line { retries: 1, ..Line::default() }, ctx)?;
                let due = ctx.wall_clock().saturating_add(self.policy.delay_ms(0)).max(0);
                ctx.store(queue.timers).set(record.key, RETRY, due)
            }
            _ if error.is_retryable() => self.retry(&record, &error, ctx),
            _ => self.give_up(&record, &error, retry_count(record.headers), ctx),
        }
    }

    /// A wait is over: the key's first record is tried again, and those behind it follow.
    fn on_timer(
        &mut self,
        timer: Timer<'_, RawKey>,
        ctx: &mut Context<'_, '_, K, W>,
    ) -> Result<(), NodeError> {
        let queue = self.queue.expect("timers belong to a queue");
        let wall = ctx.wall_clock();
        let Some(mut line) = ctx.store(queue.lines).get(timer.key)? else { return Ok(()) };
        for _ in 0..AT_ONCE {
            if line.first == line.next {
                return ctx.store(queue.lines).delete(timer.key);
            }
            let place = Queue::place(timer.key, line.first);
            let Some(kept) = ctx.store(queue.waiting).get(&place)? else {
                return Err(NodeError::message("a record that waits is missing"));
            };
            let (key, value, headers) = (kept.raw_key(), kept.raw_value(), kept.raw_headers());
            let timestamp = kept.timestamp;
            let record = Record { key: &key, value: &value, timestamp, headers: &headers };
            if let Err(error) = self.handle(&record, ctx)? {
                if error.is_retryable() && line.retries < self.policy.retries_max {
                    let due = wall.saturating_add(self.policy.delay_ms(line.retries)).max(0);
                    line.retries += 1;
                    ctx.store(queue.lines).put(timer.key, &line)?;
                    return ctx.store(queue.timers).set(timer.key, RETRY, due);
                }
                self.give_up(&record, &error, line.retries, ctx)?;
            }
            ctx.store(queue.waiting).delete(&place)?;
            line.first += 1;
            line.retries = 0;
        }
        // The rest has the next turn.
        ctx.store(queue.lines).put(timer.key, &line)?;
        ctx.store(queue.timers).set(timer.key, RETRY, wall.max(0))
    }
}

impl Queue {
    fn place(key: &RawKey, number: u64) -> Vec<u8> {
        [key.as_deref().unwrap_or_default(), &number.to_be_bytes()].concat()
    }

    /// Lets a record wait behind those of its key.
    fn push<K: 'static, W: 'static>(
        self,
        record: &Raw<'_>,
        mut line: Line,
        ctx: &mut Context<'_, '_, K, W>,
    ) -> Result<(), NodeError> {
        let place = Self::place(record.key, line.next);
        ctx.store(self.waiting).put(&place, &KeptRecord::of(record))?;
        line.next += 1;
        ctx.store(self.lines).put(record.key, &line)
    }
}

impl<K, V, W, F> Stage<K, V, W, F>
where
    K: Clone + 'static,
    V: 'static,
    W: Clone + 'static,
    F: Fn(&K, &V, i64) -> Result<Vec<W>, HandlerError> + Send + Sync,
{
    /// Runs the handler, forwards what it makes, and counts how it went.
    fn handle(
        &self,
        record: &Raw<'_>,
        ctx: &mut Context<'_, '_, K, W>,
    ) -> Result<Result<(), HandlerError>, NodeError> {
        let made = self.run(record, ctx.wall_clock());
        let failure = made.as_ref().err().map(|error| self.about(record, error, ctx));
        let mut counts = ctx.store(self.counts).get(&self.topic)?.unwrap_or_default();
        counts.note(failure);
        ctx.store(self.counts).put(&self.topic, &counts)?;
        match made {
            Ok((key, made)) => {
                for value in made {
                    let outcome = Outcome::Handled(key.clone(), value);
                    ctx.forward(record.with_value(&outcome))?;
                }
                Ok(Ok(()))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    fn run(&self, record: &Raw<'_>, wall_ms: i64) -> Result<(K, Vec<W>), HandlerError> {
        let unreadable = |field: &str, error: &dyn std::fmt::Display| {
            HandlerError::new("DESERIALIZATION", format!("{field} cannot be read: {error}"))
        };
        let key = self.key.decode(record.key.as_deref()).map_err(|e| unreadable("key", &e))?;
        let value =
            self.value.decode(record.value.as_deref()).map_err(|e| unreadable("value", &e))?;
        match catch_unwind(AssertUnwindSafe(|| (self.handler)(&key, &value, wall_ms))) {
            Ok(made) => made.map(|made| (key, made)),
            Err(_) => Err(HandlerError::new("PANIC", "the handler panicked")),
        }
    }

    fn retry(
        &self,
        record: &Raw<'_>,
        error: &HandlerError,
        ctx: &mut Context<'_, '_, K, W>,
    ) -> Result<(), NodeError> {
        let retries = retry_count(record.headers);
        let due = ctx.wall_clock().saturating_add(self.policy.delay_ms(retries));
        let said = [
            (headers::RETRY_COUNT, retries.saturating_add(1).to_string()),
            (headers::ORIGINAL_TOPIC, self.topic.clone()),
            (headers::ERROR_MESSAGE, error.to_string()),
            (headers::RETRY_AT, due.to_string()),
        ];
        self.send(&self.retries, record, &with(record.headers, &said), ctx)
    }

    fn give_up(
        &self,
        record: &Raw<'_>,
        error: &HandlerError,
        retries: u32,
        ctx: &mut Context<'_, '_, K, W>,
    ) -> Result<(), NodeError> {
        let topic = &self.topic;
        tracing::error!(topic, retries, %error, "record given up");
        let why = error.to_string();
        let headers = given_up(record.headers, topic, &why, retries, ctx.wall_clock());
        self.send(&self.letters, record, &headers, ctx)
    }

    fn send(
        &self,
        topic: &str,
        record: &Raw<'_>,
        headers: &Headers,
        ctx: &mut Context<'_, '_, K, W>,
    ) -> Result<(), NodeError> {
        let routed = Routed { topic: topic.to_owned(), value: record.value.clone() };
        let outcome: Outcome<K, W> = Outcome::SetAside(routed);
        ctx.forward(record.with_value(&outcome).with_headers(headers))
    }

    /// Where a record failed, and why.
    fn about(
        &self,
        record: &Raw<'_>,
        error: &HandlerError,
        ctx: &mut Context<'_, '_, K, W>,
    ) -> Value {
        json!({
            "topic": self.topic,
            "partition": ctx.partition(),
            "offset": ctx.place().map(|place| place.offset),
            "key": record.key.as_deref().map(String::from_utf8_lossy),
            "error": error.to_string(),
            "timestamp": record.timestamp,
            "retryCount": retry_count(record.headers),
        })
    }
}

/// How often the record's headers say that it was tried again; what counts is kept in state.
fn retry_count(all: &Headers) -> u32 {
    header(all, headers::RETRY_COUNT).and_then(|count| count.parse().ok()).unwrap_or(0)
}

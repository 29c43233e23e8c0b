//! An operation that is done once for each message, however often the message comes: the idempotency
//! service and the deduplicating consumer.
//!
//! Owns what is remembered, and for how long. It must not know what an operation does.
//!
//! * The result, the memory of it and the input's offset are one commit: there is no lock to expire,
//!   and no result without its memory.
//! * Messages of one id come one after the other, because they have one key and so one task. None waits
//!   for another, and a first one that failed holds nobody up: it left nothing.
//! * Whoever only wants duplicates dropped, by event time, takes
//!   [`KStream::deduplicate`] of the engine.

use std::sync::Arc;
use std::time::Duration;

use headwater::dsl::{KStream, StreamsBuilder};
use headwater::processor::{NodeError, Processor, ProcessorContext, Timer};
use headwater::record::Record;
use headwater::serde::{SharedSerde, serdes};
use headwater::store::{KeyValueStore, StoreHandle, Stored, TimerHandle};
use headwater::time::saturating_ms;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::platform_event::event_keys;

/// How long the result of an operation is known: a day.
pub const OPERATION_TTL: Duration = Duration::from_secs(86_400);

/// How long a message is known that was consumed: an hour.
pub const MESSAGE_TTL: Duration = Duration::from_secs(3_600);

/// What is remembered of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Remembered<W> {
    /// Whose it is: the message's id.
    pub key: String,
    /// What came of it.
    pub response: W,
    /// When it was done, in epoch milliseconds of the wall clock.
    pub created_at: i64,
    /// When it is forgotten; a message that comes then is a new one.
    pub expires_at: i64,
}

/// What came of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered<W> {
    /// The operation's result, now or then.
    pub result: W,
    /// It came before: nothing was done.
    pub duplicate: bool,
}

/// What is remembered under which name, and for how long.
#[derive(Debug)]
pub struct Once<K> {
    name: String,
    ttl: Duration,
    key: SharedSerde<K>,
}

impl<K> Once<K> {
    /// For so long on the wall clock, in a store of this name; the serde is that of the messages' keys.
    pub fn within(name: &str, ttl: Duration, key: SharedSerde<K>) -> Self {
        Self { name: name.to_owned(), ttl, key }
    }
}

/// Does `operation` for the first message of each id, and answers those that follow with its result. An
/// id is text of 1 to 256 bytes; ids are known by partition: messages of one id must have one key. What
/// is kept of each is a [`Remembered`], by id.
///
/// An operation that fails fails its record, and is not remembered: the next one is done.
///
/// ```
/// use headwater::dsl::{Consumed, StreamsBuilder};
/// use headwater::serde::serdes::{i64, string};
/// use headwater_topologies::idempotency::{MESSAGE_TTL, Once, once};
///
/// let b = StreamsBuilder::new();
/// let payments = b.stream("payments", Consumed::with(string(), i64()));
/// let once_an_hour = Once::within("booked", MESSAGE_TTL, string());
/// let booked = once(&b, payments, once_an_hour, |id, _| id.clone(), |_, cents| {
///     Ok(format!("{cents} cents booked"))
/// });
/// let new = booked.filter(|_, booked| !booked.duplicate);
/// let topology = b.build()?;
/// # Ok::<(), headwater::topology::TopologyError>(())
/// ```
pub fn once<'b, K, V, W>(
    b: &'b StreamsBuilder,
    messages: KStream<'b, K, V>,
    remembered: Once<K>,
    id_of: impl Fn(&K, &V) -> String + Send + Sync + 'static,
    operation: impl Fn(&K, &V) -> Result<W, NodeError> + Send + Sync + 'static,
) -> KStream<'b, K, Answered<W>>
where
    K: 'static,
    V: 'static,
    W: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let Once { name, ttl, key } = remembered;
    let known = b.add_store(Stored::key_value(&*name, event_keys(), serdes::json()));
    let ends = b.add_store(Stored::wall_clock_timers(format!("{name}-ends"), key));
    let (ttl_ms, id_of, operation) = (saturating_ms(ttl), Arc::new(id_of), Arc::new(operation));
    messages
        .process(
            move || Execute {
                known,
                ends,
                ttl_ms,
                id_of: Arc::clone(&id_of),
                operation: Arc::clone(&operation),
            },
            &[known.id(), ends.id()],
        )
        .named(&name)
}

struct Execute<K, W, I, F> {
    known: StoreHandle<KeyValueStore<String, Remembered<W>>>,
    /// By key; a timer's name is the message's id.
    ends: TimerHandle<K>,
    ttl_ms: i64,
    id_of: Arc<I>,
    operation: Arc<F>,
}

impl<K, V, W, I, F> Processor<K, V, K, Answered<W>> for Execute<K, W, I, F>
where
    K: 'static,
    V: 'static,
    W: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
    I: Fn(&K, &V) -> String + Send + Sync,
    F: Fn(&K, &V) -> Result<W, NodeError> + Send + Sync,
{
    fn timers(&self) -> Vec<TimerHandle<K>> {
        vec![self.ends]
    }

    fn process(
        &mut self,
        record: Record<'_, K, V>,
        ctx: &mut ProcessorContext<'_, '_, K, Answered<W>>,
    ) -> Result<(), NodeError> {
        let (id, now) = ((self.id_of)(record.key, record.value), ctx.wall_clock());
        let known = ctx.store(self.known).get(&id)?.filter(|known| now < known.expires_at);
        let answered = match known {
            Some(known) => Answered { result: known.response, duplicate: true },
            None => {
                let response = (self.operation)(record.key, record.value)?;
                let expires_at = now.saturating_add(self.ttl_ms);
                let result = response.clone();
                let known = Remembered { key: id.clone(), response, created_at: now, expires_at };
                ctx.store(self.known).put(&id, &known)?;
                ctx.store(self.ends).set(record.key, &id, expires_at.max(0))?;
                Answered { result, duplicate: false }
            }
        };
        ctx.forward(record.with_value(&answered))
    }

    fn on_timer(
        &mut self,
        timer: Timer<'_, K>,
        ctx: &mut ProcessorContext<'_, '_, K, Answered<W>>,
    ) -> Result<(), NodeError> {
        ctx.store(self.known).delete(&timer.name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use headwater::dsl::{Consumed, Produced};
    use headwater::record::Headers;
    use headwater::serde::serdes::string;
    use headwater::testing::TopologyTestDriver;

    use super::*;

    /// The id is what stands before the colon; `bad` fails.
    fn driver() -> TopologyTestDriver {
        let b = StreamsBuilder::new();
        let messages = b.stream("in", Consumed::with(string(), string()));
        let id = |_: &String, said: &String| said.split(':').next().unwrap_or_default().to_owned();
        let operation = |_: &String, said: &String| match said.ends_with("bad") {
            true => Err(NodeError::message("no")),
            false => Ok(format!("did {said}")),
        };
        once(&b, messages, Once::within("done", MESSAGE_TTL, string()), id, operation)
            .map_values(|_, answered| format!("{} {}", answered.result, answered.duplicate))
            .to("out", Produced::with(string(), string()));
        TopologyTestDriver::new(&b.build().expect("it is sound")).expect("it starts")
    }

    fn say(driver: &mut TopologyTestDriver, said: &str) -> Vec<String> {
        let piped = driver.pipe("in", Some(b"k"), Some(said.as_bytes()), 5, Headers::empty());
        piped.expect("it goes on");
        let text = |value: Option<Vec<u8>>| String::from_utf8(value.unwrap_or_default());
        driver.take("out").into_iter().map(|r| text(r.value).expect("text")).collect()
    }

    #[test]
    fn a_message_that_comes_again_is_answered_with_the_first_result() {
        let mut driver = driver();
        assert_eq!(say(&mut driver, "1:a"), ["did 1:a false"]);
        driver.restart().expect("it goes on");
        assert_eq!(say(&mut driver, "1:b"), ["did 1:a true"]);
        driver.move_task().expect("it goes on");
        assert_eq!(say(&mut driver, "1:bad"), ["did 1:a true"], "nothing is done");
        assert_eq!(say(&mut driver, "2:b"), ["did 2:b false"]);
    }

    #[test]
    fn an_operation_that_fails_is_not_remembered() {
        let mut driver = driver();
        assert_eq!(say(&mut driver, "1:bad"), [""; 0]);
        assert_eq!(driver.take("in.dlq").len(), 1);
        assert!(driver.rows("done").is_empty() && driver.rows("done-ends").is_empty());
        assert_eq!(say(&mut driver, "1:a"), ["did 1:a false"]);
    }

    #[test]
    fn a_message_is_forgotten_when_its_time_is_over_and_nothing_is_left_of_it() {
        let mut driver = driver();
        driver.advance_wall_clock(Duration::from_millis(7)).expect("it runs");
        say(&mut driver, "1:a");
        let rows = driver.rows("done");
        let known: Remembered<String> = serde_json::from_slice(&rows[0].value).expect("its own");
        let expected = Remembered {
            key: "1".to_owned(),
            response: "did 1:a".to_owned(),
            created_at: 7,
            expires_at: 3_600_007,
        };
        assert_eq!(known, expected);
        driver.advance_wall_clock(MESSAGE_TTL - Duration::from_millis(1)).expect("it runs");
        assert_eq!(say(&mut driver, "1:b"), ["did 1:a true"]);
        driver.advance_wall_clock(Duration::from_millis(1)).expect("it runs");
        assert!(driver.rows("done").is_empty() && driver.rows("done-ends").is_empty());
        assert_eq!(say(&mut driver, "1:c"), ["did 1:c false"]);
    }
}

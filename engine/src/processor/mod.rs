//! Processors: what a node of a task is, what it may touch while it runs, and how its failures
//! leave it. Owns the arena of nodes, the Processor API and punctuation; knows no operator, no
//! topology and no log.

pub(crate) mod cache;
pub mod context;
pub mod drops;
pub(crate) mod getter;
pub(crate) mod node;
pub mod outbox;
pub mod punctuation;
pub(crate) mod refusals;
pub(crate) mod state;
pub mod timers;

pub use crate::config::OnError;
pub use crate::store::error::{self, NodeError};
pub use context::{InitContext, ProcessorContext};
pub use drops::DropReason;
pub use punctuation::{Punctuated, Punctuation, PunctuationId, PunctuationType};
pub use timers::Timer;

use crate::record::Record;
use crate::store::TimerHandle;

/// A custom operator: takes records of `KIn, VIn` and forwards records of `KOut, VOut`.
///
/// One processor belongs to one task and runs on one thread at a time. Its fields do not survive a
/// restart, nor a rewind after an aborted transaction: the runtime then builds a new processor from
/// its supplier. **What must survive belongs in a store.**
///
/// ```
/// use headwater::processor::{NodeError, Processor, ProcessorContext};
/// use headwater::record::Record;
///
/// /// Forwards every record twice.
/// struct Twice;
///
/// impl Processor<String, i64, String, i64> for Twice {
///     fn process(
///         &mut self,
///         record: Record<'_, String, i64>,
///         ctx: &mut ProcessorContext<'_, '_, String, i64>,
///     ) -> Result<(), NodeError> {
///         ctx.forward(record)?;
///         ctx.forward(record)
///     }
/// }
/// ```
///
/// Source: `org.apache.kafka.streams.processor.api.Processor` (KIP-478).
pub trait Processor<KIn, VIn, KOut, VOut>: Send {
    /// Called once before the first record: schedules punctuations, resolves nothing else.
    ///
    /// # Errors
    /// Any error stops the task before its first record.
    fn init(&mut self, ctx: &mut InitContext<'_>) -> Result<(), NodeError> {
        let _ = ctx;
        Ok(())
    }

    /// Called for each record, in the order of the task.
    ///
    /// # Errors
    /// Any error is given to the topology's handler together with the record's place.
    fn process(
        &mut self,
        record: Record<'_, KIn, VIn>,
        ctx: &mut ProcessorContext<'_, '_, KOut, VOut>,
    ) -> Result<(), NodeError>;

    /// Called when a punctuation of this processor is due.
    ///
    /// # Errors
    /// Any error fails the task: a punctuation has no record that could be set aside.
    fn punctuate(
        &mut self,
        punctuation: Punctuation<'_>,
        ctx: &mut ProcessorContext<'_, '_, KOut, VOut>,
    ) -> Result<Punctuated, NodeError> {
        let _ = (punctuation, ctx);
        Ok(Punctuated::Done)
    }
    /// The timers of this processor, so that it is told when one is due. Asked once, before
    /// [`init`](Self::init); each timer store belongs to one processor, and is connected to it as
    /// every store is.
    fn timers(&self) -> Vec<TimerHandle<KIn>> {
        Vec::new()
    }

    /// Called when one of this processor's timers is due: exactly once for each time it was set,
    /// unless it was moved or cancelled before. It is set no longer then. What this does is part of
    /// the same transaction as that it fired.
    ///
    /// Timers survive restarts, rewinds and moves of the task. Those of stream time fire where due
    /// punctuations run: after the record that brought stream time there, before the next record.
    /// Those of the wall clock fire when the thread finds the clock past them. Within a store the
    /// order is that of times, then of the keys' bytes, then of names. One that is set to a time
    /// that is over is due at once; if this method sets it, and its place in the order is not behind
    /// the timer that fires, then after the next record or look at the clock, so that no timer keeps
    /// records from being processed. A number of timers that is due at once fires in parts between
    /// which the transaction may be committed.
    ///
    /// ```
    /// use headwater::dsl::{Consumed, Produced, StreamsBuilder};
    /// use headwater::processor::{NodeError, Processor, ProcessorContext, Timer};
    /// use headwater::record::{Headers, Record};
    /// use headwater::serde::serdes::{i64, string};
    /// use headwater::store::{Stored, TimerHandle};
    /// use headwater::testing::{TestInput, TestOutput, TopologyTestDriver};
    ///
    /// /// Says of each key that it has been silent for a minute, in the records' own time.
    /// struct Silence(TimerHandle<String>);
    ///
    /// impl Processor<String, i64, String, i64> for Silence {
    ///     fn timers(&self) -> Vec<TimerHandle<String>> {
    ///         vec![self.0]
    ///     }
    ///
    ///     fn process(
    ///         &mut self,
    ///         record: Record<'_, String, i64>,
    ///         ctx: &mut ProcessorContext<'_, '_, String, i64>,
    ///     ) -> Result<(), NodeError> {
    ///         ctx.store(self.0).set(record.key, "silent", record.timestamp + 60_000)
    ///     }
    ///
    ///     fn on_timer(
    ///         &mut self,
    ///         timer: Timer<'_, String>,
    ///         ctx: &mut ProcessorContext<'_, '_, String, i64>,
    ///     ) -> Result<(), NodeError> {
    ///         let (key, value, timestamp) = (timer.key, &60_000, timer.time);
    ///         ctx.forward(Record { key, value, timestamp, headers: Headers::empty() })
    ///     }
    /// }
    ///
    /// let b = StreamsBuilder::new();
    /// let silence = b.add_store(Stored::stream_timers("silence", string()));
    /// b.stream("clicks", Consumed::with(string(), i64()))
    ///     .process(move || Silence(silence), &[silence.id()])
    ///     .to("silent", Produced::with(string(), i64()));
    ///
    /// let mut driver = TopologyTestDriver::new(&b.build()?)?;
    /// let clicks = TestInput::new("clicks", string(), i64());
    /// for (user, time) in [("ann", 0), ("bob", 30_000), ("ann", 59_000), ("cid", 95_000)] {
    ///     clicks.pipe(&mut driver, &user.into(), &1, time)?;
    /// }
    /// let silent = TestOutput::new("silent", string(), i64()).read(&mut driver)?;
    /// assert_eq!(silent.len(), 1, "ann's timer moved with her second click");
    /// assert_eq!((&*silent[0].key, silent[0].timestamp), ("bob", 90_000));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Source: Flink's `KeyedProcessFunction.onTimer`, Beam's `@OnTimer`.
    ///
    /// # Errors
    /// Any error fails the task, as in a punctuation: there is no record that could be set aside.
    /// The timer is then set as it was.
    fn on_timer(
        &mut self,
        timer: Timer<'_, KIn>,
        ctx: &mut ProcessorContext<'_, '_, KOut, VOut>,
    ) -> Result<(), NodeError> {
        let _ = (timer, ctx);
        Ok(())
    }
}

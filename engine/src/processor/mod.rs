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

pub use crate::config::OnError;
pub use crate::store::error::{self, NodeError};
pub use context::{InitContext, ProcessorContext};
pub use drops::DropReason;
pub use punctuation::{Punctuated, Punctuation, PunctuationId, PunctuationType};

use crate::record::Record;

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
}

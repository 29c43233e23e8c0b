//! Sagas: work in steps that spans many events, with deadlines, retries, and compensation in
//! reverse order when a step fails for good.
//!
//! Owns the order of steps and what survives between two events. It must not know any particular
//! saga, and does no I/O: a machine takes one input and says what to emit, so that the same code
//! runs in a topology, in a test and in a model. Time comes with each input.
//!
//! ```text
//!              enter             Done                       Done (last)
//!   (start) ---------> step 1 ---------> step 2 -- ... ---------------> COMPLETED
//!                       |  ^ enter again     |
//!                 Retry |  | after backoff   | Fail, or attempts used up
//!                       +--+                 v
//!                              COMPENSATING: completed steps, newest first ---> FAILED
//! ```
//!
//! * A step that is entered emits; its replies come later, in any order, perhaps twice.
//! * Attempts: a [`Verdict::Retry`] or a timeout enters the step again after a backoff, until its
//!   attempts are used up; then the saga compensates.
//! * Compensation undoes the completed steps, newest first. The step that failed cleans up after
//!   itself in [`Step::abandon`]. A compensation that fails or times out is recorded, and the rest
//!   goes on.
//! * A saga that has completed can be revoked: then it compensates, and ends a second time.
//! * Whatever a machine emits carries a name that is the same when the input is processed again, so
//!   that ids made from it collapse repeats.

mod machine;
mod record;

#[cfg(test)]
mod tests;

pub(crate) use machine::later;
pub use machine::{Definition, Effects, Emission, Reaction, Step, Verdict, emission_id};
pub use record::{SagaRecord, SagaState, Timing};

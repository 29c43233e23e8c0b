//! Agents behind a port: work goes out, answers come back, and nobody here knows who works.
//!
//! Owns the port, what is asked and answered over it, and the three kinds of agents behind it. It
//! must not know topics, stores or the workflow; [`runner`] alone joins the two.
//!
//! ```text
//! agent.tasks.manager -+-> runner ---- Agents ---+-> Simulated   answers drawn from a seed
//! agent.tasks.worker  -+   (store: work,         +-> Pool of CommandAgent   a program: stdin, stdout
//!                           answers)             +-> Pool of HttpAgent      POST, JSON
//!                              |
//!                              +--> agent.responses
//! ```
//!
//! * An agent works outside every transaction: it is asked, and asked again later whether it is
//!   done. What it answers goes out in the transaction that also notes the step as answered.
//! * Each piece of work has a **step id**. Whoever works is told it, so that a second execution, as
//!   after a crash, can be recognised. A step whose answer is known is not executed again.
//! * Agents that have no room for more work refuse it; it is offered again later.
//! * An agent that fails, hangs, or answers rubbish gives an [`AgentError`] that says which.

pub mod command;
mod error;
pub mod http;
mod pool;
pub mod runner;
mod simulated;
mod work;

use uuid::Uuid;

pub use error::AgentError;
pub use pool::{Agent, Pool};
pub use simulated::{Behaviour, Simulated};
pub use work::{Ask, Outcome, Reply, Work};

/// Those who work, as the runner sees them.
pub trait Agents: Send + Sync {
    /// The answer to `work`, once there is one. Work that is not known yet begins with this call;
    /// known work is only looked at. `now_ms` is the wall clock. Never waits.
    fn ask(&self, work: &Work, now_ms: i64) -> Option<Outcome>;

    /// Whether this work can be taken now; it was asked for `waited_ms` ago. Work that is refused with
    /// an error that may pass is offered again after a while.
    ///
    /// # Errors
    /// Why it cannot be taken; nothing was begun.
    fn admit(&self, work: &Work, waited_ms: i64) -> Result<(), AgentError> {
        let _ = (work, waited_ms);
        Ok(())
    }

    /// Nobody waits for this step any more: it need not be begun, nor ended.
    fn withdraw(&self, step_id: Uuid);
}

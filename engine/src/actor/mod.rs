//! Actors: everything that runs is stepped. Owns the step contract, bells, mailboxes and one-shot
//! tickets; `spawn` alone gives actors operating-system threads. Knows nothing of records or logs.
//!
//! ```text
//!            rings                     step(now)
//!  anyone ----------> Bell ---> actor ----------> Next::Again    step me at once
//!                                                 Next::WakeAt   at t, or when the bell rings
//!                                                 Next::Wait     when the bell rings
//!                                                 Next::Done     never again
//! ```
//!
//! An actor never blocks inside `step`. That is what lets the simulator step a whole runtime on one
//! thread, in an order drawn from a seed, under a virtual clock.

mod mailbox;
pub mod spawn;
mod ticket;

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

pub use mailbox::{Address, Full, Mailbox, mailbox};
pub use ticket::{Poll, Promise, Ticket, ticket};

use crate::time::Now;

/// What an actor wants after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// There is more to do now.
    Again,
    /// Nothing to do before this monotonic time, unless the bell rings.
    WakeAt(Duration),
    /// Nothing to do until the bell rings.
    Wait,
    /// Finished; it is never stepped again.
    Done,
}

impl Next {
    /// The earlier of two wishes: `Again`, then `WakeAt` by time, then `Wait`, then `Done`.
    pub fn sooner(self, other: Next) -> Next {
        match (self, other) {
            (Next::Again, _) | (_, Next::Again) => Next::Again,
            (Next::WakeAt(a), Next::WakeAt(b)) => Next::WakeAt(a.min(b)),
            (Next::WakeAt(t), _) | (_, Next::WakeAt(t)) => Next::WakeAt(t),
            (Next::Wait, _) | (_, Next::Wait) => Next::Wait,
            (Next::Done, Next::Done) => Next::Done,
        }
    }
}

/// Something that runs by being stepped.
///
/// - `step` does a bounded piece of work and returns; it never blocks or sleeps.
/// - Time comes from `now` alone.
/// - A step that found nothing to do and whose [`Bell`] has not rung since may be repeated: it must
///   have no effect.
pub trait Actor: Send {
    /// The actor's name, also the name of its thread.
    fn name(&self) -> &str;
    /// What others ring when this actor has news to look at.
    fn bell(&self) -> Bell;
    /// Does a bounded piece of work.
    fn step(&mut self, now: Now) -> Next;
}

/// Wakes one actor. Clones ring the same actor. Ringing before it waits is not lost.
#[derive(Debug, Clone, Default)]
pub struct Bell {
    inner: Arc<BellState>,
}

#[derive(Debug, Default)]
struct BellState {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    /// A new bell that has not rung.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wakes the actor, now or when it next waits.
    pub fn ring(&self) {
        let mut rung = self.inner.rung.lock().unwrap_or_else(PoisonError::into_inner);
        if !*rung {
            *rung = true;
            self.inner.changed.notify_all();
        }
    }

    /// Takes the ring, if there was one.
    pub fn take(&self) -> bool {
        std::mem::take(&mut *self.inner.rung.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Blocks until the bell rings or the time is over; takes the ring. Only `spawn` and callers
    /// outside every actor may block.
    pub(crate) fn wait(&self, timeout: Option<Duration>) {
        let mut rung = self.inner.rung.lock().unwrap_or_else(PoisonError::into_inner);
        match timeout {
            None => {
                while !*rung {
                    rung = self.inner.changed.wait(rung).unwrap_or_else(PoisonError::into_inner);
                }
            }
            Some(timeout) => {
                if !*rung {
                    rung = self
                        .inner
                        .changed
                        .wait_timeout(rung, timeout)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0;
                }
            }
        }
        *rung = false;
    }
}

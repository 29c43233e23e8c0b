//! The one place that gives actors operating-system threads.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use super::{Actor, Bell, Next};
use crate::time::Clock;

/// A running actor's thread.
#[derive(Debug)]
pub struct Running {
    name: String,
    bell: Bell,
    thread: JoinHandle<()>,
}

impl Running {
    /// The actor's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Wakes the actor.
    pub fn ring(&self) {
        self.bell.ring();
    }

    /// Waits until the actor is done. False if it ended by a panic outside user code.
    pub fn join(self) -> bool {
        self.thread.join().is_ok()
    }

    /// The actor has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Runs an actor on a thread of its own until it is [`Next::Done`].
///
/// # Errors
/// The operating system gave no thread.
pub fn spawn(mut actor: Box<dyn Actor>, clock: Arc<dyn Clock>) -> io::Result<Running> {
    let name = actor.name().to_owned();
    let bell = actor.bell();
    let own_bell = bell.clone();
    let thread = Builder::new().name(name.clone()).spawn(move || {
        loop {
            let next = catch_unwind(AssertUnwindSafe(|| actor.step(clock.now())));
            match next {
                Ok(Next::Again) => {}
                Ok(Next::WakeAt(at)) => {
                    own_bell.wait(Some(at.saturating_sub(clock.now().monotonic)));
                }
                Ok(Next::Wait) => own_bell.wait(None),
                Ok(Next::Done) => break,
                Err(panic) => {
                    tracing::error!(actor = actor.name(), "actor panicked; its thread ends");
                    std::panic::resume_unwind(panic);
                }
            }
        }
    })?;
    Ok(Running { name, bell, thread })
}

/// Runs a function on a named thread, for calls into C that block (a log's companion threads).
///
/// # Errors
/// The operating system gave no thread.
pub fn spawn_blocking(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name.to_owned()).spawn(body)
}

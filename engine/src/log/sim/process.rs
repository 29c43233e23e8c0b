//! Whether a simulated process runs. Shared by everything that lives in it: a producer's background
//! work and a member's heartbeats stop with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const RUNNING: u8 = 0;
const PAUSED: u8 = 1;
const DEAD: u8 = 2;

/// One process. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Process {
    name: Arc<str>,
    state: Arc<AtomicU8>,
}

impl Process {
    /// A running process.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), state: Arc::default() }
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// It is neither paused nor dead.
    pub fn is_running(&self) -> bool {
        self.state.load(Ordering::SeqCst) == RUNNING
    }

    /// It never runs again.
    pub fn is_dead(&self) -> bool {
        self.state.load(Ordering::SeqCst) == DEAD
    }

    /// Stops it for a while, as SIGSTOP does.
    pub fn pause(&self) {
        self.change(RUNNING, PAUSED);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.change(PAUSED, RUNNING);
    }

    /// Ends it, as SIGKILL does.
    pub fn kill(&self) {
        self.state.store(DEAD, Ordering::SeqCst);
    }

    fn change(&self, from: u8, to: u8) {
        // Another state stays as it is.
        let _ = self.state.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst);
    }
}

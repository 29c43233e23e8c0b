//! The state writer: writes committed state into databases, in the order it was committed, so that
//! no stream thread waits for a disk. Owns the queue of batches; knows neither logs nor tasks. Used
//! where the log does not hold the state.

use std::sync::Arc;
use std::time::Duration;

use headwater_state::commit::StateBatch;
use headwater_state::database::Database;
use headwater_state::lease::Leases;
use headwater_state::{ErrorClass, StateError};

use crate::actor::{Actor, Address, Bell, Mailbox, Next, Promise, mailbox};
use crate::time::Now;

use super::backoff::Backoff;

/// Whether a job's batches are all in their databases.
pub type WriteResult = Result<(), StateError>;

/// Jobs that may wait; a committer has at most one.
const CAPACITY: usize = 256;

/// The state of one transaction: a batch for each database.
#[derive(Debug)]
pub struct WriteJob {
    /// Each batch is written atomically. A crash between two leaves each database a prefix of its
    /// own changelogs, which is all a restore asks for.
    pub batches: Vec<(StateBatch, Arc<dyn Database>)>,
    /// Answered when all are written, or one is refused for good.
    pub promise: Promise<WriteResult>,
}

/// The actor. A full disk is waited for; a stale lease refuses a batch whole.
#[derive(Debug)]
pub struct StateWriter {
    name: String,
    leases: Leases,
    jobs: Mailbox<WriteJob>,
    current: Option<(WriteJob, usize)>,
    retry_at: Duration,
    backoff: Backoff,
    stopped: Arc<std::sync::atomic::AtomicBool>,
}

impl StateWriter {
    /// A writer for one application, and where its jobs go. It ends when `stopped` is set and its
    /// queue is empty.
    pub fn new(
        application: &str,
        leases: Leases,
        stopped: Arc<std::sync::atomic::AtomicBool>,
    ) -> (Self, Address<WriteJob>) {
        let (address, jobs) = mailbox(CAPACITY, Bell::new());
        let writer = Self {
            name: format!("{application}-writer"),
            leases,
            jobs,
            current: None,
            retry_at: Duration::ZERO,
            backoff: Backoff::new(),
            stopped,
        };
        (writer, address)
    }

    /// Writes the next batch of the job. True when the job is through.
    fn write_one(&mut self, now: Now) -> bool {
        let Some((job, next)) = &mut self.current else { return true };
        let Some((batch, database)) = job.batches.get(*next) else { return true };
        match batch.write(&self.leases, &**database, &[]) {
            Ok(()) => {
                *next += 1;
                self.backoff.reset();
                *next == job.batches.len()
            }
            Err(error) if error.class() == ErrorClass::Retry => {
                self.retry_at = now.monotonic + self.backoff.next();
                tracing::warn!(%error, "committed state is not written yet, it is tried again");
                false
            }
            Err(error) => {
                let (job, _) = self.current.take().expect("it was borrowed above");
                job.promise.fulfil(Err(error));
                false
            }
        }
    }
}

impl Actor for StateWriter {
    fn name(&self) -> &str {
        &self.name
    }

    fn bell(&self) -> Bell {
        self.jobs.bell()
    }

    fn step(&mut self, now: Now) -> Next {
        if self.current.is_none() {
            self.current = self.jobs.take().map(|job| (job, 0));
            if self.current.is_none() {
                let stopped = self.stopped.load(std::sync::atomic::Ordering::SeqCst);
                return if stopped { Next::Done } else { Next::Wait };
            }
        }
        if self.retry_at > now.monotonic {
            return Next::WakeAt(self.retry_at);
        }
        if self.write_one(now)
            && let Some((job, _)) = self.current.take()
        {
            job.promise.fulfil(Ok(()));
        }
        if self.retry_at > now.monotonic { Next::WakeAt(self.retry_at) } else { Next::Again }
    }
}

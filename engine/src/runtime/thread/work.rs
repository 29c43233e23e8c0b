//! The work of a stream thread between two commits: fetch, process, punctuate. Owns fairness and
//! back-pressure; knows no transaction.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::slot::Slot;
use super::{StreamThread, chain};
use crate::actor::Next;
use crate::error::{Classified, ErrorClass};
use crate::log::{Isolation, LogResult, Purpose};
use crate::task::TaskError;
use crate::time::Now;

/// A call that failed with `Retry` is made again after this time.
pub(super) const RETRY: Duration = Duration::from_millis(50);
/// Bytes that one input takes from its reader at once.
const FETCH_BYTES: usize = 1 << 20;
/// Batches that the producer has not taken; beyond it nothing is processed.
const BACKLOG_MAX: usize = 256;

impl StreamThread {
    pub(super) fn fetch(&mut self, now: Now) -> Next {
        let mut next = Next::Wait;
        for at in 0..self.slots.len() {
            if self.slots[at].closing {
                continue;
            }
            let inputs = self.slots[at].running().map_or(0, |r| r.readers.len());
            for input in 0..inputs {
                match self.fetch_input(at, input, now) {
                    Ok(true) => {
                        self.metrics.poll_total.inc();
                        next = Next::Again;
                    }
                    Ok(false) => {}
                    Err(error) if error.class == ErrorClass::Retry => {
                        tracing::debug!(%error, "fetch is tried again");
                        next = next.sooner(Next::WakeAt(now.monotonic + RETRY));
                    }
                    Err(error) if self.is_purged(at, input) => {
                        // Only what is committed is deleted there: somebody has committed past us.
                        tracing::warn!(%error, "another member went on from here, tasks rewind");
                        self.parts.committer.abandon();
                        self.rewind_wanted = true;
                        return Next::Again;
                    }
                    Err(error) => self.fail(&format!("input cannot be read: {error}")),
                }
            }
        }
        next
    }

    /// Records of this input are deleted once they are committed.
    fn is_purged(&self, at: usize, input: usize) -> bool {
        let slot = &self.slots[at];
        slot.running().is_some_and(|r| slot.blueprint.purged.contains(&r.task.inputs()[input]))
    }

    /// True if records came.
    fn fetch_input(&mut self, at: usize, input: usize, now: Now) -> LogResult<bool> {
        let (log, bell) = (&self.parts.log, &self.parts.bell);
        let running = self.slots[at].running_mut().expect("only running tasks are fetched for");
        let room = running.task.wants(input);
        if room == 0 {
            return Ok(false);
        }
        let reader = match &mut running.readers[input] {
            Some(reader) => reader,
            empty => {
                let (partition, from) =
                    (&running.task.inputs()[input], running.task.next_offset(input));
                let (isolation, purpose) = (Isolation::ReadCommitted, Purpose::Input);
                let opened = log.reader(partition, from, isolation, purpose, bell.clone())?;
                empty.insert(opened)
            }
        };
        let fetched = reader.take(room.min(FETCH_BYTES))?;
        let came = !fetched.batches.is_empty();
        running.latency[input].enter(&fetched, now);
        running.task.enqueue(input, fetched, now);
        Ok(came)
    }

    pub(super) fn uncommitted_bytes(&self) -> usize {
        self.slots.iter().filter_map(Slot::running).map(|r| r.task.uncommitted_bytes()).sum()
    }

    /// No room for more uncommitted work: the next record waits for a commit.
    fn is_full(&self) -> bool {
        self.parts.committer.backlog() > BACKLOG_MAX
            || self.uncommitted_bytes() >= self.parts.limits.overlay_bytes
    }

    pub(super) fn process(&mut self, now: Now) -> Next {
        let mut next = Next::Wait;
        let tasks = self.slots.len();
        self.turn = self.turn.wrapping_add(1);
        for offset in 0..tasks {
            let at = (self.turn + offset) % tasks;
            if self.failed || self.rewind_wanted || self.is_full() {
                break;
            }
            let slot = &mut self.slots[at];
            if slot.closing {
                continue;
            }
            let Some(running) = slot.running_mut() else { continue };
            let max = self.parts.limits.records_per_turn;
            let done = guarded(|| running.task.process(now, max));
            // Records that a reader skipped have left too.
            for (input, latency) in running.latency.iter_mut().enumerate() {
                let position = running.task.next_offset(input);
                latency.leave(position, now, &self.metrics.process_latency);
            }
            match done {
                Ok(0) => {}
                Ok(records) => {
                    self.metrics.process_total.inc_by(u64::try_from(records).unwrap_or(u64::MAX));
                    next = Next::Again;
                }
                Err(error) => next = next.sooner(self.task_failed(&error, now)),
            }
        }
        next
    }

    pub(super) fn punctuate(&mut self, now: Now) -> Next {
        let mut next = Next::Wait;
        for at in 0..self.slots.len() {
            if self.slots[at].closing || self.failed || self.rewind_wanted {
                continue;
            }
            let Some(running) = self.slots[at].running_mut() else { continue };
            let Some(due) = running.task.next_wall_punctuation() else { continue };
            if due > now.wall_ms {
                let wait = u64::try_from(due.saturating_sub(now.wall_ms)).unwrap_or(0);
                let at = now.monotonic.saturating_add(Duration::from_millis(wait));
                next = next.sooner(Next::WakeAt(at));
                continue;
            }
            // What is due may be much: it too waits for a commit.
            if self.is_full() {
                continue;
            }
            let running = self.slots[at].running_mut().expect("it was running just now");
            match guarded(|| running.task.punctuate_wall(now)) {
                Ok(_) => {
                    self.metrics.punctuate_total.inc();
                    next = Next::Again;
                }
                Err(error) => next = next.sooner(self.task_failed(&error, now)),
            }
        }
        next
    }

    pub(super) fn task_failed(&mut self, error: &Failure, now: Now) -> Next {
        match error {
            Failure::Task(error) => match error.class() {
                ErrorClass::Retry => {
                    tracing::warn!(%error, "task is tried again");
                    return Next::WakeAt(now.monotonic + RETRY);
                }
                ErrorClass::Abort | ErrorClass::Fenced => {
                    tracing::warn!(%error, "tasks rewind");
                    self.parts.committer.abandon();
                    self.rewind_wanted = true;
                }
                ErrorClass::Fatal | ErrorClass::User => self.fail(&chain(error)),
            },
            Failure::Panic(message) => self.fail(message),
        }
        Next::Again
    }
}

/// Why a task's call failed.
pub(super) enum Failure {
    Task(TaskError),
    Panic(String),
}

/// Calls a task. Panics of user code are dealt with inside it; one that escapes is a bug here, and
/// still must not take other applications of the process down.
pub(super) fn guarded<T>(call: impl FnOnce() -> Result<T, TaskError>) -> Result<T, Failure> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(Failure::Task),
        Err(panic) => {
            let message = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "no message".to_owned());
            Err(Failure::Panic(format!("a task panicked: {message}")))
        }
    }
}

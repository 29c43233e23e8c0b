//! The syncer: makes what is written safe from a power loss and then shows it. It has a thread of
//! its own, because a sync takes as long as the disk takes; nothing waits for it but the answers to
//! appends. Must not write.

use std::sync::Arc;
use std::time::Duration;

use headwater_state::StateError;
use headwater_state::database::Reader;

use super::failure::from_state;
use super::partition::Partition;
use super::writer::Appended;
use super::{Condition, Shared, lock};
use crate::actor::{Actor, Bell, Next};
use crate::error::ErrorClass;
use crate::log::LogError;
use crate::time::Now;

/// How soon a sync is tried again when the disk is full.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// What was written since the last sync.
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    wrote: bool,
    partitions: Vec<Arc<Partition>>,
    appended: Vec<Appended>,
    writer_ended: bool,
}

impl Unsynced {
    /// This partition got records.
    pub(super) fn touch(&mut self, partition: Arc<Partition>) {
        if !self.partitions.iter().any(|known| Arc::ptr_eq(known, &partition)) {
            self.partitions.push(partition);
        }
    }

    /// Something was written; true for the first time since the last sync.
    pub(super) fn wrote(&mut self) -> bool {
        !std::mem::replace(&mut self.wrote, true)
    }

    /// These want to be answered as soon as can be.
    pub(super) fn demand(&mut self, appended: Vec<Appended>) {
        self.wrote = true;
        self.appended.extend(appended);
    }

    /// Nothing will be written any more.
    pub(super) fn writer_ended(&mut self) {
        self.writer_ended = true;
    }
}

/// What one sync makes durable.
struct Batch {
    ends: Vec<(Arc<Partition>, i64)>,
    appended: Vec<Appended>,
    view: Arc<dyn Reader>,
}

pub(super) struct Syncer {
    shared: Arc<Shared>,
    /// The next sync by interval.
    due: Duration,
    /// A full disk refused the last one; not before this time again.
    blocked_until: Option<Duration>,
}

impl Syncer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, due: Duration::ZERO, blocked_until: None }
    }

    /// What there is to sync now, or when to look again.
    fn take(&mut self, now: Now) -> Result<Batch, Next> {
        let mut unsynced = lock(&self.shared.unsynced);
        if !unsynced.wrote {
            return Err(if unsynced.writer_ended { Next::Done } else { Next::Wait });
        }
        if let Some(until) = self.blocked_until.filter(|until| *until > now.monotonic) {
            return Err(Next::WakeAt(until));
        }
        let demanded = !unsynced.appended.is_empty() || unsynced.writer_ended;
        if !demanded && now.monotonic < self.due {
            return Err(Next::WakeAt(self.due));
        }
        // The writer cannot write meanwhile, so these ends are the ends in this view.
        let view = match self.shared.table.database().view() {
            Ok(view) => view,
            Err(error) => {
                drop(unsynced);
                self.fail(Vec::new(), &error);
                return Err(Next::Again);
            }
        };
        let partitions = std::mem::take(&mut unsynced.partitions);
        unsynced.wrote = false;
        let ends = partitions.into_iter().map(|p| (Arc::clone(&p), p.bounds().end)).collect();
        Ok(Batch { ends, appended: std::mem::take(&mut unsynced.appended), view })
    }

    fn publish(&self, batch: Batch) {
        let mut waiting = Vec::new();
        for (partition, end) in &batch.ends {
            waiting.extend(partition.publish_synced(*end));
        }
        *lock(&self.shared.published) = batch.view;
        for (promise, firsts) in batch.appended {
            promise.fulfil(Ok(firsts));
        }
        for (_, bell) in waiting {
            bell.ring();
        }
    }

    /// The disk was full: everything is as unsynced as before.
    fn put_back(&mut self, batch: Batch, now: Now) {
        let until = now.monotonic.saturating_add(RETRY_AFTER);
        self.blocked_until = Some(until);
        let mut unsynced = lock(&self.shared.unsynced);
        unsynced.wrote = true;
        for (partition, _) in batch.ends {
            unsynced.touch(partition);
        }
        let mut appended = batch.appended;
        appended.append(&mut unsynced.appended);
        unsynced.appended = appended;
    }

    /// The log has failed: nothing is synced any more.
    fn refuse(&self, error: &LogError) -> Next {
        let mut unsynced = lock(&self.shared.unsynced);
        let appended = std::mem::take(&mut unsynced.appended);
        let next = if unsynced.writer_ended { Next::Done } else { Next::Wait };
        drop(unsynced);
        for (promise, _) in appended {
            promise.fulfil(Err(error.clone()));
        }
        next
    }

    /// A sync failed, so nobody knows what is on disk.
    fn fail(&self, appended: Vec<Appended>, error: &StateError) {
        tracing::error!(%error, "the log cannot be synced; it stops");
        let mut error = from_state("sync log", error);
        error.class = ErrorClass::Fatal;
        error.message = format!(
            "{}; what was acknowledged is safe, the rest unknown: restart to find out",
            error.message
        );
        *lock(&self.shared.condition) = Condition::Failed(error.clone());
        for (promise, _) in appended {
            promise.fulfil(Err(error.clone()));
        }
        self.shared.bells.writer.ring();
    }
}

impl Actor for Syncer {
    fn name(&self) -> &str {
        "log-syncer"
    }

    fn bell(&self) -> Bell {
        self.shared.bells.syncer.clone()
    }

    fn step(&mut self, now: Now) -> Next {
        if let Some(error) = self.shared.failure() {
            return self.refuse(&error);
        }
        let batch = match self.take(now) {
            Ok(batch) => batch,
            Err(next) => return next,
        };
        match self.shared.table.database().sync() {
            Ok(()) => {
                self.blocked_until = None;
                self.due = now.monotonic.saturating_add(self.shared.settings.sync_interval);
                self.publish(batch);
                Next::Again
            }
            Err(error @ StateError::Full { .. }) => {
                tracing::warn!(%error, "the log waits for space to sync");
                self.put_back(batch, now);
                Next::Again
            }
            Err(error) => {
                self.fail(batch.appended, &error);
                Next::Again
            }
        }
    }
}

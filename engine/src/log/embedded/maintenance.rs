//! Maintenance: deletes what is older than its topic keeps, and starts compactions. One partition
//! and a bounded amount of work a step; the writer makes the changes. Must not write itself.
//!
//! A record is kept for its topic's retention after its timestamp, or after its append if the
//! timestamp lies in the future. Whole batches go, from the front, up to the first that holds a
//! record to keep. Groups that have not read what goes do not hold it up; the writer says who they
//! are.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use headwater_state::database::Reader;

use super::Shared;
use super::command::Command;
use super::compaction::{Cleaned, Compaction, Progress};
use super::failure::from_state;
use super::partition::Partition;
use crate::actor::{Actor, Bell, Next, Poll, Ticket, ticket};
use crate::log::{Cleanup, LogError, LogResult};
use crate::time::{Now, saturating_ms};

/// Batches looked at in one step.
const BATCHES_MAX: usize = 64;

/// One thing to do for one partition.
enum Work {
    Delete { partition: Arc<Partition>, retention: Duration },
    Compact(Arc<Partition>),
}

enum Busy {
    Deleting { ticket: Ticket<LogResult<()>>, again: Work },
    Compacting(Compaction),
}

pub(super) struct Maintenance {
    shared: Arc<Shared>,
    due: Duration,
    work: VecDeque<Work>,
    busy: Option<Busy>,
    cleaned: BTreeMap<(u32, u32), Cleaned>,
}

impl Maintenance {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let (work, cleaned) = (VecDeque::new(), BTreeMap::new());
        Self { shared, due: Duration::ZERO, work, busy: None, cleaned }
    }

    fn plan(&mut self) {
        for topic in self.shared.catalogue.all() {
            let (retention, compact) = match topic.spec.cleanup {
                Cleanup::Delete { retention } => (retention, false),
                Cleanup::Compact => (None, true),
                // Stores are in the log's own database here: no changelog has versions to keep.
                Cleanup::CompactAfter { .. } => (None, false),
                Cleanup::CompactAndDelete { retention } => (Some(retention), true),
            };
            for partition in &topic.partitions {
                if let Some(retention) = retention {
                    let partition = Arc::clone(partition);
                    self.work.push_back(Work::Delete { partition, retention });
                }
                if compact {
                    self.work.push_back(Work::Compact(Arc::clone(partition)));
                }
            }
        }
    }

    fn begin(&mut self, work: Work, now: Now) -> LogResult<()> {
        match work {
            Work::Delete { partition, retention } => {
                let oldest = now.wall_ms.saturating_sub(saturating_ms(retention));
                if let Some(start) = self.expired(&partition, oldest)? {
                    let (promise, ticket) = ticket(self.bell());
                    let before = vec![(Arc::clone(&partition), start)];
                    self.shared.send(Command::DeleteRecords { before, promise });
                    let again = Work::Delete { partition, retention };
                    self.busy = Some(Busy::Deleting { ticket, again });
                }
            }
            Work::Compact(partition) => {
                let id = (partition.rows.topic_id, partition.rows.partition);
                let cleaned = self.cleaned.get(&id).copied().unwrap_or_default();
                let delay = self.shared.settings.tombstone_delay;
                let tombstones_before = now.wall_ms.saturating_sub(saturating_ms(delay));
                let compaction = Compaction::start(partition, cleaned, tombstones_before);
                self.busy = compaction.map(Busy::Compacting);
            }
        }
        Ok(())
    }

    /// Where the partition is to start so that every batch before holds only records from before
    /// `oldest`; `None` if it starts there.
    fn expired(&self, partition: &Partition, oldest: i64) -> LogResult<Option<i64>> {
        let failed = |e| from_state("find expired records", &e).on(&partition.name);
        let table = &self.shared.table;
        let reader: &dyn Reader = &**table.database();
        let bounds = partition.bounds();
        let mut cursor = table.read(reader, &partition.rows, bounds.start).map_err(failed)?;
        let mut start = bounds.start;
        for _ in 0..BATCHES_MAX {
            match cursor.next().map_err(failed)? {
                Some(batch) if batch.max_timestamp_ms < oldest => start = batch.end_offset(),
                _ => break,
            }
        }
        Ok((start > bounds.start).then_some(start))
    }

    fn go_on(&mut self, busy: Busy) -> Next {
        match busy {
            Busy::Deleting { ticket, again } => match ticket.poll() {
                Poll::Pending => {
                    self.busy = Some(Busy::Deleting { ticket, again });
                    Next::Wait
                }
                Poll::Done(Ok(())) => {
                    self.work.push_front(again);
                    Next::Again
                }
                Poll::Done(Err(error)) => self.put_off(&error),
                Poll::Abandoned => Next::Again,
            },
            Busy::Compacting(mut compaction) => match compaction.step(&self.shared) {
                Ok(Progress::More(next)) => {
                    self.busy = Some(Busy::Compacting(compaction));
                    next
                }
                Ok(Progress::Done(cleaned)) => {
                    let rows = &compaction.partition().rows;
                    self.cleaned.insert((rows.topic_id, rows.partition), cleaned);
                    Next::Again
                }
                Err(error) => self.put_off(&error),
            },
        }
    }

    /// The next round tries again.
    fn put_off(&self, error: &LogError) -> Next {
        tracing::warn!(%error, "maintenance of the log is put off");
        Next::Again
    }
}

impl Actor for Maintenance {
    fn name(&self) -> &str {
        "log-maintenance"
    }

    fn bell(&self) -> Bell {
        self.shared.bells.maintenance.clone()
    }

    fn step(&mut self, now: Now) -> Next {
        if self.shared.closing() || self.shared.failure().is_some() {
            return Next::Done;
        }
        if let Some(busy) = self.busy.take() {
            return self.go_on(busy);
        }
        if let Some(work) = self.work.pop_front() {
            return match self.begin(work, now) {
                Ok(()) => Next::Again,
                Err(error) => self.put_off(&error),
            };
        }
        if now.monotonic < self.due {
            return Next::WakeAt(self.due);
        }
        self.due = now.monotonic.saturating_add(self.shared.settings.maintenance_interval);
        self.plan();
        Next::Again
    }
}

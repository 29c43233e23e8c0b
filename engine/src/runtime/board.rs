//! The board: what an application's actors tell the outside, to be read by the HTTP server and by
//! tests. Owns task states, restore progress and which stores can be read; nothing on the record
//! path reads it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use headwater_state::database::{Database, Family};

use super::committer::Phase;
use super::lifecycle::StreamsState;
use crate::record::{TaskId, TopicPartition};
use crate::store::StoreSpec;

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Its stores are being opened and its committed offsets read.
    Opening,
    /// Its stores are being restored.
    Restoring,
    /// It waits for the thread's transaction to end.
    Ready,
    /// It processes records.
    Running,
    /// Its transaction was lost; it goes back to what is committed.
    Rewinding,
    /// It is about to be given up.
    Closing,
}

/// How far one store's restore has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreProgress {
    /// The changelog offset that the last restore began at.
    pub from: i64,
    /// The next changelog offset to restore.
    pub position: i64,
    /// Where the restore ends.
    pub end: i64,
    /// Records restored, by all restores since the task came here.
    pub records: u64,
    /// Time that the last restore has taken so far.
    pub elapsed: Duration,
    /// Why it began where it did.
    pub why: &'static str,
}

impl RestoreProgress {
    /// Offsets still to go.
    pub fn remaining(&self) -> i64 {
        (self.end - self.position).max(0)
    }

    /// Offsets passed in a second; 0 before the first.
    pub fn offsets_per_second(&self) -> i64 {
        let millis = i64::try_from(self.elapsed.as_millis()).unwrap_or(i64::MAX).max(1);
        (self.position - self.from).saturating_mul(1_000) / millis
    }

    /// When it will have come to its end, at the pace so far; `None` before there is one.
    pub fn estimated_left(&self) -> Option<Duration> {
        let remaining = u64::try_from(self.remaining()).ok()?;
        match u64::try_from(self.offsets_per_second()).ok()? {
            _ if remaining == 0 => Some(Duration::ZERO),
            0 => None,
            pace => Some(Duration::from_millis(remaining.saturating_mul(1_000) / pace)),
        }
    }
}

/// One task of this instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskStatus {
    /// Where it stands.
    pub state: TaskState,
    /// The number of the thread that runs it.
    pub thread: usize,
    /// Restores under way or done, by store.
    pub restores: BTreeMap<Arc<str>, RestoreProgress>,
    /// The committed next offset of each input.
    pub committed: BTreeMap<TopicPartition, i64>,
}

/// One partition of one store, to be read: its committed rows.
#[derive(Debug, Clone)]
pub struct StoreHandle {
    /// What the topology says of it.
    pub spec: StoreSpec,
    /// The task that owns it.
    pub task: TaskId,
    /// Where it is.
    pub database: Arc<dyn Database>,
    /// Its family there.
    pub family: Family,
    /// The partition.
    pub partition: u32,
}

#[derive(Debug, Default)]
struct Inner {
    state: StreamsState,
    failure: Option<String>,
    tasks: BTreeMap<TaskId, TaskStatus>,
    stores: BTreeMap<(Arc<str>, u32), StoreHandle>,
    phases: BTreeMap<usize, Phase>,
}

/// The board of one application. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<Inner>>);

impl Board {
    /// An empty board.
    pub fn new() -> Self {
        Self::default()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The application's lifecycle state.
    pub fn state(&self) -> StreamsState {
        self.inner().state
    }

    /// Why the application is in `Error`.
    pub fn failure(&self) -> Option<String> {
        self.inner().failure.clone()
    }

    /// Every task of this instance.
    pub fn tasks(&self) -> BTreeMap<TaskId, TaskStatus> {
        self.inner().tasks.clone()
    }

    /// The partitions of a store that are on this instance.
    pub fn store(&self, name: &str) -> Vec<StoreHandle> {
        let inner = self.inner();
        inner.stores.values().filter(|s| *s.spec.name == *name).cloned().collect()
    }

    /// The names of the stores that are on this instance, sorted.
    pub fn stores(&self) -> Vec<Arc<str>> {
        let mut names: Vec<_> = self.inner().stores.keys().map(|(n, _)| Arc::clone(n)).collect();
        names.dedup();
        names
    }

    /// Every task that is here runs, and the application does.
    pub fn is_ready(&self) -> bool {
        let inner = self.inner();
        inner.state == StreamsState::Running
            && inner.tasks.values().all(|task| task.state == TaskState::Running)
    }

    /// Where the committer of each thread stands, by the thread's number.
    pub fn phases(&self) -> BTreeMap<usize, Phase> {
        self.inner().phases.clone()
    }

    pub(crate) fn phase(&self, thread: usize, phase: Phase) {
        self.inner().phases.insert(thread, phase);
    }

    pub(crate) fn set_state(&self, state: StreamsState) {
        self.inner().state = state;
    }

    pub(crate) fn fail(&self, why: &str) {
        self.inner().failure.get_or_insert_with(|| why.to_owned());
    }

    pub(crate) fn task(&self, task: TaskId, thread: usize, state: TaskState) {
        let mut inner = self.inner();
        let status = inner.tasks.entry(task).or_insert_with(|| TaskStatus {
            state,
            thread,
            restores: BTreeMap::new(),
            committed: BTreeMap::new(),
        });
        (status.state, status.thread) = (state, thread);
    }

    pub(crate) fn committed<'o>(
        &self,
        task: TaskId,
        offsets: impl IntoIterator<Item = (&'o TopicPartition, i64)>,
    ) {
        if let Some(status) = self.inner().tasks.get_mut(&task) {
            status.committed.extend(offsets.into_iter().map(|(p, o)| (p.clone(), o)));
        }
    }

    /// A restore came further; `records` of `progress` are those since the last call.
    pub(crate) fn restoring(&self, task: TaskId, store: &Arc<str>, progress: RestoreProgress) {
        if let Some(status) = self.inner().tasks.get_mut(&task) {
            if status.state == TaskState::Opening && progress.remaining() > 0 {
                status.state = TaskState::Restoring;
            }
            let shown = status.restores.entry(Arc::clone(store)).or_default();
            let records = shown.records + progress.records;
            *shown = RestoreProgress { records, ..progress };
        }
    }

    pub(crate) fn open_stores(&self, stores: impl IntoIterator<Item = StoreHandle>) {
        let stores = stores.into_iter().map(|s| ((Arc::clone(&s.spec.name), s.partition), s));
        self.inner().stores.extend(stores);
    }

    /// The task left this instance, with its stores.
    pub(crate) fn remove(&self, task: TaskId) {
        let mut inner = self.inner();
        inner.tasks.remove(&task);
        inner.stores.retain(|_, store| store.task != task);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_restore_is_estimated_from_its_pace() {
        let progress = RestoreProgress {
            from: 100,
            position: 600,
            end: 2_600,
            elapsed: Duration::from_millis(500),
            ..RestoreProgress::default()
        };
        assert_eq!(progress.remaining(), 2_000);
        assert_eq!(progress.offsets_per_second(), 1_000);
        assert_eq!(progress.estimated_left(), Some(Duration::from_secs(2)));
        let begun = RestoreProgress { position: 100, elapsed: Duration::ZERO, ..progress.clone() };
        assert_eq!(begun.estimated_left(), None);
        let over = RestoreProgress { position: 2_600, ..progress };
        assert_eq!(over.estimated_left(), Some(Duration::ZERO));
    }
}

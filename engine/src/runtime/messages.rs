//! What the actors of one application say to each other.

use std::sync::Arc;

use headwater_state::StateError;
use headwater_state::database::{Database, Family};
use headwater_state::store::StorePartition;

use super::plan::Blueprint;
use crate::actor::Promise;
use crate::log::{Identity, LogError};
use crate::record::TaskId;

/// What a stream thread is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Run these tasks, in this name.
    Assign { tasks: Vec<Arc<Blueprint>>, identity: Identity },
    /// The name under which the next transactions commit.
    Identity(Identity),
    /// Commit and close these tasks, then say so.
    Revoke(Vec<TaskId>),
    /// Close these tasks without a commit.
    Lost(Vec<TaskId>),
    /// Commit, close everything and end.
    Stop,
}

/// What a stream thread says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Report {
    /// Its transactional id is initialised: nothing of an earlier process is open under it.
    Initialised,
    /// The task processes records.
    Running(TaskId),
    /// The task is closed; what it did is committed, or will be done again by its next owner.
    Closed(TaskId),
    /// All its tasks are closed and it has ended.
    Stopped,
    /// It cannot go on, and so the application cannot.
    Failed(String),
}

/// A report and the thread it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FromThread {
    pub(crate) thread: usize,
    pub(crate) report: Report,
}

/// What the restorer is asked for.
#[derive(Debug)]
pub(crate) enum RestoreRequest {
    /// Open a task's stores and bring them up to the end of their changelogs.
    Open { task: Arc<Blueprint>, promise: Promise<Result<OpenedTask, RestoreError>> },
    /// Bring the stores of an open task up to the end of their changelogs again.
    Replay { task: TaskId, promise: Promise<Result<(), RestoreError>> },
    /// The task is no longer here.
    Close(TaskId),
}

/// A task's stores, restored.
#[derive(Debug)]
pub(crate) struct OpenedTask {
    /// In the order of the blueprint.
    pub(crate) stores: Vec<StorePartition>,
    /// Where they are.
    pub(crate) database: Arc<dyn Database>,
    /// The family of the tasks' own rows, where the log holds the state.
    pub(crate) tasks_family: Option<Family>,
}

/// A task cannot be opened or restored.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RestoreError {
    /// The state on disk failed.
    #[error("task {task}: {source}")]
    State {
        /// The task.
        task: TaskId,
        /// What failed.
        source: StateError,
    },
    /// The changelog failed.
    #[error("task {task}: {source}")]
    Log {
        /// The task.
        task: TaskId,
        /// What failed.
        source: LogError,
    },
}

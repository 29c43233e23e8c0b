//! What the server asks of the process it serves. Owns the questions; whoever runs applications
//! answers them, from any thread and without waiting.

use std::sync::Arc;
use std::time::Duration;

use headwater_state::database::{Family, Reader};
use serde::Serialize;
use serde_json::Value as Json;

use super::error::QueryError;
use super::route::NewRecord;
use crate::log::embedded::EmbeddedLog;
use crate::record::TaskId;
use crate::store::StoreSpec;

/// The process as the server sees it.
///
/// - Every answer is of the moment and may be outdated when it is used.
/// - [`committed`](Self::committed) gives snapshots of committed state, on the embedded log of
///   synced state.
pub trait QueryTarget: Send + Sync {
    /// The applications of the process, by application id. The same ones for as long as it runs.
    fn applications(&self) -> Vec<Arc<ApplicationInfo>>;
    /// How many partitions a store has in the whole application; `None` while that is not known.
    fn partitions(&self, application: &str, store: &str) -> Option<u32>;
    /// Snapshots of a store's partitions, or of one of them, that are on this instance and can be
    /// read. On the embedded log all are of one moment.
    fn committed(
        &self,
        application: &str,
        store: &str,
        partition: Option<u32>,
    ) -> Vec<CommittedPartition>;
    /// The tasks of an application that are on this instance, by id.
    fn tasks(&self, application: &str) -> Vec<TaskInfo>;
    /// How the process does.
    fn health(&self) -> Health;
    /// The embedded log, if the process runs on it.
    fn log(&self) -> Option<Arc<EmbeddedLog>>;
    /// Appends records, all or none, and waits until they are in the log for good, at most so long.
    ///
    /// # Errors
    /// The problem to answer with; its detail says whether the records may be written all the same.
    fn append(&self, records: &[NewRecord], patience: Duration) -> Result<(), QueryError>;
}

/// One application, for queries.
#[derive(Debug)]
pub struct ApplicationInfo {
    /// The application id.
    pub application_id: Arc<str>,
    /// The topology, described.
    pub topology: TopologyInfo,
    /// Its stores.
    pub stores: Vec<StoreInfo>,
}

impl ApplicationInfo {
    /// The store of this name.
    pub fn store(&self, name: &str) -> Option<&StoreInfo> {
        self.stores.iter().find(|store| *store.spec.name == *name)
    }
}

/// A topology in the forms in which it can be asked for.
#[derive(Debug, Clone)]
pub struct TopologyInfo {
    /// For people.
    pub text: String,
    /// A Mermaid flow chart.
    pub mermaid: String,
    /// For programs.
    pub json: Json,
}

/// One store of an application.
#[derive(Debug, Clone)]
pub struct StoreInfo {
    /// Name, kind and serdes.
    pub spec: StoreSpec,
    /// The subtopology whose tasks have it; none has a global table's.
    pub subtopology: Option<u32>,
}

/// The committed rows of one partition of a store, as they were when this was made.
#[derive(Debug, Clone)]
pub struct CommittedPartition {
    /// The partition.
    pub partition: u32,
    /// The snapshot.
    pub reader: Arc<dyn Reader>,
    /// The store's family in it.
    pub family: Family,
}

/// One task, for people who look what runs.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskInfo {
    /// The task, shown as `subtopology_partition`.
    #[serde(serialize_with = "display")]
    pub id: TaskId,
    /// Where it stands, in a word.
    pub state: String,
    /// The thread that runs it.
    pub thread: String,
    /// Its inputs.
    pub inputs: Vec<TaskInput>,
    /// Restores under way or done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub restores: Vec<TaskRestore>,
}

/// One input partition of a task.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskInput {
    /// The topic.
    #[serde(serialize_with = "display")]
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// The committed next offset; absent before the first commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    /// How many offsets lie between it and the end of the partition, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
}

/// How far the restore of one store has come.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskRestore {
    /// The store.
    #[serde(serialize_with = "display")]
    pub store: Arc<str>,
    /// Where it began in the changelog.
    pub from: i64,
    /// Why there.
    pub why: String,
    /// The next changelog offset to restore.
    pub offset: i64,
    /// Where the restore ends.
    pub end: i64,
    /// Records restored since the task came here.
    pub records: u64,
    /// Offsets still to go.
    pub remaining: i64,
    /// Offsets passed in a second.
    pub offsets_per_second: i64,
    /// Milliseconds until the end, at the pace so far; absent before there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_ms_left: Option<u64>,
}

/// How the process does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Why it cannot go on and should be restarted; `None` while it lives.
    pub failed: Option<String>,
    /// What it waits for before all its tasks process records; `None` when it is ready.
    pub waiting_for: Option<String>,
}

fn display<T: std::fmt::Display, S: serde::Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

//! The membership seam: which tasks this instance runs, and who it is when it commits. `single`
//! owns everything; `consumer_group` shares the tasks with other processes. Knows nothing of topologies' nodes,
//! threads or stores.
//!
//! ```text
//!             Assigned          Revoked            acknowledge
//!   (none) ------------> owned ----------> leaving ------------> (none)
//!                          |                                       ^
//!                          +---------------- Lost -----------------+   (no acknowledge: too late)
//! ```

pub mod consumer_group;
pub mod sim;
pub mod single;

use std::sync::Arc;

use crate::actor::Bell;
use crate::log::{Identity, LogError};
use crate::record::TaskId;
use crate::time::Now;

/// The id of a member of a group, given by the group's coordinator; empty for `single`.
pub type MemberId = Arc<str>;

/// News about the tasks of this instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MembershipEvent {
    /// These tasks are ours from now on.
    Assigned {
        /// The tasks that are new.
        tasks: Vec<TaskId>,
        /// Who we are.
        member: MemberId,
        /// Since which epoch.
        epoch: i32,
    },
    /// These tasks are to be given up: commit them, close them, then
    /// [`acknowledge`](Membership::acknowledge).
    Revoked {
        /// The tasks to give up.
        tasks: Vec<TaskId>,
        /// Who we are.
        member: MemberId,
    },
    /// These tasks are gone already; another member may run them. Close them without a commit.
    Lost {
        /// The tasks that are gone.
        tasks: Vec<TaskId>,
        /// Who we were.
        member: MemberId,
    },
}

/// How many tasks there are: for each subtopology the number of partitions of its inputs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskSpace {
    /// Partitions by subtopology.
    pub partitions: Vec<u32>,
    /// Topics read, by subtopology; all of one have the same number of partitions.
    pub inputs: Vec<Vec<Arc<str>>>,
}

impl TaskSpace {
    /// Every task, by subtopology and partition.
    pub fn tasks(&self) -> impl Iterator<Item = TaskId> + '_ {
        (0u32..).zip(&self.partitions).flat_map(|(subtopology, &partitions)| {
            (0..partitions).map(move |partition| TaskId { subtopology, partition })
        })
    }
}

/// Membership of one `Streams` in its group. Polled by the runtime, never blocking.
pub trait Membership: Send {
    /// The next piece of news. Events come in the order they must be handled; after `Revoked` no
    /// further event comes before it was acknowledged.
    ///
    /// # Errors
    /// `Fenced` when this instance can no longer be a member; `Fatal` when it never can (a second
    /// instance under `single`, a refused configuration). `Retry` is handled inside.
    fn poll(&mut self, now: Now) -> Result<Option<MembershipEvent>, LogError>;
    /// The tasks of the last `Revoked` are committed and closed.
    fn acknowledge(&mut self);
    /// Who commits this task now. Captured when a transaction begins.
    fn identity(&self, task: TaskId) -> Option<Identity>;
    /// Leaves the group, after all tasks are closed. May take until [`has_left`](Self::has_left).
    fn leave(&mut self);
    /// The group needs nothing more of this process after [`leave`](Self::leave).
    fn has_left(&self) -> bool {
        true
    }
    /// Rings when there may be news.
    fn listen(&mut self, bell: Bell);
}

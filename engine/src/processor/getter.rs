//! Value getters: how a join looks a row up in a table that may not be materialised. Knows no join.

use super::error::NodeError;
use super::state::TaskState;

/// Looks rows of one table up, over the store arena of a task.
pub(crate) trait ValueGetter<K, V>: Send {
    /// The row of this key and its time.
    fn get(&mut self, key: &K, task: &mut TaskState) -> Result<Option<(V, i64)>, NodeError>;
}

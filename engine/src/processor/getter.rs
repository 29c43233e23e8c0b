//! Value getters: how a join looks a row up in a table that may not be materialised. Knows no join.

use super::error::NodeError;
use super::state::TaskState;

/// Looks rows of one table up, over the store arena of a task.
pub(crate) trait ValueGetter<K, V>: Send {
    /// The row of this key and its time.
    fn get(&mut self, key: &K, task: &mut TaskState) -> Result<Option<(V, i64)>, NodeError>;

    /// The row of this key as of a time, where the table keeps versions; else the row it has now.
    fn get_as_of(
        &mut self,
        key: &K,
        time: i64,
        task: &mut TaskState,
    ) -> Result<Option<(V, i64)>, NodeError> {
        let _ = time;
        self.get(key, task)
    }
}

//! Why a task stopped.

use std::sync::Arc;

use headwater_state::StateError;

use crate::error::{Classified, ErrorClass};
use crate::record::{Place, TaskId, TopicPartition};

/// A task cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// User code, a serde or a record is at fault, and the handler says to fail.
    #[error("task {task} failed{}: {message}", .place.as_ref().map(|p| format!(" on {p}")).unwrap_or_default())]
    User {
        /// The task.
        task: TaskId,
        /// The record, if one is at fault.
        place: Option<Place>,
        /// What happened, with the node's name.
        message: String,
    },
    /// The state under the task failed.
    #[error("task {task}: state failed")]
    State {
        /// The task.
        task: TaskId,
        /// Why.
        #[source]
        source: StateError,
    },
    /// A fetched batch is damaged.
    #[error("task {task}: batch of {partition} at or after offset {offset} is damaged: {message}")]
    Damaged {
        /// The task.
        task: TaskId,
        /// Where it was read.
        partition: TopicPartition,
        /// The next offset to process.
        offset: i64,
        /// What is wrong with it.
        message: String,
    },
    /// A row's changelog record is larger than the log takes.
    #[error(
        "task {task}: {topic} cannot take a row: {message}{}",
        if *.known { "; a punctuation wrote it, so no record can be set aside: make the row smaller" }
        else { "; the record that wrote it is looked for" }
    )]
    RowRefused {
        /// The task.
        task: TaskId,
        /// The changelog topic.
        topic: Arc<str>,
        /// How large it is.
        message: String,
        /// The row was refused before, and no record's processing wrote it since.
        known: bool,
    },
    /// The clocks do not fit into a committed offset's metadata, or cannot be read from it.
    #[error("task {task}: offset metadata of {partition}: {message}")]
    Metadata {
        /// The task.
        task: TaskId,
        /// Whose.
        partition: TopicPartition,
        /// What is wrong.
        message: String,
    },
}

impl Classified for TaskError {
    fn class(&self) -> ErrorClass {
        match self {
            TaskError::User { .. } => ErrorClass::User,
            TaskError::RowRefused { known: false, .. } => ErrorClass::Abort,
            TaskError::RowRefused { known: true, .. } => ErrorClass::Fatal,
            TaskError::State { source, .. } => match source.class() {
                headwater_state::ErrorClass::Retry => ErrorClass::Retry,
                headwater_state::ErrorClass::Fenced => ErrorClass::Fenced,
                _ => ErrorClass::Fatal,
            },
            TaskError::Damaged { .. } | TaskError::Metadata { .. } => ErrorClass::Fatal,
        }
    }
}

//! How a failure leaves a store or a node: by one type, to which the node's name is attached once,
//! at the boundary it crosses first. Knows no node.

use std::fmt;
use std::sync::Arc;

use headwater_state::StateError;

use crate::error::BoxError;

/// A failure inside a node. Any error becomes one by `?`; like `anyhow::Error` it does not itself
/// implement [`std::error::Error`].
pub struct NodeError(pub(crate) Box<Failure>);

#[derive(Debug)]
pub(crate) enum Failure {
    /// User code, a serde or a record is at fault.
    User(BoxError),
    /// The same, with the node's name attached.
    Reported { node: Arc<str>, source: BoxError },
    /// The state under the task failed: no record's fault.
    State(StateError),
}

impl NodeError {
    /// An error with this message.
    pub fn message(message: impl Into<String>) -> Self {
        Self::from(message.into())
    }

    /// The same failure with the node's name attached, if none is.
    pub(crate) fn at(self, node: &Arc<str>) -> Self {
        match *self.0 {
            Failure::User(source) => {
                Self(Box::new(Failure::Reported { node: Arc::clone(node), source }))
            }
            other => Self(Box::new(other)),
        }
    }

    pub(crate) fn state(error: StateError) -> Self {
        Self(Box::new(Failure::State(error)))
    }
}

impl fmt::Debug for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Failure::User(source) => write!(f, "{source}"),
            Failure::Reported { node, source } => write!(f, "node `{node}`: {source}"),
            Failure::State(source) => write!(f, "{source}"),
        }
    }
}

impl<E: Into<BoxError>> From<E> for NodeError {
    fn from(error: E) -> Self {
        let error: BoxError = error.into();
        match error.downcast::<StateError>() {
            Ok(state) => Self(Box::new(Failure::State(*state))),
            Err(error) => Self(Box::new(Failure::User(error))),
        }
    }
}

//! The lifecycle of an application, with Kafka Streams' states and transitions.
//!
//! ```text
//!                 ┌───────────┐
//!                 │  CREATED  │──────────────┐
//!                 └─────┬─────┘              │
//!                       v                    │
//!                 ┌───────────┐              │
//!            ┌───>│REBALANCING│───┐          │
//!            │    └─────┬─────┘   │          │
//!            │          v         │          v
//!            │    ┌───────────┐   │   ┌──────────────┐   ┌───────────┐
//!            └────│  RUNNING  │───┼──>│PENDING_      │──>│NOT_RUNNING│
//!                 └───────────┘   │   │SHUTDOWN      │   └───────────┘
//!                                 │   └──────────────┘
//!                                 │   ┌──────────────┐   ┌───────────┐
//!               any, on a failure └──>│PENDING_ERROR │──>│   ERROR   │
//!                                     └──────────────┘   └───────────┘
//! ```
//!
//! Source: `KafkaStreams.State`.

use std::fmt;

/// The state of one application in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, serde::Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StreamsState {
    /// Made, not started.
    #[default]
    Created,
    /// Tasks are being opened, restored, given or taken.
    Rebalancing,
    /// Every assigned task runs.
    Running,
    /// Stopping: committing and closing.
    PendingShutdown,
    /// Stopped.
    NotRunning,
    /// Failed, and closing what is left.
    PendingError,
    /// Failed.
    Error,
}

impl StreamsState {
    /// Kafka Streams allows this transition.
    pub fn may_become(self, next: StreamsState) -> bool {
        use StreamsState as S;
        match self {
            S::Created => matches!(next, S::Rebalancing | S::PendingShutdown | S::PendingError),
            S::Rebalancing => matches!(next, S::Running | S::PendingShutdown | S::PendingError),
            S::Running => matches!(next, S::Rebalancing | S::PendingShutdown | S::PendingError),
            S::PendingShutdown => matches!(next, S::NotRunning | S::PendingError),
            S::PendingError => matches!(next, S::Error),
            S::NotRunning | S::Error => false,
        }
    }

    /// Nothing follows.
    pub fn is_final(self) -> bool {
        matches!(self, StreamsState::NotRunning | StreamsState::Error)
    }

    /// The number in the metric `stream_state`.
    pub fn number(self) -> i64 {
        match self {
            StreamsState::Created => 0,
            StreamsState::Rebalancing => 1,
            StreamsState::Running => 2,
            StreamsState::PendingShutdown => 3,
            StreamsState::NotRunning => 4,
            StreamsState::PendingError => 5,
            StreamsState::Error => 6,
        }
    }
}

impl fmt::Display for StreamsState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StreamsState::Created => "CREATED",
            StreamsState::Rebalancing => "REBALANCING",
            StreamsState::Running => "RUNNING",
            StreamsState::PendingShutdown => "PENDING_SHUTDOWN",
            StreamsState::NotRunning => "NOT_RUNNING",
            StreamsState::PendingError => "PENDING_ERROR",
            StreamsState::Error => "ERROR",
        })
    }
}

//! The runtime: actors that bring log, tasks, state and membership together. Owns who runs what and
//! when; knows no operator and no record's meaning.
//!
//! ```text
//!  Host ── any number of ──> Streams ── one per thread ──> StreamThread ── owns ──> Committer
//!   │                           │ │                             │  ^                   │
//!   │ state, log, memory        │ └── Membership (polled)       │  └─ restored ── Restorer
//!   └ HTTP reads the boards     └──── assign, revoke ──────────>┘                     │
//!                                                 StateWriter <── committed state ────┘
//! ```
//!
//! Everything here is an [`Actor`](crate::actor::Actor): the host gives each a thread, the simulator
//! steps them all on one.

mod backoff;
mod board;
pub mod committer;
mod global;
mod host;
mod internal_topics;
mod lifecycle;
mod memory;
mod messages;
mod open_log;
mod plan;
mod restorer;
mod setup;
mod streams;
mod supervisor;
mod thread;
pub mod writer;

pub use board::{Board, RestoreProgress, StoreHandle, TaskState, TaskStatus};
pub use host::{Application, Host, HostError, HostView};
pub use lifecycle::StreamsState;
pub use memory::MemoryShares;
pub use messages::RestoreError;
pub use open_log::OpenLog;
pub(crate) use plan::external_topics;
pub use restorer::StateHome;
pub use streams::{Join, Streams, StreamsParts};

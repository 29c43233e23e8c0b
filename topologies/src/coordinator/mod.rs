//! The coordinator and the event publisher: how tasks and events come in over HTTP.
//!
//! Owns what a user may send and what is made of it. It must not know what happens to a task, nor
//! the log: a route gives records, the engine appends them.
//!
//! ```text
//! POST /tasks  -> a task -----+-> publisher: validate, enrich, route, count -> the event's topic
//! POST /events -> an event ---+
//! ```

pub mod publisher;
pub mod route;
mod task;

pub use publisher::{Draft, Publisher};
pub use task::{Coordinated, UserTask};

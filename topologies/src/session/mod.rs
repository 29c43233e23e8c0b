//! Sessions: commands become events, events become a view that can be asked.
//!
//! Owns the two topologies and their stores. It must not know which log or which store runs
//! underneath; what a session decides is in `aggregate`, what queries see in `view`.
//!
//! ```text
//! session.commands -+-> session-aggregate -+-> session.events (sequence, headers)
//! session.events  --+    stores session-aggregate,   +-> api.responses (answer, by correlation id)
//!   (ends of tasks)      session-log, session-snapshots
//!
//! session.events ----> session-projection -> stores sessions, sessions-by-start, sessions-by-user
//! ```
//!
//! * `session-aggregate` is the only writer of events with a sequence, which has no gap: a
//!   session's version is the sequence of its last event.
//! * A command that is refused is answered with its reason; one that cannot be read, and does not
//!   say whom to answer, goes to the dead letters.
//! * The answer, the event, the state and the input's offset are one commit.

pub mod aggregate;
mod commands;
mod projection;
pub mod route;
pub mod view;

#[cfg(test)]
mod topology_tests;

use std::sync::Arc;

use headwater::dsl::{Consumed, Produced, StreamsBuilder};
use headwater::query::Route;
use headwater::serde::serdes;
use headwater::shell::Application;
use headwater::store::Stored;
use headwater_schemas::topics::{API_RESPONSES, SESSION_COMMANDS, SESSION_EVENTS};

use self::commands::{Decide, inbound};
use self::projection::Project;
use crate::conventions;
use crate::platform_event::{event_keys, platform_events};

/// The application id of the writing side.
pub const AGGREGATE: &str = "session-aggregate";

/// The application id of the reading side.
pub const PROJECTION: &str = "session-projection";

/// What the aggregates are, by session.
pub const AGGREGATE_STORE: &str = "session-aggregate";

/// Every event of every session, by [`log_key`].
pub const LOG_STORE: &str = "session-log";

/// A session's state at its last hundredth event, by session.
pub const SNAPSHOT_STORE: &str = "session-snapshots";

/// The read models, by session.
pub const STORE: &str = "sessions";

/// Session ids by [`start_key`].
pub const BY_START_STORE: &str = "sessions-by-start";

/// Session ids of active sessions by [`user_key`].
pub const BY_USER_STORE: &str = "sessions-by-user";

/// Events between two snapshots.
pub const SNAPSHOT_EVERY: i64 = 100;

/// The key of one event in the log: all of a session in the order of their sequence.
pub fn log_key(session_id: &str, sequence: i64) -> String {
    format!("{session_id}/{sequence:020}")
}

/// The key of a session by its start.
pub fn start_key(start_ms: i64, session_id: &str) -> String {
    format!("{start_ms:020}/{session_id}")
}

/// The key of an active session by its user. The length keeps one user's rows apart from those of
/// a user whose name goes on with a slash.
pub fn user_key(user_id: &str, session_id: &str) -> String {
    format!("{:03}/{user_id}/{session_id}", user_id.len())
}

/// The writing side.
pub fn aggregate_application() -> Application {
    Application { id: AGGREGATE, topology: Arc::new(aggregate_topology), routes: Vec::new() }
}

/// The reading side, with its routes.
pub fn projection_application() -> Application {
    let routes: Vec<Arc<dyn Route>> =
        vec![Arc::new(route::SessionRoute), Arc::new(route::SessionsRoute)];
    Application { id: PROJECTION, topology: Arc::new(projection_topology), routes }
}

/// Commands to events and answers.
pub fn aggregate_topology(b: &StreamsBuilder) {
    conventions::follow(b, &[&SESSION_COMMANDS, &SESSION_EVENTS, &API_RESPONSES]);
    let rows = b.add_store(Stored::key_value(AGGREGATE_STORE, serdes::string(), serdes::json()));
    let log = b.add_store(Stored::key_value(LOG_STORE, serdes::string(), platform_events()));
    let snapshots =
        b.add_store(Stored::key_value(SNAPSHOT_STORE, serdes::string(), serdes::json()));
    let commands = b.stream(&SESSION_COMMANDS.name, Consumed::with(event_keys(), inbound()));
    let facts = b
        .stream(&SESSION_EVENTS.name, Consumed::with(event_keys(), platform_events()))
        .flat_map_values(|_, event| commands::end_of_task(event))
        .named("ends-of-tasks");
    let decided = commands
        .merge(facts)
        .process(move || Decide { rows, log, snapshots }, &[rows.id(), log.id(), snapshots.id()])
        .named("decide");
    decided
        .flat_map_values(|_, decided| decided.event())
        .named("events")
        .to(&SESSION_EVENTS.name, Produced::with(event_keys(), platform_events()));
    decided
        .flat_map(|_, decided| decided.answer())
        .named("answers")
        .to(&API_RESPONSES.name, Produced::with(serdes::string(), serdes::json()));
}

/// Events to read models.
pub fn projection_topology(b: &StreamsBuilder) {
    conventions::follow(b, &[&SESSION_EVENTS]);
    let folds = b.add_store(Stored::key_value("session-folds", serdes::string(), serdes::json()));
    let models = b.add_store(Stored::key_value(STORE, serdes::string(), serdes::json()));
    let by_start =
        b.add_store(Stored::key_value(BY_START_STORE, serdes::string(), serdes::string()));
    let by_user = b.add_store(Stored::key_value(BY_USER_STORE, serdes::string(), serdes::string()));
    b.stream(&SESSION_EVENTS.name, Consumed::with(event_keys(), platform_events()))
        .process(
            move || Project { folds, models, by_start, by_user },
            &[folds.id(), models.id(), by_start.id(), by_user.id()],
        )
        .named("project");
}

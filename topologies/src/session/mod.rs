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
//! session.events ----> session-projection -> stores sessions, sessions-by-start, sessions-by-user,
//!                                            work-items
//! ```
//!
//! * `session-aggregate` is the only writer of events with a sequence, which has no gap: a
//!   session's version is the sequence of its last event. What it does with commands is
//!   [`crate::aggregate`]'s.

pub mod aggregate;
mod facts;
pub mod items;
mod projection;
pub mod route;
pub mod view;

#[cfg(test)]
mod topology_tests;

use std::sync::Arc;

use headwater::dsl::{Consumed, StreamsBuilder};
use headwater::query::Route;
use headwater::serde::serdes;
use headwater::shell::Application;
use headwater::store::Stored;
use headwater_schemas::topics::{SESSION_COMMANDS, SESSION_EVENTS};

use self::aggregate::SessionRow;
use self::projection::Project;
use crate::aggregate::Wiring;
pub use crate::aggregate::{SNAPSHOT_EVERY, log_key};
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
    let routes: Vec<Arc<dyn Route>> = vec![
        Arc::new(route::SessionRoute),
        Arc::new(route::SessionsRoute),
        Arc::new(items::ItemRoute),
        Arc::new(items::ItemsRoute),
    ];
    Application { id: PROJECTION, topology: Arc::new(projection_topology), routes }
}

/// Commands to events and answers.
pub fn aggregate_topology(b: &StreamsBuilder) {
    let wiring = Wiring::<SessionRow> {
        commands: &SESSION_COMMANDS,
        events: &SESSION_EVENTS,
        rows: AGGREGATE_STORE,
        log: LOG_STORE,
        snapshots: Some(SNAPSHOT_STORE),
        facts: Some(facts::end_of_task),
    };
    crate::aggregate::topology(b, &wiring);
}

/// Events to read models.
pub fn projection_topology(b: &StreamsBuilder) {
    conventions::follow(b, &[&SESSION_EVENTS]);
    let folds = b.add_store(Stored::key_value("session-folds", serdes::string(), serdes::json()));
    let models = b.add_store(Stored::key_value(STORE, serdes::string(), serdes::json()));
    let by_start =
        b.add_store(Stored::key_value(BY_START_STORE, serdes::string(), serdes::string()));
    let by_user = b.add_store(Stored::key_value(BY_USER_STORE, serdes::string(), serdes::string()));
    let items = b.add_store(Stored::key_value(items::STORE, serdes::string(), serdes::json()));
    b.stream(&SESSION_EVENTS.name, Consumed::with(event_keys(), platform_events()))
        .process(
            move || Project { folds, models, by_start, by_user, items },
            &[folds.id(), models.id(), by_start.id(), by_user.id(), items.id()],
        )
        .named("project");
}

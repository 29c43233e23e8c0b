//! Failed records: tried again with growing waits, given up as dead letters, and managed there.
//!
//! Owns the stages of a failed record and the names they share. It must not know which log or which
//! store runs underneath, nor what any topic's records mean.
//!
//! ```text
//!            handler fails                    no retry left
//! <topic> --> guard --+--> <topic>.retry --> delay --+--> <topic>.dlq --> manager --> <topic>
//!    ^                |                      |       |                    (retried by command)
//!    |                +-- not retryable -----|-------+
//!    +-------------------- when due ---------+
//! ```
//!
//! * [`guard`] is a stage of anybody's topology: it runs a handler that may fail. A failure that may
//!   pass sends the record to the retry topic, another one to the dead letters; or, if the order of
//!   each key is to be kept, the record waits in the stage's own state and later records of its key
//!   wait behind it.
//! * [`delay`] is the retry consumer. What is not due yet is in its state, so nothing is lost. How
//!   often a record was tried is in its state too; the header `retry-count` is for readers.
//! * [`manager`] keeps every dead letter, lists them, and sends them back or deletes them on command;
//!   [`told`] takes the commands.
//! * [`alert`] tells of topics whose records fail too often, and of queues of dead letters that grow.

pub mod alert;
pub mod delay;
pub mod guard;
pub mod manager;
pub mod policy;
mod rate;
pub mod record;
pub mod route;
pub mod told;

#[cfg(test)]
mod delay_tests;
#[cfg(test)]
mod guard_tests;
#[cfg(test)]
mod manager_tests;
#[cfg(test)]
mod simulated_tests;

use std::sync::Arc;

use headwater::dsl::StreamsBuilder;
use headwater::query::Route;
use headwater::record::Headers;
use headwater::shell::Application;
use headwater_schemas::headers;
use headwater_schemas::topics::{
    AGENT_RESPONSES, AGENT_TASKS_MANAGER, AGENT_TASKS_WORKER, MONITORING_EVENTS, ORDER_COMMANDS,
    QUALITY_GATES, SESSION_COMMANDS, TASK_COMPLETED, Topic,
};

use self::policy::Policy;
use self::record::with;

/// The application id of the retry consumer.
pub const RETRIES: &str = "retry-processor";

/// The application id of the manager.
pub const MANAGER: &str = "dead-letter-manager";

/// Names a record that was retried to the retry consumer. Worthless to anybody else: see [`delay`].
pub const RETRY_ID: &str = "retry-id";

/// The platform's topics whose dead letters are managed.
pub static TOPICS: [&Topic; 8] = [
    &AGENT_RESPONSES,
    &AGENT_TASKS_MANAGER,
    &AGENT_TASKS_WORKER,
    &MONITORING_EVENTS,
    &ORDER_COMMANDS,
    &QUALITY_GATES,
    &SESSION_COMMANDS,
    &TASK_COMPLETED,
];

/// The retry consumer of these topics, with its route.
pub fn retry_application(topics: &'static [&'static Topic], policy: Policy) -> Application {
    let topology = move |b: &StreamsBuilder| retry_topology(b, topics, policy);
    let routes: Vec<Arc<dyn Route>> = vec![Arc::new(route::Retries(topics))];
    Application { id: RETRIES, topology: Arc::new(topology), routes }
}

/// The manager of the dead letters of all [`TOPICS`], with its routes.
pub fn manager_application() -> Application {
    let routes: Vec<Arc<dyn Route>> = vec![
        Arc::new(route::Queues),
        Arc::new(route::Queue),
        Arc::new(route::Message),
        Arc::new(told::RetryMessage),
        Arc::new(told::RetryQueue(&TOPICS)),
        Arc::new(told::PurgeQueue(&TOPICS)),
    ];
    Application { id: MANAGER, topology: Arc::new(manager_topology), routes }
}

/// The retry consumer of these topics.
pub fn retry_topology(b: &StreamsBuilder, topics: &[&Topic], policy: Policy) {
    crate::conventions::follow(b, topics);
    for topic in topics {
        b.declare_topic(crate::conventions::spec(&topic.retries()));
        delay::retries(b, topic, policy);
    }
}

/// The manager of the dead letters of all [`TOPICS`].
pub fn manager_topology(b: &StreamsBuilder) {
    crate::conventions::follow(b, &TOPICS);
    manager::dead_letters(b, &TOPICS);
}

/// The headers of a record that is given up.
fn given_up(original: &Headers, topic: &str, why: &str, retries: u32, wall_ms: i64) -> Headers {
    let said = [
        (headers::ORIGINAL_TOPIC, topic.to_owned()),
        (headers::ERROR_MESSAGE, why.to_owned()),
        (headers::FINAL_RETRY_COUNT, retries.to_string()),
        (headers::DLQ_TIMESTAMP, wall_ms.to_string()),
    ];
    with(original, &said)
}

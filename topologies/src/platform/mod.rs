//! The whole platform in one process: every topology, and the routes beside them.
//!
//! Owns which applications there are and what they are given. It must not know what any of them
//! does.
//!
//! ```text
//! POST /tasks -> agent-workflow <-> agent-runner <-> agents
//!                     |  ^
//!                     v  | verdicts              monitoring.events -> analytics-rollup
//!               quality-gates
//!                     |
//!   session.commands, session.events -> session-aggregate -> session-projection -> GET /sessions
//!
//! POST /orders -> order-aggregate -> order-projection -> GET /orders
//!                      |  ^
//!                 order-fulfillment <-> order-services
//!
//! agent.tasks.* that no agent has room for -> retry-processor -> back, or *.dlq
//! every event -> correlation -> GET /correlations/{id}/trace
//! *.dlq -> dead-letter-manager -> GET /dlq, and back by command
//! ```

pub mod demo;
mod failures;
mod settings;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use headwater::actor::Poll;
use headwater::config::Environment;
use headwater::dsl::StreamsBuilder;
use headwater::error::BoxError;
use headwater::query::Route;
use headwater::runtime::OpenLog;
use headwater::shell::Application;

use crate::agents::{Agents, runner};
use crate::client::pause;
use crate::coordinator::Publisher;
use crate::coordinator::route::{EventsRoute, TasksRoute};
use crate::retry::policy::Policy;
use crate::workflow::route::{CorrelationRoute, SagaRoute, SagasRoute};
use crate::workflow::{WorkflowOptions, topology as workflow};
use crate::{analytics, conventions, correlation, orders, quality, retry, session};

pub use settings::{AgentChoice, Settings};

/// The service named as the source of what comes in over HTTP.
const SOURCE: &str = "coordinator";

/// How often brokers are asked whether they are done.
const LOOK: Duration = Duration::from_millis(20);

/// Every application, with these agents; `retries` says when work that they refuse is offered again.
pub fn applications(
    agents: Arc<dyn Agents>,
    options: WorkflowOptions,
    retries: Policy,
) -> Vec<Application> {
    let gates = options.gates.clone();
    let mut all = vec![
        workflow_application(options),
        Application {
            id: runner::APPLICATION,
            topology: Arc::new(move |b: &StreamsBuilder| runner::topology(b, &agents, retries)),
            routes: Vec::new(),
        },
        Application {
            id: quality::topology::APPLICATION,
            topology: Arc::new(move |b: &StreamsBuilder| quality::topology::topology(b, &gates)),
            routes: Vec::new(),
        },
        session::aggregate_application(),
        session::projection_application(),
        analytics::application(),
        correlation::application(),
        retry::retry_application(&runner::GUARDED, retries),
        retry::manager_application(),
    ];
    all.extend(orders::applications());
    all
}

/// The workflow, which also takes tasks and events, and answers for both.
pub fn workflow_application(options: WorkflowOptions) -> Application {
    let publisher = Arc::new(Publisher::new(SOURCE));
    let routes: Vec<Arc<dyn Route>> = vec![
        Arc::new(TasksRoute(Arc::clone(&publisher))),
        Arc::new(EventsRoute(publisher)),
        Arc::new(SagaRoute),
        Arc::new(SagasRoute),
        Arc::new(CorrelationRoute),
    ];
    Application {
        id: workflow::APPLICATION,
        topology: Arc::new(move |b: &StreamsBuilder| workflow::topology(b, &options)),
        routes,
    }
}

/// Creates the platform's topics on Kafka where they are missing; nobody else does. Does nothing
/// when the environment names no brokers: the embedded log creates what is declared.
///
/// # Errors
/// The environment is wrong; the brokers refuse, or do not answer.
pub fn create_topics() -> Result<(), BoxError> {
    let environment = Environment::read()?;
    if environment.host.kafka.is_none() {
        return Ok(());
    }
    let opened = OpenLog::open(&environment.host, BTreeSet::new())?;
    let mut topics = conventions::catalogue();
    topics.extend(runner::GUARDED.iter().map(|topic| conventions::spec(&topic.retries())));
    let ticket = opened.log().create_topics(topics);
    let made = loop {
        match ticket.poll() {
            Poll::Done(made) => break made.map_err(BoxError::from),
            Poll::Abandoned => break Err("nobody says whether the topics were made".into()),
            Poll::Pending => pause(LOOK),
        }
    };
    opened.close();
    made
}

#[cfg(test)]
mod world_tests;

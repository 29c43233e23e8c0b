//! Setting up an application's topics, step by step: external ones must exist, internal ones are
//! created and checked. Ends with the [`Plan`]. Owns asking again; knows no thread and no task.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::backoff::Backoff;
use super::plan::{Counts, ExternalTopics, Plan, external_topics};
use crate::actor::{Poll, Ticket};
use crate::config::StreamsConfig;
use crate::error::ErrorClass;
use crate::log::{Cleanup, Log, LogError, LogResult, TopicSpec};
use crate::time::Now;
use crate::topology::Topology;

type Described = Ticket<LogResult<Vec<TopicSpec>>>;
type Created = Ticket<LogResult<()>>;

enum Stage {
    Begin { at: Duration },
    External(Described),
    CreateExternal(Created),
    CreateInternal(Box<Plan>, Created),
    CheckInternal(Box<Plan>, Described),
    Over,
}

/// The topics of one application, being set up.
pub(crate) struct TopicSetup {
    log: Arc<dyn Log>,
    topology: Arc<Topology>,
    config: StreamsConfig,
    external: ExternalTopics,
    /// Partitions of external topics that are created when missing and not declared; `None` creates
    /// none.
    create: Option<u32>,
    stage: Stage,
    backoff: Backoff,
}

impl TopicSetup {
    pub(crate) fn new(
        log: Arc<dyn Log>,
        topology: Arc<Topology>,
        config: StreamsConfig,
        create: Option<u32>,
    ) -> Self {
        let external = external_topics(&topology, &config.application_id);
        let stage = Stage::Begin { at: Duration::ZERO };
        Self { log, topology, config, external, create, stage, backoff: Backoff::new() }
    }

    /// Does the next step; the plan when everything is there.
    ///
    /// # Errors
    /// What is missing or wrong, all of it, with the way out.
    pub(crate) fn poll(&mut self, now: Now) -> Result<Option<Plan>, String> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Begin { at } if at > now.monotonic => self.stage = Stage::Begin { at },
            Stage::Begin { .. } => {
                let names = self.external.all().into_iter().collect();
                self.stage = Stage::External(self.log.describe_topics(names));
            }
            Stage::External(ticket) => match ticket.poll() {
                Poll::Pending => self.stage = Stage::External(ticket),
                answer => {
                    if let Some(found) = self.settled(answer, now)? {
                        self.found_external(&found)?;
                    }
                }
            },
            Stage::CreateExternal(ticket) => match ticket.poll() {
                Poll::Pending => self.stage = Stage::CreateExternal(ticket),
                answer => {
                    if self.settled(answer, now)?.is_some() {
                        self.stage = Stage::Begin { at: now.monotonic };
                    }
                }
            },
            Stage::CreateInternal(plan, ticket) => match ticket.poll() {
                Poll::Pending => self.stage = Stage::CreateInternal(plan, ticket),
                answer => {
                    if self.settled(answer, now)?.is_some() {
                        let names = plan.internal.iter().map(|t| Arc::clone(&t.name)).collect();
                        let described = self.log.describe_topics(names);
                        self.stage = Stage::CheckInternal(plan, described);
                    }
                }
            },
            Stage::CheckInternal(plan, ticket) => match ticket.poll() {
                Poll::Pending => self.stage = Stage::CheckInternal(plan, ticket),
                answer => {
                    if let Some(found) = self.settled(answer, now)? {
                        plan.check_internal(&found).map_err(|all| all.join("; "))?;
                        return Ok(Some(*plan));
                    }
                }
            },
            Stage::Over => {}
        }
        Ok(None)
    }

    /// The answer; `None` if everything begins again because it may be had later.
    fn settled<T>(&mut self, answer: Poll<LogResult<T>>, now: Now) -> Result<Option<T>, String> {
        let error = match answer {
            Poll::Done(Ok(value)) => {
                self.backoff.reset();
                return Ok(Some(value));
            }
            Poll::Done(Err(error)) => error,
            _ => LogError::new(ErrorClass::Retry, "set up topics", "nobody answers"),
        };
        if error.class != ErrorClass::Retry {
            return Err(error.to_string());
        }
        let wait = self.backoff.next();
        tracing::warn!(%error, ?wait, "topics are set up again");
        self.stage = Stage::Begin { at: now.monotonic + wait };
        Ok(None)
    }

    fn found_external(&mut self, found: &[TopicSpec]) -> Result<(), String> {
        let counts: Counts =
            found.iter().map(|topic| (Arc::clone(&topic.name), topic.partitions)).collect();
        for found in found {
            if let Some(declared) = self.topology.declared(&found.name).filter(|d| *d != found) {
                tracing::warn!(%found, %declared, "topic differs from its declaration; it stays");
            }
        }
        let missing: BTreeSet<_> =
            self.external.all().into_iter().filter(|topic| !counts.contains_key(topic)).collect();
        match self.create {
            _ if missing.is_empty() => {
                let holds_state = self.log.holds_state();
                let plan = Plan::new(&self.topology, &self.config, &counts, holds_state)
                    .map_err(|mistakes| mistakes.join("; "))?;
                tracing::info!(
                    application = &*plan.application,
                    tasks = plan.space.tasks().count(),
                    input_partitions = plan.input_partitions(),
                    "planned"
                );
                let created = self.log.create_topics(plan.internal.clone());
                self.stage = Stage::CreateInternal(Box::new(plan), created);
            }
            Some(partitions) => {
                let cleanup = Cleanup::Delete { retention: None };
                let spec = |name: Arc<str>| match self.topology.declared(&name) {
                    Some(declared) => declared.clone(),
                    None => TopicSpec { name, partitions, cleanup },
                };
                let topics = missing.into_iter().map(spec).collect();
                self.stage = Stage::CreateExternal(self.log.create_topics(topics));
            }
            None => {
                let name = |topic: &Arc<str>| match self.topology.declared(topic) {
                    Some(declared) => declared.to_string(),
                    None => format!("'{topic}'"),
                };
                let names: Vec<_> = missing.iter().map(name).collect();
                return Err(format!(
                    "topics {} do not exist: create them, the topology reads or writes them",
                    names.join(", ")
                ));
            }
        }
        Ok(())
    }
}

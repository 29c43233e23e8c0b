//! The workflow as a topology: events meet their saga, and time does.
//!
//! Owns the stores' agreement: the saga's row, its timer and the rows that lead to it. It must not
//! know what an event means to a saga.
//!
//! ```text
//! agent.tasks.manager -+                          +-> agent.tasks.manager, agent.tasks.worker
//! agent.responses -----+-> conduct ---------------+-> task.completed (for the gates)
//! quality.gates -------+    stores sagas,         +-> session.events, session.commands
//!                           saga-index, saga-timers
//! ```
//!
//! * Every record of a saga has its session as key, so that one task sees all of them in order. A
//!   record under another key is a dead letter.
//! * A saga waits by one timer, under its session and its task: deadlines, backoffs, and the end of
//!   its retention. The wall clock counts.
//! * A reply to no saga is counted as expired and changes nothing.

use std::sync::Arc;

use headwater::dsl::{Consumed, StreamsBuilder};
use headwater::processor::{DropReason, NodeError, Processor, ProcessorContext, Timer};
use headwater::record::Record;
use headwater::serde::serdes;
use headwater::store::{KeyValueStore, StoreHandle, Stored, TimerHandle};
use headwater_schemas::commands::SessionCommand;
use headwater_schemas::envelope::{DomainEvent, EventTime, Metadata, VERSION};
use headwater_schemas::events::Event;
use headwater_schemas::routing::topic_of;
use headwater_schemas::topics::{
    AGENT_RESPONSES, AGENT_TASKS_MANAGER, AGENT_TASKS_WORKER, QUALITY_GATES, SESSION_COMMANDS,
    SESSION_EVENTS, TASK_COMPLETED,
};
use uuid::Uuid;

use super::{Output, WorkflowOptions, WorkflowRecord, WorkflowSaga, saga, take, task_of};
use crate::conventions;
use crate::outgoing::{Outgoing, send};
use crate::platform_event::{PlatformEvent, event_keys, platform_events};
use crate::saga::{Emission, Reaction, emission_id};

/// The application id.
pub const APPLICATION: &str = "agent-workflow";

/// Every saga, by [`saga_key`].
pub const STORE: &str = "sagas";

/// Keys of sagas, by [`by_task`] and [`by_correlation`].
pub const INDEX_STORE: &str = "saga-index";

/// When each saga has something to do.
pub const TIMERS: &str = "saga-timers";

/// The key of a saga.
pub fn saga_key(session_id: &str, task_id: &str) -> String {
    format!("{session_id}/{task_id}")
}

/// The key that leads from a task to its saga.
pub fn by_task(task_id: &str, session_id: &str) -> String {
    format!("task/{task_id}/{session_id}")
}

/// The key that leads from a request to its saga.
pub fn by_correlation(correlation_id: Uuid, task_id: &str) -> String {
    format!("correlation/{correlation_id}/{task_id}")
}

/// Adds the workflow to `b`.
pub fn topology(b: &StreamsBuilder, options: &WorkflowOptions) {
    conventions::follow(
        b,
        &[
            &AGENT_TASKS_MANAGER,
            &AGENT_TASKS_WORKER,
            &AGENT_RESPONSES,
            &QUALITY_GATES,
            &TASK_COMPLETED,
            &SESSION_EVENTS,
            &SESSION_COMMANDS,
        ],
    );
    let sagas = b.add_store(Stored::key_value(STORE, serdes::string(), serdes::json()));
    let index = b.add_store(Stored::key_value(INDEX_STORE, serdes::string(), serdes::string()));
    let timers = b.add_store(Stored::wall_clock_timers(TIMERS, event_keys()));
    let saga = Arc::new(saga(options));
    let events = |topic: &str| b.stream(topic, Consumed::with(event_keys(), platform_events()));
    let told = events(&AGENT_TASKS_MANAGER.name)
        .merge(events(&AGENT_RESPONSES.name))
        .merge(events(&QUALITY_GATES.name))
        .process(
            move || Conduct { saga: Arc::clone(&saga), sagas, index, timers },
            &[sagas.id(), index.id(), timers.id()],
        )
        .named("conduct");
    send(
        told,
        &[
            &AGENT_TASKS_MANAGER,
            &AGENT_TASKS_WORKER,
            &TASK_COMPLETED,
            &SESSION_EVENTS,
            &SESSION_COMMANDS,
        ],
    );
}

/// Events and time meet their saga.
struct Conduct {
    saga: Arc<WorkflowSaga>,
    sagas: StoreHandle<KeyValueStore<String, WorkflowRecord>>,
    index: StoreHandle<KeyValueStore<String, String>>,
    timers: TimerHandle<String>,
}

type Context<'c, 't> = ProcessorContext<'c, 't, String, Outgoing>;

impl Processor<String, PlatformEvent, String, Outgoing> for Conduct {
    fn timers(&self) -> Vec<TimerHandle<String>> {
        vec![self.timers]
    }

    fn process(
        &mut self,
        record: Record<'_, String, PlatformEvent>,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), NodeError> {
        let (session_id, event) = (record.key, record.value);
        let Some(task_id) = task_of(event) else { return Ok(()) };
        check_session(session_id, event)?;
        let now = event_time(ctx.wall_clock());
        let key = saga_key(session_id, task_id);
        let before = ctx.store(self.sagas).get(&key)?;
        let is_new = before.is_none();
        let (after, reaction) = take(&self.saga, before, event, now);
        let Some(after) = after else {
            let kind = &event.event.event_type;
            let why = format!("{kind} is for task {task_id}, of which no workflow is known");
            ctx.drop_record(DropReason::Expired, why);
            return Ok(());
        };
        if is_new {
            for lead in leads(&after, session_id) {
                ctx.store(self.index).put(&lead, &key)?;
            }
        }
        ctx.store(self.sagas).put(&key, &after)?;
        self.wait(session_id, task_id, reaction.due, ctx)?;
        tell(session_id, &after, &reaction, event.event.event_id, now, ctx)
    }

    fn on_timer(
        &mut self,
        timer: Timer<'_, String>,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), NodeError> {
        let (session_id, task_id) = (timer.key, timer.name);
        let key = saga_key(session_id, task_id);
        let Some(before) = ctx.store(self.sagas).get(&key)? else { return Ok(()) };
        // The clock may have been set back since the timer was found due.
        let now = event_time(ctx.wall_clock().max(timer.time));
        let (after, reaction) = self.saga.tick(before.clone(), now);
        match &after {
            Some(after) => ctx.store(self.sagas).put(&key, after)?,
            None => {
                ctx.store(self.sagas).delete(&key)?;
                for lead in leads(&before, session_id) {
                    ctx.store(self.index).delete(&lead)?;
                }
            }
        }
        self.wait(session_id, task_id, reaction.due, ctx)?;
        let told_of = after.as_ref().unwrap_or(&before);
        tell(session_id, told_of, &reaction, told_of.cause, now, ctx)
    }
}

impl Conduct {
    fn wait(
        &self,
        session_id: &String,
        task_id: &str,
        due: Option<EventTime>,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), NodeError> {
        let timers = ctx.store(self.timers);
        match due {
            Some(due) => timers.set(session_id, task_id, due.as_millis()),
            None => timers.cancel(session_id, task_id),
        }
    }
}

fn leads(record: &WorkflowRecord, session_id: &str) -> [String; 2] {
    let task_id = &record.saga_id;
    [by_task(task_id, session_id), by_correlation(record.correlation_id, task_id)]
}

/// A record has its session as key; an assignment without a session has its task.
fn check_session(key: &str, event: &PlatformEvent) -> Result<(), NodeError> {
    let named = event.event.metadata.session_id.as_deref();
    let session_id = match (&event.payload, named) {
        (_, Some(named)) => named,
        (Event::TaskAssigned(task), None) => task.session_id.as_deref().unwrap_or(&task.task_id),
        (_, None) => key,
    };
    if session_id == key {
        return Ok(());
    }
    let why = format!("the record's key must be its session {session_id:.40?}, found {key:.40?}");
    Err(NodeError::message(why))
}

pub(super) fn event_time(ms: i64) -> EventTime {
    EventTime::from_millis(ms.max(0)).unwrap_or(EventTime::MAX)
}

fn tell(
    session_id: &String,
    record: &WorkflowRecord,
    reaction: &Reaction<Output>,
    cause: Uuid,
    now: EventTime,
    ctx: &mut Context<'_, '_>,
) -> Result<(), NodeError> {
    for emission in &reaction.emitted {
        for (outgoing, time) in outgoing(session_id, record, emission, cause, now) {
            ctx.forward(Record {
                key: session_id,
                value: &outgoing,
                timestamp: time.as_millis(),
                headers: &outgoing.headers,
            })?;
        }
    }
    Ok(())
}

/// What an emission comes to, with the time of each record.
fn outgoing(
    session_id: &str,
    record: &WorkflowRecord,
    emission: &Emission<Output>,
    cause: Uuid,
    now: EventTime,
) -> Vec<(Outgoing, EventTime)> {
    let id = emission_id(record.cause, &emission.step_id);
    match &emission.output {
        Output::Fact(event) => {
            let time = event.metadata.timestamp;
            vec![(Outgoing::event(event, &SESSION_EVENTS, APPLICATION), time)]
        }
        Output::Command(request) => {
            let command = SessionCommand {
                id,
                aggregate_id: session_id.to_owned(),
                request: request.clone(),
                expected_version: None,
                user_id: record.data.user_id.clone(),
                correlation_id: record.correlation_id,
                timestamp: now,
            };
            vec![(Outgoing::command(&command, &SESSION_COMMANDS, APPLICATION), now)]
        }
        Output::Event { event_type, aggregate, data, topic, copied } => {
            let event = DomainEvent {
                event_id: id,
                event_type: (*event_type).to_owned(),
                aggregate_id: aggregate.1.clone(),
                aggregate_type: aggregate.0.to_owned(),
                event_data: data.clone(),
                metadata: Metadata {
                    timestamp: now,
                    version: VERSION.to_owned(),
                    correlation_id: record.correlation_id,
                    causation_id: Some(cause),
                    user_id: record.data.user_id.clone(),
                    session_id: Some(session_id.to_owned()),
                    sequence: None,
                },
            };
            let to = topic.unwrap_or_else(|| topic_of(event_type));
            let mut sent = vec![(Outgoing::event(&event, to, APPLICATION), now)];
            if *copied {
                sent.push((Outgoing::event(&event, &SESSION_EVENTS, APPLICATION), now));
            }
            sent
        }
    }
}

#[cfg(test)]
#[path = "topology_tests.rs"]
pub(super) mod tests;

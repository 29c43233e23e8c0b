//! The agent runner: work that the topics ask for goes to the agents, answers come back as events.
//!
//! Owns what is under way and what was answered. It must not know who works, nor what a workflow
//! does with an answer.
//!
//! * Work is a row from the moment its event is read until its answer is sent; a process that starts
//!   anew, or takes the partition over, asks for every row again. An agent may so be asked twice for
//!   one step, and its answer has the same event id both times.
//! * The answer, the end of the row and the note that the step is answered are one commit. An event
//!   that comes again within [`ANSWER_RETENTION`] gets the known answer again, without execution.
//! * Work that the agents have no room for is guarded ([`crate::retry::guard`]): it comes again after
//!   a wait, and is a dead letter after the last. This is the platform's one step that depends on what
//!   is outside of it, so the one where another try can help; the order of a session's steps does not
//!   matter to it, and one that is refused must not hold up the others.
//! * Each execution is also told as a metric, to `monitoring.events`.
//! * A work item that is cancelled is withdrawn from its agent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use headwater::dsl::StreamsBuilder;
use headwater::processor::{
    InitContext, NodeError, Processor, ProcessorContext, Punctuated, Punctuation, PunctuationType,
};
use headwater::record::Record;
use headwater::serde::serdes;
use headwater::store::{KeyValueStore, StoreHandle, Stored, WindowSpec, WindowStore};
use headwater::time::saturating_ms;
use headwater_schemas::envelope::{DomainEvent, EventTime, Metadata, VERSION};
use headwater_schemas::events::agent_performance_metric::Metric;
use headwater_schemas::events::{
    AgentPerformanceMetric, Event, Payload, TaskErrorOccurred, WorkItemCancelled, WorkItemFailed,
};
use headwater_schemas::routing::topic_of;
use headwater_schemas::topics::{
    AGENT_RESPONSES, AGENT_TASKS_MANAGER, AGENT_TASKS_WORKER, MONITORING_EVENTS, Topic,
};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{AgentError, Agents, Ask, Outcome, Reply, Work};
use crate::conventions;
use crate::outgoing::{Outgoing, send};
use crate::platform_event::{PlatformEvent, event_keys, platform_events};
use crate::retry::guard::{Guard, guard};
use crate::retry::policy::{HandlerError, Policy};

/// The application id.
pub const APPLICATION: &str = "agent-runner";

/// Work under way, by step id.
pub const WORK_STORE: &str = "agent-work";

/// Answers, by step id.
pub const ANSWER_STORE: &str = "agent-answers";

/// How long a step's answer is known.
pub const ANSWER_RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// How often agents are asked whether they are done, in milliseconds.
const LOOK_MS: i64 = 20;

/// Answers of one look; a commit may fall between two.
const LOOK_MAX: usize = 256;

/// The topics whose records wait for agents that have no room.
pub static GUARDED: [&Topic; 2] = [&AGENT_TASKS_MANAGER, &AGENT_TASKS_WORKER];

/// Adds the runner of these agents to `b`; `policy` says when refused work is offered again.
pub fn topology(b: &StreamsBuilder, agents: &Arc<dyn Agents>, policy: Policy) {
    conventions::follow(
        b,
        &[&AGENT_TASKS_MANAGER, &AGENT_TASKS_WORKER, &AGENT_RESPONSES, &MONITORING_EVENTS],
    );
    for topic in GUARDED {
        b.declare_topic(conventions::spec(&topic.retries()));
    }
    let work = b.add_store(Stored::key_value(WORK_STORE, serdes::string(), serdes::json()));
    let kept = WindowSpec { size_ms: 1, retention_ms: saturating_ms(ANSWER_RETENTION) };
    let answers =
        b.add_store(Stored::window(ANSWER_STORE, kept, serdes::string(), platform_events()));
    let taken = |name: &str, topic| {
        let (agents, events) = (Arc::clone(agents), platform_events());
        let guarded = Guard::new(name, topic, event_keys(), events).policy(policy);
        guard(b, guarded, move |session: &String, event: &PlatformEvent, now| {
            admit(&*agents, session, event, now)
        })
    };
    let agents = Arc::clone(agents);
    let told = taken("manager-intake", &AGENT_TASKS_MANAGER)
        .merge(taken("worker-intake", &AGENT_TASKS_WORKER))
        .process(
            move || Run { work, answers, agents: Arc::clone(&agents), under_way: None },
            &[work.id(), answers.id()],
        )
        .named("run");
    send(told, &[&AGENT_RESPONSES, &MONITORING_EVENTS]);
}

/// Lets an event through that asks for no work, or for work that the agents take.
fn admit(
    agents: &dyn Agents,
    session_id: &str,
    event: &PlatformEvent,
    now_ms: i64,
) -> Result<Vec<PlatformEvent>, HandlerError> {
    if let Some(work) = Work::of(event, session_id, event_time(now_ms)) {
        let waited = now_ms.saturating_sub(event.event.metadata.timestamp.as_millis());
        agents.admit(&work, waited).map_err(|error| match error.is_retryable() {
            true => HandlerError::passing(error.to_string()),
            false => HandlerError::new(error.code(), error.to_string()),
        })?;
    }
    Ok(vec![event.clone()])
}

/// Work goes out, answers come back.
struct Run {
    work: StoreHandle<KeyValueStore<String, Work>>,
    answers: StoreHandle<WindowStore<String, PlatformEvent>>,
    agents: Arc<dyn Agents>,
    /// The rows of `work`, once they are read.
    under_way: Option<BTreeMap<String, Work>>,
}

type Context<'c, 't> = ProcessorContext<'c, 't, String, Outgoing>;

impl Processor<String, PlatformEvent, String, Outgoing> for Run {
    fn init(&mut self, ctx: &mut InitContext<'_>) -> Result<(), NodeError> {
        ctx.schedule(PunctuationType::WallClockTime, LOOK_MS, None).map(drop)
    }

    fn process(
        &mut self,
        record: Record<'_, String, PlatformEvent>,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), NodeError> {
        if let Event::WorkItemCancelled(cancelled) = &record.value.payload {
            return self.withdraw(cancelled, ctx);
        }
        let now = event_time(ctx.wall_clock());
        let Some(work) = Work::of(record.value, record.key, now) else { return Ok(()) };
        let step = work.step_id.to_string();
        let known = ctx.store(self.answers).fetch_range(&step, 0, i64::MAX)?;
        if let Some((_, answer)) = known.first() {
            let again = Outgoing::event(&answer.event, &AGENT_RESPONSES, APPLICATION);
            return ctx.forward(record.with_value(&again).with_headers(&again.headers));
        }
        if ctx.store(self.work).get(&step)?.is_none() {
            ctx.store(self.work).put(&step, &work)?;
            if let Some(under_way) = &mut self.under_way {
                under_way.insert(step, work);
            }
        }
        Ok(())
    }

    fn punctuate(
        &mut self,
        _: Punctuation<'_>,
        ctx: &mut Context<'_, '_>,
    ) -> Result<Punctuated, NodeError> {
        let now = ctx.wall_clock();
        let mut done = Vec::new();
        let agents = Arc::clone(&self.agents);
        for (step, work) in self.rows(ctx)? {
            if let Some(outcome) = agents.ask(work, now) {
                done.push((step.clone(), work.clone(), outcome));
                if done.len() == LOOK_MAX {
                    break;
                }
            }
        }
        let is_full = done.len() == LOOK_MAX;
        for (step, work, outcome) in done {
            self.answer(&step, &work, &outcome, ctx)?;
        }
        Ok(if is_full { Punctuated::More(Vec::new()) } else { Punctuated::Done })
    }
}

impl Run {
    fn rows(&mut self, ctx: &mut Context<'_, '_>) -> Result<&BTreeMap<String, Work>, NodeError> {
        if self.under_way.is_none() {
            let mut rows = BTreeMap::new();
            loop {
                let after = rows.last_key_value().map(|(step, _): (&String, &Work)| step.clone());
                let page = ctx.store(self.work).page(after.as_ref(), LOOK_MAX)?;
                if page.is_empty() {
                    break;
                }
                rows.extend(page);
            }
            self.under_way = Some(rows);
        }
        Ok(self.under_way.get_or_insert_default())
    }

    fn answer(
        &mut self,
        step: &String,
        work: &Work,
        outcome: &Outcome,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), NodeError> {
        let now = event_time(ctx.wall_clock());
        let event = answer_of(work, outcome, now);
        let payload = Event::of(&event).map_err(|error| NodeError::message(error.to_string()))?;
        let metric = metric_of(work, outcome, now);
        let told = [
            Outgoing::event(&event, topic_of(&event.event_type), APPLICATION),
            Outgoing::event(&metric, &MONITORING_EVENTS, APPLICATION),
        ];
        ctx.store(self.work).delete(step)?;
        let answer = PlatformEvent { event, payload };
        ctx.store(self.answers).put(step, now.as_millis(), Some(&answer))?;
        if let Some(under_way) = &mut self.under_way {
            under_way.remove(step);
        }
        for outgoing in &told {
            ctx.forward(Record {
                key: &work.session_id,
                value: outgoing,
                timestamp: now.as_millis(),
                headers: &outgoing.headers,
            })?;
        }
        Ok(())
    }

    /// Nobody waits for this item any more.
    fn withdraw(
        &mut self,
        cancelled: &WorkItemCancelled,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), NodeError> {
        let is_its = |work: &Work| {
            work.task_id() == cancelled.task_id
                && work.work_item_id() == Some(&cancelled.work_item_id)
        };
        let gone = self.rows(ctx)?.values().filter(|work| is_its(work)).map(|work| work.step_id);
        for step in gone.collect::<Vec<_>>() {
            self.agents.withdraw(step);
            let step = step.to_string();
            ctx.store(self.work).delete(&step)?;
            if let Some(under_way) = &mut self.under_way {
                under_way.remove(&step);
            }
        }
        Ok(())
    }
}

fn event_time(ms: i64) -> EventTime {
    EventTime::from_millis(ms.max(0)).unwrap_or(EventTime::MAX)
}

/// The id of what follows from a step, the same however often the step is executed.
fn follows(work: &Work, what: &str) -> Uuid {
    Uuid::new_v5(&work.step_id, format!("{what}{}", work.attempt()).as_bytes())
}

fn event(
    work: &Work,
    id: Uuid,
    aggregate: (&str, &str),
    event_type: &str,
    data: Map<String, Value>,
    now: EventTime,
) -> DomainEvent {
    DomainEvent {
        event_id: id,
        event_type: event_type.to_owned(),
        aggregate_id: aggregate.1.to_owned(),
        aggregate_type: aggregate.0.to_owned(),
        event_data: data,
        metadata: Metadata {
            timestamp: now,
            version: VERSION.to_owned(),
            correlation_id: work.correlation_id,
            causation_id: Some(work.step_id),
            user_id: work.user_id.clone(),
            session_id: Some(work.session_id.clone()),
            sequence: None,
        },
    }
}

fn answer_of(work: &Work, outcome: &Outcome, now: EventTime) -> DomainEvent {
    fn typed<P: Payload>(payload: &P) -> (&'static str, Map<String, Value>) {
        (P::EVENT_TYPE, payload.to_event_data())
    }
    let (event_type, data) = match &outcome.reply {
        Ok(Reply::Analyzed(analyzed)) => typed(analyzed),
        Ok(Reply::Completed(completed)) => typed(completed),
        Ok(Reply::Reviewed(reviewed)) => typed(reviewed),
        Err(error) => match &work.ask {
            Ask::Execute(item) => typed(&WorkItemFailed {
                work_item_id: item.item.id.clone(),
                task_id: item.task_id.clone(),
                session_id: Some(work.session_id.clone()),
                error: format!("{}: {error}", error.code()),
                retryable: error.is_retryable(),
                attempt: item.attempt,
            }),
            Ask::Analyze(_) => typed(&task_error(work, "analysis", error)),
            Ask::Review(_) => typed(&task_error(work, "review", error)),
        },
    };
    let aggregate = match work.work_item_id() {
        Some(id) => ("WorkItem", id),
        None => ("Task", work.task_id()),
    };
    event(work, follows(work, ""), aggregate, event_type, data, now)
}

fn task_error(work: &Work, stage: &str, error: &AgentError) -> TaskErrorOccurred {
    TaskErrorOccurred {
        task_id: work.task_id().to_owned(),
        stage: stage.to_owned(),
        error_code: error.code().to_owned(),
        message: error.to_string(),
        retryable: error.is_retryable(),
        attempt: work.attempt(),
    }
}

fn metric_of(work: &Work, outcome: &Outcome, now: EventTime) -> DomainEvent {
    let took: f64 = outcome.took_ms.max(0).to_string().parse().unwrap_or(0.0);
    let metric = AgentPerformanceMetric {
        agent_type: work.agent_type(),
        agent_id: None,
        session_id: work.session_id.clone(),
        task_id: Some(work.task_id().to_owned()),
        metric: Metric::ExecutionTimeMs,
        value: took,
        success: Some(outcome.reply.is_ok()),
    };
    let aggregate = ("Session", work.session_id.as_str());
    let data = metric.to_event_data();
    let event_type = AgentPerformanceMetric::EVENT_TYPE;
    event(work, follows(work, "metric"), aggregate, event_type, data, now)
}

#[cfg(test)]
#[path = "runner_tests.rs"]
mod tests;

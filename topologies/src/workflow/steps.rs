//! The four steps of the workflow, and what is told at its end.
//!
//! Owns which reply means what. It must not know topics beyond the two that an event's type does
//! not name.

use headwater_schemas::commands::SessionRequest;
use headwater_schemas::envelope::EventTime;
use headwater_schemas::events::agent_performance_metric::AgentType;
use headwater_schemas::events::task::{ReworkItem, TaskStatus};
use headwater_schemas::events::work_item::WorkResult;
use headwater_schemas::events::{
    Event, ReviewRequested, TaskAssigned, TaskCompleted, TaskErrorOccurred, TaskStatusUpdated,
    WorkItemCancelled, WorkItemCompleted, WorkItemCreated, WorkflowStateChanged,
};
use headwater_schemas::topics;

use super::data::{Item, ItemStatus, Output, Workflow};
use super::timing::{Dispatch, WorkflowOptions};
use crate::platform_event::PlatformEvent;
use crate::quality::Gate;
use crate::saga::{Effects, SagaRecord, SagaState, Step, Timing, Verdict, later};

/// The step that rework goes back to.
const EXECUTE: &str = "execute";

/// Longest output of a completed task, in bytes; items keep their own.
const OUTPUT_BYTES_MAX: usize = 65_536;

type Fx<'a, 'e> = &'a mut Effects<'e, Output>;
type WorkflowStep = Box<dyn Step<Workflow, PlatformEvent, Output>>;

pub(super) fn all(options: &WorkflowOptions) -> Vec<WorkflowStep> {
    vec![
        Box::new(Manager {
            question: Analyse,
            timeout_ms: options.analysis_ms,
            attempts: options.attempts,
        }),
        Box::new(Execute {
            dispatch: options.dispatch,
            item_ms: options.item_ms,
            attempts: options.attempts,
            timing: options.saga,
        }),
        Box::new(Manager {
            question: Review { rounds: options.rework_rounds },
            timeout_ms: options.review_ms,
            attempts: options.attempts,
        }),
        Box::new(Quality {
            timeout_ms: options.quality_ms,
            rounds: options.rework_rounds,
            gates: options.gates.clone(),
        }),
    ]
}

/// Tells where the task stands now.
fn told(data: &mut Workflow, status: TaskStatus, now: EventTime) -> Output {
    data.status = status;
    let updated = TaskStatusUpdated {
        task_id: Some(data.task.task_id.clone()),
        status,
        timestamp: Some(now),
    };
    Output::of_task(&data.task.task_id, &updated)
}

fn fact(event: &PlatformEvent) -> Output {
    Output::Fact(Box::new(event.event.clone()))
}

/// What is told when the workflow has ended.
pub(super) fn ended(record: &SagaRecord<Workflow>) -> Vec<Output> {
    let data = &record.data;
    let task_id = &data.task.task_id;
    let status = match record.state {
        SagaState::Completed => TaskStatus::Completed,
        _ => TaskStatus::Failed,
    };
    let timestamp = Some(record.updated_at);
    let updated = TaskStatusUpdated { task_id: Some(task_id.clone()), status, timestamp };
    let mut outputs = vec![Output::of_task(task_id, &updated)];
    if record.state == SagaState::Completed {
        let mut output = data
            .results()
            .into_iter()
            .map(|item| item.result.output)
            .collect::<Vec<_>>()
            .join("\n");
        let mut end = output.len().min(OUTPUT_BYTES_MAX);
        while !output.is_char_boundary(end) {
            end -= 1;
        }
        output.truncate(end);
        outputs.push(Output::of_task(
            task_id,
            &TaskCompleted {
                task_id: task_id.clone(),
                session_id: data.session_id.clone(),
                success: true,
                result: WorkResult { success: true, output },
            },
        ));
    } else {
        let message = record.error.clone().unwrap_or_default();
        let error = TaskErrorOccurred {
            task_id: task_id.clone(),
            stage: "workflow".to_owned(),
            error_code: "WORKFLOW_FAILED".to_owned(),
            message: if message.is_empty() { "unknown".to_owned() } else { message },
            retryable: false,
            attempt: 1,
        };
        // To the session's log: on the agents' topic it would be a reply to this workflow.
        outputs.push(Output::of_task(task_id, &error).to(&topics::SESSION_EVENTS));
    }
    outputs
}

/// Something the manager agent is asked.
trait Question: Send + Sync {
    const STEP: &'static str;

    /// Asks.
    fn ask(&self, data: &mut Workflow, fx: Fx<'_, '_>) -> Verdict;

    /// Takes an event that is not the agent's failure.
    fn take(&self, data: &mut Workflow, input: &PlatformEvent, fx: Fx<'_, '_>) -> Verdict;
}

/// The manager agent is asked, and asked again when it fails or hangs.
struct Manager<Q> {
    question: Q,
    timeout_ms: i64,
    attempts: u32,
}

impl<Q: Question> Step<Workflow, PlatformEvent, Output> for Manager<Q> {
    fn name(&self) -> &'static str {
        Q::STEP
    }

    fn timeout_ms(&self) -> Option<i64> {
        Some(self.timeout_ms)
    }

    fn attempts(&self) -> u32 {
        self.attempts
    }

    fn enter(&self, data: &mut Workflow, fx: Fx<'_, '_>) -> Verdict {
        self.question.ask(data, fx)
    }

    fn reply(&self, data: &mut Workflow, input: &PlatformEvent, fx: Fx<'_, '_>) -> Verdict {
        let Event::TaskErrorOccurred(error) = &input.payload else {
            return self.question.take(data, input, fx);
        };
        let answered = input.event.metadata.causation_id;
        if answered.is_some() && answered != data.asked {
            return Verdict::Ignored;
        }
        data.asked = None;
        fx.emit(fact(input));
        if error.retryable {
            Verdict::Retry(error.message.clone())
        } else {
            Verdict::Fail(error.message.clone())
        }
    }
}

/// The manager agent splits the task.
struct Analyse;

impl Question for Analyse {
    const STEP: &'static str = "analyse";

    fn ask(&self, data: &mut Workflow, fx: Fx<'_, '_>) -> Verdict {
        let task_id = data.task.task_id.clone();
        if fx.attempt() > 1 {
            // The agent has the first request; another one needs an id of its own.
            let again =
                TaskAssigned { session_id: Some(data.session_id.clone()), ..data.task.clone() };
            data.asked = Some(fx.emit(Output::of_task(&task_id, &again)));
            return Verdict::Wait;
        }
        let user_id = data.user_id.clone().unwrap_or_else(|| "unknown".to_owned());
        let task_description = data.task.description.clone().unwrap_or_else(|| task_id.clone());
        fx.emit(Output::Command(SessionRequest::StartSession {
            user_id,
            task_description,
            if_absent: true,
        }));
        fx.emit(Output::assign(&task_id, AgentType::Manager));
        if let Some(assignment) = data.assignment() {
            fx.emit(Output::Fact(Box::new(assignment)));
        }
        let changed = WorkflowStateChanged {
            session_id: data.session_id.clone(),
            workflow_state: "task-assigned".to_owned(),
            task_id: Some(task_id.clone()),
        };
        fx.emit(Output::of_task(&task_id, &changed));
        Verdict::Wait
    }

    fn take(&self, data: &mut Workflow, input: &PlatformEvent, fx: Fx<'_, '_>) -> Verdict {
        let Event::TaskAnalyzed(analyzed) = &input.payload else { return Verdict::Ignored };
        data.estimated_duration = Some(analyzed.estimated_duration);
        data.work_items = analyzed.work_items.iter().cloned().map(Item::new).collect();
        fx.emit(told(data, TaskStatus::Analyzed, fx.now()));
        if data.work_items.is_empty() { Verdict::Finished } else { Verdict::Done }
    }
}

/// Worker agents execute the items.
struct Execute {
    dispatch: Dispatch,
    item_ms: i64,
    attempts: u32,
    timing: Timing,
}

impl Execute {
    /// Hands out what may be handed out now.
    fn hand_out(&self, data: &mut Workflow, fx: Fx<'_, '_>) {
        let (task_id, session_id) = (data.task.task_id.clone(), data.session_id.clone());
        let now = fx.now();
        for item in &mut data.work_items {
            let due = item.retry_at.is_some_and(|time| time <= now);
            if item.status == ItemStatus::Pending || due {
                item.status = ItemStatus::Running;
                item.attempt += 1;
                item.tries += 1;
                item.retry_at = None;
                item.deadline = Some(later(now, self.item_ms));
                let created = WorkItemCreated {
                    item: item.item.clone(),
                    task_id: task_id.clone(),
                    session_id: session_id.clone(),
                    attempt: item.attempt,
                };
                let created = Output::of_item(&item.item.id, &created);
                // The session's log has each item once, however often it is tried.
                fx.emit(if item.attempt == 1 { created.copied() } else { created });
            }
            if self.dispatch == Dispatch::Sequential && item.status != ItemStatus::Completed {
                return;
            }
        }
    }

    fn failed(&self, item: &mut Item, error: &str, retryable: bool, now: EventTime) -> Verdict {
        if !retryable || item.tries >= self.attempts {
            return Verdict::Fail(format!("work item {}: {error}", item.item.id));
        }
        item.deadline = None;
        item.retry_at = Some(later(now, self.timing.backoff(item.tries)));
        Verdict::Wait
    }
}

impl Step<Workflow, PlatformEvent, Output> for Execute {
    fn name(&self) -> &'static str {
        EXECUTE
    }

    fn timeout_ms(&self) -> Option<i64> {
        None
    }

    fn enter(&self, data: &mut Workflow, fx: Fx<'_, '_>) -> Verdict {
        if data.rework_round == 0 {
            fx.emit(Output::assign(&data.task.task_id, AgentType::Worker));
        }
        data.status = TaskStatus::InProgress;
        self.hand_out(data, fx);
        if data.is_done() { Verdict::Done } else { Verdict::Wait }
    }

    fn reply(&self, data: &mut Workflow, input: &PlatformEvent, fx: Fx<'_, '_>) -> Verdict {
        match &input.payload {
            Event::WorkItemCompleted(done) => {
                let Some(item) = data.item(&done.work_item_id) else { return Verdict::Ignored };
                let expected = item.settled + 1..=item.attempt;
                if item.status != ItemStatus::Running || !expected.contains(&done.attempt) {
                    return Verdict::Ignored;
                }
                item.status = ItemStatus::Completed;
                (item.deadline, item.retry_at) = (None, None);
                item.result = Some(done.result.clone());
                item.execution_time = Some(done.execution_time);
                item.completed_at = Some(done.completed_at);
                fx.emit(Output::Command(SessionRequest::RecordWorkItemCompleted(done.clone())));
                self.hand_out(data, fx);
                if data.is_done() { Verdict::Done } else { Verdict::Wait }
            }
            Event::WorkItemFailed(failed) => {
                let now = fx.now();
                let Some(item) = data.item(&failed.work_item_id) else { return Verdict::Ignored };
                let waits = item.status == ItemStatus::Running && item.retry_at.is_none();
                if !waits || item.attempt != failed.attempt {
                    return Verdict::Ignored;
                }
                self.failed(item, &failed.error, failed.retryable, now)
            }
            _ => Verdict::Ignored,
        }
    }

    fn due(&self, data: &Workflow) -> Option<EventTime> {
        data.work_items.iter().filter_map(|item| item.retry_at.or(item.deadline)).min()
    }

    fn tick(&self, data: &mut Workflow, fx: Fx<'_, '_>) -> Verdict {
        let now = fx.now();
        for item in &mut data.work_items {
            if item.deadline.is_some_and(|deadline| deadline <= now) {
                let verdict = self.failed(item, "timed out", true, now);
                if verdict != Verdict::Wait {
                    return verdict;
                }
            }
        }
        self.hand_out(data, fx);
        Verdict::Wait
    }

    fn abandon(&self, data: &mut Workflow, fx: Fx<'_, '_>) {
        cancel(data, fx);
    }

    fn compensate(&self, data: &mut Workflow, fx: Fx<'_, '_>) -> Verdict {
        cancel(data, fx);
        Verdict::Done
    }
}

/// Withdraws every item that was handed out, newest first.
fn cancel(data: &mut Workflow, fx: Fx<'_, '_>) {
    let (task_id, session_id) = (data.task.task_id.clone(), data.session_id.clone());
    for item in data.work_items.iter_mut().rev() {
        if item.attempt == 0 || item.status == ItemStatus::Cancelled {
            continue;
        }
        item.status = ItemStatus::Cancelled;
        (item.deadline, item.retry_at) = (None, None);
        let cancelled = WorkItemCancelled {
            work_item_id: item.item.id.clone(),
            task_id: task_id.clone(),
            session_id: Some(session_id.clone()),
            reason: "the task failed".to_owned(),
        };
        fx.emit(Output::of_item(&item.item.id, &cancelled));
    }
}

/// Sends results back, unless that was done too often.
fn send_back(
    data: &mut Workflow,
    rounds: u32,
    why: String,
    again: impl Fn(&Item) -> bool,
) -> Verdict {
    if data.rework_round >= rounds {
        return Verdict::Fail(format!("{why}, after {rounds} rounds of rework"));
    }
    data.rework(again);
    Verdict::Back(EXECUTE)
}

/// The manager agent judges the results.
struct Review {
    rounds: u32,
}

impl Question for Review {
    const STEP: &'static str = "review";

    fn ask(&self, data: &mut Workflow, fx: Fx<'_, '_>) -> Verdict {
        let requested = ReviewRequested {
            task_id: data.task.task_id.clone(),
            session_id: data.session_id.clone(),
            round: round(data),
            results: data.results(),
        };
        data.asked = Some(fx.emit(Output::of_task(&data.task.task_id, &requested)));
        data.status = TaskStatus::InReview;
        Verdict::Wait
    }

    fn take(&self, data: &mut Workflow, input: &PlatformEvent, fx: Fx<'_, '_>) -> Verdict {
        let reviewed = match &input.payload {
            Event::TaskReviewed(reviewed) if reviewed.round == round(data) => reviewed,
            _ => return Verdict::Ignored,
        };
        fx.emit(fact(input));
        if reviewed.review.approved {
            return Verdict::Done;
        }
        let rework = &reviewed.review.rework;
        let prompts = |id: &str| rework.iter().find(|again| again.work_item_id == id);
        let why = reviewed.review.feedback.clone();
        let verdict = send_back(
            data,
            self.rounds,
            format!("review rejected the results: {}", why.unwrap_or_default()),
            |item| rework.is_empty() || prompts(&item.item.id).is_some(),
        );
        for item in &mut data.work_items {
            if let Some(ReworkItem { prompt: Some(prompt), .. }) = prompts(&item.item.id) {
                item.item.prompt = Some(prompt.clone());
            }
        }
        verdict
    }
}

fn round(data: &Workflow) -> i32 {
    i32::try_from(data.rework_round).unwrap_or(i32::MAX)
}

/// The quality gates judge the results.
struct Quality {
    timeout_ms: i64,
    rounds: u32,
    gates: Vec<Gate>,
}

impl Quality {
    fn required(&self, item: &Item) -> impl Iterator<Item = &Gate> {
        self.gates.iter().filter(|gate| gate.required && gate.applies(Some(&item.item.kind)))
    }

    /// What the verdicts so far come to.
    fn verdict(&self, data: &mut Workflow) -> Verdict {
        let is_open =
            |item: &Item| self.required(item).any(|gate| !item.gates.contains_key(&gate.gate_id));
        if data.work_items.iter().any(is_open) {
            return Verdict::Wait;
        }
        let failed = |item: &Item| {
            self.required(item).any(|gate| item.gates.get(&gate.gate_id) == Some(&false))
        };
        let bad: Vec<String> = data
            .work_items
            .iter()
            .filter(|item| failed(item))
            .map(|item| item.item.id.clone())
            .collect();
        if bad.is_empty() {
            return Verdict::Done;
        }
        let why = format!("a required quality gate refused {}", bad.join(", "));
        send_back(data, self.rounds, why, |item| bad.contains(&item.item.id))
    }
}

impl Step<Workflow, PlatformEvent, Output> for Quality {
    fn name(&self) -> &'static str {
        "quality"
    }

    fn timeout_ms(&self) -> Option<i64> {
        Some(self.timeout_ms)
    }

    fn enter(&self, data: &mut Workflow, fx: Fx<'_, '_>) -> Verdict {
        data.status = TaskStatus::QualityCheck;
        let (task_id, session_id) = (data.task.task_id.clone(), data.session_id.clone());
        for item in &mut data.work_items {
            item.gates.clear();
            let Some(result) = item.result.clone() else { continue };
            let done = WorkItemCompleted {
                work_item_id: item.item.id.clone(),
                task_id: task_id.clone(),
                session_id: session_id.clone(),
                result,
                completed_at: item.completed_at.unwrap_or(fx.now()),
                execution_time: item.execution_time.unwrap_or_default(),
                kind: Some(item.item.kind.clone()),
                attempt: item.attempt,
            };
            fx.emit(Output::of_item(&item.item.id, &done).to(&topics::TASK_COMPLETED));
        }
        self.verdict(data)
    }

    fn reply(&self, data: &mut Workflow, input: &PlatformEvent, fx: Fx<'_, '_>) -> Verdict {
        let Event::QualityGateResult(result) = &input.payload else { return Verdict::Ignored };
        let Some(item) = data.item(&result.work_item_id) else { return Verdict::Ignored };
        if item.gates.contains_key(&result.gate_id) || result.attempt != item.attempt {
            return Verdict::Ignored;
        }
        item.gates.insert(result.gate_id.clone(), result.passed);
        fx.emit(fact(input));
        self.verdict(data)
    }
}

//! Each row of the workflow's state table, and random traces that always come to one end.

use std::collections::BTreeSet;

use headwater_schemas::commands::{Request, SessionRequest};
use headwater_schemas::envelope::{DomainEvent, Metadata, VERSION};
use headwater_schemas::events::TaskAssigned;
use headwater_schemas::events::task::TaskStatus;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::*;
use crate::saga::SagaState;

fn at(ms: i64) -> EventTime {
    EventTime::from_millis(ms).expect("in range")
}

fn event(event_type: &str, data: Value) -> PlatformEvent {
    let event = DomainEvent {
        event_id: Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{event_type}{data}").as_bytes()),
        event_type: event_type.to_owned(),
        aggregate_id: "t".to_owned(),
        aggregate_type: "Task".to_owned(),
        event_data: data.as_object().cloned().unwrap_or_default(),
        metadata: Metadata {
            timestamp: at(0),
            version: VERSION.to_owned(),
            correlation_id: Uuid::from_u128(1),
            causation_id: None,
            user_id: Some("u".to_owned()),
            session_id: Some("s".to_owned()),
            sequence: None,
        },
    };
    let payload = Event::of(&event).expect("a payload");
    PlatformEvent { event, payload }
}

fn assigned() -> PlatformEvent {
    event("TaskAssigned", json!({"taskId": "t", "description": "d"}))
}

fn analyzed(items: &[&str]) -> PlatformEvent {
    let items: Vec<Value> =
        items.iter().map(|id| json!({"id": id, "description": "d", "type": "testing"})).collect();
    event("TaskAnalyzed", json!({"taskId": "t", "workItems": items, "estimatedDuration": 60}))
}

fn done(item: &str, attempt: i32) -> PlatformEvent {
    event(
        "WorkItemCompleted",
        json!({"workItemId": item, "taskId": "t", "completedAt": 5,
        "executionTime": 7, "attempt": attempt, "result": {"success": true, "output": item}}),
    )
}

fn failed(item: &str, attempt: i32, retryable: bool) -> PlatformEvent {
    event(
        "WorkItemFailed",
        json!({"workItemId": item, "taskId": "t", "error": "broken",
        "retryable": retryable, "attempt": attempt}),
    )
}

fn task_error(retryable: bool) -> PlatformEvent {
    event(
        "TaskErrorOccurred",
        json!({"taskId": "t", "stage": "analysis", "errorCode": "E",
        "message": "cannot", "retryable": retryable, "attempt": 1}),
    )
}

fn reviewed(approved: bool, round: i32, rework: &[&str]) -> PlatformEvent {
    let rework: Vec<Value> =
        rework.iter().map(|id| json!({"workItemId": id, "prompt": "better"})).collect();
    event(
        "TaskReviewed",
        json!({"taskId": "t", "round": round,
        "review": {"approved": approved, "rework": rework}}),
    )
}

fn gate(item: &str, attempt: i32, passed: bool) -> PlatformEvent {
    event(
        "QualityGateResult",
        json!({"gateId": "result-success", "gateName": "g", "workItemId": item,
        "taskId": "t", "passed": passed, "score": 1, "threshold": 1, "required": true,
        "evaluatedAt": 1, "durationMs": 0, "attempt": attempt}),
    )
}

/// A workflow under test.
struct Run {
    saga: WorkflowSaga,
    record: Option<WorkflowRecord>,
    now: i64,
    names: BTreeSet<String>,
}

impl Run {
    fn new() -> Self {
        Self::with(WorkflowOptions::default())
    }

    fn with(options: WorkflowOptions) -> Self {
        Self { saga: saga(&options), record: None, now: 0, names: BTreeSet::new() }
    }

    fn take(&mut self, event: &PlatformEvent) -> Vec<String> {
        let (record, reaction) = take(&self.saga, self.record.take(), event, at(self.now));
        self.record = record;
        self.texts(&reaction)
    }

    /// Goes to the next time that something is due.
    fn wait(&mut self) -> Vec<String> {
        let record = self.record.take().expect("begun");
        let due = self.saga.due(&record).expect("nothing waits for ever");
        self.now = self.now.max(due.as_millis());
        let (record, reaction) = self.saga.tick(record, at(self.now));
        self.record = record;
        self.texts(&reaction)
    }

    fn record(&self) -> &WorkflowRecord {
        self.record.as_ref().expect("begun")
    }

    fn texts(&mut self, reaction: &Reaction<Output>) -> Vec<String> {
        for emission in &reaction.emitted {
            assert!(self.names.insert(emission.step_id.clone()), "{} again", emission.step_id);
        }
        reaction.emitted.iter().map(|emission| text(&emission.output)).collect()
    }

    /// Through analysis to the execution of these items.
    fn executing(items: &[&str]) -> Self {
        let mut run = Self::new();
        run.take(&assigned());
        run.take(&analyzed(items));
        run
    }
}

fn text(output: &Output) -> String {
    match output {
        Output::Fact(event) => format!("fact {}", event.event_type),
        Output::Command(request) => format!("command {}", request.command_type()),
        Output::Event { event_type, aggregate, data, topic, copied } => {
            let word = |data: &Map<String, Value>, name: &str| {
                data.get(name).map(|value| {
                    format!(" {}", value.as_str().map_or(value.to_string(), str::to_owned))
                })
            };
            let status = word(data, "status").or_else(|| word(data, "attempt")).unwrap_or_default();
            let to = topic.map(|topic| format!(" to {}", topic.name)).unwrap_or_default();
            let also = if *copied { " and to the log" } else { "" };
            format!("{event_type} {}{status}{to}{also}", aggregate.1)
        }
    }
}

#[test]
fn an_assigned_task_starts_its_session_and_is_given_to_the_manager() {
    let mut run = Run::new();
    assert_eq!(
        run.take(&assigned()),
        [
            "command StartSession",
            "command AssignTaskToAgent",
            "fact TaskAssigned",
            "WorkflowStateChanged t"
        ]
    );
    assert_eq!(
        (run.record().current_step.as_str(), run.record().deadline),
        ("analyse", Some(at(120_000)))
    );
    assert!(run.take(&assigned()).is_empty(), "a repeat begins nothing");
}

#[test]
fn a_task_goes_through_every_step_to_its_completion() {
    let mut run = Run::new();
    run.take(&assigned());
    assert_eq!(
        run.take(&analyzed(&["a", "b"])),
        [
            "TaskStatusUpdated t ANALYZED",
            "command AssignTaskToAgent",
            "WorkItemCreated a 1 and to the log",
            "WorkItemCreated b 1 and to the log"
        ]
    );
    assert_eq!(run.take(&done("b", 1)), ["command RecordWorkItemCompleted"]);
    assert_eq!(run.take(&done("a", 1)), ["command RecordWorkItemCompleted", "ReviewRequested t"]);
    assert_eq!(
        run.take(&reviewed(true, 0, &[])),
        [
            "fact TaskReviewed",
            "WorkItemCompleted a 1 to task.completed",
            "WorkItemCompleted b 1 to task.completed"
        ]
    );
    assert_eq!(run.take(&gate("a", 1, true)), ["fact QualityGateResult"]);
    assert_eq!(
        run.take(&gate("b", 1, true)),
        ["fact QualityGateResult", "TaskStatusUpdated t COMPLETED", "TaskCompleted t"]
    );
    assert_eq!(run.record().state, SagaState::Completed);
    assert_eq!(run.record().completed_steps, ["analyse", "execute", "review", "quality"]);
}

#[test]
fn a_task_without_items_is_complete() {
    let mut run = Run::new();
    run.take(&assigned());
    assert_eq!(
        run.take(&analyzed(&[])),
        ["TaskStatusUpdated t ANALYZED", "TaskStatusUpdated t COMPLETED", "TaskCompleted t"]
    );
}

#[test]
fn an_analysis_that_fails_or_hangs_is_asked_for_three_times() {
    let mut run = Run::new();
    run.take(&assigned());
    assert_eq!(run.take(&task_error(true)), ["fact TaskErrorOccurred"]);
    assert_eq!((run.wait(), run.now), (vec!["TaskAssigned t".to_owned()], 1_000));
    assert_eq!((run.wait(), run.now), (vec![], 121_000), "it hangs");
    assert_eq!((run.wait(), run.now), (vec!["TaskAssigned t".to_owned()], 123_000));
    assert_eq!(
        run.take(&task_error(true)),
        [
            "fact TaskErrorOccurred",
            "TaskStatusUpdated t FAILED",
            "TaskErrorOccurred t 1 to session.events"
        ]
    );
    assert_eq!(run.record().error.as_deref(), Some("cannot"));
}

#[test]
fn a_failure_that_answers_another_request_or_comes_twice_costs_no_attempt() {
    let mut run = Run::new();
    run.take(&assigned());
    let first = run.record().data.asked;
    let late = |cause| {
        let mut event = task_error(true);
        event.event.metadata.causation_id = cause;
        event
    };
    assert!(run.take(&late(Some(Uuid::from_u128(99)))).is_empty(), "to nobody's request");
    assert_eq!(run.take(&late(first)), ["fact TaskErrorOccurred"]);
    assert!(run.take(&late(first)).is_empty(), "twice");
    assert_eq!(run.wait(), ["TaskAssigned t"]);
    assert!(run.take(&late(first)).is_empty(), "of the attempt before");
    run.take(&analyzed(&["a"]));
    run.take(&done("a", 1));
    assert!(run.take(&late(first)).is_empty(), "of the step before");
    assert_eq!((run.record().current_step.as_str(), run.record().attempt), ("review", 1));
    assert_eq!(run.record().ignored, 4);
}

#[test]
fn an_analysis_that_cannot_help_fails_at_once() {
    let mut run = Run::new();
    run.take(&assigned());
    let told = run.take(&task_error(false));
    assert_eq!(
        told[1..],
        ["TaskStatusUpdated t FAILED", "TaskErrorOccurred t 1 to session.events"]
    );
}

#[test]
fn an_item_that_fails_or_hangs_is_tried_three_times_and_then_all_are_cancelled_newest_first() {
    let mut run = Run::executing(&["a", "b"]);
    run.take(&done("b", 1));
    assert!(run.take(&failed("a", 1, true)).is_empty());
    assert_eq!(run.wait(), ["WorkItemCreated a 2"]);
    assert!(run.take(&failed("a", 1, true)).is_empty(), "an old try's failure");
    assert_eq!((run.wait(), run.now), (vec![], 601_000), "the second try hangs");
    assert_eq!(run.wait(), ["WorkItemCreated a 3"]);
    assert_eq!(
        run.take(&failed("a", 3, true)),
        [
            "WorkItemCancelled b",
            "WorkItemCancelled a",
            "TaskStatusUpdated t FAILED",
            "TaskErrorOccurred t 1 to session.events"
        ]
    );
    assert_eq!(run.record().error.as_deref(), Some("work item a: broken"));
}

#[test]
fn the_first_reply_of_any_try_completes_an_item() {
    let mut run = Run::executing(&["a"]);
    run.take(&failed("a", 1, true));
    run.wait();
    assert_eq!(run.take(&done("a", 1)), ["command RecordWorkItemCompleted", "ReviewRequested t"]);
    assert!(run.take(&done("a", 2)).is_empty());
    assert_eq!(run.record().ignored, 1);
}

#[test]
fn a_rejected_item_is_done_again_and_replies_of_the_round_before_are_late() {
    let mut run = Run::executing(&["a", "b"]);
    run.take(&done("a", 1));
    run.take(&done("b", 1));
    assert_eq!(run.take(&reviewed(false, 0, &["b"])), ["fact TaskReviewed", "WorkItemCreated b 2"]);
    let prompt = run.record().data.work_items[1].item.prompt.clone();
    assert_eq!(prompt.as_deref(), Some("better"), "the agent is told what to do otherwise");
    assert!(run.take(&done("b", 1)).is_empty(), "the round before");
    assert_eq!(run.take(&done("b", 2)), ["command RecordWorkItemCompleted", "ReviewRequested t"]);
    assert!(run.take(&reviewed(true, 0, &[])).is_empty(), "the round before");
    assert_eq!(run.take(&reviewed(true, 1, &[])).len(), 3);
    assert!(run.take(&gate("b", 1, false)).is_empty(), "the round before");
    run.take(&gate("a", 1, true));
    assert_eq!(run.take(&gate("b", 2, true))[1], "TaskStatusUpdated t COMPLETED");
}

#[test]
fn results_are_sent_back_twice_and_not_a_third_time() {
    let mut run = Run::executing(&["a"]);
    for round in 0..3 {
        run.take(&done("a", round + 1));
        let told = run.take(&reviewed(false, round, &[]));
        let again = format!("WorkItemCreated a {}", round + 2);
        assert_eq!(told.contains(&again), round < 2, "{told:?}");
    }
    assert_eq!(run.record().state, SagaState::Failed);
    let error = run.record().error.clone().expect("failed");
    assert!(error.ends_with("after 2 rounds of rework"), "{error}");
}

#[test]
fn a_required_gate_that_refuses_sends_its_item_back() {
    let mut run = Run::executing(&["a", "b"]);
    run.take(&done("a", 1));
    run.take(&done("b", 1));
    run.take(&reviewed(true, 0, &[]));
    run.take(&gate("a", 1, false));
    assert_eq!(run.take(&gate("b", 1, true)), ["fact QualityGateResult", "WorkItemCreated a 2"]);
    run.take(&done("a", 2));
    assert_eq!(run.take(&reviewed(true, 1, &[])).len(), 3, "both are judged again");
}

#[test]
fn gates_that_do_not_answer_in_time_fail_the_task() {
    let mut run = Run::executing(&["a"]);
    run.take(&done("a", 1));
    run.take(&reviewed(true, 0, &[]));
    assert_eq!(run.wait()[0], "WorkItemCancelled a");
    assert_eq!((run.now, run.record().state), (60_000, SagaState::Failed));
    assert_eq!(run.record().error.as_deref(), Some("quality timed out"));
}

#[test]
fn sequential_items_are_handed_out_one_after_the_other() {
    let options = WorkflowOptions { dispatch: Dispatch::Sequential, ..WorkflowOptions::default() };
    let mut run = Run::with(options);
    run.take(&assigned());
    assert_eq!(run.take(&analyzed(&["a", "b"]))[2..], ["WorkItemCreated a 1 and to the log"]);
    run.take(&failed("a", 1, true));
    assert_eq!(run.wait(), ["WorkItemCreated a 2"]);
    assert_eq!(
        run.take(&done("a", 2)),
        ["command RecordWorkItemCompleted", "WorkItemCreated b 1 and to the log"]
    );
}

#[test]
fn replies_to_nothing_and_after_the_end_change_nothing() {
    let mut run = Run::new();
    assert!(run.take(&done("a", 1)).is_empty() && run.record.is_none());
    run.take(&assigned());
    run.take(&task_error(false));
    for late in [analyzed(&["a"]), done("a", 1), reviewed(true, 0, &[]), gate("a", 1, true)] {
        assert!(run.take(&late).is_empty());
    }
    assert_eq!(run.record().ignored, 4);
}

#[test]
fn a_finished_workflow_can_be_asked_for_a_day() {
    let mut run = Run::new();
    run.take(&assigned());
    run.take(&task_error(false));
    assert!(run.wait().is_empty() && run.record.is_none());
    assert_eq!(run.now, 86_400_000);
}

fn replies() -> impl Strategy<Value = Option<PlatformEvent>> {
    let item = prop::sample::select(vec!["a", "b", "c"]);
    (0..14_u8, item, 1..5_i32, 0..3_i32, any::<bool>()).prop_map(
        |(kind, item, attempt, round, yes)| {
            Some(match kind {
                0 => analyzed(&["a", "b", "c"]),
                1 => analyzed(&[]),
                2 => task_error(true),
                3 => assigned(),
                4..=6 => done(item, attempt),
                7 => failed(item, attempt, yes),
                8 | 9 => reviewed(yes, round, if yes { &[] } else { &["a"] }),
                10 | 11 => gate(item, attempt, yes),
                _ => return None,
            })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn every_trace_comes_to_one_end_that_is_told_once(
        trace in prop::collection::vec(replies(), 0..50),
        sequential in any::<bool>(),
    ) {
        let dispatch = if sequential { Dispatch::Sequential } else { Dispatch::Parallel };
        let mut run = Run::with(WorkflowOptions { dispatch, ..WorkflowOptions::default() });
        let mut told = run.take(&assigned());
        for input in trace {
            told.extend(match input {
                Some(event) => run.take(&event),
                None if run.record().state.is_final() => continue,
                None => run.wait(),
            });
        }
        // Nobody answers any more: its own deadlines end it.
        for _ in 0..100 {
            if run.record().state.is_final() {
                break;
            }
            told.extend(run.wait());
        }
        let record = run.record();
        prop_assert!(record.state.is_final(), "{record:?}");
        let count = |what: &str| told.iter().filter(|told| told.as_str() == what).count();
        let completed = usize::from(record.state == SagaState::Completed);
        prop_assert_eq!(count("TaskStatusUpdated t COMPLETED"), completed);
        prop_assert_eq!(count("TaskCompleted t"), completed);
        prop_assert_eq!(count("TaskStatusUpdated t FAILED"), 1 - completed);
        let expected = if completed == 1 { TaskStatus::Completed } else { TaskStatus::Failed };
        prop_assert!(expected.is_final());
        if completed == 0 {
            let open = record.data.work_items.iter().filter(|item| item.attempt > 0);
            prop_assert!(open.clone().all(|item| item.status == ItemStatus::Cancelled));
        }
        prop_assert!(record.data.work_items.iter().all(|item| item.tries <= 3));
    }

    #[test]
    fn a_record_survives_its_json(trace in prop::collection::vec(replies(), 0..20)) {
        let mut run = Run::new();
        run.take(&assigned());
        for event in trace.into_iter().flatten() {
            run.take(&event);
            let json = serde_json::to_string(run.record()).expect("json");
            prop_assert_eq!(&serde_json::from_str::<WorkflowRecord>(&json).expect("json"), run.record());
        }
    }
}

#[test]
fn a_task_without_a_session_or_user_has_names_all_the_same() {
    let mut event = assigned();
    event.event.metadata.session_id = None;
    event.event.metadata.user_id = None;
    let Event::TaskAssigned(task) = &mut event.payload else { panic!("its payload") };
    task.session_id = None;
    let task: TaskAssigned = task.clone();
    let mut run = Run::new();
    let (record, reaction) = take(&run.saga, None, &event, at(0));
    assert_eq!(
        record.as_ref().map(|record| record.data.session_id.as_str()),
        Some(task.task_id.as_str())
    );
    let Output::Command(SessionRequest::StartSession { user_id, .. }) = &reaction.emitted[0].output
    else {
        panic!("its session is started")
    };
    assert_eq!(user_id, "unknown");
    run.record = record;
}

//! What a session accepts, refuses and remembers, and random traces against a plain model.

use std::collections::BTreeMap;

use headwater_schemas::commands::Reply;
use headwater_schemas::events::WorkItemCompleted;
use headwater_schemas::events::work_item::WorkResult;
use proptest::prelude::*;

use super::*;
use crate::aggregate::REPLIES_MAX;

fn time(ms: i64) -> EventTime {
    EventTime::from_millis(ms).expect("in range")
}

fn command(number: u128, request: SessionRequest) -> SessionCommand {
    SessionCommand {
        id: Uuid::from_u128(number),
        aggregate_id: "s".into(),
        request,
        expected_version: None,
        user_id: None,
        correlation_id: Uuid::from_u128(99),
        timestamp: time(i64::try_from(number).expect("small")),
    }
}

fn start() -> SessionRequest {
    SessionRequest::StartSession {
        user_id: "u".into(),
        task_description: "d".into(),
        if_absent: false,
    }
}

fn assign(task_id: &str) -> SessionRequest {
    SessionRequest::AssignTaskToAgent { task_id: task_id.into(), agent_type: AgentType::Worker }
}

fn done(task_id: &str) -> SessionRequest {
    SessionRequest::RecordWorkItemCompleted(WorkItemCompleted {
        work_item_id: "w".into(),
        task_id: task_id.into(),
        session_id: "s".into(),
        result: WorkResult { success: true, output: String::new() },
        completed_at: time(5),
        execution_time: 1,
        kind: None,
        attempt: 1,
    })
}

fn code(row: &mut SessionRow, command: &SessionCommand) -> Option<RejectionCode> {
    match row.execute(command) {
        (events, Reply::CommandRejected { code, .. }) => {
            assert!(events.is_empty(), "a refusal changes nothing");
            Some(code)
        }
        (_, Reply::CommandAccepted { .. }) => None,
    }
}

fn types(events: &[DomainEvent]) -> Vec<(&str, Option<i64>)> {
    events.iter().map(|event| (event.event_type.as_str(), event.metadata.sequence)).collect()
}

/// The end of a task, as its workflow tells it.
fn end(row: &mut SessionRow, task_id: &str, status: TaskStatus) -> Option<DomainEvent> {
    let (events, _) = SessionRow::default().execute(&command(1_000, start()));
    row.task_ended(task_id, status, &events[0])
}

#[test]
fn a_session_is_started_once_and_its_events_have_no_gap() {
    let mut row = SessionRow::default();
    assert_eq!(types(&row.execute(&command(1, start())).0), [("SessionStarted", Some(1))]);
    assert_eq!(types(&row.execute(&command(2, assign("t"))).0), [("TaskAssignedToAgent", Some(2))]);
    assert_eq!(types(&row.execute(&command(3, done("t"))).0), [("WorkItemCompleted", Some(3))]);
    assert_eq!(code(&mut row, &command(4, start())), Some(RejectionCode::Conflict));
    let ended = row.execute(&command(5, SessionRequest::CompleteSession { reason: None }));
    assert_eq!(types(&ended.0), [("SessionCompleted", Some(4))]);
    let session = row.session.expect("started");
    assert!(!session.is_active && session.active_tasks[0].completed);
    assert_eq!(session.end_time, Some(time(5)));
}

#[test]
fn an_event_carries_the_correlation_of_the_start_and_the_command_that_caused_it() {
    let mut row = SessionRow::default();
    row.execute(&command(1, start()));
    let other = SessionCommand { correlation_id: Uuid::from_u128(5), ..command(2, assign("t")) };
    let (events, _) = row.execute(&other);
    assert_eq!(events[0].metadata.correlation_id, Uuid::from_u128(99));
    assert_eq!(events[0].metadata.causation_id, Some(Uuid::from_u128(2)));
    assert_eq!(events[0].metadata.user_id.as_deref(), Some("u"));
    assert_eq!(events[0].record_key(), "s");
}

#[test]
fn every_refusal_has_its_code() {
    use RejectionCode::{Conflict, InactiveSession, NotFound, UnknownCommand};
    let mut row = SessionRow::default();
    assert_eq!(code(&mut row, &command(1, assign("t"))), Some(NotFound));
    assert_eq!(code(&mut row, &command(2, done("t"))), Some(NotFound));
    let unknown = SessionRequest::Unknown { command_type: "Archive".into() };
    assert_eq!(code(&mut row, &command(3, unknown)), Some(UnknownCommand));
    row.execute(&command(4, start()));
    let expecting = |number, version| SessionCommand {
        expected_version: Some(version),
        ..command(number, assign("t"))
    };
    assert_eq!(code(&mut row, &expecting(5, 0)), Some(Conflict));
    assert_eq!(code(&mut row, &expecting(6, 1)), None);
    assert_eq!(code(&mut row, &expecting(7, 1)), Some(Conflict), "the second of two");
    row.execute(&command(8, SessionRequest::CompleteSession { reason: None }));
    assert_eq!(code(&mut row, &command(9, assign("t2"))), Some(InactiveSession));
    let again = SessionRequest::CompleteSession { reason: None };
    assert_eq!(code(&mut row, &command(10, again)), Some(InactiveSession));
}

#[test]
fn a_start_if_absent_of_a_session_that_exists_is_accepted_and_changes_nothing() {
    let mut row = SessionRow::default();
    row.execute(&command(1, start()));
    let request = SessionRequest::StartSession {
        user_id: "another".into(),
        task_description: "d".into(),
        if_absent: true,
    };
    let (events, reply) = row.execute(&command(2, request));
    assert!(events.is_empty());
    let accepted = Reply::CommandAccepted {
        command_id: Uuid::from_u128(2),
        aggregate_id: "s".into(),
        version: 1,
    };
    assert_eq!(reply, accepted);
}

#[test]
fn a_repeated_command_gets_its_answer_again() {
    let mut row = SessionRow::default();
    let first = row.execute(&command(1, start()));
    let refused = row.execute(&command(2, start()));
    let before = row.clone();
    assert_eq!(row.execute(&command(1, start())), (vec![], first.1));
    assert_eq!(row.execute(&command(2, start())), refused);
    assert_eq!(row, before);
}

#[test]
fn a_session_ends_by_itself_with_its_last_task() {
    let mut row = SessionRow::default();
    row.execute(&command(1, start()));
    row.execute(&command(2, assign("a")));
    row.execute(&command(3, assign("b")));
    assert_eq!(end(&mut row, "a", TaskStatus::Failed), None);
    assert_eq!(end(&mut row, "a", TaskStatus::Completed), None, "it has ended already");
    let ended = end(&mut row, "b", TaskStatus::Completed).expect("the last one");
    assert_eq!((ended.event_type.as_str(), ended.metadata.sequence), ("SessionCompleted", Some(4)));
    assert_eq!(ended.event_data["outcome"], "failed");
    assert_eq!(end(&mut row, "b", TaskStatus::Completed), None);
}

#[test]
fn a_task_that_ended_before_it_was_assigned_has_ended() {
    let mut row = SessionRow::default();
    assert_eq!(end(&mut row, "a", TaskStatus::Completed), None);
    row.execute(&command(1, start()));
    row.execute(&command(2, assign("a")));
    let session = row.session.as_ref().expect("started");
    assert_eq!(session.active_tasks[0].ended, Some(TaskStatus::Completed));
    assert!(row.ended_early.is_empty());
}

#[test]
fn only_the_newest_answers_are_remembered() {
    let mut row = SessionRow::default();
    row.execute(&command(1, start()));
    for number in 2..200 {
        row.execute(&command(number, assign("t")));
    }
    assert_eq!(row.replies.commands().len(), REPLIES_MAX);
    assert_eq!(row.replies.commands().next_back(), Some(Uuid::from_u128(199)));
}

/// A session in the plainest terms.
#[derive(Default)]
struct Model {
    version: i64,
    active: bool,
    tasks: BTreeMap<String, bool>,
}

impl Model {
    /// The version after a command, or its refusal.
    fn execute(&mut self, request: &SessionRequest) -> Result<i64, RejectionCode> {
        let exists = self.version > 0;
        match request {
            SessionRequest::Unknown { .. } => return Err(RejectionCode::UnknownCommand),
            SessionRequest::StartSession { if_absent: true, .. } if exists => {
                return Ok(self.version);
            }
            SessionRequest::StartSession { .. } if exists => return Err(RejectionCode::Conflict),
            SessionRequest::StartSession { .. } => self.active = true,
            _ if !exists => return Err(RejectionCode::NotFound),
            _ if !self.active => return Err(RejectionCode::InactiveSession),
            SessionRequest::AssignTaskToAgent { task_id, .. } => {
                self.tasks.entry(task_id.clone()).or_insert(false);
            }
            SessionRequest::RecordWorkItemCompleted(done) => {
                if let Some(completed) = self.tasks.get_mut(&done.task_id) {
                    *completed = true;
                }
            }
            SessionRequest::CompleteSession { .. } => self.active = false,
        }
        self.version += 1;
        Ok(self.version)
    }
}

fn requests() -> impl Strategy<Value = SessionRequest> {
    let task = prop::sample::select(vec!["a", "b", "c"]);
    (0..12_u8, task).prop_map(|(kind, task)| match kind {
        0 => start(),
        1 => SessionRequest::StartSession {
            user_id: "u".into(),
            task_description: "d".into(),
            if_absent: true,
        },
        2 => SessionRequest::CompleteSession { reason: None },
        3 => SessionRequest::Unknown { command_type: "Archive".into() },
        4..=7 => assign(task),
        _ => done(task),
    })
}

proptest! {
    #[test]
    fn every_trace_of_commands_is_answered_as_a_plain_model_answers_it(
        trace in prop::collection::vec((requests(), 0..4_u8), 0..60),
    ) {
        let (mut row, mut model, mut events) = (SessionRow::default(), Model::default(), Vec::new());
        for (number, (request, repeats)) in (1_u128..).zip(trace) {
            let command = command(number, request);
            let (happened, reply) = row.execute(&command);
            events.extend(happened);
            let answer = match &reply {
                Reply::CommandAccepted { version, .. } => Ok(*version),
                Reply::CommandRejected { code, .. } => Err(*code),
            };
            prop_assert_eq!(answer, model.execute(&command.request));
            for _ in 0..repeats {
                prop_assert_eq!(row.execute(&command), (vec![], reply.clone()), "a repeat");
            }
        }
        let sequences: Vec<_> = events.iter().filter_map(|event| event.metadata.sequence).collect();
        prop_assert_eq!(sequences, (1..=model.version).collect::<Vec<_>>());
        if let Some(session) = &row.session {
            let tasks: BTreeMap<_, _> =
                session.active_tasks.iter().map(|t| (t.task_id.clone(), t.completed)).collect();
            prop_assert_eq!(tasks, model.tasks);
            prop_assert_eq!(session.is_active, model.active);
        }
    }
}

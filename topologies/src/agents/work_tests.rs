//! What external agents read and write, and what is made of rubbish.

use headwater_schemas::events::task::{Review, ReworkItem};
use headwater_schemas::events::work_item::{WorkItem, WorkResult};

use super::*;

fn at(ms: i64) -> EventTime {
    EventTime::from_millis(ms).expect("in range")
}

fn work(ask: Ask) -> Work {
    Work {
        step_id: Uuid::from_u128(1),
        session_id: "s".into(),
        correlation_id: Uuid::from_u128(2),
        user_id: None,
        taken_at: at(5),
        ask,
    }
}

fn item() -> WorkItem {
    WorkItem { id: "w".into(), description: "d".into(), kind: "testing".into(), prompt: None }
}

fn analyze() -> Work {
    work(Ask::Analyze(TaskAssigned {
        task_id: "t".into(),
        description: Some("d".into()),
        priority: None,
        assigned_to: None,
        agent_id: None,
        due_date: None,
        user_id: None,
        session_id: None,
    }))
}

fn execute() -> Work {
    work(Ask::Execute(WorkItemCreated {
        item: item(),
        task_id: "t".into(),
        session_id: "s".into(),
        attempt: 2,
    }))
}

fn review() -> Work {
    let results = Vec::new();
    let review = ReviewRequested { task_id: "t".into(), session_id: "s".into(), round: 1, results };
    work(Ask::Review(review))
}

fn read(work: &Work, text: &str) -> Result<Reply, AgentError> {
    work.read_reply(text.as_bytes(), 40, at(99))
}

fn rubbish(work: &Work, text: &str) -> String {
    match read(work, text) {
        Err(AgentError::Rubbish { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_agent_is_told_the_step_the_session_and_what_to_do() {
    let told: Value = serde_json::from_slice(&execute().to_json()).expect("json");
    assert_eq!((&told["ask"], &told["taskId"]), (&json!("execute"), &json!("t")));
    assert_eq!(told["item"]["id"], json!("w"));
    assert_eq!(told["stepId"], json!(Uuid::from_u128(1)));
    let told: Value = serde_json::from_slice(&analyze().to_json()).expect("json");
    assert_eq!(told["task"]["description"], json!("d"));
    let told: Value = serde_json::from_slice(&review().to_json()).expect("json");
    assert_eq!(told["review"]["round"], json!(1));
}

#[test]
fn an_analysis_is_work_items_and_a_duration() {
    let text = r#"{"workItems": [{"id": "w", "description": "d", "type": "testing"}],
                   "estimatedDuration": 60}"#;
    let expected = TaskAnalyzed {
        task_id: "t".into(),
        session_id: Some("s".into()),
        work_items: vec![item()],
        estimated_duration: 60,
    };
    assert_eq!(read(&analyze(), text), Ok(Reply::Analyzed(expected)));
}

#[test]
fn a_result_counts_as_success_and_takes_the_time_it_took_unless_the_agent_says_otherwise() {
    let completed = |text| match read(&execute(), text) {
        Ok(Reply::Completed(completed)) => completed,
        other => panic!("{other:?}"),
    };
    let done = completed(r#"{"output": "ok"}"#);
    assert_eq!(done.result, WorkResult { success: true, output: "ok".into() });
    assert_eq!((done.execution_time, done.attempt, done.completed_at), (40, 2, at(99)));
    let done = completed(r#"{"output": "no", "success": false, "executionTime": 7}"#);
    assert_eq!((done.result.success, done.execution_time), (false, 7));
}

#[test]
fn a_review_approves_or_names_what_to_do_again() {
    let reviewed = |text| match read(&review(), text) {
        Ok(Reply::Reviewed(reviewed)) => (reviewed.review, reviewed.round),
        other => panic!("{other:?}"),
    };
    let good = Review { approved: true, feedback: None, rework: vec![] };
    assert_eq!(reviewed(r#"{"approved": true}"#), (good, 1));
    let again = ReworkItem { work_item_id: "w".into(), prompt: Some("better".into()) };
    let bad = Review { approved: false, feedback: Some("no".into()), rework: vec![again] };
    let text = r#"{"approved": false, "feedback": "no",
                   "rework": [{"workItemId": "w", "prompt": "better"}]}"#;
    assert_eq!(reviewed(text), (bad, 1));
}

#[test]
fn an_agent_may_say_that_it_cannot() {
    let said = |retryable| AgentError::Reported { message: "no key".into(), retryable };
    assert_eq!(read(&execute(), r#"{"error": "no key"}"#), Err(said(true)));
    let text = r#"{"error": "no key", "retryable": false}"#;
    assert_eq!(read(&execute(), text), Err(said(false)));
}

#[test]
fn rubbish_is_named_by_its_places() {
    assert!(rubbish(&execute(), "Traceback (most recent call last)").contains("it is no JSON"));
    assert!(rubbish(&execute(), "[1]").contains("no JSON object"));
    assert!(rubbish(&execute(), "").contains("it is no JSON"));
    assert!(rubbish(&execute(), r#"{"answer": 42}"#).contains("$.result.output"));
    assert!(rubbish(&analyze(), r#"{"workItems": "none"}"#).contains("$.workItems"));
    assert!(rubbish(&review(), "{}").contains("$.review.approved"));
    let twice = r#"{"workItems": [{"id": "w", "description": "d", "type": "t"},
                                  {"id": "w", "description": "d", "type": "t"}]}"#;
    assert!(rubbish(&analyze(), twice).contains("workItems[1].id"));
    assert!(rubbish(&execute(), &"x".repeat(10_000)).len() < 600);
}

#[test]
fn work_survives_its_stored_form() {
    for work in [analyze(), execute(), review()] {
        let text = serde_json::to_string(&work).expect("json");
        assert_eq!(serde_json::from_str::<Work>(&text).expect("json"), work);
    }
}

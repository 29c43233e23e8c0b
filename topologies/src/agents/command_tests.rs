//! Programs as agents: what they say, and how they fail.

use std::time::Instant;

use headwater::time::SystemClock;

use super::*;

const LONG: Duration = Duration::from_secs(30);

fn ask(script: &str, limit: Duration) -> Result<Reply, AgentError> {
    let program = ["sh", "-c", script].map(str::to_owned).to_vec();
    CommandAgent { program, limit }.execute(&Work::example(), &SystemClock::new(), &|| false)
}

fn output(reply: Result<Reply, AgentError>) -> String {
    match reply {
        Ok(Reply::Completed(completed)) => completed.result.output,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_program_reads_its_work_and_answers_by_its_output() {
    let script = r#"grep -o '"id":"w"' | sed 's/"/./g; s/.*/{"output": "&"}/'"#;
    assert_eq!(output(ask(script, LONG)), ".id.:.w.");
}

#[test]
fn a_program_that_does_not_read_its_input_may_answer_all_the_same() {
    assert_eq!(output(ask(r#"exec <&-; echo '{"output": "x"}'"#, LONG)), "x");
}

#[test]
fn a_program_that_hangs_is_killed_with_all_it_started() {
    let began = Instant::now();
    let limit = Duration::from_millis(200);
    let found = ask("sleep 60 & sleep 60", limit);
    assert_eq!(found, Err(AgentError::TimedOut { limit_ms: 200 }));
    assert!(began.elapsed() < LONG, "the sleepers, which hold its output open, are gone");
}

#[test]
fn a_program_that_closes_its_output_and_goes_on_is_killed_too() {
    let limit = Duration::from_millis(200);
    let found = ask("exec >&-; sleep 60", limit);
    assert_eq!(found, Err(AgentError::TimedOut { limit_ms: 200 }));
}

#[test]
fn a_program_that_fails_is_quoted() {
    let found = ask("echo 'no key' >&2; exit 3", LONG);
    let Err(AgentError::Crashed { status, detail }) = found else { panic!("{found:?}") };
    assert_eq!((status.as_str(), detail.as_str()), ("exit status: 3", "no key"));
    let found = ask("kill -9 $$", LONG);
    assert!(matches!(found, Err(AgentError::Crashed { .. })), "{found:?}");
}

#[test]
fn a_program_that_answers_without_end_is_stopped_at_the_bound() {
    let found = ask("yes", LONG);
    assert_eq!(found, Err(AgentError::TooLarge { limit: ANSWER_BYTES_MAX }));
}

#[test]
fn a_program_that_answers_rubbish_is_an_error_of_its_own_kind() {
    for script in ["echo hello", "true", "echo '{\"output\": 7}'"] {
        let found = ask(script, LONG);
        assert!(matches!(found, Err(AgentError::Rubbish { .. })), "{script}: {found:?}");
    }
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let program = vec!["/no/such/agent".to_owned()];
    let agent = CommandAgent { program, limit: LONG };
    let found = agent.execute(&Work::example(), &SystemClock::new(), &|| false);
    let Err(AgentError::NotStarted { reason }) = found else { panic!("{found:?}") };
    assert!(reason.starts_with("/no/such/agent: "), "{reason}");
}

#[test]
fn a_program_is_stopped_when_nobody_waits_for_it() {
    let agent = CommandAgent { program: vec!["sleep".to_owned(), "60".to_owned()], limit: LONG };
    let began = Instant::now();
    let found = agent.execute(&Work::example(), &SystemClock::new(), &|| true);
    assert!(found.is_err() && began.elapsed() < LONG);
}

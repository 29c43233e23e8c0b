//! `slice BROKER STATE`: runs the application of the broker proofs until it is killed, with the
//! settings of the environment. Says `running` once all its tasks run, `tasks N` whenever the number
//! of running tasks has changed, and logs what it decides.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::thread::park_timeout;
use std::time::Duration;

use headwater::runtime::{Host, TaskState};
use headwater_tests::slice;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, broker, state] = &arguments[..] else { return fail("usage: slice BROKER STATE") };
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stdout).init();
    let variables: Vec<(String, String)> = std::env::vars().collect();
    let variables: Vec<_> = variables.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let host = match slice::start_with(broker, Path::new(state), &variables) {
        Ok(host) => host,
        Err(error) => return fail(&error.to_string()),
    };
    if let Err(error) = host.listen_to_signals() {
        return fail(&error.to_string());
    }
    watch(&host);
    match host.wait() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

/// Says what runs, until it is to stop.
fn watch(host: &Host) {
    let (mut ran, mut before) = (false, None);
    while !host.is_stopping() {
        if !ran && host.view().is_ready() {
            ran = true;
            say("running");
        }
        let board = host.view().applications[0].board();
        let tasks = board.tasks();
        let running = tasks.values().filter(|task| task.state == TaskState::Running).count();
        if running == tasks.len() && before.replace(running) != Some(running) {
            say(&format!("tasks {running}"));
        }
        park_timeout(Duration::from_millis(5));
    }
}

/// Nobody hears it any more when the test is gone.
fn say(line: &str) {
    drop(writeln!(std::io::stdout(), "{line}"));
}

fn fail(why: &str) -> ExitCode {
    say(&format!("failed: {why}"));
    ExitCode::FAILURE
}

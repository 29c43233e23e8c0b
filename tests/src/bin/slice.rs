//! `slice BROKER STATE`: runs the application of the broker proofs until it is killed. Says
//! `running` once all its tasks run, and logs what it decides.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::thread::park_timeout;
use std::time::Duration;

use headwater_tests::slice;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, broker, state] = &arguments[..] else { return fail("usage: slice BROKER STATE") };
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stdout).init();
    let host = match slice::start(broker, Path::new(state)) {
        Ok(host) => host,
        Err(error) => return fail(&error.to_string()),
    };
    while host.view().is_live() && !host.view().is_ready() {
        park_timeout(Duration::from_millis(5));
    }
    if host.view().is_live() && writeln!(std::io::stdout(), "running").is_err() {
        return ExitCode::FAILURE;
    }
    match host.wait() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(why: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "failed: {why}") {
        Ok(()) | Err(_) => ExitCode::FAILURE,
    }
}

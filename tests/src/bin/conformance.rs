//! `conformance FILE`: prints one scenario's answer as JSON. Exit status 2: the scenario uses
//! something that is not built; 1: it cannot be read or failed.

use std::io::Write;
use std::process::ExitCode;

use headwater_tests::conformance::{NoAnswer, answer};

fn main() -> ExitCode {
    let Some(file) = std::env::args().nth(1) else {
        return end(1, "usage: conformance FILE");
    };
    let scenario = std::fs::read(&file)
        .map_err(|e| e.to_string())
        .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|e| e.to_string()));
    let scenario = match scenario {
        Ok(scenario) => scenario,
        Err(error) => return end(1, &format!("{file}: {error}")),
    };
    match answer(&scenario) {
        Ok(answer) => match writeln!(std::io::stdout(), "{answer}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => end(1, &error.to_string()),
        },
        Err(NoAnswer::Unsupported(what)) => end(2, &format!("unsupported: {what}")),
        Err(NoAnswer::Failed(why)) => end(1, &why),
    }
}

fn end(status: u8, why: &str) -> ExitCode {
    // Nothing is left to do when stderr is gone too.
    writeln!(std::io::stderr(), "{why}").ok();
    ExitCode::from(status)
}

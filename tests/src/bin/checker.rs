//! Recomputes the analytics rollups from their input and compares outputs, dead letters and windows,
//! all read over HTTP from a process that has come to rest. Exit code 1 when anything differs.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use headwater_tests::checker::Findings;
use headwater_tests::checker::http::Http;
use headwater_tests::checker::rollup::compare_output;

/// What to compare.
#[derive(Debug, Parser)]
#[command(about = "Recomputes rollups from their input and compares everything told of them")]
struct Arguments {
    /// The process to read from.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// The topic the metrics came in.
    #[arg(long, default_value = "monitoring.events")]
    input: String,
    /// The topic of the rollups.
    #[arg(long, default_value = "analytics.aggregated")]
    output: String,
    /// The store of the windows.
    #[arg(long, default_value = "analytics-rollups")]
    store: String,
}

fn main() -> ExitCode {
    let (text, code) = match check(&Arguments::parse()) {
        Ok((summary, findings)) if findings.is_empty() => {
            (format!("{summary}\nno difference\n"), ExitCode::SUCCESS)
        }
        Ok((summary, findings)) => {
            (format!("{summary}\n{} differences:\n{findings}", findings.count()), ExitCode::FAILURE)
        }
        Err(error) => (format!("{error}\n"), ExitCode::from(2)),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => code,
        Err(_) => ExitCode::from(2),
    }
}

fn check(arguments: &Arguments) -> Result<(String, Findings), String> {
    let http = Http::new(&arguments.url);
    let input = http.topic(&arguments.input)?;
    let output = http.topic(&arguments.output)?;
    let letters = http.topic(&format!("{}.dlq", arguments.input)).unwrap_or_default();
    let (expected, mut findings) = compare_output(&input, &output);
    findings.extend(expected.compare_dead_letters(&letters));
    for key in expected.keys() {
        let shown = http.windows(&arguments.store, key)?;
        findings.extend(expected.compare_windows(key, &shown));
    }
    let summary = format!(
        "{} records: {} counted in {} windows, {} of other types, {} late, {} refused; {} outputs",
        input.len(),
        expected.counted,
        expected.window_count(),
        expected.others,
        expected.late.len(),
        expected.refused.len(),
        output.len(),
    );
    Ok((summary, findings))
}

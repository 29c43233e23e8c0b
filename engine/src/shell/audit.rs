//! `audit`: judges what the program's applications have written, and prints the verdict. Owns
//! nothing but the way there; what is judged is [`crate::audit`]'s.

use std::io::Write;
use std::time::Duration;

use super::options::{ReportFormat, Settings};
use super::{Program, ShellError, build, process};
use crate::audit::{Scope, audit};
use crate::runtime::OpenLog;
use crate::time::SystemClock;

/// An open transaction ends after its timeout and a round of the broker's own clean-up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Audits every application of the program, one report after the other.
pub(super) fn run(
    program: &Program,
    settings: &Settings,
    format: ReportFormat,
    out: &mut dyn Write,
) -> Result<(), ShellError> {
    let host = &settings.environment.host;
    let id = |application| process::application_id(program, application, settings);
    let ids = program.applications.iter().map(id).collect();
    let kafka = host.kafka.as_ref();
    let timeout = kafka.and_then(|kafka| kafka.transaction_timeout().ok().flatten());
    let opened = OpenLog::open(host, ids)?;
    let mut findings = 0;
    let mut done = Ok(());
    for application in &program.applications {
        let scope = Scope::of(&*build(application)?, &id(application), None);
        let patience = timeout.unwrap_or_default() + PATIENCE;
        match audit(opened.log(), &scope, &SystemClock::new(), patience) {
            Ok(report) => {
                findings += report.findings.len();
                match format {
                    ReportFormat::Text => write!(out, "{}", report.text())?,
                    ReportFormat::Json => writeln!(out, "{}", report.json())?,
                }
            }
            Err(error) => {
                done = Err(ShellError::Host(error.into()));
                break;
            }
        }
    }
    opened.close();
    done?;
    if findings == 0 { Ok(()) } else { Err(ShellError::Audit { findings }) }
}

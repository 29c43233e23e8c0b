//! An agent that is a program: one JSON document on its standard input, one on its standard output.
//!
//! Owns the process: its time limit, its end, and the bound on what it may say. It must not know
//! what is asked of it.
//!
//! * One process per piece of work, in a process group of its own. When its time is over, or nobody
//!   waits for it any more, the whole group is killed.
//! * It answers by its standard output and ends with status 0. At most [`ANSWER_BYTES_MAX`] bytes
//!   are read. The end of its standard error goes into the error, should there be one.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use headwater::actor::spawn::spawn_blocking;
use headwater::time::{Clock, saturating_ms};
use rustix::process::{Pid, Signal, kill_process_group};

use super::pool::answered_at;
use super::{Agent, AgentError, Reply, Work};

/// The longest answer, in bytes.
pub const ANSWER_BYTES_MAX: usize = 1_000_000;

/// How much of standard error is kept, in bytes.
const COMPLAINT_BYTES_MAX: usize = 2_000;

/// How often a running program is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// A program to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandAgent {
    /// The program and its arguments; no shell reads them.
    pub program: Vec<String>,
    /// How long it may take.
    pub limit: Duration,
}

impl Agent for CommandAgent {
    fn execute(
        &self,
        work: &Work,
        clock: &dyn Clock,
        withdrawn: &dyn Fn() -> bool,
    ) -> Result<Reply, AgentError> {
        let began = clock.now().monotonic;
        let said = self.run(&work.to_json(), clock, withdrawn)?;
        let took_ms = saturating_ms(clock.now().monotonic.saturating_sub(began));
        work.read_reply(&said, took_ms, answered_at(clock))
    }
}

/// What a program said, or that it said too much.
type Said = Result<Vec<u8>, AgentError>;

impl CommandAgent {
    fn run(
        &self,
        input: &[u8],
        clock: &dyn Clock,
        withdrawn: &dyn Fn() -> bool,
    ) -> Result<Vec<u8>, AgentError> {
        let not_started = |error: io::Error| AgentError::NotStarted {
            reason: format!("{}: {error}", self.program.first().map_or("", String::as_str)),
        };
        let (program, arguments) = self
            .program
            .split_first()
            .ok_or_else(|| AgentError::NotStarted { reason: "no program is named".to_owned() })?;
        let mut child = Group(
            Command::new(program)
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .process_group(0)
                .spawn()
                .map_err(not_started)?,
        );
        let (said, complained) = child.listen(input.to_vec()).map_err(not_started)?;
        let until = clock.now().monotonic + self.limit;
        let said = loop {
            match said.recv_timeout(LOOK) {
                Ok(said) => break said?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break Vec::new(),
            }
            if clock.now().monotonic >= until || withdrawn() {
                return Err(AgentError::TimedOut { limit_ms: self.limit.as_millis() });
            }
        };
        // It has closed its output; it may still run, but not longer than it may.
        let status = loop {
            if let Some(status) = child.0.try_wait().map_err(not_started)? {
                break status;
            }
            if clock.now().monotonic >= until || withdrawn() {
                return Err(AgentError::TimedOut { limit_ms: self.limit.as_millis() });
            }
            pause(LOOK);
        };
        if status.success() {
            return Ok(said);
        }
        let complained = complained.recv_timeout(LOOK).unwrap_or_default();
        let detail = super::work::shown(&complained);
        Err(AgentError::Crashed { status: status.to_string(), detail })
    }
}

/// A child and everything it started; dropped, all of it is killed and the child is reaped.
struct Group(Child);

impl Group {
    /// Begins to write its input and to read what it says: its answer, and its complaints.
    fn listen(&mut self, input: Vec<u8>) -> io::Result<(Receiver<Said>, Receiver<Vec<u8>>)> {
        let (stdin, stdout, stderr) =
            (self.0.stdin.take(), self.0.stdout.take(), self.0.stderr.take());
        let (answer, said) = mpsc::channel();
        let (complaint, complained) = mpsc::channel();
        if let Some(mut stdin) = stdin {
            // A program that does not read its input has its reasons.
            drop(spawn_blocking("agent-input", move || drop(stdin.write_all(&input)))?);
        }
        if let Some(stdout) = stdout {
            drop(spawn_blocking("agent-output", move || drop(answer.send(bounded(stdout))))?);
        }
        if let Some(stderr) = stderr {
            drop(spawn_blocking("agent-errors", move || drop(complaint.send(newest(stderr))))?);
        }
        Ok((said, complained))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let group = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group
            && let Err(error) = kill_process_group(group, Signal::KILL)
        {
            tracing::debug!(%error, "an agent's processes are gone already");
        }
        if let Err(error) = self.0.wait() {
            tracing::warn!(%error, "an agent's process cannot be reaped");
        }
    }
}

fn bounded(from: impl Read) -> Said {
    let limit = u64::try_from(ANSWER_BYTES_MAX).unwrap_or(u64::MAX);
    let mut said = Vec::new();
    match from.take(limit + 1).read_to_end(&mut said) {
        Ok(_) if said.len() > ANSWER_BYTES_MAX => {
            Err(AgentError::TooLarge { limit: ANSWER_BYTES_MAX })
        }
        Ok(_) => Ok(said),
        Err(error) => Err(AgentError::Rubbish { reason: format!("it cannot be read: {error}") }),
    }
}

/// The end of what is read, however much it is.
fn newest(mut from: impl Read) -> Vec<u8> {
    let (mut kept, mut buffer) = (Vec::new(), [0; 4_096]);
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..count]);
        let excess = kept.len().saturating_sub(COMPLAINT_BYTES_MAX);
        kept.drain(..excess);
    }
    kept
}

/// Lets the time pass: nobody ever sends.
fn pause(time: Duration) {
    let (_sender, receiver) = mpsc::channel::<()>();
    let ended = receiver.recv_timeout(time);
    debug_assert_eq!(ended, Err(RecvTimeoutError::Timeout));
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;

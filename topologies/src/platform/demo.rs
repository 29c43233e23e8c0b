//! The demonstration: tasks into a running platform over HTTP, a line of progress each second, and a
//! summary read back over HTTP, whose numbers have to agree.
//!
//! Owns the load and what is shown. It must not reach into the process: all it knows comes over
//! HTTP, on the embedded log and on Kafka alike.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use headwater::time::Clock;
use serde_json::{Value, json};

use super::failures::Failures;
use crate::client::{Client, ClientError, pause};

/// How long nothing is sent when nothing is due.
const PAUSE: Duration = Duration::from_millis(10);

/// How long the summary waits until every task has ended and every view has caught up.
const REST_MAX: Duration = Duration::from_secs(120);

/// What the demonstration does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Tells tasks of one demonstration from those of others.
    pub seed: u64,
    /// Tasks per second.
    pub rate: u32,
    /// When to end; `None`: when told to.
    pub seconds: Option<u64>,
}

/// Why the demonstration cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The process does not answer as it should.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The progress cannot be written.
    #[error("progress cannot be written")]
    Output(#[from] std::io::Error),
    /// The numbers do not add up.
    #[error("the numbers do not agree: {0}")]
    Disagreement(String),
}

/// The demonstration against one process.
pub struct Demo<'d> {
    client: Client,
    clock: &'d dyn Clock,
    pace: Pace,
    /// Begins the names of this demonstration's sessions.
    prefix: String,
}

impl std::fmt::Debug for Demo<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Demo").field("client", &self.client).field("pace", &self.pace).finish()
    }
}

/// What the workflows of this demonstration come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sagas {
    by_state: BTreeMap<String, u64>,
    items: u64,
    /// Tries of items beyond the first of each.
    again: u64,
    reworked: u64,
    passed: u64,
    refused: u64,
}

impl Sagas {
    fn count(&self, state: &str) -> u64 {
        self.by_state.get(state).copied().unwrap_or(0)
    }

    fn ended(&self) -> u64 {
        self.count("COMPLETED") + self.count("FAILED")
    }
}

/// What the sessions of this demonstration come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sessions {
    by_status: BTreeMap<String, u64>,
    tasks: BTreeMap<String, u64>,
    /// Executions that the rollups counted.
    executions: u64,
    rollups: u64,
}

impl<'d> Demo<'d> {
    /// A demonstration against the process at `base`, such as `http://127.0.0.1:8080`.
    pub fn new(base: &str, clock: &'d dyn Clock, pace: Pace) -> Self {
        let prefix = format!("demo-{}-{}", pace.seed, clock.now().wall_ms);
        Self { client: Client::new(base), clock, pace, prefix }
    }

    /// Sends tasks until the time is over, then tells the summary; ends without one when the process
    /// is ending, as `is_stopping` tells.
    ///
    /// # Errors
    /// The process does not answer or refuses, `out` cannot be written, or the numbers disagree.
    pub fn run(
        &self,
        out: &mut dyn Write,
        is_stopping: &dyn Fn() -> bool,
    ) -> Result<(), DemoError> {
        self.client.wait_until_ready(self.clock, is_stopping)?;
        self.introduce(out)?;
        let began = self.clock.now().monotonic;
        let (mut sent, mut shown) = (0, 0);
        loop {
            let elapsed = self.clock.now().monotonic.saturating_sub(began);
            if self.pace.seconds.is_some_and(|seconds| elapsed.as_secs() >= seconds) {
                break;
            }
            if is_stopping() {
                return Ok(());
            }
            let due = u128::from(self.pace.rate) * elapsed.as_millis() / 1_000;
            if u128::from(sent) < due {
                self.client.post("/tasks", &self.task(sent))?;
                sent += 1;
            } else {
                pause(PAUSE);
            }
            if elapsed.as_secs() > shown {
                shown = elapsed.as_secs();
                progress(out, shown, sent, &self.sagas()?)?;
            }
        }
        self.rest(sent, out, is_stopping)?;
        self.summary(out, sent)
    }

    /// Each task has a session of its own: one that has ended takes no more, and a session ends with
    /// the last task it knows of.
    fn task(&self, number: u64) -> Value {
        let session = format!("{}-{:06}", self.prefix, number);
        json!({
            "id": format!("task-{number:06}"), "sessionId": session,
            "userId": format!("user-{}", number % 7), "priority": "high",
            "description": format!("task {number} of the demonstration"),
        })
    }

    fn introduce(&self, out: &mut dyn Write) -> Result<(), DemoError> {
        let (base, rate, prefix) = (self.client.base(), self.pace.rate, &self.prefix);
        writeln!(out, "{rate} tasks a second, in sessions {prefix}-...")?;
        writeln!(out, "  workflows     {base}/sagas?state=EXECUTING   {base}/sagas/task-000000")?;
        writeln!(out, "  sessions      {base}/sessions/{prefix}-000000")?;
        writeln!(out, "  rollups       {base}/analytics?key={prefix}-000000")?;
        writeln!(out, "  failures      {base}/retries   {base}/dlq")?;
        writeln!(out, "  what runs     {base}/apps   {base}/apps/agent-workflow/tasks")?;
        Ok(out.flush()?)
    }

    /// Every page of a listing.
    fn pages(&self, path: &str, mut see: impl FnMut(&Value)) -> Result<(), ClientError> {
        let mut cursor = String::new();
        loop {
            let page = self.client.get_json(&format!("{path}limit=1000{cursor}"))?;
            page["items"].as_array().into_iter().flatten().for_each(&mut see);
            match page["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(()),
            }
        }
    }

    fn sagas(&self) -> Result<Sagas, ClientError> {
        let mut sagas = Sagas::default();
        self.pages("/sagas?", |saga| {
            let session = saga["sessionId"].as_str().unwrap_or_default();
            if !session.starts_with(&self.prefix) {
                return;
            }
            let state = saga["state"].as_str().unwrap_or_default().to_owned();
            *sagas.by_state.entry(state).or_default() += 1;
            sagas.reworked += saga["reworkRound"].as_u64().unwrap_or(0);
            for item in saga["workItems"].as_object().into_iter().flat_map(|items| items.values()) {
                sagas.items += 1;
                sagas.again += item["attempt"].as_u64().unwrap_or(0).saturating_sub(1);
                let gates = item["gates"].as_object().into_iter().flat_map(|gates| gates.values());
                for verdict in gates {
                    let count =
                        if verdict == true { &mut sagas.passed } else { &mut sagas.refused };
                    *count += 1;
                }
            }
        })?;
        Ok(sagas)
    }

    fn sessions(&self) -> Result<Sessions, ClientError> {
        let mut sessions = Sessions::default();
        let mut ids = Vec::new();
        self.pages("/sessions?", |session| {
            let id = session["sessionId"].as_str().unwrap_or_default();
            if !id.starts_with(&self.prefix) {
                return;
            }
            ids.push(id.to_owned());
            let status = session["status"].as_str().unwrap_or_default().to_owned();
            *sessions.by_status.entry(status).or_default() += 1;
            for task in session["activeTasks"].as_array().into_iter().flatten() {
                let status = task["status"].as_str().unwrap_or_default().to_owned();
                *sessions.tasks.entry(status).or_default() += 1;
            }
        })?;
        for id in ids {
            let rolled = self.client.get_json(&format!("/analytics?key={id}"))?;
            sessions.executions += rolled["total"]["count"].as_u64().unwrap_or(0);
            sessions.rollups += rolled["windows"]
                .as_array()
                .map_or(0, |windows| u64::try_from(windows.len()).unwrap_or(u64::MAX));
        }
        Ok(sessions)
    }

    fn failures(&self) -> Result<Failures, ClientError> {
        let mut failures = Failures::default();
        let rows = self.client.get_json("/retries")?;
        rows["items"].as_array().into_iter().flatten().for_each(|row| failures.tried(row));
        let mut queues = Vec::new();
        self.pages("/dlq?", |row| {
            failures.queue(row);
            queues.extend(row["queue"].as_str().map(str::to_owned));
        })?;
        for queue in queues {
            self.pages(&format!("/dlq/{queue}?"), |row| failures.letter(row))?;
        }
        Ok(failures)
    }

    /// Waits until every task has ended and its session says so too, or as long as one may.
    fn rest(
        &self,
        sent: u64,
        out: &mut dyn Write,
        is_stopping: &dyn Fn() -> bool,
    ) -> Result<(), DemoError> {
        writeln!(out, "waiting until every task has ended")?;
        out.flush()?;
        let until = self.clock.now().monotonic + REST_MAX;
        while self.clock.now().monotonic < until && !is_stopping() {
            let sagas = self.sagas()?;
            if sagas.ended() == sent
                && disagreements(sent, &sagas, &self.sessions()?).is_empty()
                && self.failures()?.disagreements().is_empty()
            {
                break;
            }
            pause(PAUSE * 20);
        }
        Ok(())
    }

    fn summary(&self, out: &mut dyn Write, sent: u64) -> Result<(), DemoError> {
        let (sagas, sessions) = (self.sagas()?, self.sessions()?);
        let failures = self.failures()?;
        let listed = |counts: &BTreeMap<String, u64>| {
            let parts: Vec<_> = counts.iter().map(|(name, n)| format!("{name} {n}")).collect();
            parts.join(", ")
        };
        writeln!(out, "\nsummary, read back over HTTP:")?;
        writeln!(out, "  tasks sent       {sent:>8}")?;
        writeln!(
            out,
            "  workflows        {:>8}   {}",
            sagas.by_state.values().sum::<u64>(),
            listed(&sagas.by_state)
        )?;
        writeln!(
            out,
            "  work items       {:>8}   {} tried again, {} rounds of rework",
            sagas.items, sagas.again, sagas.reworked
        )?;
        writeln!(
            out,
            "  gate verdicts    {:>8}   {} passed, {} refused, of the last round",
            sagas.passed + sagas.refused,
            sagas.passed,
            sagas.refused
        )?;
        writeln!(
            out,
            "  sessions         {:>8}   {}",
            sessions.by_status.values().sum::<u64>(),
            listed(&sessions.by_status)
        )?;
        writeln!(
            out,
            "  their tasks      {:>8}   {}",
            sessions.tasks.values().sum::<u64>(),
            listed(&sessions.tasks)
        )?;
        writeln!(
            out,
            "  rollups          {:>8}   {} executions counted in them",
            sessions.rollups, sessions.executions
        )?;
        for line in failures.lines(self.client.base()) {
            writeln!(out, "{line}")?;
        }
        let mut wrong = disagreements(sent, &sagas, &sessions);
        wrong.extend(failures.disagreements());
        if wrong.is_empty() {
            let (completed, failed) = (sagas.count("COMPLETED"), sagas.count("FAILED"));
            writeln!(out, "  each task has one outcome: {completed} + {failed} = {sent}")?;
            return Ok(out.flush()?);
        }
        out.flush()?;
        Err(DemoError::Disagreement(wrong.join("; ")))
    }
}

/// Where the numbers of tasks, workflows and sessions contradict each other.
fn disagreements(sent: u64, sagas: &Sagas, sessions: &Sessions) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut same = |what: &str, found: u64, expected: u64| {
        if found != expected {
            wrong.push(format!("{what}: {found}, expected {expected}"));
        }
    };
    let task = |status: &str| sessions.tasks.get(status).copied().unwrap_or(0);
    same("workflows", sagas.by_state.values().sum(), sent);
    same("workflows that ended", sagas.ended(), sent);
    same("tasks of sessions", sessions.tasks.values().sum(), sent);
    same("tasks that completed", task("completed"), sagas.count("COMPLETED"));
    same("tasks that failed", task("failed"), sagas.count("FAILED"));
    same("sessions", sessions.by_status.values().sum(), sent);
    wrong
}

fn progress(out: &mut dyn Write, second: u64, sent: u64, sagas: &Sagas) -> Result<(), DemoError> {
    let open = sent.saturating_sub(sagas.ended());
    let (completed, failed) = (sagas.count("COMPLETED"), sagas.count("FAILED"));
    writeln!(
        out,
        "{second:>5} s  sent {sent:>6}  under way {open:>5}  completed {completed:>6}  failed \
         {failed:>5}  items tried again {:>5}",
        sagas.again
    )?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
        counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn numbers_that_contradict_each_other_are_named() {
        let sagas =
            Sagas { by_state: counts(&[("COMPLETED", 3), ("FAILED", 1)]), ..Sagas::default() };
        let sessions = Sessions {
            by_status: counts(&[("completed", 3), ("failed", 1)]),
            tasks: counts(&[("completed", 3), ("failed", 1)]),
            ..Sessions::default()
        };
        assert!(disagreements(4, &sagas, &sessions).is_empty());
        let lost = disagreements(5, &sagas, &sessions);
        assert_eq!(lost.len(), 4, "{lost:?}");
        let tasks = counts(&[("completed", 4)]);
        let wrong = disagreements(4, &sagas, &Sessions { tasks, ..sessions });
        assert_eq!(
            wrong,
            ["tasks that completed: 4, expected 3", "tasks that failed: 0, expected 1"]
        );
    }
}

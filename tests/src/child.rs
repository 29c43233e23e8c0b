//! Child processes that tests watch and crash. A child dies with the test process, however that
//! ends (return, panic, kill -9): a small shell beside it waits for the end of a pipe that only the
//! test holds. This module knows no server; those who start one say what to run.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Runs the command that follows, prints its process id first, ends as it ends. When standard input
/// ends, the watcher kills the command and deletes the scratch folder.
const GUARD: &str = r#"
scratch=$1; shift
exec 3<&0 2>/dev/null
sh -c 'echo $$; exec "$@"' sh "$@" 3<&- </dev/null 2>&1 &
pid=$!
( while read -r _; do :; done
  trap '' TERM
  kill -KILL "$pid"
  [ -z "$scratch" ] || { while kill -0 "$pid"; do sleep 0.05; done; rm -rf "$scratch"; }
) <&3 >/dev/null &
guard=$!
exec 3<&- </dev/null
wait "$pid"
status=$?
kill "$guard"
exit "$status"
"#;

/// What a child has printed so far, standard output and error together.
#[derive(Debug, Default)]
struct Log {
    lines: Mutex<Lines>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    all: Vec<String>,
    ended: bool,
}

/// A running child process; dropped, it is killed.
#[derive(Debug)]
pub struct Child {
    name: String,
    guard: std::process::Child,
    /// Its end tells the guard that the test is gone. Held apart, for `wait` would close it early.
    pipe: Option<ChildStdin>,
    pid: u32,
    log: Arc<Log>,
    read: usize,
}

impl Child {
    /// Starts `command`; `name` stands for it in messages.
    ///
    /// # Panics
    /// When the command cannot be started.
    #[must_use]
    pub fn start(name: &str, command: &Command) -> Self {
        Self::start_with_scratch(name, command, None)
    }

    /// Starts `command`, and deletes `scratch` when the test process ends while the child runs.
    ///
    /// # Panics
    /// When the command cannot be started.
    #[must_use]
    pub fn start_with_scratch(name: &str, command: &Command, scratch: Option<&Path>) -> Self {
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "sh"]).arg(scratch.unwrap_or(Path::new("")));
        guard.arg(command.get_program()).args(command.get_args());
        for (variable, value) in command.get_envs() {
            match value {
                Some(value) => guard.env(variable, value),
                None => guard.env_remove(variable),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            guard.current_dir(folder);
        }
        let mut guard = guard
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let mut output = BufReader::new(guard.stdout.take().expect("standard output is a pipe"));
        let mut first = String::new();
        output.read_line(&mut first).expect("the guard prints a process id");
        let pid = first.trim().parse().unwrap_or_else(|_| panic!("no process id of {name}"));
        let log = Arc::new(Log::default());
        let filled = Arc::clone(&log);
        let kept = kept_log(name, pid);
        std::thread::spawn(move || filled.fill(output, kept));
        let pipe = guard.stdin.take();
        Self { name: name.to_owned(), guard, pipe, pid, log, read: 0 }
    }

    /// The process id of the child itself.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for a line, after those already waited for, that `wanted` accepts, and returns it.
    ///
    /// # Panics
    /// With the end of the child's log, when it ends or `within` passes before such a line.
    pub fn wait_for_line(&mut self, within: Duration, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + within;
        let mut lines = self.log.lines.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            while let Some(line) = lines.all.get(self.read) {
                self.read += 1;
                if wanted(line) {
                    return line.clone();
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let why = match (lines.ended, left.is_zero()) {
                (true, _) => "ended",
                (_, true) => "ran out of time",
                _ => {
                    let waited = self.log.grown.wait_timeout(lines, left);
                    lines = waited.unwrap_or_else(PoisonError::into_inner).0;
                    continue;
                }
            };
            let log = tail(&lines.all);
            drop(lines);
            panic!("{} {why} before the expected line; its log ends:\n{log}", self.name);
        }
    }

    /// The lines that were printed and not yet waited for; they count as waited for then.
    pub fn new_lines(&mut self) -> Vec<String> {
        let lines = self.log.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let new = lines.all[self.read..].to_vec();
        self.read = lines.all.len();
        new
    }

    /// The last lines that the child printed.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tail(&self.log.lines.lock().unwrap_or_else(PoisonError::into_inner).all)
    }

    /// Whether the child has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.guard.try_wait(), Ok(Some(_)))
    }

    /// kill -9, and waits until the child is gone.
    pub fn kill(mut self) {
        signal(self.pid, "KILL");
        self.reap();
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Panics
    /// With the end of the child's log, when it still runs after `within`.
    pub fn terminate(mut self, within: Duration) -> ExitStatus {
        signal(self.pid, "TERM");
        self.wait(within)
    }

    /// Waits for the child to end by itself. A child ended by a signal has the status 128 + signal.
    ///
    /// # Panics
    /// With the end of the child's log, when it still runs after `within`.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        let mut lines = self.log.lines.lock().unwrap_or_else(PoisonError::into_inner);
        while !lines.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let log = tail(&lines.all);
                drop(lines);
                panic!("{} did not end in time; its log ends:\n{log}", self.name);
            }
            let waited = self.log.grown.wait_timeout(lines, left);
            lines = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(lines);
        self.reap()
    }

    fn reap(&mut self) -> ExitStatus {
        let status = self.guard.wait().expect("the guard can be waited for");
        self.pipe = None;
        status
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.has_ended() {
            signal(self.pid, "KILL");
            self.reap();
        }
    }
}

impl Log {
    fn fill(&self, output: impl BufRead, mut kept: Option<File>) {
        for line in output.lines() {
            let Ok(line) = line else { break };
            if let Some(kept) = &mut kept {
                writeln!(kept, "{line}").expect("the folder for logs takes them");
            }
            self.lines.lock().unwrap_or_else(PoisonError::into_inner).all.push(line);
            self.grown.notify_all();
        }
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.grown.notify_all();
    }
}

/// Where all that a child says is kept for whoever looks for a fault: in `HEADWATER_TEST_LOGS`.
fn kept_log(name: &str, pid: u32) -> Option<File> {
    let folder = std::env::var_os("HEADWATER_TEST_LOGS")?;
    let path = Path::new(&folder).join(format!("{}-{pid}.log", name.replace(' ', "-")));
    Some(File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

fn tail(lines: &[String]) -> String {
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// Sends a signal by name (`TERM`, `KILL`, `STOP`, `CONT`) to a process that this test started.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .stderr(Stdio::null())
        .status();
    // A process that has just ended takes no signal: that is no failure of the test.
    drop(sent);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Child::start("shell", &command)
    }

    #[test]
    fn a_line_is_waited_for_and_the_status_is_the_childs() {
        let mut child = shell("echo one; echo two >&2; exit 3");
        assert_eq!(child.wait_for_line(SOON, |line| line == "two"), "two");
        assert_eq!(child.wait(SOON).code(), Some(3));
    }

    #[test]
    fn a_killed_child_is_gone() {
        let mut child = shell("echo up; exec sleep 60");
        child.wait_for_line(SOON, |line| line == "up");
        let pid = child.pid();
        child.kill();
        let alive = Command::new("kill").args(["-0", &pid.to_string()]).output();
        assert!(!alive.expect("kill runs").status.success());
    }

    #[test]
    fn a_child_that_hears_sigterm_ends_in_order() {
        let mut child = shell("trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done");
        child.wait_for_line(SOON, |line| line == "up");
        assert_eq!(child.terminate(SOON).code(), Some(7));
    }

    #[test]
    #[should_panic(expected = "ended before the expected line")]
    fn a_line_that_never_comes_is_a_failure_with_the_log() {
        shell("echo something else").wait_for_line(SOON, |line| line == "up");
    }

    #[test]
    fn scratch_is_deleted_when_the_pipe_closes() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let scratch = folder.path().join("data");
        std::fs::create_dir(&scratch).expect("created");
        let mut command = Command::new("sh");
        command.args(["-c", "echo up; exec sleep 60"]);
        let mut child = Child::start_with_scratch("shell", &command, Some(&scratch));
        child.wait_for_line(SOON, |line| line == "up");
        drop(child.pipe.take()); // What the end of the test process does.
        assert_eq!(child.wait(SOON).code(), Some(128 + 9));
        let deadline = Instant::now() + SOON;
        while scratch.exists() {
            assert!(Instant::now() < deadline, "the scratch folder is still there");
            std::thread::yield_now();
        }
    }
}

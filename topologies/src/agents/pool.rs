//! Agents that take their time, each piece of work on a thread of its own for as long as it takes.
//!
//! Owns the threads, the bound on how much is done at a time, and what was answered lately. It must
//! not know how an agent is reached.
//!
//! A step is executed once for as long as its answer is remembered; the newest
//! 4,096 answers that somebody has seen are. After a restart nothing is remembered: work
//! that was under way begins again, under the same step id.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use headwater::actor::spawn::spawn_blocking;
use headwater::time::{Clock, saturating_ms};
use headwater_schemas::envelope::EventTime;
use uuid::Uuid;

use super::{AgentError, Agents, Outcome, Reply, Work};

/// Answers that are remembered after they were seen.
const ANSWERS_MAX: usize = 4_096;

/// Pieces of work that wait for a thread, at most; more are refused.
const WAITING_MAX: usize = 10_000;

/// An agent that is asked and answers, however long that takes.
pub trait Agent: Send + Sync {
    /// Does the work. May block; ends early when `withdrawn` says that nobody waits any more.
    ///
    /// # Errors
    /// Any [`AgentError`]; the workflow decides whether there is another try.
    fn execute(
        &self,
        work: &Work,
        clock: &dyn Clock,
        withdrawn: &dyn Fn() -> bool,
    ) -> Result<Reply, AgentError>;
}

/// Threads that work for one [`Agent`]. Dropped, it ends what is under way.
pub struct Pool {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("steps", &self.shared.desk().steps.len()).finish()
    }
}

struct Shared {
    desk: Mutex<Desk>,
    news: Condvar,
}

/// What is known of every step.
#[derive(Default)]
struct Desk {
    steps: BTreeMap<Uuid, Step>,
    queue: VecDeque<Work>,
    /// Answered steps that were seen, oldest first.
    seen: VecDeque<Uuid>,
    is_closed: bool,
}

enum Step {
    Waiting,
    Running(Arc<AtomicBool>),
    Answered { outcome: Outcome, is_seen: bool },
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    /// So many pieces of work at a time.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn start(agent: Arc<dyn Agent>, threads: usize, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let shared = Arc::new(Shared { desk: Mutex::default(), news: Condvar::new() });
        for number in 0..threads.max(1) {
            let (shared, agent, clock) =
                (Arc::clone(&shared), Arc::clone(&agent), Arc::clone(&clock));
            // Nobody joins it: it ends when the pool is dropped, after the work it is at.
            drop(spawn_blocking(&format!("agent-{number}"), move || {
                serve(&shared, &*agent, &*clock)
            })?);
        }
        Ok(Self { shared })
    }
}

impl Agents for Pool {
    fn ask(&self, work: &Work, _now_ms: i64) -> Option<Outcome> {
        let mut desk = self.shared.desk();
        let Desk { steps, queue, seen, .. } = &mut *desk;
        match steps.get_mut(&work.step_id) {
            None => {
                steps.insert(work.step_id, Step::Waiting);
                queue.push_back(work.clone());
                self.shared.news.notify_one();
                None
            }
            Some(Step::Waiting | Step::Running(_)) => None,
            Some(Step::Answered { outcome, is_seen }) => {
                let outcome = outcome.clone();
                if !std::mem::replace(is_seen, true) {
                    seen.push_back(work.step_id);
                    if seen.len() > ANSWERS_MAX {
                        seen.pop_front().and_then(|oldest| steps.remove(&oldest));
                    }
                }
                Some(outcome)
            }
        }
    }

    fn admit(&self, work: &Work, _waited_ms: i64) -> Result<(), AgentError> {
        let desk = self.shared.desk();
        let waiting = desk.queue.len();
        if waiting < WAITING_MAX || desk.steps.contains_key(&work.step_id) {
            return Ok(());
        }
        Err(AgentError::Busy { waiting })
    }

    fn withdraw(&self, step_id: Uuid) {
        let mut desk = self.shared.desk();
        match desk.steps.get(&step_id) {
            Some(Step::Running(withdrawn)) => withdrawn.store(true, Ordering::Relaxed),
            Some(Step::Waiting) => {
                desk.queue.retain(|work| work.step_id != step_id);
                desk.steps.remove(&step_id);
            }
            Some(Step::Answered { is_seen: true, .. }) | None => {}
            Some(Step::Answered { is_seen: false, .. }) => drop(desk.steps.remove(&step_id)),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut desk = self.shared.desk();
        desk.is_closed = true;
        desk.queue.clear();
        for step in desk.steps.values() {
            if let Step::Running(withdrawn) = step {
                withdrawn.store(true, Ordering::Relaxed);
            }
        }
        drop(desk);
        self.shared.news.notify_all();
    }
}

/// One thread: takes work until the pool is closed.
fn serve(shared: &Shared, agent: &dyn Agent, clock: &dyn Clock) {
    while let Some((work, withdrawn)) = next(shared) {
        let began = clock.now().monotonic;
        let gone = || withdrawn.load(Ordering::Relaxed);
        let reply = agent.execute(&work, clock, &gone);
        let took_ms = saturating_ms(clock.now().monotonic.saturating_sub(began));
        let outcome = Outcome { reply, took_ms };
        let mut desk = shared.desk();
        if gone() {
            desk.steps.remove(&work.step_id);
        } else {
            desk.steps.insert(work.step_id, Step::Answered { outcome, is_seen: false });
        }
    }
}

fn next(shared: &Shared) -> Option<(Work, Arc<AtomicBool>)> {
    let mut desk = shared.desk();
    loop {
        if desk.is_closed {
            return None;
        }
        if let Some(work) = desk.queue.pop_front() {
            let withdrawn = Arc::new(AtomicBool::new(false));
            desk.steps.insert(work.step_id, Step::Running(Arc::clone(&withdrawn)));
            return Some((work, withdrawn));
        }
        desk = shared.news.wait(desk).unwrap_or_else(PoisonError::into_inner);
    }
}

/// The time of an answer.
pub(super) fn answered_at(clock: &dyn Clock) -> EventTime {
    EventTime::from_millis(clock.now().wall_ms.max(0)).unwrap_or(EventTime::MAX)
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;

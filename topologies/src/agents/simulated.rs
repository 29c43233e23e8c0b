//! Agents that only pretend: their delays, answers, failures and rejections are drawn from a seed
//! and the step id, so that one seed gives one story, whoever asks and however often.
//!
//! Owns the draws. It must not know who asks. Needs no thread: the clock tells when an answer is
//! there.

use headwater_schemas::envelope::EventTime;
use headwater_schemas::events::task::{Review, ReworkItem};
use headwater_schemas::events::work_item::{WorkItem, WorkResult};
use headwater_schemas::events::{TaskAnalyzed, TaskReviewed, WorkItemCompleted};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use uuid::Uuid;

use super::{AgentError, Agents, Ask, Outcome, Reply, Work};

/// How long an agent that is busy takes no work, in milliseconds.
const BUSY_MS: i64 = 1_500;

/// Sets the draw of who takes work apart from that of what becomes of it.
const ADMISSION: u128 = 1 << 127;

/// What simulated agents do. Shares are in thousandths of all pieces of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// Of all draws.
    pub seed: u64,
    /// The shortest time an agent works, in milliseconds.
    pub fastest_ms: i64,
    /// The longest.
    pub slowest_ms: i64,
    /// Work that fails, and may be tried again.
    pub failures: u32,
    /// Work that fails for good.
    pub fatal: u32,
    /// Work that is never answered.
    pub hangs: u32,
    /// Work that is not taken at once, but a while later.
    pub busy: u32,
    /// Work that is never taken, though it always looks as if it might be.
    pub unwilling: u32,
    /// Reviews that send results back.
    pub rejections: u32,
    /// Results that say of themselves that they are no success, for a gate to refuse.
    pub poor: u32,
    /// Items that a task has at most.
    pub items: u32,
}

impl Default for Behaviour {
    /// Quick agents with a fault here and there.
    fn default() -> Self {
        Self {
            seed: 1,
            fastest_ms: 5,
            slowest_ms: 200,
            failures: 40,
            fatal: 5,
            hangs: 5,
            busy: 20,
            unwilling: 0,
            rejections: 60,
            poor: 20,
            items: 4,
        }
    }
}

impl Behaviour {
    /// Agents that always do what is asked, at once.
    pub fn flawless(seed: u64) -> Self {
        Self {
            seed,
            fastest_ms: 0,
            slowest_ms: 0,
            failures: 0,
            fatal: 0,
            hangs: 0,
            busy: 0,
            unwilling: 0,
            rejections: 0,
            poor: 0,
            items: 4,
        }
    }
}

/// Simulated agents.
#[derive(Clone, Copy, Debug)]
pub struct Simulated(pub Behaviour);

impl Agents for Simulated {
    fn ask(&self, work: &Work, now_ms: i64) -> Option<Outcome> {
        let (outcome, ends_at) = self.plan(work)?;
        (ends_at <= now_ms).then_some(outcome)
    }

    fn admit(&self, work: &Work, waited_ms: i64) -> Result<(), AgentError> {
        let mut rng = self.rng(Uuid::from_u128(work.step_id.as_u128() ^ ADMISSION));
        let draw = rng.random_range(0..1_000);
        let Behaviour { busy, unwilling, .. } = self.0;
        if draw < unwilling || draw < unwilling + busy && waited_ms < BUSY_MS {
            return Err(AgentError::Busy { waiting: 1 });
        }
        Ok(())
    }

    fn withdraw(&self, _step_id: Uuid) {}
}

/// What a draw comes to.
enum Fate {
    Good,
    Fails { retryable: bool },
    Hangs,
}

impl Simulated {
    /// How this work ends, and when; `None`: never.
    fn plan(&self, work: &Work) -> Option<(Outcome, i64)> {
        let mut rng = self.rng(work.step_id);
        let slowest = self.0.slowest_ms.max(self.0.fastest_ms);
        let took_ms = rng.random_range(self.0.fastest_ms..=slowest);
        let reply = match self.fate(&mut rng) {
            Fate::Hangs => return None,
            Fate::Fails { retryable } => {
                Err(AgentError::Reported { message: "a simulated failure".to_owned(), retryable })
            }
            Fate::Good => Ok(self.reply(work, took_ms, &mut rng)),
        };
        let ends_at = work.taken_at.as_millis().saturating_add(took_ms);
        Some((Outcome { reply, took_ms }, ends_at))
    }

    fn rng(&self, step_id: Uuid) -> ChaCha8Rng {
        let mut seed = [0; 32];
        seed[..16].copy_from_slice(step_id.as_bytes());
        seed[16..24].copy_from_slice(&self.0.seed.to_be_bytes());
        ChaCha8Rng::from_seed(seed)
    }

    fn fate(&self, rng: &mut ChaCha8Rng) -> Fate {
        let Behaviour { failures, fatal, hangs, .. } = self.0;
        let draw = rng.random_range(0..1_000);
        if draw < failures {
            Fate::Fails { retryable: true }
        } else if draw < failures + fatal {
            Fate::Fails { retryable: false }
        } else if draw < failures + fatal + hangs {
            Fate::Hangs
        } else {
            Fate::Good
        }
    }

    fn reply(&self, work: &Work, took_ms: i64, rng: &mut ChaCha8Rng) -> Reply {
        let (task_id, session_id) = (work.task_id().to_owned(), work.session_id.clone());
        match &work.ask {
            Ask::Analyze(_) => {
                let count = rng.random_range(0..=self.0.items);
                let item = |number: u32| WorkItem {
                    id: format!("{task_id}-{number}"),
                    description: format!("part {number} of {task_id}"),
                    kind: if number.is_multiple_of(3) { "testing" } else { "implementation" }
                        .to_owned(),
                    prompt: None,
                };
                let work_items = (1..=count).map(item).collect();
                let estimated_duration = rng.random_range(60..7_200);
                let session_id = Some(session_id);
                Reply::Analyzed(TaskAnalyzed {
                    task_id,
                    session_id,
                    work_items,
                    estimated_duration,
                })
            }
            Ask::Execute(item) => {
                let success = rng.random_range(0..1_000) >= self.0.poor;
                let completed_at = work.taken_at.as_millis().saturating_add(took_ms);
                let output = format!("{} is done, by try {}", item.item.description, item.attempt);
                Reply::Completed(WorkItemCompleted {
                    work_item_id: item.item.id.clone(),
                    task_id,
                    session_id,
                    result: WorkResult { success, output },
                    completed_at: EventTime::from_millis(completed_at).unwrap_or(EventTime::MAX),
                    execution_time: took_ms,
                    kind: None,
                    attempt: item.attempt,
                })
            }
            Ask::Review(review) => {
                let rejected = rng.random_range(0..1_000) < self.0.rejections;
                let again = review.results.first().filter(|_| rejected).map(|item| ReworkItem {
                    work_item_id: item.work_item_id.clone(),
                    prompt: Some("do it better".to_owned()),
                });
                let feedback = rejected.then(|| "not good enough".to_owned());
                let rework = Vec::from_iter(again);
                let review_of = Review { approved: !rejected, feedback, rework };
                let round = review.round;
                Reply::Reviewed(TaskReviewed { task_id, session_id, review: review_of, round })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use headwater_schemas::events::WorkItemCreated;

    use super::*;

    fn work(step: u128) -> Work {
        let item = WorkItem {
            id: "w".into(),
            description: "d".into(),
            kind: "testing".into(),
            prompt: None,
        };
        let (task_id, session_id) = ("t".to_owned(), "s".to_owned());
        let ask = Ask::Execute(WorkItemCreated { item, task_id, session_id, attempt: 1 });
        Work {
            step_id: Uuid::from_u128(step),
            session_id: "s".into(),
            correlation_id: Uuid::from_u128(0),
            user_id: None,
            taken_at: EventTime::from_millis(1_000).expect("in range"),
            ask,
        }
    }

    #[test]
    fn an_answer_is_there_when_its_time_has_come_and_stays_the_same() {
        let agents =
            Simulated(Behaviour { fastest_ms: 50, slowest_ms: 50, ..Behaviour::flawless(3) });
        assert_eq!(agents.ask(&work(1), 1_049), None);
        let answer = agents.ask(&work(1), 1_050);
        assert!(answer.as_ref().is_some_and(|outcome| outcome.reply.is_ok()));
        assert_eq!(agents.ask(&work(1), 99_999), answer);
    }

    #[test]
    fn work_that_a_busy_agent_refuses_it_takes_later_and_an_unwilling_one_never() {
        let agents = Simulated(Behaviour { busy: 200, unwilling: 100, ..Behaviour::flawless(1) });
        let refused = |waited_ms| {
            (0..4_000).filter(|step| agents.admit(&work(*step), waited_ms).is_err()).count()
        };
        assert!((1_080..1_320).contains(&refused(BUSY_MS - 1)), "{}", refused(0));
        assert!((320..480).contains(&refused(BUSY_MS)), "{}", refused(BUSY_MS));
        assert_eq!(refused(BUSY_MS), refused(i64::MAX));
    }

    #[test]
    fn shares_are_kept_and_another_seed_is_another_story() {
        let told = |seed| {
            let behaviour =
                Behaviour { seed, failures: 200, fatal: 100, hangs: 50, ..Behaviour::default() };
            (0..4_000)
                .map(|step| match Simulated(behaviour).ask(&work(step), i64::MAX) {
                    None => "hangs",
                    Some(Outcome { reply: Ok(_), .. }) => "good",
                    Some(Outcome { reply: Err(error), .. }) if error.is_retryable() => "fails",
                    Some(_) => "fatal",
                })
                .collect::<Vec<_>>()
        };
        let first = told(1);
        assert_eq!(first, told(1));
        assert_ne!(first, told(2));
        let mut counts = BTreeMap::new();
        first.iter().for_each(|fate| *counts.entry(*fate).or_insert(0) += 1);
        for (fate, expected) in [("fails", 800), ("fatal", 400), ("hangs", 200), ("good", 2_600)] {
            let found: i32 = counts[fate];
            assert!((found - expected).abs() < expected / 4, "{fate}: {found}, not {expected}");
        }
    }
}

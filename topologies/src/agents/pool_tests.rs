//! The pool: once a step, bounded, withdrawn.

use std::sync::mpsc::{self, Receiver, Sender};

use headwater::time::SystemClock;

use super::*;

/// Tells what it is asked, and answers when it is told to.
struct Scripted {
    asked: Mutex<Sender<Uuid>>,
    answers: Mutex<Receiver<&'static str>>,
}

impl Agent for Scripted {
    fn execute(
        &self,
        work: &Work,
        _: &dyn Clock,
        withdrawn: &dyn Fn() -> bool,
    ) -> Result<Reply, AgentError> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.send(work.step_id).expect("the test listens");
        drop(asked);
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        match answers.recv() {
            Ok(_) if withdrawn() => Err(AgentError::TimedOut { limit_ms: 0 }),
            Ok(output) => {
                let said = format!("{{\"output\": \"{output}\"}}");
                work.read_reply(said.as_bytes(), 0, EventTime::MAX)
            }
            Err(_) => Err(AgentError::TimedOut { limit_ms: 0 }),
        }
    }
}

struct Bench {
    pool: Pool,
    asked: Receiver<Uuid>,
    answer: Sender<&'static str>,
}

fn bench() -> Bench {
    let (tell, asked) = mpsc::channel();
    let (answer, answers) = mpsc::channel();
    let agent = Arc::new(Scripted { asked: Mutex::new(tell), answers: Mutex::new(answers) });
    let pool = Pool::start(agent, 1, Arc::new(SystemClock::new())).expect("a thread");
    Bench { pool, asked, answer }
}

impl Bench {
    /// The answer to a step, however often one has to look.
    fn outcome(&self, step: u128) -> Outcome {
        loop {
            if let Some(outcome) = self.pool.ask(&work(step), 0) {
                return outcome;
            }
            std::thread::yield_now();
        }
    }
}

fn work(step: u128) -> Work {
    Work { step_id: Uuid::from_u128(step), ..Work::example() }
}

fn output(outcome: &Outcome) -> &str {
    match &outcome.reply {
        Ok(Reply::Completed(completed)) => &completed.result.output,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_step_is_executed_once_however_often_it_is_asked_for() {
    let bench = bench();
    for _ in 0..5 {
        assert_eq!(bench.pool.ask(&work(1), 0), None);
    }
    assert_eq!(bench.asked.recv(), Ok(Uuid::from_u128(1)));
    bench.answer.send("once").expect("it waits");
    assert_eq!(output(&bench.outcome(1)), "once");
    assert_eq!(output(&bench.outcome(1)), "once", "also after it was seen");
    bench.pool.ask(&work(2), 0);
    assert_eq!(bench.asked.recv(), Ok(Uuid::from_u128(2)), "nothing was executed in between");
    bench.answer.send("second").expect("it waits");
}

#[test]
fn work_that_is_withdrawn_before_its_turn_is_never_begun() {
    let bench = bench();
    for step in 1..=3 {
        bench.pool.ask(&work(step), 0);
    }
    assert_eq!(bench.asked.recv(), Ok(Uuid::from_u128(1)));
    bench.pool.withdraw(Uuid::from_u128(2));
    bench.answer.send("first").expect("it waits");
    assert_eq!(bench.asked.recv(), Ok(Uuid::from_u128(3)));
    bench.answer.send("third").expect("it waits");
    assert_eq!(output(&bench.outcome(3)), "third");
}

#[test]
fn the_answer_to_work_that_was_withdrawn_under_way_is_thrown_away() {
    let bench = bench();
    bench.pool.ask(&work(1), 0);
    assert_eq!(bench.asked.recv(), Ok(Uuid::from_u128(1)));
    bench.pool.withdraw(Uuid::from_u128(1));
    bench.answer.send("too late").expect("it waits");
    bench.pool.ask(&work(2), 0);
    assert_eq!(bench.asked.recv(), Ok(Uuid::from_u128(2)), "the thread is free again");
    bench.answer.send("second").expect("it waits");
    assert_eq!(output(&bench.outcome(2)), "second");
    assert!(!bench.pool.shared.desk().steps.contains_key(&Uuid::from_u128(1)));
}

#[test]
fn answers_that_were_seen_are_forgotten_oldest_first() {
    let bench = bench();
    let count = u128::try_from(ANSWERS_MAX).expect("small") + 2;
    for step in 1..=count {
        bench.pool.ask(&work(step), 0);
        bench.answer.send("done").expect("it waits");
        bench.outcome(step);
    }
    let desk = bench.pool.shared.desk();
    assert_eq!(desk.steps.len(), ANSWERS_MAX);
    assert!(!desk.steps.contains_key(&Uuid::from_u128(2)));
    assert!(desk.steps.contains_key(&Uuid::from_u128(3)));
}

#[test]
fn a_pool_in_which_too_much_waits_refuses_more_until_there_is_room() {
    let bench = bench();
    let first = u128::try_from(WAITING_MAX).expect("few");
    for step in 0..=first {
        assert_eq!(bench.pool.admit(&work(step), 0), Ok(()));
        assert_eq!(bench.pool.ask(&work(step), 0), None);
        if step == 0 {
            bench.asked.recv().expect("it is at work");
        }
    }
    let refused = bench.pool.admit(&work(first + 1), 0).expect_err("it is full");
    assert_eq!(refused, AgentError::Busy { waiting: WAITING_MAX });
    assert!(refused.is_retryable());
    assert_eq!(bench.pool.admit(&work(first), 0), Ok(()), "it is known already");
    bench.pool.withdraw(Uuid::from_u128(first));
    assert_eq!(bench.pool.admit(&work(first + 1), 0), Ok(()));
}

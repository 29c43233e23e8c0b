//! The machine against scripted steps, and against random traces.

use std::collections::BTreeSet;

use headwater_schemas::envelope::EventTime;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

/// What a script's steps take.
#[derive(Clone, Debug)]
enum Input {
    Done(&'static str),
    Retry(&'static str),
    Fail(&'static str),
    Back(&'static str),
    Undone(&'static str),
    NotUndone(&'static str),
}

/// A step that emits what it does, and does what it is told.
struct Scripted {
    name: &'static str,
    attempts: u32,
    /// Whether undoing waits for a reply.
    undo_waits: bool,
}

impl Step<Vec<String>, Input, String> for Scripted {
    fn name(&self) -> &'static str {
        self.name
    }

    fn timeout_ms(&self) -> Option<i64> {
        Some(100)
    }

    fn attempts(&self) -> u32 {
        self.attempts
    }

    fn enter(&self, _: &mut Vec<String>, effects: &mut Effects<'_, String>) -> Verdict {
        effects.emit(format!("do {}", self.name));
        Verdict::Wait
    }

    fn reply(&self, data: &mut Vec<String>, input: &Input, _: &mut Effects<'_, String>) -> Verdict {
        match *input {
            Input::Done(name) if name == self.name => {
                data.push(name.to_owned());
                Verdict::Done
            }
            Input::Retry(name) if name == self.name => Verdict::Retry("again".to_owned()),
            Input::Fail(name) if name == self.name => Verdict::Fail("broken".to_owned()),
            Input::Back(name) => Verdict::Back(name),
            _ => Verdict::Ignored,
        }
    }

    fn abandon(&self, _: &mut Vec<String>, effects: &mut Effects<'_, String>) {
        effects.emit(format!("abandon {}", self.name));
    }

    fn compensate(&self, _: &mut Vec<String>, effects: &mut Effects<'_, String>) -> Verdict {
        effects.emit(format!("undo {}", self.name));
        if self.undo_waits { Verdict::Wait } else { Verdict::Done }
    }

    fn compensated(&self, _: &mut Vec<String>, input: &Input) -> Verdict {
        match *input {
            Input::Undone(name) if name == self.name => Verdict::Done,
            Input::NotUndone(name) if name == self.name => Verdict::Fail(format!("stuck {name}")),
            _ => Verdict::Ignored,
        }
    }
}

type Saga = Definition<Vec<String>, Input, String>;

fn definition(undo_waits: bool) -> Saga {
    let step = |name, attempts| -> Box<dyn Step<Vec<String>, Input, String>> {
        Box::new(Scripted { name, attempts, undo_waits })
    };
    Definition::new(
        "test",
        vec![step("a", 1), step("b", 3), step("c", 2)],
        Timing::default(),
        |record| vec![format!("ended {:?}", record.state)],
    )
}

fn at(ms: i64) -> EventTime {
    EventTime::from_millis(ms).expect("in range")
}

fn start(saga: &Saga) -> (SagaRecord<Vec<String>>, Vec<String>) {
    let id = Uuid::from_u128(7);
    let (record, reaction) = saga.start("s", id, id, Vec::new(), at(0));
    (record, texts(&reaction))
}

fn texts(reaction: &Reaction<String>) -> Vec<String> {
    reaction.emitted.iter().map(|emission| emission.output.clone()).collect()
}

#[test]
fn steps_follow_each_other_and_the_last_one_completes_the_saga() {
    let saga = definition(false);
    let (mut record, emitted) = start(&saga);
    assert_eq!(emitted, ["do a"]);
    assert_eq!(texts(&saga.reply(&mut record, &Input::Done("a"), at(10))), ["do b"]);
    assert_eq!(texts(&saga.reply(&mut record, &Input::Done("b"), at(20))), ["do c"]);
    let last = saga.reply(&mut record, &Input::Done("c"), at(30));
    assert_eq!(texts(&last), ["ended Completed"]);
    assert_eq!(record.completed_steps, ["a", "b", "c"]);
    assert_eq!((record.state, record.deadline), (SagaState::Completed, None));
    assert_eq!(last.due, Some(at(30 + 86_400_000)), "kept a day");
}

#[test]
fn a_failure_undoes_completed_steps_newest_first_and_not_the_one_that_failed() {
    let saga = definition(false);
    let (mut record, _) = start(&saga);
    saga.reply(&mut record, &Input::Done("a"), at(1));
    saga.reply(&mut record, &Input::Done("b"), at(2));
    let failed = saga.reply(&mut record, &Input::Fail("c"), at(3));
    assert_eq!(texts(&failed), ["abandon c", "undo b", "undo a", "ended Failed"]);
    assert_eq!(record.error.as_deref(), Some("broken"));
    assert_eq!(record.state, SagaState::Failed);
}

#[test]
fn a_compensation_that_fails_or_hangs_is_recorded_and_the_rest_goes_on() {
    let saga = definition(true);
    let (mut record, _) = start(&saga);
    saga.reply(&mut record, &Input::Done("a"), at(1));
    saga.reply(&mut record, &Input::Done("b"), at(2));
    let failed = saga.reply(&mut record, &Input::Fail("c"), at(3));
    assert_eq!(texts(&failed), ["abandon c", "undo b"]);
    assert_eq!(failed.due, Some(at(60_003)));
    saga.reply(&mut record, &Input::Undone("a"), at(4));
    assert_eq!((record.ignored, record.current_step.as_str()), (1, "b"), "not its turn");
    let next = saga.reply(&mut record, &Input::NotUndone("b"), at(5));
    assert_eq!(texts(&next), ["undo a"]);
    let (record, reaction) = saga.tick(record, at(60_005));
    let record = record.expect("kept");
    assert_eq!(texts(&reaction), ["ended Failed"]);
    assert_eq!(record.compensation_errors, ["stuck b", "undoing a timed out"]);
}

#[test]
fn a_retry_waits_for_its_backoff_and_attempts_are_used_up() {
    let saga = definition(false);
    let (mut record, _) = start(&saga);
    saga.reply(&mut record, &Input::Done("a"), at(0));
    let waiting = saga.reply(&mut record, &Input::Retry("b"), at(10));
    assert_eq!((texts(&waiting), waiting.due), (vec![], Some(at(1_010))));
    let (record, early) = saga.tick(record, at(1_009));
    assert_eq!((texts(&early), early.due), (vec![], Some(at(1_010))));
    let (record, again) = saga.tick(record.expect("kept"), at(1_010));
    assert_eq!(texts(&again), ["do b"]);
    // The second try hangs; the third fails, and there is no fourth.
    let (record, hung) = saga.tick(record.expect("kept"), at(1_110));
    assert_eq!((texts(&hung), hung.due), (vec![], Some(at(3_110))), "backoff doubled");
    let (record, third) = saga.tick(record.expect("kept"), at(3_110));
    assert_eq!(texts(&third), ["do b"]);
    let mut record = record.expect("kept");
    assert_eq!(record.attempt, 3);
    let failed = saga.reply(&mut record, &Input::Retry("b"), at(3_120));
    assert_eq!(texts(&failed), ["abandon b", "undo a", "ended Failed"]);
}

#[test]
fn a_reply_that_comes_while_waiting_for_a_retry_still_counts() {
    let saga = definition(false);
    let (mut record, _) = start(&saga);
    saga.reply(&mut record, &Input::Done("a"), at(0));
    saga.reply(&mut record, &Input::Retry("b"), at(10));
    let late = saga.reply(&mut record, &Input::Done("b"), at(20));
    assert_eq!(texts(&late), ["do c"]);
    assert_eq!((record.retry_at, record.attempt), (None, 1));
}

#[test]
fn a_completed_saga_that_is_revoked_undoes_every_step_newest_first_and_any_other_stays() {
    let saga = definition(false);
    let (mut record, _) = start(&saga);
    let running = record.clone();
    assert!(texts(&saga.revoke(&mut record, "unwanted".to_owned(), at(0))).is_empty());
    assert_eq!(record, running);
    for (ms, step) in (1..).zip(["a", "b", "c"]) {
        saga.reply(&mut record, &Input::Done(step), at(ms));
    }
    let revoked = saga.revoke(&mut record, "unwanted".to_owned(), at(9));
    assert_eq!(texts(&revoked), ["undo c", "undo b", "undo a", "ended Failed"]);
    assert_eq!(record.error.as_deref(), Some("unwanted"));
    assert_eq!((record.state, revoked.due), (SagaState::Failed, Some(at(86_400_009))));
    assert!(texts(&saga.revoke(&mut record, "again".to_owned(), at(10))).is_empty());
}

#[test]
fn going_back_forgets_the_steps_after_it() {
    let saga = definition(false);
    let (mut record, _) = start(&saga);
    saga.reply(&mut record, &Input::Done("a"), at(0));
    saga.reply(&mut record, &Input::Done("b"), at(0));
    let back = saga.reply(&mut record, &Input::Back("b"), at(5));
    assert_eq!(texts(&back), ["do b"]);
    assert_eq!(
        (record.completed_steps, record.current_step),
        (vec!["a".to_owned()], "b".to_owned())
    );
}

#[test]
fn late_and_foreign_inputs_are_counted_and_change_nothing_else() {
    let saga = definition(false);
    let (mut record, _) = start(&saga);
    let before = record.clone();
    saga.reply(&mut record, &Input::Done("c"), at(0));
    assert_eq!(record, SagaRecord { ignored: 1, ..before });
    saga.reply(&mut record, &Input::Fail("a"), at(1));
    let ended = record.clone();
    let late = saga.reply(&mut record, &Input::Done("a"), at(1));
    assert!(late.emitted.is_empty());
    assert_eq!(record, SagaRecord { ignored: 2, ..ended });
}

#[test]
fn a_finished_saga_is_deleted_when_its_retention_is_over() {
    let saga = definition(false);
    let (mut record, _) = start(&saga);
    saga.reply(&mut record, &Input::Fail("a"), at(5));
    let (kept, reaction) = saga.tick(record, at(86_400_004));
    assert_eq!(reaction.due, Some(at(86_400_005)));
    let (deleted, reaction) = saga.tick(kept.expect("kept"), at(86_400_005));
    assert_eq!((deleted, reaction.due), (None, None));
}

#[test]
#[should_panic(expected = "two steps named a")]
fn two_steps_of_one_name_are_a_mistake() {
    let step = |name| -> Box<dyn Step<Vec<String>, Input, String>> {
        Box::new(Scripted { name, attempts: 1, undo_waits: false })
    };
    let _saga: Saga =
        Definition::new("test", vec![step("a"), step("a")], Timing::default(), |_| vec![]);
}

#[test]
fn backoff_doubles_up_to_its_bound() {
    let timing = Timing::default();
    let waits: Vec<i64> = (1..=8).map(|attempt| timing.backoff(attempt)).collect();
    assert_eq!(waits, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
    assert_eq!(timing.backoff(u32::MAX), 60_000);
}

fn inputs() -> impl Strategy<Value = (u16, Option<Input>)> {
    let name = prop::sample::select(vec!["a", "b", "c"]);
    let input = (0..8_u8, name).prop_map(|(kind, name)| match kind {
        0 | 1 => Some(Input::Done(name)),
        2 => Some(Input::Retry(name)),
        3 => Some(Input::Fail(name)),
        4 => Some(Input::Back("b")),
        5 => Some(Input::Undone(name)),
        6 => Some(Input::NotUndone(name)),
        _ => None,
    });
    (0..200_u16, input)
}

proptest! {
    #[test]
    fn every_trace_ends_what_was_done_is_undone_and_no_name_repeats(
        waits in any::<bool>(),
        trace in prop::collection::vec(inputs(), 0..60),
    ) {
        let saga = definition(waits);
        let (mut record, _) = start(&saga);
        let mut names = BTreeSet::new();
        let mut ends = 0;
        let mut now = 0;
        let mut see = |reaction: &Reaction<String>, state: SagaState| -> Result<(), TestCaseError> {
            for emission in &reaction.emitted {
                prop_assert!(names.insert(emission.step_id.clone()), "{} again", emission.step_id);
                ends += u32::from(emission.output.starts_with("ended"));
            }
            prop_assert_eq!(ends, u32::from(state.is_final()), "ends once");
            prop_assert!(reaction.due.is_some(), "nothing waits for ever");
            Ok(())
        };
        for (wait, input) in trace {
            now += i64::from(wait);
            let reaction = match input {
                Some(input) => saga.reply(&mut record, &input, at(now)),
                None => {
                    let (kept, reaction) = saga.tick(record.clone(), at(now));
                    record = kept.expect("a day has not passed");
                    reaction
                }
            };
            see(&reaction, record.state)?;
        }
        // Without another input, timers alone bring it to an end.
        for _ in 0..40 {
            if record.state.is_final() {
                break;
            }
            let due = saga.due(&record).expect("nothing waits for ever");
            now = now.max(due.as_millis());
            let (kept, reaction) = saga.tick(record, at(now));
            record = kept.expect("a day has not passed");
            see(&reaction, record.state)?;
        }
        prop_assert!(record.state.is_final());
        if record.state == SagaState::Failed {
            prop_assert!(record.completed_steps.is_empty(), "all is undone");
            prop_assert!(record.error.is_some());
        }
    }
}

//! One saga's moves: from a record and an input to the next record and what is emitted.
//!
//! Owns attempts, deadlines and the order of compensation. It must not know what a step does.

use headwater_schemas::envelope::EventTime;
use uuid::Uuid;

use super::record::{SagaRecord, SagaState, Timing};

/// What a step says of a reply, or of the passing of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is not for this step, or came twice. Counted.
    Ignored,
    /// Taken; more is to come.
    Wait,
    /// The step is done.
    Done,
    /// The step is done, and so is the whole saga: what follows is not needed.
    Finished,
    /// This try failed; another may help.
    Retry(String),
    /// The saga cannot go on.
    Fail(String),
    /// Go back to the step of this name, which is entered anew.
    Back(&'static str),
}

/// One step of a saga with data `D`, inputs `I` and outputs `O`.
pub trait Step<D, I, O>: Send + Sync {
    /// Its name, of its own within the saga.
    fn name(&self) -> &'static str;

    /// How long one attempt may take, in milliseconds; `None` when its parts have deadlines of
    /// their own (see [`Step::due`]).
    fn timeout_ms(&self) -> Option<i64>;

    /// How many attempts there are.
    fn attempts(&self) -> u32 {
        1
    }

    /// Begins the step, or begins it again. [`Verdict::Done`] when there is nothing to wait for.
    fn enter(&self, data: &mut D, effects: &mut Effects<'_, O>) -> Verdict;

    /// An input that belongs to this saga has come.
    fn reply(&self, data: &mut D, input: &I, effects: &mut Effects<'_, O>) -> Verdict;

    /// The next time at which [`Step::tick`] wants to be asked, for deadlines of parts of a step.
    fn due(&self, _data: &D) -> Option<EventTime> {
        None
    }

    /// The time [`Step::due`] named has come.
    fn tick(&self, _data: &mut D, _effects: &mut Effects<'_, O>) -> Verdict {
        Verdict::Wait
    }

    /// The step failed for good while it was under way: cleans up what it began.
    fn abandon(&self, _data: &mut D, _effects: &mut Effects<'_, O>) {}

    /// Undoes the step after it was done. [`Verdict::Wait`] when a reply says how that went.
    fn compensate(&self, _data: &mut D, _effects: &mut Effects<'_, O>) -> Verdict {
        Verdict::Done
    }

    /// An input has come while this step is being undone.
    fn compensated(&self, _data: &mut D, _input: &I) -> Verdict {
        Verdict::Ignored
    }
}

/// Something to be emitted, with a name that is the same whenever the same input is processed.
#[derive(Clone, Debug, PartialEq)]
pub struct Emission<O> {
    /// `<saga>:<step>:<attempt>:<number>`: services use it as an idempotency key.
    pub step_id: String,
    /// What.
    pub output: O,
}

/// The id of what a step emits: the same whenever the step is taken again. `cause` is what began
/// the saga.
pub fn emission_id(cause: Uuid, step_id: &str) -> Uuid {
    Uuid::new_v5(&cause, step_id.as_bytes())
}

/// What a step may do: look at the time, and emit.
#[derive(Debug)]
pub struct Effects<'e, O> {
    now: EventTime,
    attempt: u32,
    cause: Uuid,
    step_id: String,
    emitted: &'e mut Vec<Emission<O>>,
    number: &'e mut u64,
}

impl<O> Effects<'_, O> {
    /// The time of the input.
    pub fn now(&self) -> EventTime {
        self.now
    }

    /// Which attempt at the step this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Emits `output` after what was emitted before: the id that it gets ([`emission_id`]).
    pub fn emit(&mut self, output: O) -> Uuid {
        let step_id = format!("{}:{}", self.step_id, self.number);
        *self.number += 1;
        let id = emission_id(self.cause, &step_id);
        self.emitted.push(Emission { step_id, output });
        id
    }
}

/// What an input led to.
#[derive(Clone, Debug, PartialEq)]
pub struct Reaction<O> {
    /// In the order it is to be emitted.
    pub emitted: Vec<Emission<O>>,
    /// When [`Definition::tick`] is to be called next; `None` never.
    pub due: Option<EventTime>,
}

/// A saga's steps and timing.
pub struct Definition<D, I, O> {
    name: &'static str,
    steps: Vec<Box<dyn Step<D, I, O>>>,
    timing: Timing,
    ended: fn(&SagaRecord<D>) -> Vec<O>,
}

impl<D, I, O> std::fmt::Debug for Definition<D, I, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let steps: Vec<_> = self.steps.iter().map(|step| step.name()).collect();
        f.debug_struct("Definition").field("name", &self.name).field("steps", &steps).finish()
    }
}

/// Why a saga moves to its next state.
enum Move {
    Stay,
    Next,
    Finish,
    Retry(String),
    Fail(String),
    Back(&'static str),
}

impl<D, I, O> Definition<D, I, O> {
    /// A saga of these steps, in order. `ended` says what is emitted when one reaches a final state.
    ///
    /// # Panics
    /// Without steps, or when two have one name: a mistake of the program.
    pub fn new(
        name: &'static str,
        steps: Vec<Box<dyn Step<D, I, O>>>,
        timing: Timing,
        ended: fn(&SagaRecord<D>) -> Vec<O>,
    ) -> Self {
        assert!(!steps.is_empty(), "saga {name} needs a step");
        for (position, step) in steps.iter().enumerate() {
            let earlier = &steps[..position];
            assert!(
                earlier.iter().all(|other| other.name() != step.name()),
                "saga {name} has two steps named {}",
                step.name()
            );
        }
        Self { name, steps, timing, ended }
    }

    /// Begins a saga.
    pub fn start(
        &self,
        saga_id: &str,
        correlation_id: Uuid,
        cause: Uuid,
        data: D,
        now: EventTime,
    ) -> (SagaRecord<D>, Reaction<O>) {
        let mut record = SagaRecord {
            saga_id: saga_id.to_owned(),
            saga_name: self.name.to_owned(),
            state: SagaState::Running,
            current_step: self.steps[0].name().to_owned(),
            completed_steps: Vec::new(),
            attempt: 1,
            emissions: 0,
            deadline: None,
            retry_at: None,
            error: None,
            compensation_errors: Vec::new(),
            ignored: 0,
            started_at: now,
            updated_at: now,
            correlation_id,
            cause,
            data,
        };
        let mut emitted = Vec::new();
        self.enter(&mut record, 0, now, &mut emitted);
        let due = self.due(&record);
        (record, Reaction { emitted, due })
    }

    /// Takes an input. One that comes after the end is counted and changes nothing else.
    pub fn reply(&self, record: &mut SagaRecord<D>, input: &I, now: EventTime) -> Reaction<O> {
        let mut emitted = Vec::new();
        let step = self.position(&record.current_step);
        match record.state {
            SagaState::Running => {
                let verdict = self.with_step(record, step, now, &mut emitted, |step, data, fx| {
                    step.reply(data, input, fx)
                });
                self.take(record, step, verdict, now, &mut emitted);
            }
            SagaState::Compensating => {
                match self.steps[step].compensated(&mut record.data, input) {
                    Verdict::Ignored => record.ignored += 1,
                    Verdict::Wait => {}
                    Verdict::Retry(error) | Verdict::Fail(error) => {
                        self.undone(record, Some(error), now, &mut emitted);
                    }
                    Verdict::Done | Verdict::Finished | Verdict::Back(_) => {
                        self.undone(record, None, now, &mut emitted);
                    }
                }
            }
            SagaState::Completed | SagaState::Failed => record.ignored += 1,
        }
        record.updated_at = record.updated_at.max(now);
        Reaction { emitted, due: self.due(record) }
    }

    /// Undoes a saga that has completed, as if it had failed in the end: what it did is no longer
    /// wanted. Any other saga stays as it is.
    pub fn revoke(&self, record: &mut SagaRecord<D>, error: String, now: EventTime) -> Reaction<O> {
        let mut emitted = Vec::new();
        if record.is_completed() {
            record.error = Some(error);
            record.state = SagaState::Compensating;
            record.updated_at = record.updated_at.max(now);
            self.undo_next(record, now, &mut emitted);
        }
        Reaction { emitted, due: self.due(record) }
    }

    /// Time has passed. `None` for the record: the saga's retention is over, delete it.
    pub fn tick(
        &self,
        mut record: SagaRecord<D>,
        now: EventTime,
    ) -> (Option<SagaRecord<D>>, Reaction<O>) {
        let mut emitted = Vec::new();
        let due = |time: Option<EventTime>| time.is_some_and(|time| time <= now);
        let step = self.position(&record.current_step);
        match record.state {
            SagaState::Running if due(record.retry_at) => {
                record.attempt += 1;
                self.enter(&mut record, step, now, &mut emitted);
            }
            SagaState::Running if due(record.deadline) => {
                let error = format!("{} timed out", record.current_step);
                self.take(&mut record, step, Verdict::Retry(error), now, &mut emitted);
            }
            SagaState::Running
                if record.retry_at.is_none() && due(self.steps[step].due(&record.data)) =>
            {
                let verdict =
                    self.with_step(&mut record, step, now, &mut emitted, |step, data, fx| {
                        step.tick(data, fx)
                    });
                self.take(&mut record, step, verdict, now, &mut emitted);
            }
            SagaState::Compensating if due(record.deadline) => {
                let error = format!("undoing {} timed out", record.current_step);
                self.undone(&mut record, Some(error), now, &mut emitted);
            }
            SagaState::Completed | SagaState::Failed if due(self.due(&record)) => {
                return (None, Reaction { emitted, due: None });
            }
            _ => {
                let due = self.due(&record);
                return (Some(record), Reaction { emitted, due });
            }
        }
        record.updated_at = record.updated_at.max(now);
        let due = self.due(&record);
        (Some(record), Reaction { emitted, due })
    }

    /// When [`Definition::tick`] has something to do for this record.
    pub fn due(&self, record: &SagaRecord<D>) -> Option<EventTime> {
        match record.state {
            SagaState::Running if record.retry_at.is_some() => record.retry_at,
            SagaState::Running => {
                let own = self.steps[self.position(&record.current_step)].due(&record.data);
                record.deadline.into_iter().chain(own).min()
            }
            SagaState::Compensating => record.deadline,
            SagaState::Completed | SagaState::Failed => {
                Some(later(record.updated_at, self.timing.retention_ms))
            }
        }
    }

    fn position(&self, name: &str) -> usize {
        // A record of an older program may name a step that is gone; its saga starts again from
        // the first, which is safe: steps are idempotent by their ids.
        self.steps.iter().position(|step| step.name() == name).unwrap_or(0)
    }

    fn with_step(
        &self,
        record: &mut SagaRecord<D>,
        step: usize,
        now: EventTime,
        emitted: &mut Vec<Emission<O>>,
        act: impl FnOnce(&dyn Step<D, I, O>, &mut D, &mut Effects<'_, O>) -> Verdict,
    ) -> Verdict {
        let step = &*self.steps[step];
        let step_id = format!("{}:{}:{}", record.saga_id, step.name(), record.attempt);
        let (attempt, cause, number) = (record.attempt, record.cause, &mut record.emissions);
        let mut effects = Effects { now, attempt, cause, step_id, emitted, number };
        act(step, &mut record.data, &mut effects)
    }

    fn enter(
        &self,
        record: &mut SagaRecord<D>,
        step: usize,
        now: EventTime,
        emitted: &mut Vec<Emission<O>>,
    ) {
        let name = self.steps[step].name();
        if record.current_step != name {
            name.clone_into(&mut record.current_step);
            record.attempt = 1;
        }
        record.retry_at = None;
        record.deadline = self.steps[step].timeout_ms().map(|timeout| later(now, timeout));
        let verdict =
            self.with_step(record, step, now, emitted, |step, data, fx| step.enter(data, fx));
        self.take(record, step, verdict, now, emitted);
    }

    fn take(
        &self,
        record: &mut SagaRecord<D>,
        step: usize,
        verdict: Verdict,
        now: EventTime,
        emitted: &mut Vec<Emission<O>>,
    ) {
        let next = match verdict {
            Verdict::Ignored => {
                record.ignored += 1;
                Move::Stay
            }
            Verdict::Wait => Move::Stay,
            Verdict::Done if step + 1 == self.steps.len() => Move::Finish,
            Verdict::Done => Move::Next,
            Verdict::Finished => Move::Finish,
            Verdict::Retry(error) if record.attempt < self.steps[step].attempts() => {
                Move::Retry(error)
            }
            Verdict::Retry(error) | Verdict::Fail(error) => Move::Fail(error),
            Verdict::Back(name) => Move::Back(name),
        };
        match next {
            Move::Stay => {}
            Move::Next => {
                record.completed_steps.push(record.current_step.clone());
                self.enter(record, step + 1, now, emitted);
            }
            Move::Finish => {
                record.completed_steps.push(record.current_step.clone());
                self.end(record, SagaState::Completed, now, emitted);
            }
            Move::Retry(error) => {
                record.error = Some(error);
                record.deadline = None;
                record.retry_at = Some(later(now, self.timing.backoff(record.attempt)));
            }
            Move::Fail(error) => self.fail(record, step, error, now, emitted),
            Move::Back(name) => {
                let back = self.position(name);
                record.completed_steps.retain(|done| self.position(done) < back);
                record.attempt = 1;
                self.enter(record, back, now, emitted);
            }
        }
    }

    fn fail(
        &self,
        record: &mut SagaRecord<D>,
        step: usize,
        error: String,
        now: EventTime,
        emitted: &mut Vec<Emission<O>>,
    ) {
        record.error = Some(error);
        record.retry_at = None;
        self.with_step(record, step, now, emitted, |step, data, fx| {
            step.abandon(data, fx);
            Verdict::Done
        });
        record.state = SagaState::Compensating;
        self.undo_next(record, now, emitted);
    }

    /// Undoes completed steps, newest first, until one has to be waited for or none is left.
    fn undo_next(
        &self,
        record: &mut SagaRecord<D>,
        now: EventTime,
        emitted: &mut Vec<Emission<O>>,
    ) {
        while let Some(name) = record.completed_steps.last().cloned() {
            let step = self.position(&name);
            record.current_step = name;
            record.attempt = 1;
            record.deadline = Some(later(now, self.timing.compensation_ms));
            let verdict = self
                .with_step(record, step, now, emitted, |step, data, fx| step.compensate(data, fx));
            match verdict {
                Verdict::Wait => return,
                Verdict::Retry(error) | Verdict::Fail(error) => {
                    record.compensation_errors.push(error);
                }
                Verdict::Done | Verdict::Finished | Verdict::Ignored | Verdict::Back(_) => {}
            }
            record.completed_steps.pop();
        }
        self.end(record, SagaState::Failed, now, emitted);
    }

    fn undone(
        &self,
        record: &mut SagaRecord<D>,
        error: Option<String>,
        now: EventTime,
        emitted: &mut Vec<Emission<O>>,
    ) {
        record.compensation_errors.extend(error);
        record.completed_steps.pop();
        self.undo_next(record, now, emitted);
    }

    fn end(
        &self,
        record: &mut SagaRecord<D>,
        state: SagaState,
        now: EventTime,
        emitted: &mut Vec<Emission<O>>,
    ) {
        record.state = state;
        record.deadline = None;
        record.retry_at = None;
        record.updated_at = record.updated_at.max(now);
        if state == SagaState::Completed {
            record.error = None;
        }
        let step_id = format!("{}:end", record.saga_id);
        let outputs = (self.ended)(record);
        let (attempt, cause, number) = (record.attempt, record.cause, &mut record.emissions);
        let mut effects = Effects { now, attempt, cause, step_id, emitted, number };
        for output in outputs {
            effects.emit(output);
        }
    }
}

/// `ms` after `time`, at most the end of time.
pub(crate) fn later(time: EventTime, ms: i64) -> EventTime {
    EventTime::from_millis(time.as_millis().saturating_add(ms)).unwrap_or(EventTime::MAX)
}

//! Where a task's inputs go on: committed offsets, and the start of an input that has none. Owns
//! asking again when the log could not answer; knows no task.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::actor::{Poll, Ticket};
use crate::error::ErrorClass;
use crate::log::{CommittedOffset, Log, LogError, LogResult, OffsetQuery};
use crate::record::TopicPartition;
use crate::runtime::backoff::Backoff;
use crate::time::Now;

type Answered<T> = Ticket<LogResult<T>>;

enum Stage {
    Again { at: Duration },
    Committed(Answered<Vec<Option<CommittedOffset>>>),
    Start { committed: Vec<Option<CommittedOffset>>, ticket: Answered<Vec<i64>> },
    Known(Start),
}

/// Where each input of a task goes on.
#[derive(Debug)]
pub(crate) struct Start {
    /// What is committed.
    pub(crate) committed: Vec<(TopicPartition, Option<CommittedOffset>)>,
    /// Where inputs without a committed offset begin.
    pub(crate) first: BTreeMap<TopicPartition, i64>,
}

/// The committed offsets of a task's inputs, asked for.
pub(crate) struct OffsetsWanted {
    inputs: Vec<TopicPartition>,
    stage: Stage,
    backoff: Backoff,
}

impl OffsetsWanted {
    pub(crate) fn new(inputs: Vec<TopicPartition>) -> Self {
        let stage = Stage::Again { at: Duration::ZERO };
        Self { inputs, stage, backoff: Backoff::new() }
    }

    /// Asks, if it has not asked yet. To be called while no transaction of this thread is open or
    /// unresolved: one that is might still commit the very offsets that are asked for.
    pub(crate) fn ask(&mut self, log: &dyn Log, group: &str, now: Now) {
        if matches!(&self.stage, Stage::Again { at } if *at <= now.monotonic) {
            self.stage = Stage::Committed(log.committed(group, self.inputs.clone()));
        }
    }

    /// Where the inputs go on, once all is known. Never blocks.
    ///
    /// # Errors
    /// The log refuses for good.
    pub(crate) fn poll(&mut self, log: &dyn Log, now: Now) -> LogResult<Option<&Start>> {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Again { at: Duration::MAX }) {
            Stage::Committed(ticket) => match ticket.poll() {
                Poll::Pending => Stage::Committed(ticket),
                Poll::Done(Ok(committed)) if committed.iter().all(Option::is_some) => {
                    Stage::Known(start(&self.inputs, committed, &[]))
                }
                Poll::Done(Ok(committed)) => {
                    let ticket = log.offsets(self.inputs.clone(), OffsetQuery::Earliest);
                    Stage::Start { committed, ticket }
                }
                Poll::Done(Err(error)) => self.again(error, now)?,
                Poll::Abandoned => self.again(nobody_answers(), now)?,
            },
            Stage::Start { committed, ticket } => match ticket.poll() {
                Poll::Pending => Stage::Start { committed, ticket },
                Poll::Done(Ok(first)) => Stage::Known(start(&self.inputs, committed, &first)),
                Poll::Done(Err(error)) => self.again(error, now)?,
                Poll::Abandoned => self.again(nobody_answers(), now)?,
            },
            other => other,
        };
        Ok(match &self.stage {
            Stage::Known(start) => Some(start),
            _ => None,
        })
    }

    fn again(&mut self, error: LogError, now: Now) -> LogResult<Stage> {
        if error.class != ErrorClass::Retry {
            return Err(error);
        }
        let wait = self.backoff.next();
        tracing::warn!(inputs = ?self.inputs, %error, ?wait, "committed offsets are asked for again");
        Ok(Stage::Again { at: now.monotonic + wait })
    }
}

fn start(
    inputs: &[TopicPartition],
    committed: Vec<Option<CommittedOffset>>,
    first: &[i64],
) -> Start {
    let begins = inputs.iter().zip(&committed).zip(first).filter(|((_, c), _)| c.is_none());
    let begins = begins.map(|((input, _), &from)| {
        tracing::info!(%input, from, why = "no committed offset", "input begins");
        (input.clone(), from)
    });
    let first = begins.collect();
    Start { committed: inputs.iter().cloned().zip(committed).collect(), first }
}

fn nobody_answers() -> LogError {
    LogError::new(ErrorClass::Retry, "read committed offsets", "nobody answers")
}

//! Timers that are due: fired store by store in topology order, each store's by time, then key, then
//! name, a bounded number at once. Knows no store's bytes and no processor's code.
//!
//! A *pass* is one walk over the timers that are due. A timer that fires may set others: those that
//! are due and behind it in the order fire in the same pass, those before it, which includes itself,
//! in the next. So a timer that sets itself to a time that is over fires again and again, but once
//! for each record or look at the wall clock, which all get their turn.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{StreamTask, TaskError, failed, panic_message};
use crate::processor::node::with_node;
use crate::processor::punctuation::PunctuationType;
use crate::processor::timers::{Due, TimerLane};
use crate::store::TimeDomain;
use crate::time::NO_TIMESTAMP;

/// So many timers fire at once; then the thread may commit and look at its other tasks.
const TIMERS_PER_TURN: usize = 128;

impl StreamTask {
    /// Every timer store has a processor.
    pub(super) fn check_timers(&self) -> Result<(), TaskError> {
        let (state, task) = (&self.state, self.id);
        let mut timers = state.stores.indexed().filter(|(_, s)| s.no_timer_before().is_some());
        match timers.find(|(at, _)| state.timers.iter().all(|lane| lane.store != *at)) {
            None => Ok(()),
            Some((_, store)) => {
                let message = format!(
                    "the timers of store `{}` belong to no processor and would never fire; name \
                     their handle in `Processor::timers`",
                    store.name()
                );
                Err(TaskError::User { task, place: None, message })
            }
        }
    }

    /// Fires what is due. False if more of it is left for the next call; a commit may fall between.
    pub(super) fn fire_timers(&mut self, kind: PunctuationType) -> Result<bool, TaskError> {
        let clock = self.clock(kind);
        let mut left = TIMERS_PER_TURN;
        for at in 0..self.state.timers.len() {
            while self.is_due(&self.state.timers[at], kind) {
                if left == 0 {
                    return Ok(false);
                }
                left -= 1;
                if !self.fire(at, clock)? {
                    break;
                }
            }
        }
        Ok(true)
    }

    /// Timers are due that the last pass has left for the next.
    pub(super) fn has_due_timers(&self, kind: PunctuationType) -> bool {
        self.state.timers.iter().any(|lane| self.is_due(lane, kind))
    }

    /// When the next timer on the wall clock can be due at the earliest, if any is set.
    pub(super) fn next_wall_timer(&self) -> Option<i64> {
        let wall = |lane: &&TimerLane| lane.domain == TimeDomain::WallClockTime;
        let lanes = self.state.timers.iter().filter(wall);
        let times = lanes.filter_map(|lane| self.state.stores.no_timer_before(lane.store));
        times.min().filter(|time| *time != i64::MAX)
    }

    pub(super) fn clock(&self, kind: PunctuationType) -> i64 {
        match kind {
            PunctuationType::StreamTime => self.state.stream_time,
            PunctuationType::WallClockTime => self.state.wall_ms,
        }
    }

    fn is_due(&self, lane: &TimerLane, kind: PunctuationType) -> bool {
        let domain = match kind {
            PunctuationType::StreamTime => TimeDomain::StreamTime,
            PunctuationType::WallClockTime => TimeDomain::WallClockTime,
        };
        let clock = self.clock(kind);
        let soonest = self.state.stores.no_timer_before(lane.store);
        lane.domain == domain && clock != NO_TIMESTAMP && soonest.is_some_and(|time| time <= clock)
    }

    /// Fires the next timer of a lane; false if none is left of this pass. One that fails has not
    /// fired: it is set as it was, and nothing is left of what it did.
    fn fire(&mut self, at: usize, clock: i64) -> Result<bool, TaskError> {
        self.state.savepoint();
        let TimerLane { node, store, .. } = self.state.timers[at];
        let after = self.state.timers[at].after.take();
        let (slots, state) = (&mut self.slots, &mut self.state);
        let run = || {
            with_node(slots, state, node, |node, ctx| {
                node.lifecycle().on_timer(Due { store, after: after.as_ref(), clock }, ctx)
            })
        };
        let outcome =
            catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|p| Err(panic_message(&*p)));
        match outcome {
            Ok(Some(fired)) => {
                self.dirty = true;
                self.state.timers[at].after = Some(fired);
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(error) => {
                let error = error.at(&self.running());
                self.state.undo();
                self.state.timers[at].after = after;
                Err(failed(self.id, None, error))
            }
        }
    }
}

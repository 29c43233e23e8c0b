//! Deadlines of calls that may never return. An actor of its own abandons a ticket whose time is
//! over, whatever the thread does that should answer it. Knows nothing of what was called.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::actor::spawn::spawn;
use crate::actor::{Actor, Bell, Next, Promise};
use crate::error::ErrorClass;
use crate::log::{LogError, LogResult};
use crate::time::{Clock, Now};

type Abandon = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Shared {
    /// By time, then by number.
    due: Mutex<BTreeMap<(Duration, u64), Abandon>>,
    next: AtomicU64,
    stopped: AtomicBool,
    bell: Bell,
}

impl Shared {
    fn due(&self) -> std::sync::MutexGuard<'_, BTreeMap<(Duration, u64), Abandon>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps deadlines. Dropping it ends its thread; guards that still exist keep their promises.
pub(super) struct Deadlines {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
}

/// A promise that is abandoned when its time is over.
pub(super) struct Guarded<T> {
    slot: Arc<Mutex<Option<Promise<T>>>>,
    key: (Duration, u64),
    shared: Arc<Shared>,
}

struct Keeper {
    shared: Arc<Shared>,
}

impl Actor for Keeper {
    fn name(&self) -> &str {
        "kafka-deadlines"
    }

    fn bell(&self) -> Bell {
        self.shared.bell.clone()
    }

    fn step(&mut self, now: Now) -> Next {
        if self.shared.stopped.load(Ordering::Acquire) {
            return Next::Done;
        }
        let mut due = self.shared.due();
        let Some(first) = due.first_entry() else { return Next::Wait };
        let at = first.key().0;
        if at > now.monotonic {
            return Next::WakeAt(at);
        }
        let abandon = first.remove();
        drop(due);
        abandon();
        Next::Again
    }
}

impl Deadlines {
    /// Starts the thread.
    ///
    /// # Errors
    /// `Fatal`: the operating system gave no thread.
    pub(super) fn start(clock: Arc<dyn Clock>) -> LogResult<Self> {
        let shared = Arc::new(Shared::default());
        let keeper = Box::new(Keeper { shared: Arc::clone(&shared) });
        let running = spawn(keeper, Arc::clone(&clock)).map_err(|error| {
            LogError::new(ErrorClass::Fatal, "start a thread", error.to_string())
        })?;
        drop(running);
        Ok(Self { shared, clock })
    }

    /// Abandons the promise after this time unless it is kept first.
    pub(super) fn guard<T: Send + 'static>(
        &self,
        promise: Promise<T>,
        within: Duration,
        operation: &'static str,
    ) -> Guarded<T> {
        let slot = Arc::new(Mutex::new(Some(promise)));
        let key =
            (self.clock.now().monotonic + within, self.shared.next.fetch_add(1, Ordering::Relaxed));
        let late = Arc::clone(&slot);
        let abandon = move || {
            if take(&late).is_some() {
                tracing::error!(operation, "call to Kafka did not return in time; it is abandoned");
            }
        };
        self.shared.due().insert(key, Box::new(abandon));
        self.shared.bell.ring();
        Guarded { slot, key, shared: Arc::clone(&self.shared) }
    }
}

impl Drop for Deadlines {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        self.shared.bell.ring();
    }
}

fn take<T>(slot: &Mutex<Option<Promise<T>>>) -> Option<Promise<T>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl<T> Guarded<T> {
    /// Gives the call until this moment, unless its time is over already.
    pub(super) fn give_until(&mut self, moment: Duration) {
        let mut due = self.shared.due();
        if let Some(abandon) = due.remove(&self.key) {
            self.key.0 = moment;
            due.insert(self.key, abandon);
            drop(due);
            self.shared.bell.ring();
        }
    }

    /// Keeps the promise, unless it is too late.
    pub(super) fn fulfil(self, value: T) {
        if let Some(promise) = take(&self.slot) {
            promise.fulfil(value);
        }
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        drop(self.shared.due().remove(&self.key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::{Poll, ticket};
    use crate::time::{SystemClock, VirtualClock};

    fn now(ms: u64) -> Now {
        Now { monotonic: Duration::from_millis(ms), wall_ms: 0 }
    }

    /// Deadlines whose actor the test steps itself.
    fn stepped() -> (Deadlines, Keeper) {
        let shared = Arc::new(Shared::default());
        let clock = Arc::new(VirtualClock::new(0));
        (Deadlines { shared: Arc::clone(&shared), clock }, Keeper { shared })
    }

    #[test]
    fn a_promise_is_abandoned_when_its_time_is_over_and_not_before() {
        let (deadlines, mut keeper) = stepped();
        let (promise, ticket) = ticket::<u8>(Bell::new());
        let guarded = deadlines.guard(promise, Duration::from_millis(10), "wait");
        assert_eq!(keeper.step(now(9)), Next::WakeAt(Duration::from_millis(10)));
        assert_eq!(ticket.poll(), Poll::Pending);
        assert_eq!(keeper.step(now(10)), Next::Again);
        assert_eq!(ticket.poll(), Poll::Abandoned);
        guarded.fulfil(1);
        assert_eq!(ticket.poll(), Poll::Abandoned);
    }

    #[test]
    fn a_deadline_can_be_moved_while_it_is_not_over() {
        let (deadlines, mut keeper) = stepped();
        let (promise, ticket) = ticket::<u8>(Bell::new());
        let mut guarded = deadlines.guard(promise, Duration::from_millis(10), "wait");
        guarded.give_until(Duration::from_millis(5));
        assert_eq!(keeper.step(now(4)), Next::WakeAt(Duration::from_millis(5)));
        guarded.give_until(Duration::from_millis(20));
        assert_eq!(keeper.step(now(19)), Next::WakeAt(Duration::from_millis(20)));
        assert_eq!(keeper.step(now(20)), Next::Again);
        guarded.give_until(Duration::from_millis(30));
        assert_eq!(ticket.poll(), Poll::Abandoned);
    }

    #[test]
    fn a_kept_promise_has_no_deadline_any_more() {
        let (deadlines, mut keeper) = stepped();
        let (promise, ticket) = ticket::<u8>(Bell::new());
        deadlines.guard(promise, Duration::from_millis(10), "wait").fulfil(7);
        assert_eq!(keeper.step(now(10)), Next::Wait);
        assert_eq!(ticket.poll(), Poll::Done(7));
        drop(deadlines);
        assert_eq!(keeper.step(now(10)), Next::Done);
    }

    #[test]
    fn a_call_that_hangs_is_abandoned_by_another_thread() {
        let deadlines = Deadlines::start(Arc::new(SystemClock::new())).expect("a thread");
        let bell = Bell::new();
        let (promise, ticket) = ticket::<u8>(bell.clone());
        let hung = deadlines.guard(promise, Duration::from_millis(1), "hang");
        bell.wait(Some(Duration::from_secs(30)));
        assert_eq!(ticket.poll(), Poll::Abandoned);
        drop(hung);
    }
}

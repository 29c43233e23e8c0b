//! The simulated network: when a message arrives, and whether it does. Owns the seeded generator,
//! the odds of faults and the events to come; knows no message's meaning.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How a simulated cluster misbehaves. Odds are per thousand; none by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SimFaults {
    /// Shortest and longest time that a message travels, in milliseconds.
    pub delay_ms: (u64, u64),
    /// A request never arrives; its client sends it again after the request timeout.
    pub lose_request: u32,
    /// A request has its effect and its answer never arrives.
    pub lose_answer: u32,
    /// A request arrives twice.
    pub duplicate: u32,
    /// A client that missed an answer asks no more: the result is unknown.
    pub give_up: u32,
    /// A request finds that its coordinator is moving: nothing happened, try again.
    pub move_coordinator: u32,
    /// A request of an open transaction is refused; the transaction has to be aborted.
    pub refuse: u32,
    /// The coordinator aborts a transaction by itself, as if it had timed out.
    pub expire: u32,
    /// A call other than a produce is never answered; its client gives it up at the deadline.
    pub hang: u32,
    /// A reader gets less than there is, or nothing, and is rung later.
    pub short_fetch: u32,
}

impl SimFaults {
    /// A network with every fault now and then.
    pub fn rough() -> Self {
        Self {
            delay_ms: (0, 20),
            lose_request: 10,
            lose_answer: 15,
            duplicate: 20,
            give_up: 300,
            move_coordinator: 20,
            refuse: 10,
            expire: 5,
            hang: 2,
            short_fetch: 100,
        }
    }
}

/// Events in the order of their time; those of one time in the order they were made.
#[derive(Debug)]
pub(super) struct Network<E> {
    pub(super) faults: SimFaults,
    rng: ChaCha8Rng,
    events: BTreeMap<(Duration, u64), E>,
    made: u64,
}

impl<E> Network<E> {
    pub(super) fn new(seed: u64, faults: SimFaults) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Self { faults, rng, events: BTreeMap::new(), made: 0 }
    }

    /// True so many times in a thousand. Draws nothing when the odds are 0.
    pub(super) fn chance(&mut self, per_thousand: u32) -> bool {
        per_thousand > 0 && self.rng.random_range(0..1000) < per_thousand
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        self.rng.random_range(0..end.max(1))
    }

    fn delay(&mut self) -> Duration {
        let (shortest, longest) = self.faults.delay_ms;
        match longest > shortest {
            true => Duration::from_millis(self.rng.random_range(shortest..=longest)),
            false => Duration::from_millis(shortest),
        }
    }

    /// The event happens after a message's travel.
    pub(super) fn send(&mut self, now: Duration, event: E) {
        let at = now + self.delay();
        self.at(at, event);
    }

    pub(super) fn at(&mut self, at: Duration, event: E) {
        self.made += 1;
        self.events.insert((at, self.made), event);
    }

    pub(super) fn next_at(&self) -> Option<Duration> {
        self.events.keys().next().map(|(at, _)| *at)
    }

    pub(super) fn take_due(&mut self, now: Duration) -> Option<E> {
        let (at, _) = *self.events.keys().next()?;
        if at > now {
            return None;
        }
        self.events.pop_first().map(|(_, event)| event)
    }
}

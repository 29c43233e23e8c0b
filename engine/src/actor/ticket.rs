//! One-shot answers: a call that is started hands out a [`Ticket`], whoever carries it out keeps
//! the [`Promise`]. Polling a ticket never blocks.

use std::sync::{Arc, Mutex, PoisonError};

use super::Bell;

#[derive(Debug)]
enum Slot<T> {
    Pending,
    Done(T),
    Abandoned,
}

/// The answer to a started call, polled by the caller.
#[derive(Debug)]
pub struct Ticket<T> {
    slot: Arc<Mutex<Slot<T>>>,
}

/// The duty to answer. Dropping it unanswered makes the ticket [`Poll::Abandoned`].
#[derive(Debug)]
pub struct Promise<T> {
    slot: Arc<Mutex<Slot<T>>>,
    bell: Bell,
}

/// What a ticket says now.
#[derive(Debug, PartialEq, Eq)]
pub enum Poll<T> {
    /// Not yet.
    Pending,
    /// The answer; a ticket gives it once.
    Done(T),
    /// Nobody will answer: what was asked may or may not have happened.
    Abandoned,
}

/// A ticket and its promise; answering rings `bell`.
pub fn ticket<T>(bell: Bell) -> (Promise<T>, Ticket<T>) {
    let slot = Arc::new(Mutex::new(Slot::Pending));
    (Promise { slot: Arc::clone(&slot), bell }, Ticket { slot })
}

impl<T> Ticket<T> {
    /// A ticket that is answered already.
    pub fn done(value: T) -> Self {
        Self { slot: Arc::new(Mutex::new(Slot::Done(value))) }
    }

    /// Looks for the answer.
    pub fn poll(&self) -> Poll<T> {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *slot, Slot::Abandoned) {
            Slot::Pending => {
                *slot = Slot::Pending;
                Poll::Pending
            }
            Slot::Done(value) => Poll::Done(value),
            Slot::Abandoned => Poll::Abandoned,
        }
    }
}

impl<T> Promise<T> {
    /// Answers the ticket.
    pub fn fulfil(self, value: T) {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = Slot::Done(value);
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*slot, Slot::Pending) {
            *slot = Slot::Abandoned;
        }
        drop(slot);
        self.bell.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_pending_then_done_once() {
        let bell = Bell::new();
        let (promise, ticket) = ticket(bell.clone());
        assert_eq!(ticket.poll(), Poll::Pending);
        promise.fulfil(7);
        assert!(bell.take());
        assert_eq!(ticket.poll(), Poll::Done(7));
        assert_eq!(ticket.poll(), Poll::Abandoned);
    }

    #[test]
    fn a_dropped_promise_abandons_its_ticket() {
        let (promise, ticket) = ticket::<u8>(Bell::new());
        drop(promise);
        assert_eq!(ticket.poll(), Poll::Abandoned);
    }
}

//! Bounded mailboxes between actors. Sending never blocks: a full mailbox gives the message back.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::Bell;

/// The mailbox is full; here is the message again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full<T>(pub T);

/// The receiving end, owned by one actor.
#[derive(Debug)]
pub struct Mailbox<T> {
    queue: Arc<Mutex<VecDeque<T>>>,
    bell: Bell,
}

/// The sending end. Clones send to the same mailbox.
#[derive(Debug)]
pub struct Address<T> {
    queue: Arc<Mutex<VecDeque<T>>>,
    capacity: usize,
    bell: Bell,
}

impl<T> Clone for Address<T> {
    fn clone(&self) -> Self {
        Self { queue: Arc::clone(&self.queue), capacity: self.capacity, bell: self.bell.clone() }
    }
}

/// A mailbox for at most `capacity` messages that rings `bell` for each.
pub fn mailbox<T>(capacity: usize, bell: Bell) -> (Address<T>, Mailbox<T>) {
    let queue = Arc::new(Mutex::new(VecDeque::new()));
    (Address { queue: Arc::clone(&queue), capacity, bell: bell.clone() }, Mailbox { queue, bell })
}

impl<T> Address<T> {
    /// Puts a message into the mailbox and rings its actor.
    ///
    /// # Errors
    /// [`Full`] gives the message back; try again after the receiver has run.
    pub fn send(&self, message: T) -> Result<(), Full<T>> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() >= self.capacity {
            return Err(Full(message));
        }
        queue.push_back(message);
        drop(queue);
        self.bell.ring();
        Ok(())
    }
}

impl<T> Mailbox<T> {
    /// Takes the oldest message.
    pub fn take(&self) -> Option<T> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// The bell that rings for each message.
    pub fn bell(&self) -> Bell {
        self.bell.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_mailbox_gives_the_message_back_and_a_sent_one_rings() {
        let (address, mailbox) = mailbox(1, Bell::new());
        assert_eq!(address.send(1), Ok(()));
        assert_eq!(address.send(2), Err(Full(2)));
        assert!(mailbox.bell().take());
        assert_eq!(mailbox.take(), Some(1));
        assert_eq!(mailbox.take(), None);
    }
}

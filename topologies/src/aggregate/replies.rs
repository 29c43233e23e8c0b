//! The newest answers of one aggregate, so that a repeated command is answered again.
//!
//! Owns how many are kept. It must not know what they say.

use std::collections::VecDeque;

use headwater_schemas::commands::Reply;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Answers that an aggregate remembers.
pub const REPLIES_MAX: usize = 64;

/// Answers by command, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Replies(VecDeque<(Uuid, Reply)>);

impl Replies {
    /// The answer to a command, while it is remembered.
    pub fn of(&self, command_id: Uuid) -> Option<&Reply> {
        self.0.iter().find(|(id, _)| *id == command_id).map(|(_, reply)| reply)
    }

    /// Keeps an answer; the oldest ones give way.
    pub fn remember(&mut self, command_id: Uuid, reply: Reply) {
        self.0.push_back((command_id, reply));
        while self.0.len() > REPLIES_MAX {
            self.0.pop_front();
        }
    }

    /// The commands whose answers are remembered, oldest first.
    pub fn commands(&self) -> impl DoubleEndedIterator<Item = Uuid> + ExactSizeIterator {
        self.0.iter().map(|(id, _)| *id)
    }
}

//! What happened, as a hash of every event and the last lines in words: two runs of one seed have
//! the same hash, and a failure shows how it came about. Knows nothing of what it is told.

use std::collections::VecDeque;
use std::fmt;

const KEPT: usize = 400;
const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

/// A running hash (FNV-1a, 64 bits) of events, with the newest of them in words.
#[derive(Debug, Clone)]
pub struct Trace {
    hash: u64,
    recent: VecDeque<String>,
}

impl Default for Trace {
    fn default() -> Self {
        Self { hash: OFFSET_BASIS, recent: VecDeque::new() }
    }
}

impl Trace {
    /// Adds an event, kept in words.
    pub fn note(&mut self, event: fmt::Arguments<'_>) {
        let line = event.to_string();
        self.mix(line.as_bytes());
        if self.recent.len() == KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back(line);
    }

    /// Adds bytes to the hash alone.
    pub fn mix(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
        self.hash = (self.hash ^ 0xff).wrapping_mul(PRIME);
    }

    /// The hash of everything added so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The newest events, oldest first.
    pub fn recent(&self) -> impl Iterator<Item = &str> {
        self.recent.iter().map(String::as_str)
    }
}

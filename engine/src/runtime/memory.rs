//! One number for memory, cut into shares. Owns the proportions; measures nothing.

use std::fmt;

/// The shares of `memory_limit`, in bytes. They add up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct MemoryShares {
    /// The limit.
    pub limit: usize,
    /// Blocks read from disk.
    pub block_cache: usize,
    /// Writes not yet in table files.
    pub memtables: usize,
    /// Uncommitted state and outputs of all stream threads.
    pub overlays: usize,
    /// Records fetched and not yet processed.
    pub queues: usize,
    /// Everything else: what a log's clients and producers hold, HTTP, code.
    pub rest: usize,
}

impl MemoryShares {
    /// Cuts the limit.
    pub fn of(limit: usize) -> Self {
        let percent = |share: usize| limit / 100 * share;
        let (block_cache, memtables) = (percent(30), percent(20));
        let (overlays, queues) = (percent(25), percent(10));
        let rest = limit - block_cache - memtables - overlays - queues;
        Self { limit, block_cache, memtables, overlays, queues, rest }
    }

    /// Uncommitted bytes at which one of `threads` threads commits. Half of its share, because a
    /// second layer grows while the first is being committed.
    pub fn overlay_of_thread(&self, threads: usize) -> usize {
        self.overlays / threads.max(1) / 2
    }
}

impl fmt::Display for MemoryShares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = |bytes: usize| bytes / 1024;
        write!(
            f,
            "{} KiB: block cache {}, memtables {}, uncommitted {}, queues {}, rest {}",
            kib(self.limit),
            kib(self.block_cache),
            kib(self.memtables),
            kib(self.overlays),
            kib(self.queues),
            kib(self.rest)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_add_up_to_the_limit() {
        for limit in [16 << 20, 256 << 20, 1_000_000_007] {
            let s = MemoryShares::of(limit);
            assert_eq!(s.block_cache + s.memtables + s.overlays + s.queues + s.rest, limit);
        }
    }
}

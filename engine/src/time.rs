//! Time: where wall-clock and monotonic time come from, and arithmetic that a hostile timestamp
//! cannot overflow. Knows nothing of records or tasks.
//!
//! All timestamps are milliseconds since the Unix epoch (UTC) as `i64`, as in Kafka. Nothing but
//! [`SystemClock`] asks the operating system for the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The timestamp of something that has none (Kafka's `NO_TIMESTAMP`).
pub const NO_TIMESTAMP: i64 = -1;

/// One reading of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Monotonic time since the clock's own origin. Deadlines are kept in this.
    pub monotonic: Duration,
    /// Wall-clock time in milliseconds since the Unix epoch. May jump.
    pub wall_ms: i64,
}

/// A source of time. Production reads the system's, tests and the simulator a virtual one.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Reads the clock.
    fn now(&self) -> Now;
}

/// The operating system's clock.
#[derive(Debug, Clone)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock whose monotonic origin is now.
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { monotonic: self.origin.elapsed(), wall_ms: saturating_ms(wall) }
    }
}

/// A clock that moves only when told to. Clones share the time.
#[derive(Debug, Clone)]
pub struct VirtualClock {
    wall_start_ms: i64,
    elapsed_ns: Arc<AtomicU64>,
    /// How far the wall clock was set forward, or back.
    jumped_ms: Arc<AtomicI64>,
}

impl VirtualClock {
    /// A clock that starts at this wall-clock time, its monotonic time at zero.
    pub fn new(wall_start_ms: i64) -> Self {
        Self { wall_start_ms, elapsed_ns: Arc::default(), jumped_ms: Arc::default() }
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.elapsed_ns.fetch_add(by, Ordering::SeqCst);
    }

    /// Sets the wall clock forward, or back if negative, as an operator does. Monotonic time goes on
    /// as if nothing had happened.
    pub fn jump_wall(&self, by_ms: i64) {
        self.jumped_ms.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Now {
        let monotonic = Duration::from_nanos(self.elapsed_ns.load(Ordering::SeqCst));
        let wall_ms = self.wall_start_ms.saturating_add(saturating_ms(monotonic));
        Now { monotonic, wall_ms: wall_ms.saturating_add(self.jumped_ms.load(Ordering::SeqCst)) }
    }
}

/// Whole milliseconds of a duration, at most `i64::MAX`.
pub fn saturating_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A timestamp can be used: not negative, and far enough from `i64::MAX` that adding any window
/// size, grace or interval a topology may ask for ([`MAX_SPAN_MS`]) cannot overflow.
pub fn is_usable(timestamp: i64) -> bool {
    (0..=i64::MAX - 4 * MAX_SPAN_MS).contains(&timestamp)
}

/// The longest window, grace, retention or interval: about 146,000 years. `build()` refuses more.
pub const MAX_SPAN_MS: i64 = i64::MAX / 2000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_clock_moves_both_times_together() {
        let clock = VirtualClock::new(1_000);
        let shared = clock.clone();
        clock.advance(Duration::from_millis(250));
        assert_eq!(shared.now(), Now { monotonic: Duration::from_millis(250), wall_ms: 1_250 });
    }

    #[test]
    fn a_wall_clock_that_is_set_back_leaves_monotonic_time_alone() {
        let clock = VirtualClock::new(1_000);
        clock.advance(Duration::from_millis(50));
        clock.jump_wall(-900);
        assert_eq!(clock.now(), Now { monotonic: Duration::from_millis(50), wall_ms: 150 });
    }

    #[test]
    fn hostile_timestamps_are_not_usable() {
        assert!(is_usable(0) && is_usable(4_102_444_800_000));
        assert!(!is_usable(-1) && !is_usable(i64::MIN) && !is_usable(i64::MAX));
    }
}

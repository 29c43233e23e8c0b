//! Timers of processors: what one is when it fires, and how far a task has come with those that are
//! due. Owns which processor a timer store belongs to; knows no store's bytes.

use crate::store::{TimeDomain, TimerPosition};

/// A timer that has fired. It is set no longer: to have it again, set it again.
///
/// Source: Flink's `OnTimerContext`, Beam's `@OnTimer`.
#[derive(Debug)]
pub struct Timer<'t, K> {
    /// The key it was set for.
    pub key: &'t K,
    /// Its name among the key's timers.
    pub name: &'t str,
    /// The time it was set to, in milliseconds; the clock may be past it.
    pub time: i64,
    /// Which clock that is.
    pub domain: TimeDomain,
}

impl<K> Clone for Timer<'_, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Timer<'_, K> {}

/// The timers of one store in one task.
#[derive(Debug)]
pub(crate) struct TimerLane {
    /// The node they belong to.
    pub(crate) node: usize,
    pub(crate) store: usize,
    pub(crate) domain: TimeDomain,
    /// The last that fired of those that are due now: the rest of them is behind it.
    pub(crate) after: Option<TimerPosition>,
}

/// Which timers are due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due<'d> {
    /// Of this store.
    pub(crate) store: usize,
    /// Behind this place.
    pub(crate) after: Option<&'d TimerPosition>,
    /// By this time.
    pub(crate) clock: i64,
}

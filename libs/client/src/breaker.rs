//! Stops calls to an endpoint that does not answer, for half a second at a time.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// Failures in a row after which calls are refused at once.
const FAILURES_TO_OPEN: u32 = 5;
/// How long they are refused before one call may try again.
const OPEN_FOR: Duration = Duration::from_millis(500);

/// Counts failures in a row, and knows when the last answer came.
#[derive(Debug)]
pub(crate) struct Breaker {
    origin: Instant,
    failures: AtomicU32,
    /// Milliseconds since `origin` until which calls are refused.
    refused_until_ms: AtomicU64,
    /// Milliseconds from `origin` to the last answer.
    answered_at_ms: AtomicU64,
    failures_to_open: u32,
}

impl Breaker {
    pub(crate) fn new() -> Self {
        Self {
            origin: Instant::now(),
            failures: AtomicU32::new(0),
            refused_until_ms: AtomicU64::new(0),
            answered_at_ms: AtomicU64::new(0),
            failures_to_open: FAILURES_TO_OPEN,
        }
    }

    /// One that admits every call, for who must know at once when an endpoint is back.
    pub(crate) fn that_never_opens() -> Self {
        Self { failures_to_open: u32::MAX, ..Self::new() }
    }

    /// One of an endpoint among others: calls go to those at once.
    pub(crate) fn of_many() -> Self {
        Self { failures_to_open: 1, ..Self::new() }
    }

    /// Whether every call is admitted.
    pub(crate) fn is_closed(&self) -> bool {
        self.failures.load(Ordering::Relaxed) < self.failures_to_open
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether a call may be tried. While open, one call per interval is the probe.
    pub(crate) fn admits(&self) -> bool {
        if self.is_closed() {
            return true;
        }
        let (now, until) = (self.now_ms(), self.refused_until_ms.load(Ordering::Relaxed));
        let next = now.saturating_add(millis(OPEN_FOR));
        now >= until && self.refused_until_ms.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// How long the last answer is ago.
    pub(crate) fn quiet_for(&self) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(self.answered_at_ms.load(Ordering::Relaxed)))
    }

    pub(crate) fn answered(&self) {
        self.answered_at_ms.store(self.now_ms(), Ordering::Relaxed);
        self.failures.store(0, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if failures >= self.failures_to_open {
            self.refused_until_ms.store(self.now_ms().saturating_add(millis(OPEN_FOR)), Ordering::Relaxed);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_refused_after_failures_in_a_row_and_admitted_after_a_success() {
        let breaker = Breaker::new();
        for _ in 0..FAILURES_TO_OPEN {
            assert!(breaker.admits());
            breaker.failed();
        }
        assert!(!breaker.admits());
        breaker.answered();
        assert!(breaker.admits());
    }

    #[test]
    fn whoever_watches_an_endpoint_is_never_refused() {
        let breaker = Breaker::that_never_opens();
        (0..=FAILURES_TO_OPEN).for_each(|_| breaker.failed());
        assert!(breaker.admits() && breaker.admits());
    }
}

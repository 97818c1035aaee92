//! How long an event is tried, and when it is given up.

use std::time::Duration;

use rand::Rng as _;
use streamgate_core::{ErrorKind, Failure};

/// How often and how fast an event is tried again.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Failures that may be the event's own fault after which it becomes a dead letter.
    pub strikes: u32,
    /// First wait after a failure; it doubles from there.
    pub first_wait: Duration,
    /// Longest wait while a consumer is away.
    pub longest_wait: Duration,
    /// Longest wait after a failure that may be the event's own fault.
    pub longest_strike_wait: Duration,
}

impl Default for Patience {
    /// Twenty strikes come after about ten minutes: longer than a restart, shorter than a night.
    fn default() -> Self {
        Self {
            strikes: 20,
            first_wait: Duration::from_millis(50),
            longest_wait: Duration::from_secs(5),
            longest_strike_wait: Duration::from_secs(60),
        }
    }
}

/// What a failure says about the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// The consumer or the way to it is away; the event can wait for ever.
    Way,
    /// It may be the event, or a fault that heals.
    Perhaps,
    /// The event itself is wrong: no retry will help.
    Event,
}

/// Whose fault a failed delivery is.
pub(super) const fn blame(kind: ErrorKind) -> Blame {
    match kind {
        ErrorKind::InvalidArgument | ErrorKind::OutOfRange | ErrorKind::TooLarge => Blame::Event,
        ErrorKind::Unavailable
        | ErrorKind::Cancelled
        | ErrorKind::Aborted
        | ErrorKind::ResourceExhausted
        | ErrorKind::StorageFull
        | ErrorKind::Unauthenticated => Blame::Way,
        ErrorKind::Internal
        // A handler that hangs on one event looks like this, and so does a consumer that hangs altogether.
        | ErrorKind::DeadlineExceeded
        | ErrorKind::PermissionDenied
        | ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::FailedPrecondition => Blame::Perhaps,
    }
}

impl Patience {
    /// The wait after so many failed tries: doubled each time up to the longest, and half of it
    /// random, so that the tries of many events do not fall together.
    pub(super) fn wait(&self, tries: i64, failure: &Failure) -> Duration {
        let longest = if blame(failure.kind) == Blame::Perhaps { self.longest_strike_wait } else { self.longest_wait };
        if let Some(hint) = failure.retry_after {
            return hint.min(longest);
        }
        let doublings = u32::try_from(tries.saturating_sub(1)).unwrap_or(0).min(16);
        let full = self.first_wait.saturating_mul(1 << doublings).min(longest);
        full.mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_no_further() {
        let patience = Patience::default();
        let away = Failure::new(ErrorKind::Unavailable, "away", "away");
        for tries in 1..200 {
            let wait = patience.wait(tries, &away);
            assert!(wait >= patience.first_wait / 2 && wait <= patience.longest_wait, "{tries}: {wait:?}");
        }
        assert!(patience.wait(100, &away) >= patience.longest_wait / 2);
    }

    #[test]
    fn a_consumer_that_is_away_is_never_the_events_fault() {
        assert_eq!(blame(ErrorKind::Unavailable), Blame::Way);
        assert_eq!(blame(ErrorKind::Internal), Blame::Perhaps);
        assert_eq!(blame(ErrorKind::InvalidArgument), Blame::Event);
    }
}

//! Time that only moves forward.

use std::{fmt, time::Instant};

/// Tells the time, in milliseconds since some moment.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time now; never less than before.
    fn now_ms(&self) -> u64;
}

/// The system's steady clock: a change of the wall clock neither keeps nor ends a value.
#[derive(Debug)]
pub struct SteadyClock {
    start: Instant,
}

impl SteadyClock {
    /// A clock that begins now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SteadyClock {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

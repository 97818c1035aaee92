//! How many entries strangers can cause: a flood of bad calls must not fill the log.

use std::time::Instant;

/// Entries at once, and each second.
const BURST: f64 = 200.0;
const PER_SECOND: f64 = 20.0;

/// Fills up with time.
#[derive(Debug)]
pub(super) struct Budget {
    left: f64,
    at: Instant,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { left: BURST, at: Instant::now() }
    }

    /// Takes one entry out, if there is one.
    pub(super) fn take(&mut self) -> bool {
        self.take_at(Instant::now())
    }

    fn take_at(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = passed.mul_add(PER_SECOND, self.left).min(BURST);
        self.at = now;
        let has_one = self.left >= 1.0;
        self.left -= if has_one { 1.0 } else { 0.0 };
        has_one
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_is_cut_and_the_budget_comes_back() {
        let mut budget = Budget::new();
        let now = budget.at;
        assert_eq!((0..1_000).filter(|_| budget.take_at(now)).count(), 200);
        assert_eq!((0..1_000).filter(|_| budget.take_at(now + Duration::from_secs(2))).count(), 40);
    }
}

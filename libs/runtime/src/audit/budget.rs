//! How many entries of a kind are noted: a flood of bad calls must not fill the log.

use std::time::Instant;

use streamgate_core::Caller;

use super::AuditOutcome;

/// Entries at once, and each second.
const BURST: f64 = 200.0;
const PER_SECOND: f64 = 20.0;

/// Who could drown whom has a budget apart.
#[derive(Debug)]
pub(super) struct Budgets {
    /// What strangers are not let do: they choose how often that is.
    strangers_in_vain: Budget,
    /// What strangers are let do, such as a login.
    strangers: Budget,
    /// What accounts may not do, and what services are refused or fail to do.
    known: Budget,
}

impl Budgets {
    pub(super) fn new() -> Self {
        Self { strangers_in_vain: Budget::new(), strangers: Budget::new(), known: Budget::new() }
    }

    /// Whether a call may be noted. What an account may do always is, even if it failed: a part may have been done.
    pub(super) fn take(&mut self, caller: Option<&Caller>, outcome: AuditOutcome) -> bool {
        let is_account = caller.is_some_and(|caller| caller.account().is_some());
        let is_known = is_account || caller.is_some_and(Caller::is_service);
        match outcome {
            AuditOutcome::Allowed | AuditOutcome::Failed if is_account => true,
            _ if is_known => self.known.take(),
            AuditOutcome::Allowed => self.strangers.take(),
            _ => self.strangers_in_vain.take(),
        }
    }
}

/// Fills up with time.
#[derive(Debug)]
struct Budget {
    left: f64,
    at: Instant,
}

impl Budget {
    fn new() -> Self {
        Self { left: BURST, at: Instant::now() }
    }

    /// Takes one entry out, if there is one.
    fn take(&mut self) -> bool {
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

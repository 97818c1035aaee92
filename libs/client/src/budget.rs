//! Bounds how many calls are sent again, so that retries can't multiply the load of a service in trouble.

use std::sync::atomic::{AtomicU32, Ordering};

/// Retries that can be saved up. So many calls may be under way to an instance that falls silent.
const MOST_RETRIES: u32 = 100;
/// Calls that must succeed for one retry.
const CALLS_FOR_A_RETRY: u32 = 10;

/// What is left for retries of the calls to one service.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    /// In successful calls: each saves one.
    saved: AtomicU32,
}

impl RetryBudget {
    pub(crate) const fn new() -> Self {
        Self { saved: AtomicU32::new(MOST_RETRIES * CALLS_FOR_A_RETRY) }
    }

    pub(crate) fn save(&self) {
        if self.saved.load(Ordering::Relaxed) < MOST_RETRIES * CALLS_FOR_A_RETRY {
            self.saved.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes one retry, if there is one.
    pub(crate) fn take(&self) -> bool {
        let less = |saved: u32| saved.checked_sub(CALLS_FOR_A_RETRY);
        self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_bounded_until_calls_succeed_again() {
        let budget = RetryBudget::new();
        budget.save();
        assert_eq!((0..10 * MOST_RETRIES).filter(|_| budget.take()).count(), MOST_RETRIES as usize);
        (1..CALLS_FOR_A_RETRY).for_each(|_| budget.save());
        assert!(!budget.take());
        budget.save();
        assert!(budget.take() && !budget.take());
    }
}

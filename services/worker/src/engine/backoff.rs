//! How long a job waits before its next attempt.

use std::time::Duration;

use rand::Rng;

/// Attempts of a job, the first included: together they bridge about half a minute of trouble, and
/// what comes by schedule comes again anyway.
pub const MAX_ATTEMPTS: u32 = 5;

const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(10 * 60);

/// The wait after the attempt with this number, counted from 1. It doubles each time; the second half
/// of it is random, so that jobs that failed together don't come back together.
#[must_use]
pub fn backoff(attempt: u32, random: &mut impl Rng) -> Duration {
    let doublings = attempt.saturating_sub(1).min(31);
    let whole = FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT);
    whole.mul_f64(random.random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_vary_by_half() {
        let mut random = rand::rng();
        for (attempt, whole) in [(1, 2), (2, 4), (3, 8), (9, 512), (10, 600), (40, 600), (u32::MAX, 600)] {
            for _ in 0..50 {
                let wait = backoff(attempt, &mut random).as_secs_f64();
                assert!(wait >= f64::from(whole) / 2.0 && wait <= f64::from(whole), "attempt {attempt}: {wait}");
            }
        }
    }
}

//! How an endpoint has been doing: a score to order by, and a breaker.

use std::time::{Duration, Instant};

/// Failures in a row that open the breaker.
const FAILURES_TO_OPEN: u32 = 3;
/// Tries in a row without one understood answer of a contract after which the endpoint is asked last.
const FRUITLESS_TO_AVOID: u32 = 3;
/// How long such an endpoint is left out where another has answered.
const AVOIDED_FOR: Duration = Duration::from_secs(15);
/// First rest of an endpoint; doubled at each failed probe.
const FIRST_REST: Duration = Duration::from_secs(1);
/// Longest rest: an endpoint that came back is noticed within it.
const LONGEST_REST: Duration = Duration::from_secs(15);
/// Weight of the newest measurement.
const NEWEST: f64 = 0.2;
/// How much a certain failure weighs against latency.
const FAILURE_FACTOR: f64 = 10.0;

/// Health of one endpoint.
#[derive(Debug, Clone)]
pub(super) struct Health {
    latency_ms: f64,
    failure_rate: f64,
    failures: u32,
    fruitless: u32,
    avoided_until: Option<Instant>,
    rest: Duration,
    open_until: Option<Instant>,
    probing: bool,
}

impl Health {
    pub(super) const fn new() -> Self {
        Self {
            latency_ms: 0.0,
            failure_rate: 0.0,
            failures: 0,
            fruitless: 0,
            avoided_until: None,
            rest: FIRST_REST,
            open_until: None,
            probing: false,
        }
    }

    /// Smaller is better.
    pub(super) fn score(&self) -> f64 {
        (self.latency_ms + 1.0) * FAILURE_FACTOR.mul_add(self.failure_rate, 1.0)
    }

    /// Whether it may be asked now. A resting one may be probed, by one caller, when its rest is over.
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        match self.open_until {
            None => true,
            Some(until) if now < until || self.probing => false,
            Some(_) => {
                self.probing = true;
                true
            }
        }
    }

    pub(super) const fn is_open(&self) -> bool {
        self.open_until.is_some()
    }

    pub(super) fn succeeded(&mut self, took: Duration) {
        self.latency_ms = if self.latency_ms == 0.0 { millis(took) } else { mix(self.latency_ms, millis(took)) };
        self.failure_rate = mix(self.failure_rate, 0.0);
        self.failures = 0;
        self.fruitless = 0;
        self.avoided_until = None;
        self.rest = FIRST_REST;
        self.open_until = None;
        self.probing = false;
    }

    /// `wait` is how long the endpoint itself asked to be left alone.
    pub(super) fn failed(&mut self, now: Instant, wait: Option<Duration>) {
        self.failure_rate = mix(self.failure_rate, 1.0);
        self.failures = self.failures.saturating_add(1);
        if self.probing {
            self.rest = (self.rest * 2).min(LONGEST_REST);
        }
        if wait.is_some() || self.probing || self.failures >= FAILURES_TO_OPEN {
            self.open_until = Some(now + wait.map_or(self.rest, |wait| wait.clamp(self.rest, LONGEST_REST)));
        }
        self.probing = false;
    }

    /// It answered, and others are better now: worse in the order, but no reason to rest.
    pub(super) fn passed_over(&mut self) {
        self.failure_rate = mix(self.failure_rate, 1.0);
        self.probing = false;
    }

    /// No contract gave an answer. It may be theirs to blame, so it is no reason to rest: it is asked, but after others.
    pub(super) fn fruitless(&mut self, now: Instant) {
        self.passed_over();
        self.fruitless = self.fruitless.saturating_add(1);
        if self.is_fruitless() {
            self.avoided_until = Some(now + AVOIDED_FOR);
        }
    }

    /// Whether it comes after all others. Its latency says nothing: errors are made fast.
    pub(super) const fn is_fruitless(&self) -> bool {
        self.fruitless >= FRUITLESS_TO_AVOID
    }

    /// Whether it is left out where another has answered.
    pub(super) fn is_avoided(&self, now: Instant) -> bool {
        self.avoided_until.is_some_and(|until| now < until)
    }

    /// The caller went away before there was an answer: a probe may be made by somebody else.
    pub(super) const fn abandoned(&mut self) {
        self.probing = false;
    }
}

fn mix(old: f64, new: f64) -> f64 {
    old.mul_add(1.0 - NEWEST, new * NEWEST)
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_rest_an_endpoint_and_one_probe_is_let_through() {
        let mut health = Health::new();
        let start = Instant::now();
        for _ in 0..3 {
            assert!(health.admit(start));
            health.failed(start, None);
        }
        assert!(!health.admit(start));
        let later = start + FIRST_REST;
        assert!(health.admit(later));
        assert!(!health.admit(later), "one probe at a time");
        health.failed(later, None);
        assert!(!health.admit(later + FIRST_REST), "the rest has doubled");
        assert!(health.admit(later + FIRST_REST * 2));
        health.succeeded(Duration::from_millis(5));
        assert!(health.admit(later) && !health.is_open());
    }

    #[test]
    fn one_whose_tries_bear_nothing_is_avoided_for_a_while_and_never_rests() {
        let (mut health, start) = (Health::new(), Instant::now());
        for is_avoided in [false, false, true, true] {
            health.fruitless(start);
            assert_eq!((health.is_fruitless(), health.is_avoided(start), health.admit(start)), (is_avoided, is_avoided, true));
        }
        assert!(!health.is_avoided(start + AVOIDED_FOR) && health.is_fruitless());
        health.succeeded(Duration::from_millis(5));
        assert!(!health.is_avoided(start) && !health.is_fruitless());
    }

    #[test]
    fn a_failing_endpoint_scores_worse_than_a_slow_one() {
        let (mut slow, mut failing) = (Health::new(), Health::new());
        slow.succeeded(Duration::from_millis(30));
        failing.succeeded(Duration::from_millis(20));
        failing.failed(Instant::now(), None);
        assert!(failing.score() > slow.score());
    }
}

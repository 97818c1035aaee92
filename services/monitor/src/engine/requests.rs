//! How a service has answered lately, from two readings of its counters.

use std::collections::{BTreeMap, VecDeque};

use streamgate_core::time::UnixMillis;
use streamgate_proto::STREAMING_METHODS;

use super::Sample;

/// How far back is looked.
const WINDOW_MS: i64 = 60_000;
/// gRPC codes that are our fault: deadline exceeded, unknown, internal, unavailable, data loss.
const RPC_ERRORS: [&str; 5] = ["2", "4", "13", "14", "15"];

/// Label of questions for health and metrics. The monitor asks more of them than most services get calls.
const PROBE: &str = "probe";

/// How a service has answered lately.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Requests {
    /// How long was looked at.
    pub window_ms: u64,
    /// Answers.
    pub count: u64,
    /// Errors of ours among them.
    pub errors: u64,
    /// 95 of 100 RPCs were answered within this.
    pub p95_seconds: f64,
}

/// The counters of one reading.
#[derive(Debug, Clone, Default, PartialEq)]
struct Totals {
    at_ms: UnixMillis,
    count: f64,
    errors: f64,
    /// By upper bound, in ascending order; the key is the bits of a number that is not negative.
    buckets: BTreeMap<u64, f64>,
}

impl Totals {
    fn of(samples: &[Sample], at_ms: UnixMillis) -> Self {
        let mut totals = Self { at_ms, ..Self::default() };
        for sample in samples {
            let label = |name: &str| sample.labels.get(name).map_or("", String::as_str);
            if label("method") == PROBE {
                continue;
            }
            match sample.name.as_str() {
                "streamgate_rpc_handled_total" => {
                    totals.count += sample.value;
                    totals.errors += if RPC_ERRORS.contains(&label("code")) { sample.value } else { 0.0 };
                }
                "streamgate_http_handled_total" => {
                    totals.count += sample.value;
                    totals.errors += if label("code").starts_with('5') { sample.value } else { 0.0 };
                }
                "streamgate_rpc_seconds_bucket" if !is_stream(label("method")) => {
                    if let Some(bound) = upper_bound(label("le")) {
                        *totals.buckets.entry(bound.to_bits()).or_default() += sample.value;
                    }
                }
                _ => {}
            }
        }
        totals
    }
}

/// Streams last as long as their callers like; their time says nothing.
fn is_stream(method: &str) -> bool {
    STREAMING_METHODS.binary_search(&method).is_ok()
}

fn upper_bound(text: &str) -> Option<f64> {
    if text == "+Inf" {
        return Some(f64::INFINITY);
    }
    text.parse().ok().filter(|bound: &f64| bound.is_finite() && *bound >= 0.0)
}

/// The readings of one instance.
#[derive(Debug, Clone, Default)]
pub struct Window {
    readings: VecDeque<Totals>,
}

impl Window {
    /// Adds a reading. One that counts less than the last is of a process that started anew.
    pub fn add(&mut self, samples: &[Sample], at_ms: UnixMillis) {
        let totals = Totals::of(samples, at_ms);
        if self.readings.back().is_some_and(|last| totals.count < last.count || totals.at_ms < last.at_ms) {
            self.readings.clear();
        }
        self.readings.push_back(totals);
        // The oldest one that is kept is the last that lies outside the window.
        while self.readings.get(1).is_some_and(|second| at_ms - second.at_ms >= WINDOW_MS) {
            self.readings.pop_front();
        }
    }

    fn difference(&self) -> Option<Totals> {
        let (first, last) = (self.readings.front()?, self.readings.back()?);
        if first.at_ms == last.at_ms {
            return None;
        }
        let before = |bound: &u64| first.buckets.get(bound).copied().unwrap_or_default();
        Some(Totals {
            at_ms: last.at_ms - first.at_ms,
            count: last.count - first.count,
            errors: (last.errors - first.errors).max(0.0),
            buckets: last.buckets.iter().map(|(bound, value)| (*bound, (value - before(bound)).max(0.0))).collect(),
        })
    }
}

/// How all instances of a service have answered together; absent before two readings.
#[must_use]
pub fn together<'a>(windows: impl Iterator<Item = &'a Window>) -> Option<Requests> {
    let mut sum: Option<Totals> = None;
    for part in windows.filter_map(Window::difference) {
        let sum = sum.get_or_insert_default();
        sum.at_ms = sum.at_ms.max(part.at_ms);
        sum.count += part.count;
        sum.errors += part.errors;
        for (bound, value) in part.buckets {
            *sum.buckets.entry(bound).or_default() += value;
        }
    }
    let sum = sum?;
    Some(Requests {
        window_ms: u64::try_from(sum.at_ms).unwrap_or_default(),
        count: whole(sum.count),
        errors: whole(sum.errors),
        p95_seconds: percentile(&sum.buckets, 0.95),
    })
}

/// The least upper bound under which `part` of the values lie; 0 without values.
fn percentile(buckets: &BTreeMap<u64, f64>, part: f64) -> f64 {
    // Buckets are cumulative: the last one holds all.
    let all = buckets.values().last().copied().unwrap_or_default();
    if all <= 0.0 {
        return 0.0;
    }
    let found = buckets.iter().find(|(_, value)| **value >= all * part).map(|(bound, _)| f64::from_bits(*bound));
    let largest = buckets.keys().map(|bound| f64::from_bits(*bound)).filter(|bound| bound.is_finite()).fold(0.0, f64::max);
    found.filter(|bound| bound.is_finite()).unwrap_or(largest)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count, not negative; beyond 2^64 it is cut")]
fn whole(value: f64) -> u64 {
    value.max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::parse;

    fn reading(ok: u32, internal: u32, slow: u32) -> Vec<Sample> {
        let method = "/streamgate.auth.v1.AuthService/Login";
        let stream = "/streamgate.streaming.v1.StreamingService/ReadAsset";
        let all = ok + internal;
        let probes = probes(all);
        parse(&format!(
            "streamgate_rpc_handled_total{{method=\"{method}\",code=\"0\"}} {ok}\n\
             streamgate_rpc_handled_total{{method=\"{method}\",code=\"13\"}} {internal}\n\
             streamgate_http_handled_total{{method=\"GET\",code=\"200\"}} 10\n\
             streamgate_rpc_seconds_bucket{{method=\"{method}\",code=\"0\",le=\"0.1\"}} {fast}\n\
             streamgate_rpc_seconds_bucket{{method=\"{method}\",code=\"0\",le=\"1.0\"}} {all}\n\
             streamgate_rpc_seconds_bucket{{method=\"{method}\",code=\"0\",le=\"+Inf\"}} {all}\n\
             streamgate_rpc_seconds_bucket{{method=\"{stream}\",code=\"0\",le=\"+Inf\"}} 9999\n{probes}",
            fast = all - slow
        ))
        .samples
    }

    /// What was asked of it besides, more and more of it: all slow, and all answered with an error.
    fn probes(count: u32) -> String {
        format!(
            "streamgate_rpc_handled_total{{method=\"probe\",code=\"14\"}} {count}\n\
             streamgate_http_handled_total{{method=\"probe\",code=\"503\"}} {count}\n\
             streamgate_rpc_seconds_bucket{{method=\"probe\",code=\"14\",le=\"1.0\"}} 0\n\
             streamgate_rpc_seconds_bucket{{method=\"probe\",code=\"14\",le=\"+Inf\"}} {count}\n"
        )
    }

    fn window(readings: &[(Vec<Sample>, i64)]) -> Option<Requests> {
        let mut window = Window::default();
        for (samples, at) in readings {
            window.add(samples, *at);
        }
        together([window].iter())
    }

    #[test]
    fn errors_and_latency_are_those_since_the_reading_before() {
        let requests = window(&[(reading(100, 50, 90), 0), (reading(190, 60, 90), 10_000)]).unwrap();
        assert_eq!(requests, Requests { window_ms: 10_000, count: 100, errors: 10, p95_seconds: 0.1 });
        let slow = window(&[(reading(100, 0, 0), 0), (reading(200, 0, 50), 10_000)]).unwrap();
        assert!((slow.p95_seconds - 1.0).abs() < f64::EPSILON, "streams are not counted: {slow:?}");
    }

    #[test]
    fn a_service_that_is_only_probed_has_answered_nothing() {
        let readings = [0, 500].map(|count: u32| (parse(&probes(count)).samples, i64::from(count)));
        let requests = window(&readings).unwrap();
        assert_eq!((requests.count, requests.errors, requests.p95_seconds), (0, 0, 0.0));
    }

    #[test]
    fn one_reading_says_nothing_and_a_restart_begins_anew() {
        assert_eq!(window(&[(reading(100, 0, 0), 0)]), None);
        assert_eq!(window(&[(reading(100, 0, 0), 0), (reading(5, 0, 0), 10_000)]), None);
    }

    #[test]
    fn only_the_last_minute_counts() {
        let readings: Vec<_> = (0..20).map(|n: u32| (reading(n * 10, 0, 0), i64::from(n) * 10_000)).collect();
        let requests = window(&readings).unwrap();
        assert_eq!((requests.window_ms, requests.count), (60_000, 60));
    }

    #[test]
    fn instances_are_added_up() {
        let mut one = Window::default();
        one.add(&reading(0, 0, 0), 0);
        one.add(&reading(30, 10, 0), 10_000);
        let both = together([one.clone(), one].iter()).unwrap();
        assert_eq!((both.count, both.errors), (80, 20));
    }
}

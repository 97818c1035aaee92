//! What can be configured.

use std::time::Duration;

use serde::Deserialize;
use streamgate_runtime::ServiceConfig;

/// Jobs at once: they mostly wait for other services.
const DEFAULT_CONCURRENCY: u32 = 4;
const MAX_CONCURRENCY: u32 = 64;
/// An abandoned upload may stay this much longer than it should.
const DEFAULT_SWEEP_INTERVAL_SECONDS: u32 = 600;
/// A dead worker costs its jobs this long.
const DEFAULT_LEASE_SECONDS: u32 = 30;
/// How long a stopping worker waits for its jobs before it gives them back.
const DEFAULT_DRAIN_SECONDS: u32 = 5;
const DAY_SECONDS: u32 = 24 * 60 * 60;

/// Section `worker` of the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Jobs that run at once.
    pub concurrency: u32,
    /// Seconds between two sweeps of abandoned uploads.
    pub sweep_interval_seconds: u32,
    /// Seconds after which a job whose worker is silent runs elsewhere.
    pub lease_seconds: u32,
    /// Seconds a stopping worker waits for running jobs.
    pub drain_seconds: u32,
}

impl Config {
    /// The lease as a span.
    #[must_use]
    pub fn lease(&self) -> Duration {
        Duration::from_secs(u64::from(self.lease_seconds))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            concurrency: DEFAULT_CONCURRENCY,
            sweep_interval_seconds: DEFAULT_SWEEP_INTERVAL_SECONDS,
            lease_seconds: DEFAULT_LEASE_SECONDS,
            drain_seconds: DEFAULT_DRAIN_SECONDS,
        }
    }
}

impl ServiceConfig for Config {
    fn validate(&self) -> Result<(), String> {
        let bounds = [
            ("concurrency", self.concurrency, 1, MAX_CONCURRENCY),
            ("sweep_interval_seconds", self.sweep_interval_seconds, 1, DAY_SECONDS),
            ("lease_seconds", self.lease_seconds, 3, 3_600),
            ("drain_seconds", self.drain_seconds, 0, 600),
        ];
        for (key, value, least, most) in bounds {
            if !(least..=most).contains(&value) {
                return Err(format!("worker.{key} must be {least} to {most}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_a_lease_of_nothing_is_not() {
        assert!(Config::default().validate().is_ok());
        assert_eq!(
            Config { lease_seconds: 0, ..Config::default() }.validate(),
            Err("worker.lease_seconds must be 3 to 3600".to_owned())
        );
    }
}

//! What can be configured.

use std::time::Duration;

use serde::Deserialize;
use streamgate_runtime::ServiceConfig;

/// A dead service is seen within this and the timeout.
const DEFAULT_HEALTH_INTERVAL_MS: u64 = 2_000;
const DEFAULT_HEALTH_TIMEOUT_MS: u64 = 1_000;
/// Metrics move slowly, and reading them costs more.
const DEFAULT_METRICS_INTERVAL_MS: u64 = 10_000;
const LEAST_MS: u64 = 10;
const MOST_MS: u64 = 60 * 60 * 1000;

/// Section `monitor` of the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Milliseconds between two questions for health.
    pub health_interval_ms: u64,
    /// Milliseconds after which a service without an answer is unreachable.
    pub health_timeout_ms: u64,
    /// Milliseconds between two readings of metrics.
    pub metrics_interval_ms: u64,
}

impl Config {
    /// Between two questions for health.
    #[must_use]
    pub const fn health_interval(&self) -> Duration {
        Duration::from_millis(self.health_interval_ms)
    }

    /// Patience with one question for health.
    #[must_use]
    pub const fn health_timeout(&self) -> Duration {
        Duration::from_millis(self.health_timeout_ms)
    }

    /// Between two readings of metrics.
    #[must_use]
    pub const fn metrics_interval(&self) -> Duration {
        Duration::from_millis(self.metrics_interval_ms)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            health_interval_ms: DEFAULT_HEALTH_INTERVAL_MS,
            health_timeout_ms: DEFAULT_HEALTH_TIMEOUT_MS,
            metrics_interval_ms: DEFAULT_METRICS_INTERVAL_MS,
        }
    }
}

impl ServiceConfig for Config {
    fn validate(&self) -> Result<(), String> {
        let spans = [
            ("health_interval_ms", self.health_interval_ms),
            ("health_timeout_ms", self.health_timeout_ms),
            ("metrics_interval_ms", self.metrics_interval_ms),
        ];
        for (key, value) in spans {
            if !(LEAST_MS..=MOST_MS).contains(&value) {
                return Err(format!("monitor.{key} must be {LEAST_MS} to {MOST_MS}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_a_busy_loop_is_not() {
        assert!(Config::default().validate().is_ok());
        assert!(Config { health_interval_ms: 0, ..Config::default() }.validate().is_err());
    }
}

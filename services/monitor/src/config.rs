//! What can be configured.

use std::{collections::HashSet, time::Duration};

use serde::Deserialize;
use streamgate_runtime::ServiceConfig;

use crate::engine::alerts::{Rule, defaults};

/// An instance that hangs is seen within this and the timeout, together below two seconds.
const DEFAULT_HEALTH_INTERVAL_MS: u64 = 800;
const DEFAULT_HEALTH_TIMEOUT_MS: u64 = 1_000;
/// Metrics move slowly, and reading them costs more.
const DEFAULT_METRICS_INTERVAL_MS: u64 = 10_000;
const DEFAULT_ALERT_INTERVAL_MS: u64 = 1_000;
const LEAST_MS: u64 = 10;
const MOST_MS: u64 = 60 * 60 * 1000;
/// Rules at the most: each is evaluated for nine services each second.
const MAX_RULES: usize = 100;

/// Section `monitor` of the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Milliseconds between two questions for health.
    pub health_interval_ms: u64,
    /// Milliseconds after which an instance without an answer is unreachable.
    pub health_timeout_ms: u64,
    /// Milliseconds between two readings of metrics.
    pub metrics_interval_ms: u64,
    /// Milliseconds between two evaluations of the rules.
    pub alert_interval_ms: u64,
    /// The rules of alerts; a list here takes the place of the whole default list.
    pub rules: Vec<Rule>,
    /// How much of the log is kept.
    pub logs: LogConfig,
}

/// How much of the log is kept: whatever is reached first.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Milliseconds that a line is kept.
    pub keep_ms: u64,
    /// Lines that are kept.
    pub keep_lines: u64,
    /// Bytes that are kept.
    pub keep_bytes: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { keep_ms: 7 * 24 * 60 * 60 * 1000, keep_lines: 500_000, keep_bytes: 512 * 1024 * 1024 }
    }
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

    /// Between two evaluations of the rules.
    #[must_use]
    pub const fn alert_interval(&self) -> Duration {
        Duration::from_millis(self.alert_interval_ms)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            health_interval_ms: DEFAULT_HEALTH_INTERVAL_MS,
            health_timeout_ms: DEFAULT_HEALTH_TIMEOUT_MS,
            metrics_interval_ms: DEFAULT_METRICS_INTERVAL_MS,
            alert_interval_ms: DEFAULT_ALERT_INTERVAL_MS,
            rules: defaults(),
            logs: LogConfig::default(),
        }
    }
}

impl ServiceConfig for Config {
    fn validate(&self) -> Result<(), String> {
        let spans = [
            ("health_interval_ms", self.health_interval_ms),
            ("health_timeout_ms", self.health_timeout_ms),
            ("metrics_interval_ms", self.metrics_interval_ms),
            ("alert_interval_ms", self.alert_interval_ms),
        ];
        for (key, value) in spans {
            if !(LEAST_MS..=MOST_MS).contains(&value) {
                return Err(format!("monitor.{key} must be {LEAST_MS} to {MOST_MS}"));
            }
        }
        if self.rules.len() > MAX_RULES {
            return Err(format!("monitor.rules must be at most {MAX_RULES}"));
        }
        let mut names = HashSet::new();
        for rule in &self.rules {
            rule.validate().map_err(|words| format!("monitor.rules: {words}"))?;
            if !names.insert(&rule.name) {
                return Err(format!("monitor.rules: {} is there twice", rule.name));
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

    #[test]
    fn a_service_that_hangs_is_seen_within_two_seconds() {
        let config = Config::default();
        assert!(config.health_interval() + config.health_timeout() < Duration::from_secs(2));
    }

    #[test]
    fn two_rules_of_one_name_are_refused() {
        let mut config = Config::default();
        config.rules.push(config.rules[0].clone());
        assert!(config.validate().unwrap_err().contains("twice"));
        config.rules = vec![Rule { threshold: f64::NAN, ..defaults().remove(0) }];
        assert!(config.validate().unwrap_err().contains("threshold"));
        config.rules = vec![Rule { chain: None, ..defaults().pop().unwrap() }];
        assert!(config.validate().unwrap_err().contains("chain"), "a gas price is one of a chain");
    }
}

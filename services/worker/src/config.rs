//! What can be configured.

use std::{fmt, time::Duration};

use serde::Deserialize;
use streamgate_runtime::ServiceConfig;

use crate::engine::Lane;

/// Jobs at once: they mostly wait for other services.
const DEFAULT_CONCURRENCY: u32 = 16;
const MAX_CONCURRENCY: u32 = 256;
/// Deliveries at once: they wait for machines of strangers, far longer than jobs of the house do.
const DEFAULT_WEBHOOK_CONCURRENCY: u32 = 32;
/// An abandoned upload may stay this much longer than it should.
const DEFAULT_SWEEP_INTERVAL_SECONDS: u32 = 600;
/// Titles whose deletion can't be taken back any more keep their media this much longer.
const DEFAULT_PURGE_INTERVAL_SECONDS: u32 = 600;
/// Stored objects are read again this often, as many as one job takes.
const DEFAULT_VERIFY_INTERVAL_SECONDS: u32 = DAY_SECONDS;
/// A dead worker costs its jobs this long.
const DEFAULT_LEASE_SECONDS: u32 = 10;
/// How long a stopping worker waits for its jobs before it gives them back.
const DEFAULT_DRAIN_SECONDS: u32 = 5;
const DAY_SECONDS: u32 = 24 * 60 * 60;

/// Section `worker` of the configuration.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Jobs that run at once, deliveries of webhooks not counted.
    pub concurrency: u32,
    /// Deliveries of webhooks that run at once; one account has a quarter of them at the most.
    pub webhook_concurrency: u32,
    /// Seconds between two sweeps of abandoned uploads.
    pub sweep_interval_seconds: u32,
    /// Seconds between two purges of deleted titles.
    pub purge_interval_seconds: u32,
    /// Seconds between two checks of stored objects against their hashes.
    pub verify_interval_seconds: u32,
    /// Seconds after which a job whose worker is silent runs elsewhere.
    pub lease_seconds: u32,
    /// Seconds a stopping worker waits for running jobs.
    pub drain_seconds: u32,
    /// Where jobs of type `notify` hand messages to; empty for nowhere.
    pub notify_url: String,
    /// Bearer for it.
    pub notify_token: String,
    /// Webhooks may go to plain HTTP and to private addresses. For development only.
    pub webhooks_to_private_addresses: bool,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("concurrency", &self.concurrency)
            .field("lease_seconds", &self.lease_seconds)
            .field("notifies", &!self.notify_url.is_empty())
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Jobs of a lane that run at once.
    #[must_use]
    pub const fn concurrency_of(&self, lane: Lane) -> u32 {
        match lane {
            Lane::House => self.concurrency,
            Lane::Deliveries => self.webhook_concurrency,
        }
    }

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
            webhook_concurrency: DEFAULT_WEBHOOK_CONCURRENCY,
            sweep_interval_seconds: DEFAULT_SWEEP_INTERVAL_SECONDS,
            purge_interval_seconds: DEFAULT_PURGE_INTERVAL_SECONDS,
            verify_interval_seconds: DEFAULT_VERIFY_INTERVAL_SECONDS,
            lease_seconds: DEFAULT_LEASE_SECONDS,
            drain_seconds: DEFAULT_DRAIN_SECONDS,
            notify_url: String::new(),
            notify_token: String::new(),
            webhooks_to_private_addresses: false,
        }
    }
}

impl ServiceConfig for Config {
    fn validate(&self) -> Result<(), String> {
        let bounds = [
            ("concurrency", self.concurrency, 1, MAX_CONCURRENCY),
            ("webhook_concurrency", self.webhook_concurrency, 1, MAX_CONCURRENCY),
            ("sweep_interval_seconds", self.sweep_interval_seconds, 1, DAY_SECONDS),
            ("purge_interval_seconds", self.purge_interval_seconds, 1, DAY_SECONDS),
            ("verify_interval_seconds", self.verify_interval_seconds, 1, 30 * DAY_SECONDS),
            ("lease_seconds", self.lease_seconds, 3, 3_600),
            ("drain_seconds", self.drain_seconds, 0, 600),
        ];
        for (key, value, least, most) in bounds {
            if !(least..=most).contains(&value) {
                return Err(format!("worker.{key} must be {least} to {most}"));
            }
        }
        if !self.notify_url.is_empty() && !self.notify_url.starts_with("https://") && !self.notify_url.starts_with("http://") {
            return Err("worker.notify_url must be an http:// or https:// URL".to_owned());
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

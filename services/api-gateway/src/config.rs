//! Settings of the edge.

use std::time::Duration;

use serde::Deserialize;
use streamgate_runtime::ServiceConfig;

/// Settings of the edge. Every limit is generous for people and small for a runaway script.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Largest JSON body that is read.
    pub json_body_bytes: usize,
    /// Largest answer of a service that is turned into JSON.
    pub response_bytes: usize,
    /// How long one REST call may take, and one chunk of a stream.
    pub call_timeout_ms: u64,
    /// Reverse proxies in front of the edge whose `X-Forwarded-For` is believed.
    pub trusted_proxies: usize,
    /// How often callers may call.
    pub rates: Rates,
}

/// How often callers may call. A rate of 0 is no limit.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// Calls a second for one bearer.
    pub identity_per_second: u32,
    /// Calls a second from one address.
    pub address_per_second: u32,
    /// Requests for media a second from one address; players ask often, and many may share an address.
    pub media_per_second: u32,
    /// How many seconds' worth may come at once.
    pub burst_seconds: u32,
    /// Identities and addresses that are remembered at the most.
    pub max_keys: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            json_body_bytes: 1024 * 1024,
            response_bytes: 8 * 1024 * 1024,
            call_timeout_ms: 30_000,
            trusted_proxies: 0,
            rates: Rates::default(),
        }
    }
}

impl Default for Rates {
    fn default() -> Self {
        Self { identity_per_second: 100, address_per_second: 200, media_per_second: 2_000, burst_seconds: 4, max_keys: 100_000 }
    }
}

impl Config {
    /// How long one REST call may take.
    #[must_use]
    pub const fn call_timeout(&self) -> Duration {
        Duration::from_millis(self.call_timeout_ms)
    }
}

impl ServiceConfig for Config {
    fn validate(&self) -> Result<(), String> {
        if self.json_body_bytes == 0 || self.response_bytes == 0 {
            return Err("json_body_bytes and response_bytes must be at least 1".into());
        }
        if self.call_timeout_ms == 0 {
            return Err("call_timeout_ms must be at least 1".into());
        }
        if self.rates.burst_seconds == 0 || self.rates.max_keys == 0 {
            return Err("rates.burst_seconds and rates.max_keys must be at least 1".into());
        }
        Ok(())
    }
}

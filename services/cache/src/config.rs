//! What can be configured.

use serde::Deserialize;
use streamgate_runtime::ServiceConfig;

const MIB: u64 = 1024 * 1024;
const DEFAULT_CAPACITY_BYTES: u64 = 64 * MIB;
/// The largest value with its key and tags must fit.
const LEAST_CAPACITY_BYTES: u64 = 2 * MIB;

/// Section `cache` of the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Bytes held at the most, keys, tags and bookkeeping included.
    pub capacity_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { capacity_bytes: DEFAULT_CAPACITY_BYTES }
    }
}

impl ServiceConfig for Config {
    fn validate(&self) -> Result<(), String> {
        if self.capacity_bytes < LEAST_CAPACITY_BYTES {
            return Err(format!("cache.capacity_bytes must be at least {LEAST_CAPACITY_BYTES}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_too_little_is_not() {
        assert!(Config::default().validate().is_ok());
        assert!(Config { capacity_bytes: MIB }.validate().is_err());
    }
}

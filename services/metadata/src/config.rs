//! What can be configured.

use serde::Deserialize;
use streamgate_runtime::ServiceConfig;

/// Hits behind which a search ends: nobody leafs further, and each page reads all before it.
const DEFAULT_MAX_SEARCH_RESULTS: u32 = 1_000;
const MAX_SEARCH_RESULTS_BOUND: u32 = 10_000;
/// Public ids of one title.
const DEFAULT_MAX_PLAYBACK_IDS: u32 = 16;
const MAX_PLAYBACK_IDS_BOUND: u32 = 1_000;
/// A week: long enough to notice a mistake, short enough to get the room back.
const DEFAULT_UNDELETE_MS: u64 = 7 * 24 * 60 * 60 * 1_000;
/// A year.
const UNDELETE_MS_BOUND: u64 = 365 * 24 * 60 * 60 * 1_000;

/// Section `metadata` of the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Hits of a search at the most, over all its pages.
    pub max_search_results: u32,
    /// Public ids of one title at the most.
    pub max_playback_ids: u32,
    /// Milliseconds for which a deleted title can be brought back; 0 means never.
    pub undelete_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_search_results: DEFAULT_MAX_SEARCH_RESULTS,
            max_playback_ids: DEFAULT_MAX_PLAYBACK_IDS,
            undelete_ms: DEFAULT_UNDELETE_MS,
        }
    }
}

impl ServiceConfig for Config {
    fn validate(&self) -> Result<(), String> {
        if !(1..=MAX_SEARCH_RESULTS_BOUND).contains(&self.max_search_results) {
            return Err(format!("metadata.max_search_results must be 1 to {MAX_SEARCH_RESULTS_BOUND}"));
        }
        if !(1..=MAX_PLAYBACK_IDS_BOUND).contains(&self.max_playback_ids) {
            return Err(format!("metadata.max_playback_ids must be 1 to {MAX_PLAYBACK_IDS_BOUND}"));
        }
        if self.undelete_ms > UNDELETE_MS_BOUND {
            return Err(format!("metadata.undelete_ms must be at most {UNDELETE_MS_BOUND}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_zero_is_not() {
        assert!(Config::default().validate().is_ok());
        assert!(Config { max_search_results: 0, ..Config::default() }.validate().is_err());
        assert!(Config { undelete_ms: u64::MAX, ..Config::default() }.validate().is_err());
        assert!(Config { undelete_ms: 0, ..Config::default() }.validate().is_ok());
        assert!(Config { max_playback_ids: 0, ..Config::default() }.validate().is_err());
    }
}

//! The section `upload` of the configuration.

use std::time::Duration;

use serde::Deserialize;
use streamgate_runtime::ServiceConfig;

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;
/// The database keeps sizes as signed 64-bit numbers.
const LARGEST_FILE_BYTES: u64 = 1 << 62;

/// How much is taken in, from whom, and for how long.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Largest file.
    pub max_size_bytes: u64,
    /// Largest chunk.
    pub max_chunk_bytes: u64,
    /// Chunks of one upload.
    pub max_chunks: u32,
    /// Uploads one account may have open at once.
    pub max_open_uploads: u32,
    /// Uploads one account may begin on one day (UTC).
    pub account_uploads_per_day: u32,
    /// Bytes one account may keep, those announced included; 0 for no limit.
    pub account_bytes: u64,
    /// Bytes of the disk that uploads leave to the databases beside them; of a small disk, a twentieth.
    pub disk_reserve_bytes: u64,
    /// Time after the last write at which an open upload expires.
    pub expire_after_ms: u64,
    /// Time without a byte after which a writing client counts as gone.
    pub write_idle_timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_size_bytes: 50 * GIB,
            max_chunk_bytes: 64 * MIB,
            max_chunks: 10_000,
            max_open_uploads: 100,
            account_uploads_per_day: 10_000,
            account_bytes: 0,
            disk_reserve_bytes: GIB / 2,
            expire_after_ms: 24 * 60 * 60 * 1000,
            write_idle_timeout_ms: 30_000,
        }
    }
}

impl Config {
    /// [`write_idle_timeout_ms`](Self::write_idle_timeout_ms) as a duration.
    #[must_use]
    pub const fn write_idle_timeout(&self) -> Duration {
        Duration::from_millis(self.write_idle_timeout_ms)
    }

    /// [`expire_after_ms`](Self::expire_after_ms) as it is added to times.
    #[must_use]
    pub fn expire_after(&self) -> i64 {
        i64::try_from(self.expire_after_ms).unwrap_or(i64::MAX / 2)
    }
}

impl ServiceConfig for Config {
    fn validate(&self) -> Result<(), String> {
        if self.max_size_bytes == 0 || self.max_size_bytes > LARGEST_FILE_BYTES {
            return Err(format!("upload.max_size_bytes must be 1 to {LARGEST_FILE_BYTES}"));
        }
        if self.max_chunk_bytes == 0 || self.max_chunk_bytes > LARGEST_FILE_BYTES {
            return Err(format!("upload.max_chunk_bytes must be 1 to {LARGEST_FILE_BYTES}"));
        }
        if self.max_chunks == 0 || self.max_chunks > 100_000 {
            return Err("upload.max_chunks must be 1 to 100000: completing reads all of them".to_owned());
        }
        if self.account_uploads_per_day == 0 {
            return Err("upload.account_uploads_per_day must be at least 1".to_owned());
        }
        if self.max_open_uploads == 0 {
            return Err("upload.max_open_uploads must be at least 1".to_owned());
        }
        if self.expire_after_ms < 60_000 {
            return Err("upload.expire_after_ms must be at least 60000: a client needs time to come back".to_owned());
        }
        if self.write_idle_timeout_ms < 1_000 {
            return Err("upload.write_idle_timeout_ms must be at least 1000".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_nonsense_is_refused() {
        assert_eq!(Config::default().validate(), Ok(()));
        let nonsense = [
            Config { max_size_bytes: 0, ..Config::default() },
            Config { max_open_uploads: 0, ..Config::default() },
            Config { max_chunk_bytes: 0, ..Config::default() },
            Config { max_chunks: 0, ..Config::default() },
            Config { account_uploads_per_day: 0, ..Config::default() },
            Config { expire_after_ms: 10, ..Config::default() },
            Config { write_idle_timeout_ms: 0, ..Config::default() },
        ];
        for config in nonsense {
            assert!(config.validate().is_err_and(|sentence| sentence.starts_with("upload.")));
        }
    }
}

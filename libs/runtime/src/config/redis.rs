//! Where Redis is.

use std::fmt;

use serde::Deserialize;

/// Section `redis` of the configuration. Without a host, the cache keeps its values in its own memory.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// Name or address; empty for none.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User of Redis's access lists; empty for the default one.
    pub username: String,
    /// Empty for none.
    pub password: String,
    /// Number of the database.
    pub database: i64,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self { host: String::new(), port: 6379, username: String::new(), password: String::new(), database: 0 }
    }
}

impl RedisConfig {
    /// Whether there is one.
    #[must_use]
    pub const fn is_set(&self) -> bool {
        !self.host.is_empty()
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.host.contains(['/', ' ', '@']) {
            return Err(format!("redis.host must be a name or an address, not {:?}", self.host));
        }
        if self.port == 0 || self.database < 0 {
            return Err("redis.port and redis.database must be those of a Redis server".to_owned());
        }
        Ok(())
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

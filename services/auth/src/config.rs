//! What can be configured.

use serde::Deserialize;
use streamgate_core::Role;
use streamgate_runtime::ServiceConfig;

use crate::origins;

/// Signing takes a person seconds; five minutes leave room for finding the phone.
const DEFAULT_CHALLENGE_TTL_SECONDS: u32 = 300;
/// About 100 MB of rows when many ask for challenges without end. One network address at the edge's default of 200 a second
/// makes 60,000 in the time of a challenge, so that it takes four to push out one that is waiting.
const DEFAULT_CHALLENGES_TOTAL: u32 = 200_000;
/// A lowered role, or a lost device, ends within this time.
const DEFAULT_ACCESS_TTL_SECONDS: u32 = 600;
const DEFAULT_REFRESH_TTL_DAYS: u32 = 30;
const DEFAULT_KEY_ROTATION_DAYS: u32 = 30;

/// Section `auth` of the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Role of a wallet that signs in for the first time: `viewer` or `creator`.
    pub default_role: String,
    /// Origins beside the public URL from which wallets may sign in, such as `https://video.example`.
    pub allowed_origins: Vec<String>,
    /// How long a challenge may be used, in seconds. Where it is longer than the default, `challenges_total` has to grow with
    /// it, or one caller alone can push out challenges: not checked, since how often one may ask is a setting of the edge.
    pub challenge_ttl_seconds: u32,
    /// Challenges at a time, with a hundredth more for each replica; the oldest give way.
    pub challenges_total: u32,
    /// How long an access token is good for, in seconds.
    pub access_ttl_seconds: u32,
    /// How long a refresh token is good for, in days.
    pub refresh_ttl_days: u32,
    /// After how many days another key signs.
    pub key_rotation_days: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            default_role: "viewer".to_owned(),
            allowed_origins: Vec::new(),
            challenge_ttl_seconds: DEFAULT_CHALLENGE_TTL_SECONDS,
            challenges_total: DEFAULT_CHALLENGES_TOTAL,
            access_ttl_seconds: DEFAULT_ACCESS_TTL_SECONDS,
            refresh_ttl_days: DEFAULT_REFRESH_TTL_DAYS,
            key_rotation_days: DEFAULT_KEY_ROTATION_DAYS,
        }
    }
}

impl Config {
    /// The role of a new wallet.
    #[must_use]
    pub fn role_of_new(&self) -> Role {
        self.default_role.parse().unwrap_or(Role::Viewer)
    }
}

impl ServiceConfig for Config {
    fn validate(&self) -> Result<(), String> {
        if !matches!(self.default_role.parse(), Ok(Role::Viewer | Role::Creator)) {
            return Err("auth.default_role must be viewer or creator; operators are named in operator_wallets".to_owned());
        }
        for origin in &self.allowed_origins {
            origins::parse(origin)
                .ok_or_else(|| format!("auth.allowed_origins: {origin:?} must look like https://video.example"))?;
        }
        within("challenge_ttl_seconds", self.challenge_ttl_seconds, 10, 3600)?;
        within("challenges_total", self.challenges_total, 1, 10_000_000)?;
        within("access_ttl_seconds", self.access_ttl_seconds, 30, 3600)?;
        within("refresh_ttl_days", self.refresh_ttl_days, 1, 365)?;
        within("key_rotation_days", self.key_rotation_days, 1, 365)
    }
}

fn within(key: &str, value: u32, least: u32, most: u32) -> Result<(), String> {
    if (least..=most).contains(&value) { Ok(()) } else { Err(format!("auth.{key} must be {least} to {most}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_an_operator_by_default_is_not() {
        assert_eq!(Config::default().validate(), Ok(()));
        for role in ["operator", "", "admin"] {
            assert!(Config { default_role: role.into(), ..Config::default() }.validate().is_err());
        }
        assert!(Config { allowed_origins: vec!["video.example".into()], ..Config::default() }.validate().is_err());
        assert!(Config { access_ttl_seconds: 0, ..Config::default() }.validate().is_err());
    }
}

//! How events travel, and how long they are kept.

use std::fmt;

use serde::Deserialize;
use streamgate_core::events::Settings;

/// Longest time that events are kept: one year.
const MAX_RETAIN_HOURS: u32 = 366 * 24;
/// Ways to write the address of a NATS server.
const SCHEMES: [&str; 4] = ["nats://", "tls://", "ws://", "wss://"];

/// Section `nats`. Without a URL, services tell each other over gRPC.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NatsConfig {
    /// Servers of one cluster, separated by commas: `nats://user:password@host:4222`.
    url: String,
    /// Copies of each event that the cluster keeps: 1, 3 or 5.
    replicas: u8,
}

impl Default for NatsConfig {
    fn default() -> Self {
        let Settings { nats_url: url, nats_replicas: replicas, .. } = Settings::default();
        Self { url, replicas }
    }
}

impl fmt::Debug for NatsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsConfig").field("is_set", &!self.url.is_empty()).finish_non_exhaustive()
    }
}

/// Section `events`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EventsConfig {
    /// How long an event that has arrived everywhere stays, to be replayed.
    retain_hours: u32,
}

impl Default for EventsConfig {
    fn default() -> Self {
        Self { retain_hours: Settings::default().retain_hours }
    }
}

/// Both sections, checked.
pub(super) fn settings(nats: NatsConfig, events: &EventsConfig) -> Result<Settings, String> {
    let is_server = |url: &str| SCHEMES.iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme));
    if !nats.url.is_empty() && !nats.url.split(',').all(|url| is_server(url.trim())) {
        return Err("nats.url (NATS_URL) must be like nats://host:4222, several separated by commas".to_owned());
    }
    if !matches!(nats.replicas, 1 | 3 | 5) {
        return Err(format!("nats.replicas must be 1, 3 or 5, not {}", nats.replicas));
    }
    if !(1..=MAX_RETAIN_HOURS).contains(&events.retain_hours) {
        return Err(format!("events.retain_hours must be between 1 and {MAX_RETAIN_HOURS}, not {}", events.retain_hours));
    }
    Ok(Settings { nats_url: nats.url, nats_replicas: nats.replicas, retain_hours: events.retain_hours })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_url(url: &str) -> Result<Settings, String> {
        settings(NatsConfig { url: url.to_owned(), ..NatsConfig::default() }, &EventsConfig::default())
    }

    #[test]
    fn only_addresses_of_nats_servers_are_taken() {
        assert!(with_url("nats://a:4222, tls://user:secret@b:4222").is_ok());
        assert_eq!(with_url(""), Ok(Settings::default()));
        for wrong in ["a:4222", "nats://", "http://a", "nats://a,"] {
            assert!(with_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_not_printed() {
        let config = NatsConfig { url: "nats://user:secret@b:4222".to_owned(), ..NatsConfig::default() };
        assert!(!format!("{config:?}").contains("secret"));
        let settings = settings(config, &EventsConfig::default());
        assert!(!format!("{settings:?}").contains("secret"));
    }

    #[test]
    fn a_cluster_keeps_an_odd_number_of_copies() {
        let nats = NatsConfig { replicas: 2, ..NatsConfig::default() };
        assert!(settings(nats, &EventsConfig::default()).is_err());
        assert!(settings(NatsConfig::default(), &EventsConfig { retain_hours: 0 }).is_err());
    }
}

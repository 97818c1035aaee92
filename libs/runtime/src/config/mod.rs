//! Configuration: defaults, then `config.yaml`, then its `.dev`, `.prod` or `.test` overlay, then
//! the environment. What is misspelt or can't be used is refused in one sentence, before
//! anything is opened.

mod env;
mod events;
mod redis;
mod secrets;
mod source;
mod stores;

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use streamgate_client::MeshSecret;
use streamgate_core::ServiceName;

use crate::{ServiceConfig, Stores};
pub use redis::RedisConfig;
pub use source::ConfigSource;

/// One sentence that says which key or variable is wrong, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(crate) String);

/// Where a process listens.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ServerConfig {
    pub(crate) host: IpAddr,
    /// Where the services behind the gateway listen when several run in one process: nobody outside
    /// needs them, and they have no rate limits.
    pub(crate) inner_host: IpAddr,
    /// Port of the one service, or of the gateway among several. 0 lets the system choose all.
    pub(crate) port: Option<u16>,
    /// Ports of single services among several.
    ports: BTreeMap<String, u16>,
    notice_ms: u64,
    grace_ms: u64,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            host: IpAddr::from([0, 0, 0, 0]),
            inner_host: IpAddr::from([127, 0, 0, 1]),
            port: None,
            ports: BTreeMap::new(),
            notice_ms: 1_000,
            grace_ms: 20_000,
        }
    }
}

/// How the log is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogConfig {
    pub(crate) level: String,
    pub(crate) format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// Lines for people or for machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct MeshConfig {
    secret: String,
    targets: BTreeMap<String, String>,
}

/// Where spans and log lines go, beside the process's own output.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TelemetryConfig {
    /// OTLP over gRPC, such as `http://collector:4317`. Spans stay here when empty.
    pub(crate) otlp_endpoint: String,
    /// Lines of this level and graver ones are sent to the monitor.
    pub(crate) ship_logs: String,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { otlp_endpoint: String::new(), ship_logs: "info".to_owned() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Root {
    data_dir: PathBuf,
    public_url: String,
    server: ServerConfig,
    log: LogConfig,
    mesh: MeshConfig,
    telemetry: TelemetryConfig,
    redis: RedisConfig,
    database: stores::DatabaseConfig,
    s3: stores::S3Config,
    nats: events::NatsConfig,
    events: events::EventsConfig,
    operator_wallets: Vec<String>,
    chains: BTreeMap<u64, Vec<String>>,
}

impl Default for Root {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("data"),
            public_url: String::new(),
            server: ServerConfig::default(),
            log: LogConfig::default(),
            mesh: MeshConfig::default(),
            telemetry: TelemetryConfig::default(),
            redis: RedisConfig::default(),
            database: stores::DatabaseConfig::default(),
            s3: stores::S3Config::default(),
            nats: events::NatsConfig::default(),
            events: events::EventsConfig::default(),
            operator_wallets: Vec::new(),
            chains: BTreeMap::new(),
        }
    }
}

/// The whole configuration of a process, checked but for the services' own sections.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    /// Empty when it follows from the gateway's port.
    pub(crate) public_url: String,
    pub(crate) server: ServerConfig,
    pub(crate) log: LogConfig,
    pub(crate) mesh_secret: String,
    pub(crate) targets: BTreeMap<ServiceName, String>,
    pub(crate) telemetry: TelemetryConfig,
    pub(crate) redis: RedisConfig,
    pub(crate) stores: Stores,
    pub(crate) events: streamgate_core::events::Settings,
    pub(crate) operator_wallets: Vec<String>,
    pub(crate) chains: BTreeMap<u64, Vec<String>>,
    ports: BTreeMap<ServiceName, u16>,
    sections: BTreeMap<ServiceName, Value>,
}

impl Settings {
    /// Reads and checks everything `source` has.
    pub(crate) fn load(source: &ConfigSource) -> Result<Self, ConfigError> {
        let mut tree = source.tree()?;
        secrets::check(&tree)?;
        let sections = take_sections(&mut tree);
        let root: Root = typed("", Value::Object(tree))?;
        let settings = Self {
            data_dir: root.data_dir,
            public_url: checked_url("public_url", root.public_url)?,
            ports: by_service("server.ports", root.server.ports.clone())?,
            server: root.server,
            log: root.log,
            mesh_secret: root.mesh.secret,
            targets: by_service("mesh.targets", root.mesh.targets)?,
            telemetry: root.telemetry,
            redis: root.redis,
            stores: Stores {
                database: root.database.server().map_err(ConfigError)?,
                bucket: root.s3.bucket().map_err(ConfigError)?,
            },
            events: events::settings(root.nats, &root.events).map_err(ConfigError)?,
            operator_wallets: root.operator_wallets,
            chains: root.chains,
            sections,
        };
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.data_dir.as_os_str().is_empty() {
            return Err(ConfigError("data_dir must name a folder".to_owned()));
        }
        if !self.mesh_secret.is_empty() && MeshSecret::new(self.mesh_secret.as_bytes()).is_none() {
            let shortest = MeshSecret::SHORTEST;
            return Err(ConfigError(format!("mesh.secret must have at least {shortest} characters, or be left out")));
        }
        self.redis.check().map_err(ConfigError)?;
        for (chain, urls) in &self.chains {
            let is_url = |url: &String| url.starts_with("http://") || url.starts_with("https://");
            if urls.is_empty() || !urls.iter().all(is_url) {
                return Err(ConfigError(format!("chains.{chain} must be a list of http:// or https:// URLs")));
            }
        }
        Ok(())
    }

    /// A service's own section, checked.
    pub(crate) fn section<C: ServiceConfig>(&self, name: ServiceName) -> Result<C, ConfigError> {
        let section = section_of(name);
        let config: C = match self.sections.get(&name) {
            Some(value) => typed(&section, value.clone())?,
            None => C::default(),
        };
        config.validate().map_err(|reason| {
            let names_section = reason.starts_with(&format!("{section}."));
            ConfigError(if names_section { reason } else { format!("{section}: {reason}") })
        })?;
        Ok(config)
    }

    /// Where a service listens, alone in its process or among others.
    pub(crate) fn host(&self, name: ServiceName, alone: bool) -> IpAddr {
        if alone || name == ServiceName::ApiGateway { self.server.host } else { self.server.inner_host }
    }

    /// The port of a service, alone in its process or among others.
    pub(crate) fn port(&self, name: ServiceName, alone: bool) -> u16 {
        let own = self.ports.get(&name).copied();
        match self.server.port {
            Some(0) => own.unwrap_or(0),
            Some(port) if alone || name == ServiceName::ApiGateway => port,
            _ => own.unwrap_or_else(|| name.default_port()),
        }
    }

    pub(crate) const fn notice(&self) -> Duration {
        Duration::from_millis(self.server.notice_ms)
    }

    pub(crate) const fn grace(&self) -> Duration {
        Duration::from_millis(self.server.grace_ms)
    }
}

/// A service's section: its name with underscores, so that it can stand in an environment variable.
pub(crate) fn section_of(name: ServiceName) -> String {
    name.as_str().replace('-', "_")
}

fn take_sections(tree: &mut Map<String, Value>) -> BTreeMap<ServiceName, Value> {
    let mut sections = BTreeMap::new();
    for name in ServiceName::ALL {
        // An empty section in YAML is null.
        if let Some(value) = tree.remove(&section_of(name)).filter(|value| !value.is_null()) {
            sections.insert(name, value);
        }
    }
    tree.retain(|_, value| !value.is_null());
    sections
}

fn typed<C: DeserializeOwned>(section: &str, value: Value) -> Result<C, ConfigError> {
    let place = if section.is_empty() { String::new() } else { format!("{section}: ") };
    serde_json::from_value(value).map_err(|error| ConfigError(format!("{place}{error}")))
}

fn by_service<V>(key: &str, map: BTreeMap<String, V>) -> Result<BTreeMap<ServiceName, V>, ConfigError> {
    let parse = |(name, value): (String, V)| match name.replace('_', "-").parse() {
        Ok(name) => Ok((name, value)),
        Err(_) => Err(ConfigError(format!("{key}: there is no service called {name:?}"))),
    };
    map.into_iter().map(parse).collect()
}

fn checked_url(key: &str, url: String) -> Result<String, ConfigError> {
    if url.is_empty() {
        return Ok(url);
    }
    let uri: Option<http::Uri> = url.parse().ok();
    let is_web = uri
        .is_some_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some() && uri.query().is_none());
    if !is_web {
        return Err(ConfigError(format!("{key} must be a URL such as https://video.example, not {url:?}")));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

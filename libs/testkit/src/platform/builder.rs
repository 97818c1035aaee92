//! How a platform is described before it starts.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Result;

use super::{Engines, Platform, Shape, member::Member};
use crate::free_ports;

/// The nine services, with the gateway first.
const SERVICES: [&str; 9] = ["gateway", "upload", "transcoder", "streaming", "metadata", "cache", "auth", "worker", "monitor"];

/// Port of each of the nine services.
#[derive(Debug, Clone)]
pub struct ServicePorts(BTreeMap<&'static str, u16>);

impl ServicePorts {
    fn free() -> Result<Self> {
        Ok(Self(SERVICES.into_iter().zip(free_ports(SERVICES.len())?).collect()))
    }

    /// Port of the service with this name; the edge is "gateway".
    #[must_use]
    pub fn of(&self, service: &str) -> u16 {
        self.0.get(service).copied().unwrap_or_default()
    }

    /// Names and ports of all nine.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u16)> + '_ {
        self.0.iter().map(|(name, port)| (*name, *port))
    }

    /// The settings that tell processes about these ports.
    pub(super) fn settings(&self, shape: Shape) -> Vec<(String, String)> {
        let one = |(service, port): (&str, u16)| match (shape, service) {
            (Shape::OneProcess, "gateway") => ("SERVER_PORT".to_owned(), port.to_string()),
            (Shape::OneProcess, _) => (format!("STREAMGATE_SERVER__PORTS__{}", service.to_uppercase()), port.to_string()),
            (_, "gateway") => target("API_GATEWAY", port),
            _ => target(&service.to_uppercase(), port),
        };
        self.all().map(one).collect()
    }
}

fn target(service: &str, port: u16) -> (String, String) {
    (format!("STREAMGATE_MESH__TARGETS__{service}"), format!("http://127.0.0.1:{port}"))
}

/// How a platform is started.
#[derive(Debug)]
pub struct PlatformBuilder {
    shape: Shape,
    data_dir: Option<PathBuf>,
    env: BTreeMap<String, String>,
    gateway_port: Option<u16>,
}

impl Default for PlatformBuilder {
    fn default() -> Self {
        Self { shape: Shape::wanted(), data_dir: None, env: BTreeMap::new(), gateway_port: None }
    }
}

impl PlatformBuilder {
    /// Runs in this form; else in the one that `STREAMGATE_TEST_SHAPE` names.
    #[must_use]
    pub const fn shape(mut self, shape: Shape) -> Self {
        self.shape = shape;
        self
    }

    /// Keeps its data in this folder; else in a new one that goes with the handle.
    #[must_use]
    pub fn data_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(folder.into());
        self
    }

    /// Serves the edge on this port; else on a free one.
    #[must_use]
    pub const fn gateway_port(mut self, port: u16) -> Self {
        self.gateway_port = Some(port);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Reads chain `id` from the node at `url`.
    #[must_use]
    pub fn chain(self, id: u64, url: impl Into<String>) -> Self {
        self.env(format!("CHAIN_{id}_RPC"), url)
    }

    /// Starts the platform and waits until it is ready.
    ///
    /// # Errors
    /// When a binary is not built, ends, or is not ready within a minute.
    pub async fn start(self) -> Result<Platform> {
        let engines = if self.shape == Shape::NineOnEngines { Some(Engines::start().await?) } else { None };
        let mut platform = self.prepare()?;
        platform.engines = engines;
        platform.restart().await?;
        Ok(platform)
    }

    /// A platform that is not started, and has no engines: for tests of how it refuses to start.
    ///
    /// # Errors
    /// When the machine gives out no port or folder.
    pub fn prepare(self) -> Result<Platform> {
        let scratch = tempfile::tempdir()?;
        let mut ports = ServicePorts::free()?;
        if let Some(port) = self.gateway_port {
            ports.0.insert("gateway", port);
        }
        let data_dir = self.data_dir.unwrap_or_else(|| scratch.path().join("data"));
        let members = match self.shape {
            Shape::OneProcess => vec![Member::new(None, ports.of("gateway"), scratch.path())],
            Shape::NineProcesses | Shape::NineOnEngines => {
                SERVICES.into_iter().map(|name| Member::new(Some(name), ports.of(name), scratch.path())).collect()
            }
        };
        Ok(Platform { members, shape: self.shape, ports, data_dir, env: self.env, engines: None, scratch })
    }
}

//! Where configuration comes from.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};
use streamgate_core::ServiceName;
use streamgate_store::{Database, Migrations};

use super::{ConfigError, Settings, env};
use crate::{BoxError, stores};

/// File that is read when nobody names another.
const DEFAULT_FILE: &str = "config/config.yaml";

/// Everything a configuration is made from, later parts winning over earlier ones.
#[derive(Debug, Clone, Default)]
pub struct ConfigSource {
    /// Name for messages, and YAML text.
    documents: Vec<(String, String)>,
    env: Vec<(String, String)>,
    ephemeral: bool,
}

impl ConfigSource {
    /// Defaults only.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// For tests: everything under `data_dir`, on loopback ports that the system chooses,
    /// stopping at once.
    #[must_use]
    pub fn for_tests(data_dir: &Path) -> Self {
        let yaml = "server: {host: 127.0.0.1, notice_ms: 0, grace_ms: 5000}";
        Self::new().yaml(yaml).env("STREAMGATE_DATA_DIR", data_dir.to_string_lossy()).ephemeral()
    }

    /// The process's files and environment.
    ///
    /// # Errors
    /// A file that can't be read.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn of_process() -> Result<Self, ConfigError> {
        let env: Vec<(String, String)> =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect();
        let find =
            |wanted: &str| env.iter().find(|(name, value)| name == wanted && !value.is_empty()).map(|(_, value)| value.clone());
        let mut source = Self::new();
        let named = find("STREAMGATE_CONFIG").map(PathBuf::from);
        let path = named.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
        source.read(&path, named.is_some())?;
        if let Some(stage) = find("STREAMGATE_ENV") {
            if !matches!(stage.as_str(), "dev" | "prod" | "test") {
                return Err(ConfigError(format!("STREAMGATE_ENV must be dev, prod or test, not {stage:?}")));
            }
            source.read(&path.with_extension(format!("{stage}.yaml")), false)?;
        }
        source.env = env;
        Ok(source)
    }

    fn read(&mut self, path: &Path, must_exist: bool) -> Result<(), ConfigError> {
        match fs::read_to_string(path) {
            Ok(text) => self.documents.push((path.display().to_string(), text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => {}
            Err(error) => return Err(ConfigError(format!("can't read the configuration file {}: {error}", path.display()))),
        }
        Ok(())
    }

    /// Adds YAML on top.
    #[must_use]
    pub fn yaml(mut self, text: impl Into<String>) -> Self {
        self.documents.push(("the given configuration".to_owned(), text.into()));
        self
    }

    /// Sets an environment variable on top.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Lets the system choose all ports.
    #[must_use]
    pub const fn ephemeral(mut self) -> Self {
        self.ephemeral = true;
        self
    }

    /// The data folder that this configuration names, for tools that work on it while nothing runs.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn data_dir(&self) -> Result<PathBuf, ConfigError> {
        Ok(Settings::load(self)?.data_dir)
    }

    /// A service's database as this configuration names it, for tools that work on it beside the platform.
    ///
    /// # Errors
    /// What is wrong with the configuration, or with the database; it is not waited for.
    pub async fn database(&self, name: ServiceName, migrations: &Migrations) -> Result<Database, BoxError> {
        let settings = Settings::load(self)?;
        Ok(stores::open(&settings.stores, &settings.data_dir, name, migrations).await?)
    }

    /// All layers merged.
    pub(super) fn tree(&self) -> Result<Map<String, Value>, ConfigError> {
        let mut tree = Map::new();
        for (name, text) in &self.documents {
            merge(&mut tree, parse(name, text)?);
        }
        for (name, value) in &self.env {
            env::apply(&mut tree, name, value)?;
        }
        if self.ephemeral {
            env::set(&mut tree, &["server", "port"], Value::from(0));
        }
        Ok(tree)
    }
}

fn parse(name: &str, text: &str) -> Result<Map<String, Value>, ConfigError> {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Map::new());
    }
    let value: Value = serde_saphyr::from_str(text).map_err(|error| {
        // The library draws the place over several lines; a message is one sentence.
        let error = error.to_string();
        ConfigError(format!("{name} is not valid YAML: {}", error.lines().next().unwrap_or_default().trim()))
    })?;
    match value {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        _ => Err(ConfigError(format!("{name} must be a map of sections"))),
    }
}

fn merge(below: &mut Map<String, Value>, above: Map<String, Value>) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Object(below)), Value::Object(above)) => merge(below, above),
            (_, value) => drop(below.insert(key, value)),
        }
    }
}

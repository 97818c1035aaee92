//! Prometheus, from the Debian package.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};
use async_trait::async_trait;
use serde_json::Value;

use super::{
    program,
    server::{Kind, Place, Server, engine},
};

/// A running Prometheus that reads some targets each second.
#[derive(Debug)]
pub struct Prometheus {
    server: Server<Kit>,
}

engine!(Prometheus, "Prometheus");

impl Prometheus {
    /// Starts a server that reads `/metrics` of each `host:port`, and evaluates the rules in a file.
    ///
    /// # Errors
    /// When it is not installed or does not come up.
    pub async fn start(targets: Vec<String>, rules: &Path) -> Result<Self> {
        Ok(Self { server: Server::start(Kit { targets, rules: rules.display().to_string() }).await? })
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.place.address())
    }

    /// What a query gives now: one value for each series.
    ///
    /// # Errors
    /// When the query is wrong, or the server does not answer.
    pub async fn query(&self, query: &str) -> Result<Vec<Value>> {
        let request = reqwest::Client::new().get(format!("{}/api/v1/query", self.url())).query(&[("query", query)]);
        self.ask(request).await?["result"].as_array().cloned().context("the answer is no list")
    }

    /// What the server knows under `/api/v1/<path>`, such as `targets` or `rules`.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn know(&self, path: &str) -> Result<Value> {
        self.ask(reqwest::Client::new().get(format!("{}/api/v1/{path}", self.url()))).await
    }

    async fn ask(&self, request: reqwest::RequestBuilder) -> Result<Value> {
        let mut answer: Value = serde_json::from_slice(&request.send().await?.bytes().await?)?;
        if answer["status"] != "success" {
            bail!("Prometheus says: {}", answer["error"]);
        }
        Ok(answer["data"].take())
    }

    /// Checks a file of rules with `promtool`.
    ///
    /// # Errors
    /// What is wrong with the rules.
    pub fn check_rules(rules: &Path) -> Result<()> {
        let output = Command::new(program("promtool")?).args(["check", "rules"]).arg(rules).output()?;
        if !output.status.success() {
            bail!("promtool: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![("PROMETHEUS_URL", self.url())]
    }
}

#[derive(Debug)]
struct Kit {
    targets: Vec<String>,
    rules: String,
}

#[async_trait]
impl Kind for Kit {
    const NAME: &'static str = "Prometheus";

    fn prepare(&self, place: &Place) -> Result<()> {
        let mut config = String::from("global: {scrape_interval: 1s, evaluation_interval: 1s}\n");
        writeln!(config, "rule_files: ['{}']", self.rules)?;
        writeln!(config, "scrape_configs:\n- job_name: streamgate\n  static_configs:\n  - targets: {:?}", self.targets)?;
        Ok(fs::write(place.folder().join("prometheus.yml"), config)?)
    }

    fn command(&self, place: &Place) -> Result<Command> {
        let mut command = Command::new(program("prometheus")?);
        command.arg(format!("--config.file={}", place.folder().join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", place.data().display()));
        command.arg(format!("--web.listen-address={}", place.address()));
        Ok(command)
    }

    async fn is_ready(&self, place: &Place) -> bool {
        let answer = reqwest::get(format!("http://{}/-/ready", place.address())).await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }
}

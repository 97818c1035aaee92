//! A handle on the real `streamgate` process.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::{eventually, free_ports, process::Process};

/// How long the platform may take to come up. Debug builds on a busy machine are slow.
const START_BOUND: Duration = Duration::from_secs(60);
/// How long it may take to stop after SIGTERM.
const STOP_BOUND: Duration = Duration::from_secs(60);

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
}

/// How a platform is started.
#[derive(Debug, Default)]
pub struct PlatformBuilder {
    data_dir: Option<PathBuf>,
    env: BTreeMap<String, String>,
    gateway_port: Option<u16>,
}

impl PlatformBuilder {
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
    /// When the binary is not built, ends, or is not ready within a minute.
    pub async fn start(self) -> Result<Platform> {
        let mut platform = self.prepare()?;
        platform.restart().await?;
        Ok(platform)
    }

    /// A platform that is not started: for tests of how it refuses to start.
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
        Ok(Platform { process: None, ports, data_dir, env: self.env, scratch })
    }
}

/// A `streamgate serve` process; killed when dropped.
#[derive(Debug)]
pub struct Platform {
    process: Option<Process>,
    ports: ServicePorts,
    data_dir: PathBuf,
    env: BTreeMap<String, String>,
    scratch: TempDir,
}

impl Platform {
    /// Begins to describe a platform.
    #[must_use]
    pub fn builder() -> PlatformBuilder {
        PlatformBuilder::default()
    }

    /// Starts it again on the same folder and ports, and waits until it is ready.
    ///
    /// # Errors
    /// When it ends, or is not ready within a minute.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill();
        let mut process = Process::start(self.command(&["serve"])?, &self.log())?;
        let ready = format!("{}/ready", self.url());
        let http = reqwest::Client::new();
        let up = eventually("the platform is ready", START_BOUND, || {
            let ended = process.ended();
            let request = http.get(&ready).timeout(Duration::from_secs(2)).send();
            async move {
                if let Some(status) = ended? {
                    bail!("the platform ended with {status}");
                }
                Ok(request.await.ok().filter(|answer| answer.status().is_success()))
            }
        });
        if let Err(error) = up.await {
            return Err(error.context(tail(&process.output())));
        }
        self.process = Some(process);
        Ok(())
    }

    /// A command line of the real binary with this platform's folder and ports.
    ///
    /// # Errors
    /// When the binary is not built.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary("streamgate")?);
        // What the person who runs the tests has set must not change what they say.
        inherited_settings().iter().for_each(|name| {
            command.env_remove(name);
        });
        command.args(arguments).envs(self.environment());
        // Away from the repository's own config folder.
        command.current_dir(self.scratch.path());
        Ok(command)
    }

    /// Runs one command of the real binary to its end and gives its output.
    ///
    /// # Errors
    /// When it fails; the message is what it said.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments)?.output()?;
        if !output.status.success() {
            bail!("streamgate {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Makes an API key in the platform's own folder.
    ///
    /// # Errors
    /// When the command fails or prints no key.
    pub fn api_key(&self, role: &str) -> Result<String> {
        let printed = self.run(&["apikey", "create", "--role", role, "--name", "test"])?;
        let key = printed.split_whitespace().find(|word| word.starts_with("sgk_"));
        Ok(key.context("the command printed no key")?.to_owned())
    }

    fn environment(&self) -> BTreeMap<String, String> {
        let mut environment = BTreeMap::from([
            ("STREAMGATE_DATA_DIR".to_owned(), self.data_dir.display().to_string()),
            ("STREAMGATE_SERVER__HOST".to_owned(), "127.0.0.1".to_owned()),
            ("STREAMGATE_SERVER__NOTICE_MS".to_owned(), "0".to_owned()),
            ("STREAMGATE_PUBLIC_URL".to_owned(), self.url()),
            ("LOG_FORMAT".to_owned(), "text".to_owned()),
        ]);
        for (service, port) in self.ports.all() {
            if service == "gateway" {
                environment.insert("SERVER_PORT".to_owned(), port.to_string());
            } else {
                environment.insert(format!("STREAMGATE_SERVER__PORTS__{}", service.to_uppercase()), port.to_string());
            }
        }
        environment.extend(self.env.clone());
        environment
    }

    /// Address of the edge.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.of("gateway"))
    }

    /// Ports of the nine services.
    #[must_use]
    pub const fn ports(&self) -> &ServicePorts {
        &self.ports
    }

    /// Folder of its data.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Id of the running process; 0 when it is not running.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.process.as_ref().map_or(0, Process::id)
    }

    /// Whether the process runs.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn is_running(&mut self) -> Result<bool> {
        match &mut self.process {
            Some(process) => Ok(process.ended()?.is_none()),
            None => Ok(false),
        }
    }

    /// Everything the process has logged, over all its starts.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn log(&self) -> PathBuf {
        self.scratch.path().join("streamgate.log")
    }

    /// Ends it at once with SIGKILL, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Asks it to stop and waits until it has.
    ///
    /// # Errors
    /// When it does not stop within a minute.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        let Some(mut process) = self.process.take() else { bail!("the platform is not running") };
        process.stop(STOP_BOUND).await
    }
}

/// A binary of this workspace, beside the one that runs now.
fn binary(name: &str) -> Result<PathBuf> {
    #[allow(clippy::disallowed_methods, reason = "a test says which build it wants through the environment")]
    if let Some(folder) = env::var_os("STREAMGATE_BIN_DIR") {
        return Ok(PathBuf::from(folder).join(name));
    }
    let here = env::current_exe().context("find this program")?;
    // Tests lie in target/PROFILE/deps, programs in target/PROFILE.
    let beside = here.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    beside.with_context(|| format!("{name} is not built: run `cargo build -p streamgate -p streamgate-encoder`"))
}

/// Names of the platform's settings in this process's own environment.
fn inherited_settings() -> Vec<std::ffi::OsString> {
    const OURS: [&str; 5] = ["STREAMGATE_", "CHAIN_", "SERVER_", "LOG_", "OPERATOR_WALLETS"];
    #[allow(clippy::disallowed_methods, reason = "a child must not inherit settings by accident")]
    let names = env::vars_os().map(|(name, _)| name);
    names.filter(|name| OURS.iter().any(|prefix| name.to_string_lossy().starts_with(prefix))).collect()
}

/// The end of a log, for an error message.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

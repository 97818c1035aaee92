//! A handle on the real platform: one process, or nine.

mod builder;
mod engines;
mod launch;
mod member;
mod shape;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

pub use builder::{PlatformBuilder, ServicePorts};
pub use engines::Engines;
pub use shape::Shape;

use self::{
    launch::{binary, inherited_settings},
    member::Member,
};
use crate::free_port;

/// How long it may take to stop after SIGTERM.
const STOP_BOUND: Duration = Duration::from_secs(60);
/// How long a service may be writing to its own rows.
const BUSY_BOUND: Duration = Duration::from_secs(60);

/// The real platform, started from its real binaries; killed when dropped.
#[derive(Debug)]
pub struct Platform {
    // Before the engines: services end before what they stand on.
    members: Vec<Member>,
    shape: Shape,
    ports: ServicePorts,
    data_dir: PathBuf,
    env: BTreeMap<String, String>,
    engines: Option<Engines>,
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
    /// When a process ends, or is not ready within a minute.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill();
        for index in 0..self.members.len() {
            self.launch(index)?;
        }
        self.ready().await
    }

    /// Waits until all its processes are ready.
    ///
    /// # Errors
    /// When one ends, or is not ready within a minute.
    pub async fn ready(&mut self) -> Result<()> {
        for member in &mut self.members {
            member.ready().await?;
        }
        Ok(())
    }

    /// Kills the process that holds this service and starts it again; waits until it is ready.
    ///
    /// # Errors
    /// When it ends, or is not ready within a minute.
    pub async fn restart_service(&mut self, service: &str) -> Result<()> {
        let index = self.index_of(service)?;
        self.members[index].kill();
        self.launch(index)?;
        self.members[index].ready().await
    }

    /// Starts one more process of a service on a free port, and gives that port at once, before it is [`ready`](Self::ready).
    /// The others are not told of it, and `settings` go before what they are told. It shares their folder, so its rows must
    /// be on a server.
    ///
    /// # Errors
    /// When there is no such service, or all are one process.
    pub fn start_replica(&mut self, service: &str, settings: &[(&str, &str)]) -> Result<u16> {
        let name = self.ports.all().map(|(name, _)| name).find(|name| *name == service);
        let name = name.filter(|_| self.shape != Shape::OneProcess).context("only a service of its own has replicas")?;
        let port = free_port()?;
        self.members.push(Member::replica(name, port, settings, self.scratch.path()));
        self.launch(self.members.len() - 1)?;
        Ok(port)
    }

    /// Ends the process that holds this service at once with SIGKILL, as a power cut would.
    ///
    /// # Errors
    /// When there is no such service.
    pub fn kill_service(&mut self, service: &str) -> Result<()> {
        let index = self.index_of(service)?;
        self.members[index].kill();
        Ok(())
    }

    fn index_of(&self, service: &str) -> Result<usize> {
        let index = self.members.iter().position(|member| member.holds(service));
        index.with_context(|| format!("there is no service called {service}"))
    }

    fn launch(&mut self, index: usize) -> Result<()> {
        let member = &self.members[index];
        let mut command = self.program(member.binary())?;
        if self.shape == Shape::OneProcess {
            command.arg("serve");
        } else {
            command.env("SERVER_PORT", member.port().to_string());
        }
        command.envs(member.settings().iter().map(|(name, value)| (name, value)));
        self.members[index].start(&command)
    }

    /// A command line of the real `streamgate` binary with this platform's folder and ports.
    ///
    /// # Errors
    /// When the binary is not built.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.program("streamgate")?;
        command.args(arguments);
        Ok(command)
    }

    fn program(&self, name: &str) -> Result<Command> {
        let mut command = Command::new(binary(name)?);
        // What the person who runs the tests has set must not change what they say.
        inherited_settings().iter().for_each(|name| {
            command.env_remove(name);
        });
        command.envs(self.environment());
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

    /// Makes an API key in the platform's own store.
    ///
    /// # Errors
    /// When the command fails or prints no key.
    pub fn api_key(&self, role: &str) -> Result<String> {
        let printed = self.run(&["apikey", "create", "--role", role, "--name", "test"])?;
        let key = printed.split_whitespace().find(|word| word.starts_with("sgk_"));
        Ok(key.context("the command printed no key")?.to_owned())
    }

    /// Runs SQL on the SQLite file of a service beside the service itself: for faults that a person or a disk makes.
    ///
    /// # Errors
    /// When the file can't be opened, or the SQL fails.
    pub async fn meddle_with_rows(&self, service: &str, sql: &str) -> Result<()> {
        let file = self.data_dir.join("db").join(format!("{service}.db"));
        let options = SqliteConnectOptions::new().filename(&file).busy_timeout(BUSY_BOUND);
        let mut rows = options.connect().await.with_context(|| file.display().to_string())?;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut rows).await.with_context(|| sql.to_owned())?;
        Ok(rows.close().await?)
    }

    /// The settings that all its processes share.
    fn environment(&self) -> BTreeMap<String, String> {
        let mut environment = BTreeMap::from([
            ("STREAMGATE_DATA_DIR".to_owned(), self.data_dir.display().to_string()),
            ("STREAMGATE_SERVER__HOST".to_owned(), "127.0.0.1".to_owned()),
            ("STREAMGATE_SERVER__NOTICE_MS".to_owned(), "0".to_owned()),
            ("STREAMGATE_PUBLIC_URL".to_owned(), self.url()),
            ("LOG_FORMAT".to_owned(), "text".to_owned()),
        ]);
        environment.extend(self.ports.settings(self.shape));
        environment.extend(self.engines.iter().flat_map(Engines::env));
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

    /// How many processes it is, and on what they stand.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// The engines that it stands on; none when they are embedded.
    pub const fn engines(&mut self) -> Option<&mut Engines> {
        self.engines.as_mut()
    }

    /// Folder of its data.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Ids of the running processes.
    #[must_use]
    pub fn process_ids(&self) -> Vec<u32> {
        self.members.iter().filter_map(Member::process_id).collect()
    }

    /// Whether all its processes run.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn is_running(&mut self) -> Result<bool> {
        for member in &mut self.members {
            if !member.is_running()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Everything its processes have logged, over all their starts.
    #[must_use]
    pub fn output(&self) -> String {
        self.members.iter().map(Member::output).collect()
    }

    /// Ends all at once with SIGKILL, as a power cut would.
    pub fn kill(&mut self) {
        self.members.iter_mut().for_each(Member::kill);
    }

    /// Asks it to stop and waits until it has; the first status that is no success, when there is one.
    ///
    /// # Errors
    /// When it does not stop within a minute.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        let mut last = None;
        for member in &mut self.members {
            let status = member.stop(STOP_BOUND).await?;
            if last.is_none_or(|status: ExitStatus| status.success()) {
                last = Some(status);
            }
        }
        last.context("the platform has no process")
    }
}

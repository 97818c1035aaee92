//! What all engines have in common: a server process that can be taken away and brought back.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use async_trait::async_trait;
use rustix::process::Signal;
use tempfile::TempDir;

use super::tree::{family, signal_all};
use crate::{eventually, free_port, process::Process};

/// How long a server may take to come up. The Python one is slow on a busy machine.
const START_BOUND: Duration = Duration::from_secs(60);
/// How long a server may take to stop when asked.
const STOP_BOUND: Duration = Duration::from_secs(20);

/// What a kind of server has of its own.
#[async_trait]
pub(super) trait Kind: std::fmt::Debug + Send + Sync + 'static {
    /// Its name, for messages.
    const NAME: &'static str;
    /// The signal that makes it stop in order.
    const STOP: Signal = Signal::TERM;

    /// User and group that it runs under; this process's own when `None`.
    fn user(&self) -> Option<(u32, u32)> {
        None
    }

    /// Makes what it needs in its folder, once.
    fn prepare(&self, place: &Place) -> Result<()>;
    /// The command that runs it in the foreground.
    fn command(&self, place: &Place) -> Result<Command>;
    /// Whether it serves now.
    async fn is_ready(&self, place: &Place) -> bool;
}

/// Where a server lives.
#[derive(Debug)]
pub(super) struct Place {
    folder: TempDir,
    pub(super) port: u16,
}

impl Place {
    fn new() -> Result<Self> {
        Ok(Self { folder: tempfile::tempdir()?, port: free_port()? })
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its data.
    pub(super) fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder().join("server.log")
    }

    /// Host and port as one address.
    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// A server of one kind; killed with its children when dropped.
#[derive(Debug)]
pub(super) struct Server<K: Kind> {
    pub(super) kind: K,
    // Before the place: the process ends before its folder goes.
    process: Option<Process>,
    pub(super) place: Place,
}

impl<K: Kind> Server<K> {
    pub(super) async fn start(kind: K) -> Result<Self> {
        let mut server = Self { kind, process: None, place: Place::new()? };
        server.kind.prepare(&server.place).with_context(|| format!("prepare {}", K::NAME))?;
        server.up().await?;
        Ok(server)
    }

    async fn up(&mut self) -> Result<()> {
        let command = tied_to_this_process(&self.kind.command(&self.place)?, self.kind.user());
        let mut process = Process::start_tied(command, &self.place.log())?;
        let (kind, place) = (&self.kind, &self.place);
        let what = format!("{} is ready", K::NAME);
        let up = eventually(&what, START_BOUND, || {
            let ended = process.ended();
            async move {
                if let Some(status) = ended? {
                    bail!("{} ended with {status}", K::NAME);
                }
                Ok(kind.is_ready(place).await.then_some(()))
            }
        });
        let up = up.await;
        self.process = Some(process);
        up.with_context(|| fs::read_to_string(self.place.log()).unwrap_or_default())
    }
}

impl<K: Kind> Server<K> {
    pub(super) async fn stop(&mut self) -> Result<()> {
        let Some(process) = &mut self.process else { return Ok(()) };
        // A frozen server never sees the request to stop.
        signal_all(&family(process.id()), Signal::CONT);
        signal_all(&[process.id()], K::STOP);
        process.wait(STOP_BOUND).await.with_context(|| format!("stop {}", K::NAME))?;
        self.process = None;
        Ok(())
    }

    /// Everything it has written.
    pub(super) fn output(&self) -> String {
        fs::read(self.place.log()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    pub(super) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.process = None;
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            signal_all(&family(process.id()), signal);
        }
    }

    pub(super) async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        self.up().await
    }
}

impl<K: Kind> Drop for Server<K> {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The command under the id of `user`, and killed by the system when this process ends: a test that is killed leaves
/// no server behind.
pub(crate) fn tied_to_this_process(command: &Command, user: Option<(u32, u32)>) -> Command {
    let mut tied = Command::new("setpriv");
    tied.args(["--pdeathsig", "KILL"]);
    if let Some((uid, gid)) = user {
        tied.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}")).arg("--clear-groups");
    }
    tied.arg("--").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => tied.env(name, value),
            None => tied.env_remove(name),
        };
    }
    tied
}

/// A server that a test can take away and bring back.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Its name, for messages.
    fn name(&self) -> &'static str;
    /// Asks it to stop and waits until it has; does nothing when it is not running.
    async fn stop(&mut self) -> Result<()>;
    /// Ends it at once with its children, as a power cut would.
    fn kill(&mut self);
    /// Freezes it: connections stay open and nothing answers.
    fn pause(&self);
    /// Goes on after [`Engine::pause`].
    fn resume(&self);
    /// Stops it, when it runs, and starts it again on the same port with the same data; waits until it serves.
    async fn restart(&mut self) -> Result<()>;
    /// The platform's settings that point to it.
    fn env(&self) -> Vec<(String, String)>;
}

/// Implements [`Engine`] for a handle around a `Server` in its field `server`.
macro_rules! engine {
    ($handle:ty, $name:literal) => {
        #[async_trait::async_trait]
        impl $crate::engines::Engine for $handle {
            fn name(&self) -> &'static str {
                $name
            }
            async fn stop(&mut self) -> anyhow::Result<()> {
                self.server.stop().await
            }
            fn kill(&mut self) {
                self.server.kill();
            }
            fn pause(&self) {
                self.server.signal(rustix::process::Signal::STOP);
            }
            fn resume(&self) {
                self.server.signal(rustix::process::Signal::CONT);
            }
            async fn restart(&mut self) -> anyhow::Result<()> {
                self.server.restart().await
            }
            fn env(&self) -> Vec<(String, String)> {
                self.settings().into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            }
        }
    };
}
pub(super) use engine;

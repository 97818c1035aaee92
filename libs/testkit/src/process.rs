//! A child process that never outlives its handle.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};

use crate::{eventually, nursery};

/// A child whose output goes to a file; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; both of its outputs are appended to `log`.
    pub(crate) fn start(command: Command, log: &Path) -> Result<Self> {
        Self::start_by(|mut command: Command| command.spawn(), command, log)
    }

    /// The same, from the thread that lives as long as this process: for a command that asks to end with its parent.
    pub(crate) fn start_tied(command: Command, log: &Path) -> Result<Self> {
        Self::start_by(nursery::spawn, command, log)
    }

    fn start_by(spawn: impl FnOnce(Command) -> io::Result<Child>, mut command: Command, log: &Path) -> Result<Self> {
        let out = File::options().create(true).append(true).open(log).with_context(|| format!("open {}", log.display()))?;
        let errors = out.try_clone()?;
        let program = command.get_program().display().to_string();
        command.stdin(Stdio::null()).stdout(out).stderr(errors);
        let child = spawn(command).with_context(|| format!("start {program}"))?;
        Ok(Self { child, log: log.to_path_buf() })
    }

    /// Id of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Everything it has written.
    pub(crate) fn output(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Ends it at once, as a power cut would.
    pub(crate) fn kill(&mut self) {
        // Fails only when it has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to stop (SIGTERM) and waits until it has.
    pub(crate) async fn stop(&mut self, bound: Duration) -> Result<ExitStatus> {
        Command::new("kill").args(["-TERM", &self.id().to_string()]).status().context("send SIGTERM")?;
        self.wait(bound).await
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn wait(&mut self, bound: Duration) -> Result<ExitStatus> {
        let id = self.id();
        eventually(&format!("process {id} stops"), bound, || {
            let ended = self.child.try_wait();
            async move { ended.map_err(|error| anyhow!(error)) }
        })
        .await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

//! One process of a platform.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{engines::tied_to_this_process, eventually, process::Process};

/// How long a process may take to come up. Debug builds on a busy machine are slow.
const START_BOUND: Duration = Duration::from_secs(60);
/// Lines of the log that an error message shows.
const TAIL_LINES: usize = 15;

/// A process, and whether it runs.
#[derive(Debug)]
pub(super) struct Member {
    binary: String,
    /// The service that it is; `None` when it is all of them.
    service: Option<&'static str>,
    port: u16,
    /// What it is told in place of what all are told.
    settings: Vec<(String, String)>,
    log: PathBuf,
    process: Option<Process>,
}

impl Member {
    /// The process of one service, or of all.
    pub(super) fn new(service: Option<&'static str>, port: u16, logs: &Path) -> Self {
        let binary = match service {
            None => "streamgate".to_owned(),
            Some("gateway") => "streamgate-api-gateway".to_owned(),
            Some(service) => format!("streamgate-{service}"),
        };
        let log = logs.join(format!("{binary}.log"));
        Self { binary, service, port, settings: Vec::new(), log, process: None }
    }

    /// One more process of a service, with settings of its own.
    pub(super) fn replica(service: &'static str, port: u16, settings: &[(&str, &str)], logs: &Path) -> Self {
        let first = Self::new(Some(service), port, logs);
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { log: logs.join(format!("{}-{port}.log", first.binary)), settings, ..first }
    }

    pub(super) fn holds(&self, service: &str) -> bool {
        self.service.is_none_or(|own| own == service)
    }

    pub(super) fn binary(&self) -> &str {
        &self.binary
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn settings(&self) -> &[(String, String)] {
        &self.settings
    }

    pub(super) fn start(&mut self, command: &Command) -> Result<()> {
        let mut tied = tied_to_this_process(command, None);
        if let Some(folder) = command.get_current_dir() {
            tied.current_dir(folder);
        }
        self.process = Some(Process::start_tied(tied, &self.log)?);
        Ok(())
    }

    /// Waits until it is ready.
    pub(super) async fn ready(&mut self) -> Result<()> {
        let binary = &self.binary;
        let Some(process) = &mut self.process else { bail!("{binary} is not running") };
        let ready = format!("http://127.0.0.1:{}/ready", self.port);
        let http = reqwest::Client::new();
        let what = format!("{binary} is ready");
        let up = eventually(&what, START_BOUND, || {
            let ended = process.ended();
            let request = http.get(&ready).timeout(Duration::from_secs(2)).send();
            async move {
                if let Some(status) = ended? {
                    bail!("{binary} ended with {status}");
                }
                Ok(request.await.ok().filter(|answer| answer.status().is_success()).map(drop))
            }
        });
        let up = up.await;
        up.with_context(|| tail(&self.output()))
    }

    pub(super) fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    pub(super) fn is_running(&mut self) -> Result<bool> {
        match &mut self.process {
            Some(process) => Ok(process.ended()?.is_none()),
            None => Ok(false),
        }
    }

    pub(super) fn output(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    pub(super) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    pub(super) async fn stop(&mut self, bound: Duration) -> Result<ExitStatus> {
        let Some(mut process) = self.process.take() else { bail!("{} is not running", self.binary) };
        process.stop(bound).await
    }
}

/// The end of a log, for an error message.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

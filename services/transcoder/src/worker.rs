//! Runs jobs: as many at once as configured, each in a child process of its own. Posters on request are made beside them.

mod attempt;
mod child;
mod files;
mod poster;
mod scratch;
mod verdict;

use std::{
    fs::File,
    mem,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use streamgate_client::context::caused_by;
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::{Claim, Config, Engine, Error};

/// How often the queue is looked at without being told: leases end silently.
const POLL: Duration = Duration::from_secs(1);
/// How often the pool is told that this worker is there.
const REPORT: Duration = Duration::from_secs(5);
/// How often a missing encoder is looked for again.
const CHECK_AGAIN: Duration = Duration::from_secs(15);
/// How often what is gone is looked for.
const SWEEP: Duration = Duration::from_secs(5);
/// Name of the encoder program.
const ENCODER: &str = "streamgate-encoder";

/// Takes jobs from the queue and runs them, and makes posters. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Worker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Engine,
    config: Config,
    /// Names this process in leases.
    owner: String,
    /// The folder of this process.
    scratch: PathBuf,
    registry: PathBuf,
    readiness: Mutex<Result<PathBuf, String>>,
    /// Turns of posters.
    posters: Semaphore,
}

impl Worker {
    /// A worker that keeps its scratch files below `data_dir`.
    #[must_use]
    pub fn new(engine: Engine, config: Config, data_dir: &Path) -> Self {
        let owner = uuid::Uuid::new_v4().simple().to_string();
        let (scratch, registry) = (data_dir.join("scratch").join(&owner), data_dir.join("cache").join("gst-registry.bin"));
        let readiness = Mutex::new(Err("the encoder is being checked".to_owned()));
        let posters = Semaphore::new(poster::AT_ONCE);
        Self(Arc::new(Inner { engine, config, owner, scratch, registry, readiness, posters }))
    }

    /// Whether jobs can be run; a sentence otherwise.
    ///
    /// # Errors
    /// The sentence.
    pub fn readiness(&self) -> Result<(), String> {
        self.0.readiness.lock().unwrap_or_else(PoisonError::into_inner).clone().map(|_| ())
    }

    /// Runs jobs until `stop`; those under way are then given back. While the database is away, what runs goes on as long
    /// as its lease.
    ///
    /// # Errors
    /// The database's, when this worker can't be forgotten.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let _held = self.settle().await;
        let Some(encoder) = self.find_ready_encoder(&stop).await else { return Ok(()) };
        let mut running = JoinSet::new();
        let (mut reported, mut away): (Option<Instant>, bool) = (None, false);
        while !stop.is_cancelled() {
            while running.try_join_next().is_some() {}
            let work = Arc::clone(&self.0.engine.work);
            let told = work.notified();
            match self.take_jobs(&mut running, &mut reported, &encoder, &stop).await {
                Ok(()) if mem::take(&mut away) => tracing::info!("the queue can be used again"),
                Err(error) if !mem::replace(&mut away, true) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, running = running.len(), "the queue can't be used; what runs goes on");
                }
                Ok(()) | Err(_) => {}
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = told => {}
                _ = running.join_next(), if !running.is_empty() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
        while running.join_next().await.is_some() {}
        self.0.engine.forget_workers(&self.0.owner).await
    }

    /// Holds the folder of this process, and removes those of dead ones.
    async fn settle(&self) -> Option<File> {
        let own = self.0.scratch.clone();
        let settled = tokio::task::spawn_blocking(move || scratch::settle(&own)).await;
        let settled = settled.map_err(std::io::Error::other).and_then(|settled| settled);
        settled.inspect_err(|error| tracing::warn!(%error, "what was left of earlier jobs could not be removed")).ok()
    }

    /// Says that this worker is there, and takes as many jobs as it has room for.
    async fn take_jobs(
        &self,
        running: &mut JoinSet<()>,
        reported: &mut Option<Instant>,
        encoder: &Path,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        if reported.is_none_or(|at| at.elapsed() >= REPORT) {
            self.0.engine.report_worker(&self.0.owner, self.0.config.concurrency, running.len()).await?;
            *reported = Some(Instant::now());
        }
        while running.len() < self.0.config.concurrency as usize && !stop.is_cancelled() {
            let Some(claim) = self.0.engine.claim(&self.0.owner, self.0.config.lease()).await? else { break };
            running.spawn(self.clone().run_one(claim, encoder.to_owned(), stop.clone()).in_current_span());
        }
        Ok(())
    }

    /// One attempt, in the trace of the request that asked for the job.
    async fn run_one(self, claim: Claim, encoder: PathBuf, stop: CancellationToken) {
        self.0.engine.metrics.running.inc();
        let job_id = &claim.job.job_id;
        let attempt = async {
            match attempt::run(&self.0, &claim, &encoder, &stop).await {
                Ok(()) => {}
                Err(Error::LeaseLost(_)) => tracing::info!(job_id, "another worker has the job"),
                Err(error) => {
                    tracing::error!(job_id, error = &error as &dyn std::error::Error, "a job could not be carried on; it waits");
                    self.put_off(&claim, &error).await;
                }
            }
        };
        caused_by(&claim.job.trace_parent, job_id, "transcode", attempt).await;
        self.0.engine.metrics.running.dec();
    }

    /// Trouble of this machine, such as a full disk, is no fault of the job. What only this job meets may be, if it lasts.
    async fn put_off(&self, claim: &Claim, error: &Error) {
        let wait = Duration::from_secs(u64::from(claim.job.attempts.clamp(1, 12)) * 5);
        let put_off = if error.is_of_all_jobs() {
            self.0.engine.give_back(claim, wait, false).await
        } else {
            self.0.engine.put_off(claim, wait).await
        };
        if let Err(error) = put_off {
            tracing::debug!(job_id = claim.job.job_id, %error, "the job comes back when its lease ends");
        }
    }

    /// Waits until there is an encoder that says it can work.
    async fn find_ready_encoder(&self, stop: &CancellationToken) -> Option<PathBuf> {
        loop {
            let found = match find_encoder(&self.0.config.encoder_path) {
                Ok(encoder) => check(&encoder, &self.0.registry).await.map(|()| encoder),
                Err(sentence) => Err(sentence),
            };
            if let Err(sentence) = &found {
                tracing::error!(reason = %sentence, "no job can be run");
            }
            *self.0.readiness.lock().unwrap_or_else(PoisonError::into_inner) = found.clone();
            if let Ok(encoder) = found {
                return Some(encoder);
            }
            stop.run_until_cancelled(tokio::time::sleep(CHECK_AGAIN)).await?;
        }
    }
}

/// Where the encoder is: as configured, beside this program or one folder up, or in `PATH`.
///
/// # Errors
/// One sentence when it is nowhere.
#[allow(clippy::disallowed_methods, reason = "PATH is where programs are found")]
pub fn find_encoder(configured: &Path) -> Result<PathBuf, String> {
    if !configured.as_os_str().is_empty() {
        let there = configured.is_file().then(|| configured.to_owned());
        return there.ok_or_else(|| format!("transcoder.encoder_path: there is no file {}", configured.display()));
    }
    let here = std::env::current_exe().ok();
    let beside = here.iter().flat_map(|program| program.ancestors().skip(1).take(2)).map(Path::to_owned);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = beside.chain(std::env::split_paths(&path)).map(|folder| folder.join(ENCODER));
    let missing = || format!("the program {ENCODER} was not found; build it, or set transcoder.encoder_path");
    candidates.into_iter().find(|candidate| candidate.is_file()).ok_or_else(missing)
}

/// Asks the encoder whether all it needs is installed; it builds the plugin registry on the way.
async fn check(encoder: &Path, registry: &Path) -> Result<(), String> {
    if let Some(folder) = registry.parent() {
        std::fs::create_dir_all(folder).map_err(|error| format!("make the folder {}: {error}", folder.display()))?;
    }
    let mut command = tokio::process::Command::new(encoder);
    command.arg("check").env("GST_REGISTRY", registry).stdin(std::process::Stdio::null()).kill_on_drop(true);
    let answer = tokio::time::timeout(Duration::from_secs(120), command.output()).await;
    let answer = answer.map_err(|_| "the encoder's check did not end in two minutes".to_owned())?;
    let answer = answer.map_err(|error| format!("start {}: {error}", encoder.display()))?;
    let said = String::from_utf8_lossy(&answer.stderr);
    let last = said.lines().last().unwrap_or("the encoder's check failed without a word");
    if answer.status.success() { Ok(()) } else { Err(last.to_owned()) }
}

/// Ends cancelled jobs that nobody runs, deletes media that nobody plays any more, and measures the queue, until `stop`.
/// What fails leaves the others their turn.
///
/// # Errors
/// The stores'.
pub async fn sweep(engine: Engine, stop: CancellationToken) -> Result<(), Error> {
    while !stop.is_cancelled() {
        let oldest = engine.oldest_due().await.map(|oldest| {
            engine.metrics.oldest_queued.set(i64::try_from(oldest.as_secs()).unwrap_or(i64::MAX));
        });
        let ended = engine.end_orphans().await;
        let purged = engine.purge().await.and(engine.purge_superseded().await);
        oldest.and(ended).and(purged).and(engine.forget_submissions().await)?;
        stop.run_until_cancelled(tokio::time::sleep(SWEEP)).await;
    }
    Ok(())
}

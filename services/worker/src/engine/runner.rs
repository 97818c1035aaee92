//! Workers: claim a job, keep its lease, run it, write its end.

use std::{sync::Arc, time::Duration};

use streamgate_core::time::now_ms;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Claim, Queue, State, backoff};
use crate::{
    Config, Error, Metrics,
    jobs::{JobError, Registry},
};

/// A lease that ran out is found this fast.
const IDLE_LOOK: Duration = Duration::from_secs(1);
/// A job that was called off stops within this.
const CANCEL_LOOK: Duration = Duration::from_millis(500);
/// Heartbeats in one lease: two may be lost.
const BEATS_PER_LEASE: u32 = 3;

/// Runs the jobs of a queue.
#[derive(Debug, Clone)]
pub struct Runner {
    queue: Queue,
    registry: Registry,
    metrics: Metrics,
    config: Arc<Config>,
}

/// How an attempt came to an end.
enum Outcome {
    Done(Result<String, JobError>),
    LostClaim,
    Stopped,
}

impl Runner {
    /// Runs what `registry` knows.
    #[must_use]
    pub fn new(queue: Queue, registry: Registry, metrics: Metrics, config: Config) -> Self {
        Self { queue, registry, metrics, config: Arc::new(config) }
    }

    /// Works until `stop`. Then running jobs get the drain time to end, and the rest is put back.
    ///
    /// # Errors
    /// When the database can't be used; what was claimed runs again when its lease is over.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let cut_short = CancellationToken::new();
        let mut running = JoinSet::new();
        while !stop.is_cancelled() {
            while running.try_join_next().is_some() {}
            let is_full = running.len() >= self.config.concurrency as usize;
            if !is_full && let Some(claim) = self.queue.claim(self.config.lease(), now_ms()).await? {
                running.spawn(self.clone().attempt(claim, cut_short.clone()));
                continue;
            }
            let wait = self.idle_wait().await?;
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.queue.changed(), if !is_full => {}
                _ = running.join_next(), if !running.is_empty() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.drain(running, &cut_short).await;
        Ok(())
    }

    async fn idle_wait(&self) -> Result<Duration, Error> {
        let due = self.queue.next_due().await?.map_or(i64::MAX, |due| due.saturating_sub(now_ms()).max(1));
        Ok(Duration::from_millis(u64::try_from(due).unwrap_or(u64::MAX)).min(IDLE_LOOK))
    }

    async fn drain(&self, mut running: JoinSet<()>, cut_short: &CancellationToken) {
        let patience = Duration::from_secs(u64::from(self.config.drain_seconds));
        let all_ended = async { while running.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, all_ended).await.is_err() {
            tracing::info!(jobs = running.len(), "jobs are put back, since the worker stops");
            cut_short.cancel();
            while running.join_next().await.is_some() {}
        }
    }

    /// One attempt of a claimed job, to its end.
    async fn attempt(self, claim: Claim, cut_short: CancellationToken) {
        self.metrics.running.inc();
        let outcome = self.run_claim(&claim, &cut_short).await;
        let word = match self.write_end(&claim, outcome).await {
            Ok(word) => word,
            Err(error) => {
                tracing::warn!(
                    job_id = claim.job_id,
                    error = &error as &dyn std::error::Error,
                    "the end of a job was not written; it runs again"
                );
                "lost"
            }
        };
        self.metrics.attempt_ended(&claim.job_type, word);
        self.metrics.running.dec();
    }

    async fn run_claim(&self, claim: &Claim, cut_short: &CancellationToken) -> Outcome {
        let Some(job_type) = self.registry.get(&claim.job_type) else {
            return Outcome::Done(Err(JobError::Hopeless(format!("this worker knows no job type {:?}", claim.job_type))));
        };
        // In a task of its own, so that a panic ends the attempt and not the worker.
        let mut work = JoinSet::new();
        work.spawn(async move { job_type.run().await });
        tokio::select! {
            ended = work.join_next() => match ended {
                Some(Ok(result)) => Outcome::Done(result),
                _ => Outcome::Done(Err(JobError::Retry("the attempt broke off".to_owned()))),
            },
            () = self.keep_claim(claim) => Outcome::LostClaim,
            () = cut_short.cancelled() => Outcome::Stopped,
        }
    }

    /// Ends when the claim is no longer ours.
    async fn keep_claim(&self, claim: &Claim) {
        let beat = self.config.lease() / BEATS_PER_LEASE;
        let mut last_beat = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(CANCEL_LOOK.min(beat)).await;
            let held = if last_beat.elapsed() >= beat {
                last_beat = tokio::time::Instant::now();
                self.queue.heartbeat(claim, self.config.lease(), now_ms()).await
            } else {
                self.queue.holds(claim).await
            };
            match held {
                Ok(true) => {}
                Ok(false) => return,
                // The work may still end well; whether its end counts is decided when it is written.
                Err(error) => {
                    tracing::debug!(job_id = claim.job_id, error = &error as &dyn std::error::Error, "a heartbeat failed")
                }
            }
        }
    }

    async fn write_end(&self, claim: &Claim, outcome: Outcome) -> Result<&'static str, Error> {
        let now = now_ms();
        let (is_ours, word) = match outcome {
            Outcome::Done(Ok(message)) => (self.queue.finish(claim, State::Succeeded, &message, now).await?, "succeeded"),
            Outcome::Done(Err(JobError::Retry(message))) if claim.attempt < claim.max_attempts => {
                let wait = backoff(claim.attempt, &mut rand::rng());
                let run_ms = now.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
                tracing::info!(
                    job_id = claim.job_id,
                    job_type = claim.job_type,
                    attempt = claim.attempt,
                    message,
                    "an attempt failed; the job is tried again"
                );
                (self.queue.retry(claim, &message, run_ms).await?, "retried")
            }
            Outcome::Done(Err(JobError::Retry(message) | JobError::Hopeless(message))) => {
                tracing::warn!(
                    job_id = claim.job_id,
                    job_type = claim.job_type,
                    attempt = claim.attempt,
                    message,
                    "a job failed"
                );
                (self.queue.finish(claim, State::Failed, &message, now).await?, "failed")
            }
            Outcome::Stopped => (self.queue.release(claim, now).await?, "released"),
            Outcome::LostClaim => (true, "cancelled"),
        };
        Ok(if is_ours { word } else { "lost" })
    }
}

//! Workers: claim jobs, keep their leases, run them, write their ends.

use std::{mem, sync::Arc, time::Duration};

use streamgate_core::time::{UnixMillis, now_ms};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{
    attempt::{Attempt, Finished, Outcome},
    queue::{End, Ended, Queue},
};
use crate::{
    Config, Error, Metrics,
    jobs::{JobError, Registry},
};

/// A lease that ran out is found this fast.
const IDLE_LOOK: Duration = Duration::from_secs(1);
/// A job that was called off stops within this, and its progress is this old at the most.
const CANCEL_LOOK: Duration = Duration::from_millis(500);
/// Heartbeats in one lease: two may be lost.
const BEATS_PER_LEASE: u32 = 3;
/// Wait before ends are written again that could not be.
const WRITE_AGAIN: Duration = Duration::from_millis(500);

/// Runs the jobs of a queue.
#[derive(Debug, Clone)]
pub struct Runner {
    queue: Queue,
    registry: Registry,
    metrics: Metrics,
    config: Arc<Config>,
}

/// One run of a runner.
struct Shift {
    runner: Runner,
    /// Names this run: what it holds is found by it.
    worker: String,
    running: JoinSet<Finished>,
    held: Vec<Attempt>,
    /// Ends that are still to be written.
    ended: Vec<Ended>,
    cut_short: CancellationToken,
    last_beat: Instant,
    /// The database did not answer when it was last asked.
    away: bool,
    last_heard: Instant,
    /// Until then no job is taken for its silent worker: nobody could be heard while the database was away.
    spare_silent_until: Instant,
    turn: u64,
}

impl Runner {
    /// Runs what `registry` knows.
    #[must_use]
    pub fn new(queue: Queue, registry: Registry, metrics: Metrics, config: Config) -> Self {
        let share = queue.lane().share_of_one(config.concurrency_of(queue.lane()));
        Self { queue: queue.sharing(share), registry, metrics, config: Arc::new(config) }
    }

    /// Works until `stop`. Then running jobs get the drain time to end, and the rest is put back.
    ///
    /// While the database is away, what runs goes on, and what ended is written when it is back.
    pub async fn run(self, stop: CancellationToken) {
        let mut shift = Shift {
            runner: self,
            worker: uuid::Uuid::now_v7().simple().to_string(),
            running: JoinSet::new(),
            held: Vec::new(),
            ended: Vec::new(),
            cut_short: CancellationToken::new(),
            last_beat: Instant::now(),
            away: false,
            last_heard: Instant::now(),
            spare_silent_until: Instant::now(),
            turn: 0,
        };
        while !stop.is_cancelled() {
            let nap = shift.look().await;
            shift.wait(nap, &stop).await;
            shift.write_ends().await;
            shift.look_after().await;
        }
        shift.drain().await;
    }
}

impl Shift {
    fn room(&self) -> usize {
        (self.runner.config.concurrency_of(self.runner.queue.lane()) as usize)
            .saturating_sub(self.running.len() + self.ended.len())
    }

    /// Takes what is due; says when to look again, at the latest.
    async fn look(&mut self) -> Duration {
        // Whoever is full has nothing to look for until a job ends.
        if self.room() == 0 {
            return IDLE_LOOK;
        }
        // A process that stood still for long has been silent itself: it must not take its own jobs for another's.
        self.spare_silent_if_out_of_touch();
        let found = self.claim(now_ms()).await;
        self.heard(found).unwrap_or(IDLE_LOOK)
    }

    /// Takes as many jobs as there is room for, in one change.
    async fn claim(&mut self, now: UnixMillis) -> Result<Duration, Error> {
        let (queue, lease, room) = (&self.runner.queue, self.runner.config.lease(), self.room());
        let began = Instant::now();
        let claims = if self.away || began < self.spare_silent_until {
            queue.claim_waiting(&self.worker, room, self.turn, lease, now).await?
        } else {
            queue.claim(&self.worker, room, self.turn, lease, now).await?
        };
        self.turn += 1;
        let more_may_be_due = claims.len() == queue.at_once(room);
        if self.held.is_empty() {
            self.last_beat = began;
        }
        for claim in claims {
            let attempt = Attempt::new(claim, self.cut_short.child_token());
            let counted = self.runner.metrics.running_one();
            let job_type = self.runner.registry.get(&attempt.claim().job_type);
            let running = attempt.clone().run(job_type);
            let running = async move {
                let _counted = counted;
                running.await
            };
            self.running.spawn(running.in_current_span());
            self.held.push(attempt);
        }
        if self.room() == 0 {
            return Ok(IDLE_LOOK);
        }
        if more_may_be_due {
            return Ok(Duration::ZERO);
        }
        let due = self.runner.queue.next_due(now).await?.map_or(i64::MAX, |due| due.saturating_sub(now_ms()).max(0));
        Ok(IDLE_LOOK.min(Duration::from_millis(u64::try_from(due).unwrap_or(u64::MAX))))
    }

    /// Notes whether the database answered.
    fn heard<T>(&mut self, outcome: Result<T, Error>) -> Option<T> {
        match outcome {
            Ok(value) => {
                if mem::take(&mut self.away) {
                    tracing::info!("the queue can be used again");
                }
                // Even where no call has failed: one may have waited for the database until it was back.
                self.spare_silent_if_out_of_touch();
                self.last_heard = Instant::now();
                Some(value)
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                if mem::replace(&mut self.away, true) {
                    tracing::debug!(error, "the queue still can't be used");
                } else {
                    tracing::warn!(error, running = self.running.len(), "the queue can't be used; what runs goes on");
                }
                None
            }
        }
    }

    fn spare_silent_if_out_of_touch(&mut self) {
        let lease = self.runner.config.lease();
        if self.last_heard.elapsed() > IDLE_LOOK + lease / BEATS_PER_LEASE {
            self.spare_silent_until = Instant::now() + lease;
        }
    }

    /// Waits for something to do.
    async fn wait(&mut self, mut nap: Duration, stop: &CancellationToken) {
        let has_room = self.room() > 0;
        if !self.held.is_empty() {
            nap = nap.min(CANCEL_LOOK.min(self.runner.config.lease() / BEATS_PER_LEASE));
        }
        if !self.ended.is_empty() {
            nap = nap.min(WRITE_AGAIN);
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.runner.queue.changed(), if has_room && !self.away => {}
            Some(done) = self.running.join_next(), if !self.running.is_empty() => self.note(done),
            () = tokio::time::sleep(nap) => {}
        }
        // Whatever else has ended meanwhile is written in the same change.
        while let Some(done) = self.running.try_join_next() {
            self.note(done);
        }
    }

    fn note(&mut self, done: Result<Finished, tokio::task::JoinError>) {
        let Ok(finished) = done else { return };
        self.held.retain(|attempt| attempt.claim() != &finished.claim);
        let job_type = finished.claim.job_type.clone();
        match self.end_of(finished) {
            Some(ended) => self.ended.push(ended),
            None => self.runner.metrics.attempt_ended(&job_type, "cancelled"),
        }
    }

    /// What is written of an attempt; nothing when the claim was lost.
    fn end_of(&self, finished: Finished) -> Option<Ended> {
        let Finished { claim, outcome, origin } = finished;
        let job_type = self.runner.registry.get(&claim.job_type);
        let announced = job_type.as_ref().is_none_or(|job_type| job_type.is_announced());
        let end = match outcome {
            Outcome::Lost => return None,
            Outcome::Stopped => End::Released,
            Outcome::Done(Ok(message)) => End::Succeeded(message),
            Outcome::Done(Err(JobError::PutOff(wait))) => End::PutOff { run_ms: after(wait) },
            Outcome::Done(Err(JobError::Hopeless(message))) => End::Failed { reason: "hopeless", message },
            Outcome::Done(Err(JobError::Retry(message))) if claim.attempt >= claim.max_attempts => {
                End::Failed { reason: "attempts_used_up", message }
            }
            Outcome::Done(Err(JobError::Retry(message))) => {
                let wait = job_type.map_or(Duration::ZERO, |job_type| job_type.wait_after(claim.attempt));
                End::Retry { message, run_ms: after(wait) }
            }
        };
        origin.within(|| log(&claim.job_id, &claim.job_type, claim.attempt, &end));
        Some(Ended { claim, end, announced, origin })
    }

    /// Writes all ends in one change. When that fails they are kept and written later: their leases
    /// are kept alive no more, so when that takes for longer than a lease the jobs may run again.
    async fn write_ends(&mut self) {
        if self.ended.is_empty() {
            return;
        }
        match self.runner.queue.settle(&self.ended, now_ms()).await {
            Ok(ours) => {
                for (ended, is_ours) in self.ended.drain(..).zip(ours) {
                    let word = if is_ours { word_of(&ended.end) } else { "lost" };
                    self.runner.metrics.attempt_ended(&ended.claim.job_type, word);
                }
            }
            Err(error) => {
                tracing::warn!(
                    jobs = self.ended.len(),
                    error = &error as &dyn std::error::Error,
                    "ends of jobs were not written yet"
                );
            }
        }
    }

    /// Keeps leases alive when it is time, and stops what was called off or is no longer ours. A lease that ran out stops
    /// nothing by itself: mostly the database was away for all, and nobody else has the job. Who has it is told by the fence.
    async fn look_after(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let lease = self.runner.config.lease();
        let outcome = if self.last_beat.elapsed() >= lease / BEATS_PER_LEASE || self.held.iter().any(Attempt::has_progressed) {
            self.beat(lease).await
        } else {
            self.check_held().await
        };
        self.heard(outcome);
    }

    async fn beat(&mut self, lease: Duration) -> Result<(), Error> {
        let began = Instant::now();
        let claims: Vec<_> = self.held.iter().map(|attempt| (attempt.claim(), attempt.progress())).collect();
        let lost = self.runner.queue.heartbeat(&claims, lease, now_ms()).await?;
        self.last_beat = began;
        for place in lost {
            self.held[place].lose();
        }
        Ok(())
    }

    async fn check_held(&self) -> Result<(), Error> {
        let ours = self.runner.queue.held_by(&self.worker).await?;
        for attempt in &self.held {
            let claim = attempt.claim();
            if !ours.iter().any(|(job_id, fence)| *job_id == claim.job_id && *fence == claim.fence) {
                attempt.lose();
            }
        }
        Ok(())
    }

    async fn drain(mut self) {
        let patience = Duration::from_secs(u64::from(self.runner.config.drain_seconds));
        let deadline = Instant::now() + patience;
        while !self.running.is_empty() {
            let look = CANCEL_LOOK.min(self.runner.config.lease() / BEATS_PER_LEASE);
            tokio::select! {
                Some(done) = self.running.join_next() => self.note(done),
                () = tokio::time::sleep_until(deadline), if !self.cut_short.is_cancelled() => {
                    tracing::info!(jobs = self.running.len(), "jobs are put back, since the worker stops");
                    self.cut_short.cancel();
                }
                () = tokio::time::sleep(look) => self.look_after().await,
            }
            self.write_ends().await;
        }
        self.write_ends().await;
    }
}

fn after(wait: Duration) -> i64 {
    now_ms().saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
}

const fn word_of(end: &End) -> &'static str {
    match end {
        End::Succeeded(_) => "succeeded",
        End::Failed { .. } => "failed",
        End::Retry { .. } => "retried",
        End::PutOff { .. } => "put_off",
        End::Released => "released",
    }
}

fn log(job_id: &str, job_type: &str, attempt: u32, end: &End) {
    match end {
        End::Failed { message, reason } => tracing::warn!(job_id, job_type, attempt, reason, message, "a job failed"),
        End::Retry { message, .. } => {
            tracing::info!(job_id, job_type, attempt, message, "an attempt failed; the job is tried again");
        }
        End::Succeeded(_) | End::PutOff { .. } | End::Released => {}
    }
}

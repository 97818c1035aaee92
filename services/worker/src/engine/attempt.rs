//! One attempt of a claimed job.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use streamgate_client::context::caused_by;
use streamgate_proto::streamgate::worker::v1::job_params::Kind;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Origin, queue::Claim};
use crate::jobs::{JobError, JobType};

/// How an attempt came to an end.
#[derive(Debug)]
pub(super) enum Outcome {
    Done(Result<String, JobError>),
    /// The claim is another's, or was called off.
    Lost,
    /// The worker stops.
    Stopped,
}

/// An attempt that is over.
#[derive(Debug)]
pub(super) struct Finished {
    pub claim: Claim,
    pub outcome: Outcome,
    pub origin: Origin,
}

/// What a job's code is given.
#[derive(Debug, Clone)]
pub struct Work {
    /// The job.
    pub job_id: String,
    /// Number of this attempt, from 1.
    pub attempt: u32,
    /// Attempts at the most.
    pub max_attempts: u32,
    /// What the job is told.
    pub params: Option<Kind>,
    progress: Arc<Progress>,
}

impl Work {
    /// Work for tests of a single kind of job.
    #[must_use]
    pub fn of(params: Option<Kind>) -> Self {
        Self { job_id: String::new(), attempt: 1, max_attempts: 1, params, progress: Arc::default() }
    }

    /// Says how far the job is, 0 to 1. Cheap: it is written now and then.
    pub fn at(&self, progress: f64) {
        self.progress.bits.store(progress.to_bits(), Ordering::Relaxed);
        self.progress.changed.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Progress {
    bits: AtomicU64,
    changed: AtomicBool,
}

/// A claim that is worked on. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    claim: Arc<Claim>,
    progress: Arc<Progress>,
    lost: CancellationToken,
    cut_short: CancellationToken,
}

impl Attempt {
    pub(super) fn new(claim: Claim, cut_short: CancellationToken) -> Self {
        Self { claim: Arc::new(claim), progress: Arc::default(), lost: CancellationToken::new(), cut_short }
    }

    pub(super) fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Ends the work: the claim is no longer ours.
    pub(super) fn lose(&self) {
        self.lost.cancel();
    }

    pub(super) fn progress(&self) -> f64 {
        self.progress.changed.store(false, Ordering::Relaxed);
        f64::from_bits(self.progress.bits.load(Ordering::Relaxed))
    }

    pub(super) fn has_progressed(&self) -> bool {
        self.progress.changed.load(Ordering::Relaxed)
    }

    /// Works until the work is done, or must not go on, in the trace of the request that asked for it.
    pub(super) async fn run(self, job_type: Option<Arc<dyn JobType>>) -> Finished {
        let claim = Claim::clone(&self.claim);
        let work = async { (self.work(job_type).await, Origin::current()) };
        let (outcome, origin) = caused_by(&claim.trace_parent, &claim.job_id, &claim.job_type, work).await;
        Finished { claim, outcome, origin }
    }

    async fn work(&self, job_type: Option<Arc<dyn JobType>>) -> Outcome {
        let claim = &self.claim;
        let Some(job_type) = job_type else {
            let why = format!("this worker knows no job type {:?}", claim.job_type);
            return Outcome::Done(Err(JobError::Hopeless(why)));
        };
        let work = Work {
            job_id: claim.job_id.clone(),
            attempt: claim.attempt,
            max_attempts: claim.max_attempts,
            params: claim.params.clone(),
            progress: Arc::clone(&self.progress),
        };
        // In a task of its own, so that a panic ends the attempt and not the worker.
        let mut doing = JoinSet::new();
        let origin = Origin::current();
        doing.spawn(async move { origin.scope(job_type.run(&work)).await });
        tokio::select! {
            ended = doing.join_next() => match ended {
                Some(Ok(result)) => Outcome::Done(result),
                _ => Outcome::Done(Err(JobError::Retry("the attempt broke off".to_owned()))),
            },
            () = self.lost.cancelled() => Outcome::Lost,
            () = self.cut_short.cancelled() => Outcome::Stopped,
        }
    }
}

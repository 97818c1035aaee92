//! Jobs: how they are queued, run, ended and described.

mod events;
mod job;
mod pool;
mod poster;
mod presentation;
mod publish;
mod purge;
mod queue;
mod rows;
mod submit;

use std::sync::Arc;

use streamgate_core::{
    Caller,
    ids::{ContentId, JobId},
    page::Page,
};
use streamgate_store::{BlobStore, Database, Outbox};
use tokio::sync::Notify;

use crate::{Config, Error, Metrics, settings::Profiles};

pub use job::{Job, Priority, State};
pub use pool::{Line, Pool};
pub use poster::{Frame, Poster};
pub use publish::{NewRendition, NewSegment};
pub use queue::{Beat, Claim};
pub use submit::Submission;

/// The behaviour of the service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) db: Database,
    pub(crate) outbox: Outbox,
    pub(crate) blobs: Arc<dyn BlobStore>,
    pub(crate) metrics: Metrics,
    pub(crate) profiles: Arc<Profiles>,
    limits: Limits,
    /// Wakes the worker when there is something to do.
    pub(crate) work: Arc<Notify>,
}

/// How much is kept.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Jobs that may wait before submissions are refused.
    max_queued: u32,
    /// How long media is kept once a newer version is whole.
    keep_superseded_ms: i64,
}

/// Which jobs a list holds.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only those of this account.
    pub owner: Option<String>,
    /// Only those in this state.
    pub state: Option<State>,
    /// Only those of this title.
    pub content_id: Option<String>,
}

impl Filter {
    /// The same for every page of one list.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let or_all = |part: &Option<String>| part.clone().unwrap_or_else(|| "*".to_owned());
        format!("{}/{}/{}", or_all(&self.owner), self.state.map_or("*", State::as_str), or_all(&self.content_id))
    }
}

impl Engine {
    /// An engine over these stores.
    #[must_use]
    pub fn new(db: Database, outbox: Outbox, blobs: Arc<dyn BlobStore>, metrics: Metrics, config: &Config) -> Self {
        let limits =
            Limits { max_queued: config.max_queued, keep_superseded_ms: i64::from(config.keep_superseded_hours) * 3_600_000 };
        Self { db, outbox, blobs, metrics, profiles: Arc::new(Profiles::of(config)), limits, work: Arc::new(Notify::new()) }
    }

    /// How many jobs may wait before submissions are refused.
    #[must_use]
    pub const fn queue_limit(&self) -> u32 {
        self.limits.max_queued
    }

    /// A job that the caller may see.
    ///
    /// # Errors
    /// `UnknownJob`.
    pub async fn job(&self, caller: &Caller, id: &JobId) -> Result<Job, Error> {
        let job = rows::by_id(self.db.pool(), id.as_str()).await?;
        job.filter(|job| caller.may_act_for(&job.owner)).ok_or_else(|| Error::UnknownJob(id.to_string()))
    }

    /// The newest job of a title that the caller may see.
    ///
    /// # Errors
    /// `UnknownContent`.
    pub async fn newest_job(&self, caller: &Caller, content: &ContentId) -> Result<Job, Error> {
        let job = rows::newest(self.db.pool(), content.as_str()).await?;
        job.filter(|job| caller.may_act_for(&job.owner)).ok_or_else(|| Error::UnknownContent(content.to_string()))
    }

    /// Jobs, newest first, and the token of the next page.
    ///
    /// # Errors
    /// The database's.
    pub async fn list(&self, filter: &Filter, page: &Page) -> Result<(Vec<Job>, String), Error> {
        let jobs = rows::list(self.db.pool(), filter, page).await?;
        Ok(page.cut(jobs, |job| job.seq.to_string(), &filter.fingerprint()))
    }

    /// Stops a job. One that runs here ends at once, one that runs elsewhere at its next heartbeat.
    ///
    /// # Errors
    /// `UnknownJob`, or `Ended` when there is nothing to stop.
    pub async fn cancel(&self, caller: &Caller, id: &JobId) -> Result<Job, Error> {
        let job = self.job(caller, id).await?;
        match job.state {
            State::Cancelled => return Ok(job),
            State::Succeeded | State::Failed => return Err(Error::Ended(id.to_string())),
            State::Queued | State::Running => {}
        }
        let mut tx = self.db.begin().await?;
        self.cancel_in(&mut tx, id.as_str(), "cancelled on request").await?;
        tx.commit().await?;
        self.work.notify_waiters();
        self.job(caller, id).await
    }

    /// Jobs before this one in the queue; 0 unless it waits.
    ///
    /// # Errors
    /// The database's.
    pub async fn queue_place(&self, job: &Job) -> Result<u32, Error> {
        if job.state != State::Queued {
            return Ok(0);
        }
        rows::ahead_of(self.db.pool(), job).await
    }
}

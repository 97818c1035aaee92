//! Jobs: how they are queued, run, ended and described.

mod events;
mod presentation;
mod publish;
mod queue;
mod rows;

use std::sync::Arc;

use streamgate_core::{
    Caller,
    ids::{ContentId, JobId},
    page::Page,
    time::now_ms,
};
use streamgate_store::{BlobKey, BlobStore, Database, Outbox};
use tokio::sync::Notify;

use crate::{Error, Metrics};

pub use publish::{NewRendition, NewSegment};
pub use queue::{Beat, Claim};
pub use rows::{Job, State};

/// The behaviour of the service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) db: Database,
    pub(crate) outbox: Outbox,
    pub(crate) blobs: Arc<dyn BlobStore>,
    pub(crate) metrics: Metrics,
    /// Wakes the worker when there is something to do.
    pub(crate) work: Arc<Notify>,
}

/// Which jobs a list holds.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only those of this account.
    pub owner: Option<String>,
    /// Only those in this state.
    pub state: Option<State>,
}

impl Filter {
    /// The same for every page of one list.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("{}/{}", self.owner.as_deref().unwrap_or("*"), self.state.map_or("*", State::as_str))
    }
}

impl Engine {
    /// An engine over these stores.
    #[must_use]
    pub fn new(db: Database, outbox: Outbox, blobs: Arc<dyn BlobStore>, metrics: Metrics) -> Self {
        Self { db, outbox, blobs, metrics, work: Arc::new(Notify::new()) }
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

    /// Queues a title's source again. The same `request_id` gives the same job; a job that is
    /// queued or running is given as it is.
    ///
    /// # Errors
    /// `UnknownContent`, `AlreadyDone`, `SourceGone`.
    pub async fn submit(&self, caller: &Caller, content: &ContentId, request_id: &str) -> Result<Job, Error> {
        let newest = self.newest_job(caller, content).await?;
        let repeated = rows::by_request(self.db.pool(), &newest.owner, request_id).await?;
        if let Some(job) = repeated {
            return if job.content_id == content.as_str() { Ok(job) } else { Err(request_reused().into()) };
        }
        match newest.state {
            State::Queued | State::Running => return Ok(newest),
            State::Succeeded => return Err(Error::AlreadyDone(content.to_string())),
            State::Failed | State::Cancelled => {}
        }
        if self.blobs.head(&BlobKey::new(newest.source_key.as_str())?).await.is_err() {
            return Err(Error::SourceGone(content.to_string()));
        }
        let mut tx = self.db.begin().await?;
        let id = JobId::new();
        let request_id = (!request_id.is_empty()).then_some(request_id);
        rows::insert(&mut tx, &id, &newest, request_id, now_ms()).await?;
        tx.commit().await?;
        self.metrics.queued.inc();
        self.work.notify_waiters();
        self.job(caller, &id).await
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
        rows::ahead_of(self.db.pool(), job.seq).await
    }
}

fn request_reused() -> streamgate_core::Failure {
    streamgate_core::Failure::new(
        streamgate_core::ErrorKind::AlreadyExists,
        "request_id_reused",
        "this request_id was used for another request",
    )
}

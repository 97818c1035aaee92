//! Making a title again, on request.

use streamgate_core::{
    Caller, ErrorKind, Failure, Identity,
    ids::{ContentId, JobId},
    time::{UnixMillis, now_ms},
};
use streamgate_media::ladder::Step;
use streamgate_store::{BlobKey, Transaction};

use super::{
    Engine, Job,
    job::{Priority, State},
    rows::{self, NewJob},
};
use crate::{Error, settings};

/// How long the answer to a submission is remembered.
const REMEMBER_MS: i64 = 30 * 24 * 3600 * 1000;

/// What somebody wants to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// The title.
    pub content: ContentId,
    /// Key for repeating the call; empty without one.
    pub request_id: String,
    /// Name of the settings.
    pub profile: String,
    /// Its place in line.
    pub priority: Priority,
    /// A ladder in place of the profile's; empty without one.
    pub ladder: Vec<Step>,
}

impl Submission {
    /// Of everything that is asked.
    fn fingerprint(&self) -> String {
        let ladder = settings::steps_text(&self.ladder);
        format!("{} {} {} {ladder}", self.content, self.profile, self.priority.rank())
    }
}

impl Engine {
    /// Queues a title's source again. The same `request_id` gives the same answer; a job that is
    /// queued or running with the same settings is given as it is.
    ///
    /// # Errors
    /// `UnknownContent`, `AlreadyDone`, `UnderWay`, `SourceGone`, `QueueFull`, or a field that is wrong.
    pub async fn submit(&self, caller: &Caller, wanted: &Submission) -> Result<Job, Error> {
        let settings = self.profiles.settings(&wanted.profile, &wanted.ladder)?;
        if wanted.priority == Priority::High && !caller.is_operator() && !caller.is_service() {
            return Err(priority_reserved().into());
        }
        // Whoever may not know of the title learns nothing more of it.
        let newest = self.newest_job(caller, &wanted.content).await?;
        let settings = serde_json::to_string(&settings).map_err(|error| Error::Nonsense(error.to_string()))?;
        let source = self.source_bytes(&newest).await?;
        let mut tx = self.db.begin().await?;
        if let Some(job) = self.answered(&mut tx, caller, wanted).await? {
            return Ok(job);
        }
        let newest = rows::newest(&mut *tx, wanted.content.as_str()).await?.ok_or_else(|| unknown(wanted))?;
        let same = *newest.settings == *settings;
        let job_id = match newest.state {
            State::Queued | State::Running if same => newest.job_id.clone(),
            State::Queued | State::Running => return Err(Error::UnderWay(newest.job_id)),
            State::Succeeded if same && !newest.partial => return Err(Error::AlreadyDone(wanted.content.to_string())),
            State::Succeeded | State::Failed | State::Cancelled => {
                let source_bytes = source.ok_or_else(|| Error::SourceGone(wanted.content.to_string()))?;
                self.queue_again(&mut tx, &newest, wanted, settings, source_bytes).await?
            }
        };
        remember(&mut tx, caller, wanted, &job_id, now_ms()).await?;
        tx.commit().await?;
        self.work.notify_waiters();
        rows::by_id(self.db.pool(), &job_id).await?.ok_or(Error::UnknownJob(job_id))
    }

    async fn queue_again(
        &self,
        tx: &mut Transaction,
        newest: &Job,
        wanted: &Submission,
        settings: String,
        source_bytes: i64,
    ) -> Result<String, Error> {
        let waiting: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM jobs WHERE state IN ('queued', 'running') AND state = 'queued'")
                .fetch_one(&mut **tx)
                .await?;
        if waiting >= i64::from(self.limits.max_queued) {
            return Err(Error::QueueFull { limit: self.limits.max_queued });
        }
        let whole = sqlx::query("SELECT 1 FROM jobs WHERE content_id = $1 AND state = 'succeeded'").bind(&newest.content_id);
        let new = NewJob {
            id: JobId::new(),
            content_id: &newest.content_id,
            owner: &newest.owner,
            upload_id: &newest.upload_id,
            source_key: &newest.source_key,
            source_bytes,
            profile: &wanted.profile,
            ladder: settings::steps_text(&wanted.ladder),
            settings,
            priority: wanted.priority,
            remake: whole.fetch_optional(&mut **tx).await?.is_some(),
            now: now_ms(),
        };
        if !rows::insert(tx, &new).await? {
            return Err(unknown(wanted));
        }
        self.metrics.queued.inc();
        Ok(new.id.into())
    }

    /// Size of the source; absent when it is gone.
    async fn source_bytes(&self, job: &Job) -> Result<Option<i64>, Error> {
        match self.blobs.head(&BlobKey::new(job.source_key.as_str())?).await {
            Ok(info) => Ok(Some(i64::try_from(info.size_bytes).unwrap_or(i64::MAX))),
            Err(streamgate_store::Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The job that this request was answered with before.
    async fn answered(&self, tx: &mut Transaction, caller: &Caller, wanted: &Submission) -> Result<Option<Job>, Error> {
        if wanted.request_id.is_empty() {
            return Ok(None);
        }
        let query = sqlx::query_as("SELECT fingerprint, job_id FROM submissions WHERE caller = $1 AND request_id = $2");
        let known: Option<(String, String)> =
            query.bind(name_of(caller)).bind(&wanted.request_id).fetch_optional(&mut **tx).await?;
        let Some((fingerprint, job_id)) = known else { return Ok(None) };
        if fingerprint != wanted.fingerprint() {
            return Err(request_reused().into());
        }
        rows::by_id(&mut **tx, &job_id).await
    }

    /// Forgets answers that nobody will ask for again.
    ///
    /// # Errors
    /// The database's.
    pub async fn forget_submissions(&self) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let query = sqlx::query("DELETE FROM submissions WHERE created_ms < $1").bind(now_ms() - REMEMBER_MS);
        query.execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }
}

async fn remember(
    tx: &mut Transaction,
    caller: &Caller,
    wanted: &Submission,
    job_id: &str,
    now: UnixMillis,
) -> Result<(), Error> {
    if wanted.request_id.is_empty() {
        return Ok(());
    }
    sqlx::query("INSERT INTO submissions (caller, request_id, fingerprint, job_id, created_ms) VALUES ($1, $2, $3, $4, $5)")
        .bind(name_of(caller))
        .bind(&wanted.request_id)
        .bind(wanted.fingerprint())
        .bind(job_id)
        .bind(now)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Keys for repeating belong to who made them up.
fn name_of(caller: &Caller) -> String {
    match (caller.account(), &caller.identity) {
        (Some(account), _) => account.id.to_string(),
        (None, Identity::Service { name, .. }) => format!("service:{name}"),
        (None, _) => String::new(),
    }
}

fn unknown(wanted: &Submission) -> Error {
    Error::UnknownContent(wanted.content.to_string())
}

fn request_reused() -> Failure {
    Failure::new(ErrorKind::AlreadyExists, "request_id_reused", "this request_id was used for another request")
}

fn priority_reserved() -> Failure {
    Failure::new(ErrorKind::PermissionDenied, "priority_reserved", "only operators may ask for a high priority")
}

//! The queue: claims, leases, and how a job ends.

use std::time::Duration;

use sqlx::Row as _;
use streamgate_client::context::caused_by;
use streamgate_core::time::{UnixMillis, now_ms};
use streamgate_proto::streamgate::events::v1::{TranscodingCompleted, TranscodingFailed, TranscodingStarted, event::Payload};
use streamgate_store::{DatabaseKind, Transaction};

use super::{Engine, Job, State, rows};
use crate::{Error, metrics::EndLabels};

/// A job is given up when so many workers in a row went silent before they had made anything. What takes its worker along
/// would otherwise be the first in line for each of the others, too.
const MOST_SILENCES: u32 = 5;
/// Reason of its failure.
const WORKER_LOST: &str = "worker_lost";

/// A job is given up when no attempt could be carried on for so long, by no fault of its encoder: what its worker could not read
/// or write then lies in the job. It is a day, so that an operator can mend a machine.
const MOST_TROUBLE: Duration = Duration::from_secs(24 * 3600);
/// Reason of that failure.
const GIVEN_UP: &str = "given_up";

/// Reason of the failure of a job of which nobody can read what it is.
const UNREADABLE: &str = "job_unreadable";

/// The right to run one job, until the lease ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// The job as it was when it was claimed.
    pub job: Job,
}

impl Claim {
    /// The token that proves it.
    #[must_use]
    pub const fn fence(&self) -> i64 {
        self.job.fence
    }

    pub(super) fn lost(&self) -> Error {
        Error::LeaseLost(self.job.job_id.clone())
    }
}

/// What a heartbeat says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// Go on.
    GoOn,
    /// Somebody wants it stopped.
    Cancel,
    /// Somebody else has it.
    Lost,
}

impl Engine {
    /// Takes the first job in line that waits, or whose worker went silent, and makes it ours.
    ///
    /// # Errors
    /// The database's.
    pub async fn claim(&self, owner: &str, lease: Duration) -> Result<Option<Claim>, Error> {
        loop {
            let mut tx = self.db.begin().await?;
            let Some((seq, fence)) = take(&mut tx, owner, lease).await? else { return Ok(None) };
            let job = match rows::by_seq(&mut *tx, seq).await {
                Err(error) if error.is_of_one_row() => {
                    self.bury(tx, seq, fence, &error).await?;
                    continue;
                }
                job => job?,
            };
            let (cause, id) = (&job.trace_parent, &job.job_id);
            // What may be the end of every worker must not be that of the queue: the next one in line is looked at.
            let is_deadly = job.silences >= MOST_SILENCES;
            if is_deadly {
                caused_by(cause, id, "give up transcode", self.give_up(&mut tx, &job)).await?;
            } else if job.attempts == 1 {
                caused_by(cause, id, "begin transcode", self.tell_started(&mut tx, &job)).await?;
            }
            tx.commit().await?;
            if !is_deadly {
                return Ok(Some(Claim { job }));
            }
            self.count_end(State::Failed, WORKER_LOST);
        }
    }

    async fn tell_started(&self, tx: &mut Transaction, job: &Job) -> Result<(), Error> {
        let started = TranscodingStarted {
            job_id: job.job_id.clone(),
            content_id: job.content_id.clone(),
            owner: job.owner.clone(),
            attempt: job.attempts,
            remake: job.remake,
        };
        self.outbox.add(tx, &job.content_id, Payload::TranscodingStarted(started)).await?;
        Ok(())
    }

    /// Ends a job that has just been claimed, and that no worker has survived.
    async fn give_up(&self, tx: &mut Transaction, job: &Job) -> Result<(), Error> {
        let detail =
            "every worker that began it was lost before anything was made; submit it again, or export it in another format";
        tracing::error!(job_id = job.job_id, workers = job.silences, "a job was given up, since it may be what ends its workers");
        end(tx, job.seq, Some(job.fence), State::Failed, WORKER_LOST, detail).await?;
        self.tell_failed(tx, job, WORKER_LOST, detail).await
    }

    /// Ends a job that can't be read, and the change with it. It would be the first in line for good.
    async fn bury(&self, mut tx: Transaction, seq: i64, fence: i64, error: &Error) -> Result<(), Error> {
        let detail = "what is stored of the job can't be read; submit it again";
        if !end(&mut tx, seq, Some(fence), State::Failed, UNREADABLE, detail).await? {
            return Ok(());
        }
        tracing::error!(seq, error = error as &dyn std::error::Error, "a job whose row can't be read was ended");
        match rows::told(&mut tx, seq).await {
            Ok((job_id, content_id, owner, remake)) => {
                let (reason, detail) = (UNREADABLE.to_owned(), detail.to_owned());
                let failed = TranscodingFailed { job_id, content_id: content_id.clone(), reason, detail, owner, remake };
                self.outbox.add(&mut tx, &content_id, Payload::TranscodingFailed(failed)).await?;
            }
            // Nobody can say whose it was.
            Err(error) if error.is_of_one_row() => {}
            Err(error) => return Err(error),
        }
        tx.commit().await?;
        self.count_end(State::Failed, UNREADABLE);
        Ok(())
    }

    /// Renews the lease.
    ///
    /// # Errors
    /// The database's; the lease goes on until it ends.
    pub async fn heartbeat(&self, claim: &Claim, lease: Duration) -> Result<Beat, Error> {
        let mut tx = self.db.begin_shared().await?;
        let row = sqlx::query(
            "UPDATE jobs SET lease_until_ms = $1 WHERE job_id = $2 AND fence = $3 AND state = 'running' RETURNING cancel_wanted",
        )
        .bind(now_ms() + millis(lease))
        .bind(&claim.job.job_id)
        .bind(claim.fence())
        .fetch_optional(&mut *tx)
        .await?;
        tx.commit().await?;
        match row.map(|row| row.try_get::<i64, _>("cancel_wanted")).transpose()? {
            None => Ok(Beat::Lost),
            Some(0) => Ok(Beat::GoOn),
            Some(_) => Ok(Beat::Cancel),
        }
    }

    /// Gives a job back to the queue, to be resumed after `wait`. A crash is counted.
    ///
    /// # Errors
    /// `LeaseLost` when somebody else has it.
    pub async fn give_back(&self, claim: &Claim, wait: Duration, crashed: bool) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let done = sqlx::query(
            "UPDATE jobs SET state = 'queued', lease_owner = '', lease_until_ms = 0, not_before_ms = $1, crashes = crashes + $2 \
             WHERE job_id = $3 AND fence = $4 AND state = 'running'",
        )
        .bind(now_ms() + millis(wait))
        .bind(i64::from(crashed))
        .bind(&claim.job.job_id)
        .bind(claim.fence())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        if done.rows_affected() == 1 { Ok(()) } else { Err(claim.lost()) }
    }

    /// Puts off a job that could not be carried on, for a reason that lies neither in its encoder nor in a store that is away.
    /// One that can't be for a day, with nothing made, is given up.
    ///
    /// # Errors
    /// `LeaseLost` when somebody else has it.
    pub async fn put_off(&self, claim: &Claim, wait: Duration) -> Result<(), Error> {
        let (mut tx, now) = (self.db.begin().await?, now_ms());
        let since = sqlx::query_scalar(
            "UPDATE jobs SET state = 'queued', lease_owner = '', lease_until_ms = 0, not_before_ms = $1, \
             troubled_ms = CASE WHEN troubled_ms = 0 OR made_ms > attempt_made_ms THEN $2 ELSE troubled_ms END \
             WHERE job_id = $3 AND fence = $4 AND state = 'running' RETURNING troubled_ms",
        );
        let since = since.bind(now + millis(wait)).bind(now).bind(&claim.job.job_id).bind(claim.fence());
        let since: i64 = since.fetch_optional(&mut *tx).await?.ok_or_else(|| claim.lost())?;
        let is_hopeless = now - since > millis(MOST_TROUBLE);
        if is_hopeless {
            let detail =
                "no worker could carry the job on for a day; upload the file again, or ask the operator what their logs say";
            end(&mut tx, claim.job.seq, Some(claim.fence()), State::Failed, GIVEN_UP, detail).await?;
            self.tell_failed(&mut tx, &claim.job, GIVEN_UP, detail).await?;
        }
        tx.commit().await?;
        if is_hopeless {
            self.count_end(State::Failed, GIVEN_UP);
        }
        Ok(())
    }

    /// The job is done: everything is published.
    ///
    /// # Errors
    /// `LeaseLost` when somebody else has it.
    pub async fn succeed(&self, claim: &Claim, duration_ms: u64, partial: bool) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let duration = i64::try_from(duration_ms).unwrap_or(i64::MAX);
        // From now on this version is played instead of another, which may have been given other posters meanwhile: who asks
        // for what is newer than a revision must not take one for the other.
        let done = sqlx::query(
            "UPDATE jobs SET state = 'succeeded', ended_ms = $1, duration_ms = $2, made_ms = $3, partial = $4, \
             revision = 1 + (SELECT MAX(revision) FROM jobs WHERE content_id = $7), \
             lease_owner = '', lease_until_ms = 0 WHERE job_id = $5 AND fence = $6 AND state = 'running'",
        )
        .bind(now_ms())
        .bind(duration)
        .bind(duration)
        .bind(i64::from(partial))
        .bind(&claim.job.job_id)
        .bind(claim.fence())
        .bind(&claim.job.content_id)
        .execute(&mut *tx)
        .await?;
        if done.rows_affected() != 1 {
            return Err(claim.lost());
        }
        self.announce_playable(&mut tx, &claim.job).await?;
        supersede(&mut tx, &claim.job).await?;
        let completed = completed(&mut tx, &claim.job, duration_ms).await?;
        self.outbox.add(&mut tx, &claim.job.content_id, Payload::TranscodingCompleted(completed)).await?;
        tx.commit().await?;
        self.count_end(State::Succeeded, "");
        Ok(())
    }

    /// The job has failed for good.
    ///
    /// # Errors
    /// `LeaseLost` when somebody else has it.
    pub async fn fail(&self, claim: &Claim, reason: &str, detail: &str) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let ended = end(&mut tx, claim.job.seq, Some(claim.fence()), State::Failed, reason, detail).await?;
        if !ended {
            return Err(claim.lost());
        }
        self.tell_failed(&mut tx, &claim.job, reason, detail).await?;
        tx.commit().await?;
        self.count_end(State::Failed, reason);
        Ok(())
    }

    /// The child has ended because somebody wanted it.
    ///
    /// # Errors
    /// `LeaseLost` when somebody else has it.
    pub async fn cancelled(&self, claim: &Claim) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let detail = "cancelled on request";
        if !end(&mut tx, claim.job.seq, Some(claim.fence()), State::Cancelled, "cancelled", detail).await? {
            return Err(claim.lost());
        }
        self.tell_failed(&mut tx, &claim.job, "cancelled", detail).await?;
        tx.commit().await?;
        self.count_end(State::Cancelled, "");
        Ok(())
    }

    /// Cancels a job inside a change: at once when nobody runs it, otherwise by asking its worker.
    pub(super) async fn cancel_in(&self, tx: &mut Transaction, job_id: &str, detail: &str) -> Result<(), Error> {
        let wanted = sqlx::query_scalar(
            "UPDATE jobs SET cancel_wanted = 1 WHERE job_id = $1 AND state IN ('queued', 'running') RETURNING seq",
        );
        let Some(seq) = wanted.bind(job_id).fetch_optional(&mut **tx).await? else { return Ok(()) };
        let job = match rows::by_seq(&mut **tx, seq).await {
            // It is ended beside this: a title can be deleted whatever can be read of its jobs.
            Err(error) if error.is_of_one_row() => return Ok(()),
            job => job?,
        };
        if job.state == State::Queued && end(tx, seq, None, State::Cancelled, "cancelled", detail).await? {
            self.tell_failed(tx, &job, "cancelled", detail).await?;
            self.count_end(State::Cancelled, "");
        }
        Ok(())
    }

    /// Ends jobs that are to be cancelled and that nobody runs: their worker went silent, or gave them back before it heard
    /// of that.
    ///
    /// # Errors
    /// The database's.
    pub async fn end_orphans(&self) -> Result<(), Error> {
        let query = sqlx::query_as(
            "SELECT seq, fence FROM jobs WHERE state IN ('queued', 'running') AND cancel_wanted = 1 AND (state = 'queued' OR lease_until_ms < $1)",
        );
        let orphans: Vec<(i64, i64)> = query.bind(now_ms()).fetch_all(self.db.pool()).await?;
        for (seq, fence) in orphans {
            let job = match rows::by_seq(self.db.pool(), seq).await {
                Err(error) if error.is_of_one_row() => {
                    self.bury(self.db.begin().await?, seq, fence, &error).await?;
                    continue;
                }
                // Its title was deleted meanwhile.
                Err(Error::Store(streamgate_store::Error::Database(sqlx::Error::RowNotFound))) => continue,
                job => job?,
            };
            let claim = Claim { job };
            let Job { trace_parent, job_id, .. } = &claim.job;
            match caused_by(trace_parent, job_id, "cancel transcode", self.cancelled(&claim)).await {
                Ok(()) | Err(Error::LeaseLost(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn tell_failed(&self, tx: &mut Transaction, job: &Job, reason: &str, detail: &str) -> Result<(), Error> {
        let failed = TranscodingFailed {
            job_id: job.job_id.clone(),
            content_id: job.content_id.clone(),
            reason: reason.to_owned(),
            detail: detail.to_owned(),
            owner: job.owner.clone(),
            remake: job.remake,
        };
        self.outbox.add(tx, &job.content_id, Payload::TranscodingFailed(failed)).await?;
        Ok(())
    }

    fn count_end(&self, state: State, reason: &str) {
        self.metrics.ended.get_or_create(&EndLabels { state: state.as_str(), reason: reason.to_owned() }).inc();
    }
}

/// Claims the first job in line: its number and its token. What else its row holds is read apart, since that may be damaged.
async fn take(tx: &mut Transaction, owner: &str, lease: Duration) -> Result<Option<(i64, i64)>, Error> {
    let now = now_ms();
    // A row that is being changed beside this, such as by a heartbeat, is not waited for.
    let skip = match tx.kind() {
        DatabaseKind::Postgres => "FOR UPDATE SKIP LOCKED",
        DatabaseKind::Sqlite => "",
    };
    // SQLite takes an index of a part of the table only where that part's condition stands word for word.
    let text = format!(
        "UPDATE jobs SET state = 'running', fence = fence + 1, lease_owner = $1, lease_until_ms = $2, attempts = attempts + 1, \
         silences = CASE WHEN state = 'running' AND made_ms <= attempt_made_ms THEN silences + 1 ELSE 0 END, \
         troubled_ms = CASE WHEN made_ms > attempt_made_ms THEN 0 ELSE troubled_ms END, \
         started_ms = COALESCE(started_ms, $3), attempt_ms = $3, attempt_made_ms = made_ms \
         WHERE seq = (SELECT seq FROM jobs WHERE state IN ('queued', 'running') AND cancel_wanted = 0 AND not_before_ms <= $3 AND \
         (state = 'queued' OR (state = 'running' AND lease_until_ms < $3)) ORDER BY priority DESC, seq LIMIT 1 {skip}) RETURNING seq, fence"
    );
    let query = sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(owner).bind(now + millis(lease)).bind(now);
    Ok(query.fetch_optional(&mut **tx).await?)
}

/// Ends a job that has not ended; with a token, only as its holder.
async fn end(
    tx: &mut Transaction,
    seq: i64,
    fence: Option<i64>,
    state: State,
    reason: &str,
    detail: &str,
) -> Result<bool, Error> {
    let done = sqlx::query(
        "UPDATE jobs SET state = $1, ended_ms = $2, error_reason = $3, error_detail = $4, revision = revision + 1, lease_owner = '', \
         lease_until_ms = 0 WHERE seq = $5 AND ($6 IS NULL OR fence = $6) AND state IN ('queued', 'running')",
    )
    .bind(state.as_str())
    .bind(now_ms())
    .bind(reason)
    .bind(detail)
    .bind(seq)
    .bind(fence)
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// What was made of the title before is no longer played by anybody who begins now.
async fn supersede(tx: &mut Transaction, by: &Job) -> Result<(), Error> {
    let query = sqlx::query("UPDATE jobs SET superseded_ms = $1 WHERE content_id = $2 AND seq < $3 AND superseded_ms = 0");
    query.bind(now_ms()).bind(&by.content_id).bind(by.seq).execute(&mut **tx).await?;
    Ok(())
}

async fn completed(tx: &mut Transaction, job: &Job, duration_ms: u64) -> Result<TranscodingCompleted, Error> {
    let size = sqlx::query_scalar(
        "SELECT CAST(COALESCE((SELECT SUM(size_bytes) FROM segments WHERE job_id = $1), 0) \
         + COALESCE((SELECT SUM(init_bytes) FROM renditions WHERE job_id = $1), 0) AS BIGINT)",
    );
    let size_bytes: i64 = size.bind(&job.job_id).fetch_one(&mut **tx).await?;
    let largest =
        sqlx::query_as("SELECT width, height FROM renditions WHERE job_id = $1 AND width > 0 ORDER BY width DESC LIMIT 1");
    let largest: Option<(i64, i64)> = largest.bind(&job.job_id).fetch_optional(&mut **tx).await?;
    let (width, height) = largest.map_or((0, 0), |(width, height)| (unsigned(width), unsigned(height)));
    let renditions = super::publish::rendition_names(tx, &job.job_id).await?;
    let elapsed_ms = job.started_ms.map_or(0, |started| u64::try_from(now_ms() - started).unwrap_or(0));
    Ok(TranscodingCompleted {
        job_id: job.job_id.clone(),
        content_id: job.content_id.clone(),
        duration_ms,
        width,
        height,
        size_bytes: u64::try_from(size_bytes).unwrap_or(0),
        owner: job.owner.clone(),
        renditions,
        elapsed_ms,
    })
}

fn unsigned(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

fn millis(duration: Duration) -> UnixMillis {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2)
}

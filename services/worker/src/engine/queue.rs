//! The durable queue. Every call takes the time, so that a test can be at any moment.

use std::{sync::Arc, time::Duration};

use sqlx::{AnyConnection, AssertSqlSafe};
use streamgate_core::{ids::JobId, page::Page, time::UnixMillis};
use streamgate_store::{Database, DatabaseKind, Transaction};
use tokio::sync::Notify;

use super::{
    backoff::MAX_ATTEMPTS,
    rows::{Job, JobRow, State},
};
use crate::Error;

/// Ended jobs are shown for this long.
const KEEP_ENDED: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Longest message that is kept of an attempt.
const MAX_MESSAGE_CHARS: usize = 1_000;

macro_rules! select_jobs {
    ($tail:literal) => {
        concat!(
            "SELECT job_id, type, state, attempts, max_attempts, message, create_ms, run_ms, end_ms, request_body FROM jobs ",
            $tail
        )
    };
}

// SQLite without statistics would rather read every job of the state and sort: the indexes are named.
const NEXT_DUE: &str = select_jobs!("INDEXED BY jobs_due WHERE state = 1 AND run_ms <= $1 ORDER BY run_ms, job_id LIMIT 1");
const NEXT_ORPHAN: &str = select_jobs!("INDEXED BY jobs_leases WHERE state = 2 AND lease_ms <= $1 ORDER BY lease_ms LIMIT 1");
const PEEK: &str = "SELECT CAST(1 AS BIGINT) WHERE EXISTS (SELECT 1 FROM jobs INDEXED BY jobs_due WHERE state = 1 AND run_ms <= $1) \
    OR EXISTS (SELECT 1 FROM jobs INDEXED BY jobs_leases WHERE state = 2 AND lease_ms <= $1)";
const WHEN_DUE: &str = "SELECT min(run_ms) FROM jobs INDEXED BY jobs_due WHERE state = 1";

/// The queries that each claim makes, for the test that looks at their plans.
pub const UNFINISHED_QUERIES: [&str; 2] = [NEXT_DUE, NEXT_ORPHAN];

/// A job to queue.
#[derive(Debug, Clone, Default)]
pub struct Submit {
    /// Kind of work; must be known.
    pub job_type: String,
    /// Makes repeating safe.
    pub request_id: Option<String>,
    /// Wait before the first attempt.
    pub delay: Duration,
}

/// A job that a worker may run until its lease ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Which job.
    pub job_id: String,
    /// Kind of work.
    pub job_type: String,
    /// Number of this attempt, from 1.
    pub attempt: u32,
    /// Attempts at the most.
    pub max_attempts: u32,
    /// Proves that the claim is the newest.
    pub fence: i64,
}

/// One page of jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobPage {
    /// The jobs, newest first.
    pub jobs: Vec<Job>,
    /// Token of the next page; empty on the last one.
    pub next_page_token: String,
}

/// Jobs in a database.
#[derive(Debug, Clone)]
pub struct Queue {
    db: Database,
    changed: Arc<Notify>,
}

impl Queue {
    /// Over an open database.
    #[must_use]
    pub fn new(db: Database) -> Self {
        Self { db, changed: Arc::new(Notify::new()) }
    }

    /// Ends when a job was queued or called off since the last look.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Queues a job. Repeating the request gives the first job.
    ///
    /// # Errors
    /// When the request id was used for something else.
    pub async fn submit(&self, submit: Submit, now: UnixMillis) -> Result<Job, Error> {
        let body = format!("{} {}", submit.job_type, submit.delay.as_millis());
        let mut tx = self.db.begin().await?;
        if let Some(request_id) = &submit.request_id
            && let Some(first) = by_request(&mut tx, request_id).await?
        {
            return if first.request_body == body { Ok(first) } else { Err(Error::RequestIdReused) };
        }
        let id = JobId::new();
        sqlx::query(
            "INSERT INTO jobs (job_id, type, max_attempts, request_id, request_body, create_ms, run_ms) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(id.as_str())
        .bind(submit.job_type)
        .bind(i64::from(MAX_ATTEMPTS))
        .bind(submit.request_id)
        .bind(body)
        .bind(now)
        .bind(now.saturating_add(millis(submit.delay)))
        .execute(&mut *tx)
        .await?;
        let job = find(&mut tx, id.as_str()).await?;
        tx.commit().await?;
        self.changed.notify_one();
        Ok(job)
    }

    /// Queues a job of a schedule when its time has come, unless the one before has not ended; says
    /// when to look again.
    ///
    /// # Errors
    /// When the database can't be used.
    pub async fn tick(&self, job_type: &str, every: Duration, now: UnixMillis) -> Result<UnixMillis, Error> {
        let mut tx = self.db.begin().await?;
        let next: Option<i64> =
            sqlx::query_scalar("SELECT next_ms FROM schedules WHERE name = $1").bind(job_type).fetch_optional(&mut *tx).await?;
        let following = now.saturating_add(millis(every));
        // A shorter interval, or a clock set back, must not leave the schedule asleep.
        let next = next.unwrap_or(now).min(following);
        if next > now {
            return Ok(next);
        }
        let key = format!("schedule:{job_type}");
        sqlx::query(
            "INSERT INTO jobs (job_id, type, max_attempts, unique_key, create_ms, run_ms) VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT DO NOTHING",
        )
        .bind(JobId::new().as_str())
        .bind(job_type)
        .bind(i64::from(MAX_ATTEMPTS))
        .bind(key)
        .bind(now)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "INSERT INTO schedules (name, next_ms) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET next_ms = excluded.next_ms",
        )
        .bind(job_type)
        .bind(following)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        self.changed.notify_one();
        Ok(following)
    }

    /// Takes the job that has waited longest, or one whose worker has gone silent.
    ///
    /// # Errors
    /// When the database can't be used.
    pub async fn claim(&self, lease: Duration, now: UnixMillis) -> Result<Option<Claim>, Error> {
        // Most looks find nothing: they must not wait for the writer.
        if self.peek(now).await?.is_none() {
            return Ok(None);
        }
        let mut tx = self.db.begin().await?;
        fail_exhausted(&mut tx, now).await?;
        let mut due: Option<JobRow> = sqlx::query_as(self.plan(NEXT_DUE)).bind(now).fetch_optional(&mut *tx).await?;
        if due.is_none() {
            due = sqlx::query_as(self.plan(NEXT_ORPHAN)).bind(now).fetch_optional(&mut *tx).await?;
        }
        let claim = match due.map(Job::try_from).transpose()? {
            Some(job) => Some(take(&mut tx, job, lease, now).await?),
            None => None,
        };
        tx.commit().await?;
        Ok(claim)
    }

    /// The query as its engine takes it: PostgreSQL chooses the index by itself.
    fn plan(&self, query: &'static str) -> AssertSqlSafe<String> {
        AssertSqlSafe(match self.db.kind() {
            DatabaseKind::Sqlite => query.to_owned(),
            DatabaseKind::Postgres => query.replace("INDEXED BY jobs_due", "").replace("INDEXED BY jobs_leases", ""),
        })
    }

    async fn peek(&self, now: UnixMillis) -> Result<Option<i64>, Error> {
        let found = sqlx::query_scalar(self.plan(PEEK));
        Ok(found.bind(now).fetch_optional(self.db.pool()).await?)
    }

    /// When the next job may run, if one waits.
    ///
    /// # Errors
    /// When the database can't be used.
    pub async fn next_due(&self) -> Result<Option<UnixMillis>, Error> {
        Ok(sqlx::query_scalar(self.plan(WHEN_DUE)).fetch_one(self.db.pool()).await?)
    }

    /// Keeps a claim alive; false when it is no longer the newest, or was called off.
    ///
    /// # Errors
    /// When the database can't be used.
    pub async fn heartbeat(&self, claim: &Claim, lease: Duration, now: UnixMillis) -> Result<bool, Error> {
        let mut tx = self.db.begin().await?;
        let kept = sqlx::query("UPDATE jobs SET lease_ms = $3 WHERE job_id = $1 AND fence = $2 AND state = 2")
            .bind(&claim.job_id)
            .bind(claim.fence)
            .bind(now.saturating_add(millis(lease)))
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(kept.rows_affected() == 1)
    }

    /// Whether a claim still is the newest.
    ///
    /// # Errors
    /// When the database can't be used.
    pub async fn holds(&self, claim: &Claim) -> Result<bool, Error> {
        let held: Option<i64> = sqlx::query_scalar("SELECT 1 FROM jobs WHERE job_id = $1 AND fence = $2 AND state = 2")
            .bind(&claim.job_id)
            .bind(claim.fence)
            .fetch_optional(self.db.pool())
            .await?;
        Ok(held.is_some())
    }

    /// Ends a claimed job; false when the claim is no longer the newest.
    ///
    /// # Errors
    /// When the database can't be used.
    pub async fn finish(&self, claim: &Claim, state: State, message: &str, now: UnixMillis) -> Result<bool, Error> {
        self.settle(claim, state, message, 0, now, state.is_ended().then_some(now)).await
    }

    /// Puts a claimed job back, to be tried again at `run_ms`; false when the claim is no longer the newest.
    ///
    /// # Errors
    /// When the database can't be used.
    pub async fn retry(&self, claim: &Claim, message: &str, run_ms: UnixMillis) -> Result<bool, Error> {
        self.settle(claim, State::Queued, message, 0, run_ms, None).await
    }

    /// Puts back a job that was cut short by a stop: the attempt does not count.
    ///
    /// # Errors
    /// When the database can't be used.
    pub async fn release(&self, claim: &Claim, now: UnixMillis) -> Result<bool, Error> {
        self.settle(claim, State::Queued, "the worker stopped; the job goes on elsewhere", 1, now, None).await
    }

    async fn settle(
        &self,
        claim: &Claim,
        state: State,
        message: &str,
        uncounted: u32,
        run_ms: UnixMillis,
        end_ms: Option<UnixMillis>,
    ) -> Result<bool, Error> {
        let message: String = message.chars().take(MAX_MESSAGE_CHARS).collect();
        let mut tx = self.db.begin().await?;
        let settled = sqlx::query(
            "UPDATE jobs SET state = $3, message = $4, attempts = attempts - $5, run_ms = CASE WHEN $3 = 1 THEN $6 ELSE run_ms END, end_ms = $7, lease_ms = 0 \
             WHERE job_id = $1 AND fence = $2 AND state = 2",
        )
        .bind(&claim.job_id)
        .bind(claim.fence)
        .bind(state as i64)
        .bind(message)
        .bind(i64::from(uncounted))
        .bind(run_ms)
        .bind(end_ms)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        if state == State::Queued {
            self.changed.notify_one();
        }
        Ok(settled.rows_affected() == 1)
    }

    /// Calls a job off, waiting or running. Repeating is success.
    ///
    /// # Errors
    /// When there is no such job, or it ended otherwise.
    pub async fn cancel(&self, id: &JobId, now: UnixMillis) -> Result<Job, Error> {
        let mut tx = self.db.begin().await?;
        let job = find(&mut tx, id.as_str()).await?;
        match job.state {
            State::Cancelled => return Ok(job),
            State::Succeeded | State::Failed => return Err(Error::Ended(job.job_id)),
            State::Queued | State::Running => {}
        }
        // A new fence: whatever the worker says from now on is too late.
        sqlx::query(
            "UPDATE jobs SET state = 5, fence = fence + 1, message = 'cancelled', end_ms = $2, lease_ms = 0 WHERE job_id = $1",
        )
        .bind(id.as_str())
        .bind(now)
        .execute(&mut *tx)
        .await?;
        let job = find(&mut tx, id.as_str()).await?;
        tx.commit().await?;
        self.changed.notify_one();
        Ok(job)
    }

    /// One job.
    ///
    /// # Errors
    /// When there is none.
    pub async fn get(&self, id: &JobId) -> Result<Job, Error> {
        find(&mut *self.db.pool().acquire().await?, id.as_str()).await
    }

    /// Jobs, newest first.
    ///
    /// # Errors
    /// When the page is not one of this list.
    pub async fn list(&self, size: u32, token: &str, state: Option<State>) -> Result<JobPage, Error> {
        let filter = format!("jobs state={state:?}");
        let page = Page::parse(size, token, &filter)?;
        let query = match state {
            None => select_jobs!("WHERE job_id < $1 ORDER BY job_id DESC LIMIT $2"),
            Some(_) => select_jobs!("WHERE job_id < $1 AND state = $3 ORDER BY job_id DESC LIMIT $2"),
        };
        // Sorts behind every id.
        let after = page.after.clone().unwrap_or_else(|| "~".to_owned());
        let mut query = sqlx::query_as::<_, JobRow>(query).bind(after).bind(i64::from(page.size) + 1);
        if let Some(state) = state {
            query = query.bind(state as i64);
        }
        let rows = query.fetch_all(self.db.pool()).await?;
        let jobs = rows.into_iter().map(Job::try_from).collect::<Result<Vec<_>, _>>()?;
        let (jobs, next_page_token) = page.cut(jobs, |job| job.job_id.clone(), &filter);
        Ok(JobPage { jobs, next_page_token })
    }

    /// Forgets jobs that ended long ago; says how many.
    ///
    /// # Errors
    /// When the database can't be used.
    pub async fn prune(&self, now: UnixMillis) -> Result<u64, Error> {
        let mut tx = self.db.begin().await?;
        let gone = sqlx::query("DELETE FROM jobs WHERE end_ms < $1").bind(now - millis(KEEP_ENDED)).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(gone.rows_affected())
    }
}

/// Gives up on jobs whose workers went silent as often as they may be tried.
async fn fail_exhausted(tx: &mut Transaction, now: UnixMillis) -> Result<(), Error> {
    sqlx::query(
        "UPDATE jobs SET state = 4, fence = fence + 1, end_ms = $1, lease_ms = 0, message = 'the worker went silent in every attempt' \
         WHERE state = 2 AND lease_ms <= $1 AND attempts >= max_attempts",
    )
    .bind(now)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn take(tx: &mut Transaction, job: Job, lease: Duration, now: UnixMillis) -> Result<Claim, Error> {
    let fence: i64 = sqlx::query_scalar(
        "UPDATE jobs SET state = 2, attempts = attempts + 1, fence = fence + 1, run_ms = $2, lease_ms = $3 WHERE job_id = $1 RETURNING fence",
    )
    .bind(&job.job_id)
    .bind(now)
    .bind(now.saturating_add(millis(lease)))
    .fetch_one(&mut **tx)
    .await?;
    Ok(Claim { job_id: job.job_id, job_type: job.job_type, attempt: job.attempts + 1, max_attempts: job.max_attempts, fence })
}

async fn find(connection: &mut AnyConnection, id: &str) -> Result<Job, Error> {
    let row: Option<JobRow> = sqlx::query_as(select_jobs!("WHERE job_id = $1")).bind(id).fetch_optional(connection).await?;
    row.ok_or_else(|| Error::UnknownJob(id.to_owned()))?.try_into()
}

async fn by_request(connection: &mut AnyConnection, request_id: &str) -> Result<Option<Job>, Error> {
    let row: Option<JobRow> =
        sqlx::query_as(select_jobs!("WHERE request_id = $1")).bind(request_id).fetch_optional(connection).await?;
    row.map(Job::try_from).transpose()
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

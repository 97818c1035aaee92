//! The durable queue. Every call takes the time, so that a test can be at any moment.
//!
//! [`desk`] and [`submit`] put jobs in, [`claim`] takes them out under leases, [`settle`] writes how they ended,
//! [`again`] brings dead ones back.

mod again;
mod claim;
mod desk;
mod settle;
mod submit;

use std::{sync::Arc, time::Duration};

use sqlx::AnyConnection;
use streamgate_core::{ids::JobId, page::Page, time::UnixMillis};
use streamgate_store::{Database, Outbox};
use tokio::sync::Notify;

use self::desk::Desk;
use super::rows::{Job, JobRow, Lane, State};
use crate::Error;

pub use claim::{CLAIM_QUERIES, Claim};
pub use settle::{End, Ended};
pub use submit::Submit;

macro_rules! select_jobs {
    ($tail:literal) => {
        concat!("SELECT ", $crate::engine::rows::job_columns!(), " FROM jobs ", $tail)
    };
}
use select_jobs;

/// One page of jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct JobPage {
    /// The jobs, newest first.
    pub jobs: Vec<Job>,
    /// Token of the next page; empty on the last one.
    pub next_page_token: String,
}

/// Which jobs a list holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only those in this state.
    pub state: Option<State>,
    /// Only those of this type; empty for all.
    pub job_type: String,
}

/// Jobs in a database.
#[derive(Debug, Clone)]
pub struct Queue {
    db: Database,
    outbox: Outbox,
    lane: Lane,
    /// Jobs of one account that a worker of the lane runs at once.
    share: u32,
    changed: Arc<[Notify; Lane::ALL.len()]>,
    desk: Arc<Desk>,
}

impl Queue {
    /// Over an open database, with what carries the events of its jobs.
    #[must_use]
    pub fn new(db: Database, outbox: Outbox) -> Self {
        Self { db, outbox, lane: Lane::default(), share: u32::MAX, changed: Arc::default(), desk: Arc::default() }
    }

    /// The same queue, for the workers of a lane.
    #[must_use]
    pub fn of_lane(&self, lane: Lane) -> Self {
        Self { lane, ..self.clone() }
    }

    /// The same queue, for workers that run at most so many jobs of one account at once.
    #[must_use]
    pub fn sharing(self, share: u32) -> Self {
        Self { share, ..self }
    }

    /// The lane whose jobs are claimed here.
    #[must_use]
    pub const fn lane(&self) -> Lane {
        self.lane
    }

    /// The database beneath.
    #[must_use]
    pub const fn database(&self) -> &Database {
        &self.db
    }

    /// The events of this service.
    #[must_use]
    pub const fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Ends when a job was queued or called off since the last look.
    pub async fn changed(&self) {
        self.changed[self.lane as usize].notified().await;
    }

    /// Lets a worker of each lane look at once.
    pub fn wake(&self) {
        self.changed.iter().for_each(Notify::notify_one);
    }

    /// When the first job of the lane comes due after `now`, if one waits. What is due already and was not claimed waits
    /// for a place, not for its time.
    ///
    /// # Errors
    /// When the database can't be used.
    pub async fn next_due(&self, now: UnixMillis) -> Result<Option<UnixMillis>, Error> {
        let next = sqlx::query_scalar("SELECT min(run_ms) FROM jobs WHERE state = 1 AND lane = $1 AND run_ms > $2");
        Ok(next.bind(self.lane as i64).bind(now).fetch_one(self.db.pool()).await?)
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
            "UPDATE jobs SET state = 5, fence = fence + 1, message = 'cancelled', end_ms = $2, lease_ms = 0, \
             expire_ms = $2 + CASE WHEN keep_ms = 0 THEN $3 ELSE keep_ms END WHERE job_id = $1",
        )
        .bind(id.as_str())
        .bind(now)
        .bind(settle::kept_ms(State::Cancelled))
        .execute(&mut *tx)
        .await?;
        let job = find(&mut tx, id.as_str()).await?;
        tx.commit().await?;
        self.wake();
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
    pub async fn list(&self, size: u32, token: &str, filter: &Filter) -> Result<JobPage, Error> {
        let mark = format!("jobs {filter:?}");
        let page = Page::parse(size, token, &mark)?;
        // Each shape has an index of its own.
        let query = match (filter.state, filter.job_type.is_empty()) {
            (None, true) => select_jobs!("WHERE job_id < $1 ORDER BY job_id DESC LIMIT $2"),
            (Some(_), true) => select_jobs!("WHERE job_id < $1 AND state = $3 ORDER BY job_id DESC LIMIT $2"),
            (None, false) => select_jobs!("WHERE job_id < $1 AND type = $3 ORDER BY job_id DESC LIMIT $2"),
            (Some(_), false) => select_jobs!("WHERE job_id < $1 AND state = $3 AND type = $4 ORDER BY job_id DESC LIMIT $2"),
        };
        // Sorts behind every id.
        let after = page.after.clone().unwrap_or_else(|| "~".to_owned());
        let mut query = sqlx::query_as::<_, JobRow>(query).bind(after).bind(i64::from(page.size) + 1);
        if let Some(state) = filter.state {
            query = query.bind(state as i64);
        }
        if !filter.job_type.is_empty() {
            query = query.bind(&filter.job_type);
        }
        let rows = query.fetch_all(self.db.pool()).await?;
        let jobs = rows.into_iter().map(Job::try_from).collect::<Result<Vec<_>, _>>()?;
        let (jobs, next_page_token) = page.cut(jobs, |job| job.job_id.clone(), &mark);
        Ok(JobPage { jobs, next_page_token })
    }

    /// How long the job has waited that is due for longest; nothing when none is due.
    ///
    /// # Errors
    /// When the database can't be used.
    pub async fn oldest_wait(&self, now: UnixMillis) -> Result<Duration, Error> {
        let mut oldest = 0;
        for lane in Lane::ALL {
            let first = sqlx::query_scalar("SELECT min(run_ms) FROM jobs WHERE state = 1 AND lane = $1").bind(lane as i64);
            let first: Option<UnixMillis> = first.fetch_one(self.db.pool()).await?;
            oldest = oldest.max(first.map_or(0, |due| now.saturating_sub(due)));
        }
        Ok(Duration::from_millis(u64::try_from(oldest).unwrap_or(0)))
    }

    /// Forgets jobs whose time is over; says how many.
    ///
    /// # Errors
    /// When the database can't be used.
    pub async fn prune(&self, now: UnixMillis) -> Result<u64, Error> {
        let mut tx = self.db.begin().await?;
        let gone = sqlx::query("DELETE FROM jobs WHERE expire_ms < $1").bind(now).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(gone.rows_affected())
    }
}

async fn find(connection: &mut AnyConnection, id: &str) -> Result<Job, Error> {
    let row: Option<JobRow> = sqlx::query_as(select_jobs!("WHERE job_id = $1")).bind(id).fetch_optional(connection).await?;
    row.ok_or_else(|| Error::UnknownJob(id.to_owned()))?.try_into()
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

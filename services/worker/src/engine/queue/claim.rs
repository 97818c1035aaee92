//! Jobs go out, under leases.

use std::time::Duration;

use sqlx::{AssertSqlSafe, FromRow, Row as _, any::AnyRow};
use streamgate_core::time::UnixMillis;
use streamgate_proto::streamgate::worker::v1::job_params::Kind;
use streamgate_store::{DatabaseKind, Transaction};

use super::{Queue, millis, settle::Lost};
use crate::{
    Error,
    engine::rows::{Lane, Priority, decode_params, stored},
};

/// A job that a worker may run until its lease ends.
#[derive(Debug, Clone, PartialEq)]
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
    /// What it is told.
    pub params: Option<Kind>,
    /// The account that asked for it.
    pub owner: String,
    /// The place in a trace of the request that asked; empty when nobody did.
    pub trace_parent: String,
    /// When it was claimed.
    pub since_ms: UnixMillis,
}

/// Which waiting jobs are taken first.
#[derive(Debug, Clone, Copy)]
enum Order {
    Priority(Priority),
    /// Whatever its priority, the one that is due for longest.
    Age,
    /// Those whose workers went silent.
    Orphans,
}

/// A query for jobs that wait or whose workers are silent. Jobs of accounts that have their share of this worker are passed
/// over: each would only be put off.
macro_rules! pick {
    ($index:literal, $which:literal, $order:literal) => {
        // SQLite without statistics would rather read every job of the state and sort: the indexes are named.
        concat!(
            "SELECT job_id FROM jobs INDEXED BY ",
            $index,
            " WHERE ",
            $which,
            " AND lane = $6 AND owner NOT IN (SELECT owner FROM jobs INDEXED BY jobs_leases WHERE state = 2 AND lane = $6 \
             AND worker = $4 AND owner <> '' GROUP BY owner HAVING count(*) >= $5) ORDER BY ",
            $order,
            " LIMIT $2"
        )
    };
}

const BY_PRIORITY: &str = pick!("jobs_due", "state = 1 AND priority = $7 AND run_ms <= $1", "run_ms, job_id");
const BY_AGE: &str = pick!("jobs_waiting", "state = 1 AND run_ms <= $1", "run_ms, job_id");
const ORPHANS: &str = pick!("jobs_leases", "state = 2 AND lease_ms <= $1 AND attempts < max_attempts", "lease_ms");
const PEEK: &str = "SELECT CAST(1 AS BIGINT) WHERE EXISTS (SELECT 1 FROM jobs INDEXED BY jobs_waiting WHERE state = 1 AND lane = $2 AND run_ms <= $1) \
    OR EXISTS (SELECT 1 FROM jobs INDEXED BY jobs_leases WHERE state = 2 AND lane = $2 AND lease_ms <= $1)";
const EXHAUSTED: &str = "SELECT job_id, fence FROM jobs INDEXED BY jobs_leases WHERE state = 2 AND lane = $2 AND lease_ms <= $1 AND attempts >= max_attempts LIMIT 100";

/// The queries that each claim makes, for the test that looks at their plans.
pub const CLAIM_QUERIES: [&str; 4] = [BY_PRIORITY, BY_AGE, ORPHANS, EXHAUSTED];

/// One claim in so many goes by age alone, so that no job waits for ever.
const BY_AGE_EVERY: u64 = 8;

#[derive(FromRow)]
struct Taken {
    job_id: String,
    #[sqlx(rename = "type")]
    job_type: String,
    attempts: i64,
    max_attempts: i64,
    fence: i64,
    params: Vec<u8>,
    owner: String,
    trace_parent: String,
}

/// What one order has taken.
#[derive(Debug, Default)]
struct Haul {
    claims: Vec<Claim>,
    /// Nobody can work at them.
    unreadable: Vec<Lost>,
}

impl Queue {
    /// Takes up to `room` jobs of its lane for `worker`: first those whose workers have gone silent, which have waited for a
    /// lease already and are no more than those workers held; then by priority, then by age. At once it takes no more than
    /// one account may have. `turn` counts the calls of this worker.
    ///
    /// # Errors
    /// When the database can't be used.
    pub async fn claim(
        &self,
        worker: &str,
        room: usize,
        turn: u64,
        lease: Duration,
        now: UnixMillis,
    ) -> Result<Vec<Claim>, Error> {
        let Some(taking) = self.taking(worker, room, lease, now).await? else { return Ok(Vec::new()) };
        self.bury_exhausted(now).await?;
        self.take(std::iter::once(Order::Orphans).chain(of_turn(turn)), taking).await
    }

    /// The same without the jobs of silent workers.
    ///
    /// # Errors
    /// When the database can't be used.
    pub async fn claim_waiting(
        &self,
        worker: &str,
        room: usize,
        turn: u64,
        lease: Duration,
        now: UnixMillis,
    ) -> Result<Vec<Claim>, Error> {
        let Some(taking) = self.taking(worker, room, lease, now).await? else { return Ok(Vec::new()) };
        self.take(of_turn(turn), taking).await
    }

    /// Absent when there is nothing to take. Most looks find nothing: they must not wait for the writer.
    async fn taking<'a>(
        &self,
        worker: &'a str,
        room: usize,
        lease: Duration,
        now: UnixMillis,
    ) -> Result<Option<Taking<'a>>, Error> {
        let taking = Taking { worker, lane: self.lane, room: self.at_once(room), share: self.share, lease, now };
        Ok((room > 0 && self.is_any_due(now).await?).then_some(taking))
    }

    /// Jobs that one claim takes when there is room for so many: more of one account than its share would not be run.
    pub(in crate::engine) fn at_once(&self, room: usize) -> usize {
        room.min(usize::try_from(self.share).unwrap_or(usize::MAX))
    }

    async fn take(&self, orders: impl Iterator<Item = Order>, mut taking: Taking<'_>) -> Result<Vec<Claim>, Error> {
        let mut tx = self.db.begin_shared().await?;
        let mut haul = Haul::default();
        for order in orders {
            if taking.room > 0 {
                let taken = taking.take(&mut tx, order).await?;
                taking.room -= taken.claims.len();
                haul.claims.extend(taken.claims);
                haul.unreadable.extend(taken.unreadable);
            }
        }
        tx.commit().await?;
        self.bury_unreadable(haul.unreadable, taking.now).await;
        Ok(haul.claims)
    }

    /// A row that can't be read must not hold up those beside it. The claims are written already, so trouble here is no
    /// trouble of theirs.
    async fn bury_unreadable(&self, unreadable: Vec<Lost>, now: UnixMillis) {
        if unreadable.is_empty() {
            return;
        }
        for lost in unreadable {
            let job_id = lost.job_id.clone();
            if let Err(error) = self.bury(lost, now).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(job_id, error, "the damaged row is looked at again when its lease ends");
            }
        }
        // They took the places of others.
        self.wake();
    }

    async fn is_any_due(&self, now: UnixMillis) -> Result<bool, Error> {
        let query = for_engine(PEEK, self.db.kind());
        let found: Option<i64> =
            sqlx::query_scalar(query).bind(now).bind(self.lane as i64).fetch_optional(self.db.pool()).await?;
        Ok(found.is_some())
    }

    /// Gives up on jobs whose workers went silent as often as they may be tried.
    async fn bury_exhausted(&self, now: UnixMillis) -> Result<(), Error> {
        let query = for_engine(EXHAUSTED, self.db.kind());
        let dead: Vec<(String, i64)> = sqlx::query_as(query).bind(now).bind(self.lane as i64).fetch_all(self.db.pool()).await?;
        for (job_id, fence) in dead {
            let message = "the worker went silent in every attempt".to_owned();
            self.bury(Lost { job_id, fence, leased_until: now, reason: "worker_lost", message }, now).await?;
        }
        Ok(())
    }

    /// Keeps claims alive and notes their progress; gives the places of those that are lost: called off,
    /// or taken by another worker.
    ///
    /// # Errors
    /// When the database can't be used.
    pub async fn heartbeat(&self, claims: &[(&Claim, f64)], lease: Duration, now: UnixMillis) -> Result<Vec<usize>, Error> {
        let mut lost = Vec::new();
        let mut tx = self.db.begin_shared().await?;
        for (place, (claim, progress)) in claims.iter().enumerate() {
            let kept = sqlx::query("UPDATE jobs SET lease_ms = $3, progress = $4 WHERE job_id = $1 AND fence = $2 AND state = 2")
                .bind(&claim.job_id)
                .bind(claim.fence)
                .bind(now.saturating_add(millis(lease)))
                .bind(stored(*progress))
                .execute(&mut *tx)
                .await?;
            if kept.rows_affected() == 0 {
                lost.push(place);
            }
        }
        tx.commit().await?;
        Ok(lost)
    }

    /// Jobs that `worker` holds, each with its fence.
    ///
    /// # Errors
    /// When the database can't be used.
    pub async fn held_by(&self, worker: &str) -> Result<Vec<(String, i64)>, Error> {
        let held = sqlx::query_as("SELECT job_id, fence FROM jobs WHERE state = 2 AND worker = $1");
        Ok(held.bind(worker).fetch_all(self.db.pool()).await?)
    }
}

/// The orders in which a worker's claim with this number takes waiting jobs.
fn of_turn(turn: u64) -> impl Iterator<Item = Order> {
    let by_age = (turn % BY_AGE_EVERY == BY_AGE_EVERY - 1).then_some(Order::Age);
    by_age.into_iter().chain(Priority::FIRST_TO_LAST.map(Order::Priority))
}

struct Taking<'a> {
    worker: &'a str,
    lane: Lane,
    room: usize,
    share: u32,
    lease: Duration,
    now: UnixMillis,
}

impl Taking<'_> {
    async fn take(&self, tx: &mut Transaction, order: Order) -> Result<Haul, Error> {
        let (picked, priority) = match order {
            Order::Priority(priority) => (BY_PRIORITY, Some(priority)),
            Order::Age => (BY_AGE, None),
            Order::Orphans => (ORPHANS, None),
        };
        let query = take_query(picked, tx.kind());
        let mut query = sqlx::query(query)
            .bind(self.now)
            .bind(i64::try_from(self.room).unwrap_or(i64::MAX))
            .bind(self.now.saturating_add(millis(self.lease)))
            .bind(self.worker);
        query = query.bind(i64::from(self.share)).bind(self.lane as i64);
        if let Some(priority) = priority {
            query = query.bind(priority as i64);
        }
        let mut haul = Haul::default();
        for row in query.fetch_all(&mut **tx).await? {
            match claim_of(&row, self.now) {
                Ok(claim) => haul.claims.push(claim),
                Err(why) => {
                    let message = format!("what is stored of the job can't be read: {why}");
                    let (job_id, fence) = (row.try_get("job_id")?, row.try_get("fence")?);
                    haul.unreadable.push(Lost { job_id, fence, leased_until: i64::MAX, reason: "row_unreadable", message });
                }
            }
        }
        Ok(haul)
    }
}

/// The claim that a row has become, or what is wrong with the row.
fn claim_of(row: &AnyRow, now: UnixMillis) -> Result<Claim, String> {
    const ATTEMPTS: &str = "its number of attempts is out of range";
    let row = Taken::from_row(row).map_err(|error| error.to_string())?;
    Ok(Claim {
        attempt: u32::try_from(row.attempts).map_err(|_| ATTEMPTS)?,
        max_attempts: u32::try_from(row.max_attempts).map_err(|_| ATTEMPTS)?,
        params: decode_params(&row.params).ok_or("its parameters are no streamgate.worker.v1.JobParams")?,
        job_id: row.job_id,
        job_type: row.job_type,
        fence: row.fence,
        owner: row.owner,
        trace_parent: row.trace_parent,
        since_ms: now,
    })
}

/// An update of the jobs that `picked` selects. On PostgreSQL, jobs that another worker is just taking are passed over.
fn take_query(picked: &str, kind: DatabaseKind) -> AssertSqlSafe<String> {
    let which = match kind {
        DatabaseKind::Sqlite => format!("IN ({picked})"),
        // An array is made once; a plain subselect might be run again, and take more than the limit.
        DatabaseKind::Postgres => format!("= ANY(ARRAY({} FOR UPDATE SKIP LOCKED))", plain(picked)),
    };
    AssertSqlSafe(format!(
        "UPDATE jobs SET state = 2, attempts = attempts + 1, fence = fence + 1, run_ms = $1, lease_ms = $3, worker = $4, progress = 0 \
         WHERE job_id {which} RETURNING job_id, type, attempts, max_attempts, fence, params, owner, trace_parent"
    ))
}

/// The query as its engine takes it: PostgreSQL chooses the index by itself.
fn for_engine(query: &str, kind: DatabaseKind) -> AssertSqlSafe<String> {
    AssertSqlSafe(match kind {
        DatabaseKind::Sqlite => query.to_owned(),
        DatabaseKind::Postgres => plain(query),
    })
}

fn plain(query: &str) -> String {
    ["jobs_due", "jobs_waiting", "jobs_leases"]
        .iter()
        .fold(query.to_owned(), |query, index| query.replace(&format!("INDEXED BY {index} "), ""))
}

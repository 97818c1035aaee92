//! Jobs go out, under leases.

use std::time::Duration;

use sqlx::{AssertSqlSafe, FromRow};
use streamgate_core::time::UnixMillis;
use streamgate_proto::streamgate::worker::v1::job_params::Kind;
use streamgate_store::{DatabaseKind, Transaction};

use super::{Queue, millis};
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

// SQLite without statistics would rather read every job of the state and sort: the indexes are named.
const BY_PRIORITY: &str = "SELECT job_id FROM jobs INDEXED BY jobs_due WHERE state = 1 AND lane = $6 AND priority = $7 AND run_ms <= $1 ORDER BY run_ms, job_id LIMIT $2";
const BY_AGE: &str = "SELECT job_id FROM jobs INDEXED BY jobs_waiting WHERE state = 1 AND lane = $6 AND run_ms <= $1 ORDER BY run_ms, job_id LIMIT $2";
const ORPHANS: &str = "SELECT job_id FROM jobs INDEXED BY jobs_leases WHERE state = 2 AND lane = $6 AND lease_ms <= $1 AND attempts < max_attempts \
                       ORDER BY lease_ms LIMIT $2";
const PEEK: &str = "SELECT CAST(1 AS BIGINT) WHERE EXISTS (SELECT 1 FROM jobs INDEXED BY jobs_waiting WHERE state = 1 AND lane = $2 AND run_ms <= $1) \
    OR EXISTS (SELECT 1 FROM jobs INDEXED BY jobs_leases WHERE state = 2 AND lane = $2 AND lease_ms <= $1)";
const EXHAUSTED: &str = "SELECT job_id FROM jobs INDEXED BY jobs_leases WHERE state = 2 AND lane = $2 AND lease_ms <= $1 AND attempts >= max_attempts LIMIT 100";

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
}

impl Queue {
    /// Takes up to `room` jobs of its lane for `worker`: by priority, then by age, then those whose workers have gone
    /// silent. `turn` counts the calls of this worker.
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
        // Most looks find nothing: they must not wait for the writer.
        if room == 0 || !self.is_any_due(now).await? {
            return Ok(Vec::new());
        }
        self.bury_exhausted(now).await?;
        let mut orders: Vec<Order> = Priority::FIRST_TO_LAST.map(Order::Priority).to_vec();
        if turn % BY_AGE_EVERY == BY_AGE_EVERY - 1 {
            orders.insert(0, Order::Age);
        }
        orders.push(Order::Orphans);
        let mut tx = self.db.begin_shared().await?;
        let mut claims = Vec::new();
        for order in orders {
            if claims.len() < room {
                let taking = Taking { worker, lane: self.lane, room: room - claims.len(), lease, now };
                claims.extend(taking.take(&mut tx, order).await?);
            }
        }
        tx.commit().await?;
        Ok(claims)
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
        let dead: Vec<String> = sqlx::query_scalar(query).bind(now).bind(self.lane as i64).fetch_all(self.db.pool()).await?;
        for job_id in dead {
            self.bury(&job_id, now).await?;
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

struct Taking<'a> {
    worker: &'a str,
    lane: Lane,
    room: usize,
    lease: Duration,
    now: UnixMillis,
}

impl Taking<'_> {
    async fn take(&self, tx: &mut Transaction, order: Order) -> Result<Vec<Claim>, Error> {
        let (picked, priority) = match order {
            Order::Priority(priority) => (BY_PRIORITY, Some(priority)),
            Order::Age => (BY_AGE, None),
            Order::Orphans => (ORPHANS, None),
        };
        let query = take_query(picked, tx.kind());
        let mut query = sqlx::query_as::<_, Taken>(query)
            .bind(self.now)
            .bind(i64::try_from(self.room).unwrap_or(i64::MAX))
            .bind(self.now.saturating_add(millis(self.lease)))
            .bind(self.worker);
        // Stands in every query, so that each has the same parameters before the last.
        query = query.bind(0_i64).bind(self.lane as i64);
        if let Some(priority) = priority {
            query = query.bind(priority as i64);
        }
        let taken = query.fetch_all(&mut **tx).await?;
        taken.into_iter().map(|row| self.claim_of(row)).collect()
    }

    fn claim_of(&self, row: Taken) -> Result<Claim, Error> {
        let corrupt = || Error::CorruptRow(row.job_id.clone());
        Ok(Claim {
            attempt: u32::try_from(row.attempts).map_err(|_| corrupt())?,
            max_attempts: u32::try_from(row.max_attempts).map_err(|_| corrupt())?,
            params: decode_params(&row.params).ok_or_else(corrupt)?,
            job_id: row.job_id,
            job_type: row.job_type,
            fence: row.fence,
            owner: row.owner,
            since_ms: self.now,
        })
    }
}

/// An update of the jobs that `picked` selects. On PostgreSQL, jobs that another worker is just taking are passed over.
fn take_query(picked: &str, kind: DatabaseKind) -> AssertSqlSafe<String> {
    let which = match kind {
        DatabaseKind::Sqlite => format!("IN ({picked})"),
        // An array is made once; a plain subselect might be run again, and take more than the limit.
        DatabaseKind::Postgres => format!("= ANY(ARRAY({} FOR UPDATE SKIP LOCKED))", plain(picked)),
    };
    AssertSqlSafe(format!(
        "UPDATE jobs SET state = 2, attempts = attempts + 1, fence = fence + 1, run_ms = $1, lease_ms = $3, worker = $4, progress = $5 \
         WHERE job_id {which} RETURNING job_id, type, attempts, max_attempts, fence, params, owner"
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

//! Dead jobs come back.

use streamgate_core::{ids::JobId, time::UnixMillis};
use streamgate_store::Transaction;

use super::{Queue, find, submit::by_key};
use crate::{
    Error,
    engine::rows::{Job, State},
};

/// Jobs that one call brings back at the most.
const RETRIED_AT_ONCE: i64 = 1_000;

impl Queue {
    /// Queues a failed or cancelled job again, with all its attempts.
    ///
    /// # Errors
    /// When there is no such job, it has not ended or succeeded, or another has its unique key meanwhile.
    pub async fn retry_dead(&self, id: &JobId, now: UnixMillis) -> Result<Job, Error> {
        let mut tx = self.db.begin().await?;
        let job = find(&mut tx, id.as_str()).await?;
        match job.state {
            State::Failed | State::Cancelled => {}
            State::Succeeded => return Err(Error::Ended(job.job_id)),
            State::Queued | State::Running => return Err(Error::NotEnded(job.job_id)),
        }
        if !job.unique_key.is_empty() && by_key(&mut tx, &job.unique_key).await?.is_some() {
            return Err(Error::UniqueKeyTaken(job.unique_key));
        }
        revive(&mut tx, &job.job_id, now).await?;
        let job = find(&mut tx, id.as_str()).await?;
        tx.commit().await?;
        self.wake();
        Ok(job)
    }

    /// Queues failed jobs again, the oldest first; says how many, and whether some are left. Those whose
    /// unique key is taken stay.
    ///
    /// # Errors
    /// When the database can't be used.
    pub async fn retry_all_dead(&self, job_type: &str, now: UnixMillis) -> Result<(u32, bool), Error> {
        let mut tx = self.db.begin().await?;
        let dead: Vec<(String, Option<String>)> = sqlx::query_as(
            "SELECT job_id, unique_key FROM jobs WHERE state = 4 AND ($1 = '' OR type = $1) AND (unique_key IS NULL OR NOT EXISTS \
             (SELECT 1 FROM jobs taken WHERE taken.unique_key = jobs.unique_key AND taken.state IN (1, 2))) ORDER BY job_id LIMIT $2",
        )
        .bind(job_type)
        .bind(RETRIED_AT_ONCE + 1)
        .fetch_all(&mut *tx)
        .await?;
        let more = dead.len() as i64 > RETRIED_AT_ONCE;
        let mut keys = std::collections::HashSet::new();
        let mut retried = 0;
        for (job_id, key) in dead.into_iter().take(usize::try_from(RETRIED_AT_ONCE).unwrap_or(0)) {
            // Of several dead jobs with one key, the oldest comes back.
            if key.is_none_or(|key| keys.insert(key)) {
                revive(&mut tx, &job_id, now).await?;
                retried += 1;
            }
        }
        tx.commit().await?;
        self.wake();
        Ok((retried, more))
    }
}

async fn revive(tx: &mut Transaction, job_id: &str, now: UnixMillis) -> Result<(), Error> {
    sqlx::query(
        "UPDATE jobs SET state = 1, attempts = 0, progress = 0, run_ms = $2, end_ms = NULL, expire_ms = NULL \
         WHERE job_id = $1 AND state IN (4, 5)",
    )
    .bind(job_id)
    .bind(now)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

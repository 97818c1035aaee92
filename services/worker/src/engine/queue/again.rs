//! Dead jobs come back.

use streamgate_core::{ids::JobId, time::UnixMillis};
use streamgate_store::Transaction;

use super::{Queue, Submit, find, settle, submit::by_key};
use crate::{
    Error,
    engine::rows::{Job, State},
};

/// Jobs that one call brings back at the most.
const RETRIED_AT_ONCE: i64 = 1_000;

/// Failed jobs whose unique key is free, the oldest first.
macro_rules! select_dead {
    ($which:literal) => {
        concat!(
            "SELECT job_id, unique_key FROM jobs WHERE state = 4 AND ",
            $which,
            "NOT EXISTS (SELECT 1 FROM jobs taken WHERE taken.unique_key = jobs.unique_key AND taken.state IN (1, 2)) \
             ORDER BY job_id LIMIT $1"
        )
    };
}

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

    /// Queues a job in the place of the unfinished one with its unique key, which is called off.
    ///
    /// # Errors
    /// When the request id was used for something else.
    pub async fn submit_instead(&self, tx: &mut Transaction, submit: Submit, now: UnixMillis) -> Result<Job, Error> {
        sqlx::query(
            "UPDATE jobs SET state = 5, fence = fence + 1, message = 'another job took its place', end_ms = $2, lease_ms = 0, \
             expire_ms = $2 + CASE WHEN keep_ms = 0 THEN $3 ELSE keep_ms END WHERE unique_key = $1 AND state IN (1, 2)",
        )
        .bind(submit.unique_key.clone())
        .bind(now)
        .bind(settle::kept_ms(State::Cancelled))
        .execute(&mut **tx)
        .await?;
        self.submit_in(tx, submit, now).await
    }

    /// Queues failed jobs again, the oldest first; says how many, and whether some are left. Those whose
    /// unique key is taken stay.
    ///
    /// # Errors
    /// When the database can't be used.
    pub async fn retry_all_dead(&self, job_type: &str, now: UnixMillis) -> Result<(u32, bool), Error> {
        let mut tx = self.db.begin().await?;
        let query = if job_type.is_empty() { select_dead!("") } else { select_dead!("type = $2 AND ") };
        let mut query = sqlx::query_as(query).bind(RETRIED_AT_ONCE + 1);
        if !job_type.is_empty() {
            query = query.bind(job_type);
        }
        let dead: Vec<(String, Option<String>)> = query.fetch_all(&mut *tx).await?;
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

//! How claimed jobs end, or come back.

use streamgate_core::time::UnixMillis;
use streamgate_proto::streamgate::events::v1::{JobCompleted, JobFailed, event::Payload};
use streamgate_store::Transaction;

use super::{Claim, Queue, find};
use crate::{Error, engine::rows::State};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Jobs that succeeded or were called off are shown for this long, unless they name another time.
const KEEP_ENDED_MS: i64 = 7 * DAY_MS;
/// Dead letters wait this long for somebody to look at them.
const KEEP_FAILED_MS: i64 = 30 * DAY_MS;
/// Longest message that is kept of an attempt.
const MAX_MESSAGE_CHARS: usize = 1_000;

/// How a claim ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Done: what it says is the job's result.
    Succeeded(String),
    /// Given up, for this stable reason, with these words.
    Failed {
        /// Such as `attempts_used_up`.
        reason: &'static str,
        /// A sentence for an operator.
        message: String,
    },
    /// To be tried again at this time.
    Retry {
        /// What went wrong.
        message: String,
        /// When.
        run_ms: UnixMillis,
    },
    /// Not begun, since others of its kind take all the room: the attempt does not count.
    PutOff {
        /// When to look again.
        run_ms: UnixMillis,
    },
    /// Cut short by a stop: the attempt does not count.
    Released,
}

/// A claim that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// Which.
    pub claim: Claim,
    /// How.
    pub end: End,
    /// Others are told of it.
    pub announced: bool,
}

struct Written<'a> {
    state: State,
    message: &'a str,
    uncounted: i64,
    run_ms: UnixMillis,
}

/// How long a job that ended so is kept, unless it says otherwise itself.
pub(super) const fn kept_ms(state: State) -> i64 {
    if matches!(state, State::Failed) { KEEP_FAILED_MS } else { KEEP_ENDED_MS }
}

impl Queue {
    /// Writes ends, all in one change; for each, whether its claim still was the newest.
    ///
    /// # Errors
    /// When the database can't be used; then nothing was written.
    pub async fn settle(&self, ended: &[Ended], now: UnixMillis) -> Result<Vec<bool>, Error> {
        let tells = ended.iter().any(|one| one.announced && matches!(one.end, End::Succeeded(_) | End::Failed { .. }));
        // Events need their place in line; ends alone don't.
        let mut tx = if tells { self.db.begin().await? } else { self.db.begin_shared().await? };
        let mut ours = Vec::with_capacity(ended.len());
        for one in ended {
            let is_ours = settle_one(&mut tx, &one.claim, &one.end, now).await?;
            if is_ours && one.announced {
                self.tell(&mut tx, one, now).await?;
            }
            ours.push(is_ours);
        }
        tx.commit().await?;
        // What is to be tried again is due later; who writes this looks at when.
        if ended.iter().any(|one| matches!(one.end, End::Released)) {
            self.wake();
        }
        Ok(ours)
    }

    async fn tell(&self, tx: &mut Transaction, ended: &Ended, now: UnixMillis) -> Result<(), Error> {
        let Claim { job_id, job_type, owner, attempt, since_ms, .. } = ended.claim.clone();
        let subject = job_id.clone();
        let payload = match &ended.end {
            End::Succeeded(_) => {
                let elapsed_ms = u64::try_from(now - since_ms).unwrap_or(0);
                Payload::JobCompleted(JobCompleted { job_id, job_type, owner, attempts: attempt, elapsed_ms })
            }
            End::Failed { reason, message } => {
                let (reason, detail) = ((*reason).to_owned(), cut(message));
                Payload::JobFailed(JobFailed { job_id, job_type, owner, attempts: attempt, reason, detail })
            }
            End::Retry { .. } | End::PutOff { .. } | End::Released => return Ok(()),
        };
        self.outbox.add(tx, &subject, payload).await?;
        Ok(())
    }

    /// Fails a job whose workers went silent in every attempt.
    pub(super) async fn bury(&self, job_id: &str, now: UnixMillis) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let buried = sqlx::query(
            "UPDATE jobs SET state = 4, fence = fence + 1, end_ms = $2, lease_ms = 0, message = 'the worker went silent in every attempt', \
             expire_ms = $2 + CASE WHEN keep_ms = 0 THEN $3 ELSE keep_ms END \
             WHERE job_id = $1 AND state = 2 AND lease_ms <= $2 AND attempts >= max_attempts",
        )
        .bind(job_id)
        .bind(now)
        .bind(KEEP_FAILED_MS)
        .execute(&mut *tx)
        .await?;
        if buried.rows_affected() == 1 {
            let job = find(&mut tx, job_id).await?;
            tracing::warn!(job_id, job_type = job.job_type, "a job failed: its worker went silent in every attempt");
            let told = JobFailed {
                job_id: job.job_id,
                job_type: job.job_type,
                owner: job.owner,
                attempts: job.attempts,
                reason: "worker_lost".to_owned(),
                detail: job.message,
            };
            self.outbox.add(&mut tx, job_id, Payload::JobFailed(told)).await?;
        }
        Ok(tx.commit().await?)
    }
}

async fn settle_one(tx: &mut Transaction, claim: &Claim, end: &End, now: UnixMillis) -> Result<bool, Error> {
    let written = match end {
        End::Succeeded(message) => Written { state: State::Succeeded, message, uncounted: 0, run_ms: now },
        End::Failed { message, .. } => Written { state: State::Failed, message, uncounted: 0, run_ms: now },
        End::Retry { message, run_ms } => Written { state: State::Queued, message, uncounted: 0, run_ms: *run_ms },
        End::PutOff { run_ms } => {
            Written { state: State::Queued, message: "waits for a free place", uncounted: 1, run_ms: *run_ms }
        }
        End::Released => {
            let message = "the worker stopped; the job goes on elsewhere";
            Written { state: State::Queued, message, uncounted: 1, run_ms: now }
        }
    };
    let settled = if written.state.is_ended() {
        sqlx::query(
            "UPDATE jobs SET state = $3, message = $4, end_ms = $5, lease_ms = 0, progress = CASE WHEN CAST($3 AS BIGINT) = 3 THEN 10000 ELSE progress END, \
             expire_ms = $5 + CASE WHEN keep_ms = 0 THEN $6 ELSE keep_ms END WHERE job_id = $1 AND fence = $2 AND state = 2",
        )
        .bind(&claim.job_id)
        .bind(claim.fence)
        .bind(written.state as i64)
        .bind(cut(written.message))
        .bind(now)
        .bind(kept_ms(written.state))
        .execute(&mut **tx)
        .await?
    } else {
        sqlx::query(
            "UPDATE jobs SET state = 1, message = $3, attempts = attempts - $4, run_ms = $5, lease_ms = 0 \
             WHERE job_id = $1 AND fence = $2 AND state = 2",
        )
        .bind(&claim.job_id)
        .bind(claim.fence)
        .bind(cut(written.message))
        .bind(written.uncounted)
        .bind(written.run_ms)
        .execute(&mut **tx)
        .await?
    };
    Ok(settled.rows_affected() == 1)
}

fn cut(message: &str) -> String {
    // PostgreSQL keeps no NUL; what a stranger's machine said must not hold up the ends written beside it.
    message.chars().filter(|char| *char != '\0').take(MAX_MESSAGE_CHARS).collect()
}

//! How claimed jobs end, or come back.

use sqlx::FromRow;
use streamgate_client::context::caused_by;
use streamgate_core::time::UnixMillis;
use streamgate_proto::streamgate::events::v1::{JobCompleted, JobFailed, event::Payload};
use streamgate_store::Transaction;

use super::{Claim, Queue};
use crate::{
    Error,
    engine::{Origin, rows::State},
};

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
#[derive(Debug, Clone)]
pub struct Ended {
    /// Which.
    pub claim: Claim,
    /// How.
    pub end: End,
    /// Others are told of it.
    pub announced: bool,
    /// In whose trace.
    pub origin: Origin,
}

/// A job that is given up without an attempt that could say so.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) job_id: String,
    pub(super) fence: i64,
    /// It is left alone if its lease lasts for longer: then its worker was only silent for a while.
    pub(super) leased_until: UnixMillis,
    /// Stable, such as `worker_lost`.
    pub(super) reason: &'static str,
    /// A sentence for an operator.
    pub(super) message: String,
}

#[derive(FromRow)]
struct Buried {
    #[sqlx(rename = "type")]
    job_type: String,
    owner: String,
    attempts: i64,
    trace_parent: String,
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
                one.origin.scope(self.tell(&mut tx, one, now)).await?;
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

    /// Fails a job that nobody works at any more: a dead letter, and told as one.
    pub(super) async fn bury(&self, lost: Lost, now: UnixMillis) -> Result<(), Error> {
        let Lost { job_id, fence, leased_until, reason, message } = lost;
        let mut tx = self.db.begin().await?;
        let buried: Option<Buried> = sqlx::query_as(
            "UPDATE jobs SET state = 4, fence = fence + 1, end_ms = $2, lease_ms = 0, message = $4, \
             expire_ms = $2 + CASE WHEN keep_ms = 0 THEN $3 ELSE keep_ms END \
             WHERE job_id = $1 AND fence = $5 AND state = 2 AND lease_ms <= $6 RETURNING type, owner, attempts, trace_parent",
        )
        .bind(&job_id)
        .bind(now)
        .bind(KEEP_FAILED_MS)
        .bind(cut(&message))
        .bind(fence)
        .bind(leased_until)
        .fetch_optional(&mut *tx)
        .await?;
        let Some(Buried { job_type, owner, attempts, trace_parent }) = buried else { return Ok(()) };
        caused_by(&trace_parent, &job_id, &job_type, async {
            tracing::warn!(job_id, job_type, reason, message, "a job failed");
            let attempts = u32::try_from(attempts).unwrap_or(0);
            let (subject, reason) = (job_id.clone(), reason.to_owned());
            let told =
                JobFailed { job_id: subject.clone(), job_type: job_type.clone(), owner, attempts, reason, detail: message };
            self.outbox.add(&mut tx, &subject, Payload::JobFailed(told)).await
        })
        .await?;
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

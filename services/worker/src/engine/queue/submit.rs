//! Jobs go in, each as part of a change.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use sqlx::AnyConnection;
use streamgate_client::context::current_traceparent;
use streamgate_core::{ids::JobId, time::UnixMillis};
use streamgate_proto::streamgate::{
    events::v1::{JobSubmitted, event::Payload},
    worker::v1::job_params::Kind,
};
use streamgate_store::Transaction;

use super::{Queue, millis, select_jobs};
use crate::{
    Error,
    engine::{
        backoff::MAX_ATTEMPTS,
        rows::{Job, JobRow, Lane, Priority, encode_params, job_columns},
    },
};

/// A job to queue.
#[derive(Debug, Clone)]
pub struct Submit {
    /// Kind of work; must be known.
    pub job_type: String,
    /// Makes repeating safe.
    pub request_id: Option<String>,
    /// Wait before the first attempt.
    pub delay: Duration,
    /// Which runs first.
    pub priority: Priority,
    /// While an unfinished job has it, no other is made.
    pub unique_key: Option<String>,
    /// What it is told.
    pub params: Option<Kind>,
    /// Attempts at the most.
    pub max_attempts: u32,
    /// How long it is kept when it has ended; nothing leaves that to its outcome.
    pub keep: Duration,
    /// The account that asks; empty for none.
    pub owner: String,
    /// Others are told of it.
    pub announced: bool,
    /// Whose workers run it.
    pub lane: Lane,
}

impl Submit {
    /// A job of this type, due now.
    #[must_use]
    pub fn new(job_type: impl Into<String>) -> Self {
        Self {
            job_type: job_type.into(),
            request_id: None,
            delay: Duration::ZERO,
            priority: Priority::default(),
            unique_key: None,
            params: None,
            max_attempts: MAX_ATTEMPTS,
            keep: Duration::ZERO,
            owner: String::new(),
            announced: true,
            lane: Lane::default(),
        }
    }

    /// What the same request must say again.
    fn body(&self) -> String {
        let plain = format!("{} {}", self.job_type, self.delay.as_millis());
        let more = format!(
            "{} {:?} {} {} {}",
            self.priority as i64,
            self.unique_key,
            self.max_attempts,
            self.keep.as_millis(),
            hex::encode(encode_params(self.params.clone()))
        );
        format!("{plain} {}", hex::encode(Sha256::digest(more)))
    }
}

impl Queue {
    /// Queues a job as part of another change; [`Queue::wake`] when that is committed.
    ///
    /// # Errors
    /// When the request id was used for something else.
    pub async fn submit_in(&self, tx: &mut Transaction, submit: Submit, now: UnixMillis) -> Result<Job, Error> {
        let body = submit.body();
        if let Some(request_id) = &submit.request_id
            && let Some(first) = by_request(tx, &submit.owner, request_id).await?
        {
            return if first.request_body == body { Ok(first) } else { Err(Error::RequestIdReused) };
        }
        if let Some(key) = &submit.unique_key
            && let Some(holder) = by_key(tx, key).await?
        {
            return Ok(holder);
        }
        let id = JobId::new();
        let row: JobRow = sqlx::query_as(concat!(
            "INSERT INTO jobs (job_id, type, max_attempts, request_id, request_body, create_ms, run_ms, priority, unique_key, params, owner, keep_ms, lane, \
             trace_parent) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) RETURNING ",
            job_columns!()
        ))
        .bind(id.as_str())
        .bind(&submit.job_type)
        .bind(i64::from(submit.max_attempts))
        .bind(submit.request_id)
        .bind(body)
        .bind(now)
        .bind(now.saturating_add(millis(submit.delay)))
        .bind(submit.priority as i64)
        .bind(submit.unique_key)
        .bind(encode_params(submit.params))
        .bind(&submit.owner)
        .bind(millis(submit.keep))
        .bind(submit.lane as i64)
        .bind(current_traceparent())
        .fetch_one(&mut **tx)
        .await?;
        if submit.announced {
            let told = JobSubmitted { job_id: id.to_string(), job_type: submit.job_type, owner: submit.owner };
            self.outbox.add(tx, id.as_str(), Payload::JobSubmitted(told)).await?;
        }
        row.try_into()
    }
}

async fn by_request(connection: &mut AnyConnection, owner: &str, request_id: &str) -> Result<Option<Job>, Error> {
    let row: Option<JobRow> = sqlx::query_as(select_jobs!("WHERE owner = $1 AND request_id = $2"))
        .bind(owner)
        .bind(request_id)
        .fetch_optional(connection)
        .await?;
    row.map(Job::try_from).transpose()
}

/// The unfinished job with this key.
pub(super) async fn by_key(connection: &mut AnyConnection, key: &str) -> Result<Option<Job>, Error> {
    let query = select_jobs!("WHERE unique_key = $1 AND state IN (1, 2)");
    let row: Option<JobRow> = sqlx::query_as(query).bind(key).fetch_optional(connection).await?;
    row.map(Job::try_from).transpose()
}

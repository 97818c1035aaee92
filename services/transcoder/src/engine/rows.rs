//! Job rows.

use sqlx::{AnyPool, Row as _, any::AnyRow};
use streamgate_core::{ids::JobId, page::Page, time::UnixMillis};
use streamgate_store::Transaction;

use super::Filter;
use crate::Error;

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Waits for a worker.
    Queued,
    /// Is being worked on, under a lease.
    Running,
    /// All is made.
    Succeeded,
    /// Nothing more will be made, for a reason.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

impl State {
    /// The state as it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled].into_iter().find(|s| s.as_str() == text)
    }
}

/// A job as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Order of queueing.
    pub seq: i64,
    /// Its id.
    pub job_id: String,
    /// Its title.
    pub content_id: String,
    /// The account that owns the title.
    pub owner: String,
    /// Where the source came from.
    pub upload_id: String,
    /// Blob of the source.
    pub source_key: String,
    /// Where it is in its life.
    pub state: State,
    /// Its newest token.
    pub fence: i64,
    /// How often it was begun.
    pub attempts: u32,
    /// How often its child died without a word.
    pub crashes: u32,
    /// Names of the tracks that will be made; empty until the source is probed.
    pub tracks: Vec<String>,
    /// Duration that the source claims; 0 when unknown.
    pub source_duration_ms: i64,
    /// Duration that is published of every track.
    pub made_ms: i64,
    /// When this attempt began.
    pub attempt_ms: UnixMillis,
    /// What was made before it.
    pub attempt_made_ms: i64,
    /// Whether the first segments of all tracks are published.
    pub playable: bool,
    /// Whether less was made than the source claims.
    pub partial: bool,
    /// Duration of what was made, once done.
    pub duration_ms: i64,
    /// Path of the poster below the title's media; empty without one.
    pub poster_path: String,
    /// Size of the poster.
    pub poster_bytes: i64,
    /// Stable reason of a failure.
    pub error_reason: String,
    /// A sentence about it.
    pub error_detail: String,
    /// Grows with every visible change.
    pub revision: i64,
    /// When it was queued.
    pub created_ms: UnixMillis,
    /// When it was first begun.
    pub started_ms: Option<UnixMillis>,
    /// When it ended.
    pub ended_ms: Option<UnixMillis>,
}

impl Job {
    /// 0 to 1, by duration made.
    #[must_use]
    pub fn progress(&self) -> f64 {
        if self.state == State::Succeeded {
            return 1.0;
        }
        // A claim may be wrong: only the end is 1.
        progress(self.made_ms, self.source_duration_ms)
    }

    /// Seconds until it is done at this attempt's pace; 0 when that can't be said.
    #[must_use]
    pub fn eta_seconds(&self, now: UnixMillis) -> u32 {
        let (made, taken) = (self.made_ms - self.attempt_made_ms, now - self.attempt_ms);
        let left = self.source_duration_ms - self.made_ms;
        if self.state != State::Running || made <= 0 || left <= 0 || taken <= 0 {
            return 0;
        }
        u32::try_from(left.saturating_mul(taken) / made / 1000 + 1).unwrap_or(u32::MAX)
    }
}

/// 0 to less than 1.
pub(super) fn progress(made_ms: i64, source_duration_ms: i64) -> f64 {
    if source_duration_ms <= 0 {
        return 0.0;
    }
    #[allow(clippy::cast_precision_loss, reason = "a progress bar needs three digits")]
    let part = made_ms as f64 / source_duration_ms as f64;
    part.clamp(0.0, 0.99)
}

pub(super) fn read(row: &AnyRow) -> Result<Job, Error> {
    let job_id: String = row.try_get("job_id")?;
    let state: String = row.try_get("state")?;
    let tracks: String = row.try_get("tracks")?;
    Ok(Job {
        seq: row.try_get("seq")?,
        content_id: row.try_get("content_id")?,
        owner: row.try_get("owner")?,
        upload_id: row.try_get("upload_id")?,
        source_key: row.try_get("source_key")?,
        state: State::parse(&state).ok_or_else(|| Error::CorruptRow(job_id.clone()))?,
        fence: row.try_get("fence")?,
        attempts: count(row, "attempts")?,
        crashes: count(row, "crashes")?,
        tracks: tracks.split_ascii_whitespace().map(str::to_owned).collect(),
        source_duration_ms: row.try_get("source_duration_ms")?,
        made_ms: row.try_get("made_ms")?,
        attempt_ms: row.try_get("attempt_ms")?,
        attempt_made_ms: row.try_get("attempt_made_ms")?,
        playable: row.try_get::<i64, _>("playable")? != 0,
        partial: row.try_get::<i64, _>("partial")? != 0,
        duration_ms: row.try_get("duration_ms")?,
        poster_path: row.try_get("poster_path")?,
        poster_bytes: row.try_get("poster_bytes")?,
        error_reason: row.try_get("error_reason")?,
        error_detail: row.try_get("error_detail")?,
        revision: row.try_get("revision")?,
        created_ms: row.try_get("created_ms")?,
        started_ms: row.try_get("started_ms")?,
        ended_ms: row.try_get("ended_ms")?,
        job_id,
    })
}

/// A column that counts something.
pub(super) fn count(row: &AnyRow, column: &str) -> Result<u32, Error> {
    Ok(u32::try_from(row.try_get::<i64, _>(column)?).unwrap_or(0))
}

pub(super) async fn by_id(pool: &AnyPool, id: &str) -> Result<Option<Job>, Error> {
    let row = sqlx::query("SELECT * FROM jobs WHERE job_id = $1").bind(id).fetch_optional(pool).await?;
    row.as_ref().map(read).transpose()
}

pub(super) async fn newest(pool: &AnyPool, content_id: &str) -> Result<Option<Job>, Error> {
    let query = sqlx::query("SELECT * FROM jobs WHERE content_id = $1 ORDER BY seq DESC LIMIT 1").bind(content_id);
    query.fetch_optional(pool).await?.as_ref().map(read).transpose()
}

pub(super) async fn by_request(pool: &AnyPool, owner: &str, request_id: &str) -> Result<Option<Job>, Error> {
    if request_id.is_empty() {
        return Ok(None);
    }
    let query = sqlx::query("SELECT * FROM jobs WHERE owner = $1 AND request_id = $2").bind(owner).bind(request_id);
    query.fetch_optional(pool).await?.as_ref().map(read).transpose()
}

pub(super) async fn list(pool: &AnyPool, filter: &Filter, page: &Page) -> Result<Vec<Job>, Error> {
    let before: i64 = page.after.as_deref().and_then(|key| key.parse().ok()).unwrap_or(i64::MAX);
    let rows = sqlx::query(
        "SELECT * FROM jobs WHERE seq < $1 AND ($2 IS NULL OR owner = $2) AND ($3 IS NULL OR state = $3) ORDER BY seq DESC LIMIT $4",
    )
    .bind(before)
    .bind(filter.owner.as_deref())
    .bind(filter.state.map(State::as_str))
    .bind(i64::from(page.size) + 1)
    .fetch_all(pool)
    .await?;
    rows.iter().map(read).collect()
}

/// Waiting and running jobs before one that waits.
pub(super) async fn ahead_of(pool: &AnyPool, seq: i64) -> Result<u32, Error> {
    let query = sqlx::query_scalar("SELECT COUNT(*) FROM jobs WHERE state IN ('queued', 'running') AND seq < $1").bind(seq);
    let count: i64 = query.fetch_one(pool).await?;
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Queues another job for the source of `like`.
pub(super) async fn insert(
    tx: &mut Transaction,
    id: &JobId,
    like: &Job,
    request_id: Option<&str>,
    now: UnixMillis,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO jobs (job_id, content_id, owner, upload_id, source_key, request_id, state, created_ms, revision) \
         VALUES ($1, $2, $3, $4, $5, $6, 'queued', $7, 1 + COALESCE((SELECT MAX(revision) FROM jobs WHERE content_id = $2), 0))",
    )
    .bind(id.as_str())
    .bind(&like.content_id)
    .bind(&like.owner)
    .bind(&like.upload_id)
    .bind(&like.source_key)
    .bind(request_id)
    .bind(now)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

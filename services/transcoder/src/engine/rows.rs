//! Job rows.

use std::{fmt::Write as _, sync::Arc};

use sqlx::{Any, AnyPool, Executor, Row as _, any::AnyRow};
use streamgate_client::context::current_traceparent;
use streamgate_core::{ids::JobId, page::Page, time::UnixMillis};
use streamgate_store::Transaction;

use super::{
    Filter,
    job::{Job, Priority, State},
};
use crate::{Error, settings};

/// Condition on the jobs that come before one in line: `$1` is its priority, `$2` its place.
pub(super) const BEFORE: &str = "(priority > $1 OR (priority = $1 AND seq < $2))";

/// A job to be queued.
#[derive(Debug)]
pub(super) struct NewJob<'a> {
    pub(super) id: JobId,
    pub(super) content_id: &'a str,
    pub(super) owner: &'a str,
    pub(super) upload_id: &'a str,
    pub(super) source_key: &'a str,
    pub(super) source_bytes: i64,
    pub(super) profile: &'a str,
    pub(super) ladder: String,
    pub(super) settings: String,
    pub(super) priority: Priority,
    pub(super) remake: bool,
    pub(super) now: UnixMillis,
}

/// Columns that [`read`] reads. They are named: while a newer release adds one, a statement that an open connection has
/// prepared must not change what it gives.
macro_rules! job_columns {
    () => {
        "job_id, seq, content_id, version, owner, upload_id, source_key, source_bytes, profile, ladder, settings, priority, state, fence, \
         attempts, crashes, silences, not_before_ms, tracks, source_duration_ms, made_ms, attempt_ms, attempt_made_ms, playable_ms, \
         remake, partial, duration_ms, poster_path, poster_bytes, error_reason, error_detail, revision, trace_parent, created_ms, \
         started_ms, ended_ms"
    };
}
pub(super) use job_columns;

/// Reads jobs.
macro_rules! select_jobs {
    ($tail:literal) => {
        concat!("SELECT ", $crate::engine::rows::job_columns!(), " FROM jobs ", $tail)
    };
}
pub(super) use select_jobs;

pub(super) fn read(row: &AnyRow) -> Result<Job, Error> {
    let job_id: String = row.try_get("job_id")?;
    let state: String = row.try_get("state")?;
    let tracks: String = row.try_get("tracks")?;
    Ok(Job {
        seq: row.try_get("seq")?,
        content_id: row.try_get("content_id")?,
        version: count(row, "version")?,
        owner: row.try_get("owner")?,
        upload_id: row.try_get("upload_id")?,
        source_key: row.try_get("source_key")?,
        source_bytes: row.try_get("source_bytes")?,
        profile: row.try_get("profile")?,
        ladder: settings::steps_of(&row.try_get::<String, _>("ladder")?),
        settings: Arc::from(row.try_get::<String, _>("settings")?),
        priority: Priority::of_rank(row.try_get("priority")?),
        state: State::parse(&state).ok_or_else(|| Error::CorruptRow(job_id.clone()))?,
        fence: row.try_get("fence")?,
        attempts: count(row, "attempts")?,
        crashes: count(row, "crashes")?,
        silences: count(row, "silences")?,
        not_before_ms: row.try_get("not_before_ms")?,
        tracks: tracks.split_ascii_whitespace().map(str::to_owned).collect(),
        source_duration_ms: row.try_get("source_duration_ms")?,
        made_ms: row.try_get("made_ms")?,
        attempt_ms: row.try_get("attempt_ms")?,
        attempt_made_ms: row.try_get("attempt_made_ms")?,
        playable_ms: row.try_get("playable_ms")?,
        remake: row.try_get::<i64, _>("remake")? != 0,
        partial: row.try_get::<i64, _>("partial")? != 0,
        duration_ms: row.try_get("duration_ms")?,
        poster_path: row.try_get("poster_path")?,
        poster_bytes: row.try_get("poster_bytes")?,
        error_reason: row.try_get("error_reason")?,
        error_detail: row.try_get("error_detail")?,
        revision: row.try_get("revision")?,
        trace_parent: row.try_get("trace_parent")?,
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

pub(super) async fn by_id<'e>(db: impl Executor<'e, Database = Any>, id: &str) -> Result<Option<Job>, Error> {
    let row = sqlx::query(select_jobs!("WHERE job_id = $1")).bind(id).fetch_optional(db).await?;
    row.as_ref().map(read).transpose()
}

/// The job with this number, which is there.
pub(super) async fn by_seq<'e>(db: impl Executor<'e, Database = Any>, seq: i64) -> Result<Job, Error> {
    read(&sqlx::query(select_jobs!("WHERE seq = $1")).bind(seq).fetch_one(db).await?)
}

/// What is told of the failure of a job: its id, its title, its owner, and whether the title could be played before.
pub(super) async fn told(tx: &mut Transaction, seq: i64) -> Result<(String, String, String, bool), Error> {
    let query = sqlx::query_as("SELECT job_id, content_id, owner, remake FROM jobs WHERE seq = $1").bind(seq);
    let (job_id, content_id, owner, remake): (String, String, String, i64) = query.fetch_one(&mut **tx).await?;
    Ok((job_id, content_id, owner, remake != 0))
}

pub(super) async fn newest<'e>(db: impl Executor<'e, Database = Any>, content_id: &str) -> Result<Option<Job>, Error> {
    let query = sqlx::query(select_jobs!("WHERE content_id = $1 ORDER BY seq DESC LIMIT 1")).bind(content_id);
    query.fetch_optional(db).await?.as_ref().map(read).transpose()
}

/// Jobs that a filter lets through, newest first; one more than the page holds.
pub(super) async fn list(pool: &AnyPool, filter: &Filter, page: &Page) -> Result<Vec<Job>, Error> {
    let before: i64 = page.after.as_deref().and_then(|key| key.parse().ok()).unwrap_or(i64::MAX);
    let wanted = [
        ("owner", filter.owner.as_deref()),
        ("state", filter.state.map(State::as_str)),
        ("content_id", filter.content_id.as_deref()),
    ];
    // Only the conditions that are wanted: an index serves each of them.
    let mut text = select_jobs!("WHERE seq < $1").to_owned();
    let mut values = Vec::new();
    for (column, value) in wanted {
        if let Some(value) = value {
            values.push(value);
            let _ = write!(text, " AND {column} = ${}", values.len() + 2);
        }
    }
    text.push_str(" ORDER BY seq DESC LIMIT $2");
    let mut query = sqlx::query(sqlx::AssertSqlSafe(text)).bind(before).bind(i64::from(page.size) + 1);
    for value in values {
        query = query.bind(value);
    }
    query.fetch_all(pool).await?.iter().map(read).collect()
}

/// Waiting and running jobs before one that waits.
pub(super) async fn ahead_of(pool: &AnyPool, job: &Job) -> Result<u32, Error> {
    let text = format!("SELECT COUNT(*) FROM jobs WHERE state IN ('queued', 'running') AND (state = 'running' OR {BEFORE})");
    let query = sqlx::query_scalar(sqlx::AssertSqlSafe(text)).bind(job.priority.rank()).bind(job.seq);
    let ahead: i64 = query.fetch_one(pool).await?;
    Ok(u32::try_from(ahead).unwrap_or(u32::MAX))
}

/// Queues a job, unless its title is gone. It is the next version of the title.
pub(super) async fn insert(tx: &mut Transaction, new: &NewJob<'_>) -> Result<bool, Error> {
    let added = sqlx::query(
        "INSERT INTO jobs (job_id, content_id, owner, upload_id, source_key, source_bytes, profile, ladder, settings, priority, remake, \
         state, created_ms, trace_parent, revision, version) SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'queued', $12, $13, \
         1 + COALESCE((SELECT MAX(revision) FROM jobs WHERE content_id = $2), 0), \
         1 + COALESCE((SELECT MAX(version) FROM jobs WHERE content_id = $2), 0) \
         WHERE NOT EXISTS (SELECT 1 FROM deleted_contents WHERE content_id = $2)",
    )
    .bind(new.id.as_str())
    .bind(new.content_id)
    .bind(new.owner)
    .bind(new.upload_id)
    .bind(new.source_key)
    .bind(new.source_bytes)
    .bind(new.profile)
    .bind(&new.ladder)
    .bind(&new.settings)
    .bind(new.priority.rank())
    .bind(i64::from(new.remake))
    .bind(new.now)
    .bind(current_traceparent())
    .execute(&mut **tx)
    .await?;
    Ok(added.rows_affected() == 1)
}

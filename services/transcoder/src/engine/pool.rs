//! The pool of workers: who runs jobs, how fast, and when a job will be done.

use std::time::Duration;

use sqlx::Row as _;
use streamgate_core::time::{UnixMillis, now_ms};

use super::{Engine, Job, State, rows};
use crate::Error;

/// A worker that was not heard of for so long counts as gone.
const SILENT_MS: i64 = 15_000;
/// Rows of workers that are gone are kept for so long.
const KEEP_GONE_MS: i64 = 3600 * 1000;
/// Jobs that the pace is taken from.
const PACE_JOBS: i64 = 20;
/// Running jobs that are looked at one by one.
const MOST_RUNNING: i64 = 1_000;
const HOUR_MS: i64 = 3600 * 1000;

/// How fast the last jobs went. All zero before the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    jobs: i64,
    run_ms: i64,
    media_ms: i64,
    source_bytes: i64,
}

impl Pace {
    /// Time that a job takes whose source has this size.
    fn of_bytes(self, bytes: i64) -> Option<i64> {
        if self.jobs == 0 {
            return None;
        }
        if bytes <= 0 || self.source_bytes <= 0 {
            return Some(self.run_ms / self.jobs);
        }
        Some(scaled(bytes, self.run_ms, self.source_bytes))
    }

    /// Time that so much media takes.
    fn of_media(self, media_ms: i64) -> Option<i64> {
        (self.media_ms > 0).then(|| scaled(media_ms, self.run_ms, self.media_ms))
    }

    /// Seconds of media made in a second.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a pace needs three digits")]
    pub fn speed(self) -> f64 {
        if self.run_ms > 0 { self.media_ms as f64 / self.run_ms as f64 } else { 0.0 }
    }
}

fn scaled(amount: i64, numerator: i64, denominator: i64) -> i64 {
    i64::try_from(i128::from(amount) * i128::from(numerator) / i128::from(denominator.max(1))).unwrap_or(i64::MAX)
}

/// The pool at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pool {
    /// Workers that were heard of lately.
    pub workers: u32,
    /// Jobs they can run at once.
    pub slots: u32,
    /// Jobs that run.
    pub running: u32,
    /// How the last jobs went.
    pub pace: Pace,
    /// Work that is left of running jobs, in milliseconds of one slot. Absent when that can't be said.
    running_left_ms: Option<i64>,
    now: UnixMillis,
}

/// The queue in numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Line {
    /// Jobs that wait.
    pub queued: u32,
    /// How long the oldest of them has waited.
    pub oldest_wait_ms: u64,
    /// Jobs that succeeded, failed and were cancelled within the last hour.
    pub ended: [u32; 3],
    /// Seconds until nothing waits or runs.
    pub drain_seconds: Option<u32>,
}

impl Engine {
    /// A worker says that it is there.
    ///
    /// # Errors
    /// The database's.
    pub async fn report_worker(&self, worker: &str, slots: u32, running: usize) -> Result<(), Error> {
        let mut tx = self.db.begin_shared().await?;
        sqlx::query(
            "INSERT INTO workers (worker_id, slots, running, seen_ms) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (worker_id) DO UPDATE SET slots = excluded.slots, running = excluded.running, seen_ms = excluded.seen_ms",
        )
        .bind(worker)
        .bind(i64::from(slots))
        .bind(i64::try_from(running).unwrap_or(i64::MAX))
        .bind(now_ms())
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// A worker says that it goes, or has gone long ago without a word.
    ///
    /// # Errors
    /// The database's.
    pub async fn forget_workers(&self, worker: &str) -> Result<(), Error> {
        let mut tx = self.db.begin_shared().await?;
        let query = sqlx::query("DELETE FROM workers WHERE worker_id = $1 OR seen_ms < $2");
        query.bind(worker).bind(now_ms() - KEEP_GONE_MS).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }

    /// The pool now.
    ///
    /// # Errors
    /// The database's.
    pub async fn pool(&self) -> Result<Pool, Error> {
        let now = now_ms();
        let query = sqlx::query_as("SELECT COUNT(*), CAST(COALESCE(SUM(slots), 0) AS BIGINT) FROM workers WHERE seen_ms > $1");
        let (workers, slots): (i64, i64) = query.bind(now - SILENT_MS).fetch_one(self.db.pool()).await?;
        let query = sqlx::query(rows::select_jobs!("WHERE state IN ('queued', 'running') AND state = 'running' LIMIT $1"))
            .bind(MOST_RUNNING);
        let running = query.fetch_all(self.db.pool()).await?;
        let running: Vec<Job> = running.iter().map(rows::read).collect::<Result<_, _>>()?;
        let pace = self.pace().await?;
        let running_left_ms = total(running.iter().map(|job| running_left(job, pace, now)));
        Ok(Pool { workers: small(workers), slots: small(slots), running: small_len(running.len()), pace, running_left_ms, now })
    }

    async fn pace(&self) -> Result<Pace, Error> {
        let query = sqlx::query(
            "SELECT COUNT(*) AS jobs, CAST(COALESCE(SUM(ended_ms - started_ms), 0) AS BIGINT) AS run_ms, \
             CAST(COALESCE(SUM(duration_ms), 0) AS BIGINT) AS media_ms, \
             CAST(COALESCE(SUM(source_bytes), 0) AS BIGINT) AS source_bytes FROM (SELECT started_ms, ended_ms, duration_ms, source_bytes \
             FROM jobs WHERE state = 'succeeded' AND ended_ms IS NOT NULL AND started_ms IS NOT NULL AND source_bytes > 0 \
             ORDER BY ended_ms DESC LIMIT $1) AS latest",
        );
        let row = query.bind(PACE_JOBS).fetch_one(self.db.pool()).await?;
        Ok(Pace {
            jobs: row.try_get("jobs")?,
            run_ms: row.try_get("run_ms")?,
            media_ms: row.try_get("media_ms")?,
            source_bytes: row.try_get("source_bytes")?,
        })
    }

    /// Seconds until a job is done: from its own pace, else from that of the last jobs. Absent when neither says
    /// anything, or nobody is there to run it.
    ///
    /// # Errors
    /// The database's.
    pub async fn eta_seconds(&self, job: &Job, pool: &Pool) -> Result<Option<u32>, Error> {
        let left_ms = match job.state {
            State::Running => running_left(job, pool.pace, pool.now),
            State::Queued => self.queued_left(job, pool).await?,
            State::Succeeded | State::Failed | State::Cancelled => None,
        };
        Ok(left_ms.map(seconds))
    }

    async fn queued_left(&self, job: &Job, pool: &Pool) -> Result<Option<i64>, Error> {
        if pool.slots == 0 {
            return Ok(None);
        }
        let text = format!(
            "SELECT source_bytes, COUNT(*) FROM jobs WHERE state IN ('queued', 'running') AND state = 'queued' AND {} GROUP BY source_bytes",
            rows::BEFORE
        );
        let query = sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(job.priority.rank()).bind(job.seq);
        let before: Vec<(i64, i64)> = query.fetch_all(self.db.pool()).await?;
        let waiting = total(before.into_iter().map(|(bytes, count)| Some(pool.pace.of_bytes(bytes)?.saturating_mul(count))));
        let (Some(running), Some(waiting), Some(own)) = (pool.running_left_ms, waiting, own_work(job, pool.pace)) else {
            return Ok(None);
        };
        let wait = (running.saturating_add(waiting) / i64::from(pool.slots)).max(job.not_before_ms - pool.now);
        Ok(Some(wait.saturating_add(own)))
    }

    /// The queue now.
    ///
    /// # Errors
    /// The database's.
    pub async fn line(&self, pool: &Pool) -> Result<Line, Error> {
        let now = pool.now;
        let query = sqlx::query_as(
            "SELECT COUNT(*), COALESCE(MIN(created_ms), 0), CAST(COALESCE(SUM(source_bytes), 0) AS BIGINT) FROM jobs WHERE state IN ('queued', 'running') AND state = 'queued'",
        );
        let (queued, oldest, bytes): (i64, i64, i64) = query.fetch_one(self.db.pool()).await?;
        let query = sqlx::query_as("SELECT state, COUNT(*) FROM jobs WHERE ended_ms > $1 GROUP BY state").bind(now - HOUR_MS);
        let by_state: Vec<(String, i64)> = query.fetch_all(self.db.pool()).await?;
        let of = |state: State| by_state.iter().find(|(word, _)| word == state.as_str()).map_or(0, |(_, count)| small(*count));
        let waiting = if queued == 0 { Some(0) } else { pool.pace.of_bytes(bytes) };
        let drain = match (pool.slots, pool.running_left_ms, waiting) {
            (0, ..) | (_, None, _) | (_, _, None) => None,
            (slots, Some(running), Some(waiting)) => Some(seconds((running.saturating_add(waiting)) / i64::from(slots))),
        };
        Ok(Line {
            queued: small(queued),
            oldest_wait_ms: if queued > 0 { u64::try_from(now - oldest).unwrap_or(0) } else { 0 },
            ended: [of(State::Succeeded), of(State::Failed), of(State::Cancelled)],
            drain_seconds: drain,
        })
    }

    /// Age of the oldest job that is due and waits.
    ///
    /// # Errors
    /// The database's.
    pub async fn oldest_due(&self) -> Result<Duration, Error> {
        let now = now_ms();
        let query = sqlx::query_scalar(
            "SELECT MIN(created_ms) FROM jobs WHERE state IN ('queued', 'running') AND state = 'queued' AND not_before_ms <= $1",
        )
        .bind(now);
        let oldest: Option<i64> = query.fetch_one(self.db.pool()).await?;
        Ok(Duration::from_millis(oldest.map_or(0, |oldest| u64::try_from(now - oldest).unwrap_or(0))))
    }
}

/// Time that a running job still takes.
fn running_left(job: &Job, pace: Pace, now: UnixMillis) -> Option<i64> {
    if let Some(left) = job.left_at_own_pace(now) {
        return Some(left);
    }
    let whole = own_work(job, pace)?;
    // An estimate that was too small says nothing of the rest.
    Some((whole - (now - job.attempt_ms)).max(whole / 10))
}

/// Time that the rest of a job takes, from now or from its beginning on.
fn own_work(job: &Job, pace: Pace) -> Option<i64> {
    if job.source_duration_ms > 0 {
        return pace.of_media(job.source_duration_ms - job.made_ms);
    }
    pace.of_bytes(job.source_bytes)
}

/// The sum, unless a part of it can't be said.
fn total(mut parts: impl Iterator<Item = Option<i64>>) -> Option<i64> {
    parts.try_fold(0_i64, |sum, part| Some(sum.saturating_add(part?)))
}

fn seconds(ms: i64) -> u32 {
    u32::try_from(ms.max(0) / 1000 + 1).unwrap_or(u32::MAX)
}

fn small(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

fn small_len(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_scales_with_what_is_known_of_a_job() {
        let pace = Pace { jobs: 2, run_ms: 10_000, media_ms: 40_000, source_bytes: 1_000_000 };
        assert_eq!(pace.of_bytes(500_000), Some(5_000));
        assert_eq!(pace.of_bytes(0), Some(5_000), "the mean of the last jobs");
        assert_eq!(pace.of_media(8_000), Some(2_000));
        assert!((pace.speed() - 4.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_is_said_before_the_first_job() {
        assert_eq!((Pace::default().of_bytes(1), Pace::default().of_media(1)), (None, None));
        assert!(Pace::default().speed().abs() < f64::EPSILON);
    }

    #[test]
    fn the_largest_sizes_do_not_overflow() {
        let pace = Pace { jobs: 1, run_ms: i64::MAX, media_ms: 1, source_bytes: 1 };
        assert_eq!(pace.of_bytes(i64::MAX), Some(i64::MAX));
    }
}

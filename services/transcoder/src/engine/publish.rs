//! Publishing: what has a row is published, in order, by the holder of the lease only.

use streamgate_core::time::now_ms;
use streamgate_media::encoder_protocol::Media;
use streamgate_proto::streamgate::events::v1::{RenditionReady, TranscodingProgressed, event::Payload};
use streamgate_store::Transaction;

use super::{Claim, Engine, Job, rows};
use crate::Error;

/// Least time between two events of progress.
const PROGRESS_EVERY_MS: i64 = 2_000;

/// A rendition whose init segment is stored.
#[derive(Debug, Clone)]
pub struct NewRendition {
    /// Name, such as `v720`.
    pub name: String,
    /// What it holds.
    pub media: Media,
    /// RFC 6381 codec string.
    pub codecs: String,
    /// Ticks in a second.
    pub timescale: u32,
    /// Path of the init segment below the title's media.
    pub init_path: String,
    /// Its size.
    pub init_bytes: u64,
}

/// A segment that is stored.
#[derive(Debug, Clone)]
pub struct NewSegment {
    /// Name of its rendition.
    pub rendition: String,
    /// Counts from 1.
    pub number: u32,
    /// Start, in ticks.
    pub start: u64,
    /// Length, in ticks.
    pub duration: u64,
    /// Its size.
    pub size_bytes: u64,
    /// Path below the title's media.
    pub path: String,
}

impl Engine {
    /// Notes what the source is and which tracks will be made.
    ///
    /// # Errors
    /// `LeaseLost`.
    pub async fn probed(&self, claim: &Claim, duration_ms: u64, tracks: &[String]) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        self.hold(&mut tx, claim).await?;
        sqlx::query("UPDATE jobs SET source_duration_ms = $1, tracks = $2, revision = revision + 1 WHERE job_id = $3")
            .bind(i64::try_from(duration_ms).unwrap_or(i64::MAX))
            .bind(tracks.join(" "))
            .bind(&claim.job.job_id)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Publishes a rendition's description; one that is there stays as it is.
    ///
    /// # Errors
    /// `LeaseLost`.
    pub async fn add_rendition(&self, claim: &Claim, new: &NewRendition) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        self.hold(&mut tx, claim).await?;
        let (mut picture, mut sound, mut language) = ([None; 4], [None; 2], "");
        match &new.media {
            Media::Video { width, height, frame_rate } => {
                picture = [*width, *height, frame_rate.num, frame_rate.den].map(|number| Some(i64::from(number)));
            }
            Media::Audio { sample_rate_hz, channels, language: spoken } => {
                sound = [*sample_rate_hz, *channels].map(|number| Some(i64::from(number)));
                language = spoken;
            }
        }
        let mut insert = sqlx::query(
            "INSERT INTO renditions (job_id, name, width, height, rate_num, rate_den, sample_rate_hz, channels, language, codecs, \
             timescale, init_path, init_bytes) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT DO NOTHING",
        )
        .bind(&claim.job.job_id)
        .bind(&new.name);
        for number in picture.into_iter().chain(sound) {
            insert = insert.bind(number);
        }
        let insert = insert.bind(language).bind(&new.codecs).bind(i64::from(new.timescale)).bind(&new.init_path);
        insert.bind(i64::try_from(new.init_bytes).unwrap_or(i64::MAX)).execute(&mut *tx).await?;
        self.touch(&mut tx, claim).await?;
        Ok(tx.commit().await?)
    }

    /// Whether a rendition is published.
    ///
    /// # Errors
    /// The database's.
    pub async fn has_rendition(&self, job_id: &str, name: &str) -> Result<bool, Error> {
        let query = sqlx::query("SELECT 1 FROM renditions WHERE job_id = $1 AND name = $2");
        Ok(query.bind(job_id).bind(name).fetch_optional(self.db.pool()).await?.is_some())
    }

    /// The number of the last published segment of a rendition; 0 without one.
    ///
    /// # Errors
    /// The database's.
    pub async fn last_segment(&self, job_id: &str, rendition: &str) -> Result<u32, Error> {
        let query = sqlx::query_scalar("SELECT COALESCE(MAX(number), 0) FROM segments WHERE job_id = $1 AND rendition = $2");
        let number: i64 = query.bind(job_id).bind(rendition).fetch_one(self.db.pool()).await?;
        Ok(u32::try_from(number).unwrap_or(0))
    }

    /// Publishes a segment: the next one of its rendition, beginning where the one before ends.
    /// The title becomes playable with the last of the first segments.
    ///
    /// # Errors
    /// `LeaseLost`, or `Nonsense` for a segment that is not the next one.
    pub async fn add_segment(&self, claim: &Claim, new: &NewSegment) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        self.hold(&mut tx, claim).await?;
        let last = sqlx::query_as(
            "SELECT number, start + duration FROM segments WHERE job_id = $1 AND rendition = $2 ORDER BY number DESC LIMIT 1",
        );
        let last: Option<(i64, i64)> = last.bind(&claim.job.job_id).bind(&new.rendition).fetch_optional(&mut *tx).await?;
        let (number, end) = last.unwrap_or((0, 0));
        let start = i64::try_from(new.start).unwrap_or(i64::MAX);
        if i64::from(new.number) != number + 1 || start != end || new.duration == 0 {
            return Err(Error::Nonsense(format!(
                "segment {} of {} at {start} after {number} to {end}",
                new.number, new.rendition
            )));
        }
        sqlx::query(
            "INSERT INTO segments (job_id, rendition, number, start, duration, size_bytes, path) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(&claim.job.job_id)
        .bind(&new.rendition)
        .bind(i64::from(new.number))
        .bind(start)
        .bind(i64::try_from(new.duration).unwrap_or(i64::MAX))
        .bind(i64::try_from(new.size_bytes).unwrap_or(i64::MAX))
        .bind(&new.path)
        .execute(&mut *tx)
        .await?;
        self.touch(&mut tx, claim).await?;
        self.note_progress(&mut tx, claim).await?;
        if new.number == 1 && all_begun(&mut tx, &claim.job.job_id).await? {
            self.announce_playable(&mut tx, &claim.job).await?;
        }
        tx.commit().await?;
        self.metrics.segments.inc();
        self.metrics.segment_bytes.inc_by(new.size_bytes);
        Ok(())
    }

    /// Publishes the poster; one that is there stays.
    ///
    /// # Errors
    /// `LeaseLost`.
    pub async fn add_poster(&self, claim: &Claim, path: &str, size_bytes: u64) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        self.hold(&mut tx, claim).await?;
        sqlx::query(
            "UPDATE jobs SET poster_path = $1, poster_bytes = $2, revision = revision + 1 WHERE job_id = $3 AND poster_path = ''",
        )
        .bind(path)
        .bind(i64::try_from(size_bytes).unwrap_or(i64::MAX))
        .bind(&claim.job.job_id)
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// Goes on only as the holder of the lease.
    async fn hold(&self, tx: &mut Transaction, claim: &Claim) -> Result<(), Error> {
        let query = sqlx::query("SELECT 1 FROM jobs WHERE job_id = $1 AND fence = $2 AND state = 'running'");
        let held = query.bind(&claim.job.job_id).bind(claim.fence()).fetch_optional(&mut **tx).await?;
        if held.is_some() { Ok(()) } else { Err(claim.lost()) }
    }

    async fn touch(&self, tx: &mut Transaction, claim: &Claim) -> Result<(), Error> {
        sqlx::query("UPDATE jobs SET revision = revision + 1 WHERE job_id = $1")
            .bind(&claim.job.job_id)
            .execute(&mut **tx)
            .await?;
        Ok(())
    }

    /// Works out what is published of every track, and tells it now and then.
    async fn note_progress(&self, tx: &mut Transaction, claim: &Claim) -> Result<(), Error> {
        let slowest = sqlx::query_scalar(
            "SELECT COALESCE(MIN(made), 0) FROM (SELECT COALESCE((SELECT MAX(s.start + s.duration) FROM segments s \
             WHERE s.job_id = r.job_id AND s.rendition = r.name), 0) * 1000 / r.timescale AS made \
             FROM renditions r WHERE r.job_id = $1 AND (r.width IS NOT NULL OR NOT EXISTS \
             (SELECT 1 FROM renditions v WHERE v.job_id = $1 AND v.width IS NOT NULL))) AS tracks",
        );
        let made_ms: i64 = slowest.bind(&claim.job.job_id).fetch_one(&mut **tx).await?;
        let now = now_ms();
        let row = sqlx::query(concat!(
            "UPDATE jobs SET made_ms = CASE WHEN made_ms < $1 THEN $1 ELSE made_ms END WHERE job_id = $2 RETURNING ",
            rows::job_columns!()
        ))
        .bind(made_ms)
        .bind(&claim.job.job_id)
        .fetch_one(&mut **tx)
        .await?;
        let job = rows::read(&row)?;
        let due = sqlx::query("UPDATE jobs SET progressed_ms = $1 WHERE job_id = $2 AND progressed_ms <= $1 - $3");
        let due = due.bind(now).bind(&job.job_id).bind(PROGRESS_EVERY_MS).execute(&mut **tx).await?;
        if due.rows_affected() == 1 && job.made_ms > 0 {
            let (job_id, content_id) = (job.job_id.clone(), job.content_id.clone());
            let progressed = TranscodingProgressed { job_id, content_id, progress: job.progress(), remake: job.remake };
            self.outbox.add(tx, &job.content_id, Payload::TranscodingProgressed(progressed)).await?;
        }
        Ok(())
    }

    /// Says once that the title can be played.
    pub(super) async fn announce_playable(&self, tx: &mut Transaction, job: &Job) -> Result<(), Error> {
        let query = sqlx::query("UPDATE jobs SET playable = 1, playable_ms = $1 WHERE job_id = $2 AND playable = 0");
        let done = query.bind(now_ms()).bind(&job.job_id).execute(&mut **tx).await?;
        if done.rows_affected() == 0 {
            return Ok(());
        }
        let ready = RenditionReady {
            job_id: job.job_id.clone(),
            content_id: job.content_id.clone(),
            owner: job.owner.clone(),
            renditions: rendition_names(tx, &job.job_id).await?,
            remake: job.remake,
        };
        self.outbox.add(tx, &job.content_id, Payload::RenditionReady(ready)).await?;
        Ok(())
    }
}

/// Names of the renditions that a job has made or makes.
pub(super) async fn rendition_names(tx: &mut Transaction, job_id: &str) -> Result<Vec<String>, Error> {
    let query = sqlx::query_scalar("SELECT name FROM renditions WHERE job_id = $1 ORDER BY name").bind(job_id);
    Ok(query.fetch_all(&mut **tx).await?)
}

/// Whether every track that will be made has its first segment.
async fn all_begun(tx: &mut Transaction, job_id: &str) -> Result<bool, Error> {
    let query = sqlx::query_scalar("SELECT tracks FROM jobs WHERE job_id = $1").bind(job_id);
    let tracks: String = query.fetch_one(&mut **tx).await?;
    let query = sqlx::query_scalar("SELECT rendition FROM segments WHERE job_id = $1 AND number = 1").bind(job_id);
    let begun: Vec<String> = query.fetch_all(&mut **tx).await?;
    Ok(tracks.split_ascii_whitespace().all(|track| begun.iter().any(|name| name == track)))
}

//! What has been made of a title, as playlists are written from it.

use std::collections::BTreeMap;

use sqlx::Row as _;
use streamgate_core::ids::ContentId;
use streamgate_proto::streamgate::media::v1::{Asset, AudioRendition, Presentation, Segment, Track, VideoRendition};

use super::{Engine, Job, State, rows};
use crate::Error;

impl Engine {
    /// What was made of a title in one version, or in the one to be played: the newest that is whole, else the newest.
    /// Nothing when its revision is `known_revision`.
    ///
    /// # Errors
    /// `UnknownContent` when there is no such version, or its media was purged.
    pub async fn presentation(
        &self,
        content: &ContentId,
        version: Option<u32>,
        known_revision: u64,
    ) -> Result<Option<Presentation>, Error> {
        // One snapshot: the revision and the rows must belong together.
        let mut tx = self.db.snapshot().await?;
        let row = match version {
            Some(version) => sqlx::query(rows::select_jobs!("WHERE content_id = $1 AND version = $2 AND purged = 0"))
                .bind(content.as_str())
                .bind(i64::from(version)),
            None => sqlx::query(rows::select_jobs!(
                "WHERE content_id = $1 ORDER BY CASE WHEN state = 'succeeded' THEN 1 ELSE 0 END DESC, seq DESC LIMIT 1"
            ))
            .bind(content.as_str()),
        };
        let row = row.fetch_optional(&mut *tx).await?.ok_or_else(|| Error::UnknownContent(content.to_string()))?;
        let job = rows::read(&row)?;
        if known_revision > 0 && unsigned(job.revision) == known_revision {
            return Ok(None);
        }
        let renditions = sqlx::query(
            "SELECT name, width, height, rate_num, rate_den, sample_rate_hz, channels, language, codecs, timescale, init_path, init_bytes \
             FROM renditions WHERE job_id = $1 ORDER BY width DESC NULLS LAST, name",
        );
        let renditions = renditions.bind(&job.job_id).fetch_all(&mut *tx).await?;
        let segments = sqlx::query(
            "SELECT rendition, number, start, duration, size_bytes, path FROM segments WHERE job_id = $1 ORDER BY rendition, number",
        );
        let segments = segments.bind(&job.job_id).fetch_all(&mut *tx).await?;
        tx.commit().await?;

        let mut by_rendition: BTreeMap<String, Vec<Segment>> = BTreeMap::new();
        for row in &segments {
            by_rendition.entry(row.try_get("rendition")?).or_default().push(segment(row)?);
        }
        let mut presentation = empty(&job);
        for row in &renditions {
            let name: String = row.try_get("name")?;
            let segments = by_rendition.remove(&name).unwrap_or_default();
            if !segments.is_empty() {
                add(&mut presentation, row, name, segments)?;
            }
        }
        Ok(Some(presentation))
    }
}

fn empty(job: &Job) -> Presentation {
    let poster = Asset { path: job.poster_path.clone(), size_bytes: unsigned(job.poster_bytes) };
    Presentation {
        content_id: job.content_id.clone(),
        job_id: job.job_id.clone(),
        complete: job.state == State::Succeeded,
        stopped: matches!(job.state, State::Failed | State::Cancelled),
        version: job.version,
        playable_at_ms: job.playable_ms,
        revision: unsigned(job.revision),
        video: Vec::new(),
        audio: None,
        source_duration_ms: unsigned(job.source_duration_ms),
        poster: (!poster.path.is_empty()).then_some(poster),
    }
}

fn add(to: &mut Presentation, row: &sqlx::any::AnyRow, name: String, segments: Vec<Segment>) -> Result<(), Error> {
    let init = Asset { path: row.try_get("init_path")?, size_bytes: unsigned(row.try_get("init_bytes")?) };
    let track = Some(Track { timescale: rows::count(row, "timescale")?, init: Some(init), segments });
    let codecs = row.try_get("codecs")?;
    match row.try_get::<Option<i64>, _>("width")? {
        Some(_) => to.video.push(VideoRendition {
            name,
            width: rows::count(row, "width")?,
            height: rows::count(row, "height")?,
            frame_rate_num: rows::count(row, "rate_num")?,
            frame_rate_den: rows::count(row, "rate_den")?,
            codecs,
            track,
        }),
        None => {
            to.audio = Some(AudioRendition {
                name,
                sample_rate_hz: rows::count(row, "sample_rate_hz")?,
                channels: rows::count(row, "channels")?,
                codecs,
                language: row.try_get("language")?,
                track,
            });
        }
    }
    Ok(())
}

fn segment(row: &sqlx::any::AnyRow) -> Result<Segment, Error> {
    Ok(Segment {
        number: rows::count(row, "number")?,
        start: unsigned(row.try_get("start")?),
        duration: unsigned(row.try_get("duration")?),
        size_bytes: unsigned(row.try_get("size_bytes")?),
        path: row.try_get("path")?,
    })
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

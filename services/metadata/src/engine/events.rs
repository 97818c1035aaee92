//! What other services say about titles.

use async_trait::async_trait;
use streamgate_core::{
    Failure,
    events::event_type,
    ids::{ContentId, EventId, JobId},
    time::now_ms,
};
use streamgate_proto::streamgate::events::v1::{Event, event::Payload};
use streamgate_store::{EventHandler, Inbox};

use super::{Change, Engine, JobNews, rows};
use crate::{Error, metrics::EventLabels, metrics::StatusLabels};

/// Longest sentence that is kept of a failure.
const MAX_DETAIL_CHARS: usize = 1_000;

#[async_trait]
impl EventHandler for Engine {
    async fn handle(&self, event: Event) -> Result<(), Failure> {
        let id: EventId = event.id.parse().map_err(|_| Failure::invalid_field("event.id", "is not an event id"))?;
        let payload = event.payload.ok_or_else(|| Failure::invalid_field("event.payload", "is missing"))?;
        let kind = event_type(&payload);
        let outcome = match read(payload)? {
            Some((content, change)) => self.apply(&id, &content, &change).await?,
            None => "ignored",
        };
        self.metrics.events.get_or_create(&EventLabels { r#type: kind, outcome }).inc();
        Ok(())
    }
}

impl Engine {
    /// Applies a change once, in one transaction with the note that its event was seen.
    async fn apply(&self, id: &EventId, content_id: &ContentId, change: &Change) -> Result<&'static str, Error> {
        let mut tx = self.db.begin().await?;
        if !Inbox::first_time(&mut tx, id.as_str()).await? {
            return Ok("repeated");
        }
        let before = match rows::find(&mut tx, content_id).await {
            Ok(content) if !content.is_purged => content,
            // The title is gone for good, or never was: its events mean nothing. One that can be brought back listens on.
            Ok(_) | Err(Error::UnknownContent(_)) => {
                tx.commit().await?;
                return Ok("ignored");
            }
            Err(error) => return Err(error),
        };
        let mut stage = before.stage.clone();
        stage.apply(id, change);
        if stage == before.stage {
            tx.commit().await?;
            return Ok("ignored");
        }
        // Progress comes often and is no edit: it must not make a creator's expected_revision stale.
        let is_edit = (stage.status, stage.playable) != (before.stage.status, before.stage.playable);
        sqlx::query(
            "UPDATE contents SET status = $2, progress = $3, playable = $4, job_id = $5, job_mark = $6, error_reason = $7, \
             error_detail = $8, duration_ms = $9, width = $10, height = $11, \
             update_ms = CASE WHEN $13 = 0 THEN update_ms ELSE $12 END, revision = revision + $13 WHERE content_id = $1",
        )
        .bind(content_id.as_str())
        .bind(stage.status.as_str())
        .bind(stage.progress)
        .bind(i64::from(stage.playable))
        .bind(&stage.job_id)
        .bind(&stage.job_mark)
        .bind(&stage.error_reason)
        .bind(&stage.error_detail)
        .bind(i64::try_from(stage.duration_ms).unwrap_or(i64::MAX))
        .bind(i64::from(stage.width))
        .bind(i64::from(stage.height))
        .bind(now_ms())
        .bind(i64::from(is_edit))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        if is_edit {
            self.changes.tell_later(content_id.as_str());
        }
        if stage.status != before.stage.status {
            self.metrics.transitions.get_or_create(&StatusLabels { status: stage.status.as_str() }).inc();
            tracing::info!(content_id = %content_id, from = %before.stage.status, to = %stage.status, "title moved on");
        }
        Ok("applied")
    }
}

/// The title an event is about and what it says; absent when it says nothing to titles.
fn read(payload: Payload) -> Result<Option<(ContentId, Change)>, Failure> {
    if is_remake(&payload) {
        return Ok(None);
    }
    let (content, change) = match payload {
        Payload::FileUploaded(e) => (e.content_id, Change::Uploaded),
        Payload::UploadAbandoned(e) => {
            let reason = if e.reason == "cancelled" { "upload_cancelled" } else { "upload_expired" };
            (e.content_id, Change::Abandoned { reason })
        }
        Payload::TranscodingStarted(e) => (e.content_id, of_job(&e.job_id, JobNews::Started)?),
        Payload::TranscodingProgressed(e) => (e.content_id, of_job(&e.job_id, JobNews::Progressed(e.progress))?),
        Payload::RenditionReady(e) => (e.content_id, of_job(&e.job_id, JobNews::Playable)?),
        Payload::TranscodingCompleted(e) => {
            let news = JobNews::Completed { duration_ms: e.duration_ms, width: e.width, height: e.height };
            (e.content_id, of_job(&e.job_id, news)?)
        }
        Payload::TranscodingFailed(e) => {
            let detail = e.detail.chars().take(MAX_DETAIL_CHARS).collect();
            (e.content_id, of_job(&e.job_id, JobNews::Failed { reason: e.reason, detail })?)
        }
        // What nobody says about titles, and what this service itself says.
        _ => return Ok(None),
    };
    let content = content.parse().map_err(|_| Failure::invalid_field("event.content_id", "is not the id of a title"))?;
    Ok(Some((content, change)))
}

/// Whether a title that plays already is being made again: nothing changes for it before that is completed.
const fn is_remake(payload: &Payload) -> bool {
    match payload {
        Payload::TranscodingStarted(e) => e.remake,
        Payload::TranscodingProgressed(e) => e.remake,
        Payload::RenditionReady(e) => e.remake,
        Payload::TranscodingFailed(e) => e.remake,
        _ => false,
    }
}

fn of_job(job: &str, news: JobNews) -> Result<Change, Failure> {
    let job: JobId = job.parse().map_err(|_| Failure::invalid_field("event.job_id", "is not the id of a job"))?;
    Ok(Change::Job { job, news })
}

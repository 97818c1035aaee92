//! What happens elsewhere and concerns jobs.

use async_trait::async_trait;
use streamgate_core::{
    Failure,
    ids::{ContentId, JobId},
    time::now_ms,
};
use streamgate_proto::streamgate::events::v1::{Event, FileUploaded, event::Payload};
use streamgate_store::{BlobKey, EventHandler, Inbox};

use super::{
    Engine,
    job::Priority,
    rows::{self, NewJob},
};
use crate::{Error, settings::DEFAULT_PROFILE};

#[async_trait]
impl EventHandler for Engine {
    async fn handle(&self, event: Event) -> Result<(), Failure> {
        match event.payload {
            Some(Payload::FileUploaded(uploaded)) => Ok(self.queue_upload(&event.id, &uploaded).await?),
            Some(Payload::ContentPurged(purged)) => {
                let content = content_id(&purged.content_id)?;
                Ok(self.forget(&event.id, &content).await?)
            }
            _ => Ok(()),
        }
    }
}

fn content_id(text: &str) -> Result<ContentId, Failure> {
    text.parse().map_err(|_| Failure::invalid_field("event.content_id", "is not a content id"))
}

impl Engine {
    /// Queues a job for a whole upload: one, however often it is told.
    async fn queue_upload(&self, event_id: &str, uploaded: &FileUploaded) -> Result<(), Error> {
        let content = content_id(&uploaded.content_id)?;
        BlobKey::new(uploaded.source_key.as_str())?;
        let mut tx = self.db.begin().await?;
        if !Inbox::first_time(&mut tx, event_id).await? {
            return Ok(());
        }
        let known = sqlx::query("SELECT 1 FROM jobs WHERE upload_id = $1").bind(&uploaded.upload_id);
        if known.fetch_optional(&mut *tx).await?.is_some() {
            return Ok(());
        }
        let settings = self.profiles.settings(DEFAULT_PROFILE, &[])?;
        let new = NewJob {
            id: JobId::new(),
            content_id: content.as_str(),
            owner: &uploaded.owner,
            upload_id: &uploaded.upload_id,
            source_key: &uploaded.source_key,
            source_bytes: i64::try_from(uploaded.size_bytes).unwrap_or(i64::MAX),
            profile: DEFAULT_PROFILE,
            ladder: String::new(),
            settings: serde_json::to_string(&settings).map_err(|error| Error::Nonsense(error.to_string()))?,
            priority: Priority::Normal,
            remake: false,
            now: now_ms(),
        };
        // An upload that was taken is never turned away, however many wait: quotas bound what is uploaded.
        let added = rows::insert(&mut tx, &new).await?;
        tx.commit().await?;
        if added {
            self.metrics.queued.inc();
            self.work.notify_waiters();
        }
        Ok(())
    }

    /// Stops every job of a title and dooms its media.
    async fn forget(&self, event_id: &str, content: &ContentId) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        if !Inbox::first_time(&mut tx, event_id).await? {
            return Ok(());
        }
        sqlx::query("INSERT INTO deleted_contents (content_id) VALUES ($1) ON CONFLICT DO NOTHING")
            .bind(content.as_str())
            .execute(&mut *tx)
            .await?;
        let query = sqlx::query_scalar("SELECT job_id FROM jobs WHERE content_id = $1 AND state IN ('queued', 'running')");
        let open: Vec<String> = query.bind(content.as_str()).fetch_all(&mut *tx).await?;
        for job_id in open {
            self.cancel_in(&mut tx, &job_id, "the title was deleted").await?;
        }
        tx.commit().await?;
        self.work.notify_waiters();
        Ok(())
    }
}

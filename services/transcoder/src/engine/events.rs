//! What happens elsewhere and concerns jobs.

use async_trait::async_trait;
use streamgate_core::{
    Failure,
    ids::{ContentId, JobId},
    time::now_ms,
};
use streamgate_proto::streamgate::events::v1::{Event, FileUploaded, event::Payload};
use streamgate_store::{BlobKey, EventHandler, Inbox};

use super::Engine;
use crate::Error;

#[async_trait]
impl EventHandler for Engine {
    async fn handle(&self, event: Event) -> Result<(), Failure> {
        match event.payload {
            Some(Payload::FileUploaded(uploaded)) => Ok(self.queue_upload(&event.id, &uploaded).await?),
            Some(Payload::MetadataDeleted(deleted)) => {
                let content = content_id(&deleted.content_id)?;
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
        let added = sqlx::query(
            "INSERT INTO jobs (job_id, content_id, owner, upload_id, source_key, state, created_ms) \
             SELECT $1, $2, $3, $4, $5, 'queued', $6 WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE upload_id = $4) \
             AND NOT EXISTS (SELECT 1 FROM deleted_contents WHERE content_id = $2)",
        )
        .bind(JobId::new().as_str())
        .bind(content.as_str())
        .bind(&uploaded.owner)
        .bind(&uploaded.upload_id)
        .bind(&uploaded.source_key)
        .bind(now_ms())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        if added.rows_affected() == 1 {
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

    /// Deletes the media of titles that are gone, once nobody makes more of it.
    ///
    /// # Errors
    /// The stores'; it is tried again.
    pub async fn purge(&self) -> Result<(), Error> {
        let query = sqlx::query_scalar(
            "SELECT content_id FROM deleted_contents d WHERE pending = 1 AND NOT EXISTS \
             (SELECT 1 FROM jobs j WHERE j.content_id = d.content_id AND j.state IN ('queued', 'running')) LIMIT 50",
        );
        let gone: Vec<String> = query.fetch_all(self.db.pool()).await?;
        for content in gone {
            self.blobs.delete_prefix(&BlobKey::new(format!("media/{content}"))?).await?;
            let mut tx = self.db.begin().await?;
            sqlx::query("DELETE FROM jobs WHERE content_id = $1").bind(&content).execute(&mut *tx).await?;
            sqlx::query("UPDATE deleted_contents SET pending = 0 WHERE content_id = $1").bind(&content).execute(&mut *tx).await?;
            tx.commit().await?;
        }
        Ok(())
    }
}

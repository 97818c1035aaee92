//! Titles that go: away at once, back within a time, and for good after it.

use streamgate_core::{
    Caller,
    ids::ContentId,
    time::{UnixMillis, now_ms},
};
use streamgate_proto::streamgate::events::v1::{ContentPurged, MetadataDeleted, event::Payload};

use super::{Content, Engine, rows, text::Words};
use crate::Error;

/// Titles that one purge takes when the caller names no number, and at the most.
const DEFAULT_PURGE: u32 = 100;
const MAX_PURGE: u32 = 1_000;

impl Engine {
    /// Takes a title away: at once from lists, search and playback. Says until when it can be brought back. Repeating
    /// is success.
    ///
    /// # Errors
    /// When there never was one, it belonged to somebody else, or has another etag.
    pub async fn delete(&self, caller: &Caller, id: &ContentId, etag: Option<&str>) -> Result<UnixMillis, Error> {
        let mut tx = self.db.begin().await?;
        let before = rows::find(&mut tx, id).await?;
        if !caller.may_act_for(&before.owner) {
            return Err(Error::UnknownContent(id.to_string()));
        }
        if let Some(purge_ms) = before.purge_ms {
            return Ok(purge_ms);
        }
        before.expect_etag(etag)?;
        let now = now_ms();
        let purge_ms = now.saturating_add(i64::try_from(self.config.undelete_ms).unwrap_or(i64::MAX));
        let delete =
            "UPDATE contents SET delete_ms = $2, update_ms = $2, purge_ms = $3, revision = revision + 1 WHERE content_id = $1";
        sqlx::query(delete).bind(id.as_str()).bind(now).bind(purge_ms).execute(&mut *tx).await?;
        let content = rows::find(&mut tx, id).await?;
        self.index(&mut tx, &content).await?;
        let deleted = MetadataDeleted { content_id: id.to_string(), owner: content.owner };
        self.outbox.add(&mut tx, id.as_str(), Payload::MetadataDeleted(deleted)).await?;
        tx.commit().await?;
        self.changes.tell(id.as_str()).await;
        self.metrics.deleted.inc();
        tracing::info!(content_id = %id, "title deleted");
        Ok(purge_ms)
    }

    /// Brings a deleted title back. Repeating is success.
    ///
    /// # Errors
    /// When there is none that can be, or it belongs to somebody else.
    pub async fn undelete(&self, caller: &Caller, id: &ContentId) -> Result<Content, Error> {
        let mut tx = self.db.begin().await?;
        let before = rows::find(&mut tx, id).await?;
        let is_over = before.is_purged || before.purge_ms.is_some_and(|purge_ms| purge_ms <= now_ms());
        if is_over || !caller.may_act_for(&before.owner) {
            return Err(Error::UnknownContent(id.to_string()));
        }
        if before.delete_ms.is_none() {
            return Ok(before);
        }
        let undelete = "UPDATE contents SET delete_ms = NULL, purge_ms = NULL, update_ms = $2, revision = revision + 1 WHERE content_id = $1";
        sqlx::query(undelete).bind(id.as_str()).bind(now_ms()).execute(&mut *tx).await?;
        let content = rows::find(&mut tx, id).await?;
        self.index(&mut tx, &content).await?;
        self.tell_updated(&mut tx, &content, &["delete_time"]).await?;
        tx.commit().await?;
        self.changes.tell(id.as_str()).await;
        tracing::info!(content_id = %id, "title brought back");
        Ok(content)
    }

    /// Ends titles for good whose time has come, `limit` at the most. Says how many, and whether there may be more.
    ///
    /// # Errors
    /// When the database fails; what was purged before stays so.
    pub async fn purge(&self, limit: u32) -> Result<(u32, bool), Error> {
        let limit = if limit == 0 { DEFAULT_PURGE } else { limit.min(MAX_PURGE) };
        let due: Vec<String> = sqlx::query_scalar(
            "SELECT content_id FROM contents WHERE delete_ms IS NOT NULL AND purged = 0 AND purge_ms <= $1 \
             ORDER BY purge_ms, content_id LIMIT $2",
        )
        .bind(now_ms())
        .bind(i64::from(limit) + 1)
        .fetch_all(self.db.pool())
        .await?;
        let mut purged = 0;
        for id in due.iter().take(limit as usize) {
            purged += u32::from(self.purge_one(id).await?);
        }
        Ok((purged, due.len() > limit as usize))
    }

    /// Leaves of a title only that it was there: a late delete or a repeated request must still find whose it was.
    async fn purge_one(&self, id: &str) -> Result<bool, Error> {
        let mut tx = self.db.begin().await?;
        let content = rows::find_text(&mut tx, id).await?;
        // It may have been brought back, or purged by somebody else, since it was looked for.
        if content.is_purged || content.purge_ms.is_none_or(|purge_ms| purge_ms > now_ms()) {
            return Ok(false);
        }
        let now = now_ms();
        let wipe = "UPDATE contents SET title = '', title_key = '', description = '', tags = '[]', attributes = '{}', gate = NULL, \
                    gate_hash = '', error_detail = '', purged = 1, revision = revision + 1 WHERE content_id = $1";
        sqlx::query(wipe).bind(id).execute(&mut *tx).await?;
        let close =
            "UPDATE playback_ids SET delete_ms = $2, gate = NULL, gate_hash = '' WHERE content_id = $1 AND delete_ms IS NULL";
        sqlx::query(close).bind(id).bind(now).execute(&mut *tx).await?;
        self.text.forget(&mut tx, &Words::of(&content).vocabulary()).await?;
        let purged = ContentPurged { content_id: id.to_owned(), owner: content.owner };
        self.outbox.add(&mut tx, id, Payload::ContentPurged(purged)).await?;
        tx.commit().await?;
        self.metrics.purged.inc();
        tracing::info!(content_id = id, "title purged");
        Ok(true)
    }
}

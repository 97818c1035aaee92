//! Uploads that end without a file: cancelled, expired, or with their title deleted.

use async_trait::async_trait;
use streamgate_core::{Caller, ErrorKind, Failure, ids::UploadId, time::now_ms};
use streamgate_proto::streamgate::events::v1::{Event, UploadAbandoned, event::Payload};
use streamgate_store::{BlobKey, DatabaseKind, EventHandler, Inbox, Transaction};

use crate::{
    Error,
    engine::{Engine, State, Swept, Upload, quota, rows, source_key},
};

/// Marks of an upload whose bytes are still to be deleted: none, all of them, or only its chunks. Any other is a time: all of
/// them were deleted, and from then on a sweep looks once more.
const NOT_DOOMED: i64 = 0;
const ALL_DOOMED: i64 = 1;
pub(super) const CHUNKS_DOOMED: i64 = 2;
/// When a sweep looks once more. A writer on another replica hears of the end within a minute and deletes what it has added
/// since; one that is killed before, or can't reach the database, leaves it.
pub(super) const LATE_WRITERS_MS: i64 = 60 * 60 * 1000;
/// How long a deletion that failed lets others go before it.
const FAILED_MS: i64 = 10 * 60 * 1000;

/// Uploads that one sweep ends, unless the caller says otherwise.
const DEFAULT_SWEEP: u32 = 100;
/// Most uploads that one sweep ends: so the call stays short.
const MAX_SWEEP: u32 = 1_000;

impl Engine {
    /// Ends an open upload and throws its bytes away. A writer is told to stop. Repeating it is
    /// success.
    ///
    /// # Errors
    /// `Closed` when it is completed or expired, `UnknownUpload` also for somebody else's.
    pub async fn cancel(&self, caller: &Caller, id: &UploadId) -> Result<Upload, Error> {
        let row = self.owned(caller, id).await?;
        if row.state()? == State::Cancelled {
            return self.show(row).await;
        }
        row.must_be_open()?;
        let hold = self.shared.slots.take_over(id.as_str()).await?;
        let closed = match self.close(id).await {
            Err(error) if error.kind() == ErrorKind::StorageFull && self.shared.db.kind() == DatabaseKind::Sqlite => {
                // No change can be made on a full disk until there is room, which the bytes take. With a database of its own
                // no other process can be completing the upload, so they may go first; without them it is as if none had come.
                if row.chunk_count() == 0 {
                    self.discard_or_leave(&source_key(id.as_str())?).await;
                }
                self.close(id).await?
            }
            closed => closed?,
        };
        drop(hold);
        let row = self.reread(id).await?;
        if !closed && row.state()? != State::Cancelled {
            row.must_be_open()?;
        }
        self.ended(id.as_str(), State::Cancelled).await;
        self.show(row).await
    }

    async fn close(&self, id: &UploadId) -> Result<bool, Error> {
        let mut tx = self.shared.db.begin().await?;
        let closed = self.abandon(&mut tx, id.as_str(), State::Cancelled).await?;
        tx.commit().await?;
        Ok(closed)
    }

    /// Ends open uploads whose time is over, and deletes bytes that earlier calls left behind.
    ///
    /// # Errors
    /// What the database says; uploads that were ended until then stay ended.
    pub async fn sweep(&self, limit: u32) -> Result<Swept, Error> {
        let limit = if limit == 0 { DEFAULT_SWEEP } else { limit.min(MAX_SWEEP) };
        let query =
            sqlx::query_scalar("SELECT id FROM uploads WHERE state = 'open' AND expires_ms <= $1 ORDER BY expires_ms LIMIT $2");
        let due: Vec<String> = query.bind(now_ms()).bind(i64::from(limit) + 1).fetch_all(self.shared.db.pool()).await?;
        let mut more = due.len() > limit as usize;
        let mut expired = 0;
        for id in due.into_iter().take(limit as usize) {
            // Somebody is writing to it: its time begins anew when that call ends.
            let Ok(hold) = self.shared.slots.take(&id) else { continue };
            let mut tx = self.shared.db.begin().await?;
            let is_due = self.is_due(&mut tx, &id).await?;
            let closed = is_due && self.abandon(&mut tx, &id, State::Expired).await?;
            tx.commit().await?;
            drop(hold);
            if closed {
                expired += 1;
                self.ended(&id, State::Expired).await;
            }
        }
        more |= self.delete_doomed(limit).await?;
        Ok(Swept { expired, more })
    }

    async fn is_due(&self, tx: &mut Transaction, id: &str) -> Result<bool, Error> {
        let query = sqlx::query("SELECT 1 FROM uploads WHERE id = $1 AND expires_ms <= $2");
        Ok(query.bind(id).bind(now_ms()).fetch_optional(&mut **tx).await?.is_some())
    }

    /// Closes an open upload and tells of it; one without a title, of which nobody knows, is taken back. `false` when it is
    /// not open any more.
    async fn abandon(&self, tx: &mut Transaction, id: &str, state: State) -> Result<bool, Error> {
        if !rows::close(tx, id, state).await? {
            return Ok(false);
        }
        let row = rows::find_in(tx, id).await?.ok_or_else(|| Error::UnknownUpload(id.to_owned()))?;
        let Some(content_id) = row.content_id else {
            rows::take_back(tx, id).await?;
            return Ok(true);
        };
        let abandoned = UploadAbandoned {
            upload_id: id.to_owned(),
            content_id: content_id.clone(),
            reason: state.as_str().to_owned(),
            owner: row.owner,
        };
        self.shared.outbox.add(tx, &content_id, Payload::UploadAbandoned(abandoned)).await?;
        Ok(true)
    }

    async fn ended(&self, id: &str, state: State) {
        self.shared.slots.forget(id);
        self.shared.metrics.count_end(state.as_str());
        tracing::info!(upload_id = id, state = state.as_str(), "upload ended");
        self.delete_bytes_or_leave(id).await;
    }

    /// Deletes the bytes of an upload that has ended. What fails is left for a later sweep. `false` when not even that could
    /// be noted.
    pub(super) async fn delete_bytes_or_leave(&self, id: &str) -> bool {
        let Err(error) = self.delete_bytes(id).await else { return true };
        tracing::warn!(
            upload_id = id,
            error = &error as &dyn std::error::Error,
            "the bytes of an ended upload stay until a later sweep"
        );
        let put_off = self.put_off(id).await;
        if let Err(error) = &put_off {
            tracing::debug!(upload_id = id, error = error as &dyn std::error::Error, "a deletion is not put off");
        }
        put_off.is_ok()
    }

    async fn put_off(&self, id: &str) -> Result<(), Error> {
        let mut tx = self.shared.db.begin().await?;
        let query = sqlx::query("UPDATE uploads SET delete_from_ms = $1 WHERE id = $2 AND doomed <> 0");
        query.bind(now_ms().saturating_add(FAILED_MS)).bind(id).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }

    /// Throws away what was appended. What fails is left for the next sweep.
    pub(super) async fn discard_or_leave(&self, key: &BlobKey) {
        if let Err(error) = self.shared.blobs.discard(key).await {
            tracing::debug!(%key, error = &error as &dyn std::error::Error, "bytes are discarded later");
        }
    }

    async fn delete_bytes(&self, id: &str) -> Result<(), Error> {
        let marked = sqlx::query_as("SELECT doomed, delete_from_ms FROM uploads WHERE id = $1").bind(id);
        let (doomed, from): (i64, i64) = marked.fetch_optional(self.shared.db.pool()).await?.unwrap_or((NOT_DOOMED, 0));
        if doomed == NOT_DOOMED {
            return Ok(());
        }
        if doomed != CHUNKS_DOOMED {
            let key = source_key(id)?;
            self.shared.blobs.discard(&key).await?;
            self.shared.blobs.delete(&key).await?;
        }
        self.delete_chunks(id).await?;
        let now = now_ms();
        let late = now.saturating_add(LATE_WRITERS_MS);
        let (next, next_from) = match (doomed, from) {
            (ALL_DOOMED, _) => (late, 0),
            // A time in `doomed` would be taken for one of all bytes, and the file stays.
            (CHUNKS_DOOMED, 0) => (CHUNKS_DOOMED, late),
            _ if doomed.max(from) > now => (doomed, from),
            _ => (NOT_DOOMED, 0),
        };
        let mut tx = self.shared.db.begin().await?;
        sqlx::query("UPDATE uploads SET doomed = $1, delete_from_ms = $2 WHERE id = $3 AND doomed = $4")
            .bind(next)
            .bind(next_from)
            .bind(id)
            .bind(doomed)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Whether more are waiting that can be deleted now.
    async fn delete_doomed(&self, limit: u32) -> Result<bool, Error> {
        let query = sqlx::query_scalar(
            "SELECT id FROM uploads WHERE doomed <> 0 AND doomed <= $1 AND delete_from_ms <= $1
             ORDER BY delete_from_ms, doomed LIMIT $2",
        );
        let doomed: Vec<String> = query.bind(now_ms()).bind(i64::from(limit) + 1).fetch_all(self.shared.db.pool()).await?;
        let is_page = doomed.len() > limit as usize;
        let mut goes_on = false;
        for id in doomed.into_iter().take(limit as usize) {
            goes_on |= self.delete_bytes_or_leave(&id).await;
        }
        Ok(is_page && goes_on)
    }

    /// Ends the uploads of a title that is gone for good, and deletes their files.
    async fn title_purged(&self, event_id: &str, content_id: &str) -> Result<(), Error> {
        let ids: Vec<String> = sqlx::query_scalar("SELECT id FROM uploads WHERE content_id = $1")
            .bind(content_id)
            .fetch_all(self.shared.db.pool())
            .await?;
        let mut holds = Vec::with_capacity(ids.len());
        for id in &ids {
            holds.push(self.shared.slots.take_over(id).await?);
        }
        let mut tx = self.shared.db.begin().await?;
        if !Inbox::first_time(&mut tx, event_id).await? {
            return Ok(());
        }
        for id in &ids {
            // The title is gone, so nobody needs to hear that its upload was abandoned.
            rows::close(&mut tx, id, State::Cancelled).await?;
            quota::note(&mut tx, id, 0).await?;
        }
        sqlx::query("UPDATE uploads SET doomed = 1, delete_from_ms = 0 WHERE content_id = $1")
            .bind(content_id)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        drop(holds);
        for id in &ids {
            self.shared.slots.forget(id);
            self.delete_bytes_or_leave(id).await;
        }
        Ok(())
    }
}

#[async_trait]
impl EventHandler for Engine {
    async fn handle(&self, event: Event) -> Result<(), Failure> {
        match &event.payload {
            Some(Payload::ContentPurged(purged)) => Ok(self.title_purged(&event.id, &purged.content_id).await?),
            // Sent to others.
            _ => Ok(()),
        }
    }
}

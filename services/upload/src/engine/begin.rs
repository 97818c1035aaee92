//! Beginning an upload.

use streamgate_core::{Caller, ids::UploadId, time::now_ms};

use crate::{
    Error,
    command::CreateUpload,
    engine::{Engine, Upload, quota, rows, titles::is_passing},
};

/// Life of an upload without a title, in which its creation may be repeated. Longer than any call waits for metadata.
const UNTITLED_MS: i64 = 10 * 60 * 1000;

impl Engine {
    /// Begins an upload and makes its title. The same request id gives the same upload.
    ///
    /// # Errors
    /// `TooLarge`, `TooManyOpen`, `TooManyToday`, `AccountFull` and `NoRoom` for what is not taken,
    /// `IdempotencyConflict` when the request id came with another body, and what metadata refuses.
    pub async fn create(&self, caller: &Caller, command: CreateUpload) -> Result<Upload, Error> {
        let owner = caller.account().ok_or(Error::NoOwner)?.id.to_string();
        let limit = self.shared.config.max_size_bytes;
        if command.wanted_bytes() > limit {
            return Err(Error::TooLarge { limit });
        }
        let (id, is_complete) = self.reserve(&owner, &command).await?;
        if !is_complete {
            self.make_title(caller, &id, &command).await?;
        }
        let row = rows::find(&self.shared.db, id.as_str()).await?;
        let row = row.ok_or_else(|| Error::UnknownUpload(id.to_string()))?;
        self.show(row).await
    }

    /// The upload's id, kept before metadata hears of it: a crash in between is made good by
    /// repeating the call. Also says whether the title is there already.
    async fn reserve(&self, owner: &str, command: &CreateUpload) -> Result<(UploadId, bool), Error> {
        let mut tx = self.shared.db.begin().await?;
        if let Some(request_id) = &command.request_id
            && let Some(row) = rows::find_by_request(&mut tx, owner, request_id).await?
        {
            if row.fingerprint != command.fingerprint() {
                return Err(Error::IdempotencyConflict);
            }
            let id = row.id.parse().map_err(|_| Error::CorruptRow(row.id.clone()))?;
            if row.content_id.is_some() {
                return Ok((id, true));
            }
            // No sweep takes it back while metadata is asked again.
            if rows::renew(&mut tx, &row.id, now_ms().saturating_add(self.untitled_life())).await? {
                tx.commit().await?;
                return Ok((id, false));
            }
            rows::take_back(&mut tx, &row.id).await?;
        }
        let now = now_ms();
        let open = rows::count_open(&mut tx, owner, now).await?;
        if open >= self.shared.config.max_open_uploads {
            return Err(Error::TooManyOpen(open));
        }
        if self.shared.room.free_bytes().is_some_and(|free| free < command.wanted_bytes().max(1)) {
            return Err(Error::NoRoom);
        }
        let id = UploadId::new();
        let bytes = (command.wanted_bytes(), command.size_bytes.unwrap_or(0));
        quota::begin(&mut tx, &self.shared.config, owner, bytes, now).await?;
        let expires = now.saturating_add(self.untitled_life());
        rows::insert(&mut tx, id.as_str(), owner, command, (now, expires)).await?;
        tx.commit().await?;
        self.shared.metrics.created.inc();
        Ok((id, false))
    }

    async fn make_title(&self, caller: &Caller, id: &UploadId, command: &CreateUpload) -> Result<(), Error> {
        let made = self.shared.titles.create(caller, id, &command.title, command.gate.as_ref()).await;
        match made {
            Ok(content_id) => self.keep_title(id, content_id).await,
            // Metadata may have made the title all the same: repeating the call finds it.
            Err(failure) if command.request_id.is_some() && is_passing(failure.kind) => Err(failure.into()),
            Err(failure) => {
                let mut tx = self.shared.db.begin().await?;
                rows::take_back(&mut tx, id.as_str()).await?;
                tx.commit().await?;
                Err(failure.into())
            }
        }
    }

    async fn keep_title(&self, id: &UploadId, content_id: String) -> Result<(), Error> {
        let expires = now_ms().saturating_add(self.shared.config.expire_after());
        let mut tx = self.shared.db.begin().await?;
        let kept = sqlx::query("UPDATE uploads SET content_id = $1, expires_ms = $2 WHERE id = $3 AND content_id IS NULL")
            .bind(content_id)
            .bind(expires)
            .bind(id.as_str())
            .execute(&mut *tx)
            .await?;
        // Otherwise a repeated call was faster: it has been given the same title.
        if kept.rows_affected() == 1 {
            tx.commit().await?;
        }
        Ok(())
    }

    fn untitled_life(&self) -> i64 {
        UNTITLED_MS.min(self.shared.config.expire_after())
    }
}

//! Beginning an upload.

use streamgate_core::{Caller, ids::UploadId, time::now_ms};

use crate::{
    Error,
    command::CreateUpload,
    engine::{Engine, Upload, quota, rows, titles::is_passing},
};

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
            return Ok((id, row.content_id.is_some()));
        }
        let open = rows::count_open(&mut tx, owner).await?;
        if open >= self.shared.config.max_open_uploads {
            return Err(Error::TooManyOpen(open));
        }
        if self.shared.room.free_bytes().is_some_and(|free| free < command.wanted_bytes().max(1)) {
            return Err(Error::NoRoom);
        }
        let id = UploadId::new();
        let now = now_ms();
        let bytes = (command.wanted_bytes(), command.size_bytes.unwrap_or(0));
        quota::begin(&mut tx, &self.shared.config, owner, bytes, now).await?;
        let expires = now.saturating_add(self.shared.config.expire_after());
        rows::insert(&mut tx, id.as_str(), owner, command, (now, expires)).await?;
        tx.commit().await?;
        self.shared.metrics.created.inc();
        Ok((id, false))
    }

    async fn make_title(&self, caller: &Caller, id: &UploadId, command: &CreateUpload) -> Result<(), Error> {
        let made = self.shared.titles.create(caller, id, &command.title, command.gate.as_ref()).await;
        match made {
            Ok(content_id) => {
                let mut tx = self.shared.db.begin().await?;
                sqlx::query("UPDATE uploads SET content_id = $1 WHERE id = $2")
                    .bind(content_id)
                    .bind(id.as_str())
                    .execute(&mut *tx)
                    .await?;
                tx.commit().await?;
                Ok(())
            }
            // Metadata may have made the title all the same: repeating the call finds it.
            Err(failure) if command.request_id.is_some() && is_passing(failure.kind) => Err(failure.into()),
            Err(failure) => {
                // Nobody knows of this upload, so it must not count.
                let mut tx = self.shared.db.begin().await?;
                quota::note(&mut tx, id.as_str(), 0).await?;
                sqlx::query("DELETE FROM uploads WHERE id = $1 AND content_id IS NULL")
                    .bind(id.as_str())
                    .execute(&mut *tx)
                    .await?;
                tx.commit().await?;
                Err(failure.into())
            }
        }
    }
}

//! Completing an upload.

use streamgate_core::{Caller, ids::UploadId};
use streamgate_proto::streamgate::events::v1::{FileUploaded, event::Payload};

use crate::{
    Error,
    engine::{Engine, State, Upload, rows::Row, source_key},
};

impl Engine {
    /// Closes an upload: its file is whole, and transcoding starts. Repeating it gives the same answer,
    /// also after a crash at any point.
    ///
    /// # Errors
    /// `Incomplete`, `EmptyFile` or `Sha256Mismatch` when the bytes are not those that were announced,
    /// `Busy` while a call writes, `Closed` when it was ended.
    pub async fn complete(&self, caller: &Caller, id: &UploadId) -> Result<Upload, Error> {
        let row = self.owned(caller, id).await?;
        if row.state()? == State::Completed {
            return self.show(row).await;
        }
        row.must_be_open()?;
        let mut hold = self.shared.slots.take(id.as_str())?;
        // Read again: another call may have been faster.
        let row = self.reread(id).await?;
        if row.state()? == State::Completed {
            return self.show(row).await;
        }
        row.must_be_open()?;
        let key = source_key(id.as_str())?;
        let length = self.durable_length(&key).await?;
        check_length(&row, length)?;
        hold.hashing.catch_up(&*self.shared.blobs, &key, length).await?;
        let sha256 = hold.hashing.hex();
        if !row.expected_sha256.is_empty() && row.expected_sha256 != sha256 {
            return Err(Error::Sha256Mismatch { actual: sha256 });
        }
        // Sealed first: a crash after this line leaves an open row with a sealed file, which the
        // next call completes.
        self.shared.blobs.seal(&key).await.map_err(|error| match error {
            streamgate_store::Error::Busy(_) => Error::Busy,
            other => other.into(),
        })?;
        self.commit_completion(&row, key.as_str(), length, &sha256).await?;
        drop(hold);
        self.shared.slots.forget(id.as_str());
        self.show(self.reread(id).await?).await
    }

    async fn commit_completion(&self, row: &Row, key: &str, length: u64, sha256: &str) -> Result<(), Error> {
        let content_id = row.content_id.clone().ok_or_else(|| Error::CorruptRow(row.id.clone()))?;
        let mut tx = self.shared.db.begin().await?;
        let closed =
            sqlx::query("UPDATE uploads SET state = 'completed', size_bytes = $1, sha256 = $2 WHERE id = $3 AND state = 'open'")
                .bind(i64::try_from(length).map_err(|_| Error::CorruptRow(row.id.clone()))?)
                .bind(sha256)
                .bind(&row.id)
                .execute(&mut *tx)
                .await?;
        if closed.rows_affected() == 0 {
            // Another replica has closed it; what it wrote is the answer.
            return Ok(());
        }
        let uploaded = FileUploaded {
            upload_id: row.id.clone(),
            content_id: content_id.clone(),
            source_key: key.to_owned(),
            size_bytes: length,
            sha256: sha256.to_owned(),
            filename: row.filename.clone(),
            owner: row.owner.clone(),
        };
        self.shared.outbox.add(&mut tx, &content_id, Payload::FileUploaded(uploaded)).await?;
        tx.commit().await?;
        self.shared.metrics.count_end(State::Completed.as_str());
        tracing::info!(upload_id = row.id, content_id, size_bytes = length, "upload completed");
        Ok(())
    }
}

fn check_length(row: &Row, durable: u64) -> Result<(), Error> {
    match row.announced() {
        Some(announced) if durable != announced => Err(Error::Incomplete { durable, announced }),
        _ if durable == 0 => Err(Error::EmptyFile),
        _ => Ok(()),
    }
}

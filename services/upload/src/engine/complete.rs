//! Completing an upload.

use streamgate_core::{Caller, ids::UploadId, time::now_ms};
use streamgate_proto::streamgate::events::v1::{FileUploaded, event::Payload};
use streamgate_store::BlobKey;

use crate::{
    Error,
    command::Chunking,
    engine::{
        Engine, State, Upload,
        end::{CHUNKS_DOOMED, LATE_WRITERS_MS},
        quota,
        rows::Row,
        slots::Hold,
        source_key,
    },
};

/// What was sealed.
struct Sealed {
    length: u64,
    /// Lower-case hex.
    sha256: String,
}

impl Engine {
    /// Closes an upload: its file is whole, and transcoding starts. Repeating it gives the same answer,
    /// also after a crash at any point.
    ///
    /// # Errors
    /// `Gap`, `Incomplete`, `EmptyFile` or `Sha256Mismatch` when the bytes are not those that were
    /// announced, `Busy` while a call writes, `Closed` when it was ended.
    pub async fn complete(&self, caller: &Caller, id: &UploadId, sha256: &str) -> Result<Upload, Error> {
        let row = self.owned(caller, id).await?;
        if row.state()? == State::Completed {
            return self.completed(row, sha256).await;
        }
        row.must_be_open()?;
        let hold = self.shared.slots.take(id.as_str())?;
        let (engine, id, sha256) = (self.clone(), id.clone(), sha256.to_owned());
        // A long file takes longer than many a caller waits. It goes on all the same, and the next call finds it done.
        let completing = async move { engine.complete_held(&id, &sha256, hold).await };
        tokio::spawn(tracing::Instrument::in_current_span(completing)).await?
    }

    /// The answer for an upload that is completed already.
    async fn completed(&self, row: Row, sha256: &str) -> Result<Upload, Error> {
        if !sha256.is_empty() && row.sha256 != sha256 {
            return Err(Error::Sha256Mismatch { actual: row.sha256 });
        }
        self.show(row).await
    }

    async fn complete_held(&self, id: &UploadId, expected: &str, mut hold: Hold) -> Result<Upload, Error> {
        // Read again: another call may have been faster.
        let row = self.reread(id).await?;
        if row.state()? == State::Completed {
            return self.completed(row, expected).await;
        }
        row.must_be_open()?;
        let key = source_key(id.as_str())?;
        let stop = hold.stop.clone();
        let sealed = tokio::select! {
            sealed = self.while_alive(&row.id, &stop, self.seal(&row, &key, expected, &mut hold)) => sealed,
            () = stop.cancelled() => Err(Error::EndedMeanwhile),
        };
        let sealed = match sealed {
            Ok(sealed) => sealed,
            Err(error) => return self.overtaken(id, expected, error).await,
        };
        if !self.commit_completion(&row, key.as_str(), &sealed).await? {
            return self.overtaken(id, expected, Error::EndedMeanwhile).await;
        }
        drop(hold);
        self.shared.slots.forget(id.as_str());
        if row.chunk_count() > 0 {
            self.delete_bytes_or_leave(id.as_str()).await;
        }
        self.show(self.reread(id).await?).await
    }

    /// Makes the file of an upload whole and unchangeable.
    async fn seal(&self, row: &Row, key: &BlobKey, expected: &str, hold: &mut Hold) -> Result<Sealed, Error> {
        let id = row.id.parse().map_err(|_| Error::CorruptRow(row.id.clone()))?;
        let length = match row.chunking()?.filter(|way| *way != Chunking::Stream) {
            Some(chunking) => {
                let chunks = self.freeze(&id, chunking).await?;
                self.join(key, &chunks, hold).await?
            }
            None => self.durable_length(key).await?,
        };
        let checked = self.check_bytes(row, key, length, expected, hold).await?;
        // Sealed first: a crash after this line leaves an open row with a sealed file, which the
        // next call completes.
        let info = self.shared.blobs.seal(key).await.map_err(|error| match error {
            streamgate_store::Error::Busy(_) => Error::Busy,
            other => other.into(),
        })?;
        if info.size_bytes == length {
            return Ok(checked);
        }
        // Until it was sealed, a call on another replica has added to it.
        self.check_bytes(row, key, info.size_bytes, expected, hold).await
    }

    /// Fails unless the first `length` bytes are the file that was announced.
    async fn check_bytes(&self, row: &Row, key: &BlobKey, length: u64, expected: &str, hold: &mut Hold) -> Result<Sealed, Error> {
        check_length(row, length)?;
        hold.hashing.catch_up(&*self.shared.blobs, key, length).await?;
        let sha256 = hold.hashing.hex();
        for expected in [row.expected_sha256.as_str(), expected] {
            if !expected.is_empty() && expected != sha256 {
                return Err(Error::Sha256Mismatch { actual: sha256 });
            }
        }
        Ok(Sealed { length, sha256 })
    }

    /// The answer when a completion failed: on another replica the upload may have been completed, or ended.
    async fn overtaken(&self, id: &UploadId, expected: &str, error: Error) -> Result<Upload, Error> {
        let row = self.reread(id).await?;
        match row.state()? {
            State::Completed => self.completed(row, expected).await,
            State::Open => Err(error),
            ended => {
                // Whoever ended it could not see what this call has put together since.
                self.delete_bytes_or_leave(id.as_str()).await;
                Err(Error::Closed(ended.as_str()))
            }
        }
    }

    /// `false` when another replica has closed it before.
    async fn commit_completion(&self, row: &Row, key: &str, sealed: &Sealed) -> Result<bool, Error> {
        let Sealed { length, sha256 } = sealed;
        let content_id = row.content_id.clone().ok_or_else(|| Error::CorruptRow(row.id.clone()))?;
        // Without chunks that count there may be some that were given up between their last byte and their row.
        let look_from = if row.chunk_count() > 0 { 0 } else { now_ms().saturating_add(LATE_WRITERS_MS) };
        let mut tx = self.shared.db.begin().await?;
        let closed = sqlx::query(
            "UPDATE uploads SET state = 'completed', size_bytes = $1, received_bytes = $1, sha256 = $2, doomed = $3,
                                delete_from_ms = $4
                         WHERE id = $5 AND state = 'open'",
        )
        .bind(i64::try_from(*length).map_err(|_| Error::CorruptRow(row.id.clone()))?)
        .bind(sha256)
        .bind(CHUNKS_DOOMED)
        .bind(look_from)
        .bind(&row.id)
        .execute(&mut *tx)
        .await?;
        if closed.rows_affected() == 0 {
            return Ok(false);
        }
        quota::note(&mut tx, &row.id, *length).await?;
        let uploaded = FileUploaded {
            upload_id: row.id.clone(),
            content_id: content_id.clone(),
            source_key: key.to_owned(),
            size_bytes: *length,
            sha256: sha256.clone(),
            filename: row.filename.clone(),
            owner: row.owner.clone(),
        };
        self.shared.outbox.add(&mut tx, &content_id, Payload::FileUploaded(uploaded)).await?;
        tx.commit().await?;
        self.shared.metrics.count_end(State::Completed.as_str());
        tracing::info!(upload_id = row.id, content_id, size_bytes = length, "upload completed");
        Ok(true)
    }
}

fn check_length(row: &Row, durable: u64) -> Result<(), Error> {
    match row.announced() {
        Some(announced) if durable != announced => Err(Error::Incomplete { durable, announced }),
        _ if durable == 0 => Err(Error::EmptyFile),
        _ => Ok(()),
    }
}

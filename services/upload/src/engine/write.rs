//! Taking bytes.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use streamgate_core::{Caller, ids::UploadId, time::now_ms};
use streamgate_store::{BlobKey, ByteStream};

use crate::{
    Error,
    command::Chunking,
    engine::{
        Engine, Upload,
        allowance::Allowance,
        broke::Broke,
        intake::{self, Limits},
        quota,
        rows::{self, Row},
        slots::Hold,
        source_key,
    },
};

/// What has come, as the one range that it is.
#[allow(clippy::single_range_in_vec_init, reason = "a list of ranges with one in it")]
pub(super) fn ranges(length: u64) -> Vec<Range<u64>> {
    if length == 0 { Vec::new() } else { vec![0..length] }
}

impl Engine {
    /// Appends a client's bytes, and returns when all of them are durable. Runs to its end even when
    /// the caller stops waiting, so what has come is kept and counted.
    ///
    /// # Errors
    /// `WrongOffset` unless `offset` is the durable length, `Busy` while another call writes, `Closed`,
    /// `TooLarge`; `Broken` or `Idle` when the client went away: what came until then stays.
    pub async fn write(&self, caller: &Caller, id: &UploadId, offset: u64, body: ByteStream) -> Result<Upload, Error> {
        self.owned(caller, id).await?.must_be_open()?;
        let hold = self.shared.slots.take(id.as_str())?;
        let (engine, id) = (self.clone(), id.clone());
        let writing = async move {
            let active = Active::begin(&engine);
            let written = engine.write_held(&id, offset, body, hold).await;
            drop(active);
            written.inspect_err(|error| engine.shared.metrics.count_failed_write(error.reason()))
        };
        tokio::spawn(tracing::Instrument::in_current_span(writing)).await?
    }

    async fn write_held(&self, id: &UploadId, offset: u64, body: ByteStream, mut hold: Hold) -> Result<Upload, Error> {
        // Read again: it may have been closed before the slot was taken.
        let row = self.reread(id).await?;
        row.must_be_open()?;
        self.streams(&row).await?;
        let key = source_key(id.as_str())?;
        let durable = self.durable_length(&key).await?;
        if offset != durable {
            return Err(Error::WrongOffset { durable });
        }
        hold.hashing.catch_up(&*self.shared.blobs, &key, durable).await?;
        let has_quota = self.shared.config.account_bytes > 0 && row.announced().is_none();
        let allowance = has_quota.then(|| Allowance::new(self.clone(), row.id.clone()));
        let asking = allowance.as_ref().map(Allowance::asking);
        let stop = hold.stop.clone();
        let limits = Limits {
            offset,
            limit: self.limit_of(&row, offset).await?,
            exact: None,
            sha256: None,
            idle: self.shared.config.write_idle_timeout(),
            stop: stop.clone(),
            room: Arc::clone(&self.shared.room),
            allowance,
        };
        let appended = self.while_alive(&row.id, &stop, self.append(&key, body, limits, &mut hold)).await;
        if let Some(asking) = asking {
            // Otherwise what is held ahead could come after what is noted now.
            drop(asking.lock().await);
        }
        // What was written counts, however the stream ended.
        let length = self.durable_length(&key).await?;
        hold.hashing.forget_beyond(length);
        self.shared.metrics.received_bytes.inc_by(length.saturating_sub(offset));
        if !self.touch(&row, length).await? {
            // It was ended on another replica, which could not wait for this call: what came since then goes too.
            self.discard_or_leave(&key).await;
            return Err(Error::EndedMeanwhile);
        }
        appended?;
        self.reread(id).await?.into_upload(length, ranges(length))
    }

    /// Sees that bytes may come one after the other, and keeps chunks out from now on.
    async fn streams(&self, row: &Row) -> Result<(), Error> {
        match row.chunking()? {
            Some(Chunking::Stream) => return Ok(()),
            Some(other) => return Err(Error::OtherWay(other.words())),
            None => {}
        }
        let mut tx = self.shared.db.begin().await?;
        let set = sqlx::query("UPDATE uploads SET chunking = 'stream' WHERE id = $1 AND chunking IN ('', 'stream')");
        if set.bind(&row.id).execute(&mut *tx).await?.rows_affected() == 0 {
            return Err(Error::OtherWay("in chunks"));
        }
        Ok(tx.commit().await?)
    }

    /// Largest length of the file, as far as the account has room for it.
    async fn limit_of(&self, row: &Row, offset: u64) -> Result<u64, Error> {
        if let Some(announced) = row.announced() {
            return Ok(announced);
        }
        let config = &self.shared.config;
        let left = quota::limit(&self.shared.db, config, &row.owner, (row.held(), offset)).await?;
        Ok(left.unwrap_or(u64::MAX).min(config.max_size_bytes))
    }

    async fn append(&self, key: &BlobKey, body: ByteStream, limits: Limits, hold: &mut Hold) -> Result<(), Error> {
        let offset = limits.offset;
        let hashing = Arc::new(Mutex::new(std::mem::take(&mut *hold.hashing)));
        let body = intake::watch(body, limits, Arc::clone(&hashing));
        let appended = self.shared.blobs.append(key, offset, body).await;
        if matches!(appended, Ok(_) | Err(streamgate_store::Error::Stream(_))) {
            *hold.hashing = hashing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        }
        // Otherwise bytes were hashed that the disk did not take: the next call reads all again.
        match appended {
            Ok(_) => Ok(()),
            Err(streamgate_store::Error::Stream(error)) => Err(Broke::of(&error).into()),
            Err(streamgate_store::Error::Busy(_)) => Err(Error::Busy),
            Err(streamgate_store::Error::WrongOffset { durable }) => Err(Error::WrongOffset { durable }),
            // A completion that a crash cut short has sealed it, or one that found other bytes than were announced.
            Err(streamgate_store::Error::AlreadyExists(_)) => Err(Error::Whole),
            Err(error) => Err(error.into()),
        }
    }

    /// Notes what has come, and sets the expiry anew. `false` when the upload is not open any more: then it holds nothing.
    async fn touch(&self, row: &Row, length: u64) -> Result<bool, Error> {
        let mut tx = self.shared.db.begin().await?;
        let query = sqlx::query("UPDATE uploads SET expires_ms = $1, received_bytes = $2 WHERE id = $3 AND state = 'open'");
        let touched = query
            .bind(now_ms().saturating_add(self.shared.config.expire_after()))
            .bind(i64::try_from(length).unwrap_or(i64::MAX))
            .bind(&row.id)
            .execute(&mut *tx)
            .await?;
        if touched.rows_affected() == 0 {
            return Ok(false);
        }
        if row.announced().is_none() {
            quota::note(&mut tx, &row.id, length).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    pub(super) async fn reread(&self, id: &UploadId) -> Result<Row, Error> {
        rows::find(&self.shared.db, id.as_str()).await?.ok_or_else(|| Error::UnknownUpload(id.to_string()))
    }
}

/// Counts a call that is writing.
struct Active<'a>(&'a Engine);

impl<'a> Active<'a> {
    fn begin(engine: &'a Engine) -> Self {
        engine.shared.metrics.active_writes.inc();
        Self(engine)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.shared.metrics.active_writes.dec();
    }
}

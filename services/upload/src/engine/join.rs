//! Putting the chunks of an upload together, in order.

use std::sync::{Arc, Mutex, PoisonError};

use futures::TryStreamExt as _;
use streamgate_core::ids::UploadId;
use streamgate_store::BlobKey;

use crate::{
    Error,
    command::Chunking,
    engine::{
        Engine,
        chunks::{self, ChunkRow},
        hashing::Hashing,
        rows::{self, Row},
        slots::Hold,
    },
};

impl Engine {
    /// Sees that no chunk is missing, and lets no more come. From here on only completing or ending goes on.
    pub(super) async fn freeze(&self, id: &UploadId, chunking: Chunking) -> Result<Vec<ChunkRow>, Error> {
        let mut tx = self.shared.db.begin().await?;
        let row = rows::find_in(&mut tx, id.as_str()).await?.ok_or_else(|| Error::UnknownUpload(id.to_string()))?;
        row.must_be_open()?;
        let there = chunks::list(&mut tx, id.as_str()).await?;
        check(&row, chunking, &there)?;
        sqlx::query("UPDATE uploads SET joining = 1 WHERE id = $1").bind(id.as_str()).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(there)
    }

    /// Appends what is not yet in `key`, and hashes it on the way. Cut short anywhere, it goes on from the durable length.
    pub(super) async fn join(&self, key: &BlobKey, chunks: &[ChunkRow], hold: &mut Hold) -> Result<u64, Error> {
        let mut durable = self.durable_length(key).await?;
        hold.hashing.catch_up(&*self.shared.blobs, key, durable).await?;
        let mut start = 0;
        for chunk in chunks {
            let end = start + chunk.size();
            if end > durable {
                let rest = durable.saturating_sub(start);
                self.append_chunk(key, durable, chunk, rest, hold).await?;
                durable = end;
            }
            start = end;
        }
        Ok(durable)
    }

    async fn append_chunk(&self, key: &BlobKey, at: u64, chunk: &ChunkRow, skip: u64, hold: &mut Hold) -> Result<(), Error> {
        let blob = BlobKey::new(chunk.blob_key.as_str()).map_err(streamgate_store::Error::from)?;
        let body = self.shared.blobs.read(&blob, Some(skip..chunk.size())).await?;
        let hashing: Arc<Mutex<Hashing>> = Arc::new(Mutex::new(std::mem::take(&mut *hold.hashing)));
        let hashed = Arc::clone(&hashing);
        let body = body.inspect_ok(move |bytes| hashed.lock().unwrap_or_else(PoisonError::into_inner).update(bytes));
        match self.shared.blobs.append(key, at, Box::pin(body)).await {
            Ok(_) => {}
            Err(streamgate_store::Error::Busy(_) | streamgate_store::Error::WrongOffset { .. }) => return Err(Error::Busy),
            // Nobody sends these bytes: it is the store that could not read them.
            Err(streamgate_store::Error::Stream(error)) => return Err(streamgate_store::Error::reading(error).into()),
            Err(error) => return Err(error.into()),
        }
        *hold.hashing = hashing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Its bytes are in the file now; holding both would take twice the room. What stays is deleted with the rest.
        let _ = self.shared.blobs.delete(&blob).await;
        Ok(())
    }
}

fn check(row: &Row, chunking: Chunking, chunks: &[ChunkRow]) -> Result<(), Error> {
    let (durable, next) = chunks::without_gap(chunking, chunks);
    if let Some(last) = chunks.last()
        && last.place() >= next
    {
        return Err(Error::Gap { what: chunking.unit(), place: next });
    }
    match row.announced() {
        Some(announced) if durable != announced => Err(Error::Incomplete { durable, announced }),
        _ if durable == 0 => Err(Error::EmptyFile),
        _ => Ok(()),
    }
}

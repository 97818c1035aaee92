//! Chunks that come in any order, side by side, to any replica.
//!
//! Each is a blob of its own, under a name that no other try has, until its row is committed: a chunk counts when its
//! row is there, and what a broken try leaves goes when the upload has ended, however that ends.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use sqlx::AnyConnection;
use streamgate_core::{
    Caller,
    ids::{EventId, UploadId},
    time::now_ms,
};
use streamgate_store::{BlobKey, ByteStream};
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    command::{ChunkHead, Chunking},
    engine::{
        Engine,
        broke::Broke,
        hashing::Hashing,
        intake::{self, Limits},
        quota,
        rows::{self, Row},
    },
};

/// A chunk that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// How its place is said.
    pub chunking: Chunking,
    /// Its index, or the offset of its first byte.
    pub place: u64,
    /// Its size.
    pub size_bytes: u64,
    /// Lower-case hex.
    pub sha256: String,
    /// Durable bytes of the whole upload.
    pub received_bytes: u64,
    /// Chunks of the whole upload.
    pub chunk_count: u32,
}

/// A stored chunk.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct ChunkRow {
    place: i64,
    size_bytes: i64,
    pub(super) sha256: String,
    pub(super) blob_key: String,
}

impl ChunkRow {
    pub(super) fn place(&self) -> u64 {
        u64::try_from(self.place).unwrap_or(0)
    }

    pub(super) fn size(&self) -> u64 {
        u64::try_from(self.size_bytes).unwrap_or(0)
    }
}

impl Engine {
    /// Takes a chunk, and returns when it is durable. The same chunk again gives the same answer. Runs to its end even when the
    /// caller stops waiting, so no bytes stay that do not count.
    ///
    /// # Errors
    /// `ChunkDiffers` when another chunk is there or overlaps it, `TooManyChunks`, `TooLarge`, `AccountFull` or `NoRoom` for
    /// what is not taken, `OtherWay` when the upload's bytes come in another way, `ChunkMismatch` when the checksum differs,
    /// `Closed`, `Busy` while the upload is being completed, `Broken` or `Idle` when the client went away: then nothing is kept.
    pub async fn chunk(&self, caller: &Caller, id: &UploadId, head: ChunkHead, body: ByteStream) -> Result<Chunk, Error> {
        let row = self.owned(caller, id).await?;
        check_open(&row, head.chunking)?;
        match find(&mut *self.shared.db.pool().acquire().await?, &row.id, head.place).await? {
            // Its checksum says what its bytes are, so they need not be read.
            Some(there) if !head.sha256.is_empty() => return same(&row, &head, there),
            Some(_) => {}
            None => self.check_room(&row, &head).await?,
        }
        let (engine, id, limit) = (self.clone(), id.clone(), self.limit(&row, &head));
        let storing = async move {
            let stored = engine.store_chunk(&id, &head, limit, body).await;
            stored.inspect_err(|error| engine.shared.metrics.count_failed_write(error.reason()))
        };
        tokio::spawn(tracing::Instrument::in_current_span(storing)).await?
    }

    /// Whether there is room for a chunk, before its bytes are read.
    async fn check_room(&self, row: &Row, head: &ChunkHead) -> Result<(), Error> {
        let size = head.size_bytes.unwrap_or(1);
        if row.announced().is_none() {
            quota::check_left(&self.shared.db, &self.shared.config, &row.owner, size).await?;
        }
        if self.shared.room.free_bytes().is_some_and(|free| free < size) { Err(Error::NoRoom) } else { Ok(()) }
    }

    /// How large a chunk may be.
    fn limit(&self, row: &Row, head: &ChunkHead) -> u64 {
        let config = &self.shared.config;
        let before = if head.chunking == Chunking::Offset { head.place } else { 0 };
        config.max_chunk_bytes.min(row.announced().unwrap_or(config.max_size_bytes).saturating_sub(before))
    }

    async fn store_chunk(&self, id: &UploadId, head: &ChunkHead, limit: u64, body: ByteStream) -> Result<Chunk, Error> {
        if head.size_bytes.is_some_and(|size| size > limit) {
            return Err(self.too_large(limit));
        }
        let hashing = Arc::new(Mutex::new(Hashing::default()));
        let limits = Limits {
            offset: 0,
            limit,
            exact: head.size_bytes,
            sha256: Some(head.sha256.clone()).filter(|sha256| !sha256.is_empty()),
            idle: self.shared.config.write_idle_timeout(),
            stop: CancellationToken::new(),
            room: Arc::clone(&self.shared.room),
            // Of a chunk's size, the quota is asked when it is committed.
            allowance: None,
        };
        // No other try has this name, so a try that was cut short is never in the way.
        let key = chunks_prefix(id.as_str())?.join(EventId::new().as_str()).map_err(streamgate_store::Error::from)?;
        let put = self.shared.blobs.put(&key, intake::watch(body, limits, Arc::clone(&hashing))).await;
        let size = match put {
            Ok(info) => info.size_bytes,
            Err(streamgate_store::Error::Stream(error)) => return Err(self.broke(Broke::of(&error))),
            Err(error) => return Err(error.into()),
        };
        if size == 0 {
            let _ = self.shared.blobs.delete(&key).await;
            return Err(Error::EmptyChunk);
        }
        self.shared.metrics.received_bytes.inc_by(size);
        let sha256 = hashing.lock().unwrap_or_else(PoisonError::into_inner).hex();
        self.commit_chunk(id, head, &key, size, &sha256).await
    }

    /// Commits a chunk whose blob is `key`, and deletes the blob when it does not count.
    async fn commit_chunk(
        &self,
        id: &UploadId,
        head: &ChunkHead,
        key: &BlobKey,
        size: u64,
        sha256: &str,
    ) -> Result<Chunk, Error> {
        let begun = self.shared.db.begin().await;
        let added = match begun {
            Ok(mut tx) => match self.add_chunk(&mut tx, id, head, key, size, sha256).await {
                Ok((chunk, true)) => {
                    // When this fails the chunk may count all the same, so its blob stays.
                    tx.commit().await?;
                    return Ok(chunk);
                }
                added => added.map(|(chunk, _)| chunk),
            },
            Err(error) => Err(error.into()),
        };
        // What stays goes with the upload's other bytes.
        let _ = self.shared.blobs.delete(key).await;
        added
    }

    /// Adds a chunk; `false` beside an equal one that was there.
    async fn add_chunk(
        &self,
        tx: &mut AnyConnection,
        id: &UploadId,
        head: &ChunkHead,
        key: &BlobKey,
        size: u64,
        sha256: &str,
    ) -> Result<(Chunk, bool), Error> {
        let config = &self.shared.config;
        let row = rows::find_in(tx, id.as_str()).await?.ok_or_else(|| Error::UnknownUpload(id.to_string()))?;
        check_open(&row, head.chunking)?;
        if let Some(there) = find(tx, &row.id, head.place).await? {
            if there.size() == size && there.sha256 == sha256 {
                return Ok((answer(&row, head, size, there.sha256), false));
            }
            return Err(Error::ChunkDiffers);
        }
        if head.chunking == Chunking::Offset && overlaps(tx, &row.id, head.place, size).await? {
            return Err(Error::ChunkDiffers);
        }
        if row.chunk_count() >= config.max_chunks {
            return Err(Error::TooManyChunks(config.max_chunks));
        }
        let received = row.received().saturating_add(size);
        if received > row.announced().unwrap_or(config.max_size_bytes) {
            return Err(Error::TooLarge { limit: row.announced().unwrap_or(config.max_size_bytes) });
        }
        if row.announced().is_none() {
            quota::hold(tx, config, &row.id, received).await?;
        }
        insert(tx, &row.id, (head.place, size), sha256, key).await?;
        rows::count_chunk(tx, &row.id, head.chunking, received, now_ms().saturating_add(config.expire_after())).await?;
        let chunk_count = row.chunk_count() + 1;
        Ok((Chunk { received_bytes: received, chunk_count, ..answer(&row, head, size, sha256.to_owned()) }, true))
    }

    fn broke(&self, broke: Broke) -> Error {
        match broke {
            Broke::TooLarge { limit } => self.too_large(limit),
            other => other.into(),
        }
    }

    fn too_large(&self, limit: u64) -> Error {
        if limit == self.shared.config.max_chunk_bytes { Error::ChunkTooLarge { limit } } else { Error::TooLarge { limit } }
    }

    /// Deletes the blobs and rows of an upload's chunks.
    pub(super) async fn delete_chunks(&self, id: &str) -> Result<(), Error> {
        self.shared.blobs.delete_prefix(&chunks_prefix(id)?).await?;
        let mut tx = self.shared.db.begin().await?;
        sqlx::query("DELETE FROM upload_chunks WHERE upload_id = $1").bind(id).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }
}

fn check_open(row: &Row, chunking: Chunking) -> Result<(), Error> {
    row.must_be_open()?;
    match row.chunking()? {
        Some(other) if other != chunking => Err(Error::OtherWay(other.words())),
        // What was put together can't be changed any more.
        _ if row.is_joining() => Err(Error::Busy),
        _ => Ok(()),
    }
}

/// The answer to a chunk that is there already.
fn same(row: &Row, head: &ChunkHead, there: ChunkRow) -> Result<Chunk, Error> {
    if head.sha256 != there.sha256 || head.size_bytes.is_some_and(|size| size != there.size()) {
        return Err(Error::ChunkDiffers);
    }
    Ok(answer(row, head, there.size(), there.sha256))
}

fn answer(row: &Row, head: &ChunkHead, size_bytes: u64, sha256: String) -> Chunk {
    Chunk {
        chunking: head.chunking,
        place: head.place,
        size_bytes,
        sha256,
        received_bytes: row.received(),
        chunk_count: row.chunk_count(),
    }
}

/// Below this lie the chunks of an upload.
fn chunks_prefix(id: &str) -> Result<BlobKey, Error> {
    BlobKey::new(format!("uploads/{id}")).map_err(|bad| Error::Store(bad.into()))
}

/// All chunks of an upload, in order.
pub(super) async fn list(connection: &mut AnyConnection, id: &str) -> Result<Vec<ChunkRow>, Error> {
    let query =
        sqlx::query_as("SELECT place, size_bytes, sha256, blob_key FROM upload_chunks WHERE upload_id = $1 ORDER BY place");
    Ok(query.bind(id).fetch_all(connection).await?)
}

async fn find(connection: &mut AnyConnection, id: &str, place: u64) -> Result<Option<ChunkRow>, Error> {
    let query =
        sqlx::query_as("SELECT place, size_bytes, sha256, blob_key FROM upload_chunks WHERE upload_id = $1 AND place = $2");
    Ok(query.bind(id).bind(signed(place)).fetch_optional(connection).await?)
}

async fn overlaps(tx: &mut AnyConnection, id: &str, start: u64, size: u64) -> Result<bool, Error> {
    let query =
        sqlx::query("SELECT 1 FROM upload_chunks WHERE upload_id = $1 AND place < $2 AND place + size_bytes > $3 LIMIT 1");
    Ok(query.bind(id).bind(signed(start.saturating_add(size))).bind(signed(start)).fetch_optional(tx).await?.is_some())
}

async fn insert(tx: &mut AnyConnection, id: &str, (place, size): (u64, u64), sha256: &str, key: &BlobKey) -> Result<(), Error> {
    sqlx::query("INSERT INTO upload_chunks (upload_id, place, size_bytes, sha256, blob_key) VALUES ($1, $2, $3, $4, $5)")
        .bind(id)
        .bind(signed(place))
        .bind(signed(size))
        .bind(sha256)
        .bind(key.as_str())
        .execute(tx)
        .await?;
    Ok(())
}

/// What has come: bytes, or indexes when the chunks are numbered so.
pub(super) fn ranges(chunking: Chunking, chunks: &[ChunkRow]) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for chunk in chunks {
        let length = if chunking == Chunking::Index { 1 } else { chunk.size() };
        let (start, end) = (chunk.place(), chunk.place().saturating_add(length));
        match ranges.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => ranges.push(start..end),
        }
    }
    ranges
}

/// Bytes of the chunks that follow one another from the beginning, and the first place where none is.
pub(super) fn without_gap(chunking: Chunking, chunks: &[ChunkRow]) -> (u64, u64) {
    let (mut bytes, mut next) = (0_u64, 0_u64);
    for chunk in chunks {
        if chunk.place() != next {
            break;
        }
        bytes = bytes.saturating_add(chunk.size());
        next = if chunking == Chunking::Index { next + 1 } else { bytes };
    }
    (bytes, next)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(of: &[(i64, i64)]) -> Vec<ChunkRow> {
        let row = |&(place, size_bytes)| ChunkRow { place, size_bytes, sha256: String::new(), blob_key: String::new() };
        of.iter().map(row).collect()
    }

    #[test]
    fn ranges_join_where_chunks_touch() {
        let by_offset = chunks(&[(0, 10), (10, 5), (20, 1), (21, 9)]);
        assert_eq!(ranges(Chunking::Offset, &by_offset), [0..15, 20..30]);
        assert_eq!(ranges(Chunking::Index, &chunks(&[(0, 9), (1, 9), (4, 9)])), [0..2, 4..5]);
        assert!(ranges(Chunking::Index, &[]).is_empty());
    }

    #[test]
    fn the_first_gap_is_found() {
        assert_eq!(without_gap(Chunking::Offset, &chunks(&[(0, 10), (10, 5), (20, 1)])), (15, 15));
        assert_eq!(without_gap(Chunking::Index, &chunks(&[(0, 7), (1, 2), (3, 1)])), (9, 2));
        assert_eq!(without_gap(Chunking::Offset, &chunks(&[(1, 10)])), (0, 0));
    }
}

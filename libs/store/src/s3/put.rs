//! Stores whole bodies: small ones as one object, others in pieces.

use std::io;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{
    S3Blobs,
    bucket::{Bucket, path},
    pieces::{Piece, Pieces, piece_path},
};
use crate::{
    blob::{BlobInfo, ByteStream, Gathered},
    error::{Error, Result},
    key::BlobKey,
};

/// Bodies up to this size are one object; of longer ones, this is a piece.
const WHOLE_BYTES: usize = 8 * 1024 * 1024;

impl S3Blobs {
    pub(super) async fn put_body(&self, key: &BlobKey, mut body: ByteStream) -> Result<BlobInfo> {
        let mut first = Gathered::default();
        while let Some(chunk) = body.try_next().await.map_err(Error::sending)? {
            first.push(&chunk);
            if first.length() >= WHOLE_BYTES {
                if self.is_sealed(key).await? {
                    return Err(Error::AlreadyExists(key.clone()));
                }
                return self.put_in_pieces(key, first, body).await;
            }
        }
        self.put_whole(key, first).await
    }

    async fn put_whole(&self, key: &BlobKey, mut body: Gathered) -> Result<BlobInfo> {
        let (object, list) = (path("objects", key)?, path("lists", key)?);
        let taken = || Error::AlreadyExists(key.clone());
        if self.bucket.meta(&list).await?.is_some() {
            return Err(taken());
        }
        let size_bytes = body.length() as u64;
        if !self.bucket.create(&object, body.take().into_iter().collect()).await? {
            return Err(taken());
        }
        // Two names, so that a large body may have taken the other one meanwhile: see `claim`.
        if self.bucket.meta(&list).await?.is_some() {
            self.bucket.remove_all(vec![object]).await?;
            return Err(taken());
        }
        Ok(BlobInfo { size_bytes })
    }

    /// Stores a body of which `first` has come already. The work is no part of this call: a caller that gives up
    /// ends it, but waits for nothing, and the pieces must go.
    async fn put_in_pieces(&self, key: &BlobKey, first: Gathered, body: ByteStream) -> Result<BlobInfo> {
        let given_up = CancellationToken::new();
        let _with_this_call = given_up.clone().drop_guard();
        let large = Large { bucket: self.bucket.clone(), key: key.clone(), pieces: Pieces::default(), given_up };
        let storing = tokio::spawn(large.store(first, body).in_current_span());
        storing.await.map_err(Error::unavailable)?
    }
}

/// A body on its way into pieces.
struct Large {
    bucket: Bucket,
    key: BlobKey,
    pieces: Pieces,
    given_up: CancellationToken,
}

impl Large {
    async fn store(mut self, first: Gathered, body: ByteStream) -> Result<BlobInfo> {
        let written = self.write(first, body).await;
        let is_claimed = match written {
            // An answer that is lost may have been a yes: then the pieces are needed.
            Ok(()) => self.bucket.claim(&self.key, &self.pieces).await?,
            Err(_) => false,
        };
        if is_claimed {
            return Ok(BlobInfo { size_bytes: self.pieces.length() });
        }
        for piece in &self.pieces.list {
            self.bucket.drop_piece(&self.key, piece).await;
        }
        Err(written.err().unwrap_or(Error::AlreadyExists(self.key)))
    }

    async fn write(&mut self, mut pending: Gathered, mut body: ByteStream) -> Result<()> {
        let broke_off = || Error::Stream(io::ErrorKind::UnexpectedEof.into());
        loop {
            if pending.length() >= WHOLE_BYTES {
                self.write_piece(pending.take()).await?;
            }
            let next = tokio::select! {
                next = body.next() => next,
                () = self.given_up.cancelled() => return Err(broke_off()),
            };
            match next {
                Some(Ok(chunk)) => pending.push(&chunk),
                Some(Err(broken)) => return Err(Error::sending(broken)),
                None => break,
            }
        }
        if pending.length() > 0 {
            self.write_piece(pending.take()).await?;
        }
        if self.given_up.is_cancelled() { Err(broke_off()) } else { Ok(()) }
    }

    async fn write_piece(&mut self, body: Vec<Bytes>) -> Result<()> {
        let piece = Piece::new(body.iter().map(Bytes::len).sum());
        // Listed first: one that failed may be there all the same.
        self.pieces.list.push(piece.clone());
        self.bucket.write_piece(&self.key, &piece, body).await
    }
}

impl Bucket {
    pub(super) async fn write_piece(&self, key: &BlobKey, piece: &Piece, body: Vec<Bytes>) -> Result<()> {
        let path = piece_path(key, piece)?;
        if self.create(&path, body.into_iter().collect()).await? {
            return Ok(());
        }
        // Only a retry of this very request can have taken a random name.
        match self.meta(&path).await? {
            Some(meta) if meta.size == piece.size_bytes => Ok(()),
            _ => Err(Error::Corrupt(format!("a piece of the blob {key} was not stored whole"))),
        }
    }

    /// Deletes a piece that no list names. One that stays costs room until the blob goes.
    pub(super) async fn drop_piece(&self, key: &BlobKey, piece: &Piece) {
        let Ok(path) = piece_path(key, piece) else { return };
        if let Err(error) = self.remove_all(vec![path]).await {
            tracing::debug!(%key, error = &error as &dyn std::error::Error, "a piece that nobody needs stays");
        }
    }

    /// Makes the pieces a blob. `false` when the key is taken.
    pub(super) async fn claim(&self, key: &BlobKey, pieces: &Pieces) -> Result<bool> {
        let list = path("lists", key)?;
        let pieces = Pieces { sealed: true, list: pieces.list.clone() };
        // A retry finds the name taken by its own first try.
        if !self.create(&list, pieces.encode().into()).await? && self.list_at(&list).await?.as_ref() != Some(&pieces) {
            return Ok(false);
        }
        // A small body has a name of its own. Whoever comes second sees the other's; of two at once both may
        // give way, but never is a key confirmed twice.
        if self.meta(&path("objects", key)?).await?.is_some() {
            self.remove_all(vec![list]).await?;
            return Ok(false);
        }
        Ok(true)
    }
}

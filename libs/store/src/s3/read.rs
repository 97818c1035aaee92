//! Reads bodies.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path as ObjectPath;

use super::{
    S3Blobs,
    bucket::{Bucket, body_of, path},
    lists::open_list,
    pieces::{Pieces, piece_path},
};
use crate::{
    blob::ByteStream,
    error::{Error, Result},
    key::BlobKey,
};

/// A list that was read, to be looked at again when a piece that it names is not there.
pub(super) struct Listed {
    key: BlobKey,
    /// Generation of the list of an open blob.
    open: Option<u64>,
    pub(super) pieces: Pieces,
}

impl Listed {
    pub(super) const fn open(key: BlobKey, pieces: Pieces, generation: u64) -> Self {
        Self { key, open: Some(generation), pieces }
    }

    /// Why a piece is not there: its list is gone too, or the blob is damaged.
    async fn missing(&self, bucket: &Bucket, piece: &ObjectPath) -> Error {
        let list = match self.open {
            Some(generation) => open_list(&self.key, generation),
            None => path("lists", &self.key),
        };
        let found = match list {
            Ok(list) => bucket.meta(&list).await,
            Err(error) => return error,
        };
        match (found, self.open) {
            (Ok(Some(_)), _) => Error::Corrupt(format!("the object {piece} is missing")),
            // A writer has replaced a small piece, or the blob was thrown away.
            (Ok(None), Some(_)) => Error::Busy(self.key.clone()),
            (Ok(None), None) => Error::NotFound(self.key.clone()),
            (Err(error), _) => error,
        }
    }

    /// The bytes, each piece asked for when the one before is read.
    pub(super) fn read(self, bucket: &Bucket, range: Option<Range<u64>>) -> Result<ByteStream> {
        let size_bytes = self.pieces.length();
        let range = range.unwrap_or(0..size_bytes);
        check_range(&range, size_bytes)?;
        let parts = self.pieces.covering(&range).into_iter().map(|(piece, part)| {
            // The whole of a piece is no range: see `read_object`.
            let part = (part != (0..piece.size_bytes)).then_some(part);
            Ok((piece_path(&self.key, &piece)?, part))
        });
        let parts = parts.collect::<Result<Vec<_>>>()?;
        let (bucket, listed) = (bucket.clone(), Arc::new(self));
        let bodies = stream::iter(parts).then(move |(path, part)| {
            let (bucket, listed) = (bucket.clone(), Arc::clone(&listed));
            async move {
                match bucket.get(&path, part).await {
                    Ok(Some(found)) => Ok(body_of(found)),
                    Ok(None) => Err(std::io::Error::other(listed.missing(&bucket, &path).await)),
                    Err(error) => Err(std::io::Error::other(error)),
                }
            }
        });
        Ok(bodies.try_flatten().boxed())
    }
}

impl S3Blobs {
    /// The list of a sealed blob that is kept in pieces.
    pub(super) async fn sealed_list(&self, key: &BlobKey) -> Result<Option<Listed>> {
        let pieces = self.bucket.list_at(&path("lists", key)?).await?;
        Ok(pieces.map(|pieces| Listed { key: key.clone(), open: None, pieces }))
    }

    pub(super) async fn read_object(&self, key: &BlobKey, range: Option<Range<u64>>) -> Result<Option<ByteStream>> {
        let object = path("objects", key)?;
        let Some(range) = range else { return Ok(self.bucket.get(&object, None).await?.map(body_of)) };
        if range.start >= range.end {
            let Some(meta) = self.bucket.meta(&object).await? else { return Ok(None) };
            check_range(&range, meta.size)?;
            return Ok(Some(crate::bytes(Bytes::new())));
        }
        match self.bucket.get(&object, Some(range.clone())).await {
            Ok(Some(result)) => {
                check_range(&range, result.meta.size)?;
                Ok(Some(body_of(result)))
            }
            Ok(None) => Ok(None),
            // A range past the end is an error like any other; only the size tells. And some servers
            // answer a range that is the whole object as if none had been asked for.
            Err(error) => match self.bucket.meta(&object).await? {
                Some(meta) if range == (0..meta.size) => Ok(self.bucket.get(&object, None).await?.map(body_of)),
                Some(meta) => check_range(&range, meta.size).and(Err(error)),
                None => Ok(None),
            },
        }
    }
}

fn check_range(range: &Range<u64>, size_bytes: u64) -> Result<()> {
    if range.start > range.end || range.end > size_bytes { Err(Error::OutOfRange { size_bytes }) } else { Ok(()) }
}

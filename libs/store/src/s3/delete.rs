//! Deletes blobs, and what writers that were cut off have left of them.
//!
//! Pieces go last and are found by their names, not by a list: a deletion that broke off is made whole by the next.

use std::collections::BTreeSet;

use futures::TryStreamExt as _;
use object_store::path::Path as ObjectPath;

use super::{
    S3Blobs,
    bucket::{failed, path},
};
use crate::{error::Result, key::BlobKey};

impl S3Blobs {
    pub(super) async fn delete_blob(&self, key: &BlobKey) -> Result<()> {
        self.bucket.remove_all(vec![path("objects", key)?]).await?;
        let list = path("lists", key)?;
        if self.bucket.meta(&list).await?.is_some() {
            self.delete_lists(key, list).await?;
        }
        self.delete_pieces(key).await
    }

    pub(super) async fn delete_below(&self, prefix: &BlobKey) -> Result<u64> {
        let mut deleted = self.bucket.remove(self.bucket.below(&path("objects", prefix)?)).await?;
        let mut lists = self.bucket.below(&path("lists", prefix)?);
        while let Some(list) = lists.try_next().await.map_err(failed)? {
            let key = BlobKey::new(list.as_ref().strip_prefix("lists/").unwrap_or_default())?;
            self.delete_lists(&key, list).await?;
            self.delete_pieces(&key).await?;
            deleted += 1;
        }
        self.delete_strays(prefix).await?;
        Ok(deleted)
    }

    /// Deletes the lists of a sealed blob. The one that says that it is there goes last, or a crash would leave an
    /// open blob.
    async fn delete_lists(&self, key: &BlobKey, list: ObjectPath) -> Result<()> {
        let open = self.bucket.children(&path("open", key)?).await?;
        self.bucket.remove_all(open).await?;
        self.bucket.remove_all(vec![list]).await
    }

    /// Deletes the pieces of a key that has no list.
    async fn delete_pieces(&self, key: &BlobKey) -> Result<()> {
        let pieces = self.bucket.children(&path("pieces", key)?).await?;
        if pieces.is_empty() || !self.bucket.children(&path("open", key)?).await?.is_empty() || self.is_sealed(key).await? {
            return Ok(());
        }
        self.bucket.remove_all(pieces).await
    }

    /// Deletes the pieces below a prefix whose keys have no list: of bodies that never came whole, and of deletions
    /// that broke off.
    async fn delete_strays(&self, prefix: &BlobKey) -> Result<()> {
        let mut keys = BTreeSet::new();
        let mut pieces = self.bucket.below(&path("pieces", prefix)?);
        while let Some(piece) = pieces.try_next().await.map_err(failed)? {
            let key = piece.as_ref().strip_prefix("pieces/").and_then(|piece| piece.rsplit_once('/'));
            keys.extend(key.map(|(key, _)| key.to_owned()));
        }
        for key in keys {
            let key = BlobKey::new(key)?;
            if key.is_below(prefix) {
                self.delete_pieces(&key).await?;
            }
        }
        Ok(())
    }

    /// Deletes an open blob.
    pub(super) async fn discard_open(&self, key: &BlobKey) -> Result<()> {
        if self.is_sealed(key).await? {
            return Ok(());
        }
        let lists = self.bucket.children(&path("open", key)?).await?;
        self.bucket.remove_all(lists).await?;
        // Another process may be sealing it: whoever comes second sees the other.
        if self.is_sealed(key).await? {
            return Ok(());
        }
        let pieces = self.bucket.children(&path("pieces", key)?).await?;
        self.bucket.remove_all(pieces).await
    }
}

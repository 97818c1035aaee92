//! The lists of a blob that grows.
//!
//! Of two writers that add a list one finds its name taken. But only the newest lists stay, so a writer that was
//! slow may find a name free that others have used and given back: it looks at its neighbours afterwards.

use object_store::path::Path as ObjectPath;

use super::{
    S3Blobs,
    bucket::path,
    pieces::{Piece, Pieces},
};
use crate::{
    error::{Error, Result},
    key::BlobKey,
};

/// Looks for the newest list while a writer replaces it, each in a round trip of its own.
const LOOKS: u32 = 20;

/// Generations sort by their names.
pub(super) fn open_list(key: &BlobKey, generation: u64) -> Result<ObjectPath> {
    path("open", &key.join(&format!("{generation:020}"))?)
}

fn numbered(list: ObjectPath) -> Option<(u64, ObjectPath)> {
    let generation = list.filename()?.parse().ok()?;
    Some((generation, list))
}

impl S3Blobs {
    async fn generations(&self, key: &BlobKey) -> Result<Vec<(u64, ObjectPath)>> {
        let lists = self.bucket.children(&path("open", key)?).await?;
        Ok(lists.into_iter().filter_map(numbered).collect())
    }

    /// The newest list of a blob that grows, and its generation. Absent when it has none.
    pub(super) async fn newest(&self, key: &BlobKey) -> Result<Option<(Pieces, u64)>> {
        for _ in 0..LOOKS {
            let Some((generation, newest)) = self.generations(key).await?.into_iter().max() else { return Ok(None) };
            if let Some(pieces) = self.bucket.list_at(&newest).await? {
                return Ok(Some((pieces, generation)));
            }
            // Gone between the two requests: a writer has added a newer one, or the blob is thrown away.
        }
        Err(Error::Busy(key.clone()))
    }

    /// Makes `pieces`, which add to those of the generation before, the newest list. Fails with `Busy` when
    /// somebody else has added a list.
    pub(super) async fn write_list(&self, key: &BlobKey, generation: u64, pieces: &Pieces) -> Result<()> {
        let list = open_list(key, generation)?;
        let is_new = self.bucket.create(&list, pieces.encode().into()).await?;
        // A retry finds the name taken by its own first try, told by the random name of its piece. Nothing tells two
        // seals from one another: the second gives way, and finds a sealed list when it is tried again.
        if !is_new && (pieces.sealed || self.bucket.list_at(&list).await?.as_ref() != Some(pieces)) {
            return Err(Error::Busy(key.clone()));
        }
        let there = self.generations(key).await?;
        let is_there = |wanted| there.iter().any(|(generation, _)| *generation == wanted);
        let is_newest = there.iter().all(|(other, _)| *other <= generation);
        let before = generation - 1;
        if !is_newest || (before > 0 && !is_there(before)) {
            self.bucket.remove_all(vec![list]).await?;
            return Err(Error::Busy(key.clone()));
        }
        if before > 0 {
            // The newest counts; an older one that stays goes with the blob.
            let _ = self.bucket.remove_all(vec![open_list(key, before)?]).await;
        }
        Ok(())
    }

    /// Deletes a piece whose list was refused, unless those who came in between had seen that list and went on
    /// from it.
    pub(super) async fn drop_refused(&self, key: &BlobKey, piece: &Piece) {
        match self.newest(key).await {
            Ok(Some((pieces, _))) if pieces.list.contains(piece) => {}
            Ok(_) => self.bucket.drop_piece(key, piece).await,
            // It stays until the blob goes.
            Err(_) => {}
        }
    }
}

//! Blobs in a bucket of an S3 server.
//!
//! A body that fits into memory is one object, `objects/<key>`, written on the condition that the
//! name is free. A longer one, and one that is appended to, is kept in pieces, `pieces/<key>/<name>`,
//! with a list of them: `open/<key>/<generation>` while it grows, `lists/<key>` once it is sealed. A
//! list is written on the same condition, so of two writers that add to one blob, in whatever process,
//! one is refused. S3's own multipart uploads can't do this: their parts can't be read before the end,
//! and a late writer replaces a part that was confirmed.

mod bucket;
mod delete;
mod lists;
mod pieces;
mod put;
mod read;
mod server;
mod writer;

use std::{
    collections::BTreeSet,
    ops::Range,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use async_trait::async_trait;

pub use server::{BadBucket, S3Bucket};

use crate::{
    blob::{BlobInfo, BlobStore, ByteStream, Ended},
    error::{Error, Result},
    key::BlobKey,
};
use bucket::{Bucket, path};
use lists::open_list;
use read::Listed;
use writer::Writer;

/// The engine on an S3 server.
#[derive(Debug)]
pub struct S3Blobs {
    bucket: Bucket,
    /// Blobs that a call of this process is writing.
    busy: Mutex<BTreeSet<BlobKey>>,
    /// Whether the server was asked if it keeps to conditions.
    is_probed: AtomicBool,
}

/// Opens the blobs of a bucket. The server is not asked yet.
///
/// # Errors
/// `Unavailable` when no client can be made.
pub fn open_bucket(bucket: &S3Bucket) -> Result<Arc<dyn BlobStore>> {
    Ok(Arc::new(S3Blobs::open(bucket)?))
}

/// Marks a blob as being written, for as long as it lives.
struct Turn<'a> {
    store: &'a S3Blobs,
    key: &'a BlobKey,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.store.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(self.key);
    }
}

impl S3Blobs {
    /// Opens the blobs of a bucket.
    ///
    /// # Errors
    /// As [`open_bucket`].
    pub fn open(bucket: &S3Bucket) -> Result<Self> {
        let client = bucket.client().map_err(Error::unavailable)?;
        Ok(Self { bucket: Bucket::new(client), busy: Mutex::default(), is_probed: AtomicBool::new(false) })
    }

    /// Asks whether the bucket answers and lets us in; the first time also whether it keeps to conditions.
    ///
    /// # Errors
    /// `Denied` or `Unavailable`.
    pub async fn check(&self) -> Result<()> {
        self.bucket.check().await?;
        if self.is_probed.load(Relaxed) {
            return Ok(());
        }
        match self.bucket.knows_conditions().await {
            Ok(true) => {}
            Ok(false) => tracing::warn!(
                "the S3 server overwrites objects in spite of `If-None-Match: *`: two replicas that write one blob at once are \
                 not told from one another"
            ),
            // Who may only read needs no conditions.
            Err(Error::Denied(_)) => {}
            Err(error) => return Err(error),
        }
        self.is_probed.store(true, Relaxed);
        Ok(())
    }

    fn take_turn<'a>(&'a self, key: &'a BlobKey) -> Result<Turn<'a>> {
        let free = self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        if free { Ok(Turn { store: self, key }) } else { Err(Error::Busy(key.clone())) }
    }

    async fn is_sealed(&self, key: &BlobKey) -> Result<bool> {
        let (object, list) = (path("objects", key)?, path("lists", key)?);
        let (object, list) = futures::try_join!(self.bucket.meta(&object), self.bucket.meta(&list))?;
        Ok(object.is_some() || list.is_some())
    }
}

#[async_trait]
impl BlobStore for S3Blobs {
    async fn put(&self, key: &BlobKey, body: ByteStream) -> Result<BlobInfo> {
        self.put_body(key, body).await
    }

    async fn read(&self, key: &BlobKey, range: Option<Range<u64>>) -> Result<ByteStream> {
        if let Some(body) = self.read_object(key, range.clone()).await? {
            return Ok(body);
        }
        let listed = self.sealed_list(key).await?.ok_or_else(|| Error::NotFound(key.clone()))?;
        listed.read(&self.bucket, range)
    }

    async fn head(&self, key: &BlobKey) -> Result<BlobInfo> {
        if let Some(meta) = self.bucket.meta(&path("objects", key)?).await? {
            return Ok(BlobInfo { size_bytes: meta.size });
        }
        let listed = self.sealed_list(key).await?.ok_or_else(|| Error::NotFound(key.clone()))?;
        Ok(BlobInfo { size_bytes: listed.pieces.length() })
    }

    async fn delete(&self, key: &BlobKey) -> Result<()> {
        self.delete_blob(key).await
    }

    async fn delete_prefix(&self, prefix: &BlobKey) -> Result<u64> {
        self.delete_below(prefix).await
    }

    async fn append(&self, key: &BlobKey, offset: u64, body: ByteStream) -> Result<u64> {
        let _turn = self.take_turn(key)?;
        if self.is_sealed(key).await? {
            return Err(Error::AlreadyExists(key.clone()));
        }
        let (pieces, generation) = self.newest(key).await?.unwrap_or_default();
        if pieces.sealed {
            return Err(Error::AlreadyExists(key.clone()));
        }
        if offset != pieces.length() {
            return Err(Error::WrongOffset { durable: pieces.length() });
        }
        let mut writer = Writer::after(self, key, pieces, generation).await?;
        match writer.take(body).await? {
            Ended::Whole => Ok(writer.durable()),
            Ended::BrokeOff(broken) => Err(Error::sending(broken)),
        }
    }

    async fn open_length(&self, key: &BlobKey) -> Result<Option<u64>> {
        match self.newest(key).await? {
            Some((pieces, _)) if !self.is_sealed(key).await? => Ok(Some(pieces.length())),
            _ => Ok(None),
        }
    }

    async fn read_open(&self, key: &BlobKey, range: Range<u64>) -> Result<ByteStream> {
        let (pieces, generation) = self.newest(key).await?.ok_or_else(|| Error::NotFound(key.clone()))?;
        // A crash may have come between the two writes of a seal: the blob is open until the second.
        if pieces.sealed && self.is_sealed(key).await? {
            return Err(Error::NotFound(key.clone()));
        }
        Listed::open(key.clone(), pieces, generation).read(&self.bucket, Some(range))
    }

    async fn seal(&self, key: &BlobKey) -> Result<BlobInfo> {
        let _turn = self.take_turn(key)?;
        let Some((mut pieces, mut generation)) = self.newest(key).await? else { return self.head(key).await };
        if self.bucket.meta(&path("objects", key)?).await?.is_some() {
            return Err(Error::AlreadyExists(key.clone()));
        }
        if !pieces.sealed {
            // From here on nobody adds to it: who tries finds this list.
            pieces.sealed = true;
            generation += 1;
            self.write_list(key, generation, &pieces).await?;
        }
        if !self.bucket.claim(key, &pieces).await? {
            return Err(Error::AlreadyExists(key.clone()));
        }
        // Who discards it in another process takes the open list away and then looks for this one.
        if self.bucket.meta(&open_list(key, generation)?).await?.is_none() {
            self.bucket.remove_all(vec![path("lists", key)?]).await?;
            return Err(Error::Busy(key.clone()));
        }
        Ok(BlobInfo { size_bytes: pieces.length() })
    }

    async fn discard(&self, key: &BlobKey) -> Result<()> {
        let _turn = self.take_turn(key)?;
        self.discard_open(key).await
    }

    fn local_path(&self, _key: &BlobKey) -> Option<PathBuf> {
        None
    }
}

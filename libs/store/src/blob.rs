//! The contract of a blob store.

mod gather;

use std::{fmt::Debug, io, ops::Range, path::PathBuf};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream::BoxStream};

pub(crate) use gather::{Ended, Gathered, next_bytes};

use crate::{error::Result, key::BlobKey};

/// Bytes as they come. An error item of a body to store says that the sender broke off; one of a body
/// that was read is for [`Error::reading`](crate::Error::reading), which tells why.
pub type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// What is known of a stored blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its size.
    pub size_bytes: u64,
}

/// Keeps media bytes. A key is written once and never changes; what a call has confirmed survives a
/// crash of the machine. No call holds a whole body in memory.
///
/// A blob may also grow in pieces: it is *open* while it is appended to, which is invisible to
/// `read` and `head`, and becomes a blob like any other when it is sealed.
#[async_trait]
pub trait BlobStore: Debug + Send + Sync + 'static {
    /// Stores a whole body under a new key. Fails with `AlreadyExists` if the key is taken, and
    /// with `Stream` if the body breaks off; then nothing is left under the key.
    async fn put(&self, key: &BlobKey, body: ByteStream) -> Result<BlobInfo>;

    /// Reads a blob, or the given range of it. Fails with `NotFound`, or with `OutOfRange` for a range
    /// that ends past the end or before its start. An empty range gives no bytes.
    async fn read(&self, key: &BlobKey, range: Option<Range<u64>>) -> Result<ByteStream>;

    /// What is known of a blob. Fails with `NotFound`.
    async fn head(&self, key: &BlobKey) -> Result<BlobInfo>;

    /// Deletes a blob; an absent key is success. A read that has begun goes on to its end.
    async fn delete(&self, key: &BlobKey) -> Result<()>;

    /// Deletes all blobs below `prefix/`, and says how many there were. An open blob is not touched.
    async fn delete_prefix(&self, prefix: &BlobKey) -> Result<u64>;

    /// Appends to an open blob, which begins at offset 0, and gives its new durable length. Fails with
    /// `WrongOffset` unless `offset` is that length, with `AlreadyExists` once the blob is sealed, and
    /// with `Busy` while another call appends. If the body breaks off it fails with `Stream`, and the
    /// bytes up to there stay.
    async fn append(&self, key: &BlobKey, offset: u64, body: ByteStream) -> Result<u64>;

    /// The durable length of an open blob; absent when nothing was appended or it is sealed.
    async fn open_length(&self, key: &BlobKey) -> Result<Option<u64>>;

    /// Reads the first bytes of an open blob up to `length`. Fails with `NotFound`, or with
    /// `OutOfRange` past the durable length.
    async fn read_open(&self, key: &BlobKey, range: Range<u64>) -> Result<ByteStream>;

    /// Turns an open blob into a blob. Sealing it again gives the same answer; without an open or a
    /// sealed blob it fails with `NotFound`, and with `Busy` while a call appends.
    async fn seal(&self, key: &BlobKey) -> Result<BlobInfo>;

    /// Throws an open blob away; an absent one is success, a sealed one is not touched. Fails with
    /// `Busy` while a call appends.
    async fn discard(&self, key: &BlobKey) -> Result<()>;

    /// Where a sealed blob lies as a file of its own, for a child process to read. Absent when this
    /// engine keeps no such files.
    fn local_path(&self, key: &BlobKey) -> Option<PathBuf>;
}

/// A body that is in memory already.
#[must_use]
pub fn bytes(body: Bytes) -> ByteStream {
    futures::stream::once(async move { Ok(body) }).boxed()
}

/// Gathers a body of at most `limit` bytes, for small things such as playlists.
///
/// # Errors
/// `OutOfRange` when it is larger, what [`Error::reading`](crate::Error::reading) says when it breaks off.
pub async fn collect(mut body: ByteStream, limit: usize) -> Result<Bytes> {
    let mut all = BytesMut::new();
    while let Some(chunk) = body.try_next().await.map_err(crate::Error::reading)? {
        if all.len() + chunk.len() > limit {
            return Err(crate::Error::OutOfRange { size_bytes: limit as u64 });
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all.freeze())
}

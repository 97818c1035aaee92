//! Blobs in a bucket of an S3 server.
//!
//! A body that fits into memory is one object, `objects/<key>`, written on the condition that the
//! name is free. A longer one, and one that is appended to, is kept in pieces, `pieces/<key>/<name>`,
//! with a list of them: `open/<key>/<generation>` while it grows, `lists/<key>` once it is sealed. A
//! list is written on the same condition, so of two writers that add to one blob, in whatever process,
//! one is refused. S3's own multipart uploads can't do this: their parts can't be read before the end,
//! and a late writer replaces a part that was confirmed.

mod pieces;
mod server;
mod writer;

use std::{
    collections::BTreeSet,
    ops::Range,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::{
    GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore as _, ObjectStoreExt as _, PutMode, PutPayload, aws::AmazonS3,
    path::Path as ObjectPath,
};

pub use server::{BadBucket, S3Bucket};

use crate::{
    blob::{BlobInfo, BlobStore, ByteStream},
    error::{Error, Result},
    key::BlobKey,
};
use pieces::{Piece, Pieces};
use writer::{Ended, Writer};

/// Longest list that is read: a million pieces would be a file of eight terabytes.
const MAX_LIST_BYTES: usize = 64 * 1024 * 1024;
/// Bodies up to this size are one object.
const WHOLE_BYTES: usize = 8 * 1024 * 1024;

/// The engine on an S3 server.
#[derive(Debug)]
pub struct S3Blobs {
    client: AmazonS3,
    /// Blobs that a call of this process is writing.
    busy: Mutex<BTreeSet<BlobKey>>,
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
        Ok(Self { client: bucket.client().map_err(failed)?, busy: Mutex::default() })
    }

    /// Asks whether the bucket answers and lets us in; one request that reads nothing.
    ///
    /// # Errors
    /// `Denied` or `Unavailable`.
    pub async fn check(&self) -> Result<()> {
        match self.client.list(Some(&ObjectPath::from("objects/-"))).try_next().await {
            Ok(_) => Ok(()),
            Err(object_store::Error::NotFound { .. }) => Err(Error::Denied("the bucket does not exist".to_owned())),
            Err(error) => Err(failed(error)),
        }
    }

    fn take_turn<'a>(&'a self, key: &'a BlobKey) -> Result<Turn<'a>> {
        let free = self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        if free { Ok(Turn { store: self, key }) } else { Err(Error::Busy(key.clone())) }
    }

    async fn get(&self, path: &ObjectPath, range: Option<Range<u64>>) -> Result<Option<GetResult>> {
        let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        found(self.client.get_opts(path, options).await)
    }

    async fn meta(&self, path: &ObjectPath) -> Result<Option<ObjectMeta>> {
        found(self.client.head(path).await)
    }

    /// Writes an object whose name must be free; `false` when it is taken.
    async fn create(&self, path: &ObjectPath, body: PutPayload) -> Result<bool> {
        match self.client.put_opts(path, body, PutMode::Create.into()).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(false),
            Err(object_store::Error::NotFound { .. }) => Err(Error::Denied("the bucket does not exist".to_owned())),
            Err(error) => Err(failed(error)),
        }
    }

    async fn remove(&self, paths: Vec<ObjectPath>) -> Result<()> {
        let paths = stream::iter(paths.into_iter().map(Ok)).boxed();
        let mut results = self.client.delete_stream(paths);
        while let Some(result) = results.next().await {
            found(result)?;
        }
        Ok(())
    }

    /// Objects whose names are one part longer than `folder`.
    async fn children(&self, folder: &ObjectPath) -> Result<Vec<ObjectPath>> {
        let listed = self.client.list_with_delimiter(Some(folder)).await.map_err(failed)?;
        Ok(listed.objects.into_iter().map(|meta| meta.location).collect())
    }

    async fn read_list(&self, path: &ObjectPath) -> Result<Option<Pieces>> {
        let Some(result) = self.get(path, None).await? else { return Ok(None) };
        let body = crate::collect(body_of(result), MAX_LIST_BYTES).await?;
        Pieces::decode(&body).map(Some).ok_or_else(|| Error::Corrupt(format!("the list {path} can't be read")))
    }

    /// The list of a sealed blob that is kept in pieces.
    async fn sealed_list(&self, key: &BlobKey) -> Result<Option<Pieces>> {
        self.read_list(&path("lists", key)?).await
    }

    /// The newest list of a blob that grows, and its generation.
    async fn newest(&self, key: &BlobKey) -> Result<Option<(Pieces, u64)>> {
        let lists = self.children(&path("open", key)?).await?;
        let Some((generation, newest)) = lists.into_iter().filter_map(numbered).max() else { return Ok(None) };
        // Gone between the two requests: it was sealed or thrown away.
        Ok(self.read_list(&newest).await?.map(|pieces| (pieces, generation)))
    }

    async fn is_sealed(&self, key: &BlobKey) -> Result<bool> {
        let (object, list) = (path("objects", key)?, path("lists", key)?);
        let (object, list) = futures::try_join!(self.meta(&object), self.meta(&list))?;
        Ok(object.is_some() || list.is_some())
    }

    async fn read_piece(&self, key: &BlobKey, piece: &Piece) -> Result<ByteStream> {
        let path = piece_path(key, piece)?;
        self.get(&path, None).await?.map(body_of).ok_or_else(|| missing(&path))
    }

    async fn write_piece(&self, key: &BlobKey, piece: &Piece, body: Vec<Bytes>) -> Result<()> {
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

    /// Deletes a piece that no list names any more. One that stays costs room only.
    async fn drop_piece(&self, key: &BlobKey, piece: &Piece) {
        let Ok(path) = piece_path(key, piece) else { return };
        if let Err(error) = self.remove(vec![path]).await {
            tracing::debug!(%key, error = &error as &dyn std::error::Error, "a replaced piece stays");
        }
    }

    /// Makes `pieces` the newest list. Fails with `Busy` when somebody else has added a list.
    async fn write_list(&self, key: &BlobKey, generation: u64, pieces: &Pieces) -> Result<()> {
        let list = open_list(key, generation)?;
        let text = pieces.encode();
        if !self.create(&list, text.clone().into()).await? && self.read_list(&list).await?.as_ref() != Some(pieces) {
            return Err(Error::Busy(key.clone()));
        }
        if generation > 1 {
            // The newest counts; an older one that stays is swept with the blob.
            let _ = self.remove(vec![open_list(key, generation - 1)?]).await;
        }
        Ok(())
    }

    /// Bytes of pieces, each asked for when the one before is read.
    fn read_pieces(&self, key: &BlobKey, pieces: &Pieces, range: Option<Range<u64>>) -> Result<ByteStream> {
        let size_bytes = pieces.length();
        let range = range.unwrap_or(0..size_bytes);
        check_range(&range, size_bytes)?;
        let client = self.client.clone();
        let parts = pieces.covering(&range).into_iter().map(|(piece, part)| Ok((piece_path(key, &piece)?, piece, part)));
        let bodies = stream::iter(parts.collect::<Result<Vec<_>>>()?).then(move |(path, piece, part)| {
            let client = client.clone();
            async move {
                // The whole of a piece is no range: see `read_object`.
                let range = (part != (0..piece.size_bytes)).then_some(GetRange::Bounded(part));
                let result = client.get_opts(&path, GetOptions { range, ..GetOptions::default() }).await;
                let body = found(result).and_then(|found| found.ok_or_else(|| missing(&path)));
                body.map(body_of).map_err(std::io::Error::other)
            }
        });
        Ok(bodies.try_flatten().boxed())
    }

    async fn read_object(&self, key: &BlobKey, range: Option<Range<u64>>) -> Result<Option<ByteStream>> {
        let object = path("objects", key)?;
        let Some(range) = range else { return Ok(self.get(&object, None).await?.map(body_of)) };
        if range.start >= range.end {
            let Some(meta) = self.meta(&object).await? else { return Ok(None) };
            check_range(&range, meta.size)?;
            return Ok(Some(crate::bytes(Bytes::new())));
        }
        match self.get(&object, Some(range.clone())).await {
            Ok(Some(result)) => {
                check_range(&range, result.meta.size)?;
                Ok(Some(body_of(result)))
            }
            Ok(None) => Ok(None),
            // A range past the end is an error like any other; only the size tells. And some servers
            // answer a range that is the whole object as if none had been asked for.
            Err(error) => match self.meta(&object).await? {
                Some(meta) if range == (0..meta.size) => Ok(self.get(&object, None).await?.map(body_of)),
                Some(meta) => check_range(&range, meta.size).and(Err(error)),
                None => Ok(None),
            },
        }
    }

    /// Stores a body of which `first` has come already as pieces, and the list of them at the end.
    async fn put_in_pieces(&self, key: &BlobKey, first: Vec<Bytes>, mut body: ByteStream) -> Result<BlobInfo> {
        let mut pieces = Pieces { list: Vec::new(), sealed: true };
        let (mut pending, mut length) = (first, WHOLE_BYTES);
        let stored = loop {
            if length >= WHOLE_BYTES {
                if let Err(error) = self.put_piece(key, &mut pieces, std::mem::take(&mut pending)).await {
                    break Err(error);
                }
                length = 0;
            }
            match body.next().await {
                Some(Ok(chunk)) => {
                    length += chunk.len();
                    pending.push(chunk);
                }
                Some(Err(broken)) => break Err(Error::sending(broken)),
                None => break self.put_last(key, &mut pieces, pending).await,
            }
        };
        if stored.is_err() {
            for piece in &pieces.list {
                self.drop_piece(key, piece).await;
            }
        }
        stored
    }

    async fn put_piece(&self, key: &BlobKey, pieces: &mut Pieces, body: Vec<Bytes>) -> Result<()> {
        let piece = Piece::new(body.iter().map(Bytes::len).sum());
        self.write_piece(key, &piece, body).await?;
        pieces.list.push(piece);
        Ok(())
    }

    async fn put_last(&self, key: &BlobKey, pieces: &mut Pieces, body: Vec<Bytes>) -> Result<BlobInfo> {
        if !body.is_empty() {
            self.put_piece(key, pieces, body).await?;
        }
        let is_new = self.create(&path("lists", key)?, pieces.encode().into()).await?;
        if is_new { Ok(BlobInfo { size_bytes: pieces.length() }) } else { Err(Error::AlreadyExists(key.clone())) }
    }

    /// Deletes a blob whose list is at `list`, pieces last: a crash between the two leaves no list
    /// without its pieces.
    async fn delete_pieces(&self, key: &BlobKey, list: ObjectPath) -> Result<()> {
        let Some(pieces) = self.read_list(&list).await? else { return Ok(()) };
        let mut gone = self.children(&path("open", key)?).await?;
        gone.push(list);
        self.remove(gone).await?;
        let names = pieces.list.iter().map(|piece| piece_path(key, piece));
        self.remove(names.collect::<Result<_>>()?).await
    }
}

#[async_trait]
impl BlobStore for S3Blobs {
    async fn put(&self, key: &BlobKey, mut body: ByteStream) -> Result<BlobInfo> {
        let (mut first, mut length) = (Vec::new(), 0);
        while let Some(chunk) = body.try_next().await.map_err(Error::sending)? {
            length += chunk.len();
            first.push(chunk);
            if length >= WHOLE_BYTES {
                if self.is_sealed(key).await? {
                    return Err(Error::AlreadyExists(key.clone()));
                }
                return self.put_in_pieces(key, first, body).await;
            }
        }
        let is_new = self.create(&path("objects", key)?, first.into_iter().collect()).await?;
        if is_new { Ok(BlobInfo { size_bytes: length as u64 }) } else { Err(Error::AlreadyExists(key.clone())) }
    }

    async fn read(&self, key: &BlobKey, range: Option<Range<u64>>) -> Result<ByteStream> {
        if let Some(body) = self.read_object(key, range.clone()).await? {
            return Ok(body);
        }
        let pieces = self.sealed_list(key).await?.ok_or_else(|| Error::NotFound(key.clone()))?;
        self.read_pieces(key, &pieces, range)
    }

    async fn head(&self, key: &BlobKey) -> Result<BlobInfo> {
        if let Some(meta) = self.meta(&path("objects", key)?).await? {
            return Ok(BlobInfo { size_bytes: meta.size });
        }
        let pieces = self.sealed_list(key).await?.ok_or_else(|| Error::NotFound(key.clone()))?;
        Ok(BlobInfo { size_bytes: pieces.length() })
    }

    async fn delete(&self, key: &BlobKey) -> Result<()> {
        self.remove(vec![path("objects", key)?]).await?;
        self.delete_pieces(key, path("lists", key)?).await
    }

    async fn delete_prefix(&self, prefix: &BlobKey) -> Result<u64> {
        let mut deleted = 0;
        let objects = self.client.list(Some(&path("objects", prefix)?)).map_ok(|meta| meta.location).boxed();
        let mut removed = self.client.delete_stream(objects);
        while let Some(result) = removed.next().await {
            deleted += u64::from(found(result)?.is_some());
        }
        let mut lists = self.client.list(Some(&path("lists", prefix)?));
        while let Some(meta) = lists.next().await {
            let Some(meta) = found(meta)? else { continue };
            let key = meta.location.as_ref().strip_prefix("lists/").unwrap_or_default();
            self.delete_pieces(&BlobKey::new(key)?, meta.location.clone()).await?;
            deleted += 1;
        }
        Ok(deleted)
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
        let newest = self.newest(key).await?;
        let (pieces, _) = newest.filter(|(pieces, _)| !pieces.sealed).ok_or_else(|| Error::NotFound(key.clone()))?;
        self.read_pieces(key, &pieces, Some(range))
    }

    async fn seal(&self, key: &BlobKey) -> Result<BlobInfo> {
        let _turn = self.take_turn(key)?;
        let Some((mut pieces, generation)) = self.newest(key).await? else { return self.head(key).await };
        if self.meta(&path("objects", key)?).await?.is_some() {
            return Err(Error::AlreadyExists(key.clone()));
        }
        if !pieces.sealed {
            // From here on nobody adds to it: their next list would have this one's name.
            pieces.sealed = true;
            self.write_list(key, generation + 1, &pieces).await?;
        }
        let list = path("lists", key)?;
        if !self.create(&list, pieces.encode().into()).await? && self.read_list(&list).await?.as_ref() != Some(&pieces) {
            return Err(Error::AlreadyExists(key.clone()));
        }
        Ok(BlobInfo { size_bytes: pieces.length() })
    }

    async fn discard(&self, key: &BlobKey) -> Result<()> {
        let _turn = self.take_turn(key)?;
        if self.is_sealed(key).await? {
            return Ok(());
        }
        let lists = self.children(&path("open", key)?).await?;
        self.remove(lists).await?;
        let pieces = self.children(&path("pieces", key)?).await?;
        self.remove(pieces).await
    }

    fn local_path(&self, _key: &BlobKey) -> Option<PathBuf> {
        None
    }
}

fn path(folder: &str, key: &BlobKey) -> Result<ObjectPath> {
    ObjectPath::parse(format!("{folder}/{key}")).map_err(|error| Error::Corrupt(error.to_string()))
}

fn piece_path(key: &BlobKey, piece: &Piece) -> Result<ObjectPath> {
    path("pieces", &key.join(&piece.name)?)
}

/// Generations sort by their names.
fn open_list(key: &BlobKey, generation: u64) -> Result<ObjectPath> {
    path("open", &key.join(&format!("{generation:020}"))?)
}

fn numbered(list: ObjectPath) -> Option<(u64, ObjectPath)> {
    let generation = list.filename()?.parse().ok()?;
    Some((generation, list))
}

fn check_range(range: &Range<u64>, size_bytes: u64) -> Result<()> {
    if range.start > range.end || range.end > size_bytes { Err(Error::OutOfRange { size_bytes }) } else { Ok(()) }
}

fn body_of(result: GetResult) -> ByteStream {
    result.into_stream().map_err(|error| std::io::Error::other(failed(error))).boxed()
}

fn missing(piece: &ObjectPath) -> Error {
    Error::Corrupt(format!("the object {piece} is missing"))
}

/// An absent object is none.
fn found<T>(result: Result<T, object_store::Error>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

fn failed(error: object_store::Error) -> Error {
    let said = error.to_string();
    let says = |codes: &[&str]| codes.iter().any(|code| said.contains(&format!("<Code>{code}</Code>")));
    if says(&["NoSuchBucket"]) {
        return Error::Denied("the bucket does not exist".to_owned());
    }
    let is_refused = matches!(error, object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. });
    // Only single objects have errors of their own; a list has none but what the server said.
    if is_refused || says(&["AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"]) {
        return Error::Denied("the server refuses the access key, or the key may not do this in the bucket".to_owned());
    }
    Error::unavailable(error)
}

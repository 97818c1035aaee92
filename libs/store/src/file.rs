//! Blobs as files of a local folder.

use std::{
    fs::File,
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{ObjectStore, ObjectStoreExt, local::LocalFileSystem, path::Path as ObjectPath};
use tokio::{sync::mpsc, task::spawn_blocking};

use crate::{
    blob::{BlobInfo, BlobStore, ByteStream},
    error::{Error, Result},
    files::{self, Part, Places},
    key::BlobKey,
};

/// Chunks that wait for the disk. With chunks of at most 1 MiB this bounds a body's memory.
const WAITING_CHUNKS: usize = 4;
/// Bytes read at once: a 64 KiB segment takes one trip to a blocking thread.
const READ_CHUNK_BYTES: u64 = 256 * 1024;

/// Opens the blobs under `root`, making the folder when it is missing, and removes what writers
/// that crashed have left.
///
/// # Errors
/// `ReadOnly` or `Full` when nothing can be written there, `Io` for any other trouble.
pub fn open_blobs(root: &Path) -> Result<Arc<dyn BlobStore>> {
    Ok(Arc::new(FileBlobs::open(root)?))
}

/// The engine on a local folder: `objects/` holds sealed blobs under their keys, `open/` those that
/// are appended to, `temp/` bodies on their way in.
///
/// Writing is done here and not by `object_store`: it neither appends, nor streams a body to a
/// name that must be free, and it reads in steps of 8 KiB. Listing and deleting are its work.
#[derive(Debug)]
pub struct FileBlobs {
    objects: PathBuf,
    open: PathBuf,
    temps: PathBuf,
    listing: LocalFileSystem,
}

impl FileBlobs {
    /// Opens the blobs under `root`.
    ///
    /// # Errors
    /// As [`open_blobs`].
    pub fn open(root: &Path) -> Result<Self> {
        let failed = |source| Error::io(format!("open the blob folder {}", root.display()), source);
        let root = std::path::absolute(root).map_err(failed)?;
        let (objects, open, temps) = (root.join("objects"), root.join("open"), root.join("temp"));
        for folder in [&objects, &open, &temps] {
            files::make_folder(folder).map_err(failed)?;
        }
        let swept = files::sweep_temps(&temps).map_err(failed)?;
        if swept > 0 {
            tracing::info!(swept, "removed bodies that were never stored whole");
        }
        // Empty folders go with their last blob, or a million deleted titles leave a million folders.
        let listing = LocalFileSystem::new_with_prefix(&objects).map_err(of_listing)?.with_automatic_cleanup(true);
        Ok(Self { objects, open, temps, listing })
    }

    fn places(&self, key: &BlobKey) -> Places {
        Places { key: key.clone(), open: self.open.join(key.as_str()), sealed: self.objects.join(key.as_str()) }
    }

    async fn read_file(&self, path: PathBuf, key: &BlobKey, range: Option<Range<u64>>) -> Result<ByteStream> {
        let opened = blocking(move || {
            let Some((mut file, length)) = files::open_range(&path, range)? else { return Ok(None) };
            let first = length.min(READ_CHUNK_BYTES);
            let chunk = read_chunk(&mut file, first).map_err(|e| Error::io("read a blob", e))?;
            Ok(Some((file, chunk, length - first)))
        })
        .await?;
        let (file, first, left) = opened.ok_or_else(|| Error::NotFound(key.clone()))?;
        if left == 0 {
            return Ok(crate::bytes(first));
        }
        Ok(stream::once(async move { Ok(first) }).chain(rest_of(file, left)).boxed())
    }
}

fn read_chunk(file: &mut File, length: u64) -> io::Result<Bytes> {
    files::read_exactly(file, usize::try_from(length).map_err(io::Error::other)?)
}

fn rest_of(file: File, left: u64) -> ByteStream {
    stream::try_unfold((file, left), |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let length = left.min(READ_CHUNK_BYTES);
        let read = move || read_chunk(&mut file, length).map(|chunk| (file, chunk)).map_err(|e| Error::io("read a blob", e));
        let (file, chunk) = blocking(read).await.map_err(io::Error::other)?;
        Ok(Some((chunk, (file, left - length))))
    })
    .boxed()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    spawn_blocking(work).await.map_err(|error| Error::Unavailable(Some(Box::new(error))))?
}

/// Hands a body to the writing thread, chunk by chunk. Ends early when that thread has given up.
async fn hand_over(mut body: ByteStream, parts: mpsc::Sender<Part>) -> Result<()> {
    while let Some(chunk) = body.try_next().await.map_err(Error::sending)? {
        if !chunk.is_empty() && parts.send(Part::Bytes(chunk)).await.is_err() {
            return Ok(());
        }
    }
    let _ = parts.send(Part::End).await;
    Ok(())
}

fn broke_off() -> Error {
    Error::Stream(io::ErrorKind::UnexpectedEof.into())
}

/// What `object_store` said.
fn of_listing(error: object_store::Error) -> Error {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return Error::io("list or delete blobs", io::Error::new(io.kind(), error.to_string()));
        }
        source = cause.source();
    }
    Error::io("list or delete blobs", io::Error::other(error))
}

fn object_path(key: &BlobKey) -> Result<ObjectPath> {
    ObjectPath::parse(key.as_str()).map_err(|error| Error::Corrupt(error.to_string()))
}

#[async_trait]
impl BlobStore for FileBlobs {
    async fn put(&self, key: &BlobKey, body: ByteStream) -> Result<BlobInfo> {
        let (parts, received) = mpsc::channel(WAITING_CHUNKS);
        let (temps, places) = (self.temps.clone(), self.places(key));
        let writer = spawn_blocking(move || files::write_new(&temps, &places.sealed, &places.key, received));
        let sent = hand_over(body, parts).await;
        let written = writer.await.map_err(|error| Error::Unavailable(Some(Box::new(error))))?;
        sent?;
        let size_bytes = written?.ok_or_else(broke_off)?;
        Ok(BlobInfo { size_bytes })
    }

    async fn read(&self, key: &BlobKey, range: Option<Range<u64>>) -> Result<ByteStream> {
        self.read_file(self.places(key).sealed, key, range).await
    }

    async fn head(&self, key: &BlobKey) -> Result<BlobInfo> {
        match self.listing.head(&object_path(key)?).await {
            Ok(meta) => Ok(BlobInfo { size_bytes: meta.size }),
            Err(object_store::Error::NotFound { .. }) => Err(Error::NotFound(key.clone())),
            Err(error) => Err(of_listing(error)),
        }
    }

    async fn delete(&self, key: &BlobKey) -> Result<()> {
        match self.listing.delete(&object_path(key)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(of_listing(error)),
        }
    }

    async fn delete_prefix(&self, prefix: &BlobKey) -> Result<u64> {
        let mut deleted = 0;
        let mut found = self.listing.list(Some(&object_path(prefix)?));
        while let Some(meta) = found.next().await {
            match meta {
                Ok(meta) => match self.listing.delete(&meta.location).await {
                    Ok(()) => deleted += 1,
                    Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(of_listing(error)),
                },
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(of_listing(error)),
            }
        }
        Ok(deleted)
    }

    async fn append(&self, key: &BlobKey, offset: u64, body: ByteStream) -> Result<u64> {
        let (parts, received) = mpsc::channel(WAITING_CHUNKS);
        let places = self.places(key);
        let writer = spawn_blocking(move || places.append(offset, received));
        let sent = hand_over(body, parts).await;
        let written = writer.await.map_err(|error| Error::Unavailable(Some(Box::new(error))))?;
        // A broken body counts before what the disk says: the caller asks for the length anyway.
        sent?;
        match written? {
            (length, true) => Ok(length),
            (_, false) => Err(broke_off()),
        }
    }

    async fn open_length(&self, key: &BlobKey) -> Result<Option<u64>> {
        let places = self.places(key);
        blocking(move || places.open_length()).await
    }

    async fn read_open(&self, key: &BlobKey, range: Range<u64>) -> Result<ByteStream> {
        self.read_file(self.places(key).open, key, Some(range)).await
    }

    async fn seal(&self, key: &BlobKey) -> Result<BlobInfo> {
        let places = self.places(key);
        let sealed = blocking(move || places.seal()).await?;
        sealed.map(|size_bytes| BlobInfo { size_bytes }).ok_or_else(|| Error::NotFound(key.clone()))
    }

    async fn discard(&self, key: &BlobKey) -> Result<()> {
        let places = self.places(key);
        blocking(move || places.discard()).await
    }

    fn local_path(&self, key: &BlobKey) -> Option<PathBuf> {
        Some(self.places(key).sealed)
    }
}

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
use futures::{StreamExt, stream};
use object_store::{ObjectStore, ObjectStoreExt, local::LocalFileSystem, path::Path as ObjectPath};
use tokio::{runtime::Handle, task::spawn_blocking};

use crate::{
    blob::{BlobInfo, BlobStore, ByteStream, Ended, next_bytes},
    error::{Error, Result},
    files::{self, NewFile, Places, Taking},
    key::BlobKey,
};

/// Bytes written at once, if so many have come. With chunks of at most 1 MiB this bounds a body's memory.
const WRITE_BYTES: usize = 512 * 1024;
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

/// A file that is being written, used on blocking threads only. No thread is held while the sender is awaited: they
/// are few, and senders may be slow.
struct Written<F: Taking>(Option<F>);

impl<F: Taking> Written<F> {
    async fn begin(open: impl FnOnce() -> Result<F> + Send + 'static) -> Result<Self> {
        Ok(Self(Some(blocking(open).await?)))
    }

    /// Writes a body to the file and finishes it.
    async fn take_all(mut self, mut body: ByteStream) -> Result<(F, Ended)> {
        loop {
            let (mut bytes, ended) = next_bytes(&mut body, WRITE_BYTES).await;
            let Some(mut file) = self.0.take() else { return Err(Error::Unavailable(None)) };
            let blocks = bytes.take();
            let file = if blocks.is_empty() { file } else { blocking(move || file.take(&blocks).map(|()| file)).await? };
            match ended {
                Some(ended) => return Ok((file, ended)),
                None => self.0 = Some(file),
            }
        }
    }
}

impl<F: Taking> Drop for Written<F> {
    /// A caller that gives up leaves a file to remove or to sync.
    fn drop(&mut self) {
        let Some(file) = self.0.take() else { return };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn_blocking(move || drop(file));
        }
    }
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
        let (temps, places) = (self.temps.clone(), self.places(key));
        let file = Written::begin(move || NewFile::begin(&temps, places)).await?;
        let (file, ended) = file.take_all(body).await?;
        match ended {
            Ended::Whole => blocking(move || file.finish()).await.map(|size_bytes| BlobInfo { size_bytes }),
            Ended::BrokeOff(broken) => {
                blocking(move || {
                    drop(file);
                    Ok(())
                })
                .await?;
                Err(Error::sending(broken))
            }
        }
    }

    async fn read(&self, key: &BlobKey, range: Option<Range<u64>>) -> Result<ByteStream> {
        self.read_file(self.places(key).sealed, key, range).await
    }

    async fn head(&self, key: &BlobKey) -> Result<BlobInfo> {
        let path = self.places(key).sealed;
        let size_bytes = blocking(move || files::size_of(&path)).await?.ok_or_else(|| Error::NotFound(key.clone()))?;
        Ok(BlobInfo { size_bytes })
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
        let places = self.places(key);
        let file = Written::begin(move || places.grow(offset)).await?;
        let (file, ended) = file.take_all(body).await?;
        let finished = blocking(move || file.finish()).await;
        match ended {
            Ended::Whole => finished,
            // It counts before what the disk says: the caller asks for the length anyway.
            Ended::BrokeOff(broken) => Err(Error::sending(broken)),
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

//! From the child's folder into the store. The child is not trusted: names are checked, and only
//! plain files inside its folder are taken.

use std::{
    fs::Metadata,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures::TryStreamExt as _;
use streamgate_store::{BlobKey, BlobStore, Error as StoreError};
use tokio::io::AsyncWriteExt as _;

use crate::Error;

/// Largest file that is taken: two seconds at far more than any rung's rate.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Whether `name` can be a rendition's: it becomes part of paths.
pub(super) fn is_rendition(name: &str) -> bool {
    let digits = name.strip_prefix(['v', 'a']).unwrap_or("");
    (1..=6).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
}

/// Where a plain file that the child names lies. Whatever leads out of its folder is refused, before anything is opened,
/// read or removed.
async fn inside(folder: &Path, name: &str) -> Result<PathBuf, Error> {
    let parts: Vec<&str> = name.split('/').collect();
    let plain =
        |part: &&str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.');
    if parts.len() > 2 || !parts.iter().all(plain) {
        return Err(Error::Nonsense(format!("a file called {name:?}")));
    }
    let path = folder.join(name);
    if let (2, Some(parent)) = (parts.len(), path.parent())
        && !kind(parent).await?.is_dir()
    {
        return Err(Error::Nonsense(format!("{name:?} does not lie in a folder")));
    }
    let kind = kind(&path).await?;
    if !kind.is_file() || kind.len() > MAX_FILE_BYTES {
        return Err(Error::Nonsense(format!("{name:?} is no file of a sane size")));
    }
    Ok(path)
}

/// What lies there itself, and not what it may point at.
async fn kind(path: &Path) -> Result<Metadata, Error> {
    tokio::fs::symlink_metadata(path).await.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::Nonsense("a file that is not there".to_owned()),
        _ => Error::io("look at the encoder's file")(error),
    })
}

/// Reads a file that the child made, and nothing that only looks like one.
pub(super) async fn take(folder: &Path, name: &str) -> Result<Bytes, Error> {
    let path = inside(folder, name).await?;
    Ok(tokio::fs::read(&path).await.map_err(Error::io("read the encoder's file"))?.into())
}

/// Removes a file that was taken, or is not wanted, so that the child may go on.
pub(super) async fn remove(folder: &Path, name: &str) -> Result<(), Error> {
    let path = inside(folder, name).await?;
    tokio::fs::remove_file(path).await.map_err(Error::io("remove the encoder's file"))
}

/// Stores `body` below the title's media and gives its path. A blob that a dead attempt left is
/// taken as it is when it holds the same bytes; otherwise this attempt's gets a name of its own, so that
/// nobody ever deletes what somebody else may have published.
pub(super) async fn store(blobs: &dyn BlobStore, content_id: &str, path: &str, fence: i64, body: Bytes) -> Result<String, Error> {
    let media = BlobKey::new(format!("media/{content_id}"))?;
    match blobs.put(&media.join(path)?, streamgate_store::bytes(body.clone())).await {
        Ok(_) => return Ok(path.to_owned()),
        Err(StoreError::AlreadyExists(_)) => {}
        Err(error) => return Err(error.into()),
    }
    if same(blobs, &media.join(path)?, &body).await? {
        return Ok(path.to_owned());
    }
    let (stem, extension) = path.rsplit_once('.').unwrap_or((path, "bin"));
    let own = format!("{stem}.{fence}.{extension}");
    match blobs.put(&media.join(&own)?, streamgate_store::bytes(body)).await {
        Ok(_) | Err(StoreError::AlreadyExists(_)) => Ok(own),
        Err(error) => Err(error.into()),
    }
}

async fn same(blobs: &dyn BlobStore, key: &BlobKey, body: &Bytes) -> Result<bool, Error> {
    if blobs.head(key).await?.size_bytes != body.len() as u64 {
        return Ok(false);
    }
    let there = streamgate_store::collect(blobs.read(key, None).await?, body.len()).await?;
    Ok(there == *body)
}

/// A file with the source in it: the store's own, or a copy in `scratch`.
pub(super) async fn materialise(blobs: &dyn BlobStore, key: &BlobKey, scratch: &Path) -> Result<PathBuf, Error> {
    let whole = blobs.head(key).await?.size_bytes;
    if let Some(path) = blobs.local_path(key) {
        return Ok(path);
    }
    let path = scratch.join("source");
    let mut file = tokio::fs::File::create(&path).await.map_err(Error::io("make a copy of the source"))?;
    let mut body = blobs.read(key, None).await?;
    let mut copied = 0;
    while let Some(chunk) = body.try_next().await.map_err(StoreError::reading)? {
        file.write_all(&chunk).await.map_err(Error::io("copy the source"))?;
        copied += chunk.len() as u64;
    }
    file.flush().await.map_err(Error::io("copy the source"))?;
    // A body that broke off without a word must not be taken for a damaged source.
    let cut = || std::io::Error::new(std::io::ErrorKind::UnexpectedEof, format!("{copied} of {whole} bytes"));
    if copied == whole { Ok(path) } else { Err(Error::io("copy the source")(cut())) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_rendition_is_a_letter_and_digits() {
        assert!(is_rendition("v1080") && is_rendition("a128"));
        for bad in ["", "v", "x720", "v720/..", "v7200000", "../v1"] {
            assert!(!is_rendition(bad), "{bad}");
        }
    }

    #[tokio::test]
    async fn only_plain_files_inside_the_folder_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("v720")).unwrap();
        std::fs::write(folder.path().join("v720/00001.m4s"), b"x").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("v720/00002.m4s")).unwrap();
        std::os::unix::fs::symlink("/etc", folder.path().join("v480")).unwrap();
        assert_eq!(take(folder.path(), "v720/00001.m4s").await.unwrap(), Bytes::from_static(b"x"));
        for bad in ["v720/00002.m4s", "v480/passwd", "../x", "/etc/passwd", "v720/../../x", "v720//x", "a/b/c", "v720/00003.m4s"]
        {
            assert!(matches!(take(folder.path(), bad).await, Err(Error::Nonsense(_))), "{bad}");
        }
    }

    #[tokio::test]
    async fn only_plain_files_inside_the_folder_are_removed() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let precious = other.path().join("precious");
        std::fs::write(&precious, b"x").unwrap();
        std::fs::create_dir(folder.path().join("v720")).unwrap();
        std::fs::write(folder.path().join("v720/00001.m4s"), b"x").unwrap();
        std::os::unix::fs::symlink(other.path(), folder.path().join("v480")).unwrap();
        let up = format!("../{}/precious", other.path().file_name().unwrap().to_str().unwrap());
        for bad in [precious.to_str().unwrap(), up.as_str(), "v480/precious", "v720", "v720/00002.m4s"] {
            assert!(matches!(remove(folder.path(), bad).await, Err(Error::Nonsense(_))), "{bad}");
        }
        assert!(precious.exists() && folder.path().join("v720/00001.m4s").exists());
        remove(folder.path(), "v720/00001.m4s").await.unwrap();
        assert!(!folder.path().join("v720/00001.m4s").exists());
    }
}

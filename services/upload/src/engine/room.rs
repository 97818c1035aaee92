//! How much room there is for files.

use std::{fmt::Debug, path::PathBuf};

/// Of a small disk this share is kept free, however much is asked for.
const SHARE_KEPT_FREE: u64 = 20;

/// Knows how many bytes may still be stored.
pub trait Room: Debug + Send + Sync + 'static {
    /// Bytes that may still be stored; absent when nobody knows.
    fn free_bytes(&self) -> Option<u64>;
}

/// A disk that others need too: databases live beside the files, and without room nobody can sign in or play.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    reserve_bytes: u64,
}

impl Disk {
    /// The disk of `folder`. `reserve_bytes` of it are kept free, of a small disk a twentieth.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>, reserve_bytes: u64) -> Self {
        Self { folder: folder.into(), reserve_bytes }
    }
}

impl Room for Disk {
    fn free_bytes(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.folder).ok()?;
        let whole = disk.f_blocks.saturating_mul(disk.f_frsize);
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        Some(free.saturating_sub(self.reserve_bytes.min(whole / SHARE_KEPT_FREE)))
    }
}

/// A store that grows as it is filled.
#[derive(Debug)]
pub struct Boundless;

impl Room for Boundless {
    fn free_bytes(&self) -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use streamgate_store::{S3Bucket, open_blobs, open_bucket};

    use super::*;
    use crate::engine::Storage;

    #[tokio::test]
    async fn the_disk_of_this_process_bounds_files_and_no_bucket() {
        let folder = tempfile::tempdir().unwrap();
        let files = open_blobs(folder.path()).unwrap();
        assert!(Storage::of(files, folder.path(), 0).unwrap().room.free_bytes().is_some());
        let bucket = S3Bucket::new("http://127.0.0.1:9", "us-east-1", "media", "key", "secret").unwrap();
        let objects = open_bucket(&bucket).unwrap();
        assert_eq!(Storage::of(objects, folder.path(), 0).unwrap().room.free_bytes(), None);
    }

    #[test]
    fn a_disk_keeps_its_reserve() {
        let folder = tempfile::tempdir().unwrap();
        let all = Disk::new(folder.path(), 0).free_bytes().unwrap();
        let kept = Disk::new(folder.path(), u64::MAX).free_bytes().unwrap();
        assert!(kept < all, "{kept} of {all}");
        assert_eq!(Disk::new("/nowhere/at/all", 0).free_bytes(), None);
    }
}

//! Both engines keep the contract; the one on files also survives crashes and full disks.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{fs, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use streamgate_core::ErrorKind;
use streamgate_store::{BlobKey, ByteStream, Error, FileBlobs, MemoryBlobs, bytes, collect, conformance, open_blobs};
use streamgate_testkit::eventually;
use tempfile::tempdir;

/// How long a test waits for what must happen.
const BOUND: Duration = Duration::from_secs(60);

fn key(text: &str) -> BlobKey {
    BlobKey::new(text).unwrap()
}

fn files_below(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).map(|p| if p.is_dir() { files_below(&p) } else { 1 }).sum()
}

/// A sender that goes silent after its first bytes.
fn pausing(first: &'static [u8]) -> ByteStream {
    stream::iter([Ok(Bytes::from_static(first))]).chain(stream::pending()).boxed()
}

async fn until_temps(folder: &Path, wanted: usize) {
    let look = || async { Ok((files_below(&folder.join("temp")) == wanted).then_some(())) };
    eventually("the number of bodies on their way", BOUND, look).await.unwrap();
}

#[tokio::test]
async fn the_memory_engine_keeps_the_contract() {
    conformance::run(&MemoryBlobs::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_engine_keeps_the_contract() {
    let folder = tempdir().unwrap();
    conformance::run(&FileBlobs::open(folder.path()).unwrap()).await;
    until_temps(folder.path(), 0).await;
}

#[tokio::test]
async fn what_a_crash_left_half_written_is_swept_at_the_next_start() {
    let folder = tempdir().unwrap();
    open_blobs(folder.path()).unwrap();
    fs::write(folder.path().join("temp/orphan"), b"half").unwrap();
    open_blobs(folder.path()).unwrap();
    assert_eq!(files_below(&folder.path().join("temp")), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_leaves_a_body_alone_that_is_being_written() {
    let folder = tempdir().unwrap();
    let store = open_blobs(folder.path()).unwrap();
    let (open, gate) = futures::channel::oneshot::channel::<()>();
    let body = stream::once(async { Ok(Bytes::from_static(b"half")) })
        .chain(stream::once(async move {
            gate.await.unwrap();
            Ok(Bytes::from_static(b"rest"))
        }))
        .boxed();
    let writing = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.put(&key("a/b"), body).await }
    });
    until_temps(folder.path(), 1).await;
    let second = open_blobs(folder.path()).unwrap();
    open.send(()).unwrap();
    assert_eq!(writing.await.unwrap().unwrap().size_bytes, 8);
    assert_eq!(second.head(&key("a/b")).await.unwrap().size_bytes, 8);
}

#[tokio::test]
async fn appended_bytes_and_sealed_blobs_are_there_after_a_restart() {
    let folder = tempdir().unwrap();
    let store = open_blobs(folder.path()).unwrap();
    store.append(&key("s/1"), 0, bytes(Bytes::from_static(b"12345"))).await.unwrap();
    store.put(&key("s/2"), bytes(Bytes::from_static(b"67"))).await.unwrap();
    drop(store);
    let store = open_blobs(folder.path()).unwrap();
    assert_eq!(store.open_length(&key("s/1")).await.unwrap(), Some(5));
    assert_eq!(store.head(&key("s/2")).await.unwrap().size_bytes, 2);
}

#[tokio::test]
async fn a_crash_in_the_middle_of_sealing_is_made_good() {
    let folder = tempdir().unwrap();
    let store = open_blobs(folder.path()).unwrap();
    let sealed = key("s/1");
    store.append(&sealed, 0, bytes(Bytes::from_static(b"12345"))).await.unwrap();
    // As after a crash between the new name and the removal of the old one.
    fs::create_dir_all(folder.path().join("objects/s")).unwrap();
    fs::hard_link(folder.path().join("open/s/1"), folder.path().join("objects/s/1")).unwrap();
    assert_eq!(store.open_length(&sealed).await.unwrap(), None);
    assert!(matches!(store.append(&sealed, 5, bytes(Bytes::from_static(b"6"))).await, Err(Error::AlreadyExists(_))));
    assert_eq!(store.seal(&sealed).await.unwrap().size_bytes, 5);
    assert!(!folder.path().join("open/s/1").exists());
}

#[tokio::test]
async fn a_link_in_the_place_of_a_blob_is_no_blob() {
    let folder = tempdir().unwrap();
    let store = open_blobs(folder.path()).unwrap();
    fs::write(folder.path().join("secret"), b"secret").unwrap();
    std::os::unix::fs::symlink(folder.path().join("secret"), folder.path().join("objects/link")).unwrap();
    let read = store.read(&key("link"), None).await;
    assert!(matches!(read, Err(Error::NotFound(_))));
    let head = store.head(&key("link")).await;
    assert!(matches!(head, Err(Error::NotFound(_))), "{head:?}");
}

#[test]
fn senders_that_pause_keep_nobody_from_reading() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).max_blocking_threads(2).enable_all().build();
    let outcome = runtime.unwrap().block_on(async {
        let folder = tempdir().unwrap();
        let store = open_blobs(folder.path()).unwrap();
        store.put(&key("a/read"), bytes(Bytes::from_static(b"12345"))).await.unwrap();
        let mut senders = tokio::task::JoinSet::new();
        for n in 0..4 {
            let (put, append) = (Arc::clone(&store), Arc::clone(&store));
            senders.spawn(async move { put.put(&key(&format!("slow/put-{n}")), pausing(b"half")).await.map(drop) });
            senders.spawn(async move { append.append(&key(&format!("slow/open-{n}")), 0, pausing(b"half")).await.map(drop) });
        }
        let all = async {
            until_temps(folder.path(), 4).await;
            for n in 0..4 {
                let look =
                    || async { Ok(store.open_length(&key(&format!("slow/open-{n}"))).await?.filter(|length| *length == 4)) };
                eventually("what a slow sender sent is there", BOUND, look).await.unwrap();
            }
            collect(store.read(&key("a/read"), None).await.unwrap(), 10).await.unwrap()
        };
        tokio::time::timeout(BOUND, all).await
    });
    assert_eq!(outcome.expect("reading waits for slow senders"), "12345");
}

#[tokio::test]
async fn a_file_that_has_lost_its_end_is_not_taken_for_a_sender_that_broke_off() {
    let folder = tempdir().unwrap();
    let store = open_blobs(folder.path()).unwrap();
    store.put(&key("a/b"), bytes(Bytes::from(vec![7; 2 << 20]))).await.unwrap();
    let mut body = store.read(&key("a/b"), None).await.unwrap();
    body.try_next().await.unwrap();
    fs::File::options().write(true).open(folder.path().join("objects/a/b")).unwrap().set_len(1 << 20).unwrap();
    let failed = body.try_collect::<Vec<_>>().await.map_err(Error::reading).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Internal, "{failed:?}");
    let mut body = store.read(&key("a/b"), None).await.unwrap();
    body.try_next().await.unwrap();
    fs::File::options().write(true).open(folder.path().join("objects/a/b")).unwrap().set_len(1 << 19).unwrap();
    let failed = store.append(&key("joined"), 0, body).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Internal, "{failed:?}");
}

#[tokio::test]
async fn no_room_left_is_said_as_storage_full() {
    // The device takes no byte: each write fails as on a full disk.
    let folder = tempdir().unwrap();
    let store = open_blobs(folder.path()).unwrap();
    fs::create_dir_all(folder.path().join("open/s")).unwrap();
    std::os::unix::fs::symlink("/dev/full", folder.path().join("open/s/1")).unwrap();
    let failed = store.append(&key("s/1"), 0, bytes(Bytes::from_static(b"x"))).await.unwrap_err();
    assert!(matches!(failed, Error::Full), "{failed:?}");
    assert_eq!(failed.kind(), ErrorKind::StorageFull);
}

#[tokio::test]
async fn a_file_in_the_place_of_the_folder_is_one_clear_error() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("blobs");
    fs::write(&path, b"").unwrap();
    let failed = open_blobs(&path).unwrap_err();
    assert!(failed.to_string().contains("open the blob folder"), "{failed}");
}

//! Proof of the contract of [`BlobStore`], for any engine: one case for each of its sentences.
//!
//! [`run`] panics at the first sentence that the engine breaks.

#![allow(clippy::unwrap_used, reason = "a case that fails must panic: this is a test suite that other crates call")]

use std::{
    io,
    pin::pin,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, stream};

use crate::{
    blob::{BlobStore, ByteStream, bytes, collect},
    error::{Error, Result},
    key::BlobKey,
};

/// More than any engine takes in one chunk.
const LARGE: usize = 3 * 1024 * 1024 + 17;

/// More than any engine takes as one object.
const HUGE: usize = 9 * 1024 * 1024;
/// Longest wait for what must happen: one that takes longer is a fault, and hangs nobody.
const BOUND: Duration = Duration::from_secs(60);

/// Runs every case. The store may hold other blobs; nothing below `conformance/`.
pub async fn run(store: &dyn BlobStore) {
    a_body_reads_back_as_it_was_put(store).await;
    a_taken_key_is_refused(store).await;
    a_key_is_taken_whatever_the_sizes(store).await;
    one_of_two_puts_at_once_wins(store).await;
    a_body_that_breaks_off_leaves_nothing(store).await;
    a_put_that_is_dropped_leaves_nothing(store).await;
    a_range_gives_its_bytes(store).await;
    a_range_past_the_end_is_refused(store).await;
    an_absent_blob_is_not_found(store).await;
    deleting_twice_is_success(store).await;
    a_read_outlives_the_deletion(store).await;
    a_prefix_is_deleted_and_counted(store).await;
    pieces_add_up(store).await;
    another_offset_than_the_length_is_refused(store).await;
    an_open_blob_is_invisible(store).await;
    a_second_writer_is_refused(store).await;
    an_append_that_is_dropped_lets_the_next_one_in(store).await;
    a_piece_that_breaks_off_stays(store).await;
    sealing_makes_a_blob(store).await;
    sealing_twice_gives_the_same(store).await;
    sealing_nothing_is_not_found(store).await;
    a_sealed_blob_takes_no_more(store).await;
    a_discarded_blob_begins_anew(store).await;
    a_local_path_holds_the_bytes(store).await;
}

fn key(case: &str) -> BlobKey {
    BlobKey::new(format!("conformance/{case}/blob.bin")).unwrap()
}

fn pattern(length: usize) -> Bytes {
    (0..length).map(|i| u8::try_from(i * 31 % 251).unwrap()).collect()
}

/// A body in chunks of an odd size.
fn in_chunks(body: &Bytes) -> ByteStream {
    let chunks: Vec<_> = body.chunks(70_001).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    stream::iter(chunks).boxed()
}

fn breaking_off(first: &'static [u8]) -> ByteStream {
    stream::iter([Ok(Bytes::from_static(first)), Err(io::ErrorKind::ConnectionReset.into())]).boxed()
}

fn endless(first: &'static [u8]) -> ByteStream {
    stream::iter([Ok(Bytes::from_static(first))]).chain(stream::pending()).boxed()
}

/// Looks until there is something to see.
async fn until<T, Fut: Future<Output = Option<T>>>(what: &str, look: impl Fn() -> Fut) -> T {
    let end = Instant::now() + BOUND;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < end, "{what}: not so after {} s", BOUND.as_secs());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn until_length(store: &dyn BlobStore, key: &BlobKey, length: u64) {
    until("the bytes show", || async { (store.open_length(key).await.unwrap() == Some(length)).then_some(()) }).await;
}

async fn whole(store: &dyn BlobStore, key: &BlobKey) -> Bytes {
    collect(store.read(key, None).await.unwrap(), 16 << 20).await.unwrap()
}

fn is_not_found<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::NotFound(_)))
}

async fn a_body_reads_back_as_it_was_put(store: &dyn BlobStore) {
    for length in [0, 1, 65_536, LARGE] {
        let (key, body) = (key(&format!("put-{length}")), pattern(length));
        let info = store.put(&key, in_chunks(&body)).await.unwrap();
        assert_eq!(info.size_bytes, length as u64);
        assert_eq!(store.head(&key).await.unwrap(), info);
        assert_eq!(whole(store, &key).await, body);
    }
}

async fn a_taken_key_is_refused(store: &dyn BlobStore) {
    let key = key("taken");
    store.put(&key, bytes(Bytes::from_static(b"first"))).await.unwrap();
    let second = store.put(&key, bytes(Bytes::from_static(b"second"))).await;
    assert!(matches!(second, Err(Error::AlreadyExists(taken)) if taken == key));
    assert_eq!(whole(store, &key).await, "first");
}

async fn a_key_is_taken_whatever_the_sizes(store: &dyn BlobStore) {
    let small = || bytes(Bytes::from_static(b"small"));
    let huge = || in_chunks(&Bytes::from(vec![7; HUGE]));
    let first_huge = key("taken-huge");
    store.put(&first_huge, huge()).await.unwrap();
    assert!(matches!(store.put(&first_huge, small()).await, Err(Error::AlreadyExists(_))));
    assert_eq!(store.head(&first_huge).await.unwrap().size_bytes, HUGE as u64);

    let first_small = key("taken-small");
    store.put(&first_small, small()).await.unwrap();
    assert!(matches!(store.put(&first_small, huge()).await, Err(Error::AlreadyExists(_))));
    assert_eq!(whole(store, &first_small).await, "small");

    let sealed = key("taken-sealed");
    store.append(&sealed, 0, bytes(pattern(10))).await.unwrap();
    store.seal(&sealed).await.unwrap();
    assert!(matches!(store.put(&sealed, small()).await, Err(Error::AlreadyExists(_))));
    assert_eq!(whole(store, &sealed).await, pattern(10));
}

async fn one_of_two_puts_at_once_wins(store: &dyn BlobStore) {
    let key = key("race");
    let put = |text: &'static [u8]| store.put(&key, bytes(Bytes::from_static(text)));
    let (one, two) = futures::join!(put(b"one"), put(b"two"));
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    assert_eq!(whole(store, &key).await, if one.is_ok() { "one" } else { "two" });
}

async fn a_body_that_breaks_off_leaves_nothing(store: &dyn BlobStore) {
    let key = key("broken-put");
    assert!(matches!(store.put(&key, breaking_off(b"half")).await, Err(Error::Stream(_))));
    assert!(is_not_found(&store.head(&key).await));
    store.put(&key, bytes(Bytes::from_static(b"whole"))).await.unwrap();
}

async fn a_put_that_is_dropped_leaves_nothing(store: &dyn BlobStore) {
    let key = key("dropped-put");
    {
        let mut put = pin!(store.put(&key, endless(b"half")));
        assert!(futures::poll!(&mut put).is_pending());
    }
    assert!(is_not_found(&store.head(&key).await));
    store.put(&key, bytes(Bytes::from_static(b"whole"))).await.unwrap();
    assert_eq!(whole(store, &key).await, "whole");
}

async fn a_range_gives_its_bytes(store: &dyn BlobStore) {
    let (key, body) = (key("range"), pattern(LARGE));
    store.put(&key, in_chunks(&body)).await.unwrap();
    for range in [0..LARGE, 0..0, LARGE..LARGE, 5..6, 262_143..262_145, 1_000..LARGE] {
        let wanted = range.start as u64..range.end as u64;
        let got = collect(store.read(&key, Some(wanted)).await.unwrap(), 16 << 20).await.unwrap();
        assert!(got == body.slice(range.clone()), "{range:?}");
    }
}

async fn a_range_past_the_end_is_refused(store: &dyn BlobStore) {
    let key = key("range-past-end");
    store.put(&key, bytes(pattern(10))).await.unwrap();
    #[allow(clippy::reversed_empty_ranges, reason = "a caller may ask for it")]
    for range in [0..11, 11..11, 10..12, 6..5] {
        let read = store.read(&key, Some(range.clone())).await;
        assert!(matches!(read, Err(Error::OutOfRange { size_bytes: 10 })), "{range:?}");
    }
}

async fn an_absent_blob_is_not_found(store: &dyn BlobStore) {
    let key = key("absent");
    assert!(is_not_found(&store.head(&key).await));
    assert!(is_not_found(&store.read(&key, None).await));
    assert!(is_not_found(&store.read_open(&key, 0..0).await));
    // What lies above a blob is none.
    store.put(&key.join("below").unwrap(), bytes(Bytes::new())).await.unwrap();
    assert!(is_not_found(&store.head(&key).await));
    assert!(is_not_found(&store.read(&key, None).await));
}

async fn deleting_twice_is_success(store: &dyn BlobStore) {
    let key = key("deleted");
    store.put(&key, bytes(pattern(10))).await.unwrap();
    store.delete(&key).await.unwrap();
    assert!(is_not_found(&store.head(&key).await));
    store.delete(&key).await.unwrap();
}

async fn a_read_outlives_the_deletion(store: &dyn BlobStore) {
    let (key, body) = (key("read-deleted"), pattern(LARGE));
    store.put(&key, in_chunks(&body)).await.unwrap();
    let reading = store.read(&key, None).await.unwrap();
    store.delete(&key).await.unwrap();
    assert!(collect(reading, 16 << 20).await.unwrap() == body);
}

async fn a_prefix_is_deleted_and_counted(store: &dyn BlobStore) {
    let named = |name: &str| BlobKey::new(format!("conformance/{name}")).unwrap();
    for name in ["p/a", "p/b/c", "p/b/d", "px/a"] {
        store.put(&named(name), bytes(pattern(3))).await.unwrap();
    }
    store.append(&named("p/open"), 0, bytes(pattern(3))).await.unwrap();
    assert_eq!(store.delete_prefix(&named("p")).await.unwrap(), 3);
    assert_eq!(store.delete_prefix(&named("p")).await.unwrap(), 0);
    assert!(is_not_found(&store.head(&named("p/b/c")).await));
    assert!(store.head(&named("px/a")).await.is_ok());
    assert_eq!(store.open_length(&named("p/open")).await.unwrap(), Some(3));
}

async fn pieces_add_up(store: &dyn BlobStore) {
    let (key, body) = (key("pieces"), pattern(LARGE));
    let mut offset = 0;
    for piece in [0..100, 100..100, 100..2_000_000, 2_000_000..LARGE] {
        offset = store.append(&key, offset, in_chunks(&body.slice(piece))).await.unwrap();
        assert_eq!(store.open_length(&key).await.unwrap(), Some(offset));
    }
    let read = collect(store.read_open(&key, 50..offset).await.unwrap(), 16 << 20).await.unwrap();
    assert!(read == body.slice(50..));
    assert!(matches!(store.read_open(&key, 0..offset + 1).await, Err(Error::OutOfRange { .. })));
    store.seal(&key).await.unwrap();
    assert!(whole(store, &key).await == body);
}

async fn another_offset_than_the_length_is_refused(store: &dyn BlobStore) {
    let key = key("offset");
    assert!(matches!(store.append(&key, 1, bytes(pattern(1))).await, Err(Error::WrongOffset { durable: 0 })));
    store.append(&key, 0, bytes(pattern(10))).await.unwrap();
    for offset in [0, 9, 11] {
        let appended = store.append(&key, offset, bytes(pattern(1))).await;
        assert!(matches!(appended, Err(Error::WrongOffset { durable: 10 })), "{offset}");
    }
    assert_eq!(store.open_length(&key).await.unwrap(), Some(10));
}

async fn an_open_blob_is_invisible(store: &dyn BlobStore) {
    let key = key("invisible");
    store.append(&key, 0, bytes(pattern(10))).await.unwrap();
    assert!(is_not_found(&store.head(&key).await));
    assert!(is_not_found(&store.read(&key, None).await));
}

async fn a_second_writer_is_refused(store: &dyn BlobStore) {
    let key = key("busy");
    let (open, gate) = futures::channel::oneshot::channel::<()>();
    let held =
        stream::once(async { Ok(Bytes::from_static(b"first")) }).chain(stream::once(gate).filter_map(|_| async { None })).boxed();
    let first = store.append(&key, 0, held);
    let others = async {
        // The first writer's bytes show that it holds the blob.
        until_length(store, &key, 5).await;
        assert!(matches!(store.append(&key, 5, bytes(pattern(1))).await, Err(Error::Busy(_))));
        assert!(matches!(store.seal(&key).await, Err(Error::Busy(_))));
        assert!(matches!(store.discard(&key).await, Err(Error::Busy(_))));
        open.send(()).unwrap();
    };
    let (first, ()) = futures::join!(first, others);
    assert_eq!(first.unwrap(), 5);
    assert_eq!(store.append(&key, 5, bytes(pattern(1))).await.unwrap(), 6);
}

async fn an_append_that_is_dropped_lets_the_next_one_in(store: &dyn BlobStore) {
    let key = key("dropped-append");
    {
        let append = pin!(store.append(&key, 0, endless(b"half")));
        let seen = pin!(until_length(store, &key, 4));
        futures::future::select(append, seen).await;
    }
    let next = || async {
        match store.append(&key, 4, bytes(Bytes::from_static(b"rest"))).await {
            Err(Error::Busy(_)) => None,
            next => Some(next.unwrap()),
        }
    };
    assert_eq!(until("the next one is let in", next).await, 8);
    store.seal(&key).await.unwrap();
    assert_eq!(whole(store, &key).await, "halfrest");
}

async fn a_piece_that_breaks_off_stays(store: &dyn BlobStore) {
    let key = key("broken-piece");
    assert!(matches!(store.append(&key, 0, breaking_off(b"half")).await, Err(Error::Stream(_))));
    assert_eq!(store.open_length(&key).await.unwrap(), Some(4));
    store.append(&key, 4, bytes(Bytes::from_static(b"rest"))).await.unwrap();
    store.seal(&key).await.unwrap();
    assert_eq!(whole(store, &key).await, "halfrest");
}

async fn sealing_makes_a_blob(store: &dyn BlobStore) {
    let key = key("sealed");
    store.append(&key, 0, bytes(pattern(10))).await.unwrap();
    assert_eq!(store.seal(&key).await.unwrap().size_bytes, 10);
    assert_eq!(store.head(&key).await.unwrap().size_bytes, 10);
    assert_eq!(store.open_length(&key).await.unwrap(), None);
}

async fn sealing_twice_gives_the_same(store: &dyn BlobStore) {
    let key = key("sealed-twice");
    store.append(&key, 0, bytes(pattern(10))).await.unwrap();
    let first = store.seal(&key).await.unwrap();
    assert_eq!(store.seal(&key).await.unwrap(), first);
}

async fn sealing_nothing_is_not_found(store: &dyn BlobStore) {
    assert!(is_not_found(&store.seal(&key("never-opened")).await));
}

async fn a_sealed_blob_takes_no_more(store: &dyn BlobStore) {
    let key = key("sealed-append");
    store.append(&key, 0, bytes(pattern(10))).await.unwrap();
    store.seal(&key).await.unwrap();
    for offset in [0, 10] {
        assert!(matches!(store.append(&key, offset, bytes(pattern(1))).await, Err(Error::AlreadyExists(_))));
    }
    store.discard(&key).await.unwrap();
    assert_eq!(whole(store, &key).await, pattern(10));
}

async fn a_discarded_blob_begins_anew(store: &dyn BlobStore) {
    let key = key("discarded");
    store.append(&key, 0, bytes(pattern(10))).await.unwrap();
    store.discard(&key).await.unwrap();
    assert_eq!(store.open_length(&key).await.unwrap(), None);
    store.discard(&key).await.unwrap();
    assert_eq!(store.append(&key, 0, bytes(pattern(3))).await.unwrap(), 3);
}

async fn a_local_path_holds_the_bytes(store: &dyn BlobStore) {
    let (key, body) = (key("local"), pattern(1_000));
    store.put(&key, bytes(body.clone())).await.unwrap();
    if let Some(path) = store.local_path(&key) {
        let read = tokio::task::spawn_blocking(move || std::fs::read(path)).map(|read| read.unwrap().unwrap()).await;
        assert_eq!(read, body);
    }
}

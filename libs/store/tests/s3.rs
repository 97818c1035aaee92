//! The engine on S3 servers keeps the contract, and what it confirmed outlives crashes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use streamgate_core::ErrorKind;
use streamgate_store::{BlobKey, BlobStore, Error, S3Blobs, S3Bucket, bytes, collect, conformance, open_bucket};
use streamgate_testkit::engines::{Engine as _, S3};

const MIB: usize = 1024 * 1024;

fn bucket(server: &S3) -> S3Bucket {
    S3Bucket::new(&server.url(), server.region(), server.bucket(), server.access_key(), server.secret_key()).unwrap()
}

fn key(text: &str) -> BlobKey {
    BlobKey::new(text).unwrap()
}

fn pattern(length: usize) -> Bytes {
    (0..length).map(|i| u8::try_from(i * 31 % 251).unwrap()).collect()
}

fn in_chunks(body: &Bytes) -> streamgate_store::ByteStream {
    let chunks: Vec<_> = body.chunks(700_001).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    stream::iter(chunks).boxed()
}

async fn whole(store: &dyn BlobStore, key: &BlobKey) -> Bytes {
    collect(store.read(key, None).await.unwrap(), 64 * MIB).await.unwrap()
}

#[tokio::test]
async fn a_server_with_conditional_writes_keeps_the_contract() {
    let server = S3::start_conditional().await.unwrap();
    conformance::run(&S3Blobs::open(&bucket(&server)).unwrap()).await;
}

#[tokio::test]
async fn bodies_larger_than_memory_allows_are_kept_in_pieces() {
    let server = S3::start_conditional().await.unwrap();
    let store = open_bucket(&bucket(&server)).unwrap();
    let body = pattern(19 * MIB + 5);
    assert_eq!(store.put(&key("big/put"), in_chunks(&body)).await.unwrap().size_bytes, body.len() as u64);
    assert!(whole(&*store, &key("big/put")).await == body);
    let again = store.put(&key("big/put"), in_chunks(&body)).await;
    assert!(matches!(again, Err(Error::AlreadyExists(_))), "{again:?}");

    // Steps around the size of a piece and of a small one, so that small ones are written anew.
    let mut offset = 0;
    for step in [1, 6 * MIB, 2 * MIB, 8 * MIB, 3 * MIB, MIB + 4 - 1] {
        let part = body.slice(offset..(offset + step).min(body.len()));
        offset = usize::try_from(store.append(&key("big/grown"), offset as u64, in_chunks(&part)).await.unwrap()).unwrap();
    }
    store.append(&key("big/grown"), offset as u64, in_chunks(&body.slice(offset..))).await.unwrap();
    let open = store.read_open(&key("big/grown"), 7 * MIB as u64..9 * MIB as u64).await.unwrap();
    assert!(collect(open, 4 * MIB).await.unwrap() == body.slice(7 * MIB..9 * MIB));
    assert_eq!(store.seal(&key("big/grown")).await.unwrap().size_bytes, body.len() as u64);
    assert!(whole(&*store, &key("big/grown")).await == body);
    let range = store.read(&key("big/grown"), Some(8 * MIB as u64 - 3..8 * MIB as u64 + 3)).await.unwrap();
    assert_eq!(collect(range, 10).await.unwrap(), body.slice(8 * MIB - 3..8 * MIB + 3));
    assert_eq!(store.delete_prefix(&key("big")).await.unwrap(), 2);
    assert!(matches!(store.head(&key("big/grown")).await, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn of_two_processes_that_append_at_once_one_is_refused_and_nothing_is_lost() {
    let server = S3::start_conditional().await.unwrap();
    let stores: Vec<Arc<dyn BlobStore>> = (0..4).map(|_| open_bucket(&bucket(&server)).unwrap()).collect();
    let key = key("shared");
    let mut offset = 0;
    for round in 0..5_u8 {
        let tries = stores.iter().enumerate().map(|(n, store)| {
            let body = Bytes::from(vec![round * 10 + u8::try_from(n).unwrap(); 1000]);
            store.append(&key, offset, bytes(body))
        });
        let outcomes = futures::future::join_all(tries).await;
        let won: Vec<_> = outcomes.iter().enumerate().filter(|(_, outcome)| outcome.is_ok()).map(|(n, _)| n).collect();
        assert_eq!(won.len(), 1, "{outcomes:?}");
        let part = collect(stores[0].read_open(&key, offset..offset + 1000).await.unwrap(), 2000).await.unwrap();
        assert!(part.iter().all(|byte| usize::from(*byte) == usize::from(round) * 10 + won[0]), "another writer's bytes");
        offset += 1000;
    }
    stores[1].seal(&key).await.unwrap();
    assert!(matches!(stores[2].append(&key, offset, bytes(pattern(1))).await, Err(Error::AlreadyExists(_))));
    assert_eq!(whole(&*stores[3], &key).await.len() as u64, offset);
}

#[tokio::test]
async fn what_was_confirmed_is_there_after_the_server_and_the_service_were_killed() {
    let mut server = S3::start().await.unwrap();
    let body = pattern(9 * MIB);
    let store = open_bucket(&bucket(&server)).unwrap();
    store.append(&key("grown"), 0, in_chunks(&body)).await.unwrap();
    store.put(&key("put"), bytes(pattern(1000))).await.unwrap();
    drop(store);
    server.kill();
    server.restart().await.unwrap();
    let store = open_bucket(&bucket(&server)).unwrap();
    assert_eq!(store.open_length(&key("grown")).await.unwrap(), Some(body.len() as u64));
    assert_eq!(whole(&*store, &key("put")).await, pattern(1000));
    store.append(&key("grown"), body.len() as u64, bytes(pattern(10))).await.unwrap();
    assert_eq!(store.seal(&key("grown")).await.unwrap().size_bytes, body.len() as u64 + 10);
}

#[tokio::test]
async fn a_wrong_key_a_missing_bucket_and_a_dead_server_are_said_clearly() {
    let mut server = S3::start().await.unwrap();
    let good = bucket(&server);
    S3Blobs::open(&good).unwrap().check().await.unwrap();
    let stranger =
        S3Bucket::new(&server.url(), server.region(), server.bucket(), "AKIASTRANGER00000001", "a-wrong-secret").unwrap();
    let denied = S3Blobs::open(&stranger).unwrap().check().await.unwrap_err();
    assert!(matches!(denied, Error::Denied(_)), "{denied:?}");
    let elsewhere = S3Bucket::new(&server.url(), server.region(), "no-such-bucket", server.access_key(), server.secret_key());
    let missing = S3Blobs::open(&elsewhere.unwrap()).unwrap().check().await.unwrap_err();
    assert!(matches!(missing, Error::Denied(_)), "{missing:?}");
    server.stop().await.unwrap();
    let store = open_bucket(&good).unwrap();
    let away = store.put(&key("x"), bytes(pattern(1))).await.unwrap_err();
    assert_eq!(away.kind(), ErrorKind::Unavailable, "{away:?}");
    let away = store.read(&key("x"), None).await.err().unwrap();
    assert_eq!(away.kind(), ErrorKind::Unavailable, "{away:?}");
}

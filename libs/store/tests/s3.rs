//! The engine on S3 servers keeps the contract, and what it confirmed outlives crashes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};
use object_store::{
    ObjectStore as _, ObjectStoreExt as _,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path as ObjectPath,
};
use streamgate_core::ErrorKind;
use streamgate_store::{BlobKey, BlobStore, Error, S3Blobs, S3Bucket, bytes, collect, conformance, open_bucket};
use streamgate_testkit::{
    LogCapture,
    engines::{Engine as _, S3},
    eventually,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

const MIB: usize = 1024 * 1024;
/// How long a test waits for what must happen.
const BOUND: Duration = Duration::from_secs(60);

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

/// The server's objects as they lie there, to look at them and to take some away.
struct Raw(AmazonS3);

impl Raw {
    fn of(server: &S3) -> Self {
        let builder = AmazonS3Builder::new()
            .with_endpoint(server.url())
            .with_region(server.region())
            .with_bucket_name(server.bucket())
            .with_access_key_id(server.access_key())
            .with_secret_access_key(server.secret_key())
            .with_allow_http(true);
        Self(builder.build().unwrap())
    }

    async fn below(&self, folder: &str) -> Vec<ObjectPath> {
        self.0.list(Some(&ObjectPath::from(folder))).map_ok(|meta| meta.location).try_collect().await.unwrap()
    }

    async fn delete(&self, path: &str) {
        self.0.head(&path.into()).await.unwrap();
        self.0.delete(&path.into()).await.unwrap();
    }

    async fn until_below(&self, folder: &str, is_so: impl Fn(usize) -> bool) {
        let look = || async { Ok(is_so(self.below(folder).await.len()).then_some(())) };
        eventually(&format!("the number of objects below {folder}"), BOUND, look).await.unwrap();
    }
}

/// An address that passes everything on to a server, but does `act` first when the first request comes that
/// begins with `wanted`.
async fn detour(server: &S3, wanted: &'static str, act: BoxFuture<'static, ()>) -> S3Bucket {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = format!("http://{}", listener.local_addr().unwrap());
    let far = server.url().trim_start_matches("http://").to_owned();
    let act = Arc::new(Mutex::new(Some(act)));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (far, act) = (TcpStream::connect(&far).await.unwrap(), Arc::clone(&act));
            tokio::spawn(async move {
                let ((mut from, mut back), (mut answers, mut to)) = (client.into_split(), far.into_split());
                tokio::spawn(async move { tokio::io::copy(&mut answers, &mut back).await });
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(length @ 1..) = from.read(&mut buffer).await {
                    let act = if buffer.starts_with(wanted.as_bytes()) { act.lock().unwrap().take() } else { None };
                    if let Some(act) = act {
                        act.await;
                    }
                    to.write_all(&buffer[..length]).await.unwrap();
                }
            });
        }
    });
    S3Bucket::new(&near, server.region(), server.bucket(), server.access_key(), server.secret_key()).unwrap()
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
async fn a_server_that_overwrites_in_spite_of_a_condition_is_named_once() {
    let (logs, _guard) = LogCapture::start();
    let conditional = S3::start_conditional().await.unwrap();
    S3Blobs::open(&bucket(&conditional)).unwrap().check().await.unwrap();
    assert!(!logs.mentions("If-None-Match"));
    let overwriting = S3::start().await.unwrap();
    let store = S3Blobs::open(&bucket(&overwriting)).unwrap();
    store.check().await.unwrap();
    store.check().await.unwrap();
    assert_eq!(logs.lines().iter().filter(|line| line.text.contains("If-None-Match")).count(), 1);
    for server in [&conditional, &overwriting] {
        assert_eq!(Raw::of(server).below("probe").await, []);
    }
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

#[tokio::test]
async fn a_crash_between_the_two_writes_of_a_seal_takes_nothing_away() {
    let server = S3::start_conditional().await.unwrap();
    let key = key("sources/1");
    let first = open_bucket(&bucket(&server)).unwrap();
    first.append(&key, 0, bytes(pattern(100))).await.unwrap();
    first.seal(&key).await.unwrap();
    Raw::of(&server).delete("lists/sources/1").await;

    let next = open_bucket(&bucket(&server)).unwrap();
    assert_eq!(next.open_length(&key).await.unwrap(), Some(100));
    assert_eq!(collect(next.read_open(&key, 0..100).await.unwrap(), 100).await.unwrap(), pattern(100));
    assert!(matches!(next.append(&key, 100, bytes(pattern(1))).await, Err(Error::AlreadyExists(_))));
    assert_eq!(next.seal(&key).await.unwrap().size_bytes, 100);
    assert_eq!(whole(&*next, &key).await, pattern(100));
    assert!(matches!(next.read_open(&key, 0..100).await, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn a_writer_that_others_have_overtaken_is_refused() {
    let server = S3::start_conditional().await.unwrap();
    let raw = Raw::of(&server);
    let others = open_bucket(&bucket(&server)).unwrap();
    for (name, appends, seals) in [("grown", 2, false), ("sealed", 1, true), ("begun-anew", 0, false)] {
        let key = key(&format!("overtaken/{name}"));
        let (open, gate) = futures::channel::oneshot::channel::<()>();
        let body = stream::iter([Ok(Bytes::from_static(b"first"))])
            .chain(stream::once(gate).map(|_| Ok(Bytes::from_static(b"late"))))
            .boxed();
        let late = tokio::spawn({
            let (store, key) = (open_bucket(&bucket(&server)).unwrap(), key.clone());
            async move { store.append(&key, 0, body).await }
        });
        let look = || async { Ok(others.open_length(&key).await?.filter(|length| *length == 5)) };
        let mut length = eventually("the first bytes are there", BOUND, look).await.unwrap();
        for _ in 0..appends {
            length = others.append(&key, length, bytes(Bytes::from_static(b"x"))).await.unwrap();
        }
        if appends == 0 {
            others.discard(&key).await.unwrap();
            length = 0;
        }
        if seals {
            others.seal(&key).await.unwrap();
        }
        open.send(()).unwrap();
        let refused = late.await.unwrap();
        assert!(matches!(refused, Err(Error::Busy(_))), "{name}: {refused:?}");
        let objects = if appends == 0 { 0 } else { 1 };
        assert_eq!(raw.below(&format!("pieces/overtaken/{name}")).await.len(), objects, "{name}: a late piece stays");
        assert_eq!(raw.below(&format!("open/overtaken/{name}")).await.len(), objects, "{name}: a late list stays");
        if appends > 0 && !seals {
            assert_eq!(others.seal(&key).await.unwrap().size_bytes, length);
        }
        if appends > 0 {
            assert_eq!(whole(&*others, &key).await, if appends == 2 { "firstxx" } else { "firstx" });
        }
    }
}

#[tokio::test]
async fn a_seal_while_another_process_discards_does_not_confirm_what_is_gone() {
    let server = S3::start_conditional().await.unwrap();
    let key = key("doomed");
    let other = open_bucket(&bucket(&server)).unwrap();
    other.append(&key, 0, bytes(pattern(5))).await.unwrap();
    let discards = {
        let key = key.clone();
        async move { other.discard(&key).await.unwrap() }
    };
    let store = open_bucket(&detour(&server, "PUT /streamgate/lists/", Box::pin(discards)).await).unwrap();
    let sealed = store.seal(&key).await;
    assert!(matches!(sealed, Err(Error::Busy(_))), "{sealed:?}");
    assert!(matches!(store.seal(&key).await, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn of_two_processes_that_seal_at_once_one_gives_way_and_nothing_is_lost() {
    let server = S3::start_conditional().await.unwrap();
    let key = key("sealed-twice");
    open_bucket(&bucket(&server)).unwrap().append(&key, 0, bytes(pattern(100))).await.unwrap();
    // The first has written its open list and not yet the other one while the second, which has read the list before,
    // tries to do the same.
    let (reached, until_reached) = futures::channel::oneshot::channel::<()>();
    let (go_on, until_told) = futures::channel::oneshot::channel::<()>();
    let halfway = async move {
        reached.send(()).unwrap();
        until_told.await.unwrap();
    };
    let first = open_bucket(&detour(&server, "PUT /streamgate/lists/", Box::pin(halfway)).await).unwrap();
    let (sealing, until_sealing) = futures::channel::oneshot::channel();
    let overtake = {
        let key = key.clone();
        async move {
            sealing.send(tokio::spawn(async move { first.seal(&key).await })).unwrap();
            until_reached.await.unwrap();
        }
    };
    let second = open_bucket(&detour(&server, "PUT /streamgate/open/", Box::pin(overtake)).await).unwrap();
    let gave_way = second.seal(&key).await;
    assert!(matches!(gave_way, Err(Error::Busy(_))), "{gave_way:?}");
    go_on.send(()).unwrap();
    let sealed = until_sealing.await.unwrap().await.unwrap().unwrap();
    assert_eq!(sealed.size_bytes, 100);
    assert_eq!(second.seal(&key).await.unwrap().size_bytes, 100);
    assert_eq!(whole(&*second, &key).await, pattern(100));
}

#[tokio::test]
async fn a_list_that_is_replaced_while_it_is_asked_for_is_asked_for_again() {
    let server = S3::start_conditional().await.unwrap();
    let writer = open_bucket(&bucket(&server)).unwrap();
    let key = key("grows");
    writer.append(&key, 0, bytes(pattern(5))).await.unwrap();
    let replaces = {
        let key = key.clone();
        async move { assert_eq!(writer.append(&key, 5, bytes(pattern(1))).await.unwrap(), 6) }
    };
    let reader = open_bucket(&detour(&server, "GET /streamgate/open/", Box::pin(replaces)).await).unwrap();
    assert_eq!(reader.open_length(&key).await.unwrap(), Some(6));
}

#[tokio::test]
async fn a_large_put_that_is_given_up_leaves_no_pieces() {
    let server = S3::start_conditional().await.unwrap();
    let (raw, store) = (Raw::of(&server), open_bucket(&bucket(&server)).unwrap());
    let body = in_chunks(&pattern(17 * MIB)).chain(stream::pending()).boxed();
    let put = tokio::spawn(async move { store.put(&key("given/up"), body).await });
    raw.until_below("pieces/given/up", |count| count == 2).await;
    put.abort();
    raw.until_below("pieces/given/up", |count| count == 0).await;
}

#[tokio::test]
async fn what_a_broken_off_deletion_has_left_goes_with_the_next_one() {
    let server = S3::start_conditional().await.unwrap();
    let (raw, store) = (Raw::of(&server), open_bucket(&bucket(&server)).unwrap());
    for name in ["one", "below/1", "below/2", "below/whole", "belows/1"] {
        store.put(&key(name), in_chunks(&pattern(9 * MIB))).await.unwrap();
    }
    store.append(&key("below/open"), 0, bytes(pattern(5))).await.unwrap();
    for list in ["lists/one", "lists/below/1", "lists/below/2", "lists/belows/1"] {
        raw.delete(list).await;
    }
    store.delete(&key("one")).await.unwrap();
    assert_eq!(raw.below("pieces/one").await, []);
    assert_eq!(store.delete_prefix(&key("below")).await.unwrap(), 1);
    let left = raw.below("pieces/below").await;
    assert!(left.len() == 1 && left[0].as_ref().starts_with("pieces/below/open/"), "{left:?}");
    assert_eq!(raw.below("pieces/belows").await.len(), 2);
    store.delete(&key("below/open")).await.unwrap();
    assert_eq!(collect(store.read_open(&key("below/open"), 0..5).await.unwrap(), 5).await.unwrap(), pattern(5));
}

#[tokio::test]
async fn why_a_body_can_not_be_read_to_its_end_is_said() {
    let mut server = S3::start_conditional().await.unwrap();
    let (raw, store) = (Raw::of(&server), open_bucket(&bucket(&server)).unwrap());
    for name in ["damaged", "deleted", "away"] {
        store.put(&key(name), in_chunks(&pattern(17 * MIB))).await.unwrap();
    }
    let failed = async |name: &str, change: BoxFuture<'_, ()>| {
        let mut body = store.read(&key(name), None).await.unwrap();
        body.try_next().await.unwrap();
        change.await;
        body.try_for_each(|_| async { Ok(()) }).await.map_err(Error::reading).unwrap_err()
    };
    let takes_pieces = async {
        for piece in raw.below("pieces/damaged").await {
            raw.delete(piece.as_ref()).await;
        }
    };
    let damaged = failed("damaged", Box::pin(takes_pieces)).await;
    assert!(matches!(damaged, Error::Corrupt(_)), "{damaged:?}");
    let deletes = async { store.delete(&key("deleted")).await.unwrap() };
    let deleted = failed("deleted", Box::pin(deletes)).await;
    assert!(matches!(deleted, Error::NotFound(_)), "{deleted:?}");
    let stops = async { server.stop().await.unwrap() };
    let away = failed("away", Box::pin(stops)).await;
    assert_eq!(away.kind(), ErrorKind::Unavailable, "{away:?}");
}

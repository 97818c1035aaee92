//! Uploads at the edge, in front of small services of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use common::{Edge, JSON, SIGNED_IN, assert_problem};
use futures::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::json;
use streamgate_proto::streamgate::upload::v1::write_chunk_header::Place;
use streamgate_testkit::eventually;
use tokio::time::{Instant, sleep};

const BOUND: Duration = Duration::from_secs(60);
const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=X");

fn part(name: &str, file: Option<&str>, text: &str) -> String {
    let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
    format!("--X\r\ncontent-disposition: form-data; name=\"{name}\"{file}\r\n\r\n{text}\r\n")
}

#[tokio::test]
async fn a_form_is_stored_with_its_title_and_gate() {
    let edge = Edge::start();
    let gate = r#"{"erc721": {"chain": "eip155:1", "contract": "0xabc", "minBalance": "1"}}"#;
    let form = format!(
        "{}{}{}--X--\r\n",
        part("title", None, "My clip"),
        part("gate", None, gate),
        part("file", Some("clip.mp4"), "bytes of it")
    );
    let reply = edge.call("POST", "/api/v1/upload", &[SIGNED_IN, FORM], form).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    let stored = json!({"upload_id": "upl_1", "file_id": "fil_1", "filename": "clip.mp4", "size": 11, "sha256": "ab", "content_id": "cnt_1"});
    assert_eq!(reply.json(), stored);
    let log = edge.seen.0.lock().unwrap();
    assert_eq!(log.bytes, b"bytes of it");
    assert_eq!((log.created[0].title.as_str(), log.created[0].filename.as_str()), ("My clip", "clip.mp4"));
    assert!(log.created[0].gate.is_some());
    assert_eq!((log.completed, log.cancelled), (1, 0));
}

#[tokio::test]
async fn a_wrong_form_is_refused_and_leaves_nothing() {
    let edge = Edge::start();
    let none = edge.call("POST", "/api/v1/upload", &[SIGNED_IN, FORM], format!("{}--X--\r\n", part("title", None, "t"))).await;
    assert_problem(&none, 400, "invalid_argument");
    assert_eq!(none.json()["errors"][0]["field"], "file");
    let gate = edge
        .call(
            "POST",
            "/api/v1/upload",
            &[SIGNED_IN, FORM],
            format!("{}--X--\r\n", part("gate", None, r#"{"erc721": {"chain": 1}}"#)),
        )
        .await;
    assert_eq!(gate.json()["errors"][0]["field"], "gate.erc721.chain");
    let text = ("content-type", "text/plain");
    assert_problem(&edge.call("POST", "/api/v1/upload", &[SIGNED_IN, text], "{}").await, 415, "wrong_media_type");
    assert_problem(&edge.call("GET", "/api/v1/upload", &[], "").await, 405, "wrong_method");
    let stranger = edge.call("POST", "/api/v1/upload", &[FORM], format!("{}--X--\r\n", part("file", Some("a"), "b"))).await;
    assert_problem(&stranger, 401, "credentials_missing");
    assert_eq!(edge.seen.0.lock().unwrap().completed, 0);
}

#[tokio::test]
async fn a_form_that_breaks_off_is_cancelled_unless_it_can_be_repeated() {
    let edge = Edge::start();
    let half = part("file", Some("a.mp4"), "half of it").trim_end().to_owned();
    let broken = edge.call("POST", "/api/v1/upload", &[SIGNED_IN, FORM], half.clone()).await;
    assert_eq!(broken.status, 400, "{broken:?}");
    let cancelled = async || Ok((edge.seen.0.lock().unwrap().cancelled == 1).then_some(()));
    eventually("the upload is cancelled", BOUND, cancelled).await.unwrap();

    let edge = Edge::start();
    let key = ("idempotency-key", "k");
    edge.call("POST", "/api/v1/upload", &[SIGNED_IN, FORM, key], half).await;
    let whole = format!("{}--X--\r\n", part("file", Some("a.mp4"), "half of it and the rest"));
    let reply = edge.call("POST", "/api/v1/upload", &[SIGNED_IN, FORM, key], whole).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    let log = edge.seen.0.lock().unwrap();
    assert_eq!((log.bytes.as_slice(), log.cancelled), (&b"half of it and the rest"[..], 0));
}

#[tokio::test]
async fn a_form_that_the_disk_has_no_room_for_leaves_nothing_and_says_so() {
    let edge = Edge::start();
    edge.seen.0.lock().unwrap().full = true;
    let form = format!("{}--X--\r\n", part("file", Some("a.mp4"), "bytes"));
    let refused = edge.call("POST", "/api/v1/upload", &[SIGNED_IN, FORM], form).await;
    assert_problem(&refused, 507, "storage_full");
    assert!(refused.json()["detail"].as_str().unwrap().ends_with("nothing of the upload was kept"));
    assert_eq!(edge.seen.0.lock().unwrap().cancelled, 1);
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_nothing() {
    let edge = Edge::start();
    let head = part("file", Some("a.mp4"), "half of it").trim_end().to_owned();
    let endless = futures::stream::iter([Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::from(head)))]);
    let body = Body::new(StreamBody::new(futures::StreamExt::chain(endless, futures::stream::pending())));
    let request = http::Request::post("/api/v1/upload").header(SIGNED_IN.0, SIGNED_IN.1).header(FORM.0, FORM.1);
    let call = edge.send(request.body(body).unwrap());
    let stored = async || Ok((!edge.seen.0.lock().unwrap().bytes.is_empty()).then_some(()));
    tokio::select! {
        _ = call => panic!("the form never ends"),
        stored = eventually("bytes have come", BOUND, stored) => stored.unwrap(),
    }
    let cancelled = async || Ok((edge.seen.0.lock().unwrap().cancelled > 0).then_some(()));
    eventually("the upload is cancelled", BOUND, cancelled).await.unwrap();
}

#[tokio::test]
async fn a_form_always_names_its_upload_so_that_a_repeated_call_makes_no_second_one() {
    let edge = Edge::start();
    for _ in 0..2 {
        let form = format!("{}--X--\r\n", part("file", Some("a.mp4"), "bytes"));
        edge.call("POST", "/api/v1/upload", &[SIGNED_IN, FORM, ("content-length", "123")], form).await;
    }
    let log = edge.seen.0.lock().unwrap();
    assert!(log.created.iter().all(|created| created.request_id.starts_with("edge-") && created.expected_bytes == 123));
    assert_ne!(log.created[0].request_id, log.created[1].request_id);
}

#[tokio::test]
async fn a_chunk_comes_as_a_body_as_a_form_and_as_json() {
    let edge = Edge::start();
    let raw = ("content-type", "application/octet-stream");
    let path = "/api/v1/upload/chunk?upload_id=upl_1&index=2";
    let digest = ("content-digest", "sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:");
    let reply = edge.call("POST", path, &[SIGNED_IN, raw, digest, ("content-length", "3")], "abc").await;
    assert_eq!((reply.status, reply.json()["chunk_count"].clone()), (200, json!(1)), "{reply:?}");
    let form = format!("{}{}--X--\r\n", part("offset_bytes", None, "7"), part("chunk", Some("blob"), "defg"));
    assert_eq!(edge.call("POST", "/api/v1/uploads/upl_1/chunks", &[SIGNED_IN, FORM], form).await.status, 200);
    let json = r#"{"upload_id": "upl_1", "index": 4, "data": "aGk="}"#;
    assert_eq!(edge.call("POST", "/api/v1/upload/chunk", &[SIGNED_IN, JSON], json).await.status, 200);
    let log = edge.seen.0.lock().unwrap();
    let (header, bytes) = &log.chunks[0];
    let header = header.as_ref().unwrap();
    assert_eq!((header.upload_id.as_str(), header.place, header.size_bytes), ("upl_1", Some(Place::Index(2)), 3));
    assert!(header.sha256.starts_with("ba7816bf") && bytes == b"abc");
    assert_eq!(
        (log.chunks[1].0.as_ref().unwrap().place, log.chunks[1].1.as_slice()),
        (Some(Place::OffsetBytes(7)), &b"defg"[..])
    );
    assert_eq!(log.chunks[2].1, b"hi");
}

#[tokio::test]
async fn a_chunk_without_a_place_or_cut_short_is_refused() {
    let edge = Edge::start();
    let raw = ("content-type", "application/octet-stream");
    for path in
        ["/api/v1/upload/chunk?upload_id=u", "/api/v1/upload/chunk?index=0&offset_bytes=0", "/api/v1/upload/chunk?index=x"]
    {
        assert_problem(&edge.call("POST", path, &[SIGNED_IN, raw], "abc").await, 400, "invalid_argument");
    }
    let text = ("content-type", "text/plain");
    assert_problem(&edge.call("POST", "/api/v1/upload/chunk?index=0", &[SIGNED_IN, text], "abc").await, 415, "wrong_media_type");
    assert_problem(&edge.call("GET", "/api/v1/upload/chunk", &[SIGNED_IN], "").await, 405, "wrong_method");
    let frames = [Ok(http_body::Frame::data(Bytes::from_static(b"abc"))), Err(std::io::Error::other("gone"))];
    let body = Body::new(StreamBody::new(futures::stream::iter(frames)));
    assert_problem(&edge.call("POST", "/api/v1/upload/chunk?index=0", &[SIGNED_IN, raw], body).await, 400, "broken_body");
    assert!(edge.seen.0.lock().unwrap().chunks.is_empty(), "a chunk that was cut short must not look whole");
}

#[tokio::test]
async fn raw_bytes_go_on_from_the_durable_offset() {
    let edge = Edge::start();
    let raw = ("content-type", "application/offset+octet-stream");
    let first = edge.call("PATCH", "/api/v1/uploads/upl_1", &[SIGNED_IN, raw, ("upload-offset", "0")], "abc").await;
    assert_eq!((first.status, first.header("upload-offset")), (204, "3"));
    let wrong = edge.call("PATCH", "/api/v1/uploads/upl_1", &[SIGNED_IN, raw, ("upload-offset", "1")], "abc").await;
    assert_problem(&wrong, 409, "wrong_offset");
    let head = edge.call("HEAD", "/api/v1/uploads/upl_1", &[SIGNED_IN], "").await;
    assert_eq!((head.status, head.header("upload-offset")), (200, "3"));
    assert_problem(&edge.call("PATCH", "/api/v1/uploads/upl_1", &[SIGNED_IN, raw], "x").await, 400, "invalid_argument");
    assert_problem(&edge.call("PATCH", "/api/v1/uploads/upl_1", &[SIGNED_IN, JSON], "{}").await, 415, "wrong_media_type");
    assert_eq!(edge.call("GET", "/api/v1/uploads/upl_1", &[SIGNED_IN], "").await.json()["upload"]["upload_id"], "upl_1");
}

#[tokio::test]
async fn what_came_before_a_broken_connection_is_kept() {
    let edge = Edge::start();
    let frames = [Ok(http_body::Frame::data(Bytes::from_static(b"abc"))), Err(std::io::Error::other("gone"))];
    let body = Body::new(StreamBody::new(futures::stream::iter(frames)));
    let headers = [SIGNED_IN, ("content-type", "application/offset+octet-stream"), ("upload-offset", "0")];
    assert_problem(&edge.call("PATCH", "/api/v1/uploads/upl_1", &headers, body).await, 400, "broken_body");
    assert_eq!(edge.call("HEAD", "/api/v1/uploads/upl_1", &[SIGNED_IN], "").await.header("upload-offset"), "3");
}

#[tokio::test]
async fn a_body_is_never_gathered() {
    // A file far larger than any limit of a JSON body passes, chunk by chunk.
    let edge = Edge::start();
    let head = part("file", Some("big.mp4"), "").trim_end_matches("\r\n").to_owned() + "\r\n\r\n";
    let chunks = (0..64).map(|_| Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::from(vec![7; 64 * 1024]))));
    let frames = std::iter::once(Ok(http_body::Frame::data(Bytes::from(head)))).chain(chunks);
    let frames = frames.chain([Ok(http_body::Frame::data(Bytes::from_static(b"\r\n--X--\r\n")))]);
    let body = Body::new(StreamBody::new(futures::stream::iter(frames.collect::<Vec<_>>())).map_err(std::io::Error::other));
    let reply = edge.call("POST", "/api/v1/upload", &[SIGNED_IN, FORM], body).await;
    assert_eq!((reply.status, reply.json()["size"].as_u64()), (201, Some(4 * 1024 * 1024)));
}

const RAW: (&str, &str) = ("content-type", "application/offset+octet-stream");

/// A body that begins so, and of which nothing more comes.
fn stalled(beginning: impl Into<Bytes>) -> Body {
    Body::from_stream(stream::iter([Ok::<_, std::io::Error>(beginning.into())]).chain(stream::pending()))
}

/// A body that begins so, and goes on with a byte every now and then.
fn trickling(beginning: impl Into<Bytes>) -> Body {
    let drops = stream::repeat(()).then(async |()| {
        sleep(Duration::from_secs(20)).await;
        Ok(Bytes::from_static(b"x"))
    });
    Body::from_stream(stream::iter([Ok::<_, std::io::Error>(beginning.into())]).chain(drops))
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_heard_while_the_body_trickles() {
    let edge = Edge::start();
    let began = Instant::now();
    let wrong = edge.call("PATCH", "/api/v1/uploads/upl_1", &[SIGNED_IN, RAW, ("upload-offset", "7")], trickling("abc")).await;
    assert_problem(&wrong, 409, "wrong_offset");
    edge.seen.0.lock().unwrap().full = true;
    let form = part("file", Some("a.mp4"), &"bytes".repeat(100));
    assert_problem(&edge.call("POST", "/api/v1/upload", &[SIGNED_IN, FORM], trickling(form)).await, 507, "storage_full");
    assert!(began.elapsed() < Duration::from_secs(20), "another byte was waited for");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stands_still_is_given_up() {
    let edge = Edge::start();
    let half = part("file", Some("a.mp4"), "half of it").trim_end().to_owned();
    let octets = ("content-type", "application/octet-stream");
    let chunk = "/api/v1/upload/chunk?upload_id=u&index=0";
    for (method, path, headers, body) in [
        ("POST", "/api/v1/upload", vec![SIGNED_IN, FORM], stalled("--X\r\ncontent-")),
        ("POST", "/api/v1/upload", vec![FORM], trickling("--X\r\ncontent-disposition: form-data; name=title\r\n\r\n")),
        ("POST", "/api/v1/upload", vec![SIGNED_IN, FORM], stalled(half)),
        ("POST", "/api/v1/upload/chunk", vec![FORM], trickling("--X\r\ncontent-disposition: form-data; name=index\r\n\r\n")),
        ("POST", chunk, vec![SIGNED_IN, octets], stalled("abc")),
        ("POST", "/api/v1/uploads", vec![JSON], trickling("{")),
    ] {
        assert_problem(&edge.call(method, path, &headers, body).await, 408, "slow_body");
    }
    assert!(edge.seen.0.lock().unwrap().chunks.is_empty(), "a chunk that did not come whole must not look whole");
    let cancelled = async || Ok((edge.seen.0.lock().unwrap().cancelled > 0).then_some(()));
    eventually("the upload is cancelled", BOUND, cancelled).await.unwrap();

    let edge = Edge::start();
    let slow = edge.call("PATCH", "/api/v1/uploads/upl_1", &[SIGNED_IN, RAW, ("upload-offset", "0")], stalled("abc")).await;
    assert_problem(&slow, 408, "slow_body");
    assert_eq!(edge.call("HEAD", "/api/v1/uploads/upl_1", &[SIGNED_IN], "").await.header("upload-offset"), "3");
}

#[tokio::test]
async fn a_form_says_each_word_once() {
    let edge = Edge::start();
    let file = part("file", Some("a"), "b");
    for name in ["title", "gate", "sha256", "file"] {
        let word = part(name, None, "");
        for form in [format!("{word}{word}{file}--X--\r\n"), format!("{word}{file}{word}--X--\r\n")] {
            let twice = edge.call("POST", "/api/v1/upload", &[SIGNED_IN, FORM], form).await;
            assert_problem(&twice, 400, "invalid_argument");
            assert_eq!(twice.json()["errors"][0]["field"], name);
        }
    }
    let chunk = part("chunk", None, "abc");
    for (path, name) in [("/api/v1/uploads/upl_1/chunks", "upload_id"), ("/api/v1/upload/chunk?index=1", "index")] {
        let form = format!("{}{chunk}--X--\r\n", part(name, None, "2"));
        let twice = edge.call("POST", path, &[SIGNED_IN, FORM], form).await;
        assert_problem(&twice, 400, "invalid_argument");
        assert_eq!(twice.json()["errors"][0]["field"], name);
    }
    assert_eq!(edge.seen.0.lock().unwrap().completed, 0);
}

#[tokio::test]
async fn what_is_no_form_is_not_kept() {
    let edge = Edge::start();
    // A client that waits for leave to send is not read on after a refusal.
    let headers = [SIGNED_IN, FORM, ("expect", "100-continue")];
    for beginning in
        ["", "--X\r\nendless-header: ", "--X\r\ncontent-disposition: form-data; name=\"file\"\r\n\r\n\r\n--X\r\nmore: "]
    {
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&sent);
        let noise = stream::iter(0..1_000).map(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok(Bytes::from(vec![b'x'; 64 * 1024]))
        });
        let body = Body::from_stream(stream::iter([Ok::<_, std::io::Error>(Bytes::from(beginning))]).chain(noise));
        let refused = edge.call("POST", "/api/v1/upload", &headers, body).await;
        assert_problem(&refused, 400, "malformed_request");
        assert!(sent.load(Ordering::Relaxed) < 10, "{} frames were taken in", sent.load(Ordering::Relaxed));
    }
}

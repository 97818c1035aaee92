//! What becomes of calls under way when the edge stops.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use common::{ENDLESS, Edge, SIGNED_IN, SILENT};
use futures::StreamExt as _;
use http::{Request, Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt as _, Collected, StreamBody};
use streamgate_core::Failure;
use streamgate_proto::streamgate::{
    streaming::v1::ReadAssetRequest,
    upload::v1::{WriteUploadRequest, write_upload_request::Part},
};
use tokio::time::timeout;
use tonic::{Code, Status};

const READ: &str = "/streamgate.streaming.v1.StreamingService/ReadAsset";
/// Longer than streams are let go on.
const LONG: Duration = Duration::from_secs(10);

fn framed(message: &impl prost::Message) -> Bytes {
    let bytes = message.encode_to_vec();
    [&[0], &u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], &bytes].concat().into()
}

fn call(path: &str, kind: &str, body: Body) -> Request<Body> {
    let request = Request::post(path).version(Version::HTTP_2).header("content-type", kind).header("te", "trailers");
    request.header(SIGNED_IN.0, SIGNED_IN.1).body(body).unwrap()
}

fn read(asset: &str, kind: &str) -> Request<Body> {
    let message = ReadAssetRequest { path: asset.into(), token: "t".into(), ..Default::default() };
    call(READ, kind, framed(&message).into())
}

fn assert_stopping(status: &Status) {
    let failure = Failure::from(status);
    assert_eq!((status.code(), failure.reason.as_ref()), (Code::Unavailable, "stopping"));
    assert!(failure.retry_after.is_some());
}

async fn whole(response: Response<Body>) -> Collected<Bytes> {
    timeout(LONG, response.into_body().collect()).await.expect("it ends").unwrap()
}

async fn trailers(response: Response<Body>) -> Status {
    let body = whole(response).await;
    Status::from_header_map(body.trailers().expect("the stream ends with a status")).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_would_never_end_is_ended_with_a_status_that_says_when_to_try_again() {
    let edge = Edge::start();
    let mut response = edge.send(read(ENDLESS, "application/grpc")).await;
    assert!(response.body_mut().frame().await.unwrap().unwrap().is_data(), "the header has come");
    edge.stop.cancel();
    assert_stopping(&trailers(response).await);

    let web = edge.send(read(ENDLESS, "application/grpc-web+proto")).await;
    let text = String::from_utf8_lossy(&whole(web).await.to_bytes()).into_owned();
    assert!(text.contains("grpc-status:14"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_answer_has_not_begun_is_refused() {
    let edge = Edge::start();
    edge.stop.cancel();
    let response = timeout(LONG, edge.send(read(SILENT, "application/grpc"))).await.expect("it ends");
    assert_stopping(&Status::from_header_map(response.headers()).unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_by_itself_is_left_alone() {
    let edge = Edge::start();
    edge.stop.cancel();
    let status = trailers(edge.send(read("v720/00001.m4s", "application/grpc")).await).await;
    assert_eq!(status.code(), Code::Ok);
}

#[tokio::test(start_paused = true)]
async fn an_upload_under_way_may_be_finished() {
    let edge = Edge::start();
    let (sender, parts) = futures::channel::mpsc::unbounded();
    let frames = parts.map(|part: Bytes| Ok::<_, std::io::Error>(Frame::data(part)));
    let path = "/streamgate.upload.v1.UploadService/WriteUpload";
    let upload = edge.send(call(path, "application/grpc", Body::new(StreamBody::new(frames))));
    let sending = async {
        let chunk = || framed(&WriteUploadRequest { part: Some(Part::Chunk(Bytes::from_static(b"abc"))) });
        sender.unbounded_send(chunk()).unwrap();
        edge.stop.cancel();
        tokio::time::sleep(LONG).await;
        sender.unbounded_send(chunk()).unwrap();
        drop(sender);
    };
    let (response, ()) = tokio::join!(upload, sending);
    assert_eq!(trailers(response).await.code(), Code::Ok);
    assert_eq!(edge.seen.0.lock().unwrap().bytes, b"abcabc");
}

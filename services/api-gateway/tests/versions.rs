//! Changes that are meant for one version of an object, in front of a service that knows titles by their etag.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use axum::body::Body;
use common::{SIGNED_IN, Seen, behind};
use futures::{future::BoxFuture, stream};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use prost::Message as _;
use streamgate_api_gateway::{Config, ending::Ending, metrics::EdgeMetrics, router::router};
use streamgate_core::{ErrorKind, Failure, ServiceName};
use streamgate_proto::streamgate::metadata::v1::{DeleteContentRequest, DeleteContentResponse};
use streamgate_runtime::CancellationToken;
use tonic::{Status, server::NamedService, service::Routes};
use tower::{Service, ServiceExt as _};

/// The version of every title.
const ETAG: &str = "r2";

/// Deletes titles, and notes the etags that they should have had.
#[derive(Debug, Clone, Default)]
struct Titles(Arc<Mutex<Vec<String>>>);

impl NamedService for Titles {
    const NAME: &'static str = "streamgate.metadata.v1.MetadataService";
}

impl Service<Request<tonic::body::Body>> for Titles {
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let asked = Arc::clone(&self.0);
        Box::pin(async move {
            let framed = request.into_body().collect().await.unwrap().to_bytes();
            let etag = DeleteContentRequest::decode(&framed[5..]).unwrap().etag;
            asked.lock().unwrap().push(etag.clone());
            if ["", "*", ETAG].contains(&etag.as_str()) {
                return Ok(deleted());
            }
            let failure = Failure::new(ErrorKind::FailedPrecondition, "etag_mismatch", "the title has changed");
            Ok(Status::from(failure).into_http())
        })
    }
}

fn deleted() -> Response<tonic::body::Body> {
    let message = DeleteContentResponse::default().encode_to_vec();
    let framed = [&[0], &u32::try_from(message.len()).unwrap().to_be_bytes()[..], &message].concat();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Frame::data(bytes::Bytes::from(framed)), Frame::trailers(trailers)];
    let body = StreamBody::new(stream::iter(frames.map(Ok::<_, Status>)));
    Response::builder().header("content-type", "application/grpc").body(tonic::body::Body::new(body)).unwrap()
}

/// Status of a change, and the versions that the service was asked for.
async fn change(if_match: &[&str]) -> (u16, Vec<String>) {
    let titles = Titles::default();
    let backends = behind(&Seen::default()).with(ServiceName::Metadata, Routes::new(titles.clone()));
    let ending = Ending::with(CancellationToken::new());
    let edge = router(&backends, &Config::default(), "http://localhost:9090", &EdgeMetrics::default(), ending).unwrap();
    let mut request = Request::delete("/api/v1/contents/cnt_1").header(SIGNED_IN.0, SIGNED_IN.1);
    for tags in if_match {
        request = request.header("if-match", *tags);
    }
    let status = edge.oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status().as_u16();
    let asked = titles.0.lock().unwrap().clone();
    (status, asked)
}

#[tokio::test]
async fn a_change_is_made_to_a_version_that_is_named_strongly() {
    assert_eq!(change(&["\"r2\""]).await, (200, vec!["r2".into()]));
    assert_eq!(change(&["*"]).await, (200, vec!["*".into()]));
    assert_eq!(change(&["\"r1\""]).await.0, 412);
    for none in ["W/\"r2\"", "\"*\"", "\"\""] {
        assert_eq!(change(&[none]).await.0, 412, "{none}");
    }
}

#[tokio::test]
async fn one_of_several_versions_will_do() {
    assert_eq!(change(&["\"r1\", \"r2\", \"r3\""]).await, (200, vec!["r1".into(), "r2".into()]));
    assert_eq!(change(&["W/\"r2\"", "\"r2\""]).await.0, 200);
    assert_eq!(change(&["\"r1\", W/\"r2\"", "\"r3\""]).await.0, 412);
}
